"""A provider fails in each way that is known, over real sockets: the next one answers, or the caller hears the truth."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
import uvloop

from gateways import data_of_all, rig, text_of
from leeward.gateway.failures import AllFailed, DeadlineExceeded, RequestRefused
from leeward.gateway.faults import FAULTS, Fault
from leeward.gateway.simulated import SimulatedProvider
from upstreams import CLOSE, HANG, RESET, answer, serving

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
SHORT = {"first_token_timeout_s": 0.15, "stall_timeout_s": 0.15, "connect_timeout_s": 0.15, "deadline_s": 10.0}
JSON_FAULTS = [mode for mode in FAULTS if mode != "400"]
LATE = {"slow", "slow-first-token"}  # they do answer: later than the limit
OUTCOMES = {
    "429": "rate_limited",
    "500": "server_error",
    "503": "server_error",
    "401": "credentials",
    "hang": "timeout",
    "slow": "timeout",
    "slow-first-token": "timeout",
    "reset": "network",
    "reset-mid": "network",
    "stall": "timeout",
    "cut": "network",
    "malformed": "bad_answer",
    "empty": "bad_answer",
    "error-mid": "bad_answer",
}
EVENT_STREAM = b"content-type: text/event-stream\r\n"


def run(steps, factory=None):
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(steps)


def chunk_event(content=None, *, role=None, finish=None) -> bytes:
    delta = {key: value for key, value in (("role", role), ("content", content)) if value is not None}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def stream_head(**fields: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items()).encode()
    return b"HTTP/1.1 200 OK\r\n" + EVENT_STREAM + lines + b"connection: close\r\n\r\n"


ROLE, HELLO, FINISH, DONE = (
    chunk_event("", role="assistant"),
    chunk_event("Hello"),
    chunk_event(finish="stop"),
    b"data: [DONE]\n\n",
)
WHOLE = json.dumps(
    {"id": "c1", "model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}
).encode()


@asynccontextmanager
async def scripted(*scripts, rows=None, **settings):
    """A rig whose first provider, `bad`, plays scripts; the second, `good`, is well."""
    async with serving(*scripts) as (upstream, endpoint):
        address = f"http://127.0.0.1:{endpoint.origin.port}/v1"
        listed = {"bad": {"base_url": address, **(rows or {})}}
        async with rig("bad", "good", rows=listed, **{**SHORT, **settings}) as found:
            found.upstream = upstream
            yield found


# -- one healthy provider: every answer is a good one


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", JSON_FAULTS)
def test_g1_every_answer_is_good_while_one_provider_is(mode, stream, loop):
    async def steps():
        # A stream's faults meet it before its first content here; those after it are further below.
        fault = Fault(mode=mode, after_events=0, delay_s=30.0)
        async with rig("bad", "good", **SHORT) as found:
            found["bad"].fault = fault
            for _ in range(12):
                _, provider, _ = await found.answer(stream=stream)
                assert provider == "good"
            assert [request.outcome for request in found.notes.requests] == ["ok"] * 12
            failed = [attempt for attempt in found.notes.attempts if attempt.provider == "bad"]
            expected = OUTCOMES[mode]
            if stream and mode == "cut":
                expected = "bad_answer"  # the body is a whole one for HTTP; what it says is not
            assert {attempt.outcome for attempt in failed} == {expected}
            assert found["bad"].calls == len(failed)
            assert len(failed) <= 4, "the circuit opened"

    run(steps(), LOOPS[loop])


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", ["500", "503", "reset", "cut", "malformed", "empty", "error-mid", "429", "401"])
def test_g1_half_of_the_calls_fail_and_all_are_answered(mode, stream):
    async def steps():
        async with rig("bad", "good", breaker={"consecutive_failures": 1000, "failure_rate": 1.0}) as found:
            found["bad"].fault = Fault(mode=mode, share=0.5, after_events=0, retry_after_s=0)
            for _ in range(40):
                await found.answer(stream=stream)
            assert [request.outcome for request in found.notes.requests] == ["ok"] * 40

    run(steps())


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_g1_a_refused_connection_is_left_at_once(stream):
    async def steps():
        unused = SimulatedProvider("bad")
        await unused.start()
        port = unused.port
        await unused.stop()
        rows = {"bad": {"base_url": f"http://127.0.0.1:{port}/v1"}}
        async with rig("bad", "good", rows=rows) as found:
            _, provider, headers = await found.answer(stream=stream)
            assert provider == "good"
            assert headers["x-leeward-attempts"] == "2"
            assert (found.notes.attempts[0].outcome, found.notes.attempts[0].detail) == ("network", "connect_refused")

    run(steps())


def test_g1_a_blackhole_costs_no_more_than_its_limit_and_the_deadline_stays():
    async def steps():
        async with rig("bad", **{**SHORT, "deadline_s": 0.4, "first_token_timeout_s": 30.0}) as found:
            found["bad"].fault = "hang"
            with pytest.raises(DeadlineExceeded):
                await found.ask()
            assert found.notes.outcomes == ["timeout"]
            assert found.notes.requests[0].duration_s >= 0.4

    run(steps())


def test_g1_the_second_keeps_a_share_of_a_short_deadline():
    async def steps():
        async with rig("bad", "good", deadline_s=0.5, first_token_timeout_s=30.0) as found:
            found["bad"].fault = "hang"
            for stream in (False, True):
                _, provider, _ = await found.answer(stream=stream)
                assert provider == "good"

    run(steps())


# -- G2: a stream that fails before its first content


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"error": {"message": "boom", "code": "server_error"}}\n\n',
        b'event: error\ndata: {"message": "boom"}\n\n',
        ROLE + b'data: {"error": {"message": "boom"}}\n\n',
        b": keep-alive\n\n" + ROLE + b"data: {nonsense\n\n",
        ROLE + b"data: \xff\xfe\n\n",
        ROLE,  # and it ends
        ROLE + DONE,
        DONE,
        b"",
        ROLE + FINISH + DONE,  # an answer of nothing
        WHOLE,  # no stream at all
    ],
    ids=["error", "typed", "role-error", "garbage", "bytes", "role", "role-done", "done", "none", "nothing", "json"],
)
def test_g2_a_stream_that_fails_before_its_first_content_is_another_providers_turn(body):
    async def steps():
        async with scripted([stream_head() + body, CLOSE]) as found:
            sink = await found.stream()
            assert sink.is_done
            assert sink.headers["x-leeward-provider"] == "good"
            assert b"boom" not in sink.body
            assert found.notes.outcomes == ["bad_answer", "ok"]
            assert sink.events[0].count(b"assistant") == 1, "of the first one nothing came through"

    run(steps())


def test_g2_an_error_in_the_same_read_as_the_first_content_still_goes_elsewhere():
    async def steps():
        async with scripted(
            [stream_head() + ROLE + HELLO + b'data: {"error": {"message": "boom"}}\n\n', CLOSE]
        ) as found:
            sink = await found.stream()
            assert sink.is_done
            assert "Hello" not in sink.text

    run(steps())


def test_g2_a_stream_of_another_type_is_no_stream():
    async def steps():
        async with scripted([answer(WHOLE, headers=b"content-type: application/json\r\n")]) as found:
            sink = await found.stream()
            assert sink.headers["x-leeward-provider"] == "good"
            assert found.notes.attempts[0].detail == "not_a_stream"

    run(steps())


# -- G4: the first content does not come


@asynccontextmanager
async def dripping(head: bytes, piece: bytes):
    """Its address: it answers with this head, and then with one piece each 20 ms for as long as anyone listens."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            while not writer.is_closing():
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()
        await asyncio.sleep(0.05)  # the drip hears of our leaving with its next drop


@pytest.mark.parametrize("piece", [b": keep-alive\n\n", ROLE, b"\n"], ids=["comment", "role", "blank"])
def test_g4_what_is_no_content_does_not_reset_the_limit_of_the_first_content(piece):
    async def steps():
        async with (
            dripping(stream_head(), piece) as address,
            rig("bad", "good", rows={"bad": {"base_url": address}}, **SHORT) as found,
        ):
            sink = await found.stream()
            assert sink.headers["x-leeward-provider"] == "good"
            assert (found.notes.attempts[0].outcome, found.notes.attempts[0].detail) == ("timeout", "head_timeout")
            assert found.notes.attempts[0].duration_s < 1.0

    run(steps())


@pytest.mark.parametrize("status", [200, 503])
def test_g4_a_whole_answer_that_drips_leaves_the_next_its_share(status):
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n" % status

    async def steps():
        async with (
            dripping(head, b" ") as address,
            rig("bad", "good", rows={"bad": {"base_url": address}}, **{**SHORT, "deadline_s": 1.0}) as found,
        ):
            for stream in (False, True) if status != 200 else (False,):
                _, provider, _ = await found.answer(stream=stream)
                assert provider == "good"
            assert found.notes.attempts[0].duration_s < 0.9

    run(steps())


def test_g4_a_stream_that_stalls_after_its_first_content_says_so():
    async def steps():
        async with rig("bad", "good", **SHORT) as found:
            found["bad"].fault = Fault(mode="stall", after_events=2)
            sink = await found.stream()
            assert sink.error["code"] == "stream_interrupted"
            assert not sink.is_done
            assert found.notes.attempts[0].detail == "stall"

    run(steps())


# -- after the first content: never silent, never whole


@pytest.mark.parametrize("mode", ["cut", "reset-mid", "error-mid", "stall"])
def test_g3_a_stream_that_breaks_off_after_its_first_content_ends_in_an_error_event(mode):
    async def steps():
        async with rig("bad", "good", **SHORT) as found:
            found["bad"].fault = Fault(mode=mode, after_events=3)
            sink = await found.stream()
            assert sink.ended == 1
            assert b"[DONE]" not in sink.body
            assert list(json.loads(sink.events[-1])) == ["error"]
            assert sink.error["code"] == "stream_interrupted"
            assert sink.error["request_id"] == "req_1"
            assert sink.text.startswith("Simulated answer from")
            assert sink.headers["x-leeward-provider"] == "bad"
            assert found["good"].calls == 0, "no blind repeat"
            assert [request.outcome for request in found.notes.requests] == ["cut"]
            assert found.core.circuits.status(found.core.routes)[0].models[0].failures == 1, "the circuit hears of it"

    run(steps())


def test_g3_cut_streams_open_the_circuit():
    async def steps():
        async with rig("bad", "good") as found:
            found["bad"].fault = Fault(mode="cut", after_events=1)
            sinks = [await found.stream() for _ in range(10)]
            assert [sink.is_done for sink in sinks] == [False] * 3 + [True] * 7

    run(steps())


# -- G10: answers that are too much


def endless(piece: bytes, times: int) -> list:
    return [b"%x\r\n%s\r\n" % (len(piece), piece)] * times


OVERSIZED = {
    "length": [answer(b"x" * 100_000)],
    "chunks": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *endless(b"x" * 1000, 100), HANG],
    "head": [b"HTTP/1.1 200 OK\r\nx: " + b"x" * 1_000_000 + b"\r\n\r\n"],
    "deep": [answer(b"[" * 20_000 + b"]" * 20_000)],
    "deep-choices": [answer(b'{"choices":' + b"[" * 20_000 + b"]" * 20_000 + b"}")],
    "deep-error": [answer(b'{"error":' + b"[" * 20_000 + b"]" * 20_000 + b"}")],
    "deep-usage": [answer(b'{"choices":[],"usage":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}")],
    "two": [answer(WHOLE) + answer(WHOLE)],
    "short": [b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n" + WHOLE],
    "gzip": [answer(b"\x1f\x8b" + b"\0" * 1000, headers=b"content-encoding: gzip\r\n")],
    "not-http": [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE],
    "redirect": [answer(b"", status="302 Found", headers=b"location: http://127.0.0.1:1/\r\n")],
    "empty": [answer(b"")],
    "null": [answer(b"null")],
    "list": [answer(b"[]")],
    "number": [answer(b"1e999")],
    "surrogate": [answer(b'{"choices":[{"message":{"content":"\\ud800"}}]}')],
}


@pytest.mark.parametrize("name", OVERSIZED)
def test_g10_an_answer_that_is_too_large_or_none_is_another_providers_turn(name):
    async def steps():
        async with scripted(OVERSIZED[name], answer_bytes_max=50_000) as found:
            answered = await found.ask()
            assert answered.provider == "good"
            assert found.notes.outcomes[0] in {"bad_answer", "network", "server_error"}
            assert len(found.notes.attempts) == 2

    run(steps())


@pytest.mark.parametrize("status", [500, 429, 401])
def test_g10_an_endless_refusal_is_not_read_to_its_end(status):
    async def steps():
        head = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n" % status
        async with scripted([head, *endless(b"x" * 1000, 100), HANG], answer_bytes_max=50_000) as found:
            assert (await found.ask()).provider == "good"

    run(steps())


def test_g10_an_endless_stream_ends_with_the_truth():
    async def steps():
        limit = 400_000  # more than one read of the network brings: the first one is passed on
        pieces = [HELLO] * (2 * limit // len(HELLO))
        async with scripted([stream_head(), ROLE, *pieces, HANG], answer_bytes_max=limit) as found:
            sink = await found.stream()
            assert sink.error["code"] == "stream_interrupted"
            assert len(sink.body) < limit + 1_000

    run(steps())


def test_g10_endless_roles_before_the_first_content_are_bounded():
    async def steps():
        async with scripted([stream_head(), *[ROLE] * 1000, HANG], answer_bytes_max=50_000) as found:
            sink = await found.stream()
            assert sink.headers["x-leeward-provider"] == "good"
            assert found.notes.attempts[0].detail == "too_large"

    run(steps())


# -- G15, G19, G20: what is repeated where


def test_g15_a_kept_connection_that_closes_as_we_send_costs_no_attempt():
    async def steps():
        async with scripted([answer(WHOLE)], [RESET], [answer(WHOLE)]) as found:
            for _ in range(2):
                assert (await found.ask()).provider == "bad"
            assert found.notes.outcomes == ["ok", "ok"]
            assert len(found.upstream.requests) == 3

    run(steps())


def test_g15_a_name_that_does_not_resolve_is_another_providers_turn():
    async def steps():
        rows = {"bad": {"base_url": "http://no-such-host.invalid/v1"}}
        async with rig("bad", "good", rows=rows, connect_timeout_s=5.0, deadline_s=20.0) as found:
            assert (await found.ask()).provider == "good"
            assert found.notes.attempts[0].outcome in {"network", "timeout"}

    run(steps())


REPEATED = {"429", "500", "503"}
NEVER_REPEATED = ["hang", "stall", "reset", "reset-mid", "cut", "malformed", "empty", "error-mid", "401", "400", "slow"]


@pytest.mark.parametrize("mode", sorted(REPEATED))
def test_g19_a_provider_that_said_later_is_asked_again_with_the_same_body(mode):
    async def steps():
        async with scripted([refused(mode)], [refused(mode)], [answer(WHOLE)]) as found:
            found["good"].fault = "hang"
            answered = await found.ask()
            assert (answered.provider, answered.attempts) == ("bad", 4)
            assert [attempt.repeat for attempt in found.notes.attempts] == [False, False, True, True]
            bodies = [request.partition(b"\r\n\r\n")[2] for request in found.upstream.requests]
            assert bodies == [bodies[0]] * 3

    run(steps())


def refused(status: str, **headers: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in {"retry-after": "0", **headers}.items()).encode()
    return answer(b'{"error": {"message": "later"}}', status=f"{status} Later", headers=lines)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize("mode", NEVER_REPEATED)
def test_g19_what_may_have_had_an_effect_is_never_sent_to_the_same_provider_again(mode, stream):
    async def steps():
        async with rig("only", **SHORT) as found:
            found["only"].fault = Fault(mode=mode, after_events=0, delay_s=30.0)
            with pytest.raises((AllFailed, DeadlineExceeded, RequestRefused)):
                await found.answer(stream=stream)
            assert found["only"].calls == 1

    run(steps())


def test_g19_a_refused_connection_is_tried_again_for_nothing_was_sent():
    async def steps():
        unused = SimulatedProvider("only")
        await unused.start()
        port = unused.port
        await unused.stop()
        async with rig("only", rows={"only": {"base_url": f"http://127.0.0.1:{port}/v1"}}) as found:
            with pytest.raises(AllFailed):
                await found.ask()
            assert len(found.notes.attempts) == 3

    run(steps())


def test_g19_a_provider_that_is_not_repeatable_gets_each_body_once():
    async def steps():
        async with rig("only", rows={"only": {"repeatable": False}}) as found:
            for mode in ("500", "503"):
                found["only"].fault = mode
                with pytest.raises(AllFailed):
                    await found.ask()
            assert found["only"].calls == 2

    run(steps())


def test_g19_the_callers_own_mistake_goes_straight_back():
    async def steps():
        async with rig("bad", "good") as found:
            found["bad"].fault = "400"
            with pytest.raises(RequestRefused) as caught:
                await found.ask()
            assert (caught.value.status, caught.value.code) == (400, "invalid_value")
            assert "Simulated" not in str(caught.value)
            assert found["good"].calls == 0
            assert found.notes.requests[0].outcome == "refused"

    run(steps())


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
def test_g20_the_calls_on_the_wire_are_the_attempts_in_the_records(stream):
    async def steps():
        async with rig("a", "b", "c", **SHORT) as found:
            answered = 0
            for place, mode in enumerate(["500", "reset", "malformed", "429", "empty", "cut", "hang", "error-mid"] * 3):
                name = "abc"[place % 3]
                found[name].fault = Fault(mode=mode, after_events=place % 2, retry_after_s=0)
                try:
                    _, _, headers = await found.answer(stream=stream)
                    answered += 1
                    assert int(headers["x-leeward-attempts"]) == len(found.notes.requests[-1].attempts)
                except (AllFailed, AssertionError):
                    pass
                found[name].fault = None
            assert answered
            # The one call that nobody ordered: a kept connection that was reset before a byte of the answer came.
            races = found.transport.statistics().races
            assert races <= 3
            assert found.calls == len(found.notes.attempts) + races
            assert len(found.notes.attempts) == sum(len(request.attempts) for request in found.notes.requests)

    run(steps())


# -- an answer says what it is


@pytest.mark.parametrize("finish", ["length", "content_filter"])
def test_an_answer_that_its_limit_cut_off_before_a_word_is_an_answer(finish):
    async def steps():
        body = ROLE + chunk_event(finish=finish) + DONE
        async with scripted([stream_head() + body, CLOSE]) as found:
            sink = await found.stream()
            assert sink.is_done
            assert sink.headers["x-leeward-provider"] == "bad"

    run(steps())


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_stream_that_is_whole_but_for_its_goodbye_is_an_answer(end):
    async def steps():
        async with scripted([stream_head() + ROLE + HELLO + FINISH, end]) as found:
            sink = await found.stream()
            assert sink.is_done
            assert sink.text == "Hello"

    run(steps())


def test_a_connection_is_kept_after_a_stream_and_used_for_the_next_request():
    async def steps():
        async with rig("a") as found:
            for _ in range(5):
                assert (await found.stream()).is_done
                await found.ask()
            assert found["a"].connections == 1

    run(steps())


def test_the_caller_gets_the_providers_own_bytes():
    async def steps():
        body = ROLE + HELLO + chunk_event(" wörld \u2028") + FINISH
        async with scripted([EVENT_STREAM_CHUNKED, *in_pieces(body + DONE, 7), b"0\r\n\r\n"]) as found:
            sink = await found.stream()
            assert sink.body == body + DONE
            assert text_of(sink.body) == "Hello wörld \u2028"
            assert len(data_of_all(sink.body)) == 5

    run(steps())


EVENT_STREAM_CHUNKED = b"HTTP/1.1 200 OK\r\n" + EVENT_STREAM + b"transfer-encoding: chunked\r\n\r\n"


def in_pieces(body: bytes, size: int) -> list[bytes]:
    return [b"%x\r\n%s\r\n" % (len(body[at : at + size]), body[at : at + size]) for at in range(0, len(body), size)]
