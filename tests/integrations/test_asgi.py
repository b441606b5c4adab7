"""The ASGI middleware: one span a request, after the answer, and nothing of ours in its way."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import httpx2
import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, WebSocket
from fastapi.responses import StreamingResponse
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

import asgi_server
import recorder
from leeward.integrations.asgi import TelemetryMiddleware
from leeward.sender.client import Client
from leeward.sender.context import CURRENT
from leeward.testing import capture_events

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
def client():
    return Client()


@pytest.fixture
def events(client):
    with capture_events(client) as events:
        yield events


def spans(events):
    return [event for event in events if event["kind"] == "span"]


def scope_of(path="/", method="GET", headers=(), **more):
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": list(headers), **more}


async def nothing_more():
    await asyncio.Event().wait()


def ask(app, scope, receive=nothing_more):
    """Run one request through an application without a server; what it sent."""
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    return sent


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def visit(app, *paths, method="GET", **keywords):
    """Ask a framework's application over its real interface, without a socket."""

    async def run():
        transport = httpx2.ASGITransport(app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
            return [await http.request(method, path, **keywords) for path in paths]

    return asyncio.run(run())


# --- what is recorded


def test_a_request_is_one_span_with_method_path_status_sizes_and_times(client, events):
    ask(TelemetryMiddleware(hello, client=client), scope_of("/hello", "POST"))

    (span,) = events
    assert (span["event"], span["kind"], span["status"]) == ("POST /hello", "span", "ok")
    properties = span["properties"]
    assert 0 < properties.pop("time_to_first_byte_ms") <= span["duration_ms"]
    assert properties == {
        "http.request.method": "POST",
        "http.response.body.size": 5,
        "http.response.status_code": 200,
        "span.kind": "server",
        "url.path": "/hello",
    }
    assert len(span["trace_id"]) == 32
    assert len(span["span_id"]) == 16


def test_neither_query_nor_body_nor_header_nor_address_is_recorded(client, events):
    app = TelemetryMiddleware(hello, client=client)

    ask(
        app,
        scope_of(
            "/hello",
            headers=[(b"cookie", b"hidden-cookie"), (b"user-agent", b"hidden-agent"), (b"x-key", b"hidden-key")],
            query_string=b"q=hidden-query",
            client=("192.0.2.77", 5000),
        ),
    )

    assert "hidden" not in str(events)
    assert "192.0.2.77" not in str(events)


def test_a_status_of_500_and_more_fails_the_span_and_one_of_400_does_not(client, events):
    def answering(status):
        async def app(scope, receive, send):
            await send({"type": "http.response.start", "status": status})
            await send({"type": "http.response.body"})

        return TelemetryMiddleware(app, client=client)

    for status in (422, 503):
        ask(answering(status), scope_of())

    assert [span["status"] for span in events] == ["ok", "error"]
    assert [span["properties"].get("error.type") for span in events] == [None, "503"]


def test_a_method_or_a_path_that_leads_nowhere_makes_no_name_of_its_own(client, events):
    app = FastAPI()
    app.add_middleware(TelemetryMiddleware, client=client)

    visit(app, "/wp-login.php", "/.env")
    visit(app, "/x", method="BREW")

    assert [span["event"] for span in events] == ["GET", "GET", "HTTP"]
    assert events[0]["properties"]["url.path"] == "/wp-login.php"
    assert events[2]["properties"]["http.request.method"] == "_OTHER"


def test_the_route_is_the_whole_template_behind_routers_and_mounts(client, events):
    inner, outer, mounted = APIRouter(), APIRouter(prefix="/v1"), FastAPI()
    app = FastAPI()

    @inner.get("/{room}/file/{path:path}")
    def file(room: str, path: str):
        return path

    @mounted.get("/report/{year:int}")
    def report(tenant: str, year: int):
        return year

    @app.get("/users/{user}")
    async def user(user: str):
        return user

    outer.include_router(inner, prefix="/rooms")
    app.include_router(outer, prefix="/api")
    app.mount("/of/{tenant}", mounted)
    app.mount("/plain", Starlette(routes=[Route("/page/{name}", lambda request: PlainTextResponse("x"))]))
    app.add_middleware(TelemetryMiddleware, client=client)

    visit(app, "/users/ada?x=1", "/api/v1/rooms/7/file/a/b.txt", "/of/acme/report/2026", "/plain/page/home")

    assert [span["properties"]["http.route"] for span in events] == [
        "/users/{user}",
        "/api/v1/rooms/{room}/file/{path}",
        "/of/{tenant}/report/{year}",
        "/plain/page/{name}",
    ]
    assert events[0]["event"] == "GET /users/{user}"


def test_a_route_whose_parameters_do_not_fit_the_path_is_taken_as_it_is(client, events):
    class FakeRoute:
        path = "/at/{when}"

    async def app(scope, receive, send):
        scope["route"], scope["path_params"] = FakeRoute, {"when": 1.5}  # as a converter has made it of "1.50"
        await hello(scope, receive, send)

    ask(TelemetryMiddleware(app, client=client), scope_of("/at/1.50"))

    assert events[0]["event"] == "GET /at/{when}"


def test_skipped_paths_leave_no_trace_be_it_by_name_or_by_predicate(client, events):
    for skip in ({"/health"}, "/health", lambda scope: scope["path"].startswith("/hea")):
        app = TelemetryMiddleware(hello, client=client, skip=skip)
        assert ask(app, scope_of("/health"))[0]["headers"] == [(b"content-length", b"5")]
        ask(app, scope_of("/he"))

    assert [span["event"] for span in events] == ["GET /he"] * 3


def test_sampling_goes_by_trace_and_a_rule_goes_by_the_routes_name():
    with recorder.Recorder() as server:
        client = Client(recorder.KEY, server.host, mode="memory", sample_rules={"GET /hello": 0.0})
        app = TelemetryMiddleware(hello, client=client)

        ask(app, scope_of("/hello"))
        ask(app, scope_of("/other"))
        client.shutdown()

        assert [event["event_type"] for event in server.events.values()] == ["GET /other"]


def test_a_request_and_what_it_did_are_kept_or_left_together():
    with recorder.Recorder() as server:
        client = Client(recorder.KEY, server.host, mode="memory", sample_rate=0.5)

        async def app(scope, receive, send):
            with client.span("work"):
                await hello(scope, receive, send)

        for _ in range(40):
            ask(TelemetryMiddleware(app, client=client), scope_of())
        client.shutdown()

        traces = {}
        for event in server.events.values():
            traces.setdefault(event["trace_id"], []).append(event["event_type"])
        assert 0 < len(traces) < 40
        assert {len(names) for names in traces.values()} == {2}


# --- ids


def header(sent, name):
    return dict(sent[0]["headers"]).get(name)


def test_the_ids_of_a_request_are_taken_sent_back_and_carried_by_all_that_it_captures(client, events):
    async def app(scope, receive, send):
        client.capture("inside")
        await asyncio.to_thread(client.capture, "in a thread")
        await hello(scope, receive, send)

    headers = [(b"x-request-id", b"req-1"), (b"x-correlation-id", b"order-9")]
    sent = ask(TelemetryMiddleware(app, client=client), scope_of(headers=headers))

    assert header(sent, b"x-request-id") == b"req-1"
    assert {event["correlation_id"] for event in events} == {"order-9"}
    assert spans(events)[0]["properties"]["request_id"] == "req-1"
    assert {event["trace_id"] for event in events} == {spans(events)[0]["trace_id"]}


@pytest.mark.parametrize("name", [b"x-request-id", b"x-correlation-id"])
def test_one_id_alone_serves_as_both(client, events, name):
    sent = ask(TelemetryMiddleware(hello, client=client), scope_of(headers=[(name, b"only-1")]))

    assert header(sent, b"x-request-id") == b"only-1"
    assert events[0]["correlation_id"] == "only-1"


@pytest.mark.parametrize("value", [b"", b"a b", b"x" * 129, "é".encode(), b"a\r\nset-cookie: x", b"\x7f", b"\x00"])
def test_an_id_that_is_not_short_visible_ascii_is_replaced(client, events, value):
    headers = [(b"x-request-id", value), (b"x-correlation-id", value)]
    sent = ask(TelemetryMiddleware(hello, client=client), scope_of(headers=headers))

    made = header(sent, b"x-request-id")
    assert len(made) == 32
    assert events[0]["correlation_id"] == made.decode()


def test_the_header_of_the_request_id_can_be_another(client, events):
    app = TelemetryMiddleware(hello, client=client, request_id_header="X-Amzn-Trace-Id")

    sent = ask(app, scope_of(headers=[(b"x-amzn-trace-id", b"root-1")]))

    assert header(sent, b"x-amzn-trace-id") == b"root-1"
    assert events[0]["correlation_id"] == "root-1"


def test_headers_that_the_application_set_itself_stay(client, events):
    async def app(scope, receive, send):
        own = [(b"X-Request-ID", b"own"), (b"traceparent", b"own")]
        await send({"type": "http.response.start", "status": 200, "headers": iter(own)})
        await send({"type": "http.response.body"})

    sent = ask(TelemetryMiddleware(app, client=client), scope_of())

    assert sent[0]["headers"] == [(b"X-Request-ID", b"own"), (b"traceparent", b"own")]


def test_traceparent_makes_the_span_a_child_and_the_answer_names_the_span(client, events):
    async def app(scope, receive, send):
        with client.span("work"):
            pass
        await hello(scope, receive, send)

    parent = f"00-{TRACE}-{PARENT}-01".encode()
    sent = ask(TelemetryMiddleware(app, client=client), scope_of(headers=[(b"traceparent", parent)]))

    work, request = events
    assert (request["trace_id"], request["parent_span_id"]) == (TRACE, PARENT)
    assert (work["trace_id"], work["parent_span_id"]) == (TRACE, request["span_id"])
    assert header(sent, b"traceparent") == f"00-{TRACE}-{request['span_id']}-01".encode()


@pytest.mark.parametrize("value", [b"", b"00-zz-yy-01", b"ff-" + TRACE.encode() + b"-b7ad6b7169203331-01", b"\xff\xfe"])
def test_a_traceparent_that_is_none_starts_a_new_trace(client, events, value):
    ask(TelemetryMiddleware(hello, client=client), scope_of(headers=[(b"traceparent", value)]))

    assert events[0]["parent_span_id"] == ""
    assert len(events[0]["trace_id"]) == 32


def test_the_context_is_as_before_once_the_request_is_over(client, events):
    async def app(scope, receive, send):
        client.set_context(distinct_id="ada", plan="pro")
        await hello(scope, receive, send)

    async def main():
        client.set_context(session_id="outside")
        before = CURRENT.get()
        sent = []

        async def send(message):
            sent.append(message)

        await TelemetryMiddleware(app, client=client)(scope_of(), nothing_more, send)
        assert CURRENT.get() is before

    asyncio.run(main())

    assert (events[0]["distinct_id"], events[0]["session_id"]) == ("ada", "outside")


def test_requests_that_run_at_the_same_time_keep_their_ids_apart(client, events):
    async def main():
        barrier = asyncio.Event()
        waiting = []

        async def app(scope, receive, send):
            waiting.append(scope)
            if len(waiting) == 10:
                barrier.set()
            await barrier.wait()
            client.capture("inside", {"n": scope["n"]})
            await hello(scope, receive, send)

        async def send(message):
            pass

        wrapped = TelemetryMiddleware(app, client=client)
        scopes = [scope_of(headers=[(b"x-request-id", b"%d" % n)], n=n) for n in range(10)]
        await asyncio.gather(*[wrapped(scope, nothing_more, send) for scope in scopes])

    asyncio.run(main())

    inside = [event for event in events if event["kind"] == "event"]
    assert sorted(event["correlation_id"] for event in inside) == sorted(str(n) for n in range(10))
    assert all(event["correlation_id"] == str(event["properties"]["n"]) for event in inside)
    assert len({event["trace_id"] for event in events}) == 10


# --- what goes wrong in the application


def test_an_exception_is_captured_once_and_goes_on_as_the_object_it_was(client, events):
    error = ValueError("no")

    async def app(scope, receive, send):
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        ask(TelemetryMiddleware(TelemetryMiddleware(app, client=client), client=client), scope_of("/x"))

    assert caught.value is error
    exception, inner, outer = events
    assert (exception["kind"], exception["level"], exception["error"]["handled"]) == ("exception", "ERROR", False)
    assert exception["properties"]["url.path"] == "/x"
    for span in (inner, outer):
        assert (span["status"], span["properties"]["error.type"]) == ("error", "ValueError")
        assert span["properties"]["http.response.status_code"] == 500
    assert exception["trace_id"] == inner["trace_id"]


def test_an_exception_that_the_application_captured_is_not_captured_again(client, events):
    async def app(scope, receive, send):
        try:
            {}["x"]
        except LookupError as error:
            client.capture_exception(error)
            raise

    with pytest.raises(LookupError):
        ask(TelemetryMiddleware(app, client=client), scope_of())

    assert [event["kind"] for event in events] == ["exception", "span"]


def test_exceptions_can_be_left_to_others(client, events):
    async def app(scope, receive, send):
        raise LookupError

    with pytest.raises(LookupError):
        ask(TelemetryMiddleware(app, client=client, capture_exceptions=False), scope_of())

    assert [event["kind"] for event in events] == ["span"]


def test_around_a_framework_an_exception_is_captured_after_its_answer(client, events):
    app = FastAPI()

    @app.get("/broken")
    def broken():
        raise LookupError("no")

    (answer,) = visit(TelemetryMiddleware(app, client=client), "/broken")

    assert answer.status_code == 500
    span, exception = events
    assert (span["kind"], span["status"], exception["kind"]) == ("span", "error", "exception")
    assert span["trace_id"] == exception["trace_id"]


def test_an_exception_of_a_background_task_is_captured_and_the_answer_stays_good(client, events):
    app = FastAPI()
    app.add_middleware(TelemetryMiddleware, client=client)

    @app.get("/")
    def start(tasks: BackgroundTasks):
        tasks.add_task(lambda: 1 / 0)
        return "started"

    visit(app, "/")

    span, exception = events
    assert (span["status"], exception["error"]["type"]) == ("ok", "ZeroDivisionError")
    assert span["trace_id"] == exception["trace_id"]


def test_a_cancelled_request_is_no_error(client, events):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await nothing_more()

    async def main():
        async def send(message):
            pass

        task = asyncio.create_task(TelemetryMiddleware(app, client=client)(scope_of(), nothing_more, send))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    (span,) = events
    assert (span["status"], span["properties"]["interruption"]) == ("ok", "cancelled")
    assert "error.type" not in span["properties"]


def test_who_leaves_in_the_middle_of_a_stream_is_recorded_and_no_error(client, events):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        assert (await receive())["type"] == "http.disconnect"

    async def gone():
        return {"type": "http.disconnect"}

    ask(TelemetryMiddleware(app, client=client), scope_of(), gone)

    (span,) = events
    assert (span["status"], span["properties"]["interrupted"]) == ("ok", True)
    assert span["properties"]["interruption"] == "disconnect"
    assert not client._busy


def test_a_connection_that_breaks_under_the_answer_is_no_error_of_the_application(client, events):
    class ClientDisconnect(Exception):  # as Starlette's streaming answer raises it
        pass

    async def app(scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": 200})
        except OSError:
            raise ClientDisconnect from None

    async def broken(message):
        raise BrokenPipeError

    with pytest.raises(ClientDisconnect):
        asyncio.run(TelemetryMiddleware(app, client=client)(scope_of(), nothing_more, broken))

    (span,) = events
    assert (span["status"], span["properties"]["interruption"]) == ("ok", "disconnect")


def test_an_error_of_the_application_stays_one_after_the_client_has_left(client, events):
    async def app(scope, receive, send):
        await receive()
        raise KeyError("cleanup")

    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(KeyError):
        ask(TelemetryMiddleware(app, client=client), scope_of(), gone)

    assert [event["kind"] for event in events] == ["exception", "span"]


def test_a_disconnect_after_the_answer_means_nothing(client, events):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await receive()

    async def gone():
        return {"type": "http.disconnect"}

    ask(TelemetryMiddleware(app, client=client), scope_of(), gone)

    assert "interrupted" not in events[0]["properties"]


def test_an_error_of_the_network_after_the_answer_is_one_although_the_client_has_left(client, events):
    async def app(scope, receive, send):
        await hello(scope, receive, send)
        await receive()
        raise ConnectionRefusedError  # what a background task wanted of somebody else

    async def gone():
        return {"type": "http.disconnect"}

    with pytest.raises(ConnectionRefusedError):
        ask(TelemetryMiddleware(app, client=client), scope_of(), gone)

    assert [event["kind"] for event in events] == ["span", "exception"]


def test_an_application_that_never_finishes_its_answer_is_told(client, events):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})

    ask(TelemetryMiddleware(app, client=client), scope_of())

    assert events[0]["properties"]["interruption"] == "incomplete"


# --- what goes wrong in us


@pytest.mark.parametrize(
    "broken",
    [
        {"headers": None},
        {"headers": [(b"x-request-id", None)]},
        {"headers": [(b"traceparent", 7)]},
        {"path": None},
        {"path": []},
        {"method": []},
    ],
)
def test_a_scope_that_we_cannot_read_is_served_all_the_same(client, events, broken):
    sent = ask(TelemetryMiddleware(hello, client=client), {**scope_of(), **broken})

    assert sent[1]["body"] == b"hello"


def test_a_predicate_that_fails_skips_the_request(client, events):
    app = TelemetryMiddleware(hello, client=client, skip=lambda scope: scope["missing"])

    assert ask(app, scope_of())[1]["body"] == b"hello"
    assert events == []
    assert client.stats().dropped == {"internal": 1}


def test_messages_that_we_cannot_read_go_to_the_server_as_they_are(client, events):
    strange = [{"type": "http.response.start"}, {"type": "http.response.body", "body": None}, {"kind": "?"}]

    async def app(scope, receive, send):
        await receive()
        for message in strange:
            await send(message)

    async def receive():
        return {"kind": "?"}

    sent = ask(TelemetryMiddleware(app, client=client), scope_of(), receive)

    assert sent == strange
    assert len(events) == 1


def test_a_route_that_fails_to_say_its_path_costs_the_name_only(client, events):
    class Hostile:
        @property
        def path(self):
            raise RuntimeError

    async def app(scope, receive, send):
        scope["route"] = Hostile()
        await hello(scope, receive, send)

    assert ask(TelemetryMiddleware(app, client=client), scope_of())[1]["body"] == b"hello"
    assert events[0]["event"] == "GET /"


def test_lifespan_and_scopes_that_nobody_knows_pass_untouched(client, events):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def send(message):
        pass

    for kind in ("lifespan", "something.new"):
        scope = {**scope_of(), "type": kind}
        asyncio.run(TelemetryMiddleware(app, client=client)(scope, nothing_more, send))
        assert seen.pop() == (scope, nothing_more, send)
    assert events == []


def test_with_a_client_that_is_off_the_ids_stay_and_nothing_is_recorded():
    client = Client(recorder.KEY, "http://127.0.0.1:9", disabled=True)

    sent = ask(TelemetryMiddleware(hello, client=client), scope_of(headers=[(b"x-request-id", b"req-1")]))

    assert header(sent, b"x-request-id") == b"req-1"
    assert client.stats().captured == 0


# --- after the answer


class Gate:
    """A `before_send` that holds the span up until the test has the whole answer, and notes whether it had."""

    def __init__(self):
        self.has_all = threading.Event()
        self.held = []

    def __call__(self, event):
        if event["kind"] == "span":
            self.held.append(self.has_all.wait(5))
        return event


@contextmanager
def served(app, **keywords):
    """`app` in a real server, with a client whose events go to a recorder."""
    gate = Gate()
    with recorder.Recorder() as telemetry:
        client = Client(recorder.KEY, telemetry.host, mode="memory", before_send=gate)
        with asgi_server.serving(TelemetryMiddleware(app, client=client, **keywords)) as port:
            yield port, gate, client, telemetry
        client.shutdown()


def read_until(connection, end):
    data = b""
    while not data.endswith(end):
        part = connection.recv(65536)
        assert part, data
        data += part
    return data


def test_recording_begins_after_the_client_has_the_entire_body():
    with served(hello) as (port, gate, _, telemetry), asgi_server.get(port, "/") as connection:
        read_until(connection, b"hello")
        gate.has_all.set()
        assert telemetry.wait_stored(1)

    assert gate.held == [True]


def test_recording_begins_after_the_last_part_of_a_stream():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        for part in (b"one", b"two", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body"})

    with served(app) as (port, gate, _, telemetry), asgi_server.get(port, "/") as connection:
        read_until(connection, b"0\r\n\r\n")
        gate.has_all.set()
        assert telemetry.wait_stored(1)

    assert gate.held == [True]


def test_recording_is_done_before_background_tasks_run(client, events):
    app = FastAPI()
    app.add_middleware(TelemetryMiddleware, client=client)
    seen = []

    @app.get("/")
    def start(tasks: BackgroundTasks):
        tasks.add_task(lambda: seen.append(len(events)))
        tasks.add_task(client.capture, "afterwards", {"n": 1})
        return "started"

    visit(app, "/")

    span, after = events
    assert seen == [1]
    assert (after["event"], after["trace_id"]) == ("afterwards", span["trace_id"])


def test_trailers_belong_to_the_answer(client, events):
    recorded = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        recorded.append(len(events))
        await send({"type": "http.response.trailers", "headers": [], "more_trailers": True})
        recorded.append(len(events))
        await send({"type": "http.response.trailers", "headers": []})
        recorded.append(len(events))

    ask(TelemetryMiddleware(app, client=client), scope_of())

    assert recorded == [0, 0, 1]


def test_a_stream_is_a_busy_moment_and_its_end_a_checkpoint():
    checkpoints = []

    class Noting(Client):
        def flush_soon(self, hint_s=None):
            checkpoints.append(len(events))
            super().flush_soon(hint_s)

    client = Noting()
    busy = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        busy.append(len(client._busy))
        for part in (b"one", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            busy.append(len(client._busy))
        await send({"type": "http.response.body"})
        busy.append(len(client._busy))

    with capture_events(client) as events:
        ask(TelemetryMiddleware(app, client=client), scope_of())
        ask(TelemetryMiddleware(hello, client=client), scope_of())

    assert busy == [0, 1, 1, 0]
    assert checkpoints == [1]  # after the span; an answer in one piece needs none


def test_a_telemetry_server_that_hangs_delays_no_answer(tmp_path):
    app = FastAPI()

    @app.get("/stream")
    def stream():
        return StreamingResponse(iter(["a", "b"]))

    @app.get("/plain")
    async def plain():
        return "x"

    with recorder.Recorder() as telemetry:
        telemetry.always = recorder.hang
        client = Client(recorder.KEY, telemetry.host, spool_dir=str(tmp_path))
        serving = asgi_server.serving(TelemetryMiddleware(app, client=client))
        with serving as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http:
            answers = [http.get(path).status_code for path in ("/plain", "/stream") * 20]
            client.flush_soon()
            assert telemetry.wait_for(lambda: telemetry.requests != [])
            answers += [http.get(path).status_code for path in ("/plain", "/stream") * 20]

        assert answers == [200] * 80
        stats = client.stats()
        assert (stats.captured, stats.delivered) == (80, 0)


def test_a_fastapi_application_delivers_its_captures_from_sync_async_and_background_code():
    with recorder.Recorder() as telemetry:
        client = Client(recorder.KEY, telemetry.host, mode="memory")
        app = FastAPI()
        app.add_middleware(TelemetryMiddleware, client=client)

        @app.get("/sync/{n}")
        def sync(n: int, background_tasks: BackgroundTasks):
            client.capture("sync", {"n": n})
            background_tasks.add_task(client.capture, "background", {"n": n})
            return n

        @app.post("/async")
        async def asynchronous():
            client.capture("async")

            async def parts():
                yield "a"
                client.capture("streaming")
                yield "b"

            return StreamingResponse(parts())

        with asgi_server.serving(app) as port, httpx2.Client(base_url=f"http://127.0.0.1:{port}") as http:
            assert http.get("/sync/7", headers={"x-request-id": "req-7"}).headers["x-request-id"] == "req-7"
            assert http.post("/async").text == "ab"
        client.shutdown()

        stored = {event["event_type"]: event for event in telemetry.events.values()}
        assert sorted(stored) == ["GET /sync/{n}", "POST /async", "async", "background", "streaming", "sync"]
        for name in ("sync", "background"):
            assert stored[name]["correlation_id"] == "req-7"
            assert stored[name]["trace_id"] == stored["GET /sync/{n}"]["trace_id"]
        assert stored["streaming"]["span_id"] == stored["POST /async"]["span_id"]
        assert telemetry.broken == []


# --- web sockets


def echo(client):
    app = FastAPI()
    app.add_middleware(TelemetryMiddleware, client=client)

    @app.websocket("/talk/{room}")
    async def talk(websocket: WebSocket, room: str):
        await websocket.accept()
        while (text := await websocket.receive_text()) != "bye":
            client.capture("said")
            await websocket.send_text(text)
        await websocket.close(4000)

    return app


def test_a_web_socket_is_one_span_from_connect_to_close(client, events):
    with TestClient(echo(client)).websocket_connect("/talk/7") as socket:
        socket.send_text("hi")
        assert socket.receive_text() == "hi"
        socket.send_text("bye")
        assert socket.receive()["code"] == 4000

    said, span = events
    assert (span["event"], span["status"], span["trace_id"]) == ("WEBSOCKET /talk/{room}", "ok", said["trace_id"])
    assert span["properties"]["http.response.status_code"] == 101
    assert span["properties"]["websocket.close.code"] == 4000


def test_who_hangs_up_a_web_socket_is_no_error(client, events):
    hung_up = pytest.raises(WebSocketDisconnect)  # the framework lets it out of an endpoint that does not catch it
    with hung_up, TestClient(echo(client)).websocket_connect("/talk/7") as socket:
        socket.close(1001)

    assert [event["kind"] for event in events] == ["span"]
    assert events[0]["status"] == "ok"
    assert events[0]["properties"]["websocket.close.code"] == 1001
    assert "interrupted" not in events[0]["properties"]


@pytest.mark.parametrize(
    ("message", "status"),
    [({"type": "websocket.close"}, 403), ({"type": "websocket.http.response.start", "status": 404}, 404)],
)
def test_a_web_socket_that_is_refused_has_the_status_that_its_client_sees(client, events, message, status):
    async def app(scope, receive, send):
        await send(message)

    ask(TelemetryMiddleware(app, client=client), {"type": "websocket", "path": "/talk", "headers": []})

    assert events[0]["event"] == "WEBSOCKET"
    assert events[0]["properties"]["http.response.status_code"] == status


def test_an_exception_in_a_web_socket_is_captured(client, events):
    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        ask(TelemetryMiddleware(app, client=client), {"type": "websocket", "path": "/talk", "headers": []})

    exception, span = events
    assert (exception["error"]["type"], span["status"]) == ("ValueError", "error")


def test_starlette_applications_mount_it_as_they_mount_anything(client, events):
    async def page(request):
        return PlainTextResponse("x")

    app = Starlette(
        routes=[Mount("/in", TelemetryMiddleware(Starlette(routes=[Route("/p/{n}", page)]), client=client))]
    )

    visit(app, "/in/p/3")

    assert events[0]["properties"]["http.route"] == "/in/p/{n}"
