"""Programs that are killed: what `capture` gave an id for is delivered by whoever comes next, and nothing twice."""

import random
import signal
import subprocess

import pytest

import posthog_recorder
import programs
import recorder

WORK = """
number = 0
while True:
    number += 1
    if number % 5:
        name = leeward.capture("tick", {"text": "x" * 300}, distinct_id="d")
    else:
        name = leeward.capture_exception(ValueError("tick"), distinct_id="d")
    print(name, flush=True)
"""


def distant(recorder_, request):
    """A server that is 100 ms away."""
    recorder_.closing.wait(0.1)
    return recorder.ok(recorder_, request)


def start_and_kill(chance, host, spool, arguments=""):
    """The ids that a program was given before it was killed at some moment."""
    with programs.start(programs.program(WORK, host, spool, arguments)) as process:
        ids = [process.stdout.readline().strip() for _ in range(chance.randrange(1, 1500))]
        process.send_signal(signal.SIGKILL)
        ids += process.stdout.read().split("\n")[:-1]
    assert None not in ids
    assert "None" not in ids
    return ids


@pytest.mark.parametrize("round_", range(programs.rounds(6, 200)))
def test_c9_what_capture_returned_an_id_for_survives_kill_9(tmp_path, round_):
    chance = random.Random(round_)
    kind = posthog_recorder if round_ % 3 == 2 else recorder
    arguments = ', wire="posthog"' if kind is posthog_recorder else ""
    with kind.Recorder() as server:
        server.always = distant if round_ % 3 == 1 else recorder.ok
        server.script.extend([recorder.status(503)] * chance.randrange(3))
        ids = start_and_kill(chance, server.host, tmp_path, arguments)

        programs.deliver_left(server, tmp_path, len(ids), arguments)

        assert server.broken == []
        assert set(ids) <= set(server.stored)
        assert len(server.stored) - len(ids) in {0, 1}  # the kill may have come between the append and the print
    assert programs.left_on_disk(tmp_path) == []


def test_c9_a_program_that_is_killed_again_and_again_while_it_sends_what_others_left_loses_nothing(server, tmp_path):
    chance = random.Random(9)
    server.always = distant
    ids = [name for _ in range(4) for name in start_and_kill(chance, server.host, tmp_path)]

    programs.deliver_left(server, tmp_path, len(ids))

    assert set(ids) <= set(server.stored)
    assert len(server.stored) - len(ids) in range(5)
    assert programs.left_on_disk(tmp_path) == []


@pytest.mark.parametrize("round_", range(programs.rounds(1, 5)))
def test_c15_processes_that_share_a_folder_and_die_at_any_moment_lose_and_double_nothing(server, tmp_path, round_):
    chance = random.Random(round_)
    text = programs.program(WORK, server.host, tmp_path)
    processes = [programs.start(text) for _ in range(programs.rounds(8, 50))]
    ids = []
    for process in processes:
        with process:
            ids += [process.stdout.readline().strip() for _ in range(chance.randrange(1, 200))]
            process.send_signal(signal.SIGKILL)
            ids += process.stdout.read().split("\n")[:-1]

    programs.deliver_left(server, tmp_path, len(ids))

    assert len(set(ids)) == len(ids)
    assert set(ids) <= set(server.stored)
    assert len(server.stored) - len(ids) <= len(processes)
    assert programs.left_on_disk(tmp_path) == []


def test_c15_processes_that_share_a_folder_lose_nothing(server, tmp_path):
    """What many left is taken by many at once, and each event by one of them."""
    server.always = recorder.status(503)
    body = """
    for _ in range(100): leeward.capture("tick", {"text": "x" * 100})
    leeward.flush(0.01)
    os._exit(0)
    """
    leaving = [programs.start(programs.program(body, server.host, tmp_path)) for _ in range(programs.rounds(4, 20))]
    for process in leaving:
        programs.finish(process)
    server.always = recorder.ok
    text = programs.program("leeward.flush(30)", server.host, tmp_path)
    for process in [programs.start(text) for _ in range(programs.rounds(4, 20))]:
        assert programs.finish(process).returncode == 0

    programs.deliver_left(server, tmp_path, 100 * len(leaving))

    assert len(server.stored) == 100 * len(leaving)
    assert set(server.stored.values()) == {1}
    assert programs.left_on_disk(tmp_path) == []


def test_c16_a_child_that_lives_on_keeps_no_lock_of_its_dead_parents(server, tmp_path):
    """A lock rides on the open file, and the child has inherited it; its parent's events go to the next process."""
    server.always = recorder.status(503)
    body = """
    for _ in range(20): leeward.capture("tick")
    if os.fork() == 0:
        os.close(1)
        sys.stdin.read()  # lives for as long as the test wants
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with programs.start(programs.program(body, server.host, tmp_path), stdin=subprocess.PIPE) as parent:
        parent.wait(programs.WATCHDOG_S)
        server.always = recorder.ok

        programs.deliver_left(server, tmp_path, 20)

        parent.stdin.close()  # and the child ends
    assert len(server.stored) == 20
    assert set(server.stored.values()) == {1}
