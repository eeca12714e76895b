"""Throw-away certificates and tokens: a certificate authority and an issuer that last a demo."""

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LIFETIME: Final = timedelta(days=30)
LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
ISSUER: Final = "checkout-demo"
AUDIENCES: Final = ("order-service", "payment-service")
TOKEN_MINUTES: Final = 60

# A clock that is a little behind still accepts what was made just now.
_BEFORE: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, as the bytes of PEM files."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority. Its key is in no file and ends with it."""

    def __init__(self, name: str = "Checkout demo CA") -> None:
        self._key = generate_private_key(SECP256R1())
        self._name = _named(name)
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.certificate = own.public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str,
        *,
        hosts: Iterable[str] = (),
        uris: Iterable[str] = (),
        ends_in: timedelta = LIFETIME,
    ) -> Identity:
        """Certify a new key for a server at these hosts, a client of these URIs, or both."""
        key = generate_private_key(SECP256R1())
        names = [*map(_host, hosts), *map(x509.UniformResourceIdentifier, uris)]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(_named(name), self._name, key.public_key(), ends_in=ends_in)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(certificate.public_bytes(Encoding.PEM), _pem(key))


class TokenIssuer:
    """Signs tokens with a key of its own, and publishes what verifies them."""

    def __init__(self, key: bytes | None = None, *, kid: str = "demo-1") -> None:
        """Take a key as the bytes of a PEM file, or make a new one."""
        found = load_pem_private_key(key, password=None) if key else Ed25519PrivateKey.generate()
        assert isinstance(found, Ed25519PrivateKey)
        self._key = found
        self.kid = kid

    @property
    def key(self) -> bytes:
        """The private key, as the bytes of a PEM file."""
        return _pem(self._key)

    @property
    def public_key(self) -> Ed25519PublicKey:
        """What verifies its tokens."""
        return self._key.public_key()

    def key_set(self) -> str:
        """Return the JSON Web Key Set of the public key."""
        public = jwt.algorithms.OKPAlgorithm.to_jwk(self.public_key, as_dict=True)
        entry = {**public, "kid": self.kid, "use": "sig", "alg": "EdDSA"}
        return json.dumps({"keys": [entry]}, indent=2) + "\n"

    def token(self, role: str, actor: str, *, minutes: float = TOKEN_MINUTES, **claims: Any) -> str:
        """Sign a token for the principal; `claims` are added to the usual ones or replace them."""
        now = datetime.now(UTC)
        usual = {
            "iss": ISSUER,
            "aud": list(AUDIENCES),
            "sub": actor,
            "role": role,
            "iat": now,
            "nbf": now,
            "exp": now + timedelta(minutes=minutes),
        }
        return jwt.encode(
            {**usual, **claims}, self._key, algorithm="EdDSA", headers={"kid": self.kid}
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Any, *, ends_in: timedelta = LIFETIME
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(now + ends_in)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
