"""Failures of leeward itself, told to a Sentry project: read by our own decoder of Sentry's wire, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest

from control_helpers import HeldClock
from gateways import settled
from leeward.clock import SystemClock
from leeward.errors import ConfigError, Unavailable
from leeward.gateway.records import Caller, RequestRecord
from leeward.server.sentry_report import (
    EVENTS_PER_MINUTE,
    KNOWN_MAX,
    NOT_TOLD,
    PAUSE_S,
    SAME_EVERY_S,
    WAITING_MAX,
    SentryReport,
)
from leeward.wire.sentry.envelope import split
from leeward.wire.sentry.items import map_envelope
from upstreams import HANG, RESET, answer, serving

OK = answer(b'{"id":"1"}')


class Project:
    """A report that is told to a scripted receiver, and what came there."""

    def __init__(self, upstream, port, clock):
        self.upstream = upstream
        self.clock = clock
        self.lines = []
        self.report = SentryReport(
            f"http://pubkey9@127.0.0.1:{port}/42", clock=clock, report=lambda *line: self.lines.append(line)
        )

    @property
    def envelopes(self):
        return [request.partition(b"\r\n\r\n")[2] for request in self.upstream.requests]

    @property
    def events(self):
        found = []
        for body in self.envelopes:
            mapped = map_envelope(body, split(body), project=1, received_at=self.clock.wall_ms())
            found += mapped.events
        return found

    async def came(self, count):
        await settled(lambda: sum(self.report.counts[name] for name in ("sent", "failed")) >= count)


def with_project(work, *scripts, clock=None):
    async def main():
        async with serving(*(scripts or ([OK],))) as (upstream, endpoint):
            project = Project(upstream, endpoint.origin.port, clock or SystemClock())
            project.report.start()
            try:
                await work(project)
            finally:
                await project.report.stop(1.0)
            assert [task for task in asyncio.all_tasks() if "/leeward/" in task.get_coro().cr_code.co_filename] == []

    asyncio.run(main())


def raised(error, cause=None):
    try:
        try:
            if cause is not None:
                raise cause
        finally:
            raise error
    except BaseException as caught:
        return caught


def test_an_exception_becomes_an_event_that_our_own_server_takes():
    async def work(project):
        project.report.failed("request_failed", raised(Unavailable("the log is full")), "req_7")
        await project.came(1)

        [event] = project.events
        assert (event.kind, event.name, event.level) == ("exception", "$exception", "ERROR")
        assert event.error_type == "leeward.errors.Unavailable"
        assert event.error_message == "the log is full"
        assert 'test_sentry_report.py", line' in event.error_stack
        data = json.loads(event.data)
        assert data["tags"] == {"event": "request_failed", "request_id": "req_7"}
        assert data["release"].startswith("leeward@")
        head = project.upstream.requests[0].partition(b"\r\n\r\n")[0].lower()
        assert head.startswith(b"post /api/42/envelope/ http/1.1\r\n")
        assert b"sentry_key=pubkey9" in head
        assert project.report.counts["sent"] == 1

    with_project(work)


def test_a_log_that_is_watched_writes_as_before_and_tells_exceptions_alone():
    async def work(project):
        lines = []
        report = project.report.watching(lambda event, fields: lines.append(event))
        report("ready", {"port": 1})
        report("writer_failed", {"error": raised(OSError(28, "No space left on device"))})
        await project.came(1)

        assert lines == ["ready", "writer_failed"]
        [event] = project.events
        assert event.error_message == "[Errno 28] No space left on device"

    with_project(work)


def test_g14_an_exceptions_own_words_variables_and_lines_of_code_are_not_told():
    prompt = "my patient Zebraquokka"

    async def work(project):
        said_in_a_variable = prompt
        error = raised(ValueError(f"cannot read {said_in_a_variable!r}"), KeyError(prompt))
        project.report.failed("request_failed", error)
        await project.came(1)

        [body] = project.envelopes
        assert b"ebraquokka" not in body
        assert b"said_in_a_variable" not in body
        assert str(Path(__file__).parent).encode() not in body
        values = json.loads(body.splitlines()[2])["exception"]["values"]
        assert [(value["type"], value["value"]) for value in values] == [
            ("KeyError", NOT_TOLD),
            ("ValueError", NOT_TOLD),
        ]

    with_project(work)


def test_g14_a_secret_in_our_own_words_is_taken_out():
    async def work(project):
        secret = "sk-proj-" + "a1B2" * 12
        project.report.failed("request_failed", raised(Unavailable(f"no: {secret}")))
        await project.came(1)

        assert secret.encode() not in project.envelopes[0]

    with_project(work)


def test_a_refused_key_and_a_route_that_nobody_answers_are_alerts_and_nothing_else_is():
    async def work(project):
        report = project.report
        request = RequestRecord(Caller("req_1"), "chat", "chat", False, 0, 0.1, "open", code="providers_unavailable")
        report.changed("a", "large", "breaker", "open", "status_500")
        report.changed("a", "large", "breaker", "forced-probe", "")
        report.changed("a", "large", "credentials", "refused", "")
        report.changed("a", "small", "credentials", "refused", "")
        report.attempted(request, None, "")
        report.ended(request)
        await project.came(2)

        messages = [(event.error_message, json.loads(event.data)["tags"]["event"]) for event in project.events]
        assert [name for _, name in messages] == ["providers_unavailable", "credentials_refused"]
        assert "a does not accept its key" in messages[1][0]
        assert len(project.events) == 2

    with_project(work)


def test_an_open_route_names_the_request():
    async def work(project):
        project.report.ended(RequestRecord(Caller("req_1"), "chat", "chat", False, 0, 0.1, "open"))
        project.report.ended(RequestRecord(Caller("req_2"), "chat", "chat", False, 0, 0.1, "failed"))
        await project.came(1)

        assert json.loads(project.events[0].data)["tags"]["request_id"] == "req_1"

    with_project(work)


def test_the_same_is_told_once_in_a_while_and_only_so_many_a_minute():
    clock = HeldClock()

    async def work(project):
        report = project.report
        for _ in range(3):
            report.alert("same", "again", "")
        for number in range(2 * EVENTS_PER_MINUTE):
            report.alert("many", "other", str(number))
        await project.came(EVENTS_PER_MINUTE)
        assert report.counts["sent"] == EVENTS_PER_MINUTE
        assert report.counts["limited"] == EVENTS_PER_MINUTE + 1
        clock.pass_s(SAME_EVERY_S)
        report.alert("same", "again", "")
        await project.came(EVENTS_PER_MINUTE + 1)

    with_project(work, clock=clock)


def test_what_is_remembered_is_bounded():
    clock = HeldClock()

    async def work(project):
        for number in range(KNOWN_MAX + 20):
            clock.pass_s(60)
            project.report.alert("many", "other", str(number))
        assert len(project.report._known) == KNOWN_MAX

    with_project(work, clock=clock)


def test_a_receiver_that_is_silent_keeps_nobody_waiting_and_the_queue_is_bounded():
    clock = HeldClock()

    async def work(project):
        for number in range(WAITING_MAX + 5):
            clock.pass_s(60)
            project.report.alert("many", "other", str(number))
        await settled(lambda: project.report.counts["dropped"])
        assert len(project.report._waiting) <= WAITING_MAX

    async def main():
        async with serving([HANG]) as (upstream, endpoint):
            project = Project(upstream, endpoint.origin.port, clock)
            project.report.start()
            await work(project)
            await project.report.stop(0.0)
            counts = project.report.counts
            assert counts["dropped"] >= WAITING_MAX
            assert project.report._transport.statistics().open == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "reason"), [([answer(status="403 Forbidden")], "status_403"), ([RESET], "reset")], ids=["403", "reset"]
)
def test_what_is_not_taken_is_counted_and_said_once_in_the_log(script, reason):
    async def work(project):
        project.report.alert("one", "one", "")
        project.report.alert("two", "two", "")
        await project.came(2)
        assert project.report.counts["failed"] == 2
        assert project.lines == [("sentry_not_told", {"reason": reason, "fix": "[report] sentry_dsn"})]

    with_project(work, script)


@pytest.mark.parametrize(("header", "wait_s"), [(b"Retry-After: 7\r\n", 7), (b"", PAUSE_S)])
def test_while_sentry_asks_for_fewer_nothing_is_sent(header, wait_s):
    clock = HeldClock()

    async def work(project):
        report = project.report
        report.alert("one", "one", "")
        await project.came(1)
        report.alert("two", "two", "")
        await settled(lambda: report.counts["dropped"] == 1)
        clock.pass_s(wait_s)
        report.alert("three", "three", "")
        await project.came(2)
        assert report.counts["sent"] == 1

    with_project(work, [answer(status="429 Too Many Requests", headers=header)], [OK], clock=clock)


def test_exceptions_come_from_any_thread():
    async def work(project):
        await asyncio.to_thread(project.report.failed, "writer_failed", raised(ValueError("x")))
        await project.came(1)
        assert project.events[0].error_type == "ValueError"

    with_project(work)


def test_what_waits_at_the_end_is_sent():
    async def main():
        async with serving([OK]) as (upstream, endpoint):
            project = Project(upstream, endpoint.origin.port, SystemClock())
            project.report.start()
            project.report.alert("last", "last", "")
            await asyncio.sleep(0)
            await project.report.stop(5.0)
            assert len(project.events) == 1
            project.report.alert("too late", "nobody sends", "")
            await project.report.stop(5.0)

    asyncio.run(main())


def test_a_loop_that_is_closed_is_no_reason_to_fail():
    report = SentryReport("http://key@127.0.0.1:9/1", clock=SystemClock(), report=lambda *_: None)
    loop = asyncio.new_event_loop()
    report._loop = loop
    loop.close()
    report.alert("late", "late", "")


def test_without_a_dsn_it_is_off_and_the_log_is_the_same_object():
    async def main():
        report = SentryReport("", clock=SystemClock(), report=lambda *_: None)
        log = print
        assert report.watching(log) is log
        report.start()
        report.failed("request_failed", ValueError())
        await report.stop(1.0)
        assert not report.is_on
        assert sum(report.counts.values()) == 0

    asyncio.run(main())


@pytest.mark.parametrize(
    "dsn",
    ["x", "https://sentry.io/1", "https://key@sentry.io/", "ftp://key@sentry.io/1", "https://key@169.254.169.254/1",
     "https://k ey@sentry.io/1", "https://key@sentry.io/abc", "https://key@sentry.io/1?x=1", "https://a@b@sentry.io/1"],
)  # fmt: skip
def test_an_address_that_is_no_dsn_is_refused_with_the_cure_and_without_the_key(dsn):
    with pytest.raises(ConfigError) as caught:
        SentryReport(dsn, clock=SystemClock(), report=lambda *_: None)

    assert caught.value.code == "config_sentry_dsn"
    assert "KEY@" in caught.value.fix
    assert dsn not in str(caught.value) or dsn == "x"


@pytest.mark.parametrize(
    ("dsn", "target", "host"),
    [
        ("https://key@o1.ingest.sentry.io/42", b"/api/42/envelope/", "o1.ingest.sentry.io"),
        ("https://key:secret@sentry.example.com/path/7", b"/path/api/7/envelope/", "sentry.example.com"),
        ("http://key@10.0.0.5:9000/1", b"/api/1/envelope/", "10.0.0.5"),
    ],
)
def test_a_dsn_says_where_the_project_is(dsn, target, host):
    report = SentryReport(dsn, clock=SystemClock(), report=lambda *_: None)

    assert report._address is not None
    assert (report._address[1], report._address[0].origin.host) == (target, host)
    assert b"secret" not in report._address[2]
    with contextlib.suppress(AttributeError):
        assert "key" not in repr(report)
