"""Defences of docs/security.md, and how each is taken out of the source."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Takeout:
    """A threat's number, and what is replaced where so that nothing stands in its way."""

    threat: int
    file: str
    defence: str
    instead: str


TAKEOUTS: Final = (
    Takeout(
        1,
        "service_kit/server.py",
        "if not insecure and credentials is None and not is_loopback(host):",
        "if False:",
    ),
    Takeout(
        2,
        "service_kit/credentials/callers.py",
        "            if listed is None:\n",
        "            if not uris:\n",
    ),
    Takeout(
        3,
        "service_kit/credentials/tokens.py",
        '    "verify_exp": False,\n',
        '    "verify_exp": False,\n    "verify_aud": False,\n',
    ),
    Takeout(
        4,
        "service_kit/credentials/callers.py",
        "        certified: Principal | None = None\n",
        '        if "x-actor-id" in metadata:\n'
        "            return principal_of(metadata)\n"
        "        certified: Principal | None = None\n",
    ),
    Takeout(
        5,
        "order_service/application/once.py",
        "    if order is None or hidden:\n",
        "    if order is None or (hidden and False):\n",
    ),
    Takeout(
        6,
        "service_kit/interceptors/calls.py",
        "if call.principal.role not in contract.roles:",
        "if not contract.roles:",
    ),
    Takeout(
        7,
        "service_kit/interceptors/requests.py",
        "if card_data.may_be_in(body) and (fields := card_data.find(request)):",
        "if fields := card_data.find(type(request)()):",
    ),
    Takeout(
        8,
        "service_kit/interceptors/requests.py",
        "if len(body) > REQUEST_BYTES_MAX:",
        "if len(body) > 2 * REQUEST_BYTES_MAX:",
    ),
    Takeout(
        9,
        "order_service/rpc/codec.py",
        "    if not 1 <= total <= TOTAL_MAX:\n",
        "    if total < 1:\n",
    ),
    Takeout(
        10,
        "service_kit/places.py",
        "            return False\n",
        "            return True\n",
    ),
    Takeout(
        11,
        "service_kit/paging.py",
        "if not hmac.compare_digest(mac, self._mac(scope, body)):",
        "if not mac:",
    ),
    Takeout(
        12,
        "service_kit/tracing.py",
        "if _HEX_32.fullmatch(given) and not _is_zero(given):",
        "if given:",
    ),
    Takeout(
        14,
        "service_kit/error_table.py",
        '        message="internal error",\n',
        '        message=repr(__import__("sys").exception()),\n',
    ),
    Takeout(
        15,
        "service_kit/settings.py",
        'return is_loopback(self.host) if self.reflection == "auto" else self.reflection',
        "return True",
    ),
    Takeout(
        16,
        "service_kit/secrets.py",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)",
        "os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)",
    ),
    Takeout(
        17,
        "order_service/rpc/codec.py",
        "caller=call.principal.id,",
        'caller="anybody",',
    ),
    Takeout(
        18,
        "service_kit/idempotency/redis_memory.py",
        "if not hmac.compare_digest(mac, self._mac(request, content)):",
        "if not mac:",
    ),
    Takeout(
        19,
        "service_kit/audit/damage.py",
        "return entry.version == VERSION and entry.seal == self._seal_at(entry, end)",
        "return entry.version == VERSION and entry.position == end.count + 1",
    ),
)
