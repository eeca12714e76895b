"""What an operator types: list what waits for a person, end it, and both services go on."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from order_service.__main__ import PROGRAM as ORDERS
from payment_service.__main__ import PROGRAM as PAYMENTS
from tests.assertions import refused
from tests.checkout import SECRET, Checkout, running_checkout
from tests.system.unknown_outcomes import TOTAL, outcome_unknown, pay_request

# `run` configures the log of the process; the fixture puts it back.
pytestmark = pytest.mark.usefixtures("log")

Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def thirteen_hours_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    """A checkout whose clock is late: what is left pending in it is old for the commands."""
    monkeypatch.setenv("CHECKOUT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CHECKOUT_SECRET_KEY", SECRET)
    with running_checkout(tmp_path) as checkout:
        checkout.clock.move(timedelta(hours=-13))
        yield checkout


@pytest.fixture
def rows(capsys: pytest.CaptureFixture[str]) -> Rows:
    """What a command has written as JSON."""
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class TestNeedsHuman:
    @pytest.mark.requirement("FR-133", "FR-254")
    @pytest.mark.parametrize("program", [ORDERS, PAYMENTS], ids=["orders", "payments"])
    @pytest.mark.usefixtures("thirteen_hours_ago")
    def test_makes_no_secret(
        self, program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("CHECKOUT_SECRET_KEY")
        assert program.run(["needs-human"]) == 1
        assert not (tmp_path / "secret.key").exists()

    @pytest.mark.requirement("FR-133", "FR-254")
    def test_lists_the_operation_and_its_payment(
        self, thirteen_hours_ago: Checkout, rows: Rows
    ) -> None:
        order = thirteen_hours_ago.place()
        outcome_unknown(
            thirteen_hours_ago, "PayOrder", pay_request(order, "tok_timeoutBeforeCharge")
        )

        assert ORDERS.run(["needs-human", "--json"]) == 0
        [operation] = rows()
        assert PAYMENTS.run(["needs-human", "--json"]) == 0
        [payment] = rows()

        assert (operation["what"], operation["order_id"]) == ("charge", order.id)
        assert operation["problem"] == "no outcome yet"
        assert (payment["what"], payment["order_id"]) == ("payment", order.id)

    @pytest.mark.requirement("FR-254")
    @pytest.mark.usefixtures("thirteen_hours_ago")
    @pytest.mark.parametrize("program", [ORDERS, PAYMENTS], ids=["orders", "payments"])
    def test_says_so_when_nothing_waits(
        self, program: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert program.run(["needs-human"]) == 0
        assert capsys.readouterr().out == "nothing waits for a person\n"
        assert program.run(["needs-human", "--json"]) == 0
        assert capsys.readouterr().out == ""

    @pytest.mark.requirement("FR-254")
    def test_is_a_table_for_people(
        self, thirteen_hours_ago: Checkout, capsys: pytest.CaptureFixture[str]
    ) -> None:
        order = thirteen_hours_ago.place()
        thirteen_hours_ago.process(order, "tok_timeoutBeforeCharge")
        PAYMENTS.run(["needs-human"])
        head, row = capsys.readouterr().out.splitlines()
        assert head.split() == ["what", "id", "order_id", "since", "problem"]
        assert row.index(order.id) == head.index("order_id")


@pytest.mark.requirement("FR-134")
class TestSettle:
    def left_pending(self, checkout: Checkout) -> tuple[Any, dict[str, Any], str]:
        order = checkout.place()
        fields = pay_request(order, "tok_timeoutBeforeCharge")
        outcome_unknown(checkout, "PayOrder", fields)
        [payment] = checkout.payments().ListPayments().payments
        return order, fields, payment.id

    def test_as_failed_frees_the_order(
        self, thirteen_hours_ago: Checkout, capsys: pytest.CaptureFixture[str]
    ) -> None:
        checkout = thirteen_hours_ago
        order, fields, payment_id = self.left_pending(checkout)

        assert PAYMENTS.run(["settle", payment_id, "--failed", "--by", "olga"]) == 0

        assert capsys.readouterr().out.startswith(
            f"{payment_id} failed (failed_by_operator), as olga"
        )
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "PAYMENT_DECLINED"):
            checkout.orders().answer("PayOrder", **fields)
        checkout.pay(order)
        assert checkout.ledger.charges(order.id) == [TOTAL]
        by = [e.actor_id for e in checkout.payment_history(order.id) if e.reason]
        assert by == ["olga"]

    def test_as_succeeded_pays_the_order(self, thirteen_hours_ago: Checkout) -> None:
        checkout = thirteen_hours_ago
        order, fields, payment_id = self.left_pending(checkout)

        assert PAYMENTS.run(["settle", payment_id, "--succeeded", "ch_by_phone"]) == 0

        paid = checkout.orders().PayOrder(**fields).order
        assert (paid.id, paid.payment_transaction_id) == (order.id, payment_id)

    def test_takes_the_gateways_word(
        self, thirteen_hours_ago: Checkout, capsys: pytest.CaptureFixture[str]
    ) -> None:
        checkout = thirteen_hours_ago
        order = checkout.place()
        payment = checkout.process(order, "tok_timeoutAfterCharge")

        assert PAYMENTS.run(["settle", payment.id, "--failed"]) == 0

        assert "the gateway knew it after all" in capsys.readouterr().out
        assert checkout.payment(payment.id).status == payment.status + 1
        assert checkout.ledger.charges(order.id) == [TOTAL]

    @pytest.mark.parametrize("item_id", ["pay_unknown", "ref_unknown"])
    @pytest.mark.usefixtures("thirteen_hours_ago")
    def test_refuses_in_one_line(self, item_id: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert PAYMENTS.run(["settle", item_id, "--failed"]) == 1
        assert capsys.readouterr().err.startswith(f"nothing was settled: {item_id}: ")

    @pytest.mark.parametrize(
        "arguments",
        [
            ["pay_1"],
            ["pay_1", "--failed", "--succeeded", "ch_1"],
            ["pay_1", "--succeeded", ""],
            ["pay_1", "--succeeded", "x" * 65],
            ["pay_1", "--failed", "--code", "Not A Code"],
            ["pay_1", "--failed", "--by", ""],
        ],
    )
    def test_refuses_what_it_cannot_mean(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            PAYMENTS.run(["settle", *arguments])
        assert ended.value.code == 2
        assert "usage" in capsys.readouterr().err
