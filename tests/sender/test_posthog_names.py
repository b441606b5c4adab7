"""What programs written for PostHog's SDK call, and what becomes of it."""

import enum
import os

import pytest

import recorder
from leeward.sender.client import Client


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("LEEWARD_") or name in {"DO_NOT_TRACK", "TELEMETRY_API_URL"}:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def sent(tmp_path):
    """A function: the one event that arrives after a call."""
    with recorder.Recorder() as server:

        def sent(call):
            posthog = Client(project_api_key=recorder.KEY, host=server.host, spool_dir=str(tmp_path), device_id=False)
            call(posthog)
            posthog.shutdown(20)
            (event,) = server.events.values()
            return event

        yield sent


@pytest.mark.parametrize(
    "call",
    [
        lambda posthog: posthog.capture("signup", distinct_id="u1", properties={"plan": "pro"}),
        lambda posthog: posthog.capture("signup", {"plan": "pro"}, distinct_id="u1"),
        lambda posthog: posthog.capture("u1", "signup", {"plan": "pro"}),
        lambda posthog: posthog.capture("u1", event="signup", properties={"plan": "pro"}),
        lambda posthog: posthog.capture(distinct_id="u1", event="signup", properties={"plan": "pro"}),
    ],
)
def test_todays_and_the_older_order_say_the_same(sent, call):
    event = sent(call)

    assert (event["event_type"], event["distinct_id"], event["data"]) == ("signup", "u1", {"plan": "pro"})


def test_groups_become_a_property(sent):
    event = sent(lambda posthog: posthog.capture("signup", {"a": 1}, groups={"company": "c1"}, disable_geoip=True))

    assert event["data"] == {"a": 1, "$groups": {"company": "c1"}}


@pytest.mark.parametrize(
    ("call", "name", "data"),
    [
        (lambda p: p.set(distinct_id="u1", properties={"plan": "x"}), "$set", {"$set": {"plan": "x"}}),
        (lambda p: p.set_once(distinct_id="u1", properties={"plan": "x"}), "$set", {"$set_once": {"plan": "x"}}),
        (lambda p: p.identify("u1", {"plan": "x"}), "$identify", {"$set": {"plan": "x"}}),
        (lambda p: p.alias("u1", "u2"), "$create_alias", {"distinct_id": "u1", "alias": "u2"}),
        (
            lambda p: p.group_identify("company", "c1", {"size": 3}, distinct_id="u1"),
            "$groupidentify",
            {"$group_type": "company", "$group_key": "c1", "$group_set": {"size": 3}},
        ),
    ],
)
def test_persons_and_groups_are_events(sent, call, name, data):
    event = sent(call)

    assert (event["event_type"], event["distinct_id"], event["data"]) == (name, "u1", data)


@pytest.mark.parametrize(
    "call",
    [
        lambda posthog, error: posthog.capture_exception(error, distinct_id="u1", properties={"a": 1}),
        lambda posthog, error: posthog.capture_exception(error, "u1", {"a": 1}),
    ],
)
def test_an_exception_is_captured_in_both_orders(sent, call):
    event = sent(lambda posthog: call(posthog, ValueError("no")))

    assert (event["distinct_id"], event["error"]["type"], event["data"]["a"]) == ("u1", "ValueError", 1)


def test_flags_are_unknown_and_nothing_is_asked():
    posthog = Client("phc_x", "http://127.0.0.1:9", disabled=True)

    assert posthog.feature_enabled("f", "u1") is None
    assert posthog.get_feature_flag("f", "u1") is None
    assert posthog.get_feature_flag_payload("f", "u1") is None
    assert posthog.get_all_flags("u1") == {}
    posthog.join()


def test_a_program_that_sends_nothing_sends_nothing():
    posthog = Client("phc_x", "http://127.0.0.1:9", send=False)

    assert posthog.disabled
    assert posthog.capture("a") is None


def test_names_may_be_members_of_an_enum(sent):
    class Name(enum.StrEnum):
        SIGNUP = "signup"

    event = sent(lambda posthog: posthog.capture("u1", Name.SIGNUP, {"plan": "pro"}))

    assert (event["event_type"], event["distinct_id"], event["data"]) == ("signup", "u1", {"plan": "pro"})


@pytest.mark.parametrize(
    "call",
    [
        lambda posthog: posthog.capture("signup", {"plan": "pro"}, context={"ip": "::1"}),
        lambda posthog: posthog.capture("u1", "signup", {"plan": "pro"}, {"ip": "::1"}),
    ],
)
def test_a_context_is_passed_on(sent, call):
    assert sent(call)["data"] == {"plan": "pro", "context": {"ip": "::1"}}
