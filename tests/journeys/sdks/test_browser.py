"""SDKs in a page of another origin: what the page says arrives, once and whole, on every road that they take."""

import pytest

import sdks
from sdk_events import check_sentry, failures, named, numbers
from sdks import COUNT, Sdk

pytestmark = pytest.mark.browser
# A browser without a window is taken for a robot, whose events the SDK drops; its answer to tests is this setting.
ANYONE = {"opt_out_useragent_filter": True, "autocapture": False}
SOON = {**ANYONE, "request_queue_config": {"flush_interval_ms": 250}}
ROADS = {  # what runs before the page, and the SDK's settings
    "fetch": ("", SOON),
    "fetch, nothing packed": ("", {**SOON, "disable_compression": True}),
    "XHR, as in an older browser": ("delete window.fetch", SOON),
    "one by one": ("", {**ANYONE, "request_batching": False}),
}
# Counts, beside what the SDK does, where the next page of the same origin still sees it.
COUNT_BEACONS = """
const send = navigator.sendBeacon.bind(navigator);
navigator.sendBeacon = (...given) => {
  sessionStorage.beacons = Number(sessionStorage.beacons ?? 0) + 1;
  return send(...given);
};
"""


@pytest.fixture
def open_page(browser, site, journey):
    """Open a page of the other origin; what its console and its network complained of is noted."""
    opened = []

    def open_page(sdk, *, before="", count=COUNT, pause_s=0.0):
        context = browser.new_context()
        opened.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda said: page.complaints.append(said.text) if said.type == "error" else None)
        page.on("requestfailed", lambda failed: page.complaints.append(f"{failed.url}: {failed.failure}"))
        if before:
            page.add_init_script(before)
        given = {"run": journey.run, "count": count, "pause_s": pause_s}
        page.goto(sdks.page_address(site, sdk, journey.host, journey.key, **given))
        page.wait_for_function("window.ready")
        return page

    yield open_page
    for context in opened:
        context.close()


def check_posthog(events, run):
    steps = named(events, "step")
    assert numbers(steps) == list(range(COUNT))
    for event in steps:
        assert event["distinct_id"] == run
        assert event["session_id"] == event["data"]["$session_id"]
        assert event["data"].items() >= {"plan": "pro", "nested": {"list": [1, None, "é"]}, "$lib": "web"}.items()
    raised = failures(events, run, COUNT, "TypeError")
    assert numbers(raised) == list(range(COUNT))
    (person,) = named(events, "$identify")
    assert person["distinct_id"] == run
    (view,) = named(events, "$pageview")
    assert view["data"]["$pathname"] == "/posthog_events.html"


def whole(events):
    return len(named(events, "step")) == COUNT and len([e for e in events if e["kind"] == "exception"]) == COUNT


@pytest.mark.parametrize(("before", "variant"), ROADS.values(), ids=ROADS)
def test_posthog_in_a_page(journey, open_page, before, variant):
    page = open_page(Sdk("posthog_events.mjs", variant), before=before)

    events = journey.wait(lambda found: whole(found) and named(found, "$pageview"), "the page's events are there")
    check_posthog(events, journey.run)
    assert page.complaints == []


def test_posthog_in_a_page_that_is_left_at_once(journey, open_page):
    """What was not sent by then goes by beacon."""
    page = open_page(Sdk("posthog_events.mjs", ANYONE), before=COUNT_BEACONS)
    page.goto(f"{page.url.split('/posthog')[0]}/empty.html")

    events = journey.wait(whole, "the beacon's events are there")
    check_posthog(events, journey.run)
    assert int(page.evaluate("sessionStorage.beacons")) > 0
    assert [event["distinct_id"] for event in named(events, "$pageleave")].count(journey.run) == 1


@pytest.mark.parametrize("variant", [{}, {"traceLifecycle": "static"}], ids=["streamed spans", "transactions"])
def test_sentry_in_a_page(journey, open_page, variant):
    page = open_page(Sdk("sentry_events.mjs", variant))

    events = journey.wait(lambda found: len(found) >= 5 * COUNT + 1, "the page's events are there")
    check_sentry(events, journey.run, COUNT, "TypeError")
    assert len(events) == 5 * COUNT + 1
    assert page.complaints == []


def test_sentry_in_a_page_that_goes_on_sending(journey, open_page):
    """The SDK never reads an answer, and a browser lets only 64 KiB wait for theirs: answers must end by themselves.

    The pace leaves a busy machine the time to answer: what the SDK has on its way counts towards the same 64 KiB.
    """
    count = 30
    page = open_page(Sdk("sentry_events.mjs"), count=count, pause_s=0.3)

    events = journey.wait(lambda found: len(found) >= 5 * count + 1, "the page's events are there")
    check_sentry(events, journey.run, count, "TypeError")
    assert page.complaints == []
