"""The first start: whatever interrupts it, the owner's file has the keys that the server knows."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, event

from control_helpers import HeldClock, next_migrations, rows, started_directory
from leeward.errors import ConfigError
from leeward.server.access import SCOPES
from leeward.server.control.records import Records

# Run alone in a process without threads: for each step, a forked child kills itself there; then the same process starts
# again, as the next start would, and looks. A step is a statement, a commit, a rename or a sync.
KILLED_AT_EACH_STEP = """
import json, os, signal, sys
from pathlib import Path
from alembic import command
from control_helpers import NEXT, HeldClock, started_directory
from sqlalchemy import Engine, event
from leeward.server.control import opening
from leeward.server.control.records import Records

root, migrations = Path(sys.argv[1]), sys.argv[2:]

def start(data_dir):
    if migrations:
        opening.close(opening.open_file(data_dir, wait_s=0, migrations=Path(migrations[0]), head=NEXT).connection)
    else:
        Records(data_dir, clock=HeldClock()).close()

def arm(step):
    left = [step]
    def count(*_, **__):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def counted(function):
        def call(*arguments, **named):
            count()
            return function(*arguments, **named)
        return call
    event.listen(Engine, "before_cursor_execute", count)
    event.listen(Engine, "commit", count)
    os.replace, os.fsync, os.open = counted(os.replace), counted(os.fsync), counted(os.open)

def check(data_dir, step):
    if migrations:
        raw = opening.open_file(data_dir, wait_s=0, migrations=Path(migrations[0]), head=NEXT).connection
        found = raw.exec_driver_sql("SELECT version_num, text, note FROM alembic_version, notes, projects").all()
        assert found == [(NEXT, "default", "migrated")], (step, found)
        assert raw.exec_driver_sql("SELECT count(*) FROM keys").scalar() == 4
        opening.close(raw)
        return
    with Records(data_dir, clock=HeldClock()) as records:
        left = json.loads((data_dir / "first-keys.json").read_text())
        assert [records.keys.find(left[s]).scope for s in ("write", "read", "chat", "admin")] == [
            "write", "read", "chat", "admin"], step
        assert len(records.list_keys()) == 4 and [p.id for p in records.list_projects()] == [1], step

step = 0
while True:
    step += 1
    data_dir = root / str(step)
    if migrations:
        started_directory(data_dir)
    child = os.fork()
    if child == 0:
        arm(step)
        start(data_dir)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    check(data_dir, step)
    if status == 0:
        break
print(step - 1)
"""


def killed_at_each_step(*arguments: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EACH_STEP, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_killed_at_any_step_of_the_first_start_the_next_one_has_keys_that_the_owner_knows(tmp_path):
    assert killed_at_each_step(tmp_path) >= 20


def test_killed_at_any_step_of_a_migration_the_next_start_has_all_of_it_once(tmp_path):
    assert killed_at_each_step(tmp_path, next_migrations(tmp_path)) >= 10


def test_the_first_start_leaves_one_key_per_scope_in_a_file_of_the_owners(tmp_path):
    with Records(tmp_path, clock=HeldClock()) as records:
        left = json.loads((tmp_path / "first-keys.json").read_text())

        assert list(left) == ["project", "write", "read", "chat", "admin"]
        assert left["project"] == "default"
        assert records.started.first_keys == tmp_path / "first-keys.json"
        assert stat.S_IMODE((tmp_path / "first-keys.json").stat().st_mode) == 0o600
        for scope in SCOPES:
            identity = records.keys.find(left[scope])
            assert (identity.project, identity.scope) == (1, scope)


def test_a13_first_keys_are_random_and_of_more_than_128_bits(tmp_path):
    tokens = set()
    for name in "ab":
        Records(tmp_path / name, clock=HeldClock()).close()
        left = json.loads((tmp_path / name / "first-keys.json").read_text())
        tokens |= {left[scope] for scope in SCOPES}

    assert len(tokens) == 8
    assert all(re.fullmatch(r"lw_[A-Za-z0-9]{32}", token) for token in tokens)  # 32 of 62 characters: 190 bits


def test_the_second_start_writes_no_keys_and_a_deleted_file_stays_deleted(tmp_path):
    (started_directory(tmp_path) / "first-keys.json").unlink()

    with Records(tmp_path, clock=HeldClock()) as records:
        assert records.started.first_keys is None
        assert len(records.keys) == 4
    assert not (tmp_path / "first-keys.json").exists()


def test_the_file_is_synced_then_named_then_its_name_is_synced_and_only_then_the_keys_are_committed(
    tmp_path, monkeypatch
):
    done = []
    really_sync, really_replace = os.fsync, os.replace

    def fsync(descriptor):
        done.append("sync " + Path(f"/proc/self/fd/{descriptor}").readlink().name)
        really_sync(descriptor)

    def replace(source, target):
        done.append("rename")
        really_replace(source, target)

    def commit(connection):
        keys = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'keys'").scalar()
        done.append(f"commit {connection.exec_driver_sql('SELECT count(*) FROM keys').scalar() if keys else 0}")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    event.listen(Engine, "commit", commit)
    try:
        Records(tmp_path / "data", clock=HeldClock()).close()
    finally:
        event.remove(Engine, "commit", commit)

    assert done[-4:] == ["sync first-keys.json.new", "rename", "sync data", "commit 4"]
    assert set(done[:-4]) == {"commit 0"}


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_keys_that_cannot_be_written_stop_the_start_with_a_cure_and_the_next_start_makes_them(
    tmp_path, monkeypatch, call
):
    really = getattr(os, call)

    def fail(first, *rest, **named):
        if call == "open" and "first-keys" not in str(first):
            return really(first, *rest, **named)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(ConfigError, match="The first keys cannot be written: No space left on device") as refused:
            Records(tmp_path, clock=HeldClock())
    assert refused.value.where == str(tmp_path / "first-keys.json")
    assert refused.value.fix
    assert rows(tmp_path, "SELECT count(*) FROM projects") == [(0,)]

    with Records(tmp_path, clock=HeldClock()) as records:
        assert len(records.keys) == 4


def test_a_link_planted_where_the_keys_are_to_be_written_is_not_followed(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "victim").write_text("mine")
    for name in ("first-keys.json", "first-keys.json.new"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "victim")

    Records(tmp_path / "data", clock=HeldClock()).close()

    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "data" / "first-keys.json").is_symlink()
