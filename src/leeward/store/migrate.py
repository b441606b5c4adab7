"""The store's schema: numbered, forward-only migrations, and the proof that the settings we rely on hold.

A migration is a file `schema/NNNN_name.sql` whose statements may each run twice, so one that was interrupted is run
again whole. It is recorded when all its statements have succeeded. A store that a newer leeward has migrated is
refused untouched. `verify` reads back what the promises rest on: a column that somebody removed or a setting that was
not taken is an error at start, never a surprise after a crash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Final

import msgspec

from leeward.errors import ConfigError
from leeward.model import Event
from leeward.store.clickhouse import INSERT_SETTINGS, READ_SETTINGS, ClickHouse

__all__ = ["Migration", "migrate", "shipped", "verify"]

_NAME: Final = re.compile(r"(\d{4})_(\w+)\.sql\Z")
_RECORDS: Final = """CREATE TABLE IF NOT EXISTS migrations (number UInt32, name String, finished_at DateTime DEFAULT now())
ENGINE = MergeTree ORDER BY number SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"""
_TABLES: Final = ("events", "event_ids", "batches", "clients")
_VIEWS: Final = ("event_ids_of_events", "clients_of_batches")
_COLUMNS: Final = {
    "events": {*Event.__struct_fields__, "wal_instance", "wal_segment", "wal_position"},
    "batches": {"client_process", "client_highest", "client_received", "client_lost"},
}
_TABLE_SETTINGS: Final = (
    "non_replicated_deduplication_window = 10000",
    "fsync_after_insert = 1",
    "fsync_part_directory = 1",
)
_FIX_SETTINGS: Final = "let leeward's database user change settings, and give leeward a database of its own"
_FIX_COLUMNS: Final = "restore a backup of the store, or give leeward a database of its own"


class Migration(msgspec.Struct, frozen=True):
    """One step of the schema: its number, its name and its statements in order."""

    number: int
    name: str
    statements: tuple[str, ...]


def shipped() -> tuple[Migration, ...]:
    """The migrations of this leeward, in order."""
    found = [
        Migration(int(match[1]), match[2], _statements(file.read_text(encoding="utf-8")))
        for file in resources.files("leeward.store").joinpath("schema").iterdir()
        if (match := _NAME.match(file.name))
    ]
    return tuple(sorted(found, key=lambda migration: migration.number))


def migrate(client: ClickHouse, migrations: Sequence[Migration] | None = None) -> list[int]:
    """Bring the store's schema up to date and return the numbers of the migrations that ran."""
    steps = shipped() if migrations is None else migrations
    client.command("CREATE DATABASE IF NOT EXISTS {name:Identifier}", {"name": client.database}, database="")
    client.command(_RECORDS)
    done = {row["number"] for row in client.select("SELECT number FROM migrations")}
    newest = max((step.number for step in steps), default=0)
    if done and max(done) > newest:
        raise ConfigError(
            f"the store was written by a newer leeward (schema {max(done)}, this one knows {newest})",
            code="store_newer",
            fix="install the newer leeward, or restore a backup",
        )
    due = [step for step in steps if step.number not in done]
    for step in due:
        for statement in step.statements:
            client.command(statement)
        client.insert("migrations", msgspec.json.encode({"number": step.number, "name": step.name}))
    return [step.number for step in due]


def verify(client: ClickHouse) -> None:
    """Read back every setting and column that a promise rests on; `ConfigError` names the first that does not hold."""
    tables = {
        row["name"]: row["engine_full"]
        for row in client.select("SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()")
    }
    for table in _TABLES:
        for setting in _TABLE_SETTINGS:
            if setting not in tables.get(table, ""):
                raise _does_not_hold(f"table {table}: {setting}")
    for view in _VIEWS:
        if view not in tables:
            raise _does_not_hold(f"view {view}")
    _verify_columns(client)
    _verify_session(client, INSERT_SETTINGS)
    _verify_session(client, READ_SETTINGS)
    for row in client.select("SELECT value FROM system.settings WHERE name = 'deduplicate_insert'"):
        if row["value"] == "disable":  # newer servers have it, and it overrules insert_deduplicate
            raise _does_not_hold("setting deduplicate_insert (it is disable)")


def _verify_columns(client: ClickHouse) -> None:
    """Without a column every row that fills it would be refused, one by one."""
    columns = client.select("SELECT table, name FROM system.columns WHERE database = currentDatabase()")
    for table, needed in _COLUMNS.items():
        missing = needed - {column["name"] for column in columns if column["table"] == table}
        if missing:
            raise _does_not_hold(f"table {table}: column {', '.join(sorted(missing))}", fix=_FIX_COLUMNS)


def _verify_session(client: ClickHouse, settings: Mapping[str, str]) -> None:
    answer = client.command(
        "SELECT name, value FROM system.settings WHERE name IN {names:Array(String)} FORMAT JSONEachRow",
        {"names": list(settings)},
        settings,
    )
    actual = {row["name"]: row["value"] for row in msgspec.json.Decoder(dict[str, str]).decode_lines(answer)}
    for name, value in settings.items():
        if actual.get(name) != value:
            raise _does_not_hold(f"setting {name} = {value} (it is {actual.get(name, 'unknown')})")


def _does_not_hold(what: str, fix: str = _FIX_SETTINGS) -> ConfigError:
    return ConfigError(
        f"the store does not hold what leeward relies on: {what}",
        code="store_settings",
        where="[storage] url",
        fix=fix,
    )


def _statements(text: str) -> tuple[str, ...]:
    """Statements end with a semicolon at the end of a line; a comment has a line of its own."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("--")]
    return tuple(part.strip() for part in re.split(r";\s*$", "\n".join(lines), flags=re.MULTILINE) if part.strip())
