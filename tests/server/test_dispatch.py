"""From a request to its handler: deny by default, and refusals that explain themselves."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest

from control_helpers import HeldClock
from leeward.errors import ConfigError, ProtocolError, RateLimited, Refused, Unavailable
from leeward.server.access import SESSION_COOKIE, Access, Failures, Identity, KeyRing, Session, Sessions, digest
from leeward.server.counters import Counters
from leeward.server.dispatch import Dispatch
from leeward.server.http import ClientGone, Response
from leeward.server.routes import ROUTES, Route
from leeward.store.clickhouse import StoreUnavailable

KEYS = {scope: f"lw_{scope:x>32}" for scope in ("write", "read", "chat", "admin")}
COOKIES = {scope: f"cookie of {scope}" for scope in ("write", "read", "admin")}
NAMES = sorted({route.handler for route in ROUTES})
# Rows of which dispatch itself finds the key; the others are knocked at in a running server, at every start.
OWN = [route for route in ROUTES if route.key_in not in {"wire", "basic"}]
TABLE = [pytest.param(route, id=f"{route.method} {route.path}") for route in OWN]


class Server:
    """The application with handlers that note who came through."""

    def __init__(self, routes=ROUTES, refusals=None, **handlers):
        self.noted = []
        self.clock = HeldClock()
        self.came = []
        self.reports = []
        self.keys = KeyRing()
        self.keys.replace((digest(key), Identity(3, scope, f"k_{scope}", key[-4:])) for scope, key in KEYS.items())
        self.sessions = Sessions(self.clock)
        self.sessions.replace(
            (digest(cookie), Session(4, scope, "", 0, self.clock.now_ms + 1000)) for scope, cookie in COOKIES.items()
        )
        self.counters = Counters()
        self.app = Dispatch(
            routes,
            {name: handlers.get(name, self.handler(name)) for name in {route.handler for route in routes}},
            access=Access(self.keys, Failures(self.clock, failures_max=10_000)),
            sessions=self.sessions,
            counters=self.counters,
            allowed_hosts=lambda host: host == b"known",
            report=lambda name, fields: self.reports.append((name, fields)),
            refusals=refusals,
            note=lambda request, error: self.noted.append((request.route_path, error.code, request.key_tail)),
        )

    def handler(self, name):
        async def handle(request):
            self.came.append((name, request.identity, request.path_parameter))
            return Response(200, b"came through", [(b"content-type", b"text/plain")])

        return handle

    def ask(self, method, path, *, key=None, cookie=None, headers=(), query=b"", host=b"known"):
        asked = [(b"host", host), *headers]
        if key:
            asked.append((b"authorization", b"Bearer " + key.encode()))
        if cookie:
            asked.append((b"cookie", f"{SESSION_COOKIE}={cookie}".encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": asked,
            "client": None,
        }
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, None, send))
        return Answer(*sent) if sent else None


class Answer:
    def __init__(self, start, body):
        self.status = start["status"]
        self.headers = dict(start["headers"])
        self.body = body["body"]

    @property
    def code(self):
        said = json.loads(self.body)
        assert said["error"]
        return said["code"]


def a_path(route):
    return route.path.replace("{id}", "some-id")


# Who comes through


@pytest.mark.parametrize("route", TABLE)
def test_a3_each_route_lets_in_its_own_scope_and_admin_and_nobody_else(route):
    server = Server()

    for scope, key in KEYS.items():
        answer = server.ask(route.method, a_path(route), key=key)

        if route.scope in {"public", scope} or scope == "admin":
            assert (answer.status, answer.body) == (200, b"came through")
        else:
            assert (answer.status, answer.code) == (403, "forbidden")
    came = {identity and identity.scope for _, identity, _ in server.came}
    assert came == ({None} if route.scope == "public" else {route.scope, "admin"})


@pytest.mark.parametrize("route", [p for p in TABLE if p.values[0].scope != "public"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer lw_wrong")],
        [(b"authorization", b"Basic " + KEYS["admin"].encode())],
        [(b"cookie", b"leeward_session=wrong")],
        [(b"x-http-method-override", b"GET"), (b"x-original-url", b"/health"), (b"x-forwarded-for", b"127.0.0.1")],
    ],
)
def test_a1_without_a_valid_key_there_is_one_answer_and_no_handler(route, headers):
    server = Server()

    answer = server.ask(route.method, a_path(route), headers=headers)

    if route.page:
        assert (answer.status, answer.headers[b"location"]) == (303, b"/login")
    else:
        assert (answer.status, answer.code) == (401, "unauthorized")
        assert answer.headers[b"www-authenticate"] == b"Bearer"
    assert not server.came
    assert server.counters.requests == {answer.status: 1}
    assert server.counters.refused == ({"unauthorized": 1} if route.scope == "write" else {})
    assert server.counters.wire_items == ({(route.wire, "unauthorized"): 1} if route.scope == "write" else {})


def test_a3_a_revoked_key_is_refused_at_the_next_request():
    server = Server()
    assert server.ask("GET", "/api/telemetry/query", key=KEYS["read"]).status == 200

    server.keys.replace([])

    assert server.ask("GET", "/api/telemetry/query", key=KEYS["read"]).status == 401


def test_a1_a_key_in_the_address_is_refused_even_beside_a_good_one():
    answer = Server().ask("GET", "/api/telemetry/query", key=KEYS["read"], query=b"api_key=" + KEYS["read"].encode())

    assert (answer.status, answer.code) == (401, "key_in_url")
    assert KEYS["read"].encode() not in answer.body


def test_a_session_opens_pages_and_nothing_else():
    server = Server()

    assert server.ask("GET", "/", cookie=COOKIES["read"]).status == 200
    assert server.came[-1][1] == Identity(4, "read", "", "")
    assert server.ask("GET", "/api/telemetry/query", cookie=COOKIES["read"]).status == 401
    assert server.ask("GET", "/api/keys", cookie=COOKIES["admin"]).status == 401


def test_a3_a_session_without_the_scope_is_refused_as_a_key_is():
    server = Server()

    answer = server.ask("GET", "/", cookie=COOKIES["write"])

    assert (answer.status, answer.code) == (403, "forbidden")
    assert not server.came


def test_a3_a_session_ends_with_its_time():
    server = Server()

    server.clock.pass_s(1)

    assert server.ask("GET", "/", cookie=COOKIES["read"]).status == 303


def test_a7_pages_answer_known_hosts_only_and_the_api_answers_all():
    server = Server()

    for path in ("/", "/login", "/docs"):
        assert server.ask("GET", path, cookie=COOKIES["read"], host=b"rebound.example").code == "unknown_host"
    assert not server.came
    assert server.ask("GET", "/health", host=b"rebound.example").status == 200


# Addresses


@pytest.mark.parametrize(
    "path",
    [
        "//api/telemetry/query",
        "/api//telemetry/query",
        "/api/telemetry/query//",
        "/api/telemetry/./query",
        "/api/../api/telemetry/query",
        "/API/telemetry/query",
        "/api/telemetry/query;x=1",
        "/api/telemetry/query%2f",
        "/api/telemetry/query\0",
        "/api/telemetry/query ",
        "/api/telemetry/batch//b-1",
        "/api/telemetry/batch/a/b",
        "/health/../api/keys",
        "/static/../api/keys",
        "/static/a/b",
        "",
        "*",
        "api/keys",
    ],
)
def test_a4_other_spellings_of_an_address_are_other_addresses(path):
    server = Server()

    answer = server.ask("GET", path)

    assert (answer.status, answer.code) == (404, "not_found")
    assert not server.came


@pytest.mark.parametrize("route", TABLE)
def test_a4_a_slash_at_the_end_changes_neither_the_handler_nor_the_check(route):
    server = Server()

    plain = server.ask(route.method, a_path(route), key=KEYS["admin"])
    slashed = server.ask(route.method, a_path(route) + "/", key=KEYS["admin"])
    refused = server.ask(route.method, a_path(route) + "/")

    assert (plain.status, slashed.status) == (200, 200)
    assert server.came[0] == server.came[1]
    assert refused.status == (200 if route.scope == "public" else 303 if route.page else 401)


@pytest.mark.parametrize("parameter", ["{id}", ":id", "..", "%2f", "a;b", "é", " ", "'--", "\0"])
def test_a5_whatever_stands_for_an_id_is_handed_over_as_it_is_after_the_check(parameter):
    server = Server()

    assert server.ask("GET", f"/api/telemetry/batch/{parameter}").status == 401
    assert server.ask("GET", f"/api/telemetry/batch/{parameter}", key=KEYS["read"]).status == 200
    assert [came[2] for came in server.came] == [parameter]


def test_a4_the_address_of_an_id_without_an_id_is_not_its_route():
    answer = Server().ask("GET", "/api/telemetry/batch/", key=KEYS["read"])

    assert (answer.status, answer.code, answer.headers[b"allow"]) == (405, "method_not_allowed", b"POST")


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "CONNECT", "get", "POST", "PROPFIND"])
def test_a4_methods_that_no_row_names_are_refused_with_those_that_are(method):
    answer = Server().ask(method, "/api/telemetry/query", key=KEYS["admin"])

    assert (answer.status, answer.code) == (405, "method_not_allowed")
    assert answer.headers[b"allow"] == b"GET, HEAD"
    assert json.loads(answer.body)["details"] == ["GET", "HEAD"]


def test_a4_head_is_checked_as_get_and_answers_the_same_without_a_body():
    server = Server()

    assert server.ask("HEAD", "/api/telemetry/query").status == 401
    answer = server.ask("HEAD", "/api/telemetry/query", key=KEYS["read"])

    assert (answer.status, answer.body, answer.headers[b"content-length"]) == (200, b"", b"12")


# Answers


def test_every_answer_has_its_length_a_number_and_is_not_kept_by_anybody():
    server = Server()

    first, second = server.ask("GET", "/health"), server.ask("GET", "/nowhere")

    for answer in (first, second):
        assert answer.headers[b"content-length"] == b"%d" % len(answer.body)
        assert answer.headers[b"x-content-type-options"] == b"nosniff"
        assert answer.headers[b"cache-control"] == b"no-store"
    start, number = first.headers[b"x-request-id"].split(b"-")
    assert second.headers[b"x-request-id"].split(b"-") == [start, b"%x" % (int(number, 16) + 1)]


def failing_with(error):
    async def handle(request):
        raise error

    return Server(health=handle, ingest=handle)


def test_a_handler_may_say_how_long_its_answer_may_be_kept():
    async def handle(request):
        return Response(200, b"", [(b"cache-control", b"max-age=60")])

    assert Server(health=handle).ask("GET", "/health").headers[b"cache-control"] == b"max-age=60"


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ProtocolError("No", code="invalid_json"), 400, "invalid_json"),
        (RateLimited("Wait", retry_after_s=3), 429, "rate_limited"),
        (Unavailable("Wait", code="store_behind", retry_after_s=3), 503, "store_behind"),
    ],
)
def test_what_a_handler_refuses_is_answered_and_where_events_come_counted_by_its_code(error, status, code):
    server = failing_with(error)

    answer = server.ask("POST", "/api/telemetry/ingest", key=KEYS["write"])

    assert (answer.status, answer.code) == (status, code)
    assert server.counters.refused == {code: 1}
    assert not server.reports

    assert server.ask("GET", "/health").status == status
    assert server.counters.refused == {code: 1}, "no event came with it"


def test_an_address_where_nothing_is_refuses_no_event():
    server = Server()

    server.ask("POST", "/nowhere", key=KEYS["write"])
    server.ask("PUT", "/api/telemetry/ingest", key=KEYS["write"])

    assert server.counters.refused == {}
    assert server.counters.requests == {404: 1, 405: 1}


@pytest.mark.parametrize(
    "error",
    [
        StoreUnavailable("no answer from unix:/var/lib/leeward/store.sock"),
        Refused("Code: 62. DB::Exception: Syntax error in SELECT secret"),
        ConfigError("the password is x"),
        OSError(28, "No space left on device", "/var/lib/leeward/log"),
        RecursionError("deep"),
        KeyError("secret"),
    ],
)
def test_i11_what_fails_inside_is_a_503_that_says_nothing_and_a_log_line_that_says_all(error):
    server = failing_with(error)

    answer = server.ask("GET", "/health")

    assert answer.status == 503
    assert json.loads(answer.body) == {"error": "The server could not answer this request", "code": "unavailable"}
    assert answer.headers[b"retry-after"] == b"1"
    [(name, fields)] = server.reports
    assert (name, fields["error"], fields["path"]) == ("request_failed", error, "/health")
    assert fields["request_id"].encode() == answer.headers[b"x-request-id"]


def test_nobody_is_answered_when_the_client_has_left():
    server = failing_with(ClientGone())

    assert server.ask("GET", "/health") is None
    assert not server.reports


def test_i9_the_connection_is_closed_after_a_body_that_did_not_come():
    answer = failing_with(ProtocolError("No", code="c", status=408)).ask("GET", "/health")

    assert answer.headers[b"connection"] == b"close"


def test_c5_after_a_body_that_is_too_large_the_connection_stays_so_that_the_answer_is_heard():
    answer = failing_with(ProtocolError("No", code="c", status=413)).ask("GET", "/health")

    assert b"connection" not in answer.headers


def test_a11_a_long_path_is_cut_in_the_log():
    server = Server(batch_status=failing_with(KeyError()).app._exact["/health"].by_method["GET"][1])

    server.ask("GET", "/api/telemetry/batch/" + "x" * 100_000, key=KEYS["read"])

    assert len(server.reports[0][1]["path"]) == 200


# The table


def a_row(**changed):
    return Route(**{"method": "GET", "path": "/x", "scope": "read", "handler": "x", "summary": "", **changed})


@pytest.mark.parametrize(
    "changed",
    [
        {"scope": ""},
        {"scope": "anyone"},
        {"scope": "public"},
        {"scope": "public", "key_in": "header or session"},
        {"scope": "read", "key_in": "none"},
    ],
)
def test_a3_a_row_that_does_not_say_who_may_use_it_ends_the_start(changed):
    with pytest.raises(ConfigError, match="route GET /x does not say who may use it"):
        Server([a_row(**changed)])


def test_a_row_without_a_handler_ends_the_start():
    server = Server()

    with pytest.raises(ConfigError, match="route GET /x has no handler x"):
        server.app._add(a_row(), {})


# Other protocols


def test_a1_the_password_of_langfuses_path_is_the_key_there_and_nowhere_else():
    server = Server()
    basic = [(b"authorization", b"Basic " + base64.b64encode(b"anything:" + KEYS["write"].encode()))]

    assert server.ask("POST", "/api/public/otel/v1/traces", headers=basic).status == 200
    assert server.came == [("otlp_traces", Identity(3, "write", "k_write", "rite"), "")]
    assert server.ask("POST", "/v1/traces", headers=basic).status == 401
    assert server.ask("POST", "/api/public/otel/v1/traces", key=KEYS["write"]).status == 401


@pytest.mark.parametrize(
    "sent",
    [
        b"Basic",
        b"Basic \xff\xff",
        b"Basic " + base64.b64encode(b"no colon"),
        b"Basic " + base64.b64encode(b"x:lw_wrong"),
        b"Basic " + base64.b64encode(b"x:" + b"y" * 2000),
        b"Digest eDp5",
    ],
)
def test_a1_what_is_no_password_that_is_a_key_is_no_key(sent):
    server = Server()

    assert server.ask("POST", "/api/public/otel/v1/traces", headers=[(b"authorization", sent)]).status == 401
    twice = [(b"authorization", b"Basic " + base64.b64encode(b"x:" + KEYS["write"].encode()))] * 2
    assert server.ask("POST", "/api/public/otel/v1/traces", headers=twice).status == 401
    assert not server.came


def test_a_segment_in_the_middle_of_an_address_is_handed_over():
    server = Server()

    assert server.ask("POST", "/api/17/envelope/").status == 200
    assert server.ask("GET", "/array/phc_x/config").status == 200

    assert [came[0::2] for came in server.came] == [("sentry_envelope", "17"), ("posthog_config", "phc_x")]
    assert server.ask("POST", "/api//envelope/").code == "not_found"


def test_p6_each_protocol_refuses_in_its_own_form_and_so_it_does_when_something_breaks_inside():
    def in_its_form(request, error):
        return Response(
            error.status if isinstance(error, ProtocolError) else 503, f"{request.wire} {error.code}".encode()
        )

    async def breaks(request):
        raise KeyError("inside")

    server = Server(refusals={"otlp": in_its_form}, otlp_traces=breaks)

    refused = server.ask("POST", "/v1/traces", key="lw_" + "x" * 32)
    failed = server.ask("POST", "/v1/traces", key=KEYS["write"])

    assert (refused.status, refused.body) == (401, b"otlp unauthorized")
    assert (failed.status, failed.body) == (503, b"otlp unavailable")
    assert server.noted == [("/v1/traces", "unauthorized", "xxxx")]
    assert len(server.reports) == 1


# Browsers of other sites


WIRES = [pytest.param(route, id=f"{route.method} {route.path}") for route in ROUTES if route.cors]
ELSEWHERE = (b"origin", b"https://shop.example")


@pytest.mark.parametrize("route", WIRES)
def test_a7_paths_of_browser_sdks_may_be_called_by_any_site(route):
    server = Server()

    answer = server.ask(route.method, a_path(route), headers=[ELSEWHERE])
    asked = server.ask("OPTIONS", a_path(route), headers=[ELSEWHERE, (b"access-control-request-headers", b"x-a, x-b")])

    for heard in (answer, asked):
        assert heard.headers[b"access-control-allow-origin"] == (
            b"https://shop.example" if route.wire == "posthog" else b"*"
        )
    assert asked.status == (200 if route.wire == "posthog" else 204)
    assert asked.headers[b"access-control-allow-headers"] == b"x-a, x-b"
    assert b"POST" in asked.headers[b"access-control-allow-methods"]
    assert not [came for came in server.came if came[0] != route.handler]


@pytest.mark.parametrize("route", [p for p in TABLE if p.values[0].wire == "native"])
def test_a7_nothing_else_is_ever_answered_for_another_site(route):
    server = Server()

    answer = server.ask(route.method, a_path(route), key=KEYS["admin"], headers=[ELSEWHERE])

    assert not [name for name in answer.headers if name.startswith(b"access-control")]
    assert server.ask("OPTIONS", a_path(route), headers=[ELSEWHERE]).status == 405


@pytest.mark.parametrize("origin", [b"", b"a b", b"x" * 301, b"\xe9", b"a\r\nset-cookie: x=1"])
def test_a7_an_origin_that_is_none_is_not_given_back(origin):
    answer = Server().ask("POST", "/e/", headers=[(b"origin", origin)])

    assert b"access-control-allow-origin" not in answer.headers


def test_a7_no_cookie_counts_where_other_sites_may_call():
    server = Server()

    server.ask("POST", "/v1/traces", cookie=COOKIES["admin"], headers=[ELSEWHERE])

    assert not server.came


@pytest.mark.parametrize("route", WIRES)
def test_an_answer_to_a_browsers_sdk_does_not_forbid_to_be_stored(route):
    answer = Server().ask(route.method, a_path(route), headers=[ELSEWHERE])

    assert b"cache-control" not in answer.headers, "Chromium would hold on to each such answer that nobody reads"


def test_what_is_sent_to_a_wrong_address_is_noted_for_whoever_misses_it():
    server = Server()

    server.ask("POST", "/v1/traces/v1/traces")
    server.ask("POST", "/metrics")
    server.ask("POST", "/login/" + "t" * 43)
    server.ask("GET", "/nowhere")

    assert server.noted == [
        ("/v1/traces/v1/traces", "not_found", ""),
        ("/metrics", "method_not_allowed", ""),
        ("/login/…", "method_not_allowed", ""),
    ]
