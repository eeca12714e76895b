"""Which version of the product this is."""

from typing import Final

VERSION: Final = "0.2.0"
