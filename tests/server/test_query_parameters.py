"""What a query may ask for, and the cursors that lead on."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import os
import urllib.parse

import pytest
from hypothesis import example, given, settings, strategies as st

from control_helpers import HeldClock
from leeward.errors import ProtocolError, Unavailable
from leeward.server.access import Identity
from leeward.server.http import Request
from leeward.server.query import Cursors, Query
from leeward.store.clickhouse import StoreUnavailable
from leeward.store.events import COLUMNS, EventQuery

NOW = HeldClock().now_ms
DAY_MS = 86_400_000
SECRET = b"s" * 32


class Asked:
    """A store that notes what it is asked and has nothing, and a writer that is done or not."""

    def __init__(self, rows=(), error=None, loaded=True):
        self.rows, self.error, self.loaded = list(rows), error, loaded
        self.queries, self.waits = [], []

    def query(self, query):
        self.queries.append(query)
        if self.error:
            raise self.error
        return self.rows

    async def wait_loaded(self, wait_s):
        self.waits.append(wait_s)
        return self.loaded

    def lag(self):
        return "3 s"


async def at_once(call, *arguments):
    return call(*arguments)


def ask(asked, query_string, project=5):
    if isinstance(query_string, dict):
        query_string = urllib.parse.urlencode(query_string).encode()
    scope = {"method": "GET", "path": "/", "query_string": query_string, "headers": []}
    request = Request(scope, None, "r")
    request.identity = Identity(project, "read", "", "")
    query = Query(
        asked, barrier=asked, cursors=Cursors(SECRET), clock=HeldClock(), retention_ms=7 * DAY_MS, run=at_once
    )
    return json.loads(asyncio.run(query.query(request)).body)


def read(**parameters):
    asked = Asked()
    ask(asked, parameters)
    [query] = asked.queries
    return query


def refused(query_string):
    asked = Asked()
    with pytest.raises(ProtocolError) as refusal:
        ask(asked, query_string)
    assert (refusal.value.status, refusal.value.code) == (400, "invalid_query")
    assert not asked.queries
    return refusal.value.message


def test_without_parameters_the_last_day_of_the_own_project_is_read_newest_first():
    assert read() == EventQuery(project=5, start_ms=NOW + 1000 - DAY_MS, end_ms=NOW + 1000, order="desc", limit=100)


def test_every_parameter_reaches_the_store():
    texts = {name: f"the {name}" for name in ("distinct_id", "session_id", "correlation_id", "trace_id", "batch_id")}

    query = read(
        start=NOW - 5,
        end=NOW,
        limit=7,
        order="asc",
        event_type="n",
        kind="span",
        level="WARN",
        category="network",
        **texts,
    )

    assert (query.start_ms, query.end_ms, query.limit, query.order, query.after) == (NOW - 5, NOW, 7, "asc", None)
    assert query.filters == {"name": "n", "kind": "span", "level": "WARN", "error_category": "network", **texts}


def test_what_retention_has_passed_is_not_asked_for():
    assert read(start=0).start_ms == NOW - 7 * DAY_MS


@settings(deadline=None)
@given(st.integers(0, 253_402_300_799_999), st.sampled_from(["Z", "", "+00:00", "%+03d:30"]))
@example(1_795_322_741_001, "Z")
def test_times_are_exact_to_the_millisecond_in_either_spelling(moment_ms, zone):
    moment = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(milliseconds=moment_ms)
    text = moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + (zone % 5 if "%" in zone else zone)
    shift = (5 * 60 + 30) * 60_000 if "%" in zone else 0

    assert read(start=0, end=moment_ms + 1).end_ms == moment_ms + 1
    if moment_ms - shift > 0:
        assert read(start=0, end=text).end_ms == moment_ms - shift


@pytest.mark.parametrize("name", ["start", "end"])
@pytest.mark.parametrize(
    "text", ["", "now", "-1", "1e3", "1.5", "9" * 16, "\u0661", "2026-13-01", "2026-11-22T25:00", "\0", " 5"]
)
def test_a6_what_is_no_time_is_refused_by_name(name, text):
    assert refused({name: text}).startswith(f"{name}: must be milliseconds")


@pytest.mark.parametrize(
    "text", ["", "0", "1001", "-1", "+5", "1e2", "5.0", "0x5", "\u0665", " 5", "00000005", "9" * 5000]
)
def test_a6_a_limit_is_a_whole_number_from_1_to_1000(text):
    assert refused({"limit": text}) == "limit: must be a whole number from 1 to 1000"
    assert (read(limit=1).limit, read(limit=1000).limit) == (1, 1000)


@pytest.mark.parametrize("text", ["", "5001", "-1", "1.5"])
def test_a6_a_wait_is_at_most_five_seconds(text):
    assert refused({"wait_ms": text}) == "wait_ms: must be a whole number from 0 to 5000"


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"order": "up"}, "order: must be desc or asc"),
        ({"order": "desc, sleep(3)"}, "order: must be desc or asc"),
        ({"kind": "thing"}, "kind: must be one of event, exception, span, log, metric"),
        ({"level": "warn"}, "level: must be one of DEBUG, INFO, WARN, ERROR, FATAL"),
        ({"start": 5, "end": 5}, "start: must lie before end"),
        ({"start": 6, "end": 5}, "start: must lie before end"),
        ({"sesion_id": "x"}, "sesion_id: is not a filter; did you mean session_id?"),
        ({"1=1--": "x"}, "1=1--: is not a filter"),
        ({"x" * 5000: "1"}, "x" * 100 + ": is not a filter"),
    ],
)
def test_a6_what_is_not_on_the_list_is_refused_with_what_is(parameters, sentence):
    assert refused(parameters) == sentence


@pytest.mark.parametrize("value", ["' OR 1=1 --", "{project}", "%", "\0", "a\nb", "x" * 10_000, "\U0001f600", ""])
def test_a6_a_filter_is_a_value_whatever_it_holds(value):
    assert read(event_type=value, trace_id=value).filters == {"name": value, "trace_id": value}


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["start", "end", "limit", "order", "cursor", "wait_ms", "kind", "level"]), st.text()
    )
)
@example({"start": "2026-W47-7T10"})
@example({"end": "0001-01-01T00:00:00+23:59"})
@example({"end": "9999-12-31T23:59:59-23:59"})
def test_a6_any_parameters_are_read_or_refused(parameters):
    try:
        ask(Asked(), parameters)
    except ProtocolError as error:
        assert (error.status, error.code) == (400, "invalid_query")  # noqa: PT017 - either outcome is right, each has its form


# Waiting


def test_a_query_waits_for_what_is_acknowledged_unless_told_not_to():
    for parameters, waits in (({}, [5.0]), ({"wait_ms": 20}, [0.02]), ({"wait_ms": 0}, [])):
        asked = Asked()
        ask(asked, parameters)
        assert asked.waits == waits


@pytest.mark.parametrize("asked", [Asked(loaded=False), Asked(error=StoreUnavailable("unix:/var/lib/x is gone"))])
def test_w13_a_store_that_is_behind_or_does_not_answer_is_said_so(asked):
    with pytest.raises(Unavailable) as refusal:
        ask(asked, {})

    assert (refusal.value.code, refusal.value.retry_after_s) == ("store_behind", 2)
    assert "3 s" in refusal.value.message
    assert "/var" not in refusal.value.message


# Cursors

QUERY = EventQuery(project=5, start_ms=0, end_ms=9, filters={"name": "a", "kind": "span"}, order="desc")


@settings(deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1))
def test_a_cursor_names_its_place(received_at, position):
    cursors = Cursors(SECRET)

    cursor = cursors.make(QUERY, received_at, position)

    assert cursors.read(QUERY, cursor) == ((received_at, position), QUERY.start_ms)
    assert urllib.parse.unquote_plus(cursor) == cursor


def test_a_cursor_serves_any_window_and_page_size_of_its_query():
    cursor = Cursors(SECRET).make(QUERY, 1, 2)
    later = EventQuery(project=5, start_ms=5, end_ms=99, filters={"kind": "span", "name": "a"}, order="desc", limit=3)

    assert Cursors(SECRET).read(later, cursor) == ((1, 2), QUERY.start_ms)


@pytest.mark.parametrize(
    "other",
    [
        {"project": 6},
        {"order": "asc"},
        {"filters": {"name": "a"}},
        {"filters": {}},
        {"filters": {"name": "b", "kind": "span"}},
        {"filters": {"kind": "a", "name": "span"}},
    ],
)
def test_a6_a_cursor_of_another_query_is_refused(other):
    cursor = Cursors(SECRET).make(QUERY, 1, 2)
    given_query = {"project": 5, "start_ms": 0, "end_ms": 9, "filters": QUERY.filters, "order": "desc", **other}

    with pytest.raises(ProtocolError, match="cursor: is not one that this query gave"):
        Cursors(SECRET).read(EventQuery(**given_query), cursor)


@settings(deadline=None)
@given(st.integers(0, 27), st.integers(1, 255))
def test_a6_a_cursor_with_any_byte_changed_is_refused(place, change):
    raw = bytearray(base64.urlsafe_b64decode(Cursors(SECRET).make(QUERY, 1, 2)))
    raw[place] ^= change

    with pytest.raises(ProtocolError):
        Cursors(SECRET).read(QUERY, base64.urlsafe_b64encode(bytes(raw)).decode())


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@example("A" * 100_000)
def test_a6_a_cursor_that_was_not_made_here_is_refused(cursor):
    with pytest.raises(ProtocolError):
        Cursors(SECRET).read(QUERY, cursor)


def test_a6_a_cursor_of_another_server_is_refused():
    with pytest.raises(ProtocolError):
        Cursors(os.urandom(32)).read(QUERY, Cursors(SECRET).make(QUERY, 1, 2))


def test_a_full_page_leads_on_and_the_last_one_does_not():
    numbers = dict.fromkeys(("duration_ms", "value", "input_tokens", "output_tokens"))
    row = {**dict.fromkeys(COLUMNS, ""), **numbers, "project": 5, "received_at": 77, "timestamp": 7, "wal_position": 99}
    row |= {"kind": "event", "id": "e", "name": "a", "data": '{"n":1.0}', "attributes": '{"k":1e2}', "error_rest": ""}
    asked = Asked(rows=[row])

    last = ask(asked, {"event_type": "a"})
    full = ask(asked, {"event_type": "a", "limit": 1})
    ask(asked, {"event_type": "a", "cursor": full["next_cursor"]})

    assert last["next_cursor"] is None
    assert asked.queries[-1].after == (77, 99)
    [event] = full["events"]
    assert (event["id"], event["event_type"], event["data"], event["attributes"]) == (
        "e",
        "a",
        {"n": 1.0},
        {"k": 100.0},
    )
    assert event["key"].startswith("telemetry:77:")
    assert "level" not in event
    assert "error" not in event
