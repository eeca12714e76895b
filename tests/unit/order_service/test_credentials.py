"""How the order service says who it is, call by call."""

import os
from pathlib import Path

import pytest

from order_service.config import Settings
from order_service.gateways.credentials import (
    CLAIMED,
    TokenFile,
    channel_credentials,
    identification,
)
from service_kit.credentials.files import FileUnusable
from tests.captured_log import CapturedLog


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def bearer(token: str) -> tuple[tuple[str, str]]:
    return (("authorization", f"Bearer {token}"),)


def replaced(file: Path, content: str) -> None:
    """Put another file in its place, as whoever renews a token does."""
    new = file.with_suffix(".new")
    new.write_text(content)
    new.rename(file)


class TestIdentification:
    def test_is_claimed_in_plaintext_on_loopback(self) -> None:
        settings = Settings()
        assert identification(settings)() == CLAIMED
        assert channel_credentials(settings) is None

    @pytest.mark.requirement("FR-310", "FR-311")
    def test_is_the_token_and_claims_nothing(self, file: Path) -> None:
        assert identification(Settings(payment_token_file=file))() == bearer("first")


@pytest.mark.requirement("FR-311")
class TestATokenFile:
    def test_is_read_again_once_it_is_replaced(self, file: Path) -> None:
        token = TokenFile(file)
        assert token.metadata() == bearer("first")
        replaced(file, "other\n")
        assert token.metadata() == bearer("other")

    def test_is_read_again_once_it_is_written_over(self, file: Path) -> None:
        token = TokenFile(file)
        file.write_text("longer than the first".replace(" ", "-"))
        assert token.metadata() == bearer("longer-than-the-first")

    def test_is_not_read_while_it_is_the_same(self, file: Path) -> None:
        token = TokenFile(file)
        kept = token.metadata()
        assert token.metadata() is kept
        os.utime(file, ns=(1, 1))
        assert token.metadata() is not kept

    @pytest.mark.parametrize("wrong", [None, "", "two words"])
    def test_that_is_unusable_for_a_while_leaves_the_last_token(
        self, log: CapturedLog, file: Path, wrong: str | None
    ) -> None:
        token = TokenFile(file)
        if wrong is None:
            file.unlink()
        else:
            replaced(file, wrong)
        assert token.metadata() == bearer("first")
        [line] = log.lines("token_file.unusable")
        assert line["level"] == "warning"

        replaced(file, "second")
        assert token.metadata() == bearer("second")

    def test_must_be_usable_at_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(FileUnusable):
            TokenFile(tmp_path / "missing")
