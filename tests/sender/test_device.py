"""The random id of a machine: one, private, and no trouble where it cannot be kept."""

import errno
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from leeward.sender import device
from leeward.sender.device import DEVICE_ID_NAME, device_id, reset

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
KNOWN = "00000000-0000-4000-8000-000000000000"
HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(device, "_remembered", {})


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "spool")


def next_process():
    """What a process that starts now would know."""
    device._remembered.clear()


def file_of(root):
    return Path(root) / DEVICE_ID_NAME


def kept(root):
    return file_of(root).read_text()


def plant(root, content):
    Path(root).mkdir()
    file_of(root).write_bytes(content)


def mode(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


def names_in(folder):
    return [path.name for path in Path(folder).iterdir()]


def test_it_is_a_random_uuid_that_is_made_once_and_stays(root):
    first = device_id(root)

    assert UUID4.fullmatch(first)
    assert kept(root) == first + "\n"
    next_process()
    assert device_id(root) == first
    assert device_id(root + "-other") != first
    assert names_in(root) == [DEVICE_ID_NAME]


def test_ids_are_uuids_of_version_4_and_differ():
    ids = {device._new_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(UUID4.fullmatch(made) and device._is_id(made) for made in ids)


def test_folder_and_file_are_the_users_alone(root):
    former = os.umask(0)
    try:
        device_id(root)
        assert (mode(root), mode(file_of(root))) == (0o700, 0o600)
        reset(root)
        assert mode(file_of(root)) == 0o600
    finally:
        os.umask(former)


def test_a_reset_gives_a_new_one_to_everybody(root):
    first = device_id(root)
    second = reset(root)

    assert UUID4.fullmatch(second)
    assert second != first
    assert device_id(root) == second
    next_process()
    assert device_id(root) == second
    assert names_in(root) == [DEVICE_ID_NAME]
    assert reset(root + "-new") == device_id(root + "-new")


def test_without_a_root_the_process_has_its_own_until_it_is_reset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = device_id("")

    assert UUID4.fullmatch(first)
    assert device_id("") == first
    second = reset("")
    assert second != first
    assert device_id("") == second
    next_process()
    assert device_id("") not in {first, second}
    assert names_in(tmp_path) == []


@example(b"")
@example(KNOWN.encode())
@example(KNOWN.encode() + b"\r\n")
@example(KNOWN.encode() + b"0")
@example(KNOWN.replace("4", "1").encode())
@example(KNOWN.replace("8", "c").encode())
@example(KNOWN.replace("-4", "4-").encode())
@example(b"x" * 1_000_000)
@given(st.binary(max_size=80) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_is_no_id_is_replaced_by_one_that_stays(tmp_path_factory, content):
    device._remembered.clear()
    root = str(tmp_path_factory.mktemp("root") / "spool")
    plant(root, content)

    found = device_id(root)

    assert UUID4.fullmatch(found)
    assert found == kept(root).strip()
    assert (found == KNOWN) is (content.decode("utf-8", "replace").strip() == KNOWN)
    assert names_in(root) == [DEVICE_ID_NAME]


def test_c17_no_symbolic_link_is_read_or_written_through(root, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(KNOWN)
    Path(root).mkdir()
    path = file_of(root)

    for act in (device_id, reset):
        path.unlink(missing_ok=True)
        path.symlink_to(elsewhere)
        assert act(root) != KNOWN
        assert elsewhere.read_text() == KNOWN
        assert not path.is_symlink()
        next_process()
        assert device_id(root) == kept(root).strip()


def test_a_link_to_nowhere_and_a_pipe_are_replaced(root):
    Path(root).mkdir()
    path = file_of(root)
    path.symlink_to("nowhere")
    assert device_id(root) == kept(root).strip()
    path.unlink()
    os.mkfifo(path)
    assert device_id(root) == kept(root).strip()


@pytest.mark.parametrize("place", ["below a file", "a folder of its name", "no such path", "a path too long"])
def test_c17_where_it_cannot_be_kept_the_process_has_its_own_and_stays_with_it(place, root, tmp_path):
    if place == "below a file":
        (tmp_path / "file").write_text("")
        root = str(tmp_path / "file" / "spool")
    elif place == "a folder of its name":
        file_of(root).mkdir(parents=True)
    else:
        root = "\0" if place == "no such path" else str(tmp_path / ("x" * 5_000))

    first = device_id(root)

    assert UUID4.fullmatch(first)
    assert device_id(root) == first
    second = reset(root)
    assert second != first
    assert device_id(root) == second
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("call", ["open", "read", "write", "makedirs"])
def test_c17_a_disk_that_fails_is_no_error_and_leaves_nothing_behind(call, root, monkeypatch):
    real = getattr(os, call)

    def failing(*args, **kwargs):
        raise OSError(errno.EIO, "injected")

    if call == "read":
        plant(root, b"garbage")
    monkeypatch.setattr(device.os, call, failing)
    assert UUID4.fullmatch(device_id(root))
    assert device_id(root) == device_id(root)
    assert UUID4.fullmatch(reset(root))
    monkeypatch.setattr(device.os, call, real)
    assert [name for name in names_in(Path(root).parent) if name != "spool"] == []
    if Path(root).is_dir():
        assert set(names_in(root)) <= {DEVICE_ID_NAME}


def test_after_a_failure_that_passed_the_process_stays_with_its_own_until_a_reset(root, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(device.os, "makedirs", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(errno.EROFS, "x")))
        own = device_id(root)
    assert device_id(root) == own
    assert reset(root) == kept(root).strip() == device_id(root)


# --- two at once


def test_c15_who_comes_second_takes_what_the_first_has_put_there(root, monkeypatch):
    real = os.link

    def raced(source, target):
        monkeypatch.setattr(device.os, "link", real)
        Path(target).write_text(KNOWN)
        real(source, target)

    monkeypatch.setattr(device.os, "link", raced)

    assert device_id(root) == KNOWN
    assert names_in(root) == [DEVICE_ID_NAME]


def test_who_removes_garbage_does_not_remove_the_id_that_another_has_put_there_meanwhile(root, monkeypatch):
    plant(root, b"garbage")
    real = os.rename

    def raced(source, target):
        monkeypatch.setattr(device.os, "rename", real)
        Path(source).write_text(KNOWN)
        real(source, target)

    monkeypatch.setattr(device.os, "rename", raced)

    assert device_id(root) == KNOWN
    assert names_in(root) == [DEVICE_ID_NAME]


def test_garbage_that_another_has_removed_meanwhile_is_no_error(root, monkeypatch):
    plant(root, b"garbage")
    real = os.rename

    def raced(source, target):
        monkeypatch.setattr(device.os, "rename", real)
        Path(source).unlink()
        real(source, target)

    monkeypatch.setattr(device.os, "rename", raced)

    assert device_id(root) == kept(root).strip()


def test_who_writes_garbage_again_and_again_wins_the_file_but_not_the_process(root, monkeypatch):
    plant(root, b"garbage")
    real = os.link

    def spoiled(source, target):
        real(source, target)
        Path(target).write_text("garbage")

    monkeypatch.setattr(device.os, "link", spoiled)

    first = device_id(root)

    assert UUID4.fullmatch(first)
    assert device_id(root) == first
    assert names_in(root) == [DEVICE_ID_NAME]


@pytest.mark.parametrize("missing", ["in the file system", "in this Python", "and nothing can be renamed"])
def test_where_there_are_no_hard_links_it_is_kept_all_the_same(missing, root, monkeypatch):
    def refused(*args):
        raise OSError(errno.EPERM, "injected")

    if missing == "in this Python":
        monkeypatch.delattr(device.os, "link")
    else:
        monkeypatch.setattr(device.os, "link", refused)
    if missing == "and nothing can be renamed":
        monkeypatch.setattr(device.os, "replace", refused)
        assert UUID4.fullmatch(device_id(root))
        assert names_in(root) == []
    else:
        assert device_id(root) == kept(root).strip()
        assert names_in(root) == [DEVICE_ID_NAME]


def test_threads_that_begin_together_agree_on_one(tmp_path):
    for number in range(200 if HEAVY else 20):
        root = str(tmp_path / str(number))
        if number % 2:
            plant(root, b"garbage")
        barrier = threading.Barrier(4)
        found = []

        def work(root=root, barrier=barrier, found=found):
            barrier.wait()
            found.append(device._kept(root))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        if not number % 2:  # garbage is the one case in which a third may come in between
            assert set(found) == {kept(root).strip()}
        assert len(found) == 4
        assert names_in(root) == [DEVICE_ID_NAME]


def test_c15_processes_that_begin_together_agree_on_one(root):
    program = f"import sys; from leeward.sender.device import device_id; sys.stdin.read(); print(device_id({root!r}))"
    begun = [
        subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in begun:
        process.stdin.close()  # all read its end, as soon as they are there
    found = set()
    for process in begun:
        found.add(process.stdout.read().strip())
        process.stdout.close()
        assert process.wait(30) == 0

    assert found == {kept(root).strip()}
