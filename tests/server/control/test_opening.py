"""The control database's file: who may read it, who owns it, and how it comes to the newest revision."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from control_helpers import NEXT, HeldClock, next_migrations, rows, started_directory
from leeward.errors import ConfigError
from leeward.server.access import Identity, digest
from leeward.server.control import opening, tables
from leeward.server.control.records import Records
from leeward.server.quotas import UNLIMITED, Quota


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def opened(data_dir, **named):
    result = opening.open_file(data_dir, wait_s=0, **named)
    opening.close(result.connection)
    return result


def test_a13_the_directory_is_0700_and_every_file_in_it_0600_whatever_the_umask(tmp_path, monkeypatch):
    import os

    before = os.umask(0)
    try:
        with Records(tmp_path / "new" / "data", clock=HeldClock()):
            found = {path.name: mode(path) for path in (tmp_path / "new" / "data").iterdir()}
    finally:
        os.umask(before)

    assert found == {"control.db": 0o600, "control.db-wal": 0o600, "first-keys.json": 0o600}
    assert mode(tmp_path / "new" / "data") == 0o700


def test_a13_a_database_that_was_copied_here_with_open_modes_is_closed_to_others(tmp_path):
    data_dir = started_directory(tmp_path)
    (data_dir / "control.db").chmod(0o644)

    with Records(data_dir, clock=HeldClock()) as records:
        records.create_project("second")

        assert mode(data_dir / "control.db") == mode(data_dir / "control.db-wal") == 0o600


def test_a_commit_is_synced_and_the_log_is_wal(tmp_path):
    connection = opening.open_file(started_directory(tmp_path), wait_s=0).connection
    try:
        asked = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "locking_mode")
        }
    finally:
        opening.close(connection)

    assert asked == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "locking_mode": "exclusive"}


def test_a_second_opener_in_the_same_process_is_refused_and_the_first_goes_on(tmp_path):
    with Records(started_directory(tmp_path), clock=HeldClock()) as records:
        with pytest.raises(ConfigError, match="in use by another leeward") as refused:
            Records(tmp_path, clock=HeldClock(), wait_s=0)

        assert refused.value.code == "control_held"
        assert refused.value.fix
        assert records.create_project("second").id == 2


def test_a_second_opener_in_another_process_is_refused_until_the_first_lets_go(tmp_path):
    script = (
        "import sys, pathlib; from leeward.server.control import opening\n"
        "from leeward.errors import ConfigError\n"
        "try: opening.close(opening.open_file(pathlib.Path(sys.argv[1]), wait_s=0).connection)\n"
        "except ConfigError as error: sys.exit(error.code)\n"
    )
    command = [sys.executable, "-c", script, str(started_directory(tmp_path))]

    with Records(tmp_path, clock=HeldClock()):
        held = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    free = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (held.returncode, held.stderr.strip()) == (1, "control_held")
    assert (free.returncode, free.stderr) == (0, "")


def test_the_migrations_make_exactly_the_tables_that_the_queries_use(tmp_path):
    connection = opening.open_file(tmp_path, wait_s=0).connection
    try:
        difference = compare_metadata(MigrationContext.configure(connection), tables.metadata)
        checks = {
            name: connection.exec_driver_sql(f"SELECT sql FROM sqlite_master WHERE name = '{name}'").scalar_one()
            for name in tables.metadata.tables
        }
    finally:
        opening.close(connection)

    assert difference == []
    assert [name for name, sql in checks.items() if "CHECK (scope IN" in sql] == ["keys", "sessions", "sign_in_links"]
    assert "AUTOINCREMENT" in checks["projects"]


def test_the_newest_revision_is_the_one_that_a_start_compares_with():
    config = Config()
    config.set_main_option("script_location", str(opening._MIGRATIONS))

    assert ScriptDirectory.from_config(config).get_heads() == [tables.HEAD]


def test_a_start_without_a_migration_does_not_import_alembic(tmp_path):
    script = (
        "import sys, pathlib; from leeward.server.control import opening\n"
        "opening.close(opening.open_file(pathlib.Path(sys.argv[1]), wait_s=0).connection)\n"
        "print('alembic' in sys.modules)"
    )

    def imported(data_dir):
        return subprocess.check_output([sys.executable, "-c", script, str(data_dir)], text=True, timeout=60).strip()

    assert imported(tmp_path / "fresh") == "True"
    assert imported(tmp_path / "fresh") == "False"


def test_an_older_database_is_migrated_and_a_copy_of_it_stands_beside(tmp_path):
    data_dir = started_directory(tmp_path / "data")
    keys = rows(data_dir, "SELECT * FROM keys ORDER BY id")

    result = opened(data_dir, migrations=next_migrations(tmp_path), head=NEXT)

    assert rows(data_dir, "SELECT version_num, text, note FROM alembic_version, notes, projects") == [
        (NEXT, "default", "migrated")
    ]
    assert rows(data_dir, "SELECT * FROM keys ORDER BY id") == keys
    assert result.backup == data_dir / f"control-backup-{tables.HEAD}.db"
    assert mode(result.backup) == 0o600
    restored = tmp_path / "restored"
    restored.mkdir()
    result.backup.rename(restored / "control.db")
    assert opened(restored).backup is None
    assert rows(restored, "SELECT * FROM keys ORDER BY id") == keys


LATER_THAN = {"0001": ("r0002*", "r0003*"), "0002": ("r0003*",)}


def earlier_directory(data_dir, scratch, revision):
    """A data directory as an earlier leeward left it: the tables of its time, and its keys."""
    shutil.copytree(opening._MIGRATIONS, scratch, ignore=shutil.ignore_patterns(*LATER_THAN[revision], "__pycache__"))
    opened(data_dir, migrations=scratch, head=revision)
    database = sqlite3.connect(data_dir / "control.db")
    columns = "(id, project_id, name, scope, sha256, last4, created_at, revoked_at)"
    with database:
        database.execute("INSERT INTO projects VALUES (1, 'default', 5)")
        database.execute(
            f"INSERT INTO keys {columns} VALUES ('k_old', 1, 'first', 'write', ?, 'tail', 5, NULL), "
            "('k_gone', 1, 'second', 'read', ?, 'liat', 5, 6)",
            (digest("lw_old"), digest("lw_gone")),
        )
    database.close()
    return data_dir


@pytest.mark.parametrize("revision", LATER_THAN)
def test_keys_of_the_time_before_quotas_go_on_without_a_limit_and_may_be_given_one(tmp_path, revision):
    data_dir = earlier_directory(tmp_path / "data", tmp_path / "migrations", revision)

    with Records(data_dir, clock=HeldClock()) as records:
        assert records.started.backup == data_dir / f"control-backup-{revision}.db"
        assert records.started.first_keys is None
        assert records.keys.find("lw_old") == Identity(1, "write", "k_old", "tail", None)
        assert records.keys.find("lw_gone") is None
        assert [(key.id, key.quota, key.revoked_at) for key in records.list_keys()] == [
            ("k_gone", UNLIMITED, 6),
            ("k_old", UNLIMITED, None),
        ]
        records.set_quota("k_old", lambda quota: Quota(5, quota.per_day, usd_per_day=0.5))
        assert records.keys.find("lw_old").quota == Quota(5, None, usd_per_day=0.5)

    assert rows(data_dir, "SELECT version_num FROM alembic_version") == [(tables.HEAD,)]
    assert "_per_" not in rows(tmp_path / "data", "SELECT sql FROM sqlite_master WHERE name = 'projects'")[0][0]


def test_a_limit_on_events_of_the_time_before_limits_on_spending_holds_on(tmp_path):
    data_dir = earlier_directory(tmp_path / "data", tmp_path / "migrations", "0002")
    database = sqlite3.connect(data_dir / "control.db")
    with database:
        database.execute("UPDATE keys SET events_per_minute_max = 60, events_per_day_max = 1000")
    database.close()

    with Records(data_dir, clock=HeldClock()) as records:
        assert records.keys.find("lw_old").quota == Quota(60, 1000)


@pytest.mark.parametrize(
    ("revision", "script", "last", "twice"),
    [
        ("0001", "r0002_key_quotas.py", "events_per_day_max", "events_per_minute_max"),
        ("0002", "r0003_key_spending.py", "usd_per_day_max", "tokens_per_day_max"),
    ],
)
def test_the_addition_of_quotas_that_is_cut_short_is_made_by_the_next_start(tmp_path, revision, script, last, twice):
    data_dir = earlier_directory(tmp_path / "data", tmp_path / "migrations", revision)
    halting = tmp_path / "halting"
    shutil.copytree(opening._MIGRATIONS, halting)
    broken = halting / "versions" / script
    broken.write_text(broken.read_text().replace(f'"{last}"', f'"{twice}"'))  # twice the same
    with pytest.raises(ConfigError, match="duplicate column name"):
        opened(data_dir, migrations=halting)
    assert rows(data_dir, "SELECT version_num FROM alembic_version") == [(revision,)]
    assert twice not in rows(data_dir, "SELECT sql FROM sqlite_master WHERE name = 'keys'")[0][0]

    with Records(data_dir, clock=HeldClock()) as records:
        assert [key.id for key in records.list_keys()] == ["k_gone", "k_old"]


def test_a_migration_that_fails_half_way_leaves_the_old_database_and_the_next_start_repeats_it(tmp_path):
    data_dir = started_directory(tmp_path / "data")
    before = rows(data_dir, "SELECT sql FROM sqlite_master")
    migrations = next_migrations(tmp_path)
    script = migrations / "versions" / f"r{NEXT}_next.py"
    whole = script.read_text()
    script.write_text(whole.replace("UPDATE projects", "UPDATE nothing_of_that_name"))
    with pytest.raises(ConfigError, match="no such table: nothing_of_that_name"):
        opened(data_dir, migrations=migrations, head=NEXT)
    assert rows(data_dir, "SELECT sql FROM sqlite_master") == before

    script.write_text(whole + "\n")
    opened(data_dir, migrations=migrations, head=NEXT)

    assert rows(data_dir, "SELECT note FROM projects") == [("migrated",)]


def test_several_revisions_that_are_due_happen_together_or_not_at_all(tmp_path):
    migrations = next_migrations(
        tmp_path, f'revision = "{NEXT}"\ndown_revision = "{tables.HEAD}"\ndef upgrade(): raise OSError(5, "x")'
    )

    with pytest.raises(ConfigError, match="cannot be opened: x"):
        opened(tmp_path / "fresh", migrations=migrations, head=NEXT)

    assert rows(tmp_path / "fresh", "SELECT name FROM sqlite_master") == []


def test_a_migration_that_raises_something_unforeseen_gives_the_file_free(tmp_path):
    data_dir = started_directory(tmp_path / "data")
    migrations = next_migrations(
        tmp_path, f'revision = "{NEXT}"\ndown_revision = "{tables.HEAD}"\ndef upgrade(): raise KeyError("x")'
    )

    with pytest.raises(KeyError):
        opened(data_dir, migrations=migrations, head=NEXT)

    assert opened(data_dir).backup is None


def test_a_database_of_a_newer_leeward_is_refused_and_left_as_it_is(tmp_path):
    data_dir = started_directory(tmp_path / "data")
    opened(data_dir, migrations=next_migrations(tmp_path), head=NEXT)
    before = (data_dir / "control.db").read_bytes()
    (data_dir / f"control-backup-{tables.HEAD}.db").unlink()

    with pytest.raises(
        ConfigError, match=f"written by a newer leeward: its revision is {NEXT}, this one knows {tables.HEAD}"
    ) as no:
        opened(data_dir)

    assert (no.value.code, no.value.where) == ("control_newer", str(data_dir / "control.db"))
    assert (data_dir / "control.db").read_bytes() == before
    assert not (data_dir / f"control-backup-{tables.HEAD}.db").exists()


def test_a_start_that_was_interrupted_before_the_first_table_begins_again(tmp_path):
    connection = sqlite3.connect(tmp_path / "control.db")
    connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.close()

    assert opened(tmp_path).backup is None
    assert rows(tmp_path, "SELECT version_num FROM alembic_version") == [(tables.HEAD,)]


@pytest.mark.parametrize("name", ["a % sign", "ünï cödé", "with 'quote"])
def test_any_directory_name_will_do(tmp_path, name):
    assert opened(tmp_path / name).backup is None
    assert opened(tmp_path / name, migrations=next_migrations(tmp_path / name), head=NEXT).backup is not None


def test_a_file_that_is_no_database_is_refused_with_a_cure_and_left_as_it_is(tmp_path):
    (tmp_path / "control.db").write_bytes(b"not a database at all " * 100)

    with pytest.raises(ConfigError, match="file is not a database") as refused:
        opened(tmp_path)

    assert "move the file aside" in refused.value.fix
    assert (tmp_path / "control.db").read_bytes() == b"not a database at all " * 100


def test_a_directory_that_cannot_be_made_is_refused_with_its_path(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be opened") as refused:
        opened(tmp_path / "file" / "data")

    assert refused.value.where == str(tmp_path / "file" / "data" / "control.db")
