"""Every limit that the contract states, at the limit and one beyond, over the wire."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc
import pytest
from google.protobuf.message import Message

import order_service.rpc.limits
import payment_service.rpc.limits
from order_service.rpc.limits import TOTAL_MAX, UNIT_PRICE_MAX
from service_kit.contract.method_contracts import MethodContract
from service_kit.status import Status
from service_kit.validation import Amount, Choice, Identifier, Items, Rule, Text, Whole
from tests.assertions import Refusal, refused
from tests.builders import money, new_order_item, request_type
from tests.checkout import Checkout
from tests.client import ALICE, SHOP
from tests.system.every_rpc import CONTRACTS, client_for, permitted_client, rpc_of
from tests.system.simultaneously import outcome_of, reply_bytes

pytestmark = pytest.mark.requirement("FR-354")

RULES: Final = {**order_service.rpc.limits.RULES, **payment_service.rpc.limits.RULES}
INT32_MAX, INT64_MAX = 2**31 - 1, 2**63 - 1
# Four bytes each in UTF-8: a limit counts characters.
LONG_CHARACTER: Final = "\N{BANANA}"


@dataclass(frozen=True)
class Case:
    """A field of an RPC's request, and its rule. `path` has the names on the way to it."""

    contract: MethodContract
    path: tuple[str, ...]
    rule: Rule

    def __str__(self) -> str:
        return f"{rpc_of(self.contract)}.{'.'.join(self.path)}"

    def request(self, value: Any) -> tuple[Message, str]:
        """Build a request with the value, and name the field as a refusal does."""
        request = request_type(rpc_of(self.contract))()
        fill(request)
        message: Any = request
        told = []
        for name in self.path[:-1]:
            message = getattr(message, name)[0]
            told.append(f"{name}[0]")
        name = self.path[-1]
        told.append(name)
        field = getattr(message, name)
        if isinstance(self.rule, Items):
            first = field[0]
            del field[:]
            field.extend([first] * value)
        elif isinstance(self.rule, Amount):
            field.CopyFrom(money(value))
            told.append("minor_units")
        else:
            setattr(message, name, value)
        return request, ".".join(told)


def fill(message: Any) -> None:
    """Give every field that is required the least that it takes."""
    for field in message.DESCRIPTOR.fields:
        match RULES.get(field.full_name):
            case Identifier(required=True):
                setattr(message, field.name, "x")
            case Text(minimum=minimum):
                setattr(message, field.name, "x" * minimum)
            case Whole(minimum=minimum):
                setattr(message, field.name, minimum)
            case Items(minimum=minimum):
                for _ in range(minimum):
                    fill(getattr(message, field.name).add())
            case Amount(required=True, minimum=minimum):
                getattr(message, field.name).CopyFrom(money(max(1, minimum)))
            case _:
                pass


def cases_of(contract: MethodContract) -> Iterator[Case]:
    waiting: list[tuple[Any, tuple[str, ...]]] = [(request_type(rpc_of(contract)).DESCRIPTOR, ())]
    for descriptor, path in waiting:
        for field in descriptor.fields:
            rule = RULES[field.full_name]
            yield Case(contract, (*path, field.name), rule)
            if isinstance(rule, Items):
                waiting.append((field.message_type, (*path, field.name)))


CASES: Final = [case for contract in CONTRACTS for case in cases_of(contract)]


def values_within(rule: Rule) -> list[Any]:
    """The least and the most that a rule takes."""
    match rule:
        case Identifier(required=required):
            return ["x" * 64, "x" if required else ""]
        case Text(minimum=minimum, maximum=maximum):
            return ["x" * minimum, "x" * maximum, LONG_CHARACTER * maximum]
        case Whole(minimum=minimum, maximum=maximum):
            return [minimum, INT64_MAX if maximum is None else maximum]
        case Items(minimum=minimum, maximum=maximum) | Amount(minimum=minimum, maximum=maximum):
            return [minimum, maximum]
        case Choice():
            return [0, 1]


def values_beyond(rule: Rule) -> list[Any]:
    """One less and one more than a rule takes, and what its type has at its ends."""
    match rule:
        case Identifier(required=required):
            return ["x" * 65, "x\N{LATIN SMALL LETTER E WITH ACUTE}", *([""] if required else [])]
        case Text(minimum=minimum, maximum=maximum):
            return ["x" * (maximum + 1), "x\n", *(["x" * (minimum - 1)] if minimum else [])]
        case Whole(minimum=minimum, maximum=None):
            return [minimum - 1, -INT64_MAX - 1]
        case Whole(minimum=minimum, maximum=int(maximum)):
            return [minimum - 1, maximum + 1, INT32_MAX, -INT32_MAX - 1]
        case Items(minimum=minimum, maximum=maximum):
            return [minimum - 1, maximum + 1]
        case Amount(minimum=minimum, maximum=maximum):
            return [minimum - 1, maximum + 1, INT64_MAX, -INT64_MAX - 1]
        case _:
            return [99, -1]


# With one of these nobody has looked at the field, or nobody should have.
NO_ANSWER: Final = frozenset(
    {
        "CARD_DATA_NOT_ACCEPTED",
        "CREDENTIALS_MISSING",
        "INTERNAL",
        "OVERLOADED",
        "RATE_LIMITED",
        "ROLE_NOT_ALLOWED",
        "STORAGE_UNAVAILABLE",
    }
)


def violations(checkout: Checkout, case: Case, request: Message) -> dict[str, str]:
    """Send it, and return what was wrong with it, if anything was."""
    rpc, client = rpc_of(case.contract), permitted_client(checkout, case.contract)
    if getattr(request, "customer_id", ""):
        # A customer has no other name than their own.
        client = client_for(checkout, case.contract, SHOP)
    outcome = outcome_of(lambda: client.answer(rpc, request))
    if not isinstance(outcome, grpc.RpcError):
        return {}
    refusal = Refusal()
    refusal.read(Status.FromString(reply_bytes(outcome)))
    assert refusal.reason not in NO_ANSWER
    return refusal.violations if refusal.reason == "VALIDATION_FAILED" else {}


class TestAField:
    def test_has_a_limit_wherever_there_is_one_to_send(self) -> None:
        assert len(CASES) > 50
        assert {case.rule for case in CASES} == set(RULES.values())

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_threat_08_is_taken_at_its_limit(self, checkout: Checkout, case: Case) -> None:
        for value in values_within(case.rule):
            request, field = case.request(value)
            assert field not in violations(checkout, case, request)

    @pytest.mark.parametrize("case", CASES, ids=str)
    def test_threat_08_is_refused_beyond_its_limit(self, checkout: Checkout, case: Case) -> None:
        for value in values_beyond(case.rule):
            request, field = case.request(value)
            problem = violations(checkout, case, request)[field]
            assert case.rule.describe() in problem or "control characters" in problem


class TestMoney:
    """No sum leaves its type or its limit, whatever is multiplied."""

    @pytest.mark.parametrize(("price", "quantity"), [(UNIT_PRICE_MAX, 100), (100_000_000, 10_000)])
    def test_threat_09_may_come_to_the_greatest_total_and_to_no_more(
        self, checkout: Checkout, price: int, quantity: int
    ) -> None:
        items = [new_order_item(quantity=quantity, unit_price=money(price))]
        order = checkout.place(items=items)
        assert order.total_amount.minor_units == TOTAL_MAX
        assert order.items[0].line_total.minor_units == TOTAL_MAX
        items.append(new_order_item(quantity=1, unit_price=money(1)))
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.place(items=items)
        assert list(refusal.violations) == ["items"]

    def test_threat_09_overflows_nowhere(self, checkout: Checkout) -> None:
        """The greatest quantity times the greatest price, a hundred times."""
        items = [new_order_item(quantity=10_000, unit_price=money(UNIT_PRICE_MAX))] * 100
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.place(items=items)
        assert list(refusal.violations) == ["items"]

    def test_threat_09_has_no_order_for_nothing(self, checkout: Checkout) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"):
            checkout.place(items=[new_order_item(unit_price=money(0))])
        free_gift = [
            new_order_item(unit_price=money(0)),
            new_order_item(unit_price=money(1), quantity=1),
        ]
        assert checkout.place(items=free_gift).total_amount.minor_units == 1

    @pytest.mark.parametrize("currency", ["", "eur", "EUR ", "XXX", "BTC", "€"])
    def test_threat_09_is_in_a_currency_that_there_is(
        self, checkout: Checkout, currency: str
    ) -> None:
        with refused(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED") as refusal:
            checkout.place(items=[new_order_item(unit_price=money(1, currency))])
        assert list(refusal.violations) == ["items[0].unit_price.currency_code"]

    def test_threat_09_of_the_greatest_order_is_paid_and_given_back(
        self, checkout: Checkout
    ) -> None:
        order = checkout.place(
            items=[new_order_item(quantity=100, unit_price=money(UNIT_PRICE_MAX))]
        )
        paid = checkout.pay(order)
        assert checkout.refund(paid, money(1)).refunded_amount.minor_units == 1
        assert checkout.refund(paid).refunded_amount.minor_units == TOTAL_MAX


class TestTheLongestNames:
    def test_threat_08_can_be_paid_for(self, checkout: Checkout) -> None:
        """What a name makes of a ticket, a token or a row has room where it goes."""
        customer = LONG_CHARACTER * 256
        items = [new_order_item(sku=LONG_CHARACTER * 256, name=LONG_CHARACTER * 256)]
        order = checkout.place(SHOP, customer_id=customer, items=items)
        paid = checkout.pay(order, caller=SHOP)
        assert (paid.customer_id, paid.items[0].name) == (customer, items[0].name)
        page = checkout.orders(SHOP).ListOrders(customer_id=customer, page_size=1)
        assert page.orders[0].id == order.id

    def test_threat_08_of_a_caller_can_be_as_long(self, checkout: Checkout) -> None:
        caller = replace(ALICE, id="a" * 256)
        order = checkout.paid(caller=caller)
        assert order.customer_id == caller.id
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING"):
            checkout.orders(replace(caller, id="a" * 257)).ListOrders()
