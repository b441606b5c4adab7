import asyncio
import json
import re
import subprocess
import sys
from http.cookies import SimpleCookie

import msgspec
import pytest

from leeward.errors import Unavailable
from leeward.server.access import csrf_token
from leeward.server.dashboard import render
from leeward.store.clients import ClientAccount, ClientAccounts
from page_server import Pages, event

NOW = 1_800_000_000_000


@pytest.fixture
def pages(tmp_path):
    pages = Pages(tmp_path)
    pages.keys = json.loads((tmp_path / "first-keys.json").read_text())
    yield pages
    pages.close()
    assert pages.failures == [], "no page fails inside"


def ask(pages, *given, **more):
    return asyncio.run(pages.ask(*given, **more))


def cookie_of(headers):
    return SimpleCookie(headers["set-cookie"])["leeward_session"]


def signed_in(pages):
    _, headers, _ = ask(pages, "POST", "/login", b"key=" + pages.keys["read"].encode())
    return cookie_of(headers).value


def overview(pages, path="/", **more):
    return ask(pages, "GET", path, cookie=f"leeward_session={signed_in(pages)}", **more)


# Signing in


def test_without_a_session_a_page_leads_to_the_sign_in(pages):
    for path in ("/", "/overview"):
        status, headers, _ = ask(pages, "GET", path)
        assert (status, headers["location"]) == (303, "/login")


def test_a_bearer_key_that_reads_sees_the_page(pages):
    status, _, body = ask(pages, "GET", "/", authorization="Bearer " + pages.keys["read"])
    assert status == 200
    assert "Sign out" not in body, "there is no session to end"


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_a_key_signs_in_and_the_cookie_lasts_as_long_as_the_session(pages, scope):
    status, headers, _ = ask(pages, "POST", "/login", b"key=" + pages.keys[scope].encode())
    assert (status, headers["location"]) == (303, "/")
    morsel = cookie_of(headers)
    session = pages.control.session(morsel.value)
    assert session.scope == scope
    assert int(morsel["max-age"]) == (session.expires_at - NOW) // 1000
    assert morsel["httponly"]
    assert morsel["samesite"] == "Strict"
    assert not morsel["secure"]


def test_on_https_the_cookie_is_for_https_only(pages):
    _, headers, _ = ask(pages, "POST", "/login", b"key=" + pages.keys["read"].encode(), scheme="https")
    assert cookie_of(headers)["secure"]


def test_blanks_around_a_pasted_key_do_not_matter(pages):
    assert ask(pages, "POST", "/login", b"key=+" + pages.keys["read"].encode() + b"%0A")[0] == 303


@pytest.mark.parametrize("body", [b"key=", b"other=1", b"key=lw_" + b"x" * 32, b"key=%ff"])
def test_a1_a_wrong_key_gets_the_form_again_and_one_sentence(pages, body):
    status, headers, text = ask(pages, "POST", "/login", body)
    assert status in {400, 401}
    assert "set-cookie" not in headers
    if status == 401:
        assert "This key is not valid here." in text
        assert "lw_xxx" not in text


def test_a3_a_key_that_may_not_read_is_told_which_may(pages):
    status, headers, body = ask(pages, "POST", "/login", b"key=" + pages.keys["write"].encode())
    assert status == 403
    assert "set-cookie" not in headers
    assert "leeward keys create --scope read" in body


def test_a1_who_tries_keys_is_told_to_wait_and_a_right_key_still_passes(pages):
    answers = [ask(pages, "POST", "/login", b"key=lw_guess")[0] for _ in range(20)]
    status, headers, body = ask(pages, "POST", "/login", b"key=lw_guess")
    assert answers == [401] * 20
    assert status == 429
    assert int(headers["retry-after"]) > 0
    assert "Too many requests with a wrong key" in body
    assert ask(pages, "POST", "/login", b"key=" + pages.keys["read"].encode())[0] == 303


def test_a_key_revoked_between_the_check_and_the_session_does_not_sign_in(pages, monkeypatch):
    async def too_late(identity):
        return None

    monkeypatch.setattr(pages.control, "sign_in", too_late)
    status, _, body = ask(pages, "POST", "/login", b"key=" + pages.keys["read"].encode())
    assert status == 401
    assert "This key is not valid here." in body


def test_a7_a_form_sent_by_another_site_is_refused(pages):
    for site in ("cross-site", "same-site"):
        body = b"key=" + pages.keys["read"].encode()
        status, headers, text = ask(pages, "POST", "/login", body, sec_fetch_site=site)
        assert status == 403
        assert "set-cookie" not in headers
        assert "sent by another site" in text
    assert ask(pages, "POST", "/login", body, sec_fetch_site="same-origin")[0] == 303


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"key=" + b"x" * 5_000, "application/x-www-form-urlencoded", 413),
        (b"{}", "application/json", 415),
        (b"key=\xff", "application/x-www-form-urlencoded", 400),
        (b"&".join(b"k%d=1" % number for number in range(20)), "application/x-www-form-urlencoded", 400),
    ],
)
def test_i1_a_body_that_is_no_small_form_is_refused_with_a_page(pages, body, kind, status):
    answered, headers, text = ask(pages, "POST", "/login", body, content_type=kind)
    assert answered == status
    assert headers["content-type"].startswith("text/html")
    assert "That did not work" in text


def test_who_is_signed_in_is_not_asked_to_sign_in(pages):
    cookie = f"leeward_session={signed_in(pages)}"
    status, headers, _ = ask(pages, "GET", "/login", cookie=cookie)
    assert (status, headers["location"]) == (303, "/")
    assert ask(pages, "GET", "/login", cookie="leeward_session=stale")[0] == 200


# The one-time link


def link(pages):
    return "/login/" + asyncio.run(pages.control.create_sign_in_link())


def test_a_link_signs_in_once_and_goes_on_to_the_overview(pages):
    path = link(pages)
    status, headers, body = ask(pages, "GET", path)
    assert status == 200
    assert pages.control.session(cookie_of(headers).value).scope == "read"
    assert '<meta http-equiv="refresh" content="0; url=/">' in body
    status, headers, body = ask(pages, "GET", path)
    assert (status, "set-cookie" in headers) == (404, False)
    assert "works once and for 15 minutes" in body


def test_a_look_whether_the_link_exists_does_not_use_it_up(pages):
    path = link(pages)
    status, headers, body = ask(pages, "HEAD", path)
    assert (status, body, "set-cookie" in headers) == (200, "", False)
    assert "set-cookie" in ask(pages, "GET", path)[1]


def test_a_link_is_over_after_15_minutes(pages):
    path = link(pages)
    pages.clock.pass_s(15 * 60)
    assert ask(pages, "GET", path)[0] == 404


def test_opening_a_used_link_again_in_the_browser_that_used_it_leads_to_the_overview(pages):
    path = link(pages)
    cookie = cookie_of(ask(pages, "GET", path)[1]).value
    status, headers, _ = ask(pages, "GET", path, cookie=f"leeward_session={cookie}")
    assert (status, headers["location"]) == (303, "/")


def test_a1_who_tries_links_is_told_to_wait(pages):
    answers = [ask(pages, "GET", f"/login/{number}")[0] for number in range(21)]
    assert answers == [404] * 20 + [429]


def noted_redeems(pages, monkeypatch):
    asked = []

    async def redeem(secret):
        asked.append(secret)

    monkeypatch.setattr(pages.control, "redeem", redeem)
    return asked


@pytest.mark.parametrize("secret", ["x", "a" * 42, "a" * 44, "a" * 42 + ".", "a" * 42 + "\n"])
def test_a1_what_cannot_be_a_link_is_refused_before_the_control_database_is_asked(pages, monkeypatch, secret):
    asked = noted_redeems(pages, monkeypatch)

    assert ask(pages, "GET", f"/login/{secret}")[0] == 404
    assert asked == []


def test_a1_who_has_tried_too_many_links_does_not_reach_the_control_database(pages, monkeypatch):
    asked = noted_redeems(pages, monkeypatch)
    answers = [ask(pages, "GET", "/login/" + "a" * 43)[0] for _ in range(25)]

    assert answers == [404] * 20 + [429] * 5
    assert len(asked) == 20


# Signing out


def test_signing_out_ends_the_session_and_takes_the_cookie_away(pages):
    cookie = signed_in(pages)
    body = f"csrf={csrf_token(cookie)}".encode()
    status, headers, _ = ask(pages, "POST", "/logout", body, cookie=f"leeward_session={cookie}")
    assert (status, headers["location"]) == (303, "/login")
    assert cookie_of(headers)["max-age"] == "0"
    assert pages.control.session(cookie) is None


@pytest.mark.parametrize("body", [b"csrf=", b"csrf=" + b"0" * 64, b"x=1"])
def test_a7_signing_out_needs_the_token_of_this_session(pages, body):
    cookie = signed_in(pages)
    status, _, text = ask(pages, "POST", "/logout", body, cookie=f"leeward_session={cookie}")
    assert status == 403
    assert "not from a page of your session" in text
    assert pages.control.session(cookie) is not None


def test_signing_out_with_a_key_in_the_header_ends_nothing(pages):
    status, headers, _ = ask(pages, "POST", "/logout", authorization="Bearer " + pages.keys["read"])
    assert (status, headers["location"]) == (303, "/login")


def test_the_form_to_sign_out_has_the_sessions_token(pages):
    cookie = signed_in(pages)
    body = ask(pages, "GET", "/", cookie=f"leeward_session={cookie}")[2]
    assert f'name="csrf" value="{csrf_token(cookie)}"' in body
    assert cookie not in body


# The overview


def test_every_page_has_the_strict_policy(pages):
    paths = ["/login", "/login/x", "/static/page.js", "/static/none", "/docs"]
    answers = [ask(pages, "GET", path)[1] for path in paths]
    answers.append(overview(pages)[1])
    for headers in answers:
        policy = headers["content-security-policy"]
        assert policy.startswith(
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
            "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
        )
        assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_no_template_has_a_script_or_style_of_its_own_or_escapes_from_escaping():
    for file in (render._HERE / "templates").iterdir():
        source = file.read_text()
        assert "<style" not in source
        assert " style=" not in source
        assert "|safe" not in source.replace(" ", "")
        assert not re.search(r"\son[a-z]+=", source)
        assert not re.search(r"<script(?! src=\"\{\{ static\('page.js'\) \}\}\" defer></script>)", source)


def test_the_script_uses_nothing_that_turns_text_into_markup():
    source = (render._HERE / "static" / "page.js").read_text()
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "DOMParser", "document.write", "eval(", "Function("):
        assert sink not in source


def test_the_stylesheet_is_small_and_knows_light_and_dark():
    source = (render._HERE / "static" / "page.css").read_text()
    assert len(source) <= 20_000
    assert "color-scheme: light dark" in source
    assert "light-dark(" in source
    assert "url(" not in source
    assert "@import" not in source


def test_the_overview_shows_events_as_they_are(pages):
    pages.overview.minutes_held = [(NOW - 60_000, 1234, 5)]
    pages.overview.events = [
        event(1, NOW, event_type="signup", distinct_id="u<1>", provider="openai", data=msgspec.Raw(b'{"plan":"pro"}'))
    ]
    status, headers, body = overview(pages)
    assert status == 200
    assert headers["cache-control"] == "no-store"
    assert "1,234 events" in body
    assert "signup" in body
    assert "u&lt;1&gt;" in body
    assert "{&#34;plan&#34;:&#34;pro&#34;}" in body
    assert '<time datetime="2027-01-15T08:00:00.000Z"' in body


def test_the_changing_part_is_what_the_whole_page_holds(pages):
    pages.overview.events = [event(1, NOW)]
    part = overview(pages, "/overview")[2]
    assert part.strip() in overview(pages)[2]
    assert "<html" not in part


def test_an_empty_project_sees_what_to_send_and_that_the_page_waits(pages):
    body = overview(pages, host="telemetry.example:8443", scheme="https")[2]
    assert "Waiting for the first event" in body
    assert "curl https://telemetry.example:8443/api/telemetry/ingest" in body


def test_a8_a_host_that_is_no_host_gets_into_no_shell_line(pages):
    body = overview(pages, host="a;$(reboot)")[2]
    assert "reboot" not in body
    assert "curl http://127.0.0.1:5330/api/telemetry/ingest" in body


def test_a_store_in_trouble_leaves_a_page_with_a_sentence(pages):
    pages.overview.raises = Unavailable("The store is <away>.")
    status, _, body = overview(pages)
    assert status == 200
    assert body.count("The store is &lt;away&gt;. Events are still accepted, and wait in the log.") == 2
    assert "The store does not answer" in body


def test_clients_losses_and_gaps_stand_on_the_page_with_words_that_explain_them(pages):
    assert "No client that numbers its events was seen lately" in overview(pages)[2]
    account = ClientAccount("p<script>", NOW, NOW, 1300, 1234, {"spool_full": 60}, 6)
    pages.overview.held_clients = ClientAccounts([account] * 20, total=25, lost=60, missing=6)
    body = overview(pages)[2]
    assert "60 events lost by clients" in body
    assert body.count("p&lt;script&gt;") == 10
    assert "<code>spool_full</code> 60" in body
    assert "on the way, or lost without the client&#39;s knowing" in body
    assert "15 more, as 25 were seen lately." in body


def test_demo_data_is_named_as_such(pages):
    assert "leeward demo" not in overview(pages)[2]
    pages.overview.held_state = msgspec.structs.replace(pages.overview.held_state, demo=True)
    assert "leeward demo" in overview(pages)[2]


def test_a9_fifty_events_of_10_mb_make_a_page_that_a_browser_can_hold(pages):
    raw = msgspec.Raw(b'{"a":"' + b"<" * 10_000_000 + b'"}')
    pages.overview.events = [event(number, NOW, data=raw, event_type="<" * 200) for number in range(50)]
    assert len(overview(pages)[2]) < 2_000_000


def test_text_that_utf8_cannot_carry_does_not_break_the_page(pages):
    pages.overview.events = [event(1, NOW, event_type="a\ud800b", data={"\udfff": "\ud800"})]
    assert overview(pages)[0] == 200


# Static files


def test_static_files_are_kept_for_a_year_under_an_address_that_changes_with_them(pages):
    body = ask(pages, "GET", "/login")[2]
    address = re.search(r'href="(/static/page.css)\?v=[0-9a-f]{12}"', body)
    status, headers, css = ask(pages, "GET", address[1])
    assert (status, headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in headers["cache-control"]
    assert "color-scheme" in css


@pytest.mark.parametrize("name", ["none", "..", "%2e%2e", "pages.py", "base.html"])
def test_a4_only_the_named_static_files_are_there(pages, name):
    status, _, body = ask(pages, "GET", f"/static/{name}")
    assert status == 404
    assert "There is nothing at this address." in body


def test_a_trailing_slash_is_the_same_page(pages):
    assert ask(pages, "GET", "/login/")[0] == 200
    assert overview(pages, "/overview/")[0] == 200


def test_a15_a_refusal_page_tells_nothing_internal(pages, monkeypatch):
    async def away(secret):
        raise Unavailable("The control database is not open.", retry_after_s=1)

    monkeypatch.setattr(pages.control, "redeem", away)
    status, headers, body = ask(pages, "GET", "/login/" + "x" * 43)
    assert (status, headers["retry-after"]) == (503, "1")
    assert "The control database is not open." in body
    assert "Traceback" not in body


def test_a_server_that_nobody_looks_at_has_not_loaded_the_template_engine():
    asked = "import sys, leeward.server.openapi, leeward.server.dashboard.pages; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", asked], check=False).returncode == 0


# What was refused lately


def refused_page(pages, path="/refused", **headers):
    return ask(pages, "GET", path, cookie=f"leeward_session={signed_in(pages)}", **headers)


def test_nothing_refused_is_said_in_a_sentence(pages):
    status, _, body = refused_page(pages)
    assert status == 200
    assert "Nothing was refused since the start." in body
    assert "<table" not in body
    assert "Sign out" in body


def test_a_refusal_is_shown_with_its_reason_cure_client_and_the_end_of_its_key(pages):
    for _ in range(1200):
        pages.refusals.note(
            wire="posthog",
            code="unauthorized",
            reason="This needs a key that is valid here",
            path="/batch",
            user_agent=b"posthog-python/7.0",
            key_tail="wxyz",
            address="10.0.0.7",
        )
    pages.refusals.note(wire="native", code="too_deep", reason="nested", path="/api/telemetry/ingest", project=1)
    pages.refusals.note(wire="native", code="too_deep", reason="of others", path="/api/telemetry/ingest", project=2)

    _, _, body = refused_page(pages)

    assert body.index("nested") < body.index("This needs a key")
    for shown in ("1,201 refused", "1,200 times", "PostHog", "/batch", "posthog-python/7.0", "…wxyz", "10.0.0.7"):
        assert shown in body
    assert "leeward keys create --scope write" in body
    assert "not said" in body
    assert "of others" not in body


def test_who_is_not_signed_in_does_not_see_what_was_refused(pages):
    status, headers, _ = ask(pages, "GET", "/refused")
    assert (status, headers["location"]) == (303, "/login")
    assert ask(pages, "GET", "/refused", authorization="Bearer " + pages.keys["write"])[0] == 403
    _, _, body = ask(pages, "GET", "/refused", authorization="Bearer " + pages.keys["read"])
    assert "Sign out" not in body


def test_a_full_list_of_refusals_is_a_page_of_bounded_size(pages):
    for number in range(300):
        pages.refusals.note(
            wire="native",
            code="invalid_field",
            reason="<" * 5000,
            path="/api/telemetry/ingest",
            user_agent=b"%d" % number + b"&" * 5000,
        )
    _, _, body = refused_page(pages)
    assert body.count("<tr>") == 101
    assert len(body) < 300_000
    pages.refusals.clear()
    assert len(refused_page(pages)[2]) < 20_000
