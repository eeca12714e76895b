"""What a service has said so far, to be sent back to it: ids, tokens, tickets, keys."""

from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

# Enough to meet again what was changed before, and no more than memory has for it.
_KEPT: Final = 200

# Where what comes under one name goes under another.
_GOES_TO: Final = {
    "ord_": ("order_id",),
    "pay_": ("payment_id", "transaction_id"),
}
_ALIKE: Final = {"next_page_token": "page_token", "payment_transaction_id": "transaction_id"}


class Known(Mapping[str, Sequence[str]]):
    """Texts by the name of the request field that takes them."""

    def __init__(self) -> None:
        self._texts: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=_KEPT))
        self.learn("payment_token", "tok_visa", "tok_chargeDeclined", "tok_timeoutAfterCharge")
        self.learn("payment_token", "tok_timeoutBeforeCharge", "tok_refundFail", "tok_unheardOf")
        self.learn("customer_id", "", "", "fuzz-0", "fuzz-1")
        self.learn("currency_code", "EUR", "EUR", "EUR", "JPY", "KWD")
        self.learn("sku", "MUG-1", "TEE-M")
        self.learn("name", "Mug", "T-shirt, M")
        self.learn("etag", "", "", "", "1", "2")
        self.learn("page_token", "")

    def __getitem__(self, name: str) -> Sequence[str]:
        return tuple(self._texts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._texts))

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, name: str, default: Any = None) -> Any:
        """Look a name up without making a place for it."""
        return tuple(self._texts[name]) if name in self._texts else default

    def learn(self, name: str, *texts: str) -> None:
        """Keep texts under a name."""
        self._texts[name].extend(texts)

    def read(self, message: Any) -> None:
        """Keep what a message says."""
        for field, value in message.ListFields():
            if field.message_type is not None:
                for inner in value if field.is_repeated else (value,):
                    self.read(inner)
            elif field.type == FieldDescriptor.TYPE_STRING and field.name != "etag":
                # Most changes are to be made whatever the etag is by now.
                self._keep(field.name, value)

    def _keep(self, name: str, text: str) -> None:
        names = next((to for prefix, to in _GOES_TO.items() if text.startswith(prefix)), (name,))
        for known in names:
            self.learn(_ALIKE.get(known, known), text)
