"""What handlers share: who may come in, what is counted and noted, and what gives way under pressure."""

from __future__ import annotations

import asyncio

import pytest

from control_helpers import HeldClock
from leeward.errors import ProtocolError, QuotaExceeded, RateLimited, Unavailable
from leeward.model import Dropped, Event
from leeward.server.counters import Counters
from leeward.server.http import Request
from leeward.server.pipeline import Outcome
from leeward.server.quotas import Quota
from quiet_road import KEY, quiet_road

NOW = HeldClock().now_ms


class Keeping:
    """Stands for pipeline and log: notes what would be written; the second time an id comes it is a duplicate."""

    def __init__(self):
        self.taken = []
        self.seen = set()

    def received_at(self):
        return NOW

    async def take(self, prepared, *, project, received_at, with_keys):
        events = [event for event in prepared.events if isinstance(event, Event)]
        duplicates = sum(event.id in self.seen for event in events)
        self.seen.update(event.id for event in events)
        self.taken += events
        refusals = [
            (index, event.code, event.error)
            for index, event in enumerate(prepared.events)
            if isinstance(event, Dropped)
        ]
        return Outcome(received_at, len(prepared.events), duplicates, [], [], refusals)


class Road:
    def __init__(self, **options):
        self.counters = Counters()
        self.kept = Keeping()
        self.unstored = 0
        self.road = quiet_road(self.kept, counters=self.counters, pressure=lambda: self.unstored, **options)

    def request(self, wire="sentry"):
        scope = {
            "method": "POST",
            "path": "/x",
            "query_string": b"",
            "headers": [(b"user-agent", b"sdk/1")],
            "client": ("10.0.0.1", 1),
        }
        request = Request(scope, None, "r")
        request.wire, request.route_path = wire, "/api/{id}/envelope"
        return request

    def known(self, wire="sentry"):
        request = self.request(wire)
        self.road.identify(request, KEY)
        return request

    def take(self, *items, **options):
        return asyncio.run(self.road.take(self.known(), items, received_at=NOW, **options))

    def press(self, unstored, samples=3):
        self.unstored = unstored
        for _ in range(samples):
            self.road._admission.sample(0.0)

    @property
    def items(self):
        return {outcome: count for (_, outcome), count in self.counters.wire_items.items()}


def an_event(event_id="e1", **fields) -> Event:
    fields = {"project": 1, "kind": "event", "name": "n", "received_at": NOW, "timestamp": NOW, **fields}
    return Event(id=event_id, **fields)


def test_each_item_ends_in_one_counted_outcome():
    road = Road()

    road.take(
        an_event("a"), an_event("b"), Dropped("too_deep", "deep"), an_event("c", data='{"a":' * 70 + "1" + "}" * 70)
    )
    road.take(an_event("a"), an_event("d"))
    road.road.count_dropped(road.known(), "attachment", 2)

    assert road.items == {"accepted": 3, "duplicate": 1, "too_deep": 2, "attachment": 2}
    assert road.counters.refused == {"too_deep": 2}

    road.road.count_resend(road.known(), 3)
    assert (road.items["duplicate"], road.counters.duplicates_at_door) == (4, 3), "the pipeline has not seen these"


def test_what_is_refused_is_noted_with_who_sent_it_and_where():
    road = Road()

    road.take(an_event("a"), Dropped("too_deep", "deep"), Dropped("too_deep", "deeper"))

    [noted] = road.road._refusals.of_project(1)
    assert (noted.wire, noted.code, noted.reason, noted.count) == ("sentry", "too_deep", "deep", 2)
    assert (noted.path, noted.client, noted.key_tail) == ("/api/{id}/envelope", "sdk/1", "qqqq")


def test_an_event_without_an_id_is_given_one():
    road = Road()

    road.take(an_event(""), an_event(""))

    first, second = road.kept.taken
    assert first.id
    assert first.id != second.id


def test_a_wire_that_refuses_as_a_whole_keeps_nothing():
    road = Road()

    with pytest.raises(ProtocolError) as refused:
        road.take(an_event("a"), Dropped("event_too_large", "large"), an_event("b"), whole=True)

    assert (refused.value.code, refused.value.status) == ("event_too_large", 413)
    assert not road.kept.taken
    assert road.items == {"refused_with_others": 2}, "the one itself is counted where it is answered"


def test_a3_a_key_is_looked_for_where_the_wire_has_it():
    road = Road()

    request = road.request()
    with pytest.raises(ProtocolError) as refused:
        road.road.identify(request, "lw_" + "z" * 32)
    assert (refused.value.status, request.identity, request.key_tail) == (401, None, "zzzz")

    assert road.road.identify(request, KEY).project == 1
    assert request.project == 1


def test_only_new_events_count_against_the_quota_and_the_next_request_is_refused():
    road = Road(quota=Quota(per_minute=2))

    road.take(an_event("a"))
    road.take(an_event("a"))
    road.take(an_event("b"), an_event("c"))
    with pytest.raises(QuotaExceeded):
        road.known()
    request = road.request()
    with pytest.raises(QuotaExceeded):
        road.road.identify(request, KEY)
    with pytest.raises(QuotaExceeded):
        road.road.enter(request)


def test_a_log_that_is_full_refuses_before_any_work():
    road = Road()
    road.unstored = 1001

    with pytest.raises(Unavailable):
        road.road.enter(road.request())


def test_i10_under_pressure_debug_logs_go_first_then_spans_and_metrics_and_never_an_error():
    road = Road()
    items = (
        an_event("debug", kind="log", level="DEBUG"),
        an_event("info", kind="log", level="INFO"),
        an_event("span", kind="span"),
        an_event("metric", kind="metric"),
        an_event("warn", kind="log", level="WARN"),
        an_event("error", kind="exception"),
        an_event("event"),
    )

    road.press(600)
    outcome = road.take(*items)
    assert [code for _, code, _ in outcome.refusals] == ["shed"]
    road.press(800)
    road.kept.taken.clear()
    road.take(*items)
    assert [event.id for event in road.kept.taken] == ["warn", "error", "event"]


def test_i10_a_request_of_nothing_but_what_gives_way_may_come_again():
    road = Road()
    road.press(600)

    with pytest.raises(RateLimited) as refused:
        road.take(an_event("debug", kind="log", level="DEBUG"))
    assert refused.value.retry_after_s


def test_a_request_of_the_same_bytes_is_known_at_the_same_address_only():
    road = Road()
    request = road.known()
    road.road.remember_body(request, b"digest", (3, ""))

    assert road.road.known_body(request, b"digest") == (3, "")
    request.path = "/y"
    assert road.road.known_body(request, b"digest") is None


def test_a_request_runs_from_its_body_to_its_answer():
    road = Road()

    async def come():
        request = road.known()

        async def receive():
            return {"type": "http.request", "body": b"{}", "more_body": False}

        request.receive = receive
        with road.road.lease() as lease:
            assert road.road._admission.running == 0
            assert await road.road.read(request, lease) == b"{}"
            assert road.road._admission.running == 1
        assert road.road._admission.running == 0

    asyncio.run(come())


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_p6_a_defect_in_a_decoder_is_reported_and_does_not_make_the_sender_come_again_for_ever(size):
    reports = []
    road = Road(report=lambda name, fields: reports.append((name, str(fields["error"]))))

    def breaks():
        raise TypeError("inside")

    with pytest.raises(ProtocolError) as refused:
        asyncio.run(road.road.aside(size, breaks))

    assert (refused.value.status, refused.value.code) == (400, "undecodable")
    assert "inside" not in refused.value.message
    assert reports == [("undecodable", "inside")]


@pytest.mark.parametrize(
    ("wire", "agent"), [("native", b"curl"), ("posthog", b"posthog-python/7"), ("otlp", b"shop/1 leeward/0.1")]
)
def test_p2_whoever_sends_again_what_is_refused_as_a_whole_loses_nothing_to_pressure(wire, agent):
    road = Road()
    road.press(800)
    request = road.known(wire)
    request.scope["headers"] = [(b"user-agent", agent)]

    with pytest.raises(RateLimited):
        asyncio.run(
            road.road.take(
                request, [an_event("error", kind="exception"), an_event("span", kind="span")], received_at=NOW
            )
        )

    assert not road.kept.taken
