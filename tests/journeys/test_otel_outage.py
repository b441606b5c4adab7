"""An OpenTelemetry application delivers everything, each once, whatever its collector and its process go through."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

import programs
from otlp_recorder import KEY, Recorder, ok, status

# Says what it did on stdout, and then waits for a line on stdin before it goes on.
APPLICATION = """
import logging, sys
from opentelemetry import metrics, trace
from leeward.integrations.otel import configure

endpoint, key, spool, first, count = sys.argv[1:6]
logging.basicConfig(level="INFO", handlers=[logging.NullHandler()])
telemetry = configure(endpoint=endpoint, api_key=key, service_name="shop", spool_dir=spool, metrics_interval_s=3600)
tracer = trace.get_tracer("shop")
logger = logging.getLogger("shop.orders")
orders = metrics.get_meter("shop").create_counter("orders")
for number in range(int(first), int(first) + int(count)):
    with tracer.start_as_current_span(f"order {number}"):
        logger.info("order %d", number)
        with telemetry.genai.call("openai", "gpt-4o-mini") as call:
            call.usage(input_tokens=3)
    orders.add(1)
telemetry.meter_provider.force_flush(1)
print("done", flush=True)
for line in sys.stdin:
    print(telemetry.flush(20).spooled, flush=True)
"""


class Application:
    """The program in a process of its own."""

    def __init__(self, endpoint, spool, first, count):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "faulthandler",
                "-c",
                APPLICATION,
                endpoint,
                KEY,
                str(spool),
                str(first),
                str(count),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=programs.environment(),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def says(self):
        return self.process.stdout.readline().strip()

    def flush(self):
        self.process.stdin.write("flush\n")
        self.process.stdin.flush()
        return self.says()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        assert self.process.wait(20) == -signal.SIGKILL

    def end(self):
        out, err = self.process.communicate(timeout=programs.WATCHDOG_S)
        assert (self.process.returncode, err) == (0, "")
        return out


@pytest.fixture
def port():
    """One on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def names(collector):
    """The spans' names and the log lines, sorted, each as often as it arrived."""
    spans, lines = [], []
    for identity, item in collector.events.items():
        times = collector.stored[identity]
        if item.DESCRIPTOR.name == "Span":
            spans += [item.name] * times
        elif item.DESCRIPTOR.name == "LogRecord":
            lines += [item.body.string_value] * times
    return sorted(spans), sorted(lines)


def orders(first, count):
    return sorted(f"order {number}" for number in range(first, first + count))


def total(collector, name):
    """What the latest points of a counter say, over all processes: a process's start tells them apart."""
    latest = {}
    for item in collector.events.values():
        if item.DESCRIPTOR.name == "Metric" and item.name == name:
            for point in item.sum.data_points:
                start = point.start_time_unix_nano
                latest[start] = max(latest.get(start, 0), point.as_int)
    return sum(latest.values())


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_an_outage_that_answers_is_outlasted(tmp_path, code):
    with Recorder() as collector:
        collector.always = status(code, "Retry-After: 0\r\n")
        with Application(collector.host, tmp_path, 0, 100) as application:
            assert application.says() == "done"
            assert collector.wait_for(lambda: len(collector.requests) >= 3)
            assert not collector.stored
            collector.always = ok
            assert application.flush() == "0"
            application.end()

        assert names(collector) == (orders(0, 100), orders(0, 100))
        assert total(collector, "orders") == 100
        assert collector.broken == []


def test_a_kill_while_nobody_listens_loses_nothing_and_the_next_start_delivers_each_once(tmp_path, port):
    with Application(f"http://127.0.0.1:{port}", tmp_path, 0, 200) as application:
        assert application.says() == "done"
        application.kill()

    with Recorder(port) as collector:
        with Application(collector.host, tmp_path, 200, 50) as application:
            assert application.says() == "done"
            assert application.flush() == "0"
            application.end()

        assert names(collector) == (orders(0, 250), orders(0, 250))
        assert total(collector, "orders") == 250
        assert collector.broken == []
        assert collector.services == {"shop"}
    assert [files for _, _, files in os.walk(tmp_path) if files] == [["about.json"]]


def test_a_program_that_ends_during_an_outage_leaves_its_data_to_the_next(tmp_path, port):
    with Application(f"http://127.0.0.1:{port}", tmp_path, 0, 30) as application:
        assert application.says() == "done"
        application.end()

    with Recorder(port) as collector:
        with Application(collector.host, tmp_path, 30, 1) as application:
            assert application.says() == "done"
            assert application.flush() == "0"
            application.end()

        assert names(collector) == (orders(0, 31), orders(0, 31))
        assert total(collector, "orders") == 31
