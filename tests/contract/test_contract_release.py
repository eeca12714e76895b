"""A contract is accepted as released only together with a word about it in the changelog."""

import sys
from pathlib import Path

import pytest

from service_kit.contract.__main__ import main
from service_kit.contract.descriptors import ContractImage
from tests.contract.proto_copy import ORDER, ORDER_SERVICE, PAYMENT_SERVICE, ProtoCopy

FIRST = "# Changelog\n\n## [Unreleased]\n\n### Contract\n\n- The first one.\n"
RELEASED = Path("proto/released/v1.binpb")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProtoCopy:
    """A project without a released contract, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return ProtoCopy(tmp_path)


@pytest.fixture
def released(project: ProtoCopy, capsys: pytest.CaptureFixture[str]) -> ProtoCopy:
    """The project once its first contract is released."""
    write_changelog(FIRST)
    assert main(["release"]) == 0
    capsys.readouterr()
    return project


def write_changelog(text: str) -> None:
    Path("CHANGELOG.md").write_text(text, encoding="utf-8")


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """Try to release and return the one line that says why it is refused."""
    assert main(["release"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


class TestTheFirstRelease:
    def test_makes_the_image_that_later_ones_are_compared_with(
        self, project: ProtoCopy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_changelog(FIRST)
        assert main(["release"]) == 0
        assert "is the released contract now" in capsys.readouterr().out
        assert ContractImage.load(RELEASED).contracts == ContractImage.installed().contracts
        assert list(RELEASED.parent.iterdir()) == [RELEASED]
        assert main(["check"]) == 0
        assert project.buf("breaking", "--against", str(RELEASED)).returncode == 0

    def test_passes_over_an_empty_section_above_the_version(self, project: ProtoCopy) -> None:
        write_changelog(FIRST.replace("## [Unreleased]", "## [Unreleased]\n\n## [0.1.0]"))
        assert main(["release"]) == 0

    @pytest.mark.parametrize(
        ("changelog", "place"),
        [
            pytest.param(None, "## [Unreleased]", id="no changelog"),
            pytest.param("# Changelog\n", "## [Unreleased]", id="no section"),
            pytest.param(
                "## [0.1.0]\n\n### Added\n\n- Things.\n", "## [0.1.0]", id="no Contract part"
            ),
            pytest.param(
                "## [0.1.0]\n\n### Contract\n\nSoon.\n\n### Added\n\n- Things.\n",
                "## [0.1.0]",
                id="no bullet in it",
            ),
            pytest.param(
                f"## [0.2.0]\n\n### Added\n\n- Things.\n\n{FIRST}", "## [0.2.0]", id="an old one"
            ),
        ],
    )
    def test_is_refused_without_an_entry(
        self,
        project: ProtoCopy,
        capsys: pytest.CaptureFixture[str],
        changelog: str | None,
        place: str,
    ) -> None:
        if changelog is not None:
            write_changelog(changelog)
        assert refusal(capsys) == (
            "release: CHANGELOG.md does not tell of the change: add a '### Contract' section with "
            f"at least one bullet under '{place}'"
        )
        assert not RELEASED.exists()


class TestALaterRelease:
    def test_of_the_same_contract_changes_nothing(
        self, released: ProtoCopy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_changelog("")
        assert main(["release"]) == 0
        assert capsys.readouterr().out == f"{RELEASED} is this contract already\n"

    def test_has_to_name_every_rpc_that_promises_something_else(
        self, released: ProtoCopy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = RELEASED.read_bytes()
        released.edit_rpc(ORDER_SERVICE, "PayOrder", "ERROR_REASON_PAYMENT_DECLINED,", "")
        released.edit_rpc(
            ORDER_SERVICE, "CreateOrder", "ROLE_CUSTOMER,", "ROLE_CUSTOMER, ROLE_OPERATIONS,"
        )
        released.edit_rpc(PAYMENT_SERVICE, "SealOrder", "rpc SealOrder(", "rpc CloseOrder(")
        write_changelog("## [0.2.0]\n\n### Contract\n\n- `CreateOrder` is for operations, too.\n")
        assert refusal(capsys) == (
            "release: the '### Contract' section under '## [0.2.0]' in CHANGELOG.md does not name "
            "CloseOrder, PayOrder, SealOrder, whose promises change"
        )
        assert RELEASED.read_bytes() == before
        write_changelog(
            "## [0.2.0]\n\n### Contract\n\n- CreateOrder is for operations, too.\n"
            "- `PayOrder` declines nothing.\n- SealOrder is CloseOrder now.\n"
        )
        assert main(["release"]) == 0
        assert RELEASED.read_bytes() != before

    def test_of_other_messages_needs_an_entry_of_any_wording(
        self, released: ProtoCopy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        released.edit(ORDER, "message OrderItem {", "message OrderItem {\n  string note = 15;")
        write_changelog("## [0.2.0]\n\n### Added\n\n- Notes.\n")
        assert "add a '### Contract' section" in refusal(capsys)
        write_changelog("## [0.2.0]\n\n### Contract\n\n- Items have notes.\n")
        assert main(["release"]) == 0


class TestWithoutABuild:
    def test_what_buf_says_is_passed_on(
        self, project: ProtoCopy, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_changelog(FIRST)
        project.edit(ORDER, "message OrderItem {", "message {")
        line = refusal(capsys)
        assert line.startswith("release: buf build failed: ")
        assert "proto/checkout/order/v1/order.proto" in line

    def test_a_missing_buf_is_named(
        self,
        project: ProtoCopy,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("PATH", str(project.folder))
        monkeypatch.setattr(sys, "executable", str(project.folder / "python"))
        assert refusal(capsys) == "release: buf is not installed (pip install buf-bin)"
