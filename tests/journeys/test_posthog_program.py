"""Programs that were written for PostHog's SDK, with one line changed: the import.

They run as programs do, in an interpreter of their own, once against a strict PostHog and once against leeward's server.
"""

import datetime
import textwrap

import pytest

import posthog_recorder
import programs
from server_process import ServerProcess

TOKEN = "phc_" + "t" * 40
CHANGES = {
    "from posthog import Posthog": "from leeward import Client as Posthog",
    "import posthog": "import leeward as posthog",
}
UUID = "11111111-2222-4333-8444-555555555555"
OLDER_UUID = "99999999-2222-4333-8444-555555555555"
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)

TODAY = f"""
import datetime
from posthog import Posthog

posthog = Posthog(
    KEY, host=HOST, debug=False, max_queue_size=1000, flush_at=5, flush_interval=0.5, gzip=True, max_retries=3, timeout=15,
    thread=1, on_error=print, sync_mode=False, disabled=False, disable_geoip=True, personal_api_key="phx_x",
    enable_exception_autocapture=False, before_send=lambda event: event, privacy_mode=True, capture_mode="v1",
)
posthog.capture("signup", distinct_id="ada", properties={{"plan": "pro"}}, groups={{"company": "acme"}})
posthog.capture(
    "dated", distinct_id="ada", timestamp=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
    uuid="{UUID}", disable_geoip=False, send_feature_flags=True,
)
posthog.capture("anonymous")
posthog.capture(event="by keyword", distinct_id=7)
posthog.set(distinct_id="ada", properties={{"name": "Ada"}})
posthog.set_once(distinct_id="ada", properties={{"first": "2026"}})
posthog.group_identify("company", "acme", {{"employees": 11}}, distinct_id="ada")
posthog.alias(previous_id="anon-1", distinct_id="ada")
try:
    1 / 0
except ZeroDivisionError as error:
    posthog.capture_exception(error, distinct_id="ada", properties={{"stage": "divide"}}, groups={{"company": "acme"}})
try:
    {{}}["key"]
except KeyError:
    posthog.capture_exception()
if posthog.feature_enabled("beta", "ada", person_properties={{"plan": "pro"}}, send_feature_flag_events=False):
    posthog.capture("a flag was on")
assert posthog.get_feature_flag("beta", "ada", groups={{"company": "acme"}}) is None
assert posthog.get_feature_flag_payload("beta", "ada", match_value=True) is None
assert posthog.get_all_flags("ada", only_evaluate_locally=True) == {{}}
assert not posthog.disabled
posthog.debug = True
posthog.flush(timeout_seconds=10)
posthog.shutdown()
"""

OLDER = """
import sys
from posthog import Posthog

posthog = Posthog(KEY, HOST, False, 1000, True)
posthog.capture("ada", "signup", {"plan": "pro"}, {"ip": "::1"}, None, None, {"company": "acme"}, False)
posthog.capture("ada", "dated", None, None, "2026-01-02T03:04:05Z", "99999999-2222-4333-8444-555555555555")
posthog.capture("ada", "half and half", properties={"plan": "pro"})
posthog.capture("ada", event="mixed", properties={"plan": "pro"})
posthog.capture(distinct_id="ada", event="by keyword", properties={"plan": "pro"}, timestamp=None, context=None)
posthog.identify("ada", {"name": "Ada"})
posthog.identify(distinct_id="bob", properties={"name": "Bob"}, context=None, timestamp=None)
posthog.set("ada", {"plan": "pro"})
posthog.set("ada", properties={"plan": "max"})
posthog.set_once("ada", {"first": "2026"}, None, None)
posthog.group_identify("company", "acme", {"employees": 11}, None, None, None, True, "ada")
posthog.alias("anon-1", "ada", None, None)
try:
    raise ValueError("no")
except ValueError as error:
    posthog.capture_exception(error, "ada", {"stage": "older"})
    raised = sys.exc_info()
posthog.capture_exception(raised, "ada", properties={"stage": "half"})
posthog.join()
"""

MODULE = """
import posthog

posthog.capture("signup", distinct_id="ada", properties={"plan": "pro"})
posthog.capture("ada", "older", {"plan": "pro"})
try:
    raise ValueError("no")
except ValueError:
    posthog.capture_exception()
posthog.flush()
posthog.capture("late", distinct_id="ada")
posthog.shutdown()
"""


def run(text, key, host, spool):
    """Change the import, and nothing else; run it."""
    for line, replacement in CHANGES.items():
        if f"\n{line}\n" in text:
            text = text.replace(line, replacement)
            break
    text = text.replace("KEY", repr(key)).replace("HOST", repr(host))
    result = programs.run(
        textwrap.dedent(text), LEEWARD_SPOOL_DIR=str(spool), LEEWARD_API_KEY=key, LEEWARD_HOST=host, HOME=str(spool)
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.fixture
def posthog(monkeypatch):
    monkeypatch.setattr(posthog_recorder, "KEY", TOKEN)
    with posthog_recorder.Recorder() as server:
        yield server
        assert server.broken == []


def arrived(server):
    """(event, distinct id, properties), without what the client itself adds."""
    assert set(server.stored.values()) == {1}
    own = ("$lib", "$device_id", "$geoip_disable")
    found = [
        (
            event["event"],
            event["distinct_id"],
            {name: value for name, value in event["properties"].items() if not name.startswith(own)},
        )
        for event in server.events.values()
        if not event["event"].startswith("$exception")
    ]
    return sorted(found, key=repr)


def exceptions(server):
    found = [
        (
            event["properties"]["$exception_type"],
            event["properties"]["$exception_message"],
            event["distinct_id"],
            event["properties"].get("stage"),
            event["properties"].get("$groups"),
        )
        for event in server.events.values()
        if event["event"] == "$exception"
    ]
    return sorted(found, key=repr)


def test_a_program_of_today_runs_with_its_import_changed(posthog, tmp_path):
    run(TODAY, TOKEN, posthog.host, tmp_path)

    nobody = posthog.events[next(i for i, e in posthog.events.items() if e["event"] == "anonymous")]["distinct_id"]
    assert arrived(posthog) == [
        ("$create_alias", "anon-1", {"distinct_id": "anon-1", "alias": "ada"}),
        ("$groupidentify", "ada", {"$group_type": "company", "$group_key": "acme", "$group_set": {"employees": 11}}),
        ("$set", "ada", {"$set": {"name": "Ada"}}),
        ("$set", "ada", {"$set_once": {"first": "2026"}}),
        ("anonymous", nobody, {}),
        ("by keyword", "7", {}),
        ("dated", "ada", {}),
        ("signup", "ada", {"plan": "pro", "$groups": {"company": "acme"}}),
    ]
    assert exceptions(posthog) == [
        ("KeyError", "'key'", nobody, None, None),
        ("ZeroDivisionError", "division by zero", "ada", "divide", {"company": "acme"}),
    ]
    assert posthog_recorder.moment(posthog.events[UUID]["timestamp"]) == AT
    assert {request.headers["host"] for request in posthog.requests} == {posthog.host.removeprefix("http://")}


def test_a_program_of_the_older_order_runs_with_its_import_changed(posthog, tmp_path):
    run(OLDER, TOKEN, posthog.host, tmp_path)

    plan = {"plan": "pro"}
    assert arrived(posthog) == [
        ("$create_alias", "anon-1", {"distinct_id": "anon-1", "alias": "ada"}),
        ("$groupidentify", "ada", {"$group_type": "company", "$group_key": "acme", "$group_set": {"employees": 11}}),
        ("$identify", "ada", {"$set": {"name": "Ada"}}),
        ("$identify", "bob", {"$set": {"name": "Bob"}}),
        ("$set", "ada", {"$set": {"plan": "max"}}),
        ("$set", "ada", {"$set": {"plan": "pro"}}),
        ("$set", "ada", {"$set_once": {"first": "2026"}}),
        ("by keyword", "ada", plan),
        ("dated", "ada", {}),
        ("half and half", "ada", plan),
        ("mixed", "ada", plan),
        ("signup", "ada", {**plan, "$groups": {"company": "acme"}, "context": {"ip": "::1"}}),
    ]
    assert exceptions(posthog) == [
        ("ValueError", "no", "ada", "half", None),
        ("ValueError", "no", "ada", "older", None),
    ]
    assert posthog_recorder.moment(posthog.events[OLDER_UUID]["timestamp"]) == AT


def test_a_program_that_calls_the_module_runs_with_its_import_changed(posthog, tmp_path):
    """Key and host come from the environment: what such programs set on the module is not read."""
    run(MODULE, TOKEN, posthog.host, tmp_path)

    names = sorted((event["event"], event["distinct_id"]) for event in posthog.events.values())
    assert names[1:] == [("late", "ada"), ("older", "ada"), ("signup", "ada")]
    assert exceptions(posthog) == [("ValueError", "no", names[0][1], None, None)]


def test_the_same_programs_say_the_same_to_leewards_server(tmp_path):
    with ServerProcess(tmp_path / "d") as server:
        host, key = f"http://127.0.0.1:{server.port}", server.key("write")
        for text in (TODAY, OLDER, MODULE):
            run(text, key, host, tmp_path / "spool")
        events = server.query_all()

    signups = [event["distinct_id"] for event in events if event["event_type"] == "signup"]
    assert len({event["id"] for event in events}) == len(events) == 10 + 14 + 4
    assert signups == ["ada"] * 3
    dated = {event["id"]: event["timestamp"] for event in events if event["event_type"] == "dated"}
    assert dated == dict.fromkeys((UUID, OLDER_UUID), AT.timestamp() * 1000)
    (divided,) = [event for event in events if event.get("error", {}).get("type") == "ZeroDivisionError"]
    assert divided["data"].items() >= {"stage": "divide", "$groups": {"company": "acme"}}.items()
    assert len({event["device_id"] for event in events}) == 1
