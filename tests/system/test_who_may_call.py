"""Every RPC for every kind of caller, over mTLS and with tokens."""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import grpc
import pytest

from service_kit.status import refusal_of
from tests.assertions import refused
from tests.builders import new_request
from tests.client import BOB, OPERATIONS, Answer, Caller
from tests.keyring import NONE, Proven, ago
from tests.secure_checkout import SecureCheckout, running_secure_checkout
from tests.system.every_rpc import CALLER_OF_ROLE, CONTRACTS, client_for, rpc_of
from tests.system.simultaneously import outcome_of, reason_of
from tests.system.who_may_call import (
    CALLERS,
    DENIED,
    NO_ORDER,
    NO_PAYMENT,
    NO_TICKET,
    NOTHING,
    OK,
    ROWS,
    lists_nothing,
)

CONTRACT_OF = {rpc_of(contract): contract for contract in CONTRACTS}
REFUSALS = (DENIED, NO_ORDER, NO_PAYMENT, NO_TICKET)
FOREIGN = [rpc for rpc, row in ROWS.items() if row.gets["other customer"] in REFUSALS[1:]]
# Has the form of an id and the length of one, as that of what exists has.
MISSING = "0" * 32
# The claims of a token that is good but for this.
WRONG: Mapping[str, Callable[[], Mapping[str, Any]]] = {
    "expired": lambda: ago(seconds=31),
    "wrong audience": lambda: {"aud": "another-service"},
    "wrong issuer": lambda: {"iss": "https://issuer.example"},
}


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureCheckout]:
    """A checkout of the module's with credentials."""
    with running_secure_checkout(tmp_path_factory.mktemp("secure")) as checkout:
        yield checkout


def permitted(checkout: SecureCheckout, rpc: str) -> Proven:
    """A caller who may call the RPC, by a token."""
    caller = CALLER_OF_ROLE[min(CONTRACT_OF[rpc].roles)]
    return checkout.keyring.by_token(caller)


def send(checkout: SecureCheckout, rpc: str, caller: Caller, **fields: Any) -> Answer:
    client = client_for(checkout, CONTRACT_OF[rpc], caller)
    return client.send(rpc, new_request(rpc, **fields).SerializeToString())


def recorded(checkout: SecureCheckout) -> list[Any]:
    """Read all that is written anywhere of the newest order, and which one that is."""
    [newest] = checkout.orders(OPERATIONS).ListOrders(page_size=1).orders
    return [
        newest,
        checkout.history(newest.id),
        checkout.payment_history(newest.id),
        checkout.ledger.charges(newest.id),
        checkout.ledger.refunds(newest.id),
    ]


@pytest.mark.requirement("FR-309")
class TestTheMatrix:
    def test_threat_06_has_a_row_for_every_rpc_and_no_other(self) -> None:
        assert ROWS.keys() == CONTRACT_OF.keys()

    @pytest.mark.parametrize("rpc", ROWS)
    def test_threat_06_says_what_the_contract_says(self, rpc: str) -> None:
        """Written down twice: a role that is added to the contract alone is noticed."""
        denied = {CALLERS[who].role for who, what in ROWS[rpc].gets.items() if what == DENIED}

        assert CONTRACT_OF[rpc].roles == set(CALLER_OF_ROLE) - denied


@pytest.mark.requirement("FR-308", "FR-309")
@pytest.mark.parametrize(("rpc", "who"), [*product(ROWS, CALLERS)])
class TestACaller:
    def test_threat_05_gets_what_is_theirs(
        self, secure: SecureCheckout, rpc: str, who: str
    ) -> None:
        row, caller = ROWS[rpc], secure.keyring.proven(CALLERS[who])
        # Whatever is hers beside that which is asked for.
        beside = secure.place().id
        fields = row.fields(secure, caller)
        hers = fields.get("order_id", beside)
        before = recorded(secure)

        outcome = outcome_of(lambda: send(secure, rpc, caller, **fields))

        expected = row.gets[who]
        assert reason_of(outcome) == (expected if expected in REFUSALS else OK)
        if isinstance(outcome, grpc.RpcError):
            assert recorded(secure) == before
        elif row.find is not lists_nothing:
            assert (hers in row.find(outcome.message)) == (expected != NOTHING)


@pytest.mark.requirement("FR-308")
class TestWhatIsSomebodyElses:
    @pytest.mark.parametrize("rpc", FOREIGN)
    def test_threat_05_is_byte_for_byte_what_is_not_there(
        self, secure: SecureCheckout, rpc: str
    ) -> None:
        fields = ROWS[rpc].fields(secure, BOB)
        [name] = [n for n in ("payment_ticket", "payment_id", "order_id") if n in fields][:1]
        there = fields[name]
        # A ticket that nobody signed; an id that nobody gave.
        missing = f"{there[:-4]}AAAA" if name == "payment_ticket" else f"{there[:4]}{MISSING}"
        assert len(missing) == len(there)
        bob = secure.keyring.proven(BOB)

        told = [
            _bytes_of(lambda value=value: send(secure, rpc, bob, **{**fields, name: value}))
            for value in (there, missing)
        ]

        assert told[0] == told[1].replace(missing.encode(), there.encode())


def _bytes_of(call: Any) -> bytes:
    """Return all that a refusal says, but for the trace of the call."""
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    metadata = {
        key: value
        for key, value in [*error.initial_metadata(), *error.trailing_metadata()]
        if key != "x-trace-id"
    }
    packed = metadata.pop("grpc-status-details-bin")
    return (
        b"\n".join([error.code().name.encode(), error.details().encode(), packed])
        + repr(sorted(metadata)).encode()
    )


@pytest.mark.parametrize("rpc", ROWS)
class TestACallWithoutCredentials:
    @pytest.mark.requirement("FR-306")
    def test_threat_04_is_nobodys_whatever_its_metadata_says(
        self, secure: SecureCheckout, rpc: str
    ) -> None:
        role = permitted(secure, rpc).role
        nobody = Proven("", "").with_metadata(
            ("x-actor-role", role), ("x-actor-id", CALLER_OF_ROLE[role].id)
        )
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
            send(secure, rpc, nobody)
        assert refusal.metadata == {"header": "authorization"}

    @pytest.mark.requirement("FR-304")
    @pytest.mark.parametrize("wrong", WRONG)
    def test_threat_03_counts_as_one_without(
        self, secure: SecureCheckout, rpc: str, wrong: str
    ) -> None:
        caller = permitted(secure, rpc)
        token = secure.keyring.issuer.token(caller.role, caller.id, **WRONG[wrong]())
        with refused(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_MISSING") as refusal:
            send(secure, rpc, caller.bearing(token))
        assert refusal.metadata == {"header": "authorization"}

    @pytest.mark.requirement("FR-302")
    @pytest.mark.parametrize(
        "certificate",
        ["stranger", "expired", NONE, ""],
        ids=["of another CA", "expired", "none", "plaintext"],
    )
    def test_threat_01_does_not_even_connect(
        self, secure: SecureCheckout, rpc: str, certificate: str
    ) -> None:
        caller = permitted(secure, rpc)
        stranger = Proven(caller.role, caller.id, (), caller.token, certificate)
        outcome = outcome_of(lambda: send(secure, rpc, stranger))
        assert isinstance(outcome, grpc.RpcError)
        assert refusal_of(outcome).code is grpc.StatusCode.UNAVAILABLE
        # Nothing of ours has answered.
        assert refusal_of(outcome).reason == ""

    @pytest.mark.requirement("FR-303")
    def test_threat_02_may_do_nothing_by_a_certificate_that_is_not_on_the_list(
        self, unlisted: SecureCheckout, rpc: str
    ) -> None:
        """Of the right CA, and with anybody's token: another service of the same company."""
        for token in ("", permitted(unlisted, rpc).token):
            caller = Proven("", "", (), token, "unlisted")
            with refused(grpc.StatusCode.PERMISSION_DENIED, "ROLE_NOT_ALLOWED") as refusal:
                send(unlisted, rpc, caller)
            assert refusal.metadata == {"role": "", "method": rpc}


@pytest.fixture(scope="module")
def unlisted(secure: SecureCheckout) -> SecureCheckout:
    """The checkout, with a certificate of its CA that nobody has listed."""
    uris = ["spiffe://checkout.example/reports"]
    secure.keyring.add("unlisted", secure.keyring.authority.issue("order-service", uris=uris))
    return secure
