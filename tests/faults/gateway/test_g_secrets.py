"""G14 and G23 on a whole gateway: providers quote the key and the prompt in every place that they have, callers invent
names; then everything that the gateway tells anybody is searched."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json

import pytest

import recorder
from gateways import request_of, rig
from leeward.gateway.failures import ModelNotFound
from leeward.gateway.records import Caller
from leeward.server.logs import json_lines
from served import ADMIN_KEY, served, settings_with
from upstreams import CLOSE, answer, serving

KEY = "sk-canary-9f8e7d6c5b4a3928"
PROMPT = 'Zebraquokka said "Größenwahn 470815112233" on 秘密の計画'
# Any of these in what is told is a piece of the key or of the prompt.
CANARIES = (
    "ebraquokka",
    "braquo",
    "quokka",
    "wahn",
    "470815112233",
    "秘密",
    "計画",
    "9f8e7d6c",
    "6c5b4a39",
    "5a656272",
)
ESCAPED = "".join(f"\\u{ord(sign):04x}" if sign.isalpha() else sign for sign in "Zebraquokka")
QUOTES = f"{KEY} {' '.join(KEY)} {PROMPT} {ESCAPED} Zebra-quokka Z%65braquokka Gro\u0308ßenwahn Gr&ouml;&szlig;enwahn"
ERROR = {"message": QUOTES, "code": "zebraquokka_470815112233", "type": KEY, "param": "messages[0].Zebraquokka"}
HEADERS = f"x-request-id: {KEY}\r\nx-zebraquokka: Zebraquokka 470815112233\r\nretry-after: Zebraquokka\r\n".encode()
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n" + HEADERS + b"\r\n"


def event(value) -> bytes:
    return b"data: " + (value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()) + b"\n\n"


CONTENT = event({"id": KEY, "model": KEY, "choices": [{"index": 0, "delta": {"content": "fine"}}]})
WHOLE = json.dumps({"error": ERROR}, ensure_ascii=False).encode()
CASES = {
    "400": [answer(WHOLE, status="400 Bad Request", headers=HEADERS)],
    "401": [answer(WHOLE, status="401 Unauthorized", headers=HEADERS)],
    "429": [answer(WHOLE, status="429 Too Many Requests", headers=HEADERS)],
    "500 as a page": [answer(f"<h1>{QUOTES}</h1>".encode(), status="500 Zebraquokka", headers=HEADERS)],
    "500, escaped": [answer(json.dumps({"error": ERROR}).encode(), status="500 Error", headers=HEADERS)],
    "500 in a list": [answer(json.dumps([{"error": QUOTES}]).encode(), status="500 Error")],
    "no JSON": [answer(b"{" + QUOTES.encode())],
    "wrong types": [answer(json.dumps({"choices": QUOTES}).encode())],
    "error before content": [STREAM, event({"error": ERROR}), CLOSE],
    "error after content": [STREAM + CONTENT, event({"error": ERROR}), CLOSE],
    "garbage after content": [STREAM + CONTENT, event(b"{" + QUOTES.encode()), CLOSE],
    "a head that is none": [f"HTTP/1.1 {QUOTES}\r\n\r\n".encode(), CLOSE],
}


def told_by(lines) -> str:
    """The log as it is written."""
    stream = io.StringIO()
    report = json_lines(stream)
    for name, fields in lines:
        report(name, fields)
    return stream.getvalue()


def assert_silent(place: str, text: str) -> None:
    readable = text if "\\u" not in text else text + "".join(_strings(text))
    squeezed = "".join(sign for sign in readable.casefold() if sign.isalnum())
    for canary in CANARIES:
        assert canary not in readable.casefold(), f"{place}: {canary} in {text}"
        assert canary not in squeezed, f"{place}: {canary} in {text}"


def _strings(text: str):
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            yield json.dumps(json.loads(line.removeprefix("data: ")), ensure_ascii=False)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("case", CASES)
def test_g14_nothing_that_is_told_has_the_key_or_a_word_of_the_prompt(case, stream, tmp_path, monkeypatch):
    if ("content" in case) != stream and "content" in case:
        pytest.skip("an event is no whole answer")

    async def main():
        async with serving(CASES[case]) as (_, endpoint), serving([answer(b'{"id":"1"}')]) as (project, sentry):
            port = endpoint.origin.port
            row = {"kind": "openai", "api_key": KEY, "models": {"chat": "large"}}
            settings = settings_with(
                *({"name": name, "base_url": f"http://127.0.0.1:{port}/v1", **row} for name in "ab"),
                gateway={"retry": {"max_attempts": 1}},
                report={"sentry_dsn": f"http://key@127.0.0.1:{sentry.origin.port}/1"},
            )
            async with served(settings) as gateway:
                for _ in range(4):  # till the breaker is open
                    answered = await gateway.chat(PROMPT, stream=stream)
                    assert_silent("answer", answered.body.decode().replace(json.dumps(KEY), "") + repr(_own(answered)))
                for path in ("/metrics", "/health", "/api/providers", "/health?provider=a"):
                    told = await gateway.ask("GET", path, key=ADMIN_KEY)
                    assert_silent(path, told.body.decode() + repr(told.headers))
                core = gateway.application.gateway.core
                assert_silent("repr", repr((core.routes.providers, core.routes.by_model, core.providers(), settings)))
                assert gateway.named("attempt_failed")
                assert_silent("log", told_by(gateway.lines))
            for request in project.requests:
                assert_silent("sentry", request.decode())

    with recorder.Recorder() as telemetry:
        monkeypatch.setenv("LEEWARD_API_KEY", recorder.KEY)
        monkeypatch.setenv("LEEWARD_HOST", telemetry.host)
        monkeypatch.setenv("LEEWARD_SPOOL_DIR", str(tmp_path))
        asyncio.run(main())
        assert telemetry.events
        assert_silent("telemetry", json.dumps(list(telemetry.events.values()), ensure_ascii=False))


def _own(answered):
    """The headers that are not the connection's."""
    return {name: value for name, value in answered.headers.items() if name != "date"}


def test_g14_exceptions_of_a_program_say_what_happened_and_quote_nobody():
    async def main():
        async with serving(CASES["400"]) as (_, endpoint):
            rows = {"a": {"base_url": f"http://127.0.0.1:{endpoint.origin.port}/v1", "api_key": KEY}}
            async with rig("a", rows=rows) as gateway:
                with pytest.raises(Exception) as caught:
                    await gateway.ask(text=PROMPT)
        error = caught.value
        assert_silent("exception", f"{error} {error!r} {vars(error)}")
        assert error.param == "messages[0]"
        assert_silent("why", "".join(gateway.notes.whys))
        assert_silent("records", repr(gateway.notes.requests[0].attempts))

    asyncio.run(main())


@pytest.mark.parametrize("name", ["x\r\nevent: ready", "\x1b[31mred", 'a"}\n# HELP x', "\u202eback"])
def test_g23_a_model_with_signs_that_steer_is_a_name_that_nobody_knows(name):
    async def main():
        async with served(settings_with()) as gateway:
            answered = await gateway.chat(model=name)
            assert answered.status == 404
            metrics = (await gateway.ask("GET", "/metrics", key=ADMIN_KEY)).body.decode()
            assert name not in metrics
            log = told_by(gateway.lines)
            assert log.isascii()
            assert all(json.loads(line)["event"] for line in log.splitlines())

    asyncio.run(main())


def test_g23_ten_thousand_invented_models_make_no_label_and_no_line():
    async def main():
        row = {"name": "a", "kind": "simulated", "models": {"chat": "large"}}
        async with served(settings_with(row)) as gateway:
            before = (await gateway.ask("GET", "/metrics", key=ADMIN_KEY)).body.count(b"\n")
            core = gateway.application.gateway.core
            for number in range(10_000):
                with pytest.raises(ModelNotFound):
                    await core.respond(request_of(f"invented-{number}"), Caller(f"req_{number}"))
            metrics = (await gateway.ask("GET", "/metrics", key=ADMIN_KEY)).body.decode()
            assert "invented" not in metrics
            assert 'leeward_gateway_requests_total{outcome="refused"} 10000.0' in metrics
            one_route_more = 40
            assert metrics.count("\n") <= before + one_route_more
            assert gateway.lines == []

    asyncio.run(main())
