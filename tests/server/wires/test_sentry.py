"""Sentry's addresses: whose key, what is answered, what gives way, and that nothing is said that silences an SDK for nothing."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import zlib

import brotli
import pytest

from control_helpers import HeldClock
from leeward.errors import ConfigError, RateLimited, Unavailable
from leeward.model import Dropped, Event
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.pipeline import Outcome
from leeward.server.quotas import Quota
from leeward.server.routes import ROUTES
from leeward.server.self_check import check_refusals
from leeward.server.wires.sentry import Sentry, refusal
from quiet_road import KEY, quiet_road
from sentry_envelopes import EVENT_ID, RECORDED, SPAN_ID, TRACE_ID, as_bytes, envelope

NOW = HeldClock().now_ms
ENVELOPE = "/api/1/envelope/"
STORE = "/api/1/store/"
SENTRY_ROUTES = [route for route in ROUTES if route.wire == "sentry"]
AUTH = {"x-sentry-auth": f"Sentry sentry_key={KEY}, sentry_version=7, sentry_client=sentry.python/2.75.0"}
AN_EVENT = envelope(("event", {"message": "boom"}), event_id=EVENT_ID)
AN_ID = json.dumps({"id": EVENT_ID}, separators=(",", ":")).encode()
A_TRANSACTION = {
    "transaction": "t",
    "start_timestamp": 1,
    "timestamp": 2,
    "contexts": {"trace": {"trace_id": TRACE_ID, "span_id": SPAN_ID}},
}


class Keeping:
    """Stands for pipeline and log: notes what would be written; the second time an id comes it is a duplicate."""

    def __init__(self):
        self.taken = []
        self.seen = set()
        self.failure = None

    def received_at(self):
        return NOW

    async def take(self, prepared, *, project, received_at, with_keys):
        if self.failure is not None:
            raise self.failure
        refusals = []
        ids = []
        duplicates = 0
        for index, event in enumerate(prepared.events):
            if isinstance(event, Dropped):
                refusals.append((index, event.code, event.error))
                ids.append(None)
                continue
            duplicates += (event.kind, event.id) in self.seen
            if (event.kind, event.id) not in self.seen:
                self.taken.append(event)
            self.seen.add((event.kind, event.id))
            ids.append(event.id)
        return Outcome(received_at, len(prepared.events), duplicates, [], ids, refusals)


class Answer:
    def __init__(self, messages):
        self.status = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = messages[1]["body"]

    def json(self):
        return json.loads(self.body)


class Server:
    """The two addresses behind the real dispatch, road and stages."""

    def __init__(self, *, quota=None):
        self.kept = Keeping()
        self.counters = Counters()
        self.unstored = 0
        self.road = quiet_road(self.kept, counters=self.counters, pressure=lambda: self.unstored, quota=quota)
        sentry = Sentry(self.road)
        self.dispatch = Dispatch(
            SENTRY_ROUTES,
            {"sentry_envelope": sentry.envelope, "sentry_store": sentry.store},
            access=self.road._access,
            sessions=None,
            counters=self.counters,
            allowed_hosts=lambda host: True,
            report=lambda name, fields: pytest.fail(f"{name}: {fields['error']!r}"),
            refusals={"sentry": refusal},
            note=self.road.note,
        )

    def post(self, body, path=ENVELOPE, query="", headers=AUTH) -> Answer:
        return asyncio.run(self.send(body, path, query, headers))

    async def send(self, body, path=ENVELOPE, query="", headers=AUTH) -> Answer:
        messages = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            messages.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": ("10.0.0.1", 1),
        }
        await self.dispatch(scope, receive, send)
        return Answer(messages)

    def press(self, share):
        """Let the log be so full for long enough that the level follows."""
        self.unstored = share * 1000
        for _ in range(30):
            self.road._admission.sample(0.0)

    @property
    def items(self):
        return {outcome: count for (_, outcome), count in self.counters.wire_items.items()}


# -- what is taken ---------------------------------------------------------------------------------------------------


def test_an_event_is_stored_and_answered_with_its_id():
    server = Server()

    answer = server.post(AN_EVENT)

    assert (answer.status, answer.body) == (200, AN_ID)
    assert answer.headers["content-type"] == "application/json"
    assert [event.id for event in server.kept.taken] == [EVENT_ID]


def test_w9_the_same_envelope_sent_nine_times_is_one_event():
    server = Server()

    assert {server.post(AN_EVENT).body for _ in range(9)} == {AN_ID}

    assert len(server.kept.taken) == 1
    assert server.items == {"accepted": 1, "duplicate": 8}


@pytest.mark.parametrize("name", RECORDED)
def test_w9_what_a_real_sdk_sends_twice_is_stored_once(name):
    server = Server()

    assert [server.post(RECORDED[name]).status for _ in range(2)] == [200, 200]

    ids = [(event.kind, event.id) for event in server.kept.taken]
    assert len(ids) == len(set(ids))
    assert server.items.get("duplicate", 0) == len(ids)


def test_an_envelope_without_an_id_is_answered_with_none():
    server = Server()

    answer = server.post(b"{}\n")

    assert (answer.status, answer.body) == (200, b"{}")
    assert not server.kept.taken


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress)]
)
def test_bodies_are_unpacked_as_their_encoding_says(encoding, pack):
    server = Server()

    assert server.post(pack(AN_EVENT), headers={**AUTH, "content-encoding": encoding}).status == 200

    assert len(server.kept.taken) == 1


@pytest.mark.parametrize(
    "content_type",
    ["", "application/x-sentry-envelope", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"],
)
def test_an_envelope_is_taken_for_one_whatever_its_content_type_says(content_type):
    server = Server()

    assert server.post(AN_EVENT, headers={**AUTH, "content-type": content_type}).status == 200


def test_what_is_not_kept_is_counted_by_name():
    server = Server()
    body = envelope(("session", {}), ("sessions", {}), ("attachment", b"a\nb"), ("brand_new", b""), ("session", {}))

    assert server.post(body).status == 200

    assert server.items == {"session": 2, "sessions": 1, "attachment": 1, "unknown_item": 1}


def test_what_a_client_says_that_it_lost_is_counted_by_reason_and_category():
    server = Server()
    lost = {"reason": "network_error", "category": "error", "quantity": 3}

    assert server.post(envelope(("client_report", {"discarded_events": [lost, lost]}))).status == 200

    assert server.items == {"client_report": 1, "client_report:network_error:error": 6}


def test_a_bad_item_does_not_cost_the_others():
    server = Server()

    answer = server.post(envelope(("event", {"message": "fine"}), ("log", b"{"), event_id=EVENT_ID))

    assert answer.status == 200
    assert server.items == {"accepted": 1, "invalid_json": 1}


def test_i1_when_nothing_could_be_taken_the_sender_is_told_why():
    server = Server()

    answer = server.post(envelope(("event", b"{")))

    assert answer.status == 400
    assert answer.json()["detail"] == "Nothing of this could be taken"
    assert "(invalid_json)" in answer.json()["causes"][0]
    assert server.items == {"invalid_json": 1}, "counted once"


def test_i5_an_envelope_of_one_event_that_is_too_large_is_a_413():
    server = Server()

    answer = server.post(envelope(("trace_metric", {"name": "n", "value": 1, "unit": "u" * 3000})))

    assert answer.status == 413
    assert server.items == {"event_too_large": 1}


def test_a_large_envelope_is_worked_on_beside_the_loop_and_taken_whole():
    server = Server()
    records = [{"timestamp": second, "body": "x" * 300} for second in range(1000)]

    assert server.post(envelope(("log", {"items": records}))).status == 200

    assert len(server.kept.taken) == 1000


# -- the older address -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, lambda body: base64.b64encode(zlib.compress(body))])
def test_the_older_address_takes_json_and_base64(pack):
    server = Server()

    answer = server.post(pack(as_bytes({"event_id": EVENT_ID.upper(), "message": "boom"})), STORE)

    assert (answer.status, answer.body) == (200, AN_ID)
    assert [event.error_message for event in server.kept.taken] == ["boom"]


def test_an_event_without_an_id_is_answered_with_the_one_that_it_was_given():
    server = Server()

    answer = server.post(as_bytes({"message": "boom"}), STORE)

    assert answer.json() == {"id": server.kept.taken[0].id}


def test_i1_a_store_body_that_cannot_be_read_is_refused_in_the_protocols_form():
    answer = Server().post(b"nonsense!", STORE)

    assert answer.status == 400
    assert answer.json().keys() == {"detail", "causes"}
    assert answer.headers["x-sentry-error"] == answer.json()["detail"]


def test_a_store_event_whose_parts_go_too_deep_is_refused_by_itself():
    server = Server()

    answer = server.post(b'{"extra":' + b"[" * 80 + b"]" * 80 + b"}", STORE)

    assert answer.status == 400
    assert "(too_deep)" in answer.json()["causes"][0]


# -- whose key -------------------------------------------------------------------------------------------------------

DSN = f"http://{KEY}@127.0.0.1:8000/1"
PLACES = {
    "query": {"query": f"sentry_version=7&sentry_key={KEY}&sentry_client=sentry.javascript.browser", "headers": {}},
    "header": {"headers": AUTH},
    "header, other order": {"headers": {"x-sentry-auth": f"sentry sentry_version=7,sentry_key={KEY}"}},
    "authorization": {"headers": {"authorization": f"Sentry sentry_key={KEY}, sentry_version=7"}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", [ENVELOPE, STORE, ENVELOPE.rstrip("/")])
def test_a1_the_key_is_found_in_each_place_that_sdks_put_it(place, path):
    body = as_bytes({"event_id": EVENT_ID, "message": "m"}) if path == STORE else AN_EVENT

    assert Server().post(body, path, **PLACES[place]).status == 200


def test_a1_the_key_is_found_in_the_envelopes_own_dsn():
    body = envelope(("event", {"message": "boom"}), event_id=EVENT_ID, dsn=DSN)

    assert Server().post(body, headers={}).status == 200


@pytest.mark.parametrize(
    ("body", "how"),
    [
        (AN_EVENT, {"headers": {}}),
        (b"", {"headers": {}}),
        (b"no envelope", {"headers": {}}),
        (AN_EVENT, {"headers": {"x-sentry-auth": "Sentry sentry_version=7"}}),
        (AN_EVENT, {"headers": {"x-sentry-auth": f"Sentry sentry_key={KEY[:-1]}z"}}),
        (AN_EVENT, {"headers": {"authorization": f"Bearer {KEY}"}}),
        (AN_EVENT, {"headers": {}, "query": "sentry_key="}),
        (AN_EVENT, {"headers": {}, "query": f"sentry_key={KEY}{KEY}"}),
        (AN_EVENT, {"headers": {}, "query": f"sentry_key={KEY}%00"}),
        (AN_EVENT, {"headers": {}, "query": "sentry_key=%ff%fe" + "a" * 9000}),
        (envelope(dsn="http://\u00e9\u0000@127.0.0.1:8000/1"), {"headers": {}}),
        (envelope(dsn="no dsn"), {"headers": {}}),
        (envelope(dsn="http://[::1"), {"headers": {}}),
    ],
)
def test_a1_whoever_shows_no_valid_key_learns_nothing_but_that(body, how):
    server = Server()

    answer = server.post(body, **how)

    assert answer.status == 403
    assert answer.json() == {"detail": "The key of the DSN is missing, or not valid here", "causes": []}
    assert not server.kept.taken
    assert server.items == {"unauthorized": 1}


@pytest.mark.parametrize(
    ("body", "how"),
    [
        (AN_EVENT, {"query": "sentry_key=another"}),
        (AN_EVENT, {"headers": {**AUTH, "authorization": "Sentry sentry_key=another"}}),
        (envelope(dsn="http://another@127.0.0.1:8000/1"), {}),
        (envelope(dsn=f"http://{KEY}@127.0.0.1:8000/2"), {}),
        (envelope(dsn=f"http://{KEY}@127.0.0.1:8000/2"), {"headers": {}}),
    ],
)
def test_a1_two_places_that_do_not_agree_are_refused(body, how):
    answer = Server().post(body, **how)

    assert answer.status == 403
    assert "different" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/api/2/envelope/", "/api/01/envelope/", "/api/x/store/"])
def test_a3_a_key_opens_its_own_project_and_no_other(path):
    server = Server()

    answer = server.post(AN_EVENT, path)

    assert answer.status == 403
    assert "project" in answer.json()["detail"]
    assert not server.kept.taken


def test_i7_a_body_that_is_no_envelope_is_named_to_whoever_has_a_key():
    answer = Server().post(b"no envelope")

    assert answer.status == 400
    assert answer.json()["detail"] == "The envelope cannot be read"
    assert "first line" in answer.json()["causes"][0]


def test_a3_the_start_ups_check_finds_both_doors_closed():
    asyncio.run(check_refusals(Server().dispatch))


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b'{}\n{"type":"event","length":10}\n{}',
        b'{}\n{"type":"event","length":-1}\n{}',
        b'{}\n{"type":"event","length":1}\n{}\n',
        b'{}\n{"length":2}\n{}\n',
        b"\xef\xbb\xbf{}\n",
        "{}\n".encode("utf-16"),
    ],
)
def test_i7_a_malformed_envelope_is_400_in_the_protocols_form(body):
    answer = Server().post(body)

    assert answer.status == 400
    assert answer.json()["detail"] == "The envelope cannot be read"
    assert len(answer.json()["causes"]) == 1
    assert answer.headers["x-sentry-error"] == "The envelope cannot be read"
    assert "x-sentry-rate-limits" not in answer.headers


def test_i7_ten_thousand_items_are_the_most():
    server = Server()
    items = b'\n{"type":"x","length":0}\n' * 10_001

    answer = server.post(b"{}" + items)

    assert answer.status == 413
    assert server.post(b"{}" + items[: len(items) // 10_001 * 10_000]).status == 200


def test_i6_a_packed_body_over_the_limit_is_413():
    answer = Server().post(gzip.compress(b" " * (2 << 20)), headers={**AUTH, "content-encoding": "gzip"})

    assert answer.status == 413
    assert answer.json().keys() == {"detail", "causes"}


def test_i6_an_encoding_that_nobody_knows_is_refused_with_those_that_are_known():
    answer = Server().post(AN_EVENT, headers={**AUTH, "content-encoding": "lzma"})

    assert answer.status == 415
    assert "gzip" in answer.headers["x-sentry-error"]


# -- pressure --------------------------------------------------------------------------------------------------------

MIXED = envelope(
    ("event", {"message": "boom"}),
    ("transaction", A_TRANSACTION),
    ("span", {"items": [{"trace_id": TRACE_ID, "span_id": "b" * 16, "name": "s", "start_timestamp": 1}]}),
    ("trace_metric", {"name": "n", "value": 1}),
    ("log", {"items": [{"level": level, "body": "b"} for level in ("debug", "info", "warn", "error", "fatal")]}),
    event_id=EVENT_ID,
)


def kinds_of(server) -> list[str]:
    return [f"{event.kind} {event.level}".strip() for event in server.kept.taken]


def test_without_pressure_everything_is_taken_and_no_limit_is_told():
    server = Server()

    answer = server.post(MIXED)

    assert len(kinds_of(server)) == 9
    assert "x-sentry-rate-limits" not in answer.headers


def test_i10_under_pressure_transactions_give_way_and_the_rest_is_stored():
    server = Server()
    server.press(0.6)

    answer = server.post(MIXED)

    assert (answer.status, answer.body) == (200, AN_ID)
    assert answer.headers["x-sentry-rate-limits"] == "60:transaction;span:key:overload"
    assert kinds_of(server) == [
        "exception ERROR",
        "span",
        "metric",
        "log INFO",
        "log WARN",
        "log ERROR",
        "log FATAL",
    ]
    assert server.items == {"accepted": 7, "shed": 2}


def test_i10_under_more_pressure_only_what_tells_of_trouble_is_stored():
    server = Server()
    server.press(0.9)

    answer = server.post(MIXED)

    assert answer.headers["x-sentry-rate-limits"] == "60:transaction;span;trace_metric:key:overload"
    assert kinds_of(server) == ["exception ERROR", "log WARN", "log ERROR", "log FATAL"]
    assert server.items == {"accepted": 4, "shed": 5}


def test_i10_what_gives_way_is_not_even_decoded():
    server = Server()
    server.press(0.6)

    answer = server.post(envelope(("transaction", b"no JSON at all")))

    assert answer.status == 200
    assert server.items == {"shed": 1}


def test_i10_an_sdk_that_lost_nothing_to_pressure_is_not_silenced():
    server = Server()
    server.press(0.9)

    answer = server.post(envelope(("event", {"message": "boom"}), ("log", {"items": [{"level": "debug"}]})))

    assert answer.status == 200
    assert "x-sentry-rate-limits" not in answer.headers
    assert server.items == {"accepted": 1, "shed": 1}


@pytest.mark.parametrize("share", [0.6, 0.9])
def test_i10_an_envelope_of_quiet_records_alone_is_left_out_without_an_error(share):
    """A 429 would make the SDK keep its errors to itself as well."""
    server = Server()
    server.press(share)

    answer = server.post(envelope(("log", {"items": [{"level": "debug", "body": "b"}]})))

    assert (answer.status, answer.body) == (200, b"{}")
    assert "x-sentry-rate-limits" not in answer.headers
    assert server.items == {"shed": 1}


def test_i10_a_full_log_is_503_with_a_time_to_come_back_and_silences_no_category():
    server = Server()
    server.unstored = 2000

    answer = server.post(AN_EVENT)

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert "x-sentry-rate-limits" not in answer.headers
    assert not server.kept.taken


def test_i10_too_much_at_once_is_429_with_a_time_to_come_back():
    server = Server()
    server.kept.failure = RateLimited("Too much is being sent at once", retry_after_s=2)

    answer = server.post(AN_EVENT)

    assert (answer.status, answer.headers["retry-after"]) == (429, "2")
    assert "x-sentry-rate-limits" not in answer.headers


def test_a_used_up_quota_is_told_for_every_category():
    server = Server(quota=Quota(per_day=1))
    assert server.post(AN_EVENT).status == 200

    answer = server.post(AN_EVENT)

    assert answer.status == 429
    assert answer.headers["x-sentry-rate-limits"] == f"{answer.headers['retry-after']}::key:quota"
    assert "set-quota" in answer.json()["causes"][0]


def test_what_the_log_could_not_take_is_counted_as_that_and_nothing_else():
    server = Server()
    server.kept.failure = Unavailable("The log cannot be written just now", retry_after_s=1)

    answer = server.post(envelope(("event", {"message": "m"}), ("session", {})))

    assert answer.status == 503
    assert server.items == {"unavailable": 1}


# -- the form of refusals --------------------------------------------------------------------------------------------


def test_an_error_that_was_not_made_for_a_caller_says_nothing_of_itself():
    answer = refusal(None, ConfigError("/secret/place is wrong"))

    assert answer.status == 503
    assert b"secret" not in answer.body


def test_the_header_with_the_sentence_is_short_and_printable():
    sentence = "é\r\nX-Evil: 1 " + "a" * 500

    headers = dict(refusal(None, Unavailable(sentence)).headers)

    assert headers[b"x-sentry-error"].startswith(b"???X-Evil: 1 aaa")
    assert len(headers[b"x-sentry-error"]) == 200


def test_a7_pages_of_other_sites_may_send_and_read_the_limits():
    answer = Server().post(AN_EVENT, headers={**AUTH, "origin": "https://shop.example"})

    assert answer.headers["access-control-allow-origin"] == "*"
    assert "X-Sentry-Rate-Limits" in answer.headers["access-control-expose-headers"]


def test_each_event_is_the_keys_projects():
    server = Server()

    server.post(AN_EVENT)

    assert [event.project for event in server.kept.taken if isinstance(event, Event)] == [1]
