"""The record of every keyed request, in the service's own database."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

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
        sa.Column("used_at", UtcDateTime, nullable=False),
        sa.Column("replied_at", UtcDateTime),
        sa.CheckConstraint("(reply IS NULL) = (replied_at IS NULL)", name="reply_has_its_time"),
        sa.CheckConstraint("(reply IS NULL) = (reply_ok IS NULL)", name="reply_has_its_kind"),
    )


@dataclass(frozen=True)
class Claim:
    """What holding a key means: a reply to give back, an operation to continue, or a start."""

    reply: Reply | None = None
    operation_id: str | None = None


class KeyName(NamedTuple):
    """What names a key: whose it is, and what its owner called it."""

    role: str
    caller: str
    key: str


@dataclass(frozen=True)
class KeyPage:
    """Some keys: where they end, None if there are no more behind them, and the expired ones."""

    last: KeyName | None
    expired: list[KeyName]


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
        row = self._lock(request)
        reply = None
        if row.reply is not None:
            reply = Reply(ok=row.reply_ok, body=bytes(row.reply))
        return Claim(reply=reply, operation_id=row.operation_id)

    def record_operation(self, request: KeyedRequest, operation_id: str | None) -> None:
        """Bind the key to the operation that a repeat continues; to none: a repeat starts anew."""
        self._update(request, operation_id=operation_id)

    def finish(self, request: KeyedRequest, reply: Reply, *, now: datetime) -> None:
        """Store the final reply."""
        self._update(request, reply_ok=reply.ok, reply=reply.body, replied_at=now, used_at=now)

    def release(self, request: KeyedRequest, *, now: datetime) -> None:
        """End the lease: a repeat may take over at once."""
        self._update(request, lease_until=now, used_at=now)

    def page(self, *, after: KeyName, limit: int, now: datetime) -> KeyPage:
        """Look through the next keys in their order, for those to be forgotten by now."""
        columns = self._table.c
        name = (columns.caller_role, columns.caller, columns.idempotency_key)
        query = (
            sa.select(*name, self._has_expired(now).label("has_expired"))
            .where(sa.tuple_(*name) > sa.tuple_(*after))
            .order_by(*name)
            .limit(limit)
        )
        rows = self._connection.execute(query).all()
        names = [KeyName(*row[:-1]) for row in rows]
        return KeyPage(
            last=names[-1] if len(names) == limit else None,
            expired=[name for name, row in zip(names, rows, strict=True) if row.has_expired],
        )

    def forget(self, name: KeyName, *, now: datetime) -> None:
        """Forget a key, if it is still to be forgotten."""
        columns = self._table.c
        statement = sa.delete(self._table).where(
            columns.caller_role == name.role,
            columns.caller == name.caller,
            columns.idempotency_key == name.key,
            self._has_expired(now),
        )
        self._connection.execute(statement)

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
        query = sa.select(self._table).where(*self._scope(request)).with_for_update()
        row = self._connection.execute(query).one_or_none()
        if row is None:  # it was there a moment ago, and was forgotten since
            raise RaceLost
        return row

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
        }


_FORGOTTEN: Final = {"operation_id": None, "reply_ok": None, "reply": None, "replied_at": None}


def _is_live(lease_until: datetime, now: datetime) -> bool:
    # A lease much further ahead than its maximum was written by a clock that has since been set
    # back; a little further, by a call that looked at its clock after this one did.
    return now < lease_until <= now + LEASE + CLOCK_SKEW_MAX
