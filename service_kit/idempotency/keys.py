"""The record of every keyed request, in the service's own database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from service_kit.clock import CLOCK_SKEW_MAX
from service_kit.database import RaceLost, UtcDateTime, insert_or_ignore
from service_kit.errors import IdempotencyKeyReused, RequestInProgress
from service_kit.idempotency.record import DATABASE, KeyedRequest, Reply

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


class IdempotencyKeys:
    """The key rows, within one transaction.

    A key is forgotten once its final reply, or its last use without one, is older than
    `retention`; one that has begun an operation and has no reply yet is never forgotten.
    """

    def __init__(
        self, connection: Connection, table: sa.Table, *, retention: timedelta = RETENTION_MIN
    ) -> None:
        self._connection = connection
        self._table = table
        self._retention = retention

    def claim(
        self, request: KeyedRequest, *, owner_id: str, now: datetime, lease: timedelta = LEASE
    ) -> Claim:
        """Take the key and lock its row until the transaction ends.

        `owner_id` names this execution: one that is run again recognises itself by it. If it
        dies, a repeat may take over after `lease`.

        Raises IdempotencyKeyReused if the key belongs to another request, RequestInProgress if
        its first call is still running.
        """
        lease_until = now + min(lease, LEASE)
        fresh = self._new_row(request, owner_id, lease_until, now)
        # Insert first: the primary key, not this process, decides who owns the request.
        if insert_or_ignore(self._connection, self._table, fresh):
            return Claim()
        row = self._lock(request)
        if self._is_forgotten(row, now):
            self._update(request, **_FORGOTTEN, **fresh)
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
        self._update(request, owner_id=owner_id, lease_until=lease_until, used_at=now)
        return Claim(operation_id=row.operation_id)

    def lock(self, request: KeyedRequest) -> Claim:
        """Lock the key's row, before its order and its operation, and say what it holds."""
        return _claim_of(self._lock(request))

    def record_operation(self, request: KeyedRequest, operation_id: str | None) -> None:
        """Bind the key to the operation that a repeat continues; to none: a repeat starts anew."""
        self._update(request, operation_id=operation_id)

    def finish(self, request: KeyedRequest, reply: Reply, *, now: datetime) -> None:
        """Store the final reply."""
        self._update(request, reply_ok=reply.ok, reply=reply.body, replied_at=now, used_at=now)

    def release(self, request: KeyedRequest, *, now: datetime) -> None:
        """End the lease: a repeat may take over at once."""
        self._update(request, lease_until=now, used_at=now)

    def find(self, request: KeyedRequest) -> Claim:
        """Say what the key holds, without locking it; nothing if there is none."""
        row = self._connection.execute(self._row(request)).one_or_none()
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

    def _is_forgotten(self, row: Row[tuple[object, ...]], now: datetime) -> bool:
        if row.reply is None and row.operation_id is not None:
            return False
        return bool((row.replied_at or row.used_at) < now - self._retention)

    def _lock(self, request: KeyedRequest) -> Row[tuple[object, ...]]:
        row = self._connection.execute(self._row(request).with_for_update()).one_or_none()
        if row is None:  # it was there a moment ago, and was forgotten since
            raise RaceLost
        return row

    def _row(self, request: KeyedRequest) -> sa.Select[tuple[object, ...]]:
        return sa.select(self._table).where(*self._scope(request))

    def _update(self, request: KeyedRequest, **values: object) -> None:
        statement = sa.update(self._table).where(*self._scope(request)).values(**values)
        self._connection.execute(statement)

    def _scope(self, request: KeyedRequest) -> tuple[sa.ColumnElement[bool], ...]:
        columns = self._table.c
        return (
            columns.caller_role == request.role,
            columns.caller == request.caller,
            columns.idempotency_key == request.key,
        )

    def _new_row(
        self, request: KeyedRequest, owner_id: str, lease_until: datetime, now: datetime
    ) -> dict[str, object]:
        return {
            "caller_role": request.role,
            "caller": request.caller,
            "idempotency_key": request.key,
            "method": request.method,
            "fingerprint": request.fingerprint,
            "owner_id": owner_id,
            "lease_until": lease_until,
            "used_at": now,
            "claimed_at": now,
        }


def _claim_of(row: Row[tuple[object, ...]]) -> Claim:
    reply = None
    if row.reply is not None:
        reply = Reply(ok=row.reply_ok, body=bytes(row.reply))
    return Claim(reply=reply, operation_id=row.operation_id)


_FORGOTTEN: Final = {"operation_id": None, "reply_ok": None, "reply": None, "replied_at": None}


def _is_live(lease_until: datetime, now: datetime) -> bool:
    # A lease much further ahead than its maximum was written by a clock that has since been set
    # back; a little further, by a call that looked at its clock after this one did.
    return now < lease_until <= now + LEASE + CLOCK_SKEW_MAX
