"""A copy of the protos that a test may change, and the project's root."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

# Found beside the interpreter, too: pytest is also run without the environment being activated.
BUF: Final = shutil.which("buf") or str(Path(sys.executable).with_name("buf"))

ORDER_SERVICE: Final = "order/v1/order_service.proto"
PAYMENT_SERVICE: Final = "payment/v1/payment_service.proto"
ORDER: Final = "order/v1/order.proto"
ERROR_REASON: Final = "error/v1/error_reason.proto"


class ProtoCopy:
    """The contract's sources in a folder of their own, changed by text."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "proto" / "checkout", folder / "proto" / "checkout")
        shutil.copy(ROOT / "buf.yaml", folder)

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace the first occurrence of a text."""
        path = self.folder / "proto" / "checkout" / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} no longer has {old!r}"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    def edit_rpc(self, file: str, rpc: str, old: str, new: str) -> None:
        """Replace the first occurrence of a text between the braces of an RPC."""
        path = self.folder / "proto" / "checkout" / file
        text = path.read_text(encoding="utf-8")
        found = re.search(rf"  rpc {rpc}\(.*?\n  }}\n", text, re.DOTALL)
        assert found, f"{file} no longer has the RPC {rpc}"
        body = found.group(0)
        assert old in body, f"{rpc} no longer has {old!r}"
        path.write_text(text.replace(body, body.replace(old, new, 1)), encoding="utf-8")

    def buf(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run buf in the copy."""
        return subprocess.run(
            [BUF, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )

    def image(self, name: str, *options: str) -> Path:
        """Build an image of the copy as it is now."""
        done = self.buf("build", "-o", name, *options)
        assert done.returncode == 0, done.stderr
        return self.folder / name
