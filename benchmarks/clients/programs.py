"""What runs in the measured process: `python -m benchmarks.clients.programs MEASURE CLIENT URL SPOOL_DIR ARGUMENTS`.

Each program configures one client, does one thing with it and prints what it saw as a line of JSON. It ends as a
program does, by coming to the end of its main module, unless how it ends is what is measured.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from array import array
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.clients.events import Event, hostile, stream
from benchmarks.clients.subjects import SUBJECTS, Subject

RUN = "run"  # the marks of the events that are counted
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def say(**values: Any) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def percentiles_us(times_ns: array[int]) -> dict[str, float]:
    ordered = sorted(times_ns)
    at = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    found = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1000 for name, share in at.items()}
    return {**found, "max": ordered[-1] / 1000}


def warm(subject: Subject) -> None:
    """The first captures start threads and import what was put off: they are nobody's steady state."""
    for event in islice(stream("warm"), 40):
        subject.capture(*event)
    subject.flush(5)
    time.sleep(0.1)


def timed(subject: Subject, events: Iterator[Event], times_ns: array[int], until_s: float) -> int:
    """Capture one after the other, each timed; how many, when time was up."""
    now_ns, capture = time.perf_counter_ns, subject.capture
    made = 0
    for event in islice(events, len(times_ns)):
        began_ns = now_ns()
        capture(*event)
        ended_ns = now_ns()
        times_ns[made] = ended_ns - began_ns
        made += 1
        if ended_ns > until_s * 1e9:
            break
    return made


def tight(subject: Subject, count: int, limit_s: float) -> None:
    events = list(islice(stream(RUN), count))
    warm(subject)
    times_ns = array("L", bytes(8 * count))
    made = timed(subject, iter(events), times_ns, time.perf_counter() + limit_s)
    say(**percentiles_us(times_ns[:made]))
    os._exit(0)


def paced(subject: Subject, count: int) -> None:
    events = list(islice(stream(RUN), count))
    warm(subject)
    now_ns, capture = time.perf_counter_ns, subject.capture
    times_ns = array("L")
    tick_s = time.perf_counter()
    for event in events:
        tick_s += 0.001
        time.sleep(max(0.0, tick_s - time.perf_counter()))
        began_ns = now_ns()
        capture(*event)
        times_ns.append(now_ns() - began_ns)
    say(**percentiles_us(times_ns))
    os._exit(0)


def disabled(_: Subject, how: str, url: str, spool_dir: str) -> None:
    """Ours alone, called directly: an adapter would cost as much again. The mean of a thousand, to stay above the clock."""
    from benchmarks.clients.subjects import KEY

    import leeward

    client = leeward.init(KEY, url, spool_dir=spool_dir, disabled=how == "argument")
    if how == "attribute":
        client.disabled = True
    capture, properties = leeward.capture, {"a": 1}
    means_us = []
    for _round in range(200):
        began_ns = time.perf_counter_ns()
        for _call in range(1000):
            capture("message_sent", properties)
        means_us.append((time.perf_counter_ns() - began_ns) / 1e6)
    say(p50=sorted(means_us)[100])


def deliver(subject: Subject, count: int, limit_s: float) -> None:
    """Capture no more at once than the client can hold, flush, and again: nothing has to be dropped."""
    events = list(islice(stream(RUN), count))
    warm(subject)
    began_s, cpu_s = time.monotonic(), time.process_time()
    made = 0
    while made < count and time.monotonic() - began_s < limit_s:
        for event in events[made : made + subject.lossless]:
            subject.capture(*event)
            made += 1
        subject.flush(30)
    say(made=made, began_s=began_s, cpu_s=time.process_time() - cpu_s)
    os._exit(0)


def leave(subject: Subject, count: int) -> None:
    for event in islice(stream(RUN), count):
        subject.capture(*event)
    say(last_at_s=time.monotonic())


def kill(subject: Subject, count: int) -> None:
    for event in islice(stream(RUN), count):
        subject.capture(*event)
    os.kill(os.getpid(), signal.SIGKILL)


def again(subject: Subject) -> None:
    """The next start of a program that ended, one way or another."""
    for event in islice(stream("next"), 1):
        subject.capture(*event)
    subject.flush(10)


def outage(subject: Subject, count: int) -> None:
    """Capture, and go on living until the line is closed."""
    for event in islice(stream(RUN), count):
        subject.capture(*event)
    sys.stdin.read()


def burst(subject: Subject, count: int, limit_s: float, spool_dir: str) -> None:
    warm(subject)
    times_ns = array("L", bytes(8 * count))
    made = timed(subject, stream(RUN), times_ns, time.perf_counter() + limit_s)
    spool_mb = sum(file.stat().st_blocks * 512 for file in Path(spool_dir).rglob("*")) / 1e6
    mean_us = sum(times_ns[:made]) / made / 1000
    say(made=made, mean_us=mean_us, spool_mb=spool_mb)
    subject.flush(60)


def memory(subject: Subject, count: int, limit_s: float) -> None:
    events = stream(RUN)
    subject.capture(*next(events))
    next(events)
    times_ns = array("L", bytes(8 * count))
    time.sleep(0.5)
    before_mb = resident_mb()
    made = timed(subject, events, times_ns, time.perf_counter() + limit_s)
    growth_mb = resident_mb() - before_mb
    mean_us = sum(times_ns[:made]) / made / 1000
    say(made=made, growth_mb=growth_mb, mean_us=mean_us, p50=percentiles_us(times_ns[:made])["p50"])
    os._exit(0)


def fork(subject: Subject, ending: str) -> None:
    """A third captured before the fork, a third in the child, a third in the parent afterwards."""
    events = list(islice(stream(RUN), 150))
    for event in events[:50]:
        subject.capture(*event)
    child = os.fork()
    if child == 0:
        for event in events[50:100]:
            subject.capture(*event)
        if ending == "flush":
            subject.flush(5)
        if ending != "normal":
            os._exit(0)
        return  # to the end of the program
    for event in events[100:]:
        subject.capture(*event)
    limit_s = time.monotonic() + 15
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > limit_s:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            say(child_hangs=1)
            break
        time.sleep(0.02)


def hostility(subject: Subject) -> None:
    """The slowest capture of ten hostile values, and how many came out of it as an exception."""
    warm(subject)
    raised, worst_s = 0, 0.0
    for value in hostile():
        began_s = time.perf_counter()
        try:
            subject.capture("hostile", {"value": value}, "user-1")
        except Exception:  # counting them is the purpose
            raised += 1
        worst_s = max(worst_s, time.perf_counter() - began_s)
        subject.flush(10)  # else the next value would pay for the worker that encodes this one
    say(raised=raised, worst_ms=worst_s * 1000)
    os._exit(0)


PROGRAMS = {
    program.__name__: program
    for program in (tight, paced, disabled, deliver, leave, kill, again, outage, burst, memory, fork, hostility)
}


def main() -> None:
    name, client, url, spool_dir, arguments = sys.argv[1:]
    subject = SUBJECTS[client]()
    if name != "disabled":  # which configures by itself
        subject.start(url, spool_dir)
    PROGRAMS[name](subject, **json.loads(arguments))


if __name__ == "__main__":
    main()
