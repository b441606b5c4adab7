"""What a person does on the first day: start, send, ask, look after keys, restart, and find everything as it was."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator

import pytest

from server_process import ServerProcess, until

EVENTS = 230
INGEST, BATCH = "/api/telemetry/ingest", "/api/telemetry/batch"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("journey") / "d") as running:
        running.wait_store()
        yield running
        assert not running.reported("request_failed")


def numbered(number: int) -> dict[str, object]:
    kind = ("event", "exception", "span", "log", "metric")[number % 5]
    return {
        "event_type": f"step{number % 3}",
        "id": f"n{number}",
        "kind": kind,
        "level": ("INFO", "ERROR")[number % 2],
        "distinct_id": f"person{number % 7}",
        "session_id": f"session{number % 11}",
        "correlation_id": f"correlation{number % 13}",
        "trace_id": f"trace{number % 17}",
        "data": {"number": number, "text": "é\U0001f600", "nested": {"list": [1, None, True, 0.5]}},
        **({"error": {"type": "T", "message": "m", "category": "network"}} if kind == "exception" else {}),
    }


@pytest.fixture(scope="module")
def sent(server: ServerProcess) -> list[dict[str, object]]:
    """Events of every kind, sent one by one, as arrays and as batches."""
    events = [numbered(number) for number in range(EVENTS)]
    for event in events[:10]:
        assert server.send(event).json()["results"][0]["id"] == event["id"]
    assert server.send(events[10:130]).json()["accepted"] == 120
    answer = server.send({"batch_id": "first-day", "events": events[130:]}, BATCH)
    assert (answer.status, answer.json()["status"], answer.json()["accepted"]) == (200, "completed", 100)
    return events


FILTERS = (
    "event_type=step1", "kind=span", "level=ERROR", "category=network", "distinct_id=person3", "session_id=session4",
    "correlation_id=correlation5", "trace_id=trace6", "batch_id=first-day", "event_type=step1&kind=span&level=ERROR",
    "distinct_id=nobody",
)  # fmt: skip


def matches(event: dict, filters: dict[str, str]) -> bool:
    values = {**event, "category": event.get("error", {}).get("category", "")}
    values["batch_id"] = "first-day" if int(str(event["id"])[1:]) >= 130 else ""
    return all(values[name] == value for name, value in filters.items())


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_filter_gives_exactly_the_events_that_match_in_the_order_asked_for(server, sent, filters: str, order: str):
    wanted = [event["id"] for event in sent if matches(event, dict(urllib.parse.parse_qsl(filters)))]
    found = [event["id"] for event in server.query_all(f"{filters}&order={order}")]
    assert found == (wanted if order == "asc" else wanted[::-1])


@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_w17_pages_never_repeat_or_skip_an_event_while_others_come_in(server, sent, limit: int, order: str):
    first_sent = {str(event["id"]) for event in sent}
    pages: list[str] = []
    cursor = ""
    while True:
        page = server.patient_query(f"limit={limit}&order={order}{cursor}")
        pages += [event["id"] for event in page["events"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
        if len(pages) % 70 < limit:
            assert server.send({"event_type": "meanwhile"}).status == 200
    assert len(pages) == len(set(pages))
    assert first_sent <= set(pages)


def test_an_event_comes_out_as_it_went_in(server, sent):
    (found,) = server.query_all("event_type=step1&distinct_id=person1&correlation_id=correlation1&kind=exception")
    (event,) = [event for event in sent if event["id"] == found["id"]]
    for name, value in event.items():
        assert found[name] == value, name
    assert found["key"].startswith("telemetry:")
    assert found["expires_at"] == found["received_at"] + 7 * 86_400_000


def test_a_key_of_the_answer_is_the_key_of_the_query(server, sent):
    answer = server.send({"event_type": "keyed", "id": "k"}).json()
    (found,) = server.query_all("event_type=keyed")
    assert (found["key"], found["received_at"]) == (answer["results"][0]["key"], answer["timestamp"])
    again = server.send({"event_type": "keyed", "id": "k"}).json()
    assert (again["duplicates"], again["results"]) == (1, answer["results"])


def test_time_bounds_include_the_start_and_leave_the_end_out(server, sent):
    at = server.send({"event_type": "timed"}).json()["timestamp"]
    assert len(server.query_all(f"event_type=timed&start={at}&end={at + 1}")) == 1
    assert server.query_all(f"event_type=timed&start={at - 1000}&end={at}") == []
    assert server.query_all(f"event_type=timed&start={at + 1}") == []


def test_a_batch_tells_how_it_stands(server, sent):
    answer = server.ask("GET", f"{BATCH}/first-day", key=server.key("read"))
    body = answer.json()
    assert (answer.status, body["status"], body["event_count"], len(body["events"])) == (200, "completed", 100, 100)
    missing = server.ask("GET", f"{BATCH}/never", key=server.key("read"))
    assert (missing.status, missing.code) == (404, "batch_not_found")


def test_a_batch_of_which_some_are_refused_says_which(server):
    answer = server.send(
        {"batch_id": "half-good", "events": [{"event_type": "half"}, {}, {"event_type": "half"}]}, BATCH
    )
    body = answer.json()
    assert (answer.status, body["accepted"], body["total"]) == (200, 2, 3)
    assert [(entry["index"], entry["code"]) for entry in body["errors"]] == [(1, "missing_event_type")]


def test_a_key_works_from_its_making_and_not_an_instant_after_its_end(server):
    admin = server.key("admin")
    made = server.ask("POST", "/api/keys", b'{"scope":"write","name":"phone"}', key=admin)
    assert made.status == 200
    key = made.json()
    kept = server.connect()
    body = b'{"event_type":"keyed"}'
    assert kept.ask("POST", INGEST, body, key=key["key"]).status == 200
    listed = server.ask("GET", "/api/keys", key=admin)
    assert key["key"].encode() not in listed.body
    assert [entry["name"] for entry in listed.json()["keys"] if entry["id"] == key["id"]] == ["phone"]
    assert server.ask("DELETE", f"/api/keys/{key['id']}", key=admin).status == 200
    refused = kept.ask("POST", INGEST, body, key=key["key"])
    assert (refused.status, refused.code) == (401, "unauthorized"), "also on a connection that is open"
    kept.close()
    assert server.ask("DELETE", "/api/keys/nothing", key=admin).code == "key_not_found"


def test_a3_projects_do_not_see_each_other(server):
    admin = server.key("admin")
    assert server.ask("POST", "/api/projects", b'{"name":"other"}', key=admin).status == 200
    keys = {
        scope: server.ask(
            "POST", "/api/keys", json.dumps({"scope": scope, "project": "other"}).encode(), key=admin
        ).json()["key"]
        for scope in ("write", "read")
    }
    body = b'{"batch_id":"theirs","events":[{"event_type":"secret","id":"s"}]}'
    assert server.ask("POST", BATCH, body, key=keys["write"]).json()["duplicates"] == 0
    assert server.query_all("event_type=secret") == []
    assert server.ask("GET", f"{BATCH}/theirs", key=server.key("read")).status == 404
    theirs = until(lambda: server.ask("GET", "/api/telemetry/query", key=keys["read"]).json(), "an answer")
    assert [event["id"] for event in theirs["events"]] == ["s"]
    mine = server.send({"event_type": "secret", "id": "s"}).json()
    assert mine["duplicates"] == 0, "the same id in another project is another event"


def test_w1_everything_is_as_it_was_after_a_restart(server, sent):
    before = server.query_all("order=asc")
    batch = server.ask("GET", f"{BATCH}/first-day", key=server.key("read")).json()
    made = server.ask("POST", "/api/keys", b'{"scope":"read"}', key=server.key("admin")).json()
    gone = server.ask("POST", "/api/keys", b'{"scope":"read"}', key=server.key("admin")).json()
    server.ask("DELETE", f"/api/keys/{gone['id']}", key=server.key("admin"))
    for how in ("terminate", "kill"):
        getattr(server, how)()
        server.start()
        assert server.query_all("order=asc") == before
        after = server.ask("GET", f"{BATCH}/first-day", key=server.key("read")).json()
        assert {**after, "updated_at": 0, "status": ""} == {**batch, "updated_at": 0, "status": ""}
        assert server.ask("GET", "/api/telemetry/query", key=made["key"]).status == 200
        assert server.ask("GET", "/api/telemetry/query", key=gone["key"]).status == 401
        assert server.send(sent[0]).json()["duplicates"] == 1


def test_a_cursor_holds_over_a_restart(server, sent):
    wanted = [event["id"] for event in sent if event.get("session_id") == "session4"]  # other tests have sent others
    first = server.patient_query("limit=5&order=asc&session_id=session4")
    server.terminate()
    server.start()
    second = server.patient_query(f"limit=5&order=asc&session_id=session4&cursor={first['next_cursor']}")
    assert [event["id"] for event in first["events"] + second["events"]] == wanted[:10]
    assert len(wanted) >= 10


def test_counters_add_up(server):
    server.wait_store()
    before = {name: server.metric(f"leeward_events_{name}_total") for name in ("accepted", "stored", "duplicate")}
    for number in range(50):
        assert (
            server.send(
                [{"event_type": "counted", "id": f"m{number}"}, {"event_type": "counted", "id": f"m{number}"}]
            ).status
            == 200
        )
    assert len(server.query_all("event_type=counted")) == 50
    after = {name: server.metric(f"leeward_events_{name}_total") for name in ("accepted", "stored", "duplicate")}
    assert {name: after[name] - before[name] for name in after} == {"accepted": 50, "stored": 50, "duplicate": 50}
    assert server.metric("leeward_log_unstored_bytes") == 0


def test_the_api_describes_itself_and_its_description_names_every_road(server):
    answer = server.ask("GET", "/openapi.json")
    assert answer.status == 200
    described = answer.json()
    assert described["openapi"].startswith("3.")
    assert {INGEST, BATCH, "/api/telemetry/query", "/health", "/api/keys"} <= described["paths"].keys()
    assert server.ask("GET", "/docs").status == 200
