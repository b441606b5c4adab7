"""What was refused lately: listed with reason and cure, once for a storm, and without anybody's secrets."""

from __future__ import annotations

import ast
import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

import leeward.errors
from control_helpers import HeldClock
from leeward.server.access import Identity
from leeward.server.http import Request
from leeward.server.refusals import CLIENT_CHARS_MAX, CURES, MERGE_MS, REASON_CHARS_MAX, Refusals

SOURCE = Path(leeward.errors.__file__).parent
SECRET = "sk-proj-" + "a1B2c3D4" * 6


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def refusals(clock):
    return Refusals(clock=clock)


def note(refusals, **named):
    given = {"wire": "native", "code": "invalid_json", "reason": "Invalid JSON", "path": "/api/telemetry/ingest"}
    refusals.note(**{**given, **named})


def test_a_refusal_is_listed_with_all_that_whoever_looks_for_it_needs(refusals, clock):
    note(
        refusals,
        wire="posthog",
        code="unauthorized",
        reason="This needs a key",
        path="/batch",
        user_agent=b"posthog-python/7.0",
        key_tail="wxyz",
        address="10.0.0.7",
    )

    assert refusals.of_project(1) == [
        msgspec.convert(
            {
                "at_ms": clock.now_ms,
                "since_ms": clock.now_ms,
                "count": 1,
                "wire": "posthog",
                "code": "unauthorized",
                "reason": "This needs a key",
                "cure": CURES["unauthorized"],
                "client": "posthog-python/7.0",
                "key_tail": "wxyz",
                "path": "/batch",
                "address": "10.0.0.7",
            },
            type(refusals.of_project(1)[0]),
        )
    ]


def test_the_newest_stands_first_and_the_oldest_gives_way(clock):
    refusals = Refusals(clock=clock, refusals_max=3)
    for number in range(5):
        note(refusals, user_agent=b"client %d" % number)

    assert [refusal.client for refusal in refusals.of_project(1)] == ["client 4", "client 3", "client 2"]


def test_a_storm_is_one_entry_and_pushes_nothing_out(refusals, clock):
    started_ms = clock.now_ms
    note(refusals, code="too_deep", user_agent=b"quiet")
    for number in range(1000):
        clock.pass_s(30)
        note(refusals, user_agent=b"storm", reason=f"reason {number}", count=3)
        note(refusals, wire="otlp", user_agent=b"storm")

    listed = refusals.of_project(1)

    assert [(refusal.wire, refusal.client, refusal.count) for refusal in listed] == [
        ("otlp", "storm", 1000),
        ("native", "storm", 3000),
        ("native", "quiet", 1),
    ]
    assert (listed[1].since_ms, listed[1].at_ms) == (started_ms + 30_000, clock.now_ms)
    assert listed[1].reason == "reason 0"


@pytest.mark.parametrize(
    "other",
    [
        {"wire": "sentry"},
        {"code": "too_deep"},
        {"user_agent": b"another"},
        {"key_tail": "zzzz"},
    ],
)
def test_what_differs_is_listed_apart(refusals, other):
    note(refusals, user_agent=b"one", key_tail="aaaa")
    note(refusals, **{"user_agent": b"one", "key_tail": "aaaa", **other})

    assert [refusal.count for refusal in refusals.of_project(1)] == [1, 1]


def test_the_same_after_more_than_a_minute_is_listed_anew(refusals, clock):
    note(refusals)
    clock.now_ms += MERGE_MS - 1
    note(refusals)
    clock.now_ms += MERGE_MS
    note(refusals)
    note(refusals)

    assert [refusal.count for refusal in refusals.of_project(1)] == [2, 2]


def test_an_older_entry_that_gives_way_does_not_take_the_newer_of_its_kind_with_it(clock):
    refusals = Refusals(clock=clock, refusals_max=2)
    note(refusals)
    clock.now_ms += MERGE_MS
    note(refusals)
    note(refusals, code="too_deep")
    note(refusals)

    assert [(refusal.code, refusal.count) for refusal in refusals.of_project(1)] == [
        ("invalid_json", 2),
        ("too_deep", 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(-90_000, 90_000), st.integers(1, 5)), max_size=80))
def test_every_refusal_is_counted_once_as_long_as_there_is_room(course):
    clock = HeldClock()
    roomy, tight = Refusals(clock=clock), Refusals(clock=clock, refusals_max=3)
    for client, step_ms, count in course:
        clock.now_ms += step_ms
        for refusals in (roomy, tight):
            note(refusals, user_agent=b"%d" % client, count=count)

    listed = roomy.of_project(1)
    assert sum(refusal.count for refusal in listed) == sum(count for *_, count in course)
    assert len(tight.of_project(1)) <= 3
    if course:
        assert listed[0].client == tight.of_project(1)[0].client == str(course[-1][0])


def test_a_project_sees_its_own_and_those_whose_key_is_not_known(refusals):
    for project in (0, 1, 2):
        note(refusals, project=project, path=f"/{project}")

    assert [refusal.path for refusal in refusals.of_project(1)] == ["/1", "/0"]
    assert [refusal.path for refusal in refusals.of_project(2)] == ["/2", "/0"]


def test_a12_no_secret_and_no_control_character_is_kept(refusals):
    note(
        refusals,
        reason=f"no \x1b[31m such {SECRET} key\nand Bearer {SECRET}",
        user_agent=b"agent\x00\x1b]8;;evil\x07 api_key=" + SECRET.encode() + b" \xff\xe2\x80\xae",
        key_tail="a\x1bb\u202e",
        address="fe80::1\r\n" + "x" * 500,
    )

    (refusal,) = refusals.of_project(1)

    told = json.dumps(msgspec.to_builtins(refusal), ensure_ascii=False)
    assert SECRET[8:20] not in told
    assert all(character.isprintable() for character in told)
    assert refusal.key_tail == "a\ufffdb\ufffd"
    assert len(refusal.address) == 64


def test_what_is_long_is_cut(refusals):
    note(refusals, reason="word " * 10_000, user_agent=b"word " * 10_000)

    (refusal,) = refusals.of_project(1)

    assert (len(refusal.reason), len(refusal.client)) == (REASON_CHARS_MAX, CLIENT_CHARS_MAX)


@given(st.text(max_size=400), st.binary(max_size=400), st.text(max_size=10))
def test_anything_from_outside_is_listed_and_can_be_answered(reason, user_agent, tail):
    refusals = Refusals(clock=HeldClock())
    note(refusals, reason=reason, user_agent=user_agent, key_tail=tail, code="of no list")

    answer = answered(refusals, project=1)

    assert answer["count"] == len(answer["refusals"]) == 1
    assert answer["refusals"][0]["cure"]


def answered(refusals, project):
    request = Request({"method": "GET", "path": "/api/refusals", "query_string": b"", "headers": []}, None, "r")
    request.identity = Identity(project, "read", "k", "")
    return json.loads(asyncio.run(refusals.list(request)).body)


def test_the_answer_is_for_one_project_and_empty_after_the_self_check(refusals):
    note(refusals, project=1)
    note(refusals, project=2)
    assert answered(refusals, project=1)["count"] == 1

    refusals.clear()

    assert answered(refusals, project=1) == {"count": 0, "refusals": []}
    note(refusals, project=1)
    assert answered(refusals, project=1)["count"] == 1


# Cures

RAISED = {"ProtocolError", "RateLimited", "Unavailable", "QuotaExceeded", "StoreUnavailable", "Dropped"}
OTHER_ERRORS = {"ConfigError", "LeewardError"}  # raised at the start, shown on the terminal
# The gateway's: its callers are no senders of events, and their sentences say what to do.
OTHER_ERRORS |= {"ProviderError", "RequestInvalid", "error_body", "error_event"}


def codes_in(path):
    """Every code that this file may refuse with, as far as it stands there in so many words."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in OTHER_ERRORS:
            continue
        values = [keyword.value for keyword in node.keywords if keyword.arg == "code"]
        if name in {"Dropped", "Unusable"}:
            values += node.args[:1]
        elif name in RAISED and not values:
            yield getattr(leeward.errors, name, leeward.errors.Unavailable).code
        for value in values:
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def test_every_code_that_the_server_refuses_with_has_a_cure():
    raised = {
        (code, path.relative_to(SOURCE))
        for folder in ("server", "wire", "store")
        for path in sorted((SOURCE / folder).rglob("*.py"))
        for code in codes_in(path)
    }

    assert len(raised) > 40
    assert sorted((code, str(path)) for code, path in raised if code not in CURES) == []


def test_a_cure_is_a_short_sentence_that_says_what_to_do():
    for code, cure in CURES.items():
        assert 20 <= len(cure) <= 120, code
        assert cure[0].isupper(), code
