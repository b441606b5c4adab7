"""The pages as a person meets them: in a real Chromium, over real HTTP."""

import asyncio
import json
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from playwright.sync_api import expect, sync_playwright

from leeward.clock import SystemClock
from leeward.errors import Unavailable
from leeward.gateway.circuits import ModelStatus, ProviderStatus
from leeward.server.dashboard import render
from leeward.server.dashboard.overview import OverviewState
from leeward.store.clients import ClientAccount, ClientAccounts
from page_server import CHROMIUM_FLAGS, Pages, chromium, event, served
from xss_payloads import PAYLOADS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="no Chromium on the PATH; apt-get install chromium brings one"),
]

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
HEALTHY = OverviewState(health="healthy", store="running")
FIELDS = ("event_type", "distinct_id", "data", "error", "provider")
MORE_FIELDS = (
    "key",
    "id",
    "kind",
    "level",
    "session_id",
    "correlation_id",
    "trace_id",
    "service",
    "model",
    "attributes",
)
PER_PAGE = 50

# Notes every refusal of the content policy in the page itself, before any of the page's own scripts run.
WATCH = """
window.refusals = [];
document.addEventListener("securitypolicyviolation", (refused) =>
  window.refusals.push(refused.effectiveDirective + " " + refused.blockedURI));
"""


@pytest.fixture(scope="module")
def site():
    """One server and one browser for the module: each test sets what the overview reads."""
    with tempfile.TemporaryDirectory() as directory:
        pages = Pages(Path(directory), wait_s=1, clock=SystemClock())
        keys = json.loads((Path(directory) / "first-keys.json").read_text())
        with served(pages) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_FLAGS)
            yield SimpleNamespace(pages=pages, keys=keys, address=address, browser=browser)
            browser.close()
        pages.close()
        assert pages.failures == []


@pytest.fixture
def overview(site):
    held = site.pages.overview
    held.minutes_held, held.events, held.held_state, held.raises = [], [], HEALTHY, None
    held.held_clients = ClientAccounts()
    site.pages.providers.held = msgspec.structs.replace(
        site.pages.providers.held, providers=(), attempts={}, requests={}
    )
    return held


def one_down(site, name="primary", why="consecutive_failures"):
    """Two providers, the first of them open, and its name in every place where a name may stand."""
    down = ModelStatus(name, "open", "healthy", why, 42.0, 3.2, None, 10, 3, 40.0, 99_999.0)
    rows = [ProviderStatus(name, name, "healthy", "open", [down, down])]
    rows.append(
        ProviderStatus("secondary", "simulated", "healthy", "closed", [ModelStatus("chat", "closed", "healthy")])
    )
    with ThreadPoolExecutor(1) as thread:  # this one has the browser's event loop
        thread.submit(site.pages.providers.breakable, name, "secondary").result()
    site.pages.providers.held = msgspec.structs.replace(
        site.pages.providers.held,
        providers=rows,
        attempts={(name, "ok"): 7, (name, "timeout"): 3},
        requests={(name, "ok", ""): 10**9, (name, "degraded", name): 5, (name, "failed", ""): 1},
    )


@pytest.fixture
def browse(site):
    """Open a fresh profile; signed in unless told otherwise. What must never happen is noted beside it."""
    opened = []

    def open_profile(*, sign_in=True, scope="read", **options):
        context = site.browser.new_context(timezone_id="Asia/Tokyo", locale="en-GB", **options)
        opened.append(context)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.set_default_timeout(10_000)
        noted = SimpleNamespace(dialogs=[], errors=[], foreign=[], page=page)
        page.on("dialog", lambda dialog: (noted.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: noted.errors.append(str(error)))
        page.on("console", lambda said: noted.errors.append(said.text) if said.type == "error" else None)
        page.on("request", lambda sent: None if sent.url.startswith(site.address) else noted.foreign.append(sent.url))
        page.on("popup", lambda _: noted.errors.append("a window was opened"))
        if sign_in:
            context.request.post(site.address + "/login", form={"key": site.keys[scope]}, max_redirects=0)
            page.goto(site.address + "/")
        return noted

    yield open_profile
    for context in opened:
        context.close()


def refresh(page, part="/overview"):
    """Have the page ask for its changing part now, and wait until it is shown."""
    with page.expect_response("**" + part):
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.evaluate("new Promise((done) => setTimeout(done))")


def named(page, name):
    """The events of that name in the list."""
    return page.locator(".events .name").filter(has_text=name)


def now(site):
    return site.pages.clock.wall_ms()


def lossy_clients(site, process, lost):
    gone = sum(lost.values())
    account = ClientAccount(process, now(site), now(site), 2**53, 5, lost, 10**9)
    return ClientAccounts([account], total=1_000_000, lost=gone, missing=10**9)


def assert_clean(noted):
    assert noted.dialogs == []
    assert noted.foreign == []
    assert noted.errors == []
    assert noted.page.evaluate("window.refusals") == []


def hostile_event(number, at, field, payload):
    if field == "data":
        value = msgspec.Raw(msgspec.json.encode({payload: payload}))
    elif field == "attributes":
        value = msgspec.Raw(msgspec.json.encode([payload]))
    elif field == "error":
        value = {"type": payload, "message": payload, "stack": payload + "\n" + payload, payload: payload}
    else:
        value = payload
    return event(number, at, **{field: value})


PAIRS = [
    (field, payload)
    for field in (FIELDS + MORE_FIELDS if HEAVY else FIELDS)
    for payload in (PAYLOADS if HEAVY else PAYLOADS[:20])
]


@pytest.mark.parametrize("start", range(0, len(PAIRS), PER_PAGE))
def test_a8_no_payload_in_any_field_of_an_event_runs_or_asks_for_anything(site, overview, browse, start):
    overview.events = [
        hostile_event(number, now(site), field, payload)
        for number, (field, payload) in enumerate(PAIRS[start : start + PER_PAGE])
    ]
    noted = browse()
    page = noted.page
    for _ in range(2):
        assert page.locator(".events > li").count() == len(overview.events)
        page.evaluate("for (const shut of document.querySelectorAll('details')) shut.open = true")
        assert (
            page.locator("main script, main img, main iframe, main form, main a[href^='http'], main style").count() == 0
        )
        page.evaluate("for (const open of document.querySelectorAll('details')) open.open = false")
        page.mouse.move(400, 600)
        refresh(page)
    assert page.get_by_role("button", name="Pause").is_visible()
    assert_clean(noted)


def test_a8_no_payload_in_the_servers_own_sentences_runs(site, overview, browse):
    every = tuple(PAYLOADS)
    overview.held_state = OverviewState(
        health="degraded",
        store=" ".join(every)[:900],
        troubles=every,
        refused=dict.fromkeys(every, 1),
    )
    overview.raises = Unavailable("".join(every[:20]))
    noted = browse()
    refresh(noted.page)
    assert noted.page.get_by_text("Degraded").is_visible()
    assert_clean(noted)


def refuse(site, **said):
    site.pages.refusals.note(**{"wire": "native", "code": "x", "reason": "", "path": "/", **said})


def test_a8_no_payload_in_what_was_refused_runs(site, overview, browse):
    site.pages.refusals.clear()
    for payload in PAYLOADS:
        refuse(
            site,
            wire=payload,
            code=payload,
            reason=payload,
            path=payload,
            user_agent=payload.encode(),
            key_tail=payload[-4:],
            address=payload,
        )
    noted = browse()
    noted.page.goto(site.address + "/refused")
    assert noted.page.locator("#refused tbody tr").count() == min(100, len(PAYLOADS))
    assert noted.page.locator("main script, main img, main iframe, main form, main style").count() == 0
    assert_clean(noted)
    site.pages.refusals.clear()


def test_a8_the_text_of_a_payload_is_there_to_be_read(site, overview, browse):
    overview.events = [event(1, now(site), event_type=PAYLOADS[0])]
    noted = browse()
    assert named(noted.page, PAYLOADS[0]).inner_text() == PAYLOADS[0]
    refresh(noted.page)
    assert named(noted.page, PAYLOADS[0]).inner_text() == PAYLOADS[0]


def test_a8_no_payload_in_an_address_or_a_form_runs(site, overview, browse):
    noted = browse(sign_in=False)
    page = noted.page
    for path in ("/login/<script>alert(1)<script>", "/static/<svg onload=alert(1)>", "/login?x=<script>alert(1)"):
        page.goto(site.address + path)
    page.goto(site.address + "/login")
    page.get_by_label("Key", exact=True).fill(PAYLOADS[1])
    page.get_by_role("button", name="Sign in").click()
    assert page.get_by_role("alert").inner_text().endswith("This key is not valid here.")
    noted.errors = [error for error in noted.errors if "status of 40" not in error]
    assert_clean(noted)


def test_a8_the_check_sees_a_page_that_does_not_escape(site, overview, browse, monkeypatch):
    careless = render._environment.__wrapped__()
    careless.autoescape = False
    monkeypatch.setattr(render, "_environment", lambda: careless)
    overview.events = [hostile_event(1, now(site), "event_type", payload) for payload in PAYLOADS[:14]]
    noted = browse()
    assert noted.page.locator("main script").count() > 0
    assert len(noted.page.evaluate("window.refusals")) > 3
    assert noted.dialogs == [], "and the policy holds even then"


def test_a8_the_policy_stops_a_script_that_would_make_markup_of_text(site, overview, browse):
    page = browse().page
    assert "TypeError" in page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; } catch (error) { return error.name; } return 'ran'; })()"
    )


# Using the page


def test_a_one_time_link_signs_in_and_leads_to_the_overview(site, overview, browse):
    with ThreadPoolExecutor(1) as thread:  # this one has the browser's event loop
        secret = thread.submit(asyncio.run, site.pages.control.create_sign_in_link()).result()
    noted = browse(sign_in=False)
    noted.page.goto(f"{site.address}/login/{secret}")
    noted.page.wait_for_url(site.address + "/")
    assert noted.page.get_by_role("heading", name="Last events").is_visible()
    assert_clean(noted)


def test_a_key_signs_in(site, overview, browse):
    noted = browse(sign_in=False)
    noted.page.goto(site.address + "/")
    noted.page.get_by_label("Key", exact=True).fill(site.keys["read"])
    noted.page.get_by_role("button", name="Sign in").click()
    noted.page.wait_for_url(site.address + "/")
    assert_clean(noted)


def test_signing_out_needs_a_key_again(site, overview, browse):
    noted = browse()
    noted.page.get_by_role("button", name="Sign out").click()
    noted.page.wait_for_url(site.address + "/login")
    noted.page.goto(site.address + "/")
    assert noted.page.url == site.address + "/login"
    assert_clean(noted)


def test_waiting_turns_into_the_first_event_by_itself(site, overview, browse):
    noted = browse()
    page = noted.page
    assert page.get_by_text("Waiting for the first event").is_visible()
    overview.events = [event(1, now(site), event_type="hello")]
    named(page, "hello").wait_for()
    assert page.get_by_text("Waiting for the first event").count() == 0
    assert_clean(noted)


def test_times_are_in_the_readers_zone_and_tz_utc_pins_them(site, overview, browse):
    overview.events = [event(1, 1_795_322_741_463)]
    page = browse().page
    shown = page.locator(".events time")
    assert shown.inner_text() == "13:45:41"
    refresh(page)
    assert shown.inner_text() == "13:45:41"
    assert "GMT+09:00" in shown.get_attribute("title")
    assert "22 Nov 2026" in shown.get_attribute("title")
    page.goto(site.address + "/?tz=UTC")
    assert shown.inner_text() == "04:45:41"


def test_an_open_event_stays_while_others_come(site, overview, browse):
    overview.events = [event(1, now(site), event_type="mine", data={"detail": "of mine"})]
    page = browse().page
    page.locator(".events summary").click()
    overview.events = [event(number, now(site), event_type="newer") for number in range(2, 60)]
    refresh(page)
    assert page.get_by_text('"detail": "of mine"').is_visible()
    expect(page.get_by_text("The list stands still while an event is open.")).to_be_visible()
    page.locator(".events summary").click()
    refresh(page)
    expect(named(page, "newer")).to_have_count(50)


def test_the_table_beneath_the_chart_stays_open_and_focus_stays_where_it_was(site, overview, browse):
    overview.minutes_held = [(now(site) // 60_000 * 60_000 - 60_000, 1234, 7)]
    overview.events = [event(1, now(site)), event(2, now(site), event_type="second")]
    page = browse().page
    page.locator("#chart-table summary").click()
    assert page.get_by_role("cell", name="1,234").is_visible()
    page.locator(".events summary").nth(1).focus()
    overview.events.insert(0, event(3, now(site)))
    refresh(page)
    expect(page.locator(".events > li")).to_have_count(3)
    assert page.get_by_role("cell", name="1,234").is_visible()
    assert "second" in page.evaluate("document.activeElement.closest('details').textContent")


def test_a_clients_loss_shows_up_by_itself_and_its_zeros_are_green_before(site, overview, browse):
    overview.held_clients = ClientAccounts([ClientAccount("p-1", now(site), now(site), 7, 7, {}, 0)], total=1)
    noted = browse()
    tallies = noted.page.locator("#clients .tallies > div")
    expect(tallies).to_have_class(["good", "good"])
    expect(tallies.locator(".words")).to_have_text(["✓0", "✓0"])
    overview.held_clients = ClientAccounts(
        [ClientAccount("p-1", now(site), now(site), 9, 7, {"no_room": 2}, 0)], 1, 2, 0
    )
    refresh(noted.page)
    expect(tallies).to_have_class(["warn", "good"])
    expect(noted.page.locator("#clients tbody tr")).to_contain_text("no_room")
    expect(noted.page.locator("#answers")).to_contain_text("2 events lost by clients")
    assert_clean(noted)


def test_pause_holds_the_page_and_going_on_refreshes_it(site, overview, browse):
    page = browse().page
    page.clock.install()
    page.reload()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("status")).to_contain_text("Paused at")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.clock.run_for(60_000)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.clock.run_for(60_000)
    assert asked == []
    overview.events = [event(1, now(site), event_type="hello")]
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(1)
    named(page, "hello").wait_for()


def test_when_the_server_does_not_answer_the_page_says_so_and_keeps_what_it_has(site, overview, browse):
    overview.events = [event(1, now(site), event_type="hello")]
    page = browse().page
    page.route("**/overview", lambda route: route.abort())
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.get_by_text("The server does not answer.").wait_for()
    assert named(page, "hello").is_visible()
    page.unroute("**/overview")
    refresh(page)
    expect(page.get_by_role("status")).to_contain_text("Live since")


def test_when_the_session_has_ended_the_page_leads_to_the_sign_in(site, overview, browse):
    page = browse().page
    page.context.clear_cookies()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_url(site.address + "/login")


def test_without_javascript_the_page_says_the_same_and_is_reloaded_by_hand(site, overview, browse):
    overview.events = [event(1, now(site), event_type="hello", data={"a": 1})]
    noted = browse(java_script_enabled=False)
    page = noted.page
    assert named(page, "hello").is_visible()
    assert not page.get_by_role("button", name="Pause").is_visible()
    page.locator(".events summary").click()
    assert page.get_by_text('"event_type": "hello"').is_visible()
    overview.events = [event(2, now(site), event_type="newer")]
    page.get_by_role("link", name="Reload").click()
    assert named(page, "newer").is_visible()
    assert noted.foreign == []


@pytest.mark.parametrize("path", ["/", "/providers", "/refused", "/docs", "/login"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_360_pixels_and_nothing_to_press_is_smaller_than_24(site, overview, browse, path, scheme):
    overview.minutes_held = [(now(site) - 60_000, 12_345_678, 9)]
    overview.events = [
        event(1, now(site), event_type="n" * 200, distinct_id="d" * 200, provider="p" * 200, level="ERROR"),
        event(2, now(site), data={"k": "v" * 1_000}),
    ]
    overview.held_state = msgspec.structs.replace(
        HEALTHY, store="s" * 200, refused={"c" * 60: 5}, demo=True, unstored_bytes=10**9, unstored_events=10**9
    )
    overview.held_clients = lossy_clients(site, "p" * 64, {"r" * 40: 2**53})
    refuse(site, reason="r" * 300, code="c" * 60, user_agent=b"u" * 200, address="a" * 64, path="/" + "p" * 60)
    one_down(site, "n" * 64)
    signed_in = path in {"/", "/providers", "/refused"}
    noted = browse(viewport={"width": 360, "height": 640}, color_scheme=scheme, sign_in=signed_in, scope="admin")
    page = noted.page
    page.goto(site.address + path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    small = page.evaluate("""[...document.querySelectorAll("a[href], button, select, summary, input:not([type=hidden])")]
      .filter((target) => target.checkVisibility() && getComputedStyle(target).display !== "inline")
      .filter((target) => { const box = target.getBoundingClientRect(); return box.width < 24 || box.height < 24; })
      .map((target) => target.outerHTML.slice(0, 120))""")
    assert small == []
    assert_clean(noted)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_in_light_and_dark(site, overview, browse, scheme):
    overview.events = [event(1, now(site), kind="exception", level="ERROR", provider="x", error={"stack": "s"})]
    overview.held_state = OverviewState(health="degraded", store="s", troubles=("t",), lost=1, dead=1)
    overview.held_clients = lossy_clients(site, "p", {"r": 1})
    page = browse(color_scheme=scheme).page
    page.evaluate("for (const shut of document.querySelectorAll('details')) shut.open = true")
    assert page.evaluate(CONTRASTS) == []
    refuse(site, reason="r", user_agent=b"u", address="a", count=2)
    page.goto(site.address + "/refused")
    assert page.evaluate(CONTRASTS) == []
    one_down(site)
    page.goto(site.address + "/providers")
    assert page.evaluate(CONTRASTS) == []


def broken(site):
    return {state.provider: state.fault and state.fault.mode for state in site.pages.providers.chaos.state()}


@pytest.mark.parametrize("scripts", [True, False])
def test_a_provider_is_broken_and_mended_by_a_form_with_and_without_scripts(site, overview, browse, scripts):
    one_down(site)
    noted = browse(scope="admin", java_script_enabled=scripts)
    page = noted.page
    page.goto(site.address + "/providers")
    page.get_by_label("Fault").first.select_option("hang")
    page.get_by_role("button", name="Break primary").click()
    expect(page.get_by_text("hang is switched on: takes the request and never answers")).to_be_visible()
    assert broken(site) == {"primary": "hang", "secondary": None}

    page.get_by_role("button", name="Mend primary").click()
    expect(page.get_by_role("button", name="Break primary")).to_be_visible()
    assert broken(site) == {"primary": None, "secondary": None}
    assert noted.errors == []
    assert noted.foreign == []


def test_the_providers_page_renews_itself_but_not_a_form_in_use_nor_what_was_chosen(site, overview, browse):
    one_down(site)
    noted = browse(scope="admin")
    page = noted.page
    page.goto(site.address + "/providers")
    expect(page.locator(".provider .state").first).to_contain_text("open since")
    page.get_by_label("Fault").first.select_option("stall")
    page.get_by_label("Fault").first.focus()
    well = ProviderStatus("primary", "openai", "healthy", "closed", [ModelStatus("chat", "closed", "healthy")])
    site.pages.providers.held = msgspec.structs.replace(site.pages.providers.held, providers=[well])
    refresh(page, "/providers/part")
    expect(page.locator(".provider .state")).to_have_count(1)
    assert page.evaluate("document.activeElement.name") == "fault"

    page.evaluate("document.activeElement.blur()")
    with ThreadPoolExecutor(1) as thread:
        thread.submit(site.pages.providers.breakable, "primary").result()
    refresh(page, "/providers/part")
    expect(page.get_by_role("button", name="Break secondary")).to_have_count(0)
    assert page.get_by_label("Fault").first.input_value() == "stall"
    assert_clean(noted)


def test_a8_no_name_of_a_provider_runs_or_becomes_markup(site, overview, browse):
    for payload in PAYLOADS if HEAVY else PAYLOADS[:6]:
        one_down(site, payload)
        noted = browse(scope="admin")
        noted.page.goto(site.address + "/providers")
        assert noted.page.locator(".provider h2").first.inner_text() == payload
        refresh(noted.page, "/providers/part")
        assert noted.page.locator("main script, main img, main iframe, main style").count() == 0
        assert_clean(noted)


# WCAG 2.2, 1.4.3: the ratio of luminances of each text and what is behind it; what is below 4.5 is returned.
CONTRASTS = """(() => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    paint.clearRect(0, 0, 1, 1);
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    return [...paint.getImageData(0, 0, 1, 1).data];
  };
  const light = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const low = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest("svg")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push(element.outerHTML.slice(0, 100) + " " + ratio.toFixed(2));
  }
  return low;
})()"""


def test_a9_a_page_of_huge_events_stays_usable(site, overview, browse):
    huge = msgspec.Raw(msgspec.json.encode({f"k{number}": "\u202e<b>" for number in range(100_000)}))
    long = msgspec.Raw(b'"' + b"x" * 10_000_000 + b'"')
    overview.events = [event(number, now(site), data=(huge, long)[number % 2]) for number in range(50)]
    noted = browse()
    refresh(noted.page)
    noted.page.locator(".events summary").nth(1).click()
    assert noted.page.get_by_text("the first 4,000 of 10,000,002 bytes").first.is_visible()
    assert_clean(noted)
