"""The gateway's log: one line for each call that failed, each repeat and failover, each change; none for what went well."""

from __future__ import annotations

import asyncio
import io
import json
import logging

import pytest

from gateways import rig
from leeward.gateway.log import LOOKED, AttemptLog, standard_report
from leeward.gateway.records import AttemptRecord, Caller, RequestRecord
from leeward.server.logs import json_lines


class Lines:
    def __init__(self):
        self.lines = []
        self.log = AttemptLog(lambda event, fields: self.lines.append((event, fields)))

    @property
    def names(self):
        return [name for name, _ in self.lines]


def record(outcome="ok", *attempts, **fields):
    caller = Caller("req_7")
    return RequestRecord(caller, "chat", "chat", False, 1_000, 0.5, outcome, attempts=list(attempts), **fields)


def call(outcome="ok", **fields):
    return AttemptRecord("a", "a-large", 1_000, 0.25, outcome, **fields)


@pytest.fixture
def lines():
    return Lines()


def test_what_went_well_leaves_no_line(lines):
    request = record("ok", call())
    lines.log.attempted(request, request.attempts[0], "")
    lines.log.ended(request)

    assert lines.lines == []


def test_a_call_that_failed_is_one_line_with_all_that_is_known_of_it(lines):
    request = record("failed", call("server_error", status=503, detail="status_503"))
    lines.log.attempted(request, request.attempts[0], "the engine is overloaded")

    assert lines.lines == [
        (
            "attempt_failed",
            {
                "request_id": "req_7",
                "route": "chat",
                "provider": "a",
                "model": "a-large",
                "attempt": 1,
                "outcome": "server_error",
                "duration_ms": 250.0,
                "status": 503,
                "detail": "status_503",
                "provider_said": "the engine is overloaded",
            },
        )
    ]


def test_the_call_that_answered_after_others_had_failed_is_a_line_too(lines):
    request = record("ok", call("network"), call(repeat=True))
    lines.log.attempted(request, request.attempts[1], "")

    [(name, fields)] = lines.lines
    assert name == "attempt_ok"
    assert (fields["attempt"], fields["repeat"]) == (2, True)


def test_a_call_that_was_broken_off_by_its_caller_is_no_failure(lines):
    request = record("cancelled", call("network"), call("cancelled"))
    lines.log.attempted(request, request.attempts[1], "")
    lines.log.ended(request)

    assert lines.names == ["attempt_cancelled"]


@pytest.mark.parametrize(
    ("outcome", "fields", "name"),
    [
        ("failed", {"code": "all_providers_failed"}, "request_failed_at_providers"),
        ("cut", {"code": "stream_interrupted"}, "request_failed_at_providers"),
        ("degraded", {"degraded": "static"}, "request_degraded"),
    ],
)
def test_a_request_without_a_models_answer_is_one_line(lines, outcome, fields, name):
    lines.log.ended(record(outcome, call("network"), **fields))

    assert lines.names == [name]


@pytest.mark.parametrize("outcome", ["refused", "cancelled"])
def test_a_callers_own_mistake_and_one_who_left_are_no_line(lines, outcome):
    lines.log.ended(record(outcome, code="model_not_found" if outcome == "refused" else ""))

    assert lines.lines == []


def test_a_failure_of_our_own_is_written_by_whoever_gets_its_exception(lines):
    lines.log.ended(record("failed", call("cancelled")))

    assert lines.lines == []


def test_a_change_for_the_worse_names_the_request_whose_call_made_it(lines):
    request = record("failed", call("server_error"))
    lines.log.attempted(request, request.attempts[0], "")
    lines.log.changed("a", "a-large", "breaker", "open", "status_500")
    lines.log.changed("b", "b-large", "breaker", "open", "status_500")
    lines.log.changed("a", "a-large", "health", "unhealthy", LOOKED)
    lines.log.changed("a", "a-large", "breaker", "closed", "")

    changes = [fields for name, fields in lines.lines if name == "provider_changed"]
    assert [fields.get("request_id") for fields in changes] == ["req_7", None, None, None]
    assert changes[0] == {
        "provider": "a",
        "model": "a-large",
        "what": "breaker",
        "state": "open",
        "why": "status_500",
        "request_id": "req_7",
    }


async def _storm(lines):
    async with rig("a", "b", breaker={"consecutive_failures": 2}) as gateway:
        gateway.core.observer = lines.log
        gateway.core.circuits._on_change = lines.log.changed
        gateway["a"].fault = "500"
        for _ in range(3):
            await gateway.ask()


def test_a_failover_and_what_it_changes_are_one_line_each(lines):
    asyncio.run(_storm(lines))

    told = [(name, fields.get("attempt"), fields.get("what"), fields.get("state")) for name, fields in lines.lines]
    assert told == [
        ("attempt_failed", 1, None, None),
        ("attempt_ok", 2, None, None),
        ("attempt_failed", 1, None, None),
        ("provider_changed", None, "breaker", "open"),
        ("attempt_ok", 2, None, None),
    ]
    opened = lines.lines[3][1]
    assert opened["request_id"] == lines.lines[2][1]["request_id"]


HOSTILE = 'x\r\n{"event":"ready"}\x1b[31m\x00\u202e\u2028"'


@pytest.mark.parametrize("event", ["attempt_failed", "provider_changed"])
def test_g23_a_hostile_text_stays_one_line_of_plain_signs(event, caplog):
    stream = io.StringIO()
    fields = {"model": HOSTILE, "provider_said": HOSTILE}
    json_lines(stream)(event, fields)
    with caplog.at_level(logging.INFO, "leeward.gateway"):
        standard_report(event, fields)

    [line] = stream.getvalue().splitlines()
    assert line.isascii()
    assert json.loads(line)["model"] == HOSTILE
    [entry] = caplog.records
    assert entry.getMessage().isprintable()


def test_in_a_program_what_got_better_is_an_information_and_the_rest_a_warning(caplog):
    with caplog.at_level(logging.INFO, "leeward.gateway"):
        standard_report("attempt_ok", {})
        standard_report("provider_changed", {"state": "closed"})
        standard_report("provider_changed", {"state": "open"})

    assert [entry.levelname for entry in caplog.records] == ["INFO", "INFO", "WARNING"]
