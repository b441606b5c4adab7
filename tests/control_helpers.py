"""What the tests of keys, sessions and the control database share."""

from __future__ import annotations

import atexit
import shutil
import sqlite3
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from leeward.server.control import opening
from leeward.server.control.records import Records
from leeward.server.control.tables import HEAD

NEXT = f"{int(HEAD) + 1:04}"
NEXT_REVISION = f'''
"""A revision of a leeward yet to come: a column, and a table that is filled."""
from alembic import op
import sqlalchemy as sa

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade():
    op.add_column("projects", sa.Column("note", sa.Text))
    op.create_table("notes", sa.Column("id", sa.Integer, primary_key=True), sa.Column("text", sa.Text))
    op.execute("INSERT INTO notes SELECT id, name FROM projects")
    op.execute("UPDATE projects SET note = 'migrated'")
'''


class HeldClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now_ms = 1_800_000_000_000

    def wall_ms(self) -> int:
        return self.now_ms

    def monotonic_s(self) -> float:
        return self.now_ms / 1000

    def pass_s(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)


@cache
def _template() -> Path:
    directory = Path(mkdtemp(prefix="leeward-control-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    Records(directory, clock=HeldClock()).close()
    return directory


def started_directory(directory: Path) -> Path:
    """Make a data directory whose first start is behind it, without paying for Alembic each time."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in _template().iterdir():
        shutil.copy2(file, directory)
    return directory


def next_migrations(directory: Path, revision: str = NEXT_REVISION) -> Path:
    """Copy our migrations and add a further one, as a later leeward will have."""
    target = directory / "migrations"
    shutil.copytree(Path(opening.__file__).parent / "migrations", target)
    (target / "versions" / f"r{NEXT}_next.py").write_text(revision)
    return target


def rows(data_dir: Path, statement: str) -> list[tuple]:
    """Ask the closed database directly."""
    connection = sqlite3.connect(data_dir / opening.FILE_NAME)
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()
