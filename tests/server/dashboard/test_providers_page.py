"""The page about providers, over its own routes: what it shows to whom, and who may switch a fault."""

from __future__ import annotations

import asyncio
import html
import json
import re
import tomllib
import urllib.parse

import msgspec
import pytest

from leeward.gateway.circuits import ModelStatus, ProviderStatus
from leeward.gateway.faults import Fault
from leeward.server.access import csrf_token
from leeward.settings.load import load
from page_server import Pages
from xss_payloads import PAYLOADS


@pytest.fixture
def pages(tmp_path):
    pages = Pages(tmp_path)
    pages.keys = json.loads((tmp_path / "first-keys.json").read_text())
    yield pages
    pages.close()
    assert pages.failures == [], "no page fails inside"


@pytest.fixture
def two(pages):
    """The pages, with two simulated providers."""
    pages.providers.breakable("primary", "secondary")
    status = ModelStatus("chat", "closed", "healthy", calls=3)
    rows = [ProviderStatus(name, "simulated", "healthy", "closed", [status]) for name in ("primary", "secondary")]
    pages.providers.held = msgspec.structs.replace(pages.providers.held, providers=rows)
    return pages


def ask(pages, *given, **more):
    return asyncio.run(pages.ask(*given, **more))


def cookie(pages, scope):
    _, headers, _ = ask(pages, "POST", "/login", b"key=" + pages.keys[scope].encode())
    return headers["set-cookie"].split(";")[0].partition("=")[2]


def shown(pages, scope="read", path="/providers"):
    status, _, text = ask(pages, "GET", path, cookie=f"leeward_session={cookie(pages, scope)}")
    assert status == 200
    return text


def switch(pages, scope="admin", csrf=None, **form):
    secret = cookie(pages, scope)
    body = urllib.parse.urlencode({"csrf": csrf_token(secret) if csrf is None else csrf, **form}).encode()
    return ask(pages, "POST", "/providers/fault", body, cookie=f"leeward_session={secret}")


def faults(pages):
    return {state.provider: state.fault and state.fault.mode for state in pages.providers.chaos.state()}


def test_without_a_session_the_page_leads_to_the_sign_in(pages):
    for path in ("/providers", "/providers/part"):
        status, headers, _ = ask(pages, "GET", path)
        assert (status, headers["location"]) == (303, "/login")


def test_without_providers_the_page_shows_lines_that_are_a_configuration_and_how_to_ask(pages):
    text = shown(pages)

    lines = html.unescape(re.search(r"<pre[^>]*>(\[\[gateway.*?)</pre>", text, re.DOTALL)[1])
    (file := pages.control_folder / "leeward.toml").write_text(lines)
    variables = {"HOME": "/h", "OPENAI_API_KEY": "sk-a", "MISTRAL_API_KEY": "b"}
    loaded = load({}, variables, file).settings.gateway
    assert [provider.name for provider in loaded.providers] == ["primary", "secondary"]
    assert tomllib.loads(lines)["gateway"]["routes"][0]["providers"] == ["primary", "secondary"]
    assert "curl http://127.0.0.1:5330/v1/chat/completions" in text
    assert "What callers got" not in text


def test_the_page_has_a_card_for_each_provider_and_stands_in_the_navigation(two):
    text = shown(two)

    assert re.findall(r'<h2 id="provider-\d"><bdi>(\w+)</bdi>', text) == ["primary", "secondary"]
    assert '<a href="/providers" aria-current="page">Providers</a>' in text
    assert "2 providers, all well" in text
    assert '<a href="/providers" >Providers</a>' in shown(two, path="/")


def test_the_part_that_is_fetched_again_is_the_pages_own(two):
    page, part = shown(two), shown(two, path="/providers/part")

    assert set(re.findall(r'<section id="(\w+)" data-live', page)) == {"answer", "providers", "callers", "faults"}
    assert re.findall(r"<section id=", part) == re.findall(r"<section id=", page)
    assert "<html" not in part


def test_who_may_only_read_is_told_who_may_break_a_provider(two):
    assert "<select" not in shown(two)
    assert "scope <code>admin</code>" in shown(two)
    assert shown(two, "admin").count("<select") == 4
    assert "scope <code>admin</code>" not in shown(two, "admin")


def test_where_no_provider_may_be_broken_the_page_says_how_that_is_allowed(two):
    two.providers.breakable()

    assert "<code>chaos = true</code>" in shown(two, "admin")


def test_a_fault_is_switched_on_for_a_while_and_off_again(two):
    status, headers, _ = switch(two, provider="primary", fault="429", for_s="300")

    assert (status, headers["location"]) == (303, "/providers")
    assert faults(two) == {"primary": "429", "secondary": None}
    assert two.providers.chaos.state()[0].ends_in_s == pytest.approx(300, abs=5)
    assert "Mend primary" in shown(two, "admin")

    assert switch(two, provider="primary", fault="")[0] == 303
    assert faults(two) == {"primary": None, "secondary": None}


def test_a_fault_lasts_for_a_minute_unless_the_form_says_how_long(two):
    switch(two, provider="secondary", fault="hang")

    assert two.providers.chaos.state()[1].ends_in_s == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        ({"provider": "primary", "fault": "418"}, 400, "There is no such fault."),
        ({"provider": "primary", "fault": "503", "for_s": "0"}, 400, "1 to 86,400 seconds"),
        ({"provider": "primary", "fault": "503", "for_s": "86401"}, 400, "1 to 86,400 seconds"),
        ({"provider": "primary", "fault": "503", "for_s": "9" * 4000}, 413, ""),
        ({"provider": "primary", "fault": "503", "for_s": "9" * 300}, 400, "1 to 86,400 seconds"),
        ({"provider": "primary", "fault": "503", "for_s": "²"}, 400, "1 to 86,400 seconds"),
        ({"provider": "primary", "fault": "503", "for_s": "-1"}, 400, "1 to 86,400 seconds"),
        ({"provider": "tertiary", "fault": "503"}, 404, "There is no provider"),
        ({"provider": "tertiary", "fault": ""}, 404, "There is no provider"),
        ({"provider": "primary", "fault": "503", "csrf": ""}, 403, "not from a page of your session"),
        ({"provider": "primary", "fault": "503", "csrf": "0" * 64}, 403, "not from a page of your session"),
    ],
)
def test_a_form_that_is_wrong_or_another_sessions_switches_nothing(two, form, status, words):
    answered, _, text = switch(two, **form)

    assert answered == status
    assert words in html.unescape(text)
    assert set(faults(two).values()) == {None}


def test_a3_who_may_only_read_cannot_switch_a_fault(two):
    status, _, text = switch(two, "read", provider="primary", fault="503")

    assert status == 403
    assert "admin" in text
    assert set(faults(two).values()) == {None}


def test_a_fault_of_another_sites_form_switches_nothing(two):
    secret = cookie(two, "admin")
    body = urllib.parse.urlencode({"csrf": csrf_token(secret), "provider": "primary", "fault": "503"}).encode()
    status, _, _ = ask(
        two, "POST", "/providers/fault", body, cookie=f"leeward_session={secret}", sec_fetch_site="cross-site"
    )

    assert status == 403
    assert set(faults(two).values()) == {None}


@pytest.mark.parametrize("payload", PAYLOADS[:12])
def test_no_text_of_the_page_becomes_markup(two, payload):
    model = ModelStatus(payload, "open", "healthy", why="consecutive_failures")
    rows = [ProviderStatus(payload, payload, "healthy", "open", [model])]
    two.providers.held = msgspec.structs.replace(
        two.providers.held,
        providers=rows,
        attempts={(payload, payload): 1},
        requests={(payload, "degraded", payload): 1, (payload, payload, ""): 1},
    )
    two.providers.breakable(payload)
    asyncio.run(two.providers.chaos.set(payload, Fault(mode="503"), 60.0))

    text = shown(two, "admin")

    if html.escape(payload) != payload:
        assert payload not in text
