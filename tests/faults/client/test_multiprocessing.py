"""`multiprocessing` in its three ways of starting, and the pools that are built on it."""

import textwrap

import pytest

import programs
import recorder

MAIN = """
import multiprocessing, os, sys
from concurrent.futures import ProcessPoolExecutor
import leeward

def begin():
    leeward.init({key!r}, {host!r}, spool_dir={spool!r})

def work(number):
    return leeward.capture("work", {{"number": number}}) is not None

def fail(number):
    leeward.capture("work", {{"number": number}})
    os._exit(7)

if __name__ == "__main__":
    begin()
    leeward.capture("main")
    context = multiprocessing.get_context({method!r})
"""
WAYS = {
    "Process": """
    processes = [context.Process(target=work, args=(number,)) for number in range(4)]
    for process in processes: process.start()
    for process in processes: process.join()
    print([process.exitcode for process in processes] == [0] * 4)
    """,
    "Process that ends badly": """
    processes = [context.Process(target=fail, args=(number,)) for number in range(4)]
    for process in processes: process.start()
    for process in processes: process.join()
    print([process.exitcode for process in processes] == [7] * 4)
    """,
    "Pool": """
    with context.Pool(2, maxtasksperchild=1) as pool:
        print(all(pool.map(work, range(4))))
        pool.close(); pool.join()
    """,
    "Pool that is terminated": """
    with context.Pool(2) as pool:
        print(all(pool.map(work, range(4))))
    """,
    "ProcessPoolExecutor": """
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(all(pool.map(work, range(4))))
    """,
}


# A fresh interpreter for each process takes its time: forkserver and spawn go all ways in the long run only.
PAIRS = [
    (method, way)
    for method in ("fork", "forkserver", "spawn")
    for way in WAYS
    if method == "fork" or programs.HEAVY or way in {"Process that ends badly", "Pool that is terminated"}
]


@pytest.mark.parametrize(("method", "way"), PAIRS)
def test_c14_every_process_of_multiprocessing_delivers_its_own_events(server, tmp_path, method, way):
    spool = tmp_path / "spool"
    main = MAIN.format(key=recorder.KEY, host=server.host, spool=str(spool), method=method)
    if method != "fork":  # a fresh interpreter knows nothing of `begin`
        main = main.replace("def work(number):\n", "def work(number):\n    begin()\n")
        main = main.replace("def fail(number):\n", "def fail(number):\n    begin()\n")
    script = tmp_path / "main.py"
    script.write_text(main + textwrap.indent(textwrap.dedent(WAYS[way]), "    "))

    result = programs.run(script)
    assert (result.returncode, result.stdout, result.stderr) == (0, "True\n", "")

    programs.deliver_left(server, spool, 5)

    assert len(server.stored) == 5
    ended_at_work = "bad" in way or "terminated" in way  # what was on its way may come again, under its id
    assert set(server.stored.values()) <= ({1, 2} if ended_at_work else {1})
    assert programs.left_on_disk(spool) == []
