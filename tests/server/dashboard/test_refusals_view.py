"""What was refused, arranged for a reader: plain values in, plain values out."""

from __future__ import annotations

import msgspec

from leeward.server.dashboard.refusals import build
from leeward.server.dashboard.view import Moment
from leeward.server.refusals import Refusal

NOW = 1_800_000_000_000
ONE = Refusal(
    at_ms=NOW,
    since_ms=NOW,
    count=1,
    wire="native",
    code="too_deep",
    reason="nested",
    cure="Send less.",
    client="",
    key_tail="",
    path="/api/telemetry/ingest",
    address="",
)
AT_NOW = Moment("2027-01-15T08:00:00.000Z", "2027-01-15 08:00:00 UTC")


def changed(**values):
    (row,) = build([msgspec.structs.replace(ONE, **values)], NOW).rows
    return row


def test_nothing_is_no_row():
    assert build([], NOW).rows == ()
    assert (build([], NOW).total, build([], NOW).now) == ("0", AT_NOW)


def test_a_single_refusal_has_a_time_and_no_number():
    row = changed()

    assert (row.last, row.since, row.times) == (AT_NOW, None, "")
    assert (row.wire, row.client, row.key, row.address) == ("leeward", "not said", "–", "")


def test_a_storm_has_a_number_and_a_beginning():
    row = changed(count=1500, since_ms=NOW - 60_000)

    assert row.times == "1,500 times"
    assert row.since == Moment("2027-01-15T07:59:00.000Z", "2027-01-15 07:59:00 UTC")
    assert build([ONE, msgspec.structs.replace(ONE, count=1500)], NOW).total == "1,501"


def test_many_events_of_one_request_have_no_beginning_of_their_own():
    assert changed(count=7).since is None


def test_protocols_have_the_names_that_people_know_and_others_their_own():
    assert [changed(wire=wire).wire for wire in ("posthog", "otlp", "sentry", "other")] == [
        "PostHog",
        "OpenTelemetry",
        "Sentry",
        "other",
    ]


def test_what_cannot_be_seen_is_shown():
    row = changed(reason="a\u202eb", client="c\u200bd", key_tail="\u2066xyz", path="/\u2028", address="\u0007")

    assert (row.reason, row.client, row.key, row.path, row.address) == (
        "a\\u202eb",
        "c\\u200bd",
        "…\\u2066xyz",
        "/\\u2028",
        "\\u0007",
    )
