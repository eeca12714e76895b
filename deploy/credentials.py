"""python -m deploy.credentials: throw-away certificates and tokens, to try both services secured.

`certs` makes everything anew in a folder; what was made before counts no more once the services
are started again. `token` signs one for a caller. Nothing here is for production, where your
own authority and your own issuer take its place.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from deploy.authority import ISSUER, LOOPBACK_HOSTS, TOKEN_MINUTES, Authority, TokenIssuer
from service_kit.principals import ROLES
from service_kit.secrets import private_folder

FOLDER: Final = Path(".data") / "credentials"

CA: Final = "ca.pem"
SIGNING_KEY: Final = "tokens.key"
KEY_SET: Final = "tokens.jwks.json"
SETTINGS: Final = "settings.env"
# What a client at the edge connects with: the CA, its key, its certificate.
EDGE_FILES: Final = (CA, "edge.key", "edge.pem")

_URIS: Final = "spiffe://checkout.example/"
# Certificates of clients, and whom each stands for. Through the edge come customers and people,
# each with a token.
CLIENTS: Final = {
    "order-service": "order_service:order-service",
    "shop-backend": "service:shop-backend",
    "edge": "token",
}
_SERVERS: Final = ("order-service", "payment-service")


def make(folder: Path) -> Authority:
    """Make the folder's certificates, keys and settings anew; return who signed them."""
    # The data folder above it may hold databases later.
    private_folder(private_folder(folder.parent) / folder.name)
    authority, issuer = Authority(), TokenIssuer()
    for name in sorted({*_SERVERS, *CLIENTS}):
        identity = authority.issue(
            name,
            hosts=LOOPBACK_HOSTS if name in _SERVERS else (),
            uris=[f"{_URIS}{name}"] if name in CLIENTS else (),
        )
        _write(folder / f"{name}.pem", identity.certificate)
        _write(folder / f"{name}.key", identity.key, mode=0o600)
    _write(folder / CA, authority.certificate)
    _write(folder / SIGNING_KEY, issuer.key, mode=0o600)
    _write(folder / KEY_SET, issuer.key_set().encode())
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables(folder).items()]
    _write(folder / SETTINGS, "".join(lines).encode())
    return authority


def variables(folder: Path) -> dict[str, str]:
    """Return the settings with which both services use what is in the folder."""
    folder = folder.resolve()
    clients = ",".join(f"{_URIS}{name}={who}" for name, who in CLIENTS.items())
    found: dict[str, str] = {}
    for service in _SERVERS:
        prefix = service.upper().replace("-", "_")
        found |= {
            f"{prefix}_TLS_CERT_FILE": str(folder / f"{service}.pem"),
            f"{prefix}_TLS_KEY_FILE": str(folder / f"{service}.key"),
            f"{prefix}_TLS_CLIENT_CA_FILE": str(folder / CA),
            f"{prefix}_TLS_CLIENTS": clients,
            f"{prefix}_TOKEN_KEYS_FILE": str(folder / KEY_SET),
            f"{prefix}_TOKEN_ISSUER": ISSUER,
        }
    return found | {
        "ORDER_SERVICE_PAYMENT_CA_FILE": str(folder / CA),
        "ORDER_SERVICE_PAYMENT_CERT_FILE": str(folder / "order-service.pem"),
        "ORDER_SERVICE_PAYMENT_KEY_FILE": str(folder / "order-service.key"),
    }


def token(folder: Path, role: str, actor: str, *, minutes: float = TOKEN_MINUTES) -> str:
    """Sign a token with the folder's key."""
    return TokenIssuer((folder / SIGNING_KEY).read_bytes()).token(role, actor, minutes=minutes)


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    # Made with its mode, so that nobody reads a key in between.
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the files, or print a token. Returns the exit code."""
    options = _parser().parse_args(arguments)
    if options.command == "certs":
        make(options.folder)
        print(f"{options.folder}: certificates and keys for 30 days")
        print(f". {shlex.quote(str(options.folder / SETTINGS))} sets both services up with them")
        return 0
    try:
        print(token(options.folder, options.role, options.actor, minutes=options.minutes))
    except FileNotFoundError as error:
        sys.stderr.write(f"{error.filename} is missing; first run: make certs\n")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.credentials",
        description="Throw-away certificates and tokens, to try both services secured.",
    )
    commands = parser.add_subparsers(required=True, dest="command")
    certs = commands.add_parser("certs", help="make certificates and keys anew")
    sign = commands.add_parser("token", help="print a token for a caller")
    sign.add_argument("role", choices=ROLES)
    sign.add_argument("actor", metavar="id", help="the caller's id, say alice")
    sign.add_argument("--minutes", type=float, default=TOKEN_MINUTES, help="how long it counts")
    for command in (certs, sign):
        command.add_argument("--folder", type=Path, default=FOLDER)
    return parser


if __name__ == "__main__":
    sys.exit(main())
