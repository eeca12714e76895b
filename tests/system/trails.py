"""The audit trails of a running checkout, and what anybody could do to them by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import grpc

import order_service.storage.tables
import payment_service.storage.tables
from checkout.order.v1 import order_pb2
from service_kit.audit.chain import ChainKey
from service_kit.audit.damage import Damage
from service_kit.audit.history import Histories, History
from service_kit.audit.tables import Trail
from service_kit.audit.verify import Verification, verify
from service_kit.database import Database
from service_kit.secrets import SecretKey
from tests.assertions import refused
from tests.builders import money
from tests.checkout import SECRET, Checkout
from tests.system.planting import Books, update

SECRET_KEY: Final = SecretKey(SECRET.encode())
TRAILS: Final = (order_service.storage.tables.TRAIL, payment_service.storage.tables.TRAIL)


@dataclass(frozen=True)
class Audited:
    """One of the two trails of a checkout."""

    trail: Trail
    database: Database
    change: Callable[..., None]

    @property
    def key(self) -> ChainKey:
        """The key of its service."""
        return ChainKey.of(self.trail.service, SECRET_KEY)

    def run(self, statement: str, **values: Any) -> None:
        """Execute SQL past all that guards the trail; {entries}, {actors} and so on are tables."""
        names = {
            "entries": f"{self.trail.prefix}_entries",
            "actors": f"{self.trail.prefix}_actors",
            "notes": f"{self.trail.prefix}_anonymisations",
            "heads": self.trail.heads,
            "head_id": self.trail.head_id,
        }
        self.change(statement.format(**names), **values)

    def alter(
        self,
        order: order_pb2.Order,
        position: int,
        change: str,
        *,
        table: str = "{entries}",
        **values: Any,
    ) -> None:
        """Change columns of an entry, or of what stands beside it."""
        where = "order_id = :id AND position = :place"
        self.run(update(table, change, where), id=order.id, place=position, **values)

    def swap(self, order: order_pb2.Order, one: int, other: int, *, table: str) -> None:
        """Have two rows of an order change their places."""
        for before, after in ((one, 99), (other, one), (99, other)):
            self.alter(order, before, "position = :after", table=table, after=after)

    def history(self, order: order_pb2.Order) -> History:
        """Read an order's history as it is stored."""
        return Histories(self.database, self.trail).of(order.id)

    def verify(self, order: order_pb2.Order | None = None, **options: Any) -> Verification:
        """Verify the trail, or one order's part of it."""
        subject = order.id if order else ""
        return verify(self.database, self.trail, self.key, subject=subject, **options)

    def damage(self, order: order_pb2.Order) -> Damage | None:
        """Verify one order, and return what was done to it."""
        damages = self.verify(order).damages
        return damages[0] if damages else None

    def told(self, order: order_pb2.Order) -> tuple[int, str]:
        """Return which entry of an order was damaged first, and how."""
        damage = self.damage(order)
        assert damage is not None, "nothing was found"
        assert damage.subject == order.id
        return damage.position, damage.what


def audited(checkout: Checkout, books: Books, trail: Trail) -> Audited:
    """Return one of the trails of a checkout without guards."""
    if trail.service == "order-service":
        return Audited(trail, checkout.order_database, books.orders)
    return Audited(trail, checkout.payment_database, books.payments)


def with_four_entries(checkout: Checkout) -> order_pb2.Order:
    """An order with four entries in each service: paid, given back in part, and refused."""
    order = checkout.refund(checkout.paid(), money(1000))
    with refused(grpc.StatusCode.FAILED_PRECONDITION, "INVALID_TRANSITION"):
        checkout.cancel(order)
    return order
