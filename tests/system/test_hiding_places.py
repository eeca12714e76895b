"""Card numbers, tokens and secrets: planted everywhere, then looked for everywhere."""

import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import grpc
import pytest
import sqlalchemy as sa

from payment_service.gateways.simulated_tokens import TOKENS
from tests.assertions import everything_told, refused
from tests.builders import new_key, new_order_item, new_order_items, new_request
from tests.captured_log import CapturedLog, captured_log
from tests.checkout import SECRET, Checkout
from tests.client import ALICE, OPERATIONS, SHOP, Metadata
from tests.fuzz import http2
from tests.fuzz.mutations import varint
from tests.servers.valkey import RedisServer
from tests.system.checkouts import BOTH, SQLITE, Checkouts
from tests.system.every_rpc import CONTRACTS, permitted_client, rpc_of
from tests.system.hiding_places import HidingPlaces
from tests.system.simultaneously import Outcome, final_outcome, outcome_of, reason_of
from tests.system.text_fields import STRING_FIELDS, with_text_at

pytestmark = pytest.mark.requirement("FR-356")

CARD: Final = "4242424242424242"
GROUPED: Final = "4242-4242-4242-4242"
# Where a pending payment keeps what the gateway has to be asked again with.
ITS_COLUMN: Final = "payments.payment_token"


@pytest.fixture(scope="module")
def log() -> Iterator[CapturedLog]:
    """What both services of the module write."""
    with captured_log() as log:
        yield log


@pytest.fixture(scope="module", params=BOTH)
def checkout(
    request: pytest.FixtureRequest,
    checkouts: Checkouts,
    redis_server: RedisServer,
    log: CapturedLog,
) -> Iterator[Checkout]:
    """A checkout that has everything that something could be left in."""
    redis_server.flush()
    with checkouts.running(request.param, redis_url=redis_server.url, metrics_port=0) as checkout:
        yield checkout


@pytest.fixture
def places(checkout: Checkout, log: CapturedLog, redis_server: RedisServer) -> HidingPlaces:
    """All of that."""
    return HidingPlaces(checkout, log, redis_server.url)


def told_by(outcome: Outcome) -> str:
    """Return all that a caller was told."""
    if isinstance(outcome, grpc.RpcError):
        return everything_told(outcome)
    return f"{outcome.message} {outcome.initial} {outcome.trailers}"


def planted_metadata(text: str) -> Iterator[Metadata]:
    """Put a text into the metadata, in one place after the other."""
    for name in ("x-actor-id", "x-on-behalf-of", "x-trace-id", "traceparent", "x-actor-role"):
        yield ((name, text),)
    for name in ("authorization", "cookie", "x-anything"):
        yield ((name, f"Bearer {text}"),)
    yield (("x-anything-bin", text.encode()),)


class TestTheSearch:
    def test_finds_what_is_there(self, checkout: Checkout, places: HidingPlaces) -> None:
        """A search that finds nothing proves nothing before it has found something."""
        name, key = f"Planted {secrets.token_hex(8)}x", new_key()
        item = new_order_item(sku=name)
        for _ in range(2):
            answer = checkout.orders().answer("CreateOrder", idempotency_key=key, items=[item])
            places.told.append(str(answer.message))
        caller = f"caller-{secrets.token_hex(8)}x"
        checkout.orders(SHOP.with_metadata(("x-on-behalf-of", caller))).answer(
            "CreateOrder", customer_id=caller, items=[item]
        )
        assert {"order_items.sku", "idempotency_keys.reply", "redis", "told"} <= places.of(name)
        found = places.of(caller)
        assert {"orders.customer_id", "order_audit_actors.on_behalf_of", "log"} <= found
        # In base64, in the ticket.
        assert "idempotency_keys.reply" in found


class TestACardNumber:
    @pytest.mark.parametrize("number", [CARD, GROUPED])
    def test_threat_07_is_left_nowhere_by_any_field(
        self, checkout: Checkout, places: HidingPlaces, number: str
    ) -> None:
        for contract, path in STRING_FIELDS:
            rpc, client = rpc_of(contract), permitted_client(checkout, contract)
            request = new_request(rpc)
            with_text_at(request, path, number)
            outcome = outcome_of(partial(client.answer, rpc, request))
            assert reason_of(outcome) == "CARD_DATA_NOT_ACCEPTED"
            places.told.append(told_by(outcome))
        assert places.of(number) == set()

    @pytest.mark.parametrize("number", [CARD, GROUPED])
    def test_threat_07_is_left_nowhere_by_any_metadata(
        self, checkout: Checkout, places: HidingPlaces, number: str
    ) -> None:
        for caller in (ALICE, SHOP):
            for metadata in planted_metadata(number):
                client = checkout.orders(caller.with_metadata(*metadata))
                outcome = outcome_of(partial(client.answer, "ListOrders"))
                places.told.append(told_by(outcome))
        assert places.of(number) == set()

    def test_threat_07_is_left_nowhere_by_a_field_that_the_service_does_not_know(
        self, checkout: Checkout, places: HidingPlaces
    ) -> None:
        """A newer client's, which is not read."""
        for rpc in ("CreateOrder", "PayOrder", "CancelOrder"):
            order = checkout.place()
            fields: dict[str, Any] = {"order_id": order.id}
            if rpc == "CreateOrder":
                fields = {"items": new_order_items()}
            elif rpc == "PayOrder":
                fields["payment_token"] = "tok_visa"
            unknown = varint(999 << 3 | 2) + bytes((len(CARD),)) + CARD.encode()
            body = new_request(rpc, **fields).SerializeToString() + unknown
            for _ in range(2):
                answer = checkout.orders().send(rpc, body)
                places.told.append(told_by(answer))
        assert places.of(CARD) == set()


class TestAPaymentToken:
    @pytest.mark.parametrize("token", [token for token in TOKENS if token != "tok_slow"])
    def test_threat_07_is_in_its_column_while_it_is_needed_and_then_nowhere(
        self, checkout: Checkout, places: HidingPlaces, token: str
    ) -> None:
        order = checkout.place()
        request = new_request("PayOrder", order_id=order.id, payment_token=token)
        call = partial(checkout.orders().answer, "PayOrder", request)
        outcome = outcome_of(call)
        places.told.append(told_by(outcome))
        is_pending = reason_of(outcome) == "PAYMENT_OUTCOME_UNKNOWN"
        assert places.of(token) == ({ITS_COLUMN} if is_pending else set())
        outcome = final_outcome(call)
        places.told.append(told_by(outcome))
        if reason_of(outcome) == "OK":
            refund = new_request("RefundOrder", order_id=order.id)
            final_outcome(partial(checkout.orders(OPERATIONS).answer, "RefundOrder", refund))
        assert places.of(token) == set()

    def test_threat_07_that_is_refused_is_nowhere(
        self, checkout: Checkout, places: HidingPlaces
    ) -> None:
        token = f"tok_{secrets.token_hex(12)}x"
        order = checkout.place()
        for client, rpc, fields in (
            (checkout.orders(), "PayOrder", {"order_id": order.id}),
            (checkout.orders(), "PayOrder", {"order_id": "ord_unknown"}),
            (checkout.payments(), "ProcessPayment", {"payment_ticket": order.payment_ticket}),
            (checkout.payments(), "ProcessPayment", {"payment_ticket": "a.b.c"}),
        ):
            request = new_request(rpc, payment_token=token, **fields)
            outcome = outcome_of(partial(client.answer, rpc, request))
            assert reason_of(outcome) != "OK"
            places.told.append(told_by(outcome))
        assert places.of(token) == set()

    def test_threat_07_is_in_no_file_any_more_when_the_services_have_ended(
        self, checkouts: Checkouts, log: CapturedLog
    ) -> None:
        """SQLite would keep what was deleted until it needs the room, and its journal longer."""
        with checkouts.running(SQLITE) as checkout:
            places = HidingPlaces(checkout, log)
            for token in ("tok_visa", "tok_chargeDeclined", "tok_timeoutAfterCharge"):
                for _ in range(5):
                    order = checkout.place()
                    fields = {"order_id": order.id, "payment_token": token}
                    request = new_request("PayOrder", **fields)
                    final_outcome(partial(checkout.orders().answer, "PayOrder", request))
            assert places.files_with("alice")
        for token in ("tok_visa", "tok_chargeDeclined", "tok_timeoutAfterCharge"):
            assert places.files_with(token) == set()


class TestWhatWasRefused:
    def test_threat_12_is_left_nowhere(self, checkout: Checkout, places: HidingPlaces) -> None:
        """A field that breaks its limit is told by its name, and its value by nobody."""
        text = f"Planted-{secrets.token_hex(8)}x"
        for contract, path in STRING_FIELDS:
            rpc, client = rpc_of(contract), permitted_client(checkout, contract)
            request = new_request(rpc)
            with_text_at(request, path, f"{text}\n")
            outcome = outcome_of(partial(client.answer, rpc, request))
            assert reason_of(outcome) == "VALIDATION_FAILED"
            places.told.append(told_by(outcome))
        assert places.of(text) == set()

    def test_threat_12_in_headers_that_are_not_ours_is_left_nowhere(
        self, checkout: Checkout, places: HidingPlaces
    ) -> None:
        text = f"Planted-{secrets.token_hex(8)}x"
        for name in ("authorization", "cookie", "x-api-key", "grpc-tags-bin"):
            value = text.encode() if name.endswith("-bin") else text
            answer = checkout.orders(ALICE.with_metadata((name, value))).answer("ListOrders")
            places.told.append(told_by(answer))
        assert places.of(text) == set()

    def test_threat_12_in_headers_that_are_no_text_is_left_nowhere(
        self, checkout: Checkout, places: HidingPlaces
    ) -> None:
        """Not even by what gRPC says of them."""
        text = f"Planted-{secrets.token_hex(8)}x"
        method = f"/{CONTRACTS[0].method.split('/')[1]}/ListOrders"
        headers = [*http2.call_headers(method), (b"authorization", b"\xff" + text.encode())]
        answer = http2.exchange(checkout.order_server.address, http2.whole_call(headers))
        assert answer
        places.told.append(answer.decode("latin-1"))
        assert places.of(text) == set()


@pytest.mark.parametrize("database", BOTH)
class TestABug:
    def test_threat_14_tells_its_caller_nothing_and_the_log_no_values(
        self, checkouts: Checkouts, log: CapturedLog, database: str
    ) -> None:
        """A table that is not there: the database's own sentence would have every value in it."""
        text = f"Planted-{secrets.token_hex(8)}x"
        with checkouts.running(database) as checkout:
            places = HidingPlaces(checkout, log)
            ticket = checkout.place().payment_ticket
            for books, table in (
                (checkout.order_database, "order_items"),
                (checkout.payment_database, "payments"),
            ):
                with books.engine.begin() as connection:
                    connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO hidden"))
            for call in (
                partial(checkout.orders().answer, "CreateOrder", items=[new_order_item(sku=text)]),
                partial(
                    checkout.payments().answer,
                    "ProcessPayment",
                    idempotency_key=text,
                    payment_ticket=ticket,
                    payment_token="tok_mastercard",
                ),
            ):
                with refused(grpc.StatusCode.INTERNAL, "INTERNAL") as refusal:
                    call()
                assert set(refusal.metadata) == {"trace_id"}
                places.told.append(f"{refusal.status} {refusal.initial} {refusal.trailers}")
            assert len(log.lines("rpc.failed")) >= 2
            assert places.of(text) == places.of("tok_mastercard") == set()
            assert "hidden" not in "".join(places.told)
            assert "order_items" not in "".join(places.told)


class TestTheInstallationsSecrets:
    def test_threat_07_are_nowhere(self, checkout: Checkout, places: HidingPlaces) -> None:
        checkout.refund(checkout.paid())
        for secret in (SECRET, *passwords(checkout)):
            assert places.of(secret) == set()


def passwords(checkout: Checkout) -> list[str]:
    """Those of the databases, if they have any."""
    urls = [books.engine.url for books in (checkout.order_database, checkout.payment_database)]
    return [str(url.password) for url in urls if url.password]
