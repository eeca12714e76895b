"""Writes packages of Alembic migrations for the tests."""

import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

ENV = """
import sqlalchemy as sa
from service_kit.migrations import run_env

run_env(sa.MetaData())
"""

REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = {previous!r}


def upgrade():
    op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("INSERT INTO {table} (id) VALUES (1)")
    {then}
"""


@dataclass(frozen=True)
class SchemaPackage:
    """A package of migrations, importable in this process and, by `folder`, in others."""

    name: str
    folder: Path

    @property
    def version_table(self) -> str:
        return f"{self.name.partition('.')[0]}_schema_version"

    def add(
        self, revision: str, *, table: str, previous: str | None = None, then: str = ""
    ) -> None:
        """Write a revision that makes a table with one row."""
        file = self.folder / self.name.replace(".", "/") / "versions" / f"{revision}.py"
        text = REVISION.format(revision=revision, previous=previous, table=table, then=then)
        file.write_text(dedent(text))


def schema_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> SchemaPackage:
    """Make an empty package in a folder whose name is hard to quote."""
    folder = folder / "a b%s"
    # No two tests share a name: an imported package stays imported.
    package = SchemaPackage(f"shop_{uuid.uuid4().hex}.migrations", folder)
    place = folder / package.name.replace(".", "/")
    (place / "versions").mkdir(parents=True)
    (place.parent / "__init__.py").touch()
    (place / "__init__.py").touch()
    (place / "env.py").write_text(ENV)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return package
