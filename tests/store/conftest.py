import itertools

import pytest

from leeward.store.embedded import EmbeddedEngine
from leeward.store.events import ClickHouseEventStore
from leeward.store.memory import MemoryEventStore
from leeward.store.migrate import migrate
from store_rows import StillClock

_numbers = itertools.count()


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    engine = EmbeddedEngine(tmp_path_factory.mktemp("engine"))
    engine.start()
    assert engine.wait_ready(60), engine.reason
    yield engine
    engine.stop()


@pytest.fixture
def clock():
    return StillClock()


@pytest.fixture
def client(engine):
    """A fresh, migrated database of the real engine."""
    client = engine.client(f"test_{next(_numbers)}")
    migrate(client)
    yield client
    client.command("DROP DATABASE {name:Identifier} SYNC", {"name": client.database}, database="")


@pytest.fixture
def real_store(client, clock):
    return ClickHouseEventStore(client, clock, 7)


@pytest.fixture(params=["clickhouse", "memory"])
def store(request, clock):
    if request.param == "memory":
        return MemoryEventStore(clock, 7)
    return request.getfixturevalue("real_store")
