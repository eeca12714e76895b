"""docs/contract.md says what the contract says, all of it, with links that hold."""

import re
from collections import Counter
from pathlib import Path

import pytest

from service_kit.contract.__main__ import main
from service_kit.contract.descriptors import ContractImage
from service_kit.contract.document import render
from service_kit.contract.error_catalogue import error_catalogue
from service_kit.contract.life_cycles import life_cycles
from service_kit.contract.limits import limits
from service_kit.contract.markdown import anchor
from service_kit.contract.method_contracts import ContractIncomplete
from tests.contract.proto_copy import ORDER_SERVICE, ROOT, ProtoCopy

INSTALLED = ContractImage.installed()
PAGE = render(INSTALLED)
PARAGRAPH_BREAK = re.compile(r"\n\s*\n")


def plain(markdown: str) -> str:
    """Take the links off a text and join its lines."""
    unlinked = re.sub(r"\[([^\]]+)\]\(#[^)]+\)", r"\1", markdown)
    return " ".join(unlinked.replace("`", "").split())


def chapter(heading: str) -> str:
    """Return the text under a heading, up to the next of its rank or above."""
    found = re.search(
        rf"^(##+) {re.escape(heading)}\n(.*?)(?=^##? |^\1 |\Z)", PAGE, re.MULTILINE | re.DOTALL
    )
    assert found, f"there is no heading {heading}"
    return found.group(2)


class TestTheCommittedPage:
    def test_is_fresh(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(ROOT)
        assert main(["document", "--check"]) == 0, capsys.readouterr().out

    def test_is_written_by_the_command(self, tmp_path: Path) -> None:
        page = tmp_path / "docs" / "page.md"
        assert main(["document", "--output", str(page)]) == 0
        assert page.read_text(encoding="utf-8") == PAGE
        assert main(["document", "--check", "--output", str(page)]) == 0

    def test_is_refused_when_stale_and_the_difference_shown(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        page = tmp_path / "page.md"
        page.write_text(PAGE.replace("Places an order", "Puts an order"), encoding="utf-8")
        assert main(["document", "--check", "--output", str(page)]) == 1
        said = capsys.readouterr()
        assert "-Puts an order and computes its total." in said.out
        assert "+Places an order and computes its total." in said.out
        assert said.err == f"{page} is stale: run python -m service_kit.contract document\n"

    def test_is_refused_when_missing(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["document", "--check", "--output", str(tmp_path / "page.md")]) == 1
        assert len(capsys.readouterr().out.splitlines()) == 20


@pytest.mark.parametrize("method", INSTALLED.rpcs)
class TestEveryRpc:
    def test_is_described_in_the_words_of_its_comment(self, method: str) -> None:
        text = plain(chapter(method.rpartition("/")[2]))
        for paragraph in PARAGRAPH_BREAK.split(INSTALLED.comments[method]):
            assert plain(paragraph) in text

    def test_shows_what_it_promises(self, method: str) -> None:
        contract = INSTALLED.contracts[method]
        text = plain(chapter(method.rpartition("/")[2]))
        for before, after in contract.transitions:
            assert f"{before} → {after}".strip() in text
        for word in (*contract.error_reasons, *contract.roles, contract.idempotency):
            assert re.search(rf"\b{word}\b", text), word

    def test_shows_its_request_and_its_reply(self, method: str) -> None:
        text = plain(chapter(method.rpartition("/")[2]))
        rpc = INSTALLED.rpcs[method]
        for message in (rpc.input_type.removeprefix("."), rpc.output_type.removeprefix(".")):
            for field in INSTALLED.messages[message].field:
                assert f"| {field.name} |" in text
                assert plain(INSTALLED.comments[f"{message}.{field.name}"]) in text


class TestThePage:
    def test_has_the_words_of_every_comment(self) -> None:
        """All but those of the option itself, whose content is what the page shows."""
        text = plain(PAGE)
        shown = ("MethodContract", "Transition", "Idempotency.IDEMPOTENCY_UNS", "Role.ROLE_UNS")
        for name, comment in INSTALLED.comments.items():
            if name.startswith(tuple(f"checkout.contract.v1.{word}" for word in shown)):
                continue
            if name.startswith("checkout.error.v1.ErrorReason.") or name.endswith("_UNSPECIFIED"):
                continue
            for paragraph in PARAGRAPH_BREAK.split(comment):
                assert plain(paragraph) in text, name

    def test_has_every_error_with_its_code_and_example(self) -> None:
        for reason, entry in error_catalogue(INSTALLED).items():
            text = chapter(reason)
            assert f"**{entry.code}**" in text
            assert f"```json\n{entry.example}\n```" in text
            for paragraph in entry.text:
                assert plain(paragraph) in plain(text)

    def test_has_every_limit(self) -> None:
        rows = plain(chapter("Limits"))
        for name, limit in limits(INSTALLED).items():
            message, _, field = name.rpartition(".")
            required = "yes " if limit.required else ""
            stated = plain("<br>".join(limit.sentences))
            assert f"| {message.rpartition('.')[2]} {field} | {required}| {stated} |" in rows

    def test_has_headings_that_can_all_be_linked_to(self) -> None:
        anchors = Counter(anchor(h) for h in re.findall(r"^##* (.+)$", PAGE, re.MULTILINE))
        assert anchors.most_common(1)[0][1] == 1
        links = set(re.findall(r"\]\(#([^)]+)\)", PAGE))
        assert links <= set(anchors)

    def test_leads_from_one_place_to_the_next(self) -> None:
        assert "[`PAYMENT_MISMATCH`](#payment_mismatch)" in chapter("MarkOrderPaid")
        assert "[`PaymentService.ProcessPayment`](#processpayment)" in chapter("MarkOrderPaid")
        assert "[`checkout.payment.v1.Payment.id`](#payment)" in chapter("MarkOrderPaid")
        assert "[`OrderStatus`](#order-life-cycle)" in chapter("Order")
        assert "From every RPC." in chapter("ROLE_NOT_ALLOWED")
        assert "From [ProcessPayment](#processpayment)." in chapter("PAYMENT_TICKET_INVALID")
        assert "(#markorderpaid)" not in chapter("MarkOrderPaid"), "nothing links to itself"


class TestLifeCycles:
    def test_are_drawn_from_the_transitions_that_the_rpcs_declare(self) -> None:
        assert chapter("Order life cycle").partition("```mermaid\n")[2].partition("\n```")[0] == (
            "stateDiagram-v2\n"
            "    direction LR\n"
            "    [*] --> created: CreateOrder\n"
            "    created --> paid: PayOrder, MarkOrderPaid, CancelOrder\n"
            "    created --> cancelled: CancelOrder\n"
            "    paid --> fulfilled: FulfillOrder\n"
            "    paid --> refunded: RefundOrder\n"
            "    fulfilled --> archived: ArchiveOrder\n"
            "    cancelled --> [*]\n"
            "    refunded --> [*]\n"
            "    archived --> [*]"
        )

    def test_show_every_transition_once(self) -> None:
        declared = {
            (arrow, method.rpartition("/")[2])
            for method, contract in INSTALLED.contracts.items()
            for arrow in contract.transitions
        }
        drawn = [
            (arrow, rpc)
            for cycle in life_cycles(INSTALLED).values()
            for arrow, rpcs in cycle.arrows.items()
            for rpc in rpcs
        ]
        assert set(drawn) == declared
        assert len(drawn) == sum(len(c.transitions) for c in INSTALLED.contracts.values())

    def test_are_those_of_an_order_a_payment_and_a_refund(self) -> None:
        assert {cycle.enum for cycle in life_cycles(INSTALLED).values()} == {
            "checkout.order.v1.OrderStatus",
            "checkout.payment.v1.PaymentStatus",
            "checkout.payment.v1.RefundStatus",
        }

    def test_know_only_statuses_of_their_enum_and_reach_them_all(self) -> None:
        for cycle in life_cycles(INSTALLED).values():
            statuses = set(cycle.statuses.values()) - {""}
            assert {after for _, after in cycle.arrows} == statuses
            assert {before for before, _ in cycle.arrows} <= statuses | {""}

    def test_need_a_reply_that_holds_what_changes(self, tmp_path: Path) -> None:
        copy = ProtoCopy(tmp_path)
        copy.edit(
            ORDER_SERVICE,
            "message ArchiveOrderResponse {\n  // The order after the call.\n  Order order",
            "message ArchiveOrderResponse {\n  // The order after the call.\n  string order",
        )
        with pytest.raises(ContractIncomplete, match="ArchiveOrder declares no resource"):
            life_cycles(ContractImage.load(copy.image("without.binpb")))
