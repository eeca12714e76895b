"""PostgreSQL raises what it is told to: its own errors, at a row or at the commit."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from service_kit.database import Database

# How often it was struck is counted outside the transaction, which is rolled back.
_PREPARE = """
CREATE SEQUENCE IF NOT EXISTS sabotage_count;
CREATE TABLE IF NOT EXISTS sabotage_plan (sqlstate TEXT NOT NULL, times INTEGER NOT NULL);
CREATE OR REPLACE FUNCTION sabotage() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE plan sabotage_plan;
BEGIN
    SELECT * INTO plan FROM sabotage_plan;
    IF nextval('sabotage_count') <= plan.times THEN
        RAISE EXCEPTION 'sabotage' USING ERRCODE = plan.sqlstate;
    END IF;
    RETURN NULL;
END $$;
"""
_AT_THE_ROW = """
CREATE TRIGGER sabotage AFTER INSERT OR UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION sabotage()
"""
_AT_THE_COMMIT = """
CREATE CONSTRAINT TRIGGER sabotage AFTER INSERT OR UPDATE ON {table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION sabotage()
"""


@contextmanager
def sabotaged(
    database: Database, table: str, sqlstate: str, *, times: int, at_commit: bool
) -> Iterator[None]:
    """Have so many transactions that write the table end with the error."""
    trigger = (_AT_THE_COMMIT if at_commit else _AT_THE_ROW).format(table=table)
    _execute(
        database,
        _PREPARE,
        "ALTER SEQUENCE sabotage_count RESTART",
        "DELETE FROM sabotage_plan",
        f"INSERT INTO sabotage_plan VALUES ('{sqlstate}', {times})",  # noqa: S608 - of a list
        trigger,
    )
    try:
        yield
    finally:
        _execute(database, f"DROP TRIGGER sabotage ON {table}")


def struck(database: Database) -> int:
    """Say how many errors have been raised since the last sabotage began."""
    query = "SELECT least(CASE WHEN is_called THEN last_value ELSE 0 END, times)"
    query += " FROM sabotage_count, sabotage_plan"
    return int(database.read(lambda c: c.exec_driver_sql(query).scalar_one()))


def _execute(database: Database, *statements: str) -> None:
    def execute(connection: sa.Connection) -> None:
        for statement in statements:
            connection.exec_driver_sql(statement)

    database.transact(execute)
