"""What doctor says of a client's way, against real servers, proxies and certificates on loopback."""

from __future__ import annotations

import json
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme

import canned
from leeward.cli import client_checks
from leeward.cli.client_checks import look_client, look_way, way_in_words
from leeward.cli.connection import Target
from leeward.sender.resolver import Resolver
from server_process import free_port

KEY = "lw_" + "k" * 28 + "x9Qd"
EMPTY = b'{"error":"No events","code":"empty_batch"}'


def answer(status, body=b"{}", more=b""):
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


LEEWARD = canned.polite(answer(400, EMPTY))


def target(url, key=KEY):
    return Target(url, None, True, key, "--key")


def way(url, environ=None, key=KEY, *, is_leeward=False):
    """The verdicts by name; each name once."""
    found = list(look_way(target(url, key), environ or {}, is_leeward=is_leeward))
    assert len({check.name for check in found}) == len(found)
    assert all(check.fix for check in found if check.state != "ok")
    return {check.name: check for check in found}


def states(found):
    return {name: check.state for name, check in found.items()}


@pytest.fixture
def authority():
    return trustme.CA()


def secure(authority, *names, serve=LEEWARD, **dates):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*(names or ("127.0.0.1",)), **dates).configure_cert(context)
    return canned.Canned(serve, context=context)


# Whether it is on


def on(environ, url="http://h"):
    found = list(look_client(target(url), environ))
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def test_with_a_key_and_nothing_against_it_a_client_is_on():
    found = on({"LEEWARD_API_KEY": KEY, "LEEWARD_HOST": "http://h/"})

    assert states(found) == {"opt-out": "ok", "client": "ok"}
    assert found["client"].detail == "clients send to http://h with LEEWARD_API_KEY, …x9Qd"


def test_who_opted_out_reads_by_what_and_how_to_take_it_back():
    found = on({"DO_NOT_TRACK": "1", "LEEWARD_HOST": "http://h"})["opt-out"]

    assert (found.state, found.fix) == ("warn", "unset DO_NOT_TRACK")
    assert found.detail == "DO_NOT_TRACK switches all clients off: nothing is captured"


def test_a_file_that_clients_cannot_read_is_said(tmp_path):
    (tmp_path / "x.toml").write_text("[")

    assert on({"LEEWARD_CONFIG": str(tmp_path / "x.toml"), "LEEWARD_HOST": "http://h"})["opt-out"].state == "fail"


@pytest.mark.parametrize(("rate", "state", "share"), [("0.1", "warn", "10.0%"), ("1", "ok", "100"), ("x", "ok", "100")])
def test_a_share_that_is_not_captured_is_said(rate, state, share):
    found = on({"LEEWARD_SAMPLE_RATE": rate, "LEEWARD_HOST": "http://h"})["sampling"]

    assert found.state == state
    assert share in found.detail


def test_a_client_without_a_key_is_off_and_that_is_said():
    found = on({"LEEWARD_HOST": "http://h"})["client"]

    assert (found.state, found.detail) == ("warn", "LEEWARD_API_KEY is not set: a client without api_key= is off")
    assert "export LEEWARD_API_KEY=KEY" in found.fix


def test_without_a_key_and_with_another_address_both_are_said():
    states_of_both = [check.state for check in look_client(target("http://h"), {}) if check.name == "client"]

    assert states_of_both == ["warn", "warn"]


def test_a_client_that_sends_elsewhere_is_told_where_to():
    found = on({"LEEWARD_API_KEY": KEY, "TELEMETRY_API_URL": "http://elsewhere"})["client"]

    assert (found.state, found.fix) == ("warn", "export LEEWARD_HOST=http://h")
    assert "http://elsewhere" in found.detail


@pytest.mark.parametrize(
    "environ",
    [
        {"LEEWARD_HOST": "ftp://x", "LEEWARD_API_KEY": KEY},
        {"LEEWARD_HOST": "http://me:secret@x", "LEEWARD_API_KEY": KEY},
        {"LEEWARD_API_KEY": "lw_s\u00e9cret"},
    ],
)
def test_a_setting_that_switches_the_client_off_is_said_without_its_secret(environ):
    found = on(environ)["client"]

    assert found.state == "fail"
    assert found.detail.startswith("clients are off: ")
    assert "cret" not in found.detail


# The way


def test_a_healthy_way_ends_at_the_key_and_carries_no_event():
    with canned.Canned(LEEWARD) as server:
        found = way(server.host)

    assert states(found) == {"proxy": "ok", "dns": "ok", "delivery": "ok"}
    assert found["delivery"].detail.endswith("with the key …x9Qd (--key)")
    (request,) = server.requests
    assert json.loads(request.body)["events"] == []
    assert request.headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, b"{}", "the key is not accepted: …x9Qd (--key) at"),
        (403, b"{}", "the key may not send events: …x9Qd (--key) at"),
        (404, b"{}", "is not leeward"),
        (429, b"{}", "it asks for fewer requests"),
        (400, b"<html>", "it refuses them (400)"),
        (400, b"[]", "it refuses them (400)"),
        (200, b"{}", "it answers 200"),
        (302, b"", "it answers 302"),
        (503, b"", "it answers 503"),
    ],
)
def test_an_answer_that_is_not_the_servers_to_a_good_key_fails(status, body, words):
    with canned.Canned(canned.polite(answer(status, body))) as server:
        found = way(server.host)["delivery"]

    assert found.state == "fail"
    assert words in found.detail


def test_nobody_there_is_said():
    found = way(f"http://127.0.0.1:{free_port()}")["delivery"]

    assert (found.state, "nobody listens there" in found.detail) == ("fail", True)
    assert "leeward serve" in found.fix


def test_without_a_usable_key_or_address_nothing_is_tried():
    assert "there is no key" in way("http://h", key="")["delivery"].detail
    assert way("http://h", key="lw_é")["delivery"].detail == "not tried: api_key has characters that no key has"
    assert way("h")["delivery"].detail == "not tried: an address begins with http:// or https://"


def test_a_posthog_key_is_good_at_posthog_and_wrong_at_leeward():
    with canned.Canned(canned.polite()) as server:
        assert way(server.host, key="phc_x")["delivery"].state == "ok"
        assert server.requests[0].line == "POST /batch/ HTTP/1.1"
        found = way(server.host, key="phc_x", is_leeward=True)["delivery"]
        assert len(server.requests) == 1

    assert found.state == "fail"
    assert "keys begin with lw_" in found.detail


def test_a_leeward_key_at_another_server_is_told_of_posthogs_keys():
    with canned.Canned(canned.polite(answer(404))) as server:
        assert "phc_" in way(server.host)["delivery"].fix


# The name


def test_a_name_that_does_not_resolve_ends_the_way(monkeypatch):
    monkeypatch.setattr(client_checks, "SHARED", Resolver(look_up=lambda *_: []))

    found = way("http://nowhere.invalid")

    assert states(found) == {"proxy": "ok", "dns": "fail", "delivery": "fail"}
    assert found["dns"].detail == "nowhere.invalid does not resolve (0.0 s)"


def test_a_name_is_shown_with_its_addresses():
    with canned.Canned(LEEWARD) as server:
        found = way(f"http://localhost:{server.port}")

    assert found["dns"].state == "ok"
    assert "127.0.0.1" in found["dns"].detail


def test_a_slow_name_service_is_said(monkeypatch):
    monkeypatch.setattr(client_checks, "DNS_SLOW_MS", -1.0)
    with canned.Canned(LEEWARD) as server:
        assert way(server.host)["dns"].state == "warn"


# The proxy


def test_a_proxy_is_named_with_its_variable_and_finds_the_name_itself():
    with canned.Canned(LEEWARD) as server:
        environ = {"HTTP_PROXY": f"http://me:secret@{server.authority}"}
        found = way("http://nowhere.invalid", environ)

    assert states(found) == {"proxy": "ok", "delivery": "ok"}
    assert found["proxy"].detail == f"HTTP_PROXY leads over {server.authority}"
    assert server.requests[0].line.startswith("POST http://nowhere.invalid/")
    assert way_in_words("http://nowhere.invalid", environ) == f", over {server.authority} (HTTP_PROXY)"
    assert way_in_words("http://h", {"no_proxy": "h", **environ}) == ""


def test_a_proxy_that_is_set_and_excepted_is_said():
    with canned.Canned(LEEWARD) as server:
        found = way(server.host, {"ALL_PROXY": "http://127.0.0.1:1", "NO_PROXY": "127.0.0.0/8"})

    assert found["proxy"].detail == "NO_PROXY goes around ALL_PROXY for 127.0.0.1"
    assert found["delivery"].state == "ok"


def test_a_proxy_that_cannot_be_reached_is_told_from_one_that_refuses():
    dead = {"http_proxy": f"http://me:secret@127.0.0.1:{free_port()}"}
    found = way("http://nowhere.invalid", dead)
    assert states(found) == {"proxy": "fail", "delivery": "fail"}
    assert "nobody listens there" in found["proxy"].detail
    assert found["delivery"].detail == "nothing gets through"
    assert "export NO_PROXY=nowhere.invalid" in found["proxy"].fix

    with canned.Canned(canned.polite(answer(407))) as server:
        refused = way("http://nowhere.invalid", {"http_proxy": server.host})
        wrong = way("http://nowhere.invalid", {"http_proxy": server.host.replace("//", "//me:secret@")})
    assert refused["proxy"].detail.endswith("perhaps it wants a user name and password")
    assert wrong["proxy"].detail.endswith("perhaps its user name and password are wrong")
    assert "secret" not in str((found, refused, wrong))


@pytest.mark.parametrize("value", ["socks5://127.0.0.1:1", "http://me:secret@a:b:c"])
def test_a_proxy_that_cannot_be_used_is_said_without_its_password(value):
    found = way("http://nowhere.invalid", {"ALL_PROXY": value})

    assert states(found) == {"proxy": "fail", "delivery": "fail"}
    assert found["proxy"].detail.startswith("ALL_PROXY: ")
    assert "secret" not in str(found)
    assert way_in_words("http://nowhere.invalid", {"ALL_PROXY": value}) == ", not at all: ALL_PROXY cannot be used"
    assert way_in_words("nowhere", {"ALL_PROXY": value}) == ""


def test_under_cgi_the_header_of_a_visitor_is_no_proxy():
    with canned.Canned(LEEWARD) as server:
        found = way(server.host, {"HTTP_PROXY": "http://127.0.0.1:1", "REQUEST_METHOD": "GET"})

    assert found["proxy"].detail == "none is set"


# The certificate. The roots are OpenSSL's to read, so the variables are set for the process, too.


@pytest.fixture
def roots(authority, tmp_path, monkeypatch):
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "roots.pem"))
    return {"SSL_CERT_FILE": str(tmp_path / "roots.pem")}


def test_a_good_certificate_is_said_with_its_roots(authority, roots):
    with secure(authority) as server:
        found = way(server.host, roots)

    assert states(found) == {"proxy": "ok", "dns": "ok", "certificate": "ok", "delivery": "ok"}
    assert found["certificate"].detail == f"good, by SSL_CERT_FILE={roots['SSL_CERT_FILE']}"


def test_requests_own_variable_is_named_too(authority, tmp_path, monkeypatch):
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    authority.cert_pem.write_to_path(tmp_path / "roots.pem")
    with secure(authority) as server:
        found = way(server.host, {"REQUESTS_CA_BUNDLE": str(tmp_path / "roots.pem")})
        alone = way(server.host)

    assert found["certificate"].detail == f"good, by REQUESTS_CA_BUNDLE={tmp_path / 'roots.pem'}"
    assert "an authority that is not trusted here; looked at with the system's roots" in alone["certificate"].detail


def test_why_a_certificate_is_not_good_is_told_apart(authority, roots):
    past = datetime.now(UTC) - timedelta(days=10)
    with secure(authority, not_before=past, not_after=past + timedelta(days=1)) as server:
        found = way(server.host, roots)
    assert states(found) == {"proxy": "ok", "dns": "ok", "certificate": "fail", "delivery": "fail"}
    assert "has expired" in found["certificate"].detail
    assert "clock" in found["certificate"].fix
    with secure(authority, "other.example") as server:
        assert "is for another name" in way(server.host, roots)["certificate"].detail
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with trustme.Blob(authority.private_key_pem.bytes() + authority.cert_pem.bytes()).tempfile() as path:
        context.load_cert_chain(path)
    with canned.Canned(LEEWARD, context=context) as server:
        assert way(server.host, roots)["certificate"].state == "fail"


def test_roots_that_are_not_there_are_said(authority, tmp_path, monkeypatch):
    missing = {"SSL_CERT_FILE": str(tmp_path / "nothing")}
    monkeypatch.setenv("SSL_CERT_FILE", missing["SSL_CERT_FILE"])
    with secure(authority) as server:
        found = way(server.host, missing)["certificate"]

    assert f"{tmp_path / 'nothing'} cannot be read" in found.detail
    assert found.fix == "correct SSL_CERT_FILE"


def test_a_server_that_speaks_plain_http_is_no_matter_of_certificates():
    def serve(_, connection):
        connection.recv(65536)
        connection.sendall(canned.OK)

    with canned.Canned(serve) as server:
        found = way(server.host.replace("http://", "https://"))

    assert "plain http" in found["certificate"].detail


def test_a_server_that_says_nothing_is_waited_for_some_seconds_only(monkeypatch):
    monkeypatch.setattr(client_checks, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = way(f"http://127.0.0.1:{silent.getsockname()[1]}")

    assert "did not answer in time" in found["delivery"].detail
