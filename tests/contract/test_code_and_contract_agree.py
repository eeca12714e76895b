"""What the contract promises is what the code does, in both directions.

Everything is read from where each side has it: the options and comments of the protos, and the
tables, rules and constants of the code.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, get_type_hints

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

import order_service.domain.audit
import order_service.rpc.limits
import payment_service.domain.audit
import payment_service.rpc.limits
from order_service.application.payment_operations import DEADLINE_MIN_SECONDS
from order_service.domain import errors as order_errors
from order_service.domain.payment_operation import OperationKind
from order_service.domain.state_machine import TRANSITIONS, OrderAction, OrderStatus
from order_service.rpc.errors import ERROR_TABLE as ORDER_ERRORS
from order_service.rpc.servicer import SERVICE as ORDER_SERVICE
from order_service.rpc.servicer import UseCases as OrderUseCases
from payment_service.domain import errors as payment_errors
from payment_service.domain.payment import VoidReason
from payment_service.domain.state_machine import (
    PAYMENT_TRANSITIONS,
    REFUND_TRANSITIONS,
    PaymentStatus,
    RefundStatus,
)
from payment_service.rpc.errors import ERROR_TABLE as PAYMENT_ERRORS
from payment_service.rpc.servicer import SERVICE as PAYMENT_SERVICE
from payment_service.rpc.servicer import UseCases as PaymentUseCases
from service_kit import errors as kit_errors
from service_kit.contract.descriptors import ContractImage
from service_kit.contract.error_catalogue import error_catalogue
from service_kit.contract.limits import limits
from service_kit.contract.method_contracts import MethodContract
from service_kit.error_table import ErrorTable
from service_kit.interceptors.calls import DEADLINE_DEFAULT_SECONDS, DEADLINE_MAX_SECONDS
from service_kit.interceptors.requests import METADATA_BYTES_MAX, REQUEST_BYTES_MAX
from service_kit.patience import REQUEST_SECONDS
from service_kit.principals import ID_CHARACTERS, ROLES
from service_kit.server import CALLS_OF_A_CONNECTION_MAX
from service_kit.status import VIOLATIONS_MAX
from service_kit.validation import Amount, Choice, Identifier, Items, Rule, Text

pytestmark = pytest.mark.requirement("FR-236")

INSTALLED = ContractImage.installed()
CATALOGUE = error_catalogue(INSTALLED)
CONTRACTS = INSTALLED.contracts
SERVICES: Mapping[str, tuple[ErrorTable, type]] = {
    ORDER_SERVICE: (ORDER_ERRORS, OrderUseCases),
    PAYMENT_SERVICE: (PAYMENT_ERRORS, PaymentUseCases),
}
RULES: Mapping[str, Rule] = {**order_service.rpc.limits.RULES, **payment_service.rpc.limits.RULES}

# No bug has a row: whatever the table does not know is told as this.
INTERNAL = "INTERNAL"


def service_of(contract: MethodContract) -> str:
    return contract.method.split("/")[1]


def name_of(contract: MethodContract) -> str:
    return contract.method.rpartition("/")[2]


def use_case_of(contract: MethodContract) -> Any:
    """The class that does what the RPC promises."""
    field = re.sub(r"(?<!^)(?=[A-Z])", "_", name_of(contract)).lower()
    return get_type_hints(SERVICES[service_of(contract)][1])[field]


def actions_of(contract: MethodContract) -> tuple[Enum, ...]:
    actions: tuple[Enum, ...] = getattr(use_case_of(contract), "actions", ())
    return actions


def all_arrows() -> Iterator[tuple[Enum | None, Enum, Enum]]:
    for table in (TRANSITIONS, PAYMENT_TRANSITIONS, REFUND_TRANSITIONS):
        rows: Mapping[Any, Any] = table
        for (source, action), target in rows.items():
            yield source, action, target


def request_fields(contract: MethodContract) -> set[str]:
    request = INSTALLED.rpcs[contract.method].input_type.removeprefix(".")
    return {field.name for field in INSTALLED.messages[request].field}


every_rpc = pytest.mark.parametrize("contract", CONTRACTS.values(), ids=name_of)


class TestTransitions:
    @every_rpc
    def test_of_an_rpc_are_those_of_its_actions(self, contract: MethodContract) -> None:
        actions = actions_of(contract)
        expected = {
            (source.value if source else "", target.value)
            for source, action, target in all_arrows()
            if action in actions
        }
        if name_of(contract) == "CreateOrder":
            expected = {("", OrderStatus.CREATED.value)}
        assert set(contract.transitions) == expected
        assert len(contract.transitions) == len(expected)

    def test_are_all_made_by_some_rpc(self) -> None:
        made = {action for contract in CONTRACTS.values() for action in actions_of(contract)}
        assert made == {action for _, action, _ in all_arrows()}

    def test_are_told_in_the_comment_of_the_status(self) -> None:
        targets = defaultdict(list)
        for (source, _), target in TRANSITIONS.items():
            targets[source.value].append(target.value)
        sentence = "; ".join(f"{s} → {' or '.join(t)}" for s, t in targets.items())
        assert f"{sentence}. There is no other arrow." in comment("checkout.order.v1.OrderStatus")

    def test_are_only_made_by_rpcs_that_can_refuse_them(self) -> None:
        for contract in CONTRACTS.values():
            if service_of(contract) == ORDER_SERVICE:
                can_refuse = "INVALID_TRANSITION" in contract.error_reasons
                assert can_refuse == bool(actions_of(contract)), contract.method


def comment(element: str) -> str:
    return " ".join(INSTALLED.comments[element].split())


@pytest.mark.parametrize(
    ("name", "enum"),
    [
        ("checkout.order.v1.OrderStatus", OrderStatus),
        ("checkout.order.v1.PaymentOperationKind", OperationKind),
        ("checkout.payment.v1.PaymentStatus", PaymentStatus),
        ("checkout.payment.v1.RefundStatus", RefundStatus),
        ("checkout.payment.v1.VoidReason", VoidReason),
    ],
)
def test_an_enum_has_the_values_of_the_domain(name: str, enum: type[Enum]) -> None:
    declared = INSTALLED.enums[name]
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", declared.name).upper()
    values = [value.name.removeprefix(f"{prefix}_") for value in declared.value]
    assert values == ["UNSPECIFIED", *(member.name for member in enum)]
    assert [member.value for member in enum] == [member.name.lower() for member in enum]


class TestErrorReasons:
    def test_of_the_tables_are_those_of_the_enum(self) -> None:
        rows = [row for table, _ in SERVICES.values() for row in table.rows.values()]
        assert {row.reason for row in rows} | {INTERNAL} == CATALOGUE.keys()

    def test_have_the_code_that_their_comment_states(self) -> None:
        for table, _ in SERVICES.values():
            for row in table.rows.values():
                assert row.code.name == CATALOGUE[row.reason].code, row.reason

    @pytest.mark.parametrize("service", SERVICES)
    def test_that_a_service_declares_are_those_it_can_tell(self, service: str) -> None:
        table, _ = SERVICES[service]
        of_its_own = table.rows.keys() - ErrorTable({}).rows.keys()
        declared = {
            reason
            for contract in CONTRACTS.values()
            if service_of(contract) == service
            for reason in contract.error_reasons
        }
        assert declared <= {row.reason for row in table.rows.values()} | {INTERNAL}
        assert declared >= {table.rows[error].reason for error in of_its_own}

    def test_are_all_declared_by_some_rpc(self) -> None:
        assert frozenset().union(*(c.error_reasons for c in CONTRACTS.values())) == set(CATALOGUE)

    @pytest.mark.parametrize(
        ("module", "base", "table"),
        [
            (kit_errors, kit_errors.ServiceError, ErrorTable({})),
            (order_errors, order_errors.OrderError, ORDER_ERRORS),
            (payment_errors, payment_errors.PaymentError, PAYMENT_ERRORS),
        ],
        ids=["kit", "order", "payment"],
    )
    def test_have_an_exception_and_every_exception_has_one(
        self, module: Any, base: type[Exception], table: ErrorTable
    ) -> None:
        exceptions = {
            kind
            for kind in vars(module).values()
            if isinstance(kind, type) and issubclass(kind, base) and not kind.__subclasses__()
        }
        # A broken invariant is a bug of ours: INTERNAL, as for every exception nobody knows.
        exceptions -= {order_errors.PaymentInvariantBroken}
        own = {kind for kind in table.rows if kind.__module__ == module.__name__}
        assert own == exceptions

    @every_rpc
    def test_of_every_rpc_include_what_can_happen_to_any_call(
        self, contract: MethodContract
    ) -> None:
        assert contract.error_reasons >= {
            "VALIDATION_FAILED",
            "CARD_DATA_NOT_ACCEPTED",
            "CREDENTIALS_MISSING",
            "ROLE_NOT_ALLOWED",
            "OVERLOADED",
            "STORAGE_UNAVAILABLE",
            INTERNAL,
        }

    @every_rpc
    def test_of_an_rpc_fit_what_it_takes_and_does(self, contract: MethodContract) -> None:
        fields, reasons = request_fields(contract), contract.error_reasons
        expected = {
            "IDEMPOTENCY_KEY_REUSED": "idempotency_key" in fields,
            "INVALID_PAGE_TOKEN": "page_token" in fields,
            "PAYMENT_TICKET_INVALID": "payment_ticket" in fields,
            # The order service is not counted.
            "RATE_LIMITED": contract.roles != {"order_service"},
            "ETAG_MISMATCH": "etag" in fields,
            "CONCURRENT_UPDATE": contract.idempotency != "read_only",
            "ORDER_NOT_FOUND": (
                service_of(contract) == ORDER_SERVICE
                and "order_id" in fields
                and "after_sequence" not in fields
            ),
        }
        assert {reason: reason in reasons for reason in expected} == expected

    def test_name_the_actions_and_operations_there_are(self) -> None:
        attempted = quoted("checkout.error.v1.InvalidTransition.attempted")
        assert attempted == {action.value for action in OrderAction}
        charge_or_cancel = {k.value for k in OperationKind if k is not OperationKind.REFUND}
        in_progress = comment("checkout.error.v1.ErrorReason.ERROR_REASON_PAYMENT_IN_PROGRESS")
        assert charge_or_cancel <= set(re.findall(r"`(\w+)`", in_progress))

    def test_show_the_seconds_that_are_demanded(self) -> None:
        example = json.loads(CATALOGUE["DEADLINE_TOO_SHORT"].example)
        assert example["metadata"] == {"minimum_seconds": f"{DEADLINE_MIN_SECONDS:.1f}"}


def quoted(element: str) -> set[str]:
    """The words in backquotes of an element's comment."""
    return set(re.findall(r"`(\w+)`", comment(element)))


# Who may call what.
CUSTOMER, SERVICE, OPERATIONS, PEER = "customer", "service", "operations", "order_service"
ROLES_OF = {
    "CreateOrder": {CUSTOMER, SERVICE},
    "PayOrder": {CUSTOMER, SERVICE},
    "GetOrder": {CUSTOMER, SERVICE, OPERATIONS},
    "ListOrders": {CUSTOMER, SERVICE, OPERATIONS},
    "CancelOrder": {CUSTOMER, SERVICE, OPERATIONS},
    "MarkOrderPaid": {CUSTOMER, SERVICE, OPERATIONS},
    "FulfillOrder": {SERVICE, OPERATIONS},
    "ArchiveOrder": {SERVICE, OPERATIONS},
    "ListOrderAuditEntries": {SERVICE, OPERATIONS},
    "WatchOrderEvents": {SERVICE, OPERATIONS},
    "RefundOrder": {OPERATIONS},
    "ProcessPayment": {CUSTOMER, SERVICE, PEER},
    "GetPayment": {CUSTOMER, SERVICE, OPERATIONS, PEER},
    "ListPayments": {CUSTOMER, SERVICE, OPERATIONS, PEER},
    "ListPaymentAuditEntries": {OPERATIONS, PEER},
    "RefundPayment": {PEER},
    "SealOrder": {PEER},
    "ResolvePayment": {PEER},
}


class TestRoles:
    """That nobody else gets in is tried with every RPC in tests/system/test_roles.py."""

    def test_of_every_rpc_are_those_decided(self) -> None:
        assert {name_of(c): set(c.roles) for c in CONTRACTS.values()} == ROLES_OF

    def test_are_the_ones_an_identity_can_have(self) -> None:
        assert set(ROLES) == {CUSTOMER, SERVICE, OPERATIONS, PEER}

    @pytest.mark.parametrize("service", SERVICES)
    def test_are_listed_in_the_comment_of_the_service(self, service: str) -> None:
        callers = {role for c in CONTRACTS.values() if service_of(c) == service for role in c.roles}
        listed = re.search(r"\(role: (.*?)\)", comment(service))
        assert listed
        assert set(re.findall(r"`(\w+)`", listed[1])) == callers


class TestUseCases:
    @pytest.mark.parametrize("service", SERVICES)
    def test_are_one_for_each_rpc(self, service: str) -> None:
        of_service = {use_case_of(c) for c in CONTRACTS.values() if service_of(c) == service}
        assert of_service == set(get_type_hints(SERVICES[service][1]).values())


def sent_fields() -> Iterator[tuple[str, FieldDescriptorProto]]:
    """Every field a client can send, with its full name; those inside of an amount left out."""
    waiting = [rpc.input_type.removeprefix(".") for rpc in INSTALLED.rpcs.values()]
    seen = set()
    while waiting:
        message = waiting.pop()
        if message in seen or message == "checkout.money.v1.Money":
            continue
        seen.add(message)
        for field in INSTALLED.messages[message].field:
            yield f"{message}.{field.name}", field
            if field.type == FieldDescriptorProto.TYPE_MESSAGE:
                waiting.append(field.type_name.removeprefix("."))


class TestLimits:
    def test_are_enforced_for_every_field_a_client_can_send(self) -> None:
        """Amounts look after their currency and units themselves."""
        assert RULES.keys() == {name for name, _ in sent_fields()}

    @pytest.mark.parametrize("field", RULES)
    def test_stand_word_for_word_in_the_comment_of_their_field(self, field: str) -> None:
        rule, stated = RULES[field], limits(INSTALLED).get(field)
        if isinstance(rule, Choice):
            assert stated is None, "the enum itself is the limit"
            return
        assert stated is not None
        assert rule.describe() in stated.sentences
        assert stated.required == is_required(rule)

    def test_that_a_comment_states_are_enforced(self) -> None:
        sent = {name for name, _ in sent_fields()}
        elsewhere = limits(INSTALLED).keys() - RULES.keys()
        assert not elsewhere & sent
        # Checked by the rule for amounts, which knows the currencies.
        assert elsewhere == {"checkout.money.v1.Money.currency_code"}

    def test_of_an_orders_total_are_those_of_the_code(self) -> None:
        stated = limits(INSTALLED)["checkout.order.v1.CreateOrderRequest.items"].sentences
        total_max = order_service.rpc.limits.TOTAL_MAX
        assert f"The total must be from 1 to {total_max:,} minor units" in stated

    @pytest.mark.parametrize("service", SERVICES)
    def test_of_every_call_are_those_of_the_code(self, service: str) -> None:
        said = comment(service)
        assert f"A caller's id is {ID_CHARACTERS}." in said
        assert f"A request is at most {REQUEST_BYTES_MAX // 1024} kB," in said
        assert f"its metadata at most {METADATA_BYTES_MAX // 1024} kB," in said
        assert f"not come {REQUEST_SECONDS:.0f} seconds after its headers" in said
        assert f"A connection carries at most {CALLS_OF_A_CONNECTION_MAX} calls" in said
        assert f"the service sets {DEADLINE_DEFAULT_SECONDS:.0f} seconds" in said
        longest = f"{DEADLINE_MAX_SECONDS:.0f}"
        assert f"a longer one than {longest} seconds counts as {longest}" in said

    @pytest.mark.parametrize("module", [order_service.rpc.limits, payment_service.rpc.limits])
    def test_of_a_page_are_those_of_the_code(self, module: Any) -> None:
        sizes = [name for name in module.RULES if name.endswith(".page_size")]
        assert len(sizes) == 2
        for name in sizes:
            assert f"0 means {module.PAGE_SIZE_DEFAULT}." in comment(name)

    def test_of_the_bytes_of_a_page_are_those_of_the_code(self) -> None:
        said = comment("checkout.order.v1.ListOrdersRequest.page_size")
        megabytes = order_service.rpc.limits.PAGE_BYTES_MAX // 1024**2
        assert f"if they are more than {megabytes} MB together" in said

    def test_of_a_refusal_are_those_of_the_code(self) -> None:
        said = comment("checkout.error.v1.ErrorReason.ERROR_REASON_VALIDATION_FAILED")
        assert f"lists up to {VIOLATIONS_MAX} fields" in said


def is_required(rule: Rule) -> bool:
    match rule:
        case Identifier(required=required) | Amount(required=required):
            return required
        case Text(minimum=minimum) | Items(minimum=minimum):
            return minimum > 0
        case _:
            # A number that must not be zero has to be sent.
            return getattr(rule, "minimum", 0) > 0


@pytest.mark.parametrize(
    ("message", "audit"),
    [
        ("checkout.order.v1.OrderAuditEntry", order_service.domain.audit),
        ("checkout.payment.v1.PaymentAuditEntry", payment_service.domain.audit),
    ],
)
class TestTheHistory:
    def test_tells_of_the_events_that_are_listed(self, message: str, audit: Any) -> None:
        assert quoted(f"{message}.event_type") == {event.value for event in audit.EventType}

    def test_tells_of_the_outcomes_that_are_listed(self, message: str, audit: Any) -> None:
        assert quoted(f"{message}.outcome") == {outcome.value for outcome in audit.Outcome}
