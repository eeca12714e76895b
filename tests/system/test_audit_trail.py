"""Whatever is done to the audit trail by hand is found, in both services and databases."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc
import pytest
import sqlalchemy as sa

from checkout.order.v1 import order_pb2
from service_kit.audit.damage import ADDED, CHANGED, CUT, REMOVED, REORDERED
from service_kit.audit.tables import Trail
from tests.builders import money
from tests.checkout import Checkout
from tests.client import ALICE, OPERATIONS
from tests.system.checkouts import BOTH, Checkouts
from tests.system.planting import Books, update
from tests.system.stages import ORDER_IN
from tests.system.trails import TRAILS, Audited, audited, with_four_entries

SERVICES: Final = [trail.service for trail in TRAILS]
ENTRIES: Final = 4


@pytest.fixture(scope="module")
def checkout(each_checkout: Checkout) -> Checkout:
    """Checkouts on each database."""
    return each_checkout


@pytest.fixture(scope="module")
def books(checkout: Checkout) -> Books:
    """Their books, which anything can be written into."""
    return Books(checkout)


@pytest.fixture(params=TRAILS, ids=SERVICES)
def trail(request: pytest.FixtureRequest, checkout: Checkout, books: Books) -> Audited:
    """Each trail of each."""
    return audited(checkout, books, request.param)


@dataclass(frozen=True)
class Loose:
    """A trail on SQLite, which takes any value into any column."""

    checkout: Checkout
    trail: Audited

    def orders(self) -> tuple[order_pb2.Order, order_pb2.Order]:
        """One order to be damaged, and a later one that is damaged already."""
        order, other = with_four_entries(self.checkout), with_four_entries(self.checkout)
        self.trail.alter(other, 2, "reason = 'x'")
        return order, other

    def damaged(self) -> set[str]:
        """Name all that is damaged, found page by page."""
        return {damage.subject for damage in self.trail.verify(batch=1).damages}


def columns_of(trail: Trail) -> Sequence[str]:
    """List what an entry tells, without the order that it is of."""
    return [name for name in trail.facts if name not in {"order_id", "position"}]


@pytest.mark.requirement("FR-331")
class TestATrailThatNobodyTouched:
    @pytest.mark.parametrize("database", BOTH)
    def test_is_sound_in_every_status(self, checkouts: Checkouts, database: str) -> None:
        with checkouts.running(database) as checkout:
            orders = [make(checkout) for make in ORDER_IN.values()]
            orders.append(with_four_entries(checkout))
            books = Books(checkout)
            for trail in TRAILS:
                found = audited(checkout, books, trail).verify(batch=2)
                assert (found.is_sound, found.damages) == (True, [])
                assert found.histories <= len(orders)
            for order in orders:
                history = audited(checkout, books, TRAILS[0]).history(order)
                assert history.head is not None
                assert history.head.count == len(history.entries) == len(checkout.events(order.id))

    def test_is_sound_after_many_at_once(self, checkout: Checkout, trail: Audited) -> None:
        """Entries of one order are chained under its lock: no two follow the same one."""
        order = checkout.paid()

        def step(number: int) -> None:
            with suppress(grpc.RpcError):
                if number % 2:
                    checkout.refund(order, money(1))
                else:
                    checkout.orders().CancelOrder(order_id=order.id)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(step, range(32)))
        assert trail.damage(order) is None
        positions = [entry.position for entry in trail.history(order).entries]
        assert positions == list(range(1, len(positions) + 1))

    def test_says_who_acted_beside_the_entries_alone(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        order = with_four_entries(checkout)
        for entry in trail.history(order).entries:
            assert entry.actor is not None
            assert entry.actor.id in {ALICE.id, OPERATIONS.id, "order-service"}
            told = str(entry.facts)
            assert not any(who in told for who in (ALICE.id, OPERATIONS.id, "order-service"))

    def test_of_an_order_with_an_unknown_payment_begins_empty(
        self, checkout: Checkout, books: Books
    ) -> None:
        """The row that is locked may be there before the first entry."""
        payments = audited(checkout, books, TRAILS[1])
        first, second = checkout.place(), checkout.place()
        client = checkout.payments(ALICE)
        client.ProcessPayment(
            payment_ticket=first.payment_ticket, payment_token="tok_visa", idempotency_key="k-1-x"
        )
        with suppress(grpc.RpcError):
            client.ProcessPayment(
                payment_ticket=second.payment_ticket,
                payment_token="tok_visa",
                idempotency_key="k-1-x",
            )
        assert payments.damage(first) is None
        assert payments.damage(second) is None


@pytest.mark.requirement("FR-332")
class TestAnEntryThatWasChanged:
    @pytest.mark.parametrize("service", TRAILS, ids=SERVICES)
    def test_is_named_whatever_was_changed(
        self, checkout: Checkout, books: Books, service: Trail
    ) -> None:
        trail = audited(checkout, books, service)
        for column in columns_of(service):
            order = with_four_entries(checkout)
            value = "'2026-01-01 00:00:00.000000'" if column == "at" else "'other'"
            trail.alter(order, 2, f"{column} = {value}")
            assert trail.told(order) == (2, CHANGED), column

    @pytest.mark.parametrize("position", range(1, ENTRIES + 1))
    def test_is_named_wherever_it_stands(
        self, checkout: Checkout, trail: Audited, position: int
    ) -> None:
        order = with_four_entries(checkout)
        trail.alter(order, position, "reason = 'x'")
        assert trail.told(order) == (position, CHANGED)

    @pytest.mark.parametrize("change", ["seal = :seal", "seal_version = 2", "position = 77"])
    def test_is_named_if_only_its_seal_or_place_was(
        self, checkout: Checkout, trail: Audited, change: str
    ) -> None:
        order = with_four_entries(checkout)
        values: dict[str, Any] = {"seal": bytes(32)} if ":seal" in change else {}
        trail.alter(order, 3, change, **values)
        assert trail.told(order) == (3, CHANGED)

    def test_is_named_before_those_that_were_changed_later(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        order = with_four_entries(checkout)
        trail.run("UPDATE {entries} SET reason = 'x' WHERE order_id = :id", id=order.id)
        assert trail.told(order) == (1, CHANGED)

    def test_is_found_among_all(self, checkout: Checkout, trail: Audited) -> None:
        orders = [with_four_entries(checkout) for _ in range(3)]
        for order in orders[1:]:
            trail.alter(order, 2, "reason = 'x'")
        found = {damage.subject: damage.position for damage in trail.verify(batch=2).damages}
        assert orders[0].id not in found
        assert (found[orders[1].id], found[orders[2].id]) == (2, 2)


@pytest.mark.requirement("FR-333")
class TestAnEntryThatWasRemoved:
    @pytest.mark.parametrize("position", range(1, ENTRIES + 1))
    def test_is_named(self, checkout: Checkout, trail: Audited, position: int) -> None:
        order = with_four_entries(checkout)
        trail.run(
            "DELETE FROM {entries} WHERE order_id = :id AND position = :n",
            id=order.id,
            n=position,
        )
        assert trail.told(order) == (position, REMOVED)

    def test_is_named_if_the_rest_closed_up(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        trail.run("DELETE FROM {entries} WHERE order_id = :id AND position = 2", id=order.id)
        for position in (3, 4):
            trail.alter(order, position, "position = position - 1")
        assert trail.told(order) == (2, REMOVED)

    def test_at_the_end_is_found_if_the_count_says_nothing(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        order = with_four_entries(checkout)
        trail.run("DELETE FROM {entries} WHERE order_id = :id AND position = 4", id=order.id)
        trail.run("UPDATE {heads} SET audit_count = 3 WHERE {head_id} = :id", id=order.id)
        assert trail.told(order) == (4, CUT)

    def test_at_the_end_is_found_whatever_the_head_is_made_of(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        """What the database holds is not enough to make the head of a shorter history."""
        order = with_four_entries(checkout)
        history = trail.history(order)
        trail.run("DELETE FROM {entries} WHERE order_id = :id AND position = 4", id=order.id)
        assert history.head is not None
        for seal in (history.head.seal, *(entry.seal for entry in history.entries)):
            trail.run(
                "UPDATE {heads} SET audit_count = 3, audit_head = :seal WHERE {head_id} = :id",
                id=order.id,
                seal=seal,
            )
            assert trail.told(order) == (4, CUT)

    def test_with_all_others_is_found(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        trail.run("DELETE FROM {entries} WHERE order_id = :id", id=order.id)
        trail.run("DELETE FROM {actors} WHERE order_id = :id", id=order.id)
        assert trail.told(order) == (1, REMOVED)
        trail.run("UPDATE {heads} SET audit_count = 0 WHERE {head_id} = :id", id=order.id)
        assert trail.told(order) == (1, CUT)

    def test_is_found_by_what_is_left_of_its_order(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        gone, left = with_four_entries(checkout), with_four_entries(checkout)
        for order in (gone, left):
            trail.run("DELETE FROM {heads} WHERE {head_id} = :id", id=order.id)
        trail.run("DELETE FROM {entries} WHERE order_id = :id", id=gone.id)
        found = {damage.subject: damage for damage in trail.verify().damages}
        assert (found[gone.id].position, found[gone.id].what) == (1, REMOVED)
        assert (found[left.id].position, found[left.id].what) == (5, REMOVED)


@pytest.mark.requirement("FR-334")
class TestAnEntryThatWasAdded:
    def add(self, trail: Audited, order_id: str, source: int, place: int) -> None:
        facts = ", ".join(columns_of(trail.trail))
        copied = "INSERT INTO {{entries}} (order_id, position, seal_version, seal, {0})"
        copied += " SELECT order_id, :place, seal_version, seal, {0} FROM {{entries}}"
        copied += " WHERE order_id = :id AND position = :source"
        trail.run(copied.format(facts), id=order_id, source=source, place=place)

    def test_at_the_end_is_named(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        self.add(trail, order.id, 2, 5)
        assert trail.told(order) == (5, ADDED)

    def test_at_the_end_is_named_if_it_was_counted(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        order = with_four_entries(checkout)
        self.add(trail, order.id, 4, 5)
        trail.run("UPDATE {heads} SET audit_count = 5 WHERE {head_id} = :id", id=order.id)
        assert trail.told(order) == (5, ADDED)

    def test_in_place_of_another_is_found(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        trail.run("DELETE FROM {entries} WHERE order_id = :id AND position = 4", id=order.id)
        self.add(trail, order.id, 2, 4)
        assert trail.told(order) == (4, CHANGED)

    def test_in_the_middle_is_named(self, checkouts: Checkouts, trail: Audited) -> None:
        """Its number is the highest, so it is given one that was never handed out."""
        with checkouts.running("sqlite") as checkout:
            books = Books(checkout)
            trail = audited(checkout, books, trail.trail)
            order = with_four_entries(checkout)
            self.add(trail, order.id, 1, 9)
            for before, after in ((4, 5), (3, 4), (9, 3)):
                change = "position = :after, sequence = sequence + 100 * :after"
                trail.alter(order, before, change, after=after)
            trail.run("UPDATE {heads} SET audit_count = 5 WHERE {head_id} = :id", id=order.id)
            assert trail.told(order) == (3, ADDED)

    def test_from_another_order_is_named_and_missed_there(
        self, checkout: Checkout, trail: Audited
    ) -> None:
        one, other = with_four_entries(checkout), with_four_entries(checkout)
        trail.run(
            "UPDATE {entries} SET order_id = :other, position = 5"
            " WHERE order_id = :one AND position = 2",
            one=one.id,
            other=other.id,
        )
        assert trail.told(one) == (2, REMOVED)
        # By its number it stands before what was written in the other order.
        assert trail.told(other) == (1, ADDED)

    @pytest.mark.parametrize("name", ["", "\t"])
    def test_is_named_whatever_it_is_called(
        self, checkout: Checkout, trail: Audited, name: str
    ) -> None:
        """Also before the first name that any order has."""
        order = with_four_entries(checkout)
        self.add(trail, order.id, 1, 77)
        trail.run(
            "UPDATE {entries} SET order_id = :name WHERE order_id = :id AND position = 77",
            name=name,
            id=order.id,
        )
        assert name in {damage.subject for damage in trail.verify(batch=2).damages}
        trail.run("DELETE FROM {entries} WHERE order_id = :name", name=name)


@pytest.mark.requirement("FR-335")
class TestEntriesThatWereReordered:
    def test_by_their_places_are_named(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        trail.swap(order, 2, 3, table="{entries}")
        assert trail.told(order) == (2, REORDERED)

    def test_by_their_numbers_are_named(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        one, other = (trail.history(order).entries[n].sequence for n in (2, 3))
        if not trail.database.is_sqlite:
            table = f"{trail.trail.prefix}_entries"
            with trail.database.engine.begin() as connection:
                connection.execute(
                    sa.text(f"ALTER TABLE {table} ALTER sequence SET GENERATED BY DEFAULT")
                )
        for before, after in ((one, 10**9), (other, one), (10**9, other)):
            trail.run(
                "UPDATE {entries} SET sequence = :after WHERE sequence = :n", n=before, after=after
            )
        assert trail.told(order) == (3, REORDERED)

    def test_by_what_they_tell_are_named(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        entries = trail.history(order).entries
        columns = columns_of(trail.trail)
        for here, there in ((1, 2), (2, 1)):
            told: dict[str, Any] = {name: entries[there].facts[name] for name in columns}
            if trail.database.is_sqlite:
                told["at"] = entries[there].at.strftime("%Y-%m-%d %H:%M:%S.%f")
            change = ", ".join(f"{name} = :{name}" for name in columns)
            trail.alter(order, here + 1, change, **told)
        assert trail.told(order) == (2, REORDERED)


@pytest.mark.requirement("FR-332", "FR-333", "FR-334")
class TestAValueOfAWrongType:
    """What SQLite takes into any column: it is damage like other damage, and hides none."""

    @pytest.fixture(params=TRAILS, ids=SERVICES)
    def loose(self, request: pytest.FixtureRequest, checkouts: Checkouts) -> Iterator[Loose]:
        with checkouts.running("sqlite") as checkout:
            yield Loose(checkout, audited(checkout, Books(checkout), request.param))

    @pytest.mark.parametrize(
        "change",
        [
            "seal = 'x'",
            "seal_version = 'x'",
            "position = 'x'",
            "position = 3.5",
            "at = 'yesterday'",
            "at = x'00'",
            "at = 7",
            "at = '0001-01-01T00:00:00+23:59'",
            "reason = x'00'",
            "reason = CAST(x'ff' AS TEXT)",
            "event_type = CAST(event_type AS BLOB)",
        ],
    )
    def test_does_not_fit_the_seal(self, loose: Loose, change: str) -> None:
        order, other = loose.orders()
        loose.trail.alter(order, 3, change)
        assert loose.trail.told(order) == (3, CHANGED)
        assert loose.damaged() == {order.id, other.id}

    @pytest.mark.parametrize(
        "change",
        ["salt = 'x'", "actor_id = x'00'", "on_behalf_of = 7.5", "actor_id = CAST(x'ff' AS TEXT)"],
    )
    def test_is_not_who_acted(self, loose: Loose, change: str) -> None:
        order, other = loose.orders()
        loose.trail.alter(order, 3, change, table="{actors}")
        assert loose.trail.told(order) == (3, CHANGED)
        assert loose.damaged() == {order.id, other.id}

    @pytest.mark.parametrize("change", ["audit_head = 'x'", "audit_count = 'x'"])
    def test_is_no_head(self, loose: Loose, change: str) -> None:
        order, other = loose.orders()
        loose.trail.run(update("{heads}", change, "{head_id} = :id"), id=order.id)
        assert loose.trail.told(order) == (5, CUT)
        assert loose.damaged() == {order.id, other.id}

    @pytest.mark.parametrize(
        ("at", "seal"), [("yesterday", bytes(32)), ("2026-01-01 00:00:00.000000", "x")]
    )
    def test_is_a_note_that_was_forged(self, loose: Loose, at: str, seal: object) -> None:
        _, other = loose.orders()
        loose.trail.run(
            "INSERT INTO {notes} (at, acted_before, seal) VALUES (:at, :at, :seal)",
            at=at,
            seal=seal,
        )
        found = loose.trail.verify()
        assert (found.forged_notes, [d.subject for d in found.damages]) == (1, [other.id])

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("x'6f72'", "x'6f72'"), ("CAST(x'ff41' AS TEXT)", "x'ff41'"), ("x'ff41'", "x'ff41'")],
    )
    def test_names_no_order(self, loose: Loose, name: str, shown: str) -> None:
        order, other = loose.orders()
        loose.trail.alter(order, 2, f"order_id = {name}")
        assert loose.damaged() == {order.id, other.id, shown}
        assert loose.trail.told(order) == (2, REMOVED)


@pytest.mark.requirement("FR-332")
def test_a_moment_that_only_postgresql_knows_is_damage_too(
    checkouts: Checkouts,
) -> None:
    with checkouts.running("postgresql") as checkout:
        order = with_four_entries(checkout)
        trail = audited(checkout, Books(checkout), TRAILS[0])
        trail.alter(order, 3, "at = 'infinity'")
        assert trail.told(order) == (3, CHANGED)


@pytest.mark.requirement("FR-336")
class TestWhoActed:
    @pytest.mark.parametrize("change", ["actor_id = 'mallory'", "on_behalf_of = 'mallory'"])
    def test_cannot_be_somebody_else(self, checkout: Checkout, trail: Audited, change: str) -> None:
        order = with_four_entries(checkout)
        trail.alter(order, 3, change, table="{actors}")
        damage = trail.damage(order)
        assert damage is not None
        assert (damage.position, damage.what) == (3, CHANGED)
        assert "not written for the actor beside it" in str(damage)

    def test_cannot_be_swapped(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        trail.swap(order, 2, 3, table="{actors}")
        assert trail.told(order) == (2, CHANGED)

    def test_cannot_be_forgotten_too_early(self, checkout: Checkout, trail: Audited) -> None:
        order = with_four_entries(checkout)
        trail.run("DELETE FROM {actors} WHERE order_id = :id AND position = 2", id=order.id)
        damage = trail.damage(order)
        assert damage is not None
        assert (damage.position, damage.what) == (2, CHANGED)
        assert "does not say any more who acted" in str(damage)
