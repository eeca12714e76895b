"""Who owns a keyed request, in every case, on both databases."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.database import Database
from service_kit.errors import ConcurrentUpdate, IdempotencyKeyReused, RequestInProgress
from service_kit.idempotency.keys import (
    LEASE,
    RETENTION_MIN,
    Claim,
    IdempotencyKeys,
    KeyStatements,
    idempotency_keys_table,
)
from service_kit.idempotency.record import DATABASE, KeyedRequest, Reply
from tests.integration.service_kit.conftest import OpenDatabase, prepared

T = TypeVar("T")

metadata = sa.MetaData()
table = idempotency_keys_table(metadata)
statements = KeyStatements(table)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)

REQUEST = KeyedRequest(
    role="customer", caller="cus_1", key="key_1", method="PayOrder", fingerprint=b"\x01" * 32
)
OTHER_FIELDS = replace(REQUEST, fingerprint=b"\x02" * 32)
PAID = Reply(ok=True, body=b"\x00 paid \xff")
DECLINED = Reply(ok=False, body=b"declined")


class Rows:
    """The key rows, each step in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def within(self, work: Callable[[IdempotencyKeys], T]) -> T:
        return self.database.transact(
            lambda connection: work(IdempotencyKeys(connection, statements))
        )

    def claim(
        self, request: KeyedRequest = REQUEST, *, owner: str = "run_1", now: datetime = NOW
    ) -> Claim:
        return self.within(lambda keys: keys.claim(request, owner_id=owner, now=now))

    def finish(self, reply: Reply, *, now: datetime = NOW) -> None:
        self.within(lambda keys: keys.finish(REQUEST, reply, now=now))

    def record_operation(self, operation_id: str | None) -> None:
        self.within(lambda keys: keys.record_operation(REQUEST, operation_id))

    def release(self, *, now: datetime = NOW) -> None:
        self.within(lambda keys: keys.release(REQUEST, now=now))

    def stored(self) -> Any:
        return self.database.read(lambda connection: connection.execute(sa.select(table)).one())


@pytest.fixture
def rows(database_url: str, open_database: OpenDatabase) -> Rows:
    return Rows(prepared(open_database(database_url), metadata))


@pytest.fixture
def postgres_rows(module_postgres_url: str, open_database: OpenDatabase) -> Rows:
    return Rows(prepared(open_database(module_postgres_url), metadata))


@pytest.mark.requirement("FR-205")
class TestTheFirstCall:
    def test_executes(self, rows: Rows) -> None:
        assert rows.claim() == Claim(reply=None, operation_id=None)

    def test_writes_down_whose_key_it_is_and_until_when(self, rows: Rows) -> None:
        rows.claim()

        row = rows.stored()
        assert (row.caller_role, row.caller, row.idempotency_key) == ("customer", "cus_1", "key_1")
        assert (row.method, row.fingerprint) == ("PayOrder", REQUEST.fingerprint)
        assert (row.owner_id, row.lease_until, row.used_at) == ("run_1", NOW + LEASE, NOW)
        assert (row.operation_id, row.reply, row.replied_at) == (None, None, None)

    def test_leaves_no_row_when_its_transaction_does_not_commit(self, rows: Rows) -> None:
        def work(keys: IdempotencyKeys) -> None:
            keys.claim(REQUEST, owner_id="run_1", now=NOW)
            raise LookupError

        with pytest.raises(LookupError):
            rows.within(work)
        assert rows.claim(OTHER_FIELDS, owner="run_2") == Claim()


@pytest.mark.requirement("FR-205")
class TestARepeatOfAFinishedRequest:
    @pytest.mark.parametrize("reply", [PAID, DECLINED, Reply(ok=True, body=b"")])
    def test_gets_the_stored_reply_byte_for_byte(self, rows: Rows, reply: Reply) -> None:
        rows.claim()
        rows.finish(reply)

        again = rows.claim(owner="run_2", now=NOW + timedelta(hours=23))

        assert again.reply == replace(reply, replayed_from=DATABASE)

    def test_changes_nothing(self, rows: Rows) -> None:
        rows.claim()
        rows.finish(PAID)
        before = rows.stored()

        rows.claim(owner="run_2", now=NOW + LEASE + A_SECOND)

        assert rows.stored() == before

    def test_by_the_run_that_finished_it_is_no_repeat(self, rows: Rows) -> None:
        """A transaction that is run again because its commit was not confirmed."""
        rows.claim()
        rows.finish(PAID)

        assert rows.claim(owner="run_1").reply == PAID

    def test_needs_no_lease(self, rows: Rows) -> None:
        rows.claim()
        rows.finish(PAID)

        assert rows.claim(owner="run_2", now=NOW).reply is not None


@pytest.mark.requirement("FR-206")
class TestAKeyThatBelongsToAnotherRequest:
    @pytest.mark.parametrize("state", ["running", "over", "finished"])
    @pytest.mark.parametrize(
        "other", [OTHER_FIELDS, replace(REQUEST, method="CancelOrder")], ids=["fields", "method"]
    )
    def test_is_refused_with_nothing_changed(
        self, rows: Rows, state: str, other: KeyedRequest
    ) -> None:
        rows.claim()
        if state == "finished":
            rows.finish(PAID)
        before = rows.stored()
        now = NOW + LEASE + A_SECOND if state == "over" else NOW

        with pytest.raises(IdempotencyKeyReused) as refusal:
            rows.claim(other, owner="run_2", now=now)

        assert refusal.value.method == "PayOrder"
        assert rows.stored() == before

    @pytest.mark.parametrize("change", [{"role": "service"}, {"caller": "cus_2"}, {"key": "key_2"}])
    def test_is_another_key_for_another_role_or_caller(
        self, rows: Rows, change: dict[str, Any]
    ) -> None:
        other = replace(OTHER_FIELDS, **change)
        rows.claim()
        rows.finish(PAID)

        assert rows.claim(other, owner="run_2") == Claim()
        rows.within(lambda keys: keys.finish(other, DECLINED, now=NOW))
        assert rows.claim(other, owner="run_3").reply == replace(DECLINED, replayed_from=DATABASE)
        assert rows.claim(owner="run_3").reply == replace(PAID, replayed_from=DATABASE)


@pytest.mark.requirement("FR-208")
class TestARepeatOfARunningRequest:
    @pytest.mark.parametrize("later", [timedelta(0), LEASE - A_SECOND])
    def test_is_refused_while_the_lease_lasts(self, rows: Rows, later: timedelta) -> None:
        rows.claim()
        rows.record_operation("op_1")

        with pytest.raises(RequestInProgress) as refusal:
            rows.claim(owner="run_2", now=NOW + later)

        assert refusal.value.method == "PayOrder"
        assert rows.stored().owner_id == "run_1"

    @pytest.mark.parametrize("later", [LEASE, LEASE + A_SECOND, timedelta(days=400)])
    def test_takes_over_the_operation_when_the_lease_is_over(
        self, rows: Rows, later: timedelta
    ) -> None:
        rows.claim()
        rows.record_operation("op_1")

        assert rows.claim(owner="run_2", now=NOW + later) == Claim(operation_id="op_1")
        row = rows.stored()
        assert (row.owner_id, row.lease_until) == ("run_2", NOW + later + LEASE)

    def test_takes_over_at_once_when_the_lease_was_released(self, rows: Rows) -> None:
        rows.claim()
        rows.record_operation("op_1")
        rows.release()

        assert rows.claim(owner="run_2") == Claim(operation_id="op_1")

    def test_is_refused_again_once_somebody_has_taken_over(self, rows: Rows) -> None:
        rows.claim()
        rows.claim(owner="run_2", now=NOW + LEASE)

        with pytest.raises(RequestInProgress):
            rows.claim(owner="run_3", now=NOW + LEASE + A_SECOND)

    def test_takes_over_a_lease_from_a_clock_that_has_been_set_back(self, rows: Rows) -> None:
        rows.claim(now=NOW + CLOCK_SKEW_MAX + A_SECOND)

        assert rows.claim(owner="run_2", now=NOW) == Claim()

    def test_respects_a_lease_from_a_clock_that_is_a_little_ahead(self, rows: Rows) -> None:
        rows.claim(now=NOW + CLOCK_SKEW_MAX)

        with pytest.raises(RequestInProgress):
            rows.claim(owner="run_2", now=NOW)

    def test_by_the_same_run_goes_on(self, rows: Rows) -> None:
        rows.claim()
        rows.record_operation("op_1")

        assert rows.claim(owner="run_1", now=NOW + A_SECOND) == Claim(operation_id="op_1")

    def test_begins_anew_when_the_operation_came_to_nothing(self, rows: Rows) -> None:
        rows.claim()
        rows.record_operation("op_1")
        rows.record_operation(None)
        rows.release()

        assert rows.claim(owner="run_2") == Claim()
        with pytest.raises(IdempotencyKeyReused):
            rows.claim(OTHER_FIELDS, owner="run_3")


class TestAnOldKey:
    @pytest.mark.parametrize("reply", [PAID, None])
    def test_is_forgotten_after_its_retention(self, rows: Rows, reply: Reply | None) -> None:
        rows.claim()
        if reply:
            rows.finish(reply)

        anew = rows.claim(OTHER_FIELDS, owner="run_2", now=NOW + RETENTION_MIN + A_SECOND)

        assert anew == Claim()
        row = rows.stored()
        assert (row.owner_id, row.fingerprint) == ("run_2", OTHER_FIELDS.fingerprint)
        assert (row.reply, row.reply_ok, row.replied_at, row.operation_id) == (None,) * 4

    def test_is_remembered_until_then(self, rows: Rows) -> None:
        rows.claim()
        rows.finish(PAID)

        assert rows.claim(owner="run_2", now=NOW + RETENTION_MIN).reply is not None

    def test_is_remembered_from_its_final_reply_on(self, rows: Rows) -> None:
        rows.claim()
        rows.finish(PAID, now=NOW + timedelta(hours=5))

        assert rows.claim(owner="run_2", now=NOW + timedelta(hours=29)).reply is not None

    def test_with_an_operation_and_no_reply_is_never_forgotten(self, rows: Rows) -> None:
        rows.claim()
        rows.record_operation("op_1")

        later = NOW + timedelta(days=400)

        assert rows.claim(owner="run_2", now=later) == Claim(operation_id="op_1")

    def test_lasts_as_long_as_it_is_told(self, rows: Rows) -> None:
        rows.claim()
        rows.finish(PAID)

        def claim(connection: Connection) -> Claim:
            keys = IdempotencyKeys(connection, statements, retention=timedelta(hours=48))
            return keys.claim(REQUEST, owner_id="run_2", now=NOW + timedelta(hours=47))

        assert rows.database.transact(claim).reply is not None


class TestLock:
    """What a worker sees that finishes a call in its caller's stead."""

    def test_tells_the_operation(self, rows: Rows) -> None:
        rows.claim()
        rows.record_operation("op_1")

        assert rows.within(lambda keys: keys.lock(REQUEST)) == Claim(operation_id="op_1")

    @pytest.mark.parametrize("reply", [PAID, DECLINED])
    def test_tells_the_reply_which_is_no_replay(self, rows: Rows, reply: Reply) -> None:
        rows.claim()
        rows.finish(reply)

        assert rows.within(lambda keys: keys.lock(REQUEST)) == Claim(reply=reply)

    def test_keeps_a_repeat_waiting_until_the_worker_is_done(
        self, postgres_rows: Rows, threads: ThreadPoolExecutor
    ) -> None:
        postgres_rows.claim()
        locked, go = threading.Event(), threading.Event()

        def work(keys: IdempotencyKeys) -> None:
            keys.lock(REQUEST)
            locked.set()
            assert go.wait(10)
            keys.finish(REQUEST, PAID, now=NOW)

        working = threads.submit(postgres_rows.within, work)
        assert locked.wait(10)
        repeating = threads.submit(postgres_rows.claim, owner="run_2", now=NOW + LEASE)
        time.sleep(0.05)
        assert not repeating.done()
        go.set()

        working.result(10)
        assert repeating.result(10).reply == replace(PAID, replayed_from=DATABASE)

    def test_of_a_key_that_is_gone_is_a_race_lost(self, rows: Rows) -> None:
        with pytest.raises(ConcurrentUpdate):
            rows.within(lambda keys: keys.lock(REQUEST))


@pytest.mark.requirement("FR-207")
class TestTheSameKeyAtOnce:
    def test_lets_the_second_wait_and_then_see_the_reply(
        self, postgres_rows: Rows, threads: ThreadPoolExecutor
    ) -> None:
        claimed, go = threading.Event(), threading.Event()

        def first(keys: IdempotencyKeys) -> Claim:
            claim = keys.claim(REQUEST, owner_id="run_1", now=NOW)
            claimed.set()
            assert go.wait(10)
            keys.finish(REQUEST, PAID, now=NOW)
            return claim

        executing = threads.submit(postgres_rows.within, first)
        assert claimed.wait(10)
        repeating = threads.submit(postgres_rows.claim, owner="run_2")
        time.sleep(0.05)
        assert not repeating.done()
        go.set()

        assert executing.result(10) == Claim()
        assert repeating.result(10).reply == replace(PAID, replayed_from=DATABASE)

    def test_lets_the_second_execute_when_the_first_rolls_back(
        self, postgres_rows: Rows, threads: ThreadPoolExecutor
    ) -> None:
        claimed, go = threading.Event(), threading.Event()

        def first(keys: IdempotencyKeys) -> None:
            keys.claim(REQUEST, owner_id="run_1", now=NOW)
            claimed.set()
            assert go.wait(10)
            raise LookupError

        executing = threads.submit(postgres_rows.within, first)
        assert claimed.wait(10)
        repeating = threads.submit(postgres_rows.claim, OTHER_FIELDS, owner="run_2")
        time.sleep(0.05)
        go.set()

        assert isinstance(executing.exception(10), LookupError)
        assert repeating.result(10) == Claim()

    def test_lets_the_second_see_that_the_first_took_over(
        self, postgres_rows: Rows, threads: ThreadPoolExecutor
    ) -> None:
        postgres_rows.claim()
        taken, go = threading.Event(), threading.Event()

        def first(keys: IdempotencyKeys) -> None:
            keys.claim(REQUEST, owner_id="run_2", now=NOW + LEASE)
            taken.set()
            assert go.wait(10)

        taking = threads.submit(postgres_rows.within, first)
        assert taken.wait(10)
        late = threads.submit(postgres_rows.claim, owner="run_3", now=NOW + LEASE)
        time.sleep(0.05)
        go.set()

        taking.result(10)
        assert isinstance(late.exception(10), RequestInProgress)

    def test_eight_times_has_one_owner(self, rows: Rows, threads: ThreadPoolExecutor) -> None:
        at_once = threading.Barrier(8)

        def call(number: int) -> object:
            at_once.wait(10)
            try:
                return rows.claim(owner=f"run_{number}")
            except RequestInProgress:
                return "in progress"

        calls = [threads.submit(call, number) for number in range(8)]
        answers = [each.result(10) for each in calls]

        assert answers.count(Claim()) == 1
        assert answers.count("in progress") == 7

    def test_lets_one_take_over(self, rows: Rows, threads: ThreadPoolExecutor) -> None:
        rows.claim()
        rows.record_operation("op_1")
        at_once = threading.Barrier(8)

        def call(number: int) -> object:
            at_once.wait(10)
            try:
                return rows.claim(owner=f"run_{number + 2}", now=NOW + LEASE)
            except RequestInProgress:
                return "in progress"

        calls = [threads.submit(call, number) for number in range(8)]
        answers = [each.result(10) for each in calls]

        assert answers.count(Claim(operation_id="op_1")) == 1
        assert answers.count("in progress") == 7


class TestFind:
    def test_tells_what_a_key_holds_and_waits_for_nobody(self, rows: Rows) -> None:
        assert rows.within(lambda keys: keys.find(REQUEST)) == Claim()
        rows.claim()
        rows.record_operation("op_1")
        found = rows.database.read(lambda c: IdempotencyKeys(c, statements).find(REQUEST))
        assert found == Claim(operation_id="op_1")
        rows.finish(PAID)
        assert rows.within(lambda keys: keys.find(REQUEST)) == Claim(PAID, "op_1")


class TestForget:
    def test_leaves_a_key_that_is_being_used(
        self, postgres_rows: Rows, threads: ThreadPoolExecutor
    ) -> None:
        rows = postgres_rows
        rows.claim()
        rows.finish(PAID)
        later = NOW + RETENTION_MIN + A_SECOND

        def use_and_forget(keys: IdempotencyKeys) -> int:
            keys.lock(REQUEST)
            forget = threads.submit(rows.within, lambda others: others.forget(limit=10, now=later))
            forgotten: int = forget.result(20)
            return forgotten

        assert rows.within(use_and_forget) == 0
        assert rows.within(lambda keys: keys.forget(limit=10, now=later)) == 1
