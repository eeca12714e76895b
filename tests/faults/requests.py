"""A request to either service, as data: it can be sent again, and changed a little."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from checkout.money.v1 import money_pb2
from tests.builders import new_order_items
from tests.checkout import Checkout
from tests.client import Caller
from tests.system.simultaneously import Outcome, outcome_of

CURRENCY: Final = "EUR"
# Of these the payment service is asked.
OF_PAYMENTS: Final = ("ProcessPayment",)


@dataclass(frozen=True)
class Request:
    """What is asked, by whom, under which key. Fields that the RPC does not have stay empty."""

    rpc: str
    caller: Caller
    key: str
    order_id: str = ""
    token: str = ""
    etag: str = ""
    payment_id: str = ""
    # Of a refund, in minor units; None: all that is left.
    amount: int | None = None
    currency: str = CURRENCY
    # Of a new order.
    total: int = 0
    customer_id: str = ""

    @property
    def scope(self) -> tuple[str, str, str]:
        """Whose key it is."""
        return self.caller.role, self.caller.id, self.key

    @property
    def what(self) -> Mapping[str, Any]:
        """What is asked for, without who asks and under which key."""
        return {
            "rpc": self.rpc,
            **{
                name: getattr(self, name)
                for name in ("order_id", "token", "etag", "payment_id", "amount", "total")
            },
            "currency": self.currency if self.amount is not None else "",
            # A customer may leave their own name away.
            "customer_id": self.customer_id or self.caller.id if self.total else "",
        }

    def fields(self, ticket: str) -> dict[str, Any]:
        """Return the fields of its message; `ticket` is the order's."""
        common = {"idempotency_key": self.key}
        match self.rpc:
            case "CreateOrder":
                items = new_order_items(self.total)
                return {**common, "items": items, "customer_id": self.customer_id}
            case "ProcessPayment":
                return {**common, "payment_ticket": ticket, "payment_token": self.token}
            case _:
                return {**common, **self._change_fields()}

    def _change_fields(self) -> dict[str, Any]:
        change = {"order_id": self.order_id, "etag": self.etag}
        match self.rpc:
            case "PayOrder":
                return {**change, "payment_token": self.token}
            case "MarkOrderPaid":
                return {**change, "transaction_id": self.payment_id}
            case "RefundOrder" if self.amount is not None:
                amount = money_pb2.Money(currency_code=self.currency, minor_units=self.amount)
                return {**change, "amount": amount}
            case _:
                return change

    def send(self, checkout: Checkout, ticket: str, **wrong: Any) -> Outcome:
        """Send it, with some fields changed, and return what came."""
        client = (
            checkout.payments(self.caller)
            if self.rpc in OF_PAYMENTS
            else checkout.orders(self.caller)
        )
        fields = {**self.fields(ticket), **wrong}
        return outcome_of(lambda: client.answer(self.rpc, **fields))
