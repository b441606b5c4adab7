"""Real servers that fork their workers before or while they work: gunicorn and Celery."""

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import programs
import recorder

APP = """
import os
import leeward

leeward.init({key!r}, {host!r}, spool_dir={spool!r})
leeward.capture("loaded", {{"pid": os.getpid()}})  # and at once comes the fork

def app(environ, start_response):
    leeward.capture("request", {{"pid": os.getpid()}})
    if environ["PATH_INFO"] == "/die":
        os._exit(1)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
TASKS = """
import celery
import leeward

leeward.init({key!r}, {host!r}, spool_dir={spool!r})
leeward.capture("loaded")
app = celery.Celery("tasks", broker="filesystem://", backend="cache+memory://")
app.conf.broker_transport_options = {{"data_folder_in": {queue!r}, "data_folder_out": {queue!r}}}
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)

@app.task
def work(number):
    leeward.capture("task", {{"number": number}})
    open(f"done-{{number}}", "w").close()
"""


def names_of(server):
    return sorted(event["event_type"] for event in server.events.values())


def pids_of(server, name):
    return {event["data"]["pid"] for event in server.events.values() if event["event_type"] == name}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def started(arguments, cwd, **variables):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=cwd,
        env=programs.environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("preload", [True, False])
def test_c14_every_worker_of_gunicorn_delivers_its_own_events_while_it_lives(server, tmp_path, preload):
    spool = tmp_path / "spool"
    (tmp_path / "web.py").write_text(APP.format(key=recorder.KEY, host=server.host, spool=str(spool)))
    port = free_port()
    options = ["--bind", f"127.0.0.1:{port}", "--workers", "3", "--max-requests", "5", "--log-level", "warning"]
    options += ["--no-control-socket"] if _has_control_socket() else []
    with started(["gunicorn", *options, *(["--preload"] if preload else []), "web:app"], tmp_path) as process:
        try:
            assert server.wait_for(lambda: "loaded" in names_of(server), programs.WATCHDOG_S)
            asked = [_get(port, "/") for _ in range(30)]
            assert asked == [b"ok"] * 30
            # Not at their end, and not by others: while they serve.
            assert server.wait_for(lambda: names_of(server).count("request") >= 30, programs.WATCHDOG_S)
            assert len(pids_of(server, "request")) > 1
            with pytest.raises(OSError):
                _get(port, "/die")
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=programs.WATCHDOG_S)
        finally:
            process.kill()
    assert process.returncode == 0
    count = len(server.stored) + bool(programs.left_on_disk(spool))

    programs.deliver_left(server, spool, count)

    assert names_of(server).count("request") == 31
    assert set(server.stored.values()) == {1}
    assert names_of(server).count("loaded") == (1 if preload else len(pids_of(server, "loaded")))
    assert programs.left_on_disk(spool) == []


def test_c14_every_prefork_worker_of_celery_delivers_its_tasks_events(server, tmp_path):
    """One task for each child, which ends by os._exit a moment later: what it captured, the parent adopts and sends."""
    spool, queue = tmp_path / "spool", tmp_path / "queue"
    queue.mkdir()
    (tmp_path / "tasks.py").write_text(
        TASKS.format(key=recorder.KEY, host=server.host, spool=str(spool), queue=str(queue))
    )
    options = ["--pool", "prefork", "--concurrency", "2", "--max-tasks-per-child", "1", "--loglevel", "ERROR"]
    options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    sent = programs.run("import tasks\nfor number in range(6): tasks.work.delay(number)", cwd=tmp_path)
    assert (sent.returncode, sent.stderr) == (0, "")
    with started(["celery", "-A", "tasks", "worker", *options], tmp_path) as process:
        try:
            for number in range(6):
                _wait_for(lambda number=number: (tmp_path / f"done-{number}").exists())
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=programs.WATCHDOG_S)
        finally:
            process.kill()

    programs.deliver_left(server, spool, len(server.stored))

    numbers = [event["data"]["number"] for event in server.events.values() if event["event_type"] == "task"]
    assert sorted(numbers) == list(range(6))
    assert set(server.stored.values()) == {1}
    assert programs.left_on_disk(spool) == []


def _wait_for(condition):
    until_s = time.monotonic() + programs.WATCHDOG_S
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.02)


def _get(port, path):
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
                return answer.read()
        except ConnectionRefusedError:
            continue
        except urllib.error.URLError as error:
            if not isinstance(error.reason, ConnectionRefusedError):
                raise
    raise AssertionError("nobody listens")


def _has_control_socket():
    import gunicorn.config

    return "control_socket_disable" in gunicorn.config.KNOWN_SETTINGS or any(
        "--no-control-socket" in (setting.cli or ()) for setting in gunicorn.config.KNOWN_SETTINGS
    )
