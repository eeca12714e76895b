"""What a call is known by, when there are credentials, and what it is not."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.assertions import refused
from tests.builders import new_key, new_order_item, new_order_items
from tests.captured_log import captured_log
from tests.client import ALICE, BOB, OPERATIONS, ORDER_SERVICE, SHOP, Caller
from tests.keyring import Keyring, Proven, ago
from tests.secure_checkout import SecureCheckout, running_secure_checkout
from tests.system.simultaneously import outcome_of, reason_of

UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
NO_CLIENT_CERTIFICATES = {"tls_client_ca_file": None, "tls_clients": ""}
# One that stands for nobody, and one that would be somebody if the token did not count.
CERTIFICATES = ("edge", "shop-backend")
NO_TOKENS = {"token_keys_file": None, "token_issuer": ""}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCheckout]:
    """A checkout of the module's with certificates and tokens."""
    with running_secure_checkout(tmp_path_factory.mktemp("secure")) as checkout:
        yield checkout


def of_both(settings: dict[str, Any]) -> dict[str, Any]:
    return {f"{service}_{name}": v for name, v in settings.items() for service in SERVICES}


SERVICES = ("order", "payment")


@pytest.fixture(scope="module")
def by_tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCheckout]:
    """One over TLS that asks for no certificates: the order service has a token too."""
    folder = tmp_path_factory.mktemp("tokens")
    keyring = Keyring(folder / "credentials")
    file = folder / "token"
    file.write_text(keyring.by_token(ORDER_SERVICE).token)
    settings = {
        **keyring.settings(),
        **of_both(NO_CLIENT_CERTIFICATES),
        "order_payment_cert_file": None,
        "order_payment_key_file": None,
        "order_payment_token_file": file,
    }
    with running_secure_checkout(folder, keyring, **settings) as checkout:
        yield checkout


@pytest.fixture(scope="module")
def by_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCheckout]:
    """One that takes no tokens: of the clients only backends have certificates."""
    folder = tmp_path_factory.mktemp("certificates")
    with running_secure_checkout(folder, **of_both(NO_TOKENS)) as checkout:
        yield checkout


@pytest.mark.requirement("FR-304")
class TestTokens:
    def test_alone_are_enough_for_a_whole_checkout(self, by_tokens: SecureCheckout) -> None:
        order = by_tokens.refund(by_tokens.paid())
        assert by_tokens.events(order.id)[-1] == "order_refunded"

    @pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
    def test_come_by_a_scheme_in_any_letters(self, secure: SecureCheckout, scheme: str) -> None:
        alice = secure.keyring.proven(ALICE)
        given = ("authorization", f"{scheme}  {alice.token}")
        assert secure.orders(alice.bearing("").with_metadata(given)).ListOrders()

    @pytest.mark.parametrize("value", ["", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer,{}"])
    @pytest.mark.parametrize("certificate", CERTIFICATES)
    def test_threat_03_come_in_no_other_form(
        self, secure: SecureCheckout, certificate: str, value: str
    ) -> None:
        alice = secure.keyring.proven(ALICE)
        given = ("authorization", value.format(alice.token))
        caller = replace(alice.bearing("").with_metadata(given), certificate=certificate)
        with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING"):
            secure.orders(caller).ListOrders()

    @pytest.mark.parametrize("certificate", CERTIFICATES)
    def test_threat_03_come_alone(self, secure: SecureCheckout, certificate: str) -> None:
        """Which of two counts is nothing to be guessed, whatever stands between may do."""
        alice, bob = secure.keyring.proven(ALICE), secure.keyring.proven(BOB)
        for second in (alice.token, bob.token, ""):
            twice = alice.with_metadata(("authorization", f"Bearer {second}"))
            with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING"):
                secure.orders(replace(twice, certificate=certificate)).ListOrders()

    @pytest.mark.requirement("FR-305")
    def test_threat_02_give_no_role_that_they_are_not_to_give(self, tmp_path: Path) -> None:
        """Whoever issues tokens to people does not make anybody the order service."""
        with running_secure_checkout(tmp_path, payment_token_roles="customer") as checkout:
            assert checkout.payments(ALICE).ListPayments() is not None
            for caller in (ORDER_SERVICE, OPERATIONS):
                by_token = checkout.keyring.by_token(caller)
                with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING"):
                    checkout.payments(by_token).ListPayments()
            # A certificate is not a token.
            assert checkout.payments(ORDER_SERVICE).ListPayments() is not None

    def test_threat_03_are_refused_in_the_same_words_whatever_is_wrong(
        self, secure: SecureCheckout
    ) -> None:
        alice = secure.keyring.proven(ALICE)
        issuer = secure.keyring.issuer
        wrong = ("a.b.c", issuer.token("admin", "alice"), issuer.token("customer", "a", aud="x"))
        told = set()
        for token in wrong:
            with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
                secure.orders(alice.bearing(token)).ListOrders()
            told.add(refusal.status.SerializeToString())
        assert len(told) == 1

    def test_threat_03_end_by_the_services_clock(self, tmp_path: Path) -> None:
        with running_secure_checkout(tmp_path) as checkout:
            alice = checkout.keyring.proven(ALICE)
            checkout.orders(alice).ListOrders()
            checkout.clock.move(timedelta(minutes=61))
            with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING"):
                checkout.orders(alice).ListOrders()

    def test_threat_02_do_not_count_where_none_are_taken(
        self, by_certificates: SecureCheckout
    ) -> None:
        shop = by_certificates.keyring.proven(SHOP)
        for token in (by_certificates.keyring.by_token(SHOP).token, "a.b.c"):
            with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING"):
                by_certificates.orders(shop.bearing(token)).ListOrders()


@pytest.mark.requirement("FR-303")
class TestCertificates:
    def test_alone_are_enough_for_a_backend(self, by_certificates: SecureCheckout) -> None:
        order = by_certificates.place(SHOP, customer_id="alice")
        paid = by_certificates.pay(order, caller=SHOP)
        entries = by_certificates.orders(SHOP).ListOrderAuditEntries(order_id=paid.id).entries
        assert {(e.actor_id, e.event_type) for e in entries} == {
            ("shop-backend", "order_created"),
            ("shop-backend", "order_paid"),
        }

    def test_a_token_says_who_calls_on_a_backends_connection(self, secure: SecureCheckout) -> None:
        alice = Proven(ALICE.role, ALICE.id, (), secure.keyring.proven(ALICE).token, "shop-backend")
        assert secure.place(alice).customer_id == "alice"

    def test_threat_03_a_token_that_is_wrong_does_not_fall_back_to_the_certificate(
        self, secure: SecureCheckout
    ) -> None:
        shop = secure.keyring.proven(SHOP)
        secure.orders(shop).ListOrders()
        with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING"):
            secure.orders(shop.bearing("a.b.c")).ListOrders()

    def test_threat_02_with_two_listed_uris_are_nobodys(self, secure: SecureCheckout) -> None:
        uris = [f"spiffe://checkout.example/{name}" for name in ("shop-backend", "order-service")]
        both = secure.keyring.authority.issue("both", uris=uris)
        secure.keyring.add("both", both)
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            secure.orders(Proven("", "", (), "", "both")).ListOrders()

    def test_threat_02_count_by_their_uris_alone(self, secure: SecureCheckout) -> None:
        """A common name or a host that reads like a URI of the list is none."""
        name = "spiffe://checkout.example/shop-backend"
        secure.keyring.add("named", secure.keyring.authority.issue(name, hosts=[name]))
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED"):
            secure.orders(Proven("", "", (), "", "named")).ListOrders()


@pytest.mark.requirement("FR-306")
class TestMetadata:
    def test_threat_04_says_nothing_of_the_caller(self, secure: SecureCheckout) -> None:
        forged = (("x-actor-id", "bob"), ("x-actor-role", "operations"))
        alice = secure.keyring.proven(ALICE).with_metadata(*forged)
        order = secure.place(alice)
        assert order.customer_id == "alice"
        [entry] = secure.history(order.id)
        assert (entry.actor_id, entry.on_behalf_of) == ("alice", "")
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED") as refusal:
            secure.orders(alice).RefundOrder(order_id=order.id)
        assert refusal.metadata["role"] == "customer"

    @pytest.mark.parametrize("name", ["alice", "olga", "order-service", "shop-backend"])
    def test_threat_04_nor_does_any_field_of_a_request(
        self, secure: SecureCheckout, name: str
    ) -> None:
        """Whatever a customer writes wherever text may stand, what is recorded is theirs."""
        item = new_order_item(sku=name, name=name)
        order = secure.place(BOB, items=[item], idempotency_key=f"place-for-{name}")
        secure.orders(BOB).PayOrder(
            order_id=order.id, payment_token="tok_visa", idempotency_key=f"pay-for-{name}"
        )
        with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
            secure.orders(BOB).CancelOrder(order_id=order.id, idempotency_key=name)

        entries = secure.history(order.id)
        assert {(e.actor_id, e.on_behalf_of) for e in entries} == {("bob", "")}
        assert len(entries) == 3
        payments = secure.payment_history(order.id)
        assert {(e.actor_id, e.on_behalf_of) for e in payments} == {("order-service", "bob")}

    @pytest.mark.requirement("FR-307")
    @pytest.mark.parametrize("caller", [SHOP, OPERATIONS], ids=["service", "operations"])
    def test_names_the_person_that_a_backend_or_operator_acts_for(
        self, secure: SecureCheckout, caller: Caller
    ) -> None:
        order = secure.place()
        proven = secure.keyring.proven(caller).with_metadata(("x-on-behalf-of", "alice"))
        secure.orders(proven).CancelOrder(order_id=order.id)
        last = secure.history(order.id)[-1]
        assert (last.event_type, last.actor_id, last.on_behalf_of) == (
            "order_cancelled",
            caller.id,
            "alice",
        )

    @pytest.mark.requirement("FR-307")
    def test_threat_04_a_customer_acts_for_nobody(self, secure: SecureCheckout) -> None:
        order = secure.place(secure.keyring.proven(ALICE).with_metadata(("x-on-behalf-of", "bob")))
        [entry] = secure.history(order.id)
        assert (entry.actor_id, entry.on_behalf_of) == ("alice", "")


@pytest.mark.requirement("FR-310")
class TestTheOrderService:
    def test_is_one_principal_by_certificate_and_by_token(self, secure: SecureCheckout) -> None:
        """What it began by the one it goes on with by the other: the key is in the same hands."""
        order, key = secure.place(), new_key()
        request: dict[str, Any] = {
            "idempotency_key": key,
            "payment_ticket": order.payment_ticket,
            "payment_token": "tok_visa",
        }
        first = secure.payments(ORDER_SERVICE).answer("ProcessPayment", **request)
        by_token = secure.keyring.by_token(ORDER_SERVICE)
        second = secure.payments(by_token).answer("ProcessPayment", **request)

        assert second.body == first.body
        assert second.replayed
        assert len(secure.ledger.charges(order.id)) == 1
        resolved = secure.payments(by_token).ResolvePayment(
            order_id=order.id, payment_idempotency_key=key
        )
        assert resolved.payment == first.message.payment

    def test_is_called_so_in_the_history_either_way(
        self, secure: SecureCheckout, by_tokens: SecureCheckout
    ) -> None:
        for checkout in (secure, by_tokens):
            order = checkout.paid()
            entries = checkout.payment_history(order.id)
            assert {(e.actor_id, e.on_behalf_of) for e in entries} == {("order-service", "alice")}

    @pytest.mark.requirement("FR-311")
    def test_takes_a_refusal_of_its_certificate_for_no_answer(self, tmp_path: Path) -> None:
        """A list that lacks it is a mistake of somebody's, and nobody's money."""
        clients = "spiffe://checkout.example/edge=token"
        with running_secure_checkout(tmp_path, payment_tls_clients=clients) as checkout:
            order, key = checkout.place(), new_key()
            request: dict[str, Any] = {
                "idempotency_key": key,
                "order_id": order.id,
                "payment_token": "tok_visa",
            }
            with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN"):
                checkout.orders().PayOrder(**request)
            assert checkout.ledger.charges(order.id) == []

    @pytest.mark.requirement("FR-311")
    def test_with_a_token_that_is_over_charges_nothing_and_goes_on_with_a_new_one(
        self, tmp_path: Path
    ) -> None:
        keyring, file = Keyring(tmp_path / "credentials"), tmp_path / "token"
        file.write_text(keyring.issuer.token("order_service", "order-service", **ago(minutes=5)))
        settings: dict[str, Any] = {
            "order_payment_cert_file": None,
            "order_payment_key_file": None,
            "order_payment_token_file": file,
            **of_both(NO_CLIENT_CERTIFICATES),
        }
        with running_secure_checkout(tmp_path, keyring, **settings) as checkout:
            order, key = checkout.place(), new_key()
            request: dict[str, Any] = {
                "idempotency_key": key,
                "order_id": order.id,
                "payment_token": "tok_visa",
            }
            with refused(grpc.StatusCode.UNAVAILABLE, "PAYMENT_OUTCOME_UNKNOWN"):
                checkout.orders().PayOrder(**request)
            assert checkout.ledger.charges(order.id) == []

            file.write_text(keyring.by_token(ORDER_SERVICE).token)
            assert checkout.orders().PayOrder(**request).order.id == order.id
            assert len(checkout.ledger.charges(order.id)) == 1

    @pytest.mark.requirement("FR-311")
    def test_takes_nobody_else_for_the_payment_service(self, tmp_path: Path) -> None:
        """Whoever answers at the address must have a certificate of the right authority."""
        stranger = Keyring(tmp_path / "stranger").folder
        settings: dict[str, Any] = {
            "payment_tls_cert_file": stranger / "payment-service.pem",
            "payment_tls_key_file": stranger / "payment-service.key",
        }
        with running_secure_checkout(tmp_path, **settings) as checkout:
            order = checkout.place()
            outcome = outcome_of(
                lambda: checkout.orders().answer(
                    "PayOrder", order_id=order.id, payment_token="tok_visa"
                )
            )
            # Which of the two depends on whether the connection was tried before.
            assert reason_of(outcome) in {"PAYMENT_SERVICE_UNAVAILABLE", "PAYMENT_OUTCOME_UNKNOWN"}
            assert checkout.ledger.charges(order.id) == []


@pytest.mark.requirement("FR-313")
class TestAKey:
    @pytest.mark.parametrize("other", [BOB, SHOP], ids=["another customer", "a backend"])
    def test_threat_17_of_somebody_else_is_another_one(
        self, secure: SecureCheckout, other: Caller
    ) -> None:
        key = new_key()
        first = secure.orders(ALICE).answer(
            "CreateOrder", idempotency_key=key, items=new_order_items()
        )
        whose: dict[str, Any] = {} if other.role == "customer" else {"customer_id": "bob"}
        second = secure.orders(other).answer(
            "CreateOrder", idempotency_key=key, items=new_order_items(), **whose
        )
        assert not second.replayed
        assert second.message.order.id != first.message.order.id
        assert second.message.order.customer_id == "bob"

    def test_threat_17_is_asked_about_only_by_whoever_may_call(
        self, secure: SecureCheckout
    ) -> None:
        """The stored reply is no way around the credential: it is looked at first."""
        key = new_key()
        request: dict[str, Any] = {"idempotency_key": key, "items": new_order_items()}
        alice = secure.keyring.proven(ALICE)
        secure.orders(alice).answer("CreateOrder", **request)
        with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
            secure.orders(alice.bearing("")).answer("CreateOrder", **request)
        assert not refusal.is_replayed
        operator = Proven(
            "", "", (), secure.keyring.issuer.token("operations", "alice"), alice.certificate
        )
        with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED") as refusal:
            secure.orders(operator).answer("CreateOrder", **request)
        assert not refusal.is_replayed


@pytest.mark.requirement("FR-312")
class TestTheLog:
    def test_threat_16_holds_no_token_good_or_bad(self, tmp_path: Path) -> None:
        with captured_log() as log, running_secure_checkout(tmp_path) as checkout:
            alice = checkout.keyring.proven(ALICE)
            checkout.paid(caller=alice)
            bad = f"{alice.token[:-8]}{uuid.uuid4().hex}"
            with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
                checkout.orders(alice.bearing(bad)).ListOrders()
        told = f"{log.text}{refusal.status}{refusal.trailers}"
        for token in (alice.token, bad):
            for part in token.split("."):
                assert part not in told
        key = (checkout.keyring.folder / "order-service.key").read_text().splitlines()[1]
        assert key not in told

    def test_says_what_was_wrong_with_a_token(self, tmp_path: Path) -> None:
        with captured_log() as log, running_secure_checkout(tmp_path) as checkout:
            expired = checkout.keyring.issuer.token("customer", "alice", minutes=-1)
            with refused(UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
                checkout.orders(Proven("", "", (), expired)).ListOrders()
        [line] = log.lines("token.refused")
        assert line["problem"] == "is expired"
        assert line["trace_id"] == refusal.trailers["x-trace-id"]


@pytest.mark.requirement("FR-302")
class TestHealth:
    def test_is_told_to_whoever_may_connect(self, secure: SecureCheckout) -> None:
        channel = secure.keyring.channel(secure.order_server.address, "edge")
        stub: Any = health_pb2_grpc.HealthStub(channel)
        reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
        channel.close()
