"""Looking into the files behind a checkout."""

from pathlib import Path

from tests.checkout import Checkout


def folder_of(checkout: Checkout) -> Path:
    """Where the checkout's databases and the gateway's ledger are."""
    return checkout.order_settings.data_dir


def holding(folder: Path, needle: bytes, *patterns: str) -> list[Path]:
    """Which of the folder's files have the bytes in them, journals included."""
    files = [file for pattern in patterns for file in folder.glob(pattern) if file.is_file()]
    assert files
    return [file for file in files if needle in file.read_bytes()]
