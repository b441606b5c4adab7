"""The control database as the server sees it: its own thread, awaited calls, and the way in without a server."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from control_helpers import HeldClock, started_directory
from leeward.errors import ConfigError, Unavailable
from leeward.server.control.database import Control, open_offline


@pytest.fixture
def control(tmp_path):
    made = Control(HeldClock())
    made.start(started_directory(tmp_path)).result()
    yield made
    made.stop()


def test_importing_it_does_not_import_sqlalchemy_and_starting_it_does_so_on_its_own_thread(tmp_path):
    script = (
        "import sys, pathlib\n"
        "from leeward.clock import SystemClock\n"
        "from leeward.server.control.database import Control\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        "control = Control(SystemClock())\n"
        "assert 'sqlalchemy' not in sys.modules\n"
        "print(control.start(pathlib.Path(sys.argv[1])).result().first_keys.name)\n"
        "control.stop()\n"
    )

    done = subprocess.check_output([sys.executable, "-c", script, str(tmp_path / "data")], text=True, timeout=60)

    assert done == "first-keys.json\n"


def test_all_that_it_offers_works_from_an_event_loop(tmp_path, control):
    async def use():
        project = await control.create_project("other")
        key, token = await control.create_key(project.id, "read", "x")
        assert key in await control.list_keys(project.id)
        assert project in await control.list_projects()
        identity = control.keys.find(token)
        assert (identity.project, identity.key_id) == (project.id, key.id)

        cookie = await control.redeem(await control.create_sign_in_link())
        assert (control.session(cookie).project, control.session(cookie).scope) == (1, "read")
        await control.end_session(cookie)
        assert control.session(cookie) is None

        theirs = await control.sign_in(identity)
        assert control.session(theirs).key_id == key.id
        await control.revoke_key(key.id)
        assert control.keys.find(token) is None
        assert control.session(theirs) is None

    asyncio.run(use())


def test_every_call_runs_on_one_thread_and_none_of_them_on_the_loops(control):
    async def use():
        async def seen():
            return await control._ask(lambda records: threading.current_thread().name)

        return set(await asyncio.gather(*(seen() for _ in range(20))))

    assert asyncio.run(use()) == {"leeward-control_0"}


def test_a3_a_revocation_whose_caller_hung_up_still_holds(control):
    async def use():
        key, token = await control.create_key(1, "write", "x")
        running, go_on = threading.Event(), threading.Event()

        def revoke(records):
            running.set()
            go_on.wait(10)
            return records.revoke_key(key.id)

        call = asyncio.create_task(control._ask(revoke))
        await asyncio.to_thread(running.wait, 10)
        call.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        await control.list_keys()  # the next one in the queue: the revocation is behind us
        return token

    assert control.keys.find(asyncio.run(use())) is None


def test_before_it_is_open_nobody_is_known_and_calls_are_answered_with_try_again():
    control = Control(HeldClock())

    with pytest.raises(Unavailable) as refused:
        asyncio.run(control.list_keys())

    assert refused.value.retry_after_s == 1
    assert control.keys.find("lw_" + "a" * 32) is None
    control.stop()


def test_a_start_that_fails_says_why_and_can_be_stopped(tmp_path):
    (tmp_path / "control.db").write_bytes(b"no database " * 1000)
    control = Control(HeldClock())

    with pytest.raises(ConfigError, match="not a database"):
        control.start(tmp_path).result()

    control.stop()


def test_after_a_stop_another_may_open_the_database(tmp_path):
    control = Control(HeldClock())
    control.start(started_directory(tmp_path)).result()
    control.stop()

    with open_offline(tmp_path) as records:
        assert len(records.list_keys()) == 4


def test_offline_a_key_is_made_and_revoked_without_a_server(tmp_path):
    with open_offline(started_directory(tmp_path)) as records:
        key, token = records.create_key(1, "admin", "lost the others")
        records.revoke_key(records.keys.find(json.loads((tmp_path / "first-keys.json").read_text())["write"]).key_id)

    control = Control(HeldClock())
    control.start(tmp_path).result()
    assert control.keys.find(token).key_id == key.id
    assert len(control.keys) == 4
    control.stop()


def test_offline_is_refused_while_a_server_holds_the_database(tmp_path, control):
    with pytest.raises(ConfigError) as refused:
        open_offline(tmp_path)

    assert refused.value.code == "control_held"
    assert asyncio.run(control.list_keys())


def test_offline_makes_no_database_where_there_is_none(tmp_path):
    with pytest.raises(ConfigError, match="no control database here") as refused:
        open_offline(tmp_path / "typo")

    assert "--data-dir" in refused.value.fix
    assert not (tmp_path / "typo").exists()
