import threading

import pytest

from leeward.errors import ConfigError
from leeward.store.clickhouse import ClickHouse, StoreUnavailable
from leeward.store.embedded import EmbeddedEngine
from leeward.store.events import ClickHouseEventStore
from leeward.store.migrate import Migration, migrate, shipped, verify
from store_rows import StillClock, block, event

NEWER = Migration(
    9,
    "newer",
    (
        "CREATE TABLE IF NOT EXISTS one (a UInt8) ENGINE = MergeTree ORDER BY a",
        "ALTER TABLE events ADD COLUMN IF NOT EXISTS extra String",
        "CREATE TABLE IF NOT EXISTS two (a UInt8) ENGINE = MergeTree ORDER BY a",
    ),
)


def test_migrations_are_numbered_without_gaps_and_their_statements_may_run_twice(client):
    assert [step.number for step in shipped()] == list(range(1, len(shipped()) + 1))
    for step in shipped():
        for statement in step.statements:
            client.command(statement)


def test_a_second_start_changes_nothing(client):
    assert migrate(client) == []
    verify(client)


def test_w18_a_store_of_a_newer_leeward_is_refused_and_left_as_it_is(client):
    migrate(client, [*shipped(), NEWER])
    client.insert("events", block([event("a")]).lines)
    with pytest.raises(ConfigError, match=r"newer leeward \(schema 9, this one knows 2\)") as raised:
        migrate(client)
    assert raised.value.fix == "install the newer leeward, or restore a backup"
    assert client.select("SELECT id, extra FROM events") == [{"id": "a", "extra": ""}]


def test_w18_an_upgrade_keeps_what_is_stored(client):
    client.insert("events", block([event("a")]).lines)
    assert migrate(client, [*shipped(), NEWER]) == [9]
    assert client.select("SELECT id, extra FROM events") == [{"id": "a", "extra": ""}]
    verify(client)


@pytest.mark.parametrize("statement", range(sum(len(step.statements) for step in shipped()) + 1))
def test_w18_a_migration_that_was_killed_anywhere_is_finished_by_the_next_start(engine, statement, monkeypatch):
    """The engine itself is not killed here: what it was told before the kill is all that the next start finds."""
    client = engine.client(f"killed_{statement}")
    command, insert, told = ClickHouse.command, ClickHouse.insert, []

    def until_killed(self, sql, *args, **kwargs):
        told.append(sql)
        if len(told) > 2 + statement:
            raise StoreUnavailable("killed")
        return command(self, sql, *args, **kwargs)

    def recorded_until_killed(self, table, *args, **kwargs):
        if len(told) >= 2 + statement:
            raise StoreUnavailable("killed")
        insert(self, table, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ClickHouse, "command", until_killed)
        patch.setattr(ClickHouse, "insert", recorded_until_killed)
        with pytest.raises(StoreUnavailable):
            migrate(client)
    finished = {row["number"] for row in client.select("SELECT number FROM migrations")}
    assert migrate(client) == [step.number for step in shipped() if step.number not in finished]
    verify(client)
    client.insert("events", block([event("a")]).lines)
    assert client.select("SELECT count() AS n FROM event_ids") == [{"n": 1}]


def test_w18_the_engine_killed_in_the_middle_of_migrations_comes_back_and_finishes_them(tmp_path):
    engine = EmbeddedEngine(tmp_path)
    engine.start()
    assert engine.wait_ready(60)
    client = engine.client()
    steps = [*shipped(), *(Migration(n, f"n{n}", NEWER.statements) for n in range(3, 40))]
    killer = threading.Timer(0.15, engine._child.kill)
    killer.start()
    with pytest.raises(StoreUnavailable):
        migrate_for_ever(client, steps)
    killer.join()
    while not client.ping():
        threading.Event().wait(0.02)
    migrate(client, steps)
    verify(client)
    store = ClickHouseEventStore(client, StillClock(), 7)
    store.load(block([event("a")]))
    assert store.known_ids([(1, "event", "a")], 0) == {(1, "event", "a")}
    engine.stop()


def test_w18_batches_of_before_the_clients_table_are_kept_and_count_for_nobody(engine):
    client = engine.client("before_clients")
    migrate(client, shipped()[:1])
    store = ClickHouseEventStore(client, StillClock(), 7)
    store.load(block([event("a")], batches=[{"batch_id": "old"}]))
    assert migrate(client) == [2]
    verify(client)
    assert store.batch(1, "old") is not None
    assert store.clients(1, 10).total == 0
    store.load(block([event("b")], 10, batches=[{"batch_id": "new", "client_process": "p", "client_highest": 3}]))
    assert [(one.process, one.missing) for one in store.clients(1, 10).accounts] == [("p", 3)]


def migrate_for_ever(client, steps):
    while True:
        migrate(client, steps)
        client.command("DROP DATABASE leeward SYNC", database="")


@pytest.mark.parametrize(
    ("break_it", "names"),
    [
        ("ALTER TABLE event_ids MODIFY SETTING non_replicated_deduplication_window = 0", "event_ids: non_replicated"),
        ("ALTER TABLE events MODIFY SETTING fsync_after_insert = 0", "events: fsync_after_insert"),
        ("ALTER TABLE batches MODIFY SETTING fsync_part_directory = 0", "batches: fsync_part_directory"),
        ("DROP VIEW event_ids_of_events", "event_ids_of_events"),
        ("DROP VIEW clients_of_batches", "clients_of_batches"),
        ("ALTER TABLE clients MODIFY SETTING fsync_after_insert = 0", "clients: fsync_after_insert"),
        ("DROP TABLE batches", "batches"),
        ("ALTER TABLE events RENAME COLUMN unit TO units", "table events: column unit$"),
        ("ALTER TABLE events DROP COLUMN wal_segment, DROP COLUMN data", "table events: column data, wal_segment$"),
    ],
)
def test_w13_a_store_that_lost_a_setting_or_a_column_is_refused_at_start(client, break_it, names):
    client.command(break_it)
    with pytest.raises(ConfigError, match=names) as raised:
        verify(client)
    assert raised.value.fix


def test_a_server_that_does_not_take_our_settings_is_refused(client, monkeypatch):
    monkeypatch.setattr("leeward.store.migrate.INSERT_SETTINGS", {"async_insert": "0", "no_such_setting": "1"})
    with pytest.raises((ConfigError, StoreUnavailable), match="no_such_setting"):
        verify(client)


def test_a_server_that_overrules_deduplication_is_refused(client, monkeypatch):
    select = ClickHouse.select

    def disabled(self, sql, *args, **kwargs):
        rows = select(self, sql, *args, **kwargs)
        return [{"value": "disable"}] if "deduplicate_insert'" in sql and rows else rows

    monkeypatch.setattr(ClickHouse, "select", disabled)
    with pytest.raises(ConfigError, match="deduplicate_insert"):
        verify(client)


def test_a_setting_that_did_not_take_is_named(client, monkeypatch):
    command = ClickHouse.command

    def forgetful(self, sql, params=None, settings=None, **kwargs):
        kept = {name: value for name, value in (settings or {}).items() if name != "optimize_on_insert"}
        return command(self, sql, params, kept, **kwargs)

    monkeypatch.setattr(ClickHouse, "command", forgetful)
    with pytest.raises(ConfigError, match="optimize_on_insert = 0"):
        verify(client)


def test_the_dependent_table_deduplicates_only_with_its_own_window(client):
    """Why verify() asks for the window of event_ids: without it a repeated block counts twice there."""
    one = block([event("a")])
    client.command("ALTER TABLE event_ids MODIFY SETTING non_replicated_deduplication_window = 0")
    for _ in range(2):
        client.insert("events", one.lines, token=one.token)
    assert client.select("SELECT count() AS n FROM events") == [{"n": 1}]
    assert client.select("SELECT count() AS n FROM event_ids") == [{"n": 2}]
