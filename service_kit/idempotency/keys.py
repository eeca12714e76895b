"""The record of every keyed request, in the service's own database."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.compiled import Row
from service_kit.database import RaceLost, UtcDateTime
from service_kit.errors import IdempotencyKeyReused, RequestInProgress
from service_kit.idempotency.record import DATABASE, KeyedRequest, Reply
from service_kit.statements import Draft, Session, Statement, insert_or_ignore, new, parameter

LEASE: Final = timedelta(seconds=15)
RETENTION_MIN: Final = timedelta(hours=24)


def idempotency_keys_table(metadata: sa.MetaData) -> sa.Table:
    """Declare the table of keys."""
    return sa.Table(
        "idempotency_keys",
        metadata,
        sa.Column("caller_role", sa.String(32), primary_key=True),
        sa.Column("caller", sa.String(256), primary_key=True),
        sa.Column("idempotency_key", sa.String(64), primary_key=True),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(32), nullable=False),
        sa.Column("operation_id", sa.String(64)),
        sa.Column("owner_id", sa.String(64), nullable=False),
        sa.Column("lease_until", UtcDateTime, nullable=False),
        sa.Column("reply_ok", sa.Boolean(create_constraint=False)),
        sa.Column("reply", sa.LargeBinary),
        # Nothing but these two says when a key is forgotten. The moment it was first claimed only
        # finds it: an index on what every call changes would cost every call.
        sa.Column("used_at", UtcDateTime, nullable=False),
        sa.Column("replied_at", UtcDateTime),
        # A version that does not know it gets it from the database.
        sa.Column(
            "claimed_at",
            UtcDateTime,
            nullable=False,
            server_default=sa.func.current_timestamp(),
        ),
        sa.CheckConstraint("(reply IS NULL) = (replied_at IS NULL)", name="reply_has_its_time"),
        sa.CheckConstraint("(reply IS NULL) = (reply_ok IS NULL)", name="reply_has_its_kind"),
        sa.Index("ix_idempotency_keys_claimed_at", "claimed_at"),
    )


@dataclass(frozen=True)
class Claim:
    """What holding a key means: a reply to give back, an operation to continue, or a start."""

    reply: Reply | None = None
    operation_id: str | None = None


class KeyStatements:
    """The statements over a service's table of keys."""

    def __init__(self, table: sa.Table) -> None:
        self.table = table
        columns = table.c
        scope = (
            columns.caller_role == sa.bindparam("of_role"),
            columns.caller == sa.bindparam("of_caller"),
            columns.idempotency_key == sa.bindparam("of_key"),
        )
        # Insert first: the primary key, not this process, decides who owns a request.
        self.insert = insert_or_ignore(table)
        self.find = Statement(sa.select(table).where(*scope))
        self.lock = Statement(sa.select(table).where(*scope).with_for_update())
        self._scope = scope
        self.begin_anew = self._update(
            *(column.name for column in columns if not column.primary_key), needs_lock=True
        )
        self.take_over = self._update("owner_id", "lease_until", "used_at", needs_lock=True)
        self.record_operation = self._update("operation_id")
        self.finish = self._update("reply_ok", "reply", "replied_at", "used_at")
        self.release = self._update("lease_until", "used_at", needs_lock=True)

    def _update(self, *names: str, needs_lock: bool = False) -> Statement:
        values = {name: parameter(self.table.c[name]) for name in names}
        update = sa.update(self.table).where(*self._scope).values(values)
        return Statement(update, needs_lock=needs_lock)


class IdempotencyKeys:
    """The key rows, within one transaction.

    A key is forgotten once its final reply, or its last use without one, is older than
    `retention`; one that has begun an operation and has no reply yet is never forgotten.
    """

    def __init__(
        self,
        connection: Session,
        statements: KeyStatements,
        *,
        retention: timedelta = RETENTION_MIN,
    ) -> None:
        self._connection = connection
        self._statements = statements
        self._table = statements.table
        self._retention = retention
        self._claimed: KeyedRequest | None = None

    def claim(
        self,
        request: KeyedRequest,
        *,
        owner_id: str,
        now: datetime,
        lease: timedelta = LEASE,
        reply: Reply | None = None,
    ) -> Claim:
        """Take the key and lock its row until the transaction ends.

        `owner_id` names this execution: one that is run again recognises itself by it. If it
        dies, a repeat may take over after `lease`. A `reply` that is known already is stored at
        once, if the key is taken.

        Raises IdempotencyKeyReused if the key belongs to another request, RequestInProgress if
        its first call is still running.
        """
        lease_until = now + min(lease, LEASE)
        fresh = new(
            new_key(request, owner_id=owner_id, lease_until=lease_until, now=now, reply=reply)
        )
        if self._statements.insert.change(self._connection, fresh) == 1:
            self._claimed = request
            return Claim()
        row = self._lock(request)
        if self._is_forgotten(row, now):
            self._run(self._statements.begin_anew, request, fresh)
            return Claim()
        if (row.method, bytes(row.fingerprint)) != (
            request.method,
            request.fingerprint,
        ):
            raise IdempotencyKeyReused(method=row.method)
        ours = row.owner_id == owner_id
        if row.reply is not None:
            source = "" if ours else DATABASE
            return Claim(reply=Reply(ok=row.reply_ok, body=bytes(row.reply), replayed_from=source))
        if not ours and _is_live(row.lease_until, now):
            raise RequestInProgress(method=request.method)
        self._run(
            self._statements.take_over,
            request,
            new({"owner_id": owner_id, "lease_until": lease_until, "used_at": now}),
        )
        if reply:
            self.finish(request, reply, now=now)
        return Claim(operation_id=row.operation_id)

    def lock(self, request: KeyedRequest) -> Claim:
        """Lock the key's row, before its order and its operation, and say what it holds.

        In a draft nothing is locked, and nobody looks.
        """
        if isinstance(self._connection, Draft):
            return Claim()
        return _claim_of(self._lock(request))

    def record_operation(self, request: KeyedRequest, operation_id: str | None) -> None:
        """Bind the key to the operation that a repeat continues; to none: a repeat starts anew."""
        values = new({"operation_id": operation_id})
        self._run(self._statements.record_operation, request, values)

    def finish(self, request: KeyedRequest, reply: Reply, *, now: datetime) -> None:
        """Store the final reply."""
        values = {"reply_ok": reply.ok, "reply": reply.body, "replied_at": now, "used_at": now}
        self._run(self._statements.finish, request, new(values))

    def release(self, request: KeyedRequest, *, now: datetime) -> None:
        """End the lease: a repeat may take over at once."""
        values = new({"lease_until": now, "used_at": now})
        self._run(self._statements.release, request, values)

    def find(self, request: KeyedRequest) -> Claim:
        """Say what the key holds, without locking it; nothing if there is none."""
        row = self._statements.find.first(self._connection, _scope(request))
        return _claim_of(row) if row else Claim()

    def forget(self, *, limit: int, now: datetime) -> int:
        """Forget at most `limit` keys whose time is over, oldest first. Say how many there were."""
        columns = self._table.c
        # A key that is being used is no longer old, or is locked and comes to its turn later.
        oldest = (
            sa.select(columns.caller_role, columns.caller, columns.idempotency_key)
            .where(columns.claimed_at < now - self._retention, self._has_expired(now))
            .order_by(columns.claimed_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        names = self._connection.execute(oldest).all()
        if not names:
            return 0
        # One by one: SQLite reads the whole table for a list of keys with several columns.
        one = sa.delete(self._table).where(
            columns.caller_role == sa.bindparam("role"),
            columns.caller == sa.bindparam("owner"),
            columns.idempotency_key == sa.bindparam("key"),
        )
        self._connection.execute(
            one, [{"role": role, "owner": caller, "key": key} for role, caller, key in names]
        )
        return len(names)

    def _has_expired(self, now: datetime) -> sa.ColumnElement[bool]:
        columns = self._table.c
        since = sa.func.coalesce(columns.replied_at, columns.used_at)
        done = sa.or_(columns.reply.is_not(None), columns.operation_id.is_(None))
        return sa.and_(done, since < now - self._retention)

    def _is_forgotten(self, row: Row, now: datetime) -> bool:
        if row.reply is None and row.operation_id is not None:
            return False
        return bool((row.replied_at or row.used_at) < now - self._retention)

    def _lock(self, request: KeyedRequest) -> Row:
        row = self._statements.lock.first(self._connection, _scope(request))
        if row is None:  # it was there a moment ago, and was forgotten since
            raise RaceLost
        return row

    def _run(
        self, statement: Statement, request: KeyedRequest, values: Mapping[str, object]
    ) -> None:
        if isinstance(self._connection, Draft) and request == self._claimed:
            self._connection.amend(self._statements.insert, values)
            return
        statement.change(self._connection, {**values, **_scope(request)})


def new_key(
    request: KeyedRequest,
    *,
    owner_id: str,
    lease_until: datetime,
    now: datetime,
    reply: Reply | None,
) -> dict[str, object]:
    """Make the row of a key that is taken for the first time."""
    return {
        "caller_role": request.role,
        "caller": request.caller,
        "idempotency_key": request.key,
        "method": request.method,
        "fingerprint": request.fingerprint,
        "operation_id": None,
        "owner_id": owner_id,
        "lease_until": lease_until,
        "reply_ok": reply.ok if reply else None,
        "reply": reply.body if reply else None,
        "used_at": now,
        "replied_at": now if reply else None,
        "claimed_at": now,
    }


def _scope(request: KeyedRequest) -> dict[str, object]:
    return {"of_role": request.role, "of_caller": request.caller, "of_key": request.key}


def _claim_of(row: Row) -> Claim:
    reply = None
    if row.reply is not None:
        reply = Reply(ok=row.reply_ok, body=bytes(row.reply))
    return Claim(reply=reply, operation_id=row.operation_id)


def _is_live(lease_until: datetime, now: datetime) -> bool:
    # A lease much further ahead than its maximum was written by a clock that has since been set
    # back; a little further, by a call that looked at its clock after this one did.
    return now < lease_until <= now + LEASE + CLOCK_SKEW_MAX
