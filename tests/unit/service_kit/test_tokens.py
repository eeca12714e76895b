"""Tokens that count, and all the ways in which one does not."""

import base64
import hashlib
import hmac
import json
import string
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from service_kit.call import Principal
from service_kit.credentials.token_keys import TokenKey
from service_kit.credentials.tokens import CHARACTERS_MAX, TokenRefused, TokenVerifier
from tests.clock import StandingClock

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ISSUER, AUDIENCE = "https://issuer.example", "order-service"
ED25519, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
RSA = generate_private_key(65537, 2048)
KEYS = {
    "ed": TokenKey("EdDSA", ED25519.public_key()),
    "rsa": TokenKey("RS256", RSA.public_key()),
    "../../etc/passwd.other": TokenKey("EdDSA", OTHER.public_key()),
}
USUAL = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "cus_1",
    "role": "customer",
    "iat": NOW,
    "nbf": NOW,
    "exp": NOW + timedelta(minutes=5),
}


class Noon:
    """A clock that stands."""

    def now(self) -> datetime:
        return NOW


def verify(token: str, keys: Mapping[str, TokenKey] = KEYS) -> Principal:
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock=Noon()).verify(token)


def signed(
    *,
    key: Ed25519PrivateKey | RSAPrivateKey = ED25519,
    algorithm: str = "EdDSA",
    kid: object = "ed",
    **claims: Any,
) -> str:
    """Sign a token that is good but for what is named; None leaves a claim out."""
    given = {name: value for name, value in {**USUAL, **claims}.items() if value is not None}
    header = {"kid": kid} if isinstance(kid, str) else {}
    return jwt.encode(given, key, algorithm=algorithm, headers=header)


def after(**time: float) -> datetime:
    return NOW + timedelta(**time)


def before(**time: float) -> datetime:
    return NOW - timedelta(**time)


def encoded(part: Any) -> str:
    raw = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_hand(header: Any, sign: Callable[[bytes], bytes], claims: Any = None) -> str:
    """Put a token together that no library would sign."""
    usual = {**USUAL, "iat": 0, "nbf": 0, "exp": int(after(minutes=5).timestamp())}
    body = f"{encoded(header)}.{encoded(usual if claims is None else claims)}"
    return f"{body}.{encoded(sign(body.encode()))}"


def hmac_with_the_public_key(body: bytes) -> bytes:
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return hmac.digest(public, body, hashlib.sha256)


@pytest.mark.requirement("FR-304")
class TestATokenThatIsRight:
    def test_names_its_principal(self) -> None:
        assert verify(signed()) == Principal(role="customer", id="cus_1")

    def test_may_be_signed_with_rsa(self) -> None:
        token = signed(key=RSA, algorithm="RS256", kid="rsa", role="operations", sub="olga")
        assert verify(token) == Principal(role="operations", id="olga")

    def test_may_be_for_others_too(self) -> None:
        assert verify(signed(aud=["another-service", AUDIENCE])).id == "cus_1"

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": before(seconds=29)},
            {"nbf": after(seconds=30)},
            {"nbf": None, "iat": None},
            # Of a clock that is ahead: nothing is decided by when it was issued.
            {"iat": after(hours=1)},
            {"exp": after(minutes=5).timestamp() + 0.25},
        ],
        ids=["just expired", "just not yet", "no nbf", "issued later", "fraction of a second"],
    )
    def test_may_be_off_by_half_a_minute(self, claims: dict[str, Any]) -> None:
        assert verify(signed(**claims)).id == "cus_1"

    def test_may_be_the_order_services(self) -> None:
        token = signed(role="order_service", sub="order-service")
        assert verify(token) == Principal(role="order_service", id="order-service")


@pytest.mark.requirement("FR-304")
class TestATokenThatWasVerifiedBefore:
    def test_threat_03_is_no_longer_right_once_its_time_is_over(self) -> None:
        clock = StandingClock()
        verifier = TokenVerifier(KEYS, issuer=ISSUER, audience=AUDIENCE, clock=clock)
        now = clock.now()
        token = signed(nbf=now, exp=now + timedelta(minutes=5))
        assert verifier.verify(token) == verifier.verify(token)
        clock.move(timedelta(minutes=5, seconds=30))
        with pytest.raises(TokenRefused, match="expired"):
            verifier.verify(token)
        clock.move(-timedelta(minutes=6, seconds=1))
        with pytest.raises(TokenRefused, match="not valid yet"):
            verifier.verify(token)

    def test_threat_03_helps_no_other(self) -> None:
        verifier = TokenVerifier(KEYS, issuer=ISSUER, audience=AUDIENCE, clock=Noon())
        good = signed()
        verifier.verify(good)
        head, _, signature = good.split(".")
        _, claims, _ = signed(role="operations").split(".")
        for token in (f"{head}.{claims}.{signature}", good[:-2], f"{good}x"):
            with pytest.raises(TokenRefused):
                verifier.verify(token)
            with pytest.raises(TokenRefused):
                verifier.verify(token)
        assert verifier.verify(good).role == "customer"


WRONG: dict[str, Callable[[], str]] = {
    "no token": lambda: "",
    "no token at all": lambda: "alice",
    "two parts": lambda: signed().rpartition(".")[0],
    "four parts": lambda: f"{signed()}.{signed()}",
    "an encrypted one": lambda: "eyJhbGciOiJkaXIiLCJlbmMiOiJBMTI4R0NNIn0..a.b.c",
    "no signature": lambda: f"{signed().rpartition('.')[0]}.",
    "too long": lambda: signed(padding="x" * CHARACTERS_MAX),
    # Who signed it.
    "alg none": lambda: by_hand({"alg": "none", "kid": "ed"}, lambda _: b""),
    "alg None": lambda: by_hand({"alg": "None", "kid": "ed"}, lambda _: b""),
    "no alg": lambda: by_hand({"kid": "ed"}, ED25519.sign),
    "a public key as a shared one": lambda: by_hand(
        {"alg": "HS256", "kid": "rsa"}, hmac_with_the_public_key
    ),
    "an algorithm that is not the key's": lambda: signed(key=RSA, algorithm="RS256", kid="ed"),
    "an algorithm that is not on the list": lambda: signed(key=RSA, algorithm="RS512", kid="rsa"),
    "a padding that is not on the list": lambda: signed(key=RSA, algorithm="PS256", kid="rsa"),
    "the key of somebody else": lambda: signed(key=OTHER),
    "no kid": lambda: signed(kid=None),
    "an unknown kid": lambda: signed(kid="unknown"),
    "a kid that is a path": lambda: signed(kid="../../etc/passwd"),
    "a kid that is SQL": lambda: signed(kid="' OR 1=1 --"),
    "a kid that is a list": lambda: by_hand({"alg": "EdDSA", "kid": ["ed"]}, ED25519.sign),
    "a key of its own": lambda: by_hand(
        {
            "alg": "EdDSA",
            "jwk": jwt.algorithms.OKPAlgorithm.to_jwk(OTHER.public_key(), as_dict=True),
        },
        OTHER.sign,
    ),
    "a place to fetch the key from": lambda: by_hand(
        {"alg": "EdDSA", "kid": "elsewhere", "jku": "http://127.0.0.1:1/keys"}, OTHER.sign
    ),
    "something that must be understood": lambda: by_hand(
        {"alg": "EdDSA", "kid": "ed", "crit": ["only-on-sundays"], "only-on-sundays": True},
        ED25519.sign,
    ),
    # For whom and by whom.
    "no issuer": lambda: signed(iss=None),
    "another issuer": lambda: signed(iss="https://issuer.example.org"),
    "an issuer that begins likewise": lambda: signed(iss=f"{ISSUER}.example.org"),
    "no audience": lambda: signed(aud=None),
    "another audience": lambda: signed(aud="payment-service"),
    "an empty audience": lambda: signed(aud=[]),
    "an audience that begins likewise": lambda: signed(aud=f"{AUDIENCE}-2"),
    # When.
    "no expiry": lambda: signed(exp=None),
    "expired": lambda: signed(exp=before(seconds=30)),
    "not yet": lambda: signed(nbf=after(seconds=31)),
    "an expiry that is text": lambda: signed(exp="2099-01-01"),
    "an expiry that is true": lambda: signed(exp=True),
    "an expiry that is no number": lambda: signed(exp=float("nan")),
    "an expiry without end": lambda: signed(exp=float("inf")),
    "an expiry that no float holds": lambda: signed(exp=10**400),
    "a beginning that is no number": lambda: signed(nbf=float("nan")),
    # Whom it names.
    "no subject": lambda: signed(sub=None),
    "an empty subject": lambda: signed(sub=""),
    "a subject that is a number": lambda: by_hand(
        {"alg": "EdDSA", "kid": "ed"},
        ED25519.sign,
        {**USUAL, "iat": 0, "nbf": 0, "exp": 4102444800, "sub": 1},
    ),
    "a subject with a space": lambda: signed(sub="cus 1"),
    "a subject that is a card number": lambda: signed(sub="4242424242424242"),
    "a subject that is too long": lambda: signed(sub="x" * 257),
    "no role": lambda: signed(role=None),
    "an unknown role": lambda: signed(role="admin"),
    "several roles": lambda: signed(role=["customer", "operations"]),
    "a role in other letters": lambda: signed(role="Operations"),
    "the order service's name in another role": lambda: signed(sub="order-service"),
    "the order service's role under another name": lambda: signed(role="order_service"),
    # What it is made of.
    "claims that are a list": lambda: by_hand({"alg": "EdDSA", "kid": "ed"}, ED25519.sign, [1]),
    "claims that are no JSON": lambda: by_hand(
        {"alg": "EdDSA", "kid": "ed"}, ED25519.sign, b"\xff{"
    ),
    "a header that is a list": lambda: by_hand([1], ED25519.sign),
    "a header that is too deep": lambda: f"{encoded(b'[' * 5000)}.{encoded({})}.{encoded(b'')}",
    "a number that is too long": lambda: f"{encoded(b'9' * 5000)}.{encoded({})}.{encoded(b'')}",
}


@pytest.mark.requirement("FR-304")
class TestATokenThatIsWrong:
    @pytest.mark.parametrize("token", WRONG.values(), ids=list(WRONG))
    def test_threat_03_counts_for_nothing(self, token: Callable[[], str]) -> None:
        with pytest.raises(TokenRefused):
            verify(token())

    def test_threat_03_is_the_one_fault_of_each_of_these(self) -> None:
        """Put together by hand, but with nothing wrong in it, it counts."""
        assert verify(by_hand({"alg": "EdDSA", "kid": "ed"}, ED25519.sign)).id == "cus_1"

    def test_threat_03_in_one_character_of_it(self) -> None:
        token = signed()
        for place, character in enumerate(token):
            other = next(c for c in string.ascii_letters if c != character)
            changed = f"{token[:place]}{other}{token[place + 1 :]}"
            # The last character of a part has bits that stand for nothing.
            if not _says_the_same(changed, token):
                with pytest.raises(TokenRefused):
                    verify(changed)

    @given(st.text(alphabet=string.ascii_letters + string.digits + "-_.=", max_size=300))
    def test_threat_03_is_refused_whatever_it_is(self, text: str) -> None:
        with pytest.raises(TokenRefused):
            verify(text)

    @given(st.binary(max_size=200), st.binary(max_size=200))
    def test_threat_03_is_refused_whatever_its_parts_are(self, header: bytes, rest: bytes) -> None:
        with pytest.raises(TokenRefused):
            verify(f"{encoded(header)}.{encoded(rest)}.{encoded(rest)}")

    def test_shows_none_of_it_in_the_reason(self) -> None:
        for token in (signed(sub="secret one"), signed(kid="secret"), signed(role="secret")):
            with pytest.raises(TokenRefused) as refused:
                verify(token)
            assert "secret" not in str(refused.value)


def _says_the_same(token: str, other: str) -> bool:
    return [_decoded(part) for part in token.split(".")] == [
        _decoded(part) for part in other.split(".")
    ]


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
