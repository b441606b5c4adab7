"""A simulated provider over real sockets: what it says, how exactly it fails, and what it counts."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from contextlib import asynccontextmanager

import pytest
import uvloop
from hypothesis import given, strategies as st

from control_helpers import HeldClock
from leeward.errors import ConfigError
from leeward.gateway.faults import FAULTS, Fault
from leeward.gateway.simulated import REQUEST_BYTES_MAX, Received, SimulatedProvider
from simulated_calls import asked, call, read, request

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": parameters}}
    for name, parameters in {
        "weather": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        },
        "clock": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}},
    }.items()
]


async def bounded(steps):
    async with asyncio.timeout(30):  # an alarm for what hangs
        return await steps


def run(steps, factory=None):
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bounded(steps))


def answer(body, path="/v1/chat/completions", *, method="POST", fault=None, **options):
    """What one call gets of a fresh provider."""

    async def steps():
        async with SimulatedProvider("primary", **options) as provider:
            provider.fault = fault
            return await call(provider.port, body, path, method=method)

    return run(steps())


@asynccontextmanager
async def connected(provider):
    reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def until(condition):
    """Passes of the loop until something has happened; the alarm is for what never does."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - there is nothing that would tell
            await asyncio.sleep(0)


# What it says


def test_a_whole_answer_says_that_it_is_simulated_and_by_whom_and_counts_its_tokens():
    came = answer(asked(), words=8)

    document = came.json()
    [choice] = document["choices"]
    assert (came.status, came.header("x-simulated")) == (200, "primary")
    assert choice["message"]["content"].startswith("Simulated answer from primary: ")
    assert (choice["finish_reason"], document["model"], document["object"]) == ("stop", "m", "chat.completion")
    assert len(choice["message"]["content"].split()) == document["usage"]["completion_tokens"] == 8
    usage = document["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_a_stream_says_the_same_words_one_an_event_and_ends_with_finish_and_done():
    whole = answer(asked(), words=8).json()["choices"][0]["message"]["content"]

    came = answer(asked(stream=True), words=8)

    assert came.header("content-type").startswith("text/event-stream")
    assert came.whole
    assert len(came.texts()) == 8
    assert "".join(came.texts()) == whole
    *events, done = came.data()
    assert done == b"[DONE]"
    events = [json.loads(event) for event in events]
    assert events[0]["choices"][0]["delta"]["role"] == "assistant"
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert len({event["id"] for event in events}) == 1
    assert not any("usage" in event for event in events)


def test_a_stream_tells_its_usage_in_an_event_of_its_own_where_it_is_asked_to():
    came = answer(asked(stream=True, stream_options={"include_usage": True}), words=5)

    *_, last, done = came.data()
    last = json.loads(last)
    assert (last["choices"], last["usage"]["completion_tokens"], done) == ([], 5, b"[DONE]")


def test_the_same_seed_says_the_same_and_another_seed_or_prompt_something_else():
    def words(text, seed):
        return answer(asked(text), seed=seed).json()["choices"][0]["message"]["content"]

    assert words("a", 1) == words("a", 1)
    assert words("a", 1) != words("a", 2)
    assert len({words(text, 1) for text in "abcdef"}) > 1


def test_ids_differ_from_call_to_call_and_the_time_is_the_clocks():
    async def steps():
        clock = HeldClock()
        async with SimulatedProvider(clock=clock) as provider:
            first = (await call(provider.port, asked())).json()
            clock.pass_s(60)
            return first, (await call(provider.port, asked())).json()

    first, second = run(steps())
    assert first["id"] != second["id"]
    assert second["created"] - first["created"] == 60
    assert first["choices"] == second["choices"]


def test_a_limit_of_tokens_cuts_the_answer_and_says_so():
    for field in ("max_tokens", "max_completion_tokens"):
        [choice] = answer(asked(**{field: 3})).json()["choices"]
        assert (len(choice["message"]["content"].split()), choice["finish_reason"]) == (3, "length")


def test_several_choices_are_given_whole_and_streamed():
    assert [choice["index"] for choice in answer(asked(n=3)).json()["choices"]] == [0, 1, 2]
    events = [json.loads(data) for data in answer(asked(n=2, stream=True), words=4).data()[:-1]]
    finished = [event["choices"][0]["index"] for event in events if event["choices"][0]["finish_reason"]]
    assert finished == [0, 1]


def test_a_forced_tool_is_called_with_arguments_that_fit_its_schema():
    forced = {"type": "function", "function": {"name": "weather"}}

    [choice] = answer(asked(tools=TOOLS, tool_choice=forced)).json()["choices"]

    [called] = choice["message"]["tool_calls"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert called["function"]["name"] == "weather"
    assert json.loads(called["function"]["arguments"]) == {"city": "simulated", "days": 2}


def test_a_tool_call_is_streamed_in_pieces_that_join_to_the_same_arguments():
    forced = {"type": "function", "function": {"name": "weather"}}

    came = answer(asked(tools=TOOLS, tool_choice=forced, stream=True))

    deltas = [json.loads(data)["choices"][0]["delta"] for data in came.data()[:-1]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("call_simulated_0", "weather")
    arguments = "".join(call["function"]["arguments"] for call in calls)
    assert len(calls) > 2
    assert json.loads(arguments) == {"city": "simulated", "days": 2}


@pytest.mark.parametrize(
    ("text", "fields", "called"),
    [
        ("what is the weather?", {}, ["weather"]),
        ("the weather, and the clock", {}, ["weather", "clock"]),
        ("the weather, and the clock", {"parallel_tool_calls": False}, ["weather"]),
        ("hello", {}, []),
        ("hello", {"tool_choice": "required"}, ["weather"]),
        ("the weather", {"tool_choice": "none"}, []),
    ],
)
def test_a_tool_that_the_prompt_names_is_called(text, fields, called):
    [choice] = answer(asked(text, tools=TOOLS, **fields)).json()["choices"]

    assert [call["function"]["name"] for call in choice["message"].get("tool_calls", ())] == called


def test_after_a_tools_result_it_answers_in_words_so_that_a_loop_of_tools_ends():
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "the weather"}]},
        {"role": "tool", "tool_call_id": "call_simulated_0", "content": "weather: rain"},
    ]

    def calls(messages):
        body = json.dumps({"model": "m", "messages": messages, "tools": TOOLS}).encode()
        return answer(body).json()["choices"][0]["message"].get("tool_calls")

    assert calls(messages) is None
    assert calls(messages[:1])[0]["function"]["name"] == "weather"


def test_an_answer_in_a_given_schema_fits_it():
    schema = {
        "$defs": {"Point": {"type": "object", "properties": {"x": {"type": "number"}}}},
        "type": "object",
        "properties": {
            "at": {"$ref": "#/$defs/Point"},
            "tags": {"type": "array", "minItems": 1, "items": {"type": "string"}},
            "none": {"type": ["null", "string"]},
            "some": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "kind": {"const": "k"},
            "more": {"type": "array"},
            "lost": {"$ref": "#/$defs/Nowhere"},
        },
    }
    form = {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}

    content = answer(asked(response_format=form)).json()["choices"][0]["message"]["content"]

    assert json.loads(content) == {
        "at": {"x": 1},
        "tags": ["simulated"],
        "none": None,
        "some": True,
        "kind": "k",
        "more": [],
        "lost": None,
    }


def test_a_schema_that_contains_itself_is_followed_a_few_times():
    tree = {"type": "object", "properties": {name: {"$ref": "#"} for name in ("left", "right")}}
    form = {"type": "json_schema", "json_schema": {"schema": tree}}

    content = answer(asked(response_format=form)).json()["choices"][0]["message"]["content"]

    assert json.loads(content)["left"]["right"]["left"]["right"] is None


def test_json_without_a_schema_is_an_object_and_text_is_text():
    def content(kind):
        return answer(asked(response_format={"type": kind})).json()["choices"][0]["message"]["content"]

    assert json.loads(content("json_object")) == {"simulated": True, "by": "primary"}
    assert content("text").startswith("Simulated")


def test_embeddings_depend_on_text_and_seed_alone_and_have_length_one():
    def vectors(seed=0, **fields):
        came = answer(json.dumps({"model": "e", **fields}).encode(), "/v1/embeddings", seed=seed).json()
        return [row["embedding"] for row in came["data"]]

    one, two = vectors(input=["a", "b"], dimensions=8)
    assert len(one) == 8
    assert abs(sum(number * number for number in one) - 1) < 1e-9
    assert [one] == vectors(input="a", dimensions=8) != [two]
    assert [one] != vectors(seed=1, input="a", dimensions=8)
    assert len(vectors(input=[1, 2, 3])) == 1
    assert len(vectors(input=[[1, 2], [3]])) == 2
    [text] = vectors(input="a", dimensions=8, encoding_format="base64")
    assert struct.unpack("<8f", base64.b64decode(text)) == pytest.approx(one)


def test_models_are_listed_without_a_call_being_counted():
    async def steps():
        async with SimulatedProvider(models=("large", "small")) as provider:
            came = await call(provider.port, b"", "/any/base/models?limit=2", method="GET")
            return came, provider.calls, provider.looks

    came, calls, looks = run(steps())
    assert [row["id"] for row in came.json()["data"]] == ["large", "small"]
    assert (calls, looks) == (0, 1)


def test_more_different_prompts_than_it_keeps_answers_for_are_answered_too(monkeypatch):
    monkeypatch.setattr("leeward.gateway.simulated_answers._KEPT_MAX", 2)

    async def steps():
        async with SimulatedProvider() as provider:
            return [(await call(provider.port, asked(model=name))).json()["model"] for name in "abcd"]

    assert run(steps()) == list("abcd")


# What it refuses


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":' + b"[" * 5000,
        b"{",
        b"[]",
        b'{"model": "m"}',
        b'{"model": 1, "messages": []}',
        b"\xff\xfe",
        b"",
    ],
)
def test_what_is_no_request_is_refused_in_openais_form(body):
    came = answer(body)

    assert came.status == 400
    assert came.json()["error"]["type"] == "invalid_request_error"
    assert came.json()["error"]["message"].startswith("Simulated: ")


SCHEMA_WORDS = (  # noqa: SIM905 - words
    "type function name parameters properties items enum anyOf $ref minItems json_schema schema role content "
    "include_usage default const x"
).split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=6) | st.sampled_from(["object", "#/", "tool"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(SCHEMA_WORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = [
    "n",
    "max_tokens",
    "tools",
    "tool_choice",
    "response_format",
    "stream",
    "stream_options",
    "input",
    "dimensions",
]


@given(
    path=st.sampled_from(["/chat/completions", "/embeddings", "/messages"]),
    messages=JSON | st.just([{"role": "user", "content": "tool"}]),
    fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
    tool=st.none() | JSON,
)
def test_whatever_is_asked_there_is_an_answer_or_a_refusal(path, messages, fields, tool):
    asked = {"model": "m", "messages": messages, **fields}
    if tool is not None:
        asked["tools"] = [{"type": "function", "function": {"name": "tool", "parameters": {"type": tool, "x": tool}}}]
        asked["response_format"] = {"type": "json_schema", "json_schema": {"schema": {"properties": {"x": tool}}}}
    provider = SimulatedProvider()

    script = provider.script(Received("POST", path, [], json.dumps(asked).encode(), 0.0))

    assert script.writes[0][:13] in {b"HTTP/1.1 200 ", b"HTTP/1.1 400 "}
    assert (script.end, provider.calls) == ("keep", 1)


def test_another_address_is_not_found():
    assert answer(b"", "/v1/audio").status == 404
    assert answer(b"", "/v1/chat/completions", method="GET").status == 404


def test_what_is_not_http_is_refused_and_the_connection_ends():
    async def steps():
        async with SimulatedProvider() as provider, connected(provider) as (reader, writer):
            writer.write(b"hello?\r\n\r\n")
            return await read(reader)

    came = run(steps())
    assert (came.status, came.how) == (400, "end")


def test_an_upgrade_is_refused():
    async def steps():
        async with SimulatedProvider() as provider, connected(provider) as (reader, writer):
            more = "connection: upgrade\r\nupgrade: websocket\r\n"
            writer.write(request("/v1/models", b"", method="GET", more=more))
            return await read(reader)

    assert b"400" in run(steps()).head + run(steps()).body


def test_a_request_that_is_too_large_is_refused_and_the_connection_ends(monkeypatch):
    assert REQUEST_BYTES_MAX == 64 << 20
    monkeypatch.setattr("leeward.gateway.simulated.REQUEST_BYTES_MAX", 1000)

    async def steps():
        async with SimulatedProvider() as provider:
            came = await call(provider.port, asked("x" * 1000))
            return came, provider.calls

    came, calls = run(steps())
    assert (came.status, calls) == (413, 0)


def test_a_caller_that_waits_for_100_continue_gets_it():
    async def steps():
        async with SimulatedProvider() as provider, connected(provider) as (reader, writer):
            body = asked()
            head, _, _ = request("/v1/chat/completions", body, more="Expect: 100-continue\r\n").partition(b"{")
            writer.write(head)
            went_on = await reader.readuntil(b"\r\n\r\n")
            writer.write(body)
            return went_on, await reader.readuntil(b"\r\n\r\n")

    went_on, head = run(steps())
    assert went_on.startswith(b"HTTP/1.1 100 ")
    assert head.startswith(b"HTTP/1.1 200 ")


# How it fails

# mode → (how the connection ends, status, whether the body is whole), for a whole answer and for a stream
ENDS = {
    "429": [("end", 429, True)] * 2,
    "500": [("end", 500, True)] * 2,
    "503": [("end", 503, True)] * 2,
    "401": [("end", 401, True)] * 2,
    "400": [("end", 400, True)] * 2,
    "hang": [("silence", 0, False)] * 2,
    "reset": [("reset", 0, False)] * 2,
    "reset-mid": [("reset", 200, False)] * 2,
    "malformed": [("end", 200, True)] * 2,
    "empty": [("end", 200, True)] * 2,
    "slow-first-token": [("end", 200, True)] * 2,
    "stall": [("silence", 200, False)] * 2,
    "cut": [("end", 200, False), ("end", 200, True)],  # a stream is cut so that only its missing finish tells
    "error-mid": [("end", 200, True)] * 2,
    "slow": [("end", 200, True)] * 2,
}


def test_every_fault_has_its_end_here():
    assert list(ENDS) == list(FAULTS)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("mode", FAULTS)
def test_a_fault_ends_the_connection_exactly_as_it_says(mode, loop):
    async def steps():
        async with SimulatedProvider("primary") as provider:
            provider.fault = Fault(mode=mode, delay_s=0.01)
            return [await call(provider.port, asked(stream=stream)) for stream in (False, True)]

    for came, expected in zip(run(steps(), LOOPS[loop]), ENDS[mode], strict=True):
        how, status, whole = expected
        assert came.how == how
        if status:
            assert (came.status, came.whole) == (status, whole)
        else:
            assert came.head == b""


def test_a_reset_in_mid_stream_lets_what_was_written_arrive():
    came = answer(asked(stream=True), fault=Fault(mode="reset-mid", after_events=5))

    assert len(came.texts()) == 5


@pytest.mark.parametrize("mode", ["cut", "stall", "error-mid"])
@pytest.mark.parametrize("after", [0, 1, 4, 1000])
def test_a_fault_in_mid_stream_comes_after_as_many_pieces_as_it_says(mode, after):
    came = answer(asked(stream=True), fault=Fault(mode=mode, after_events=after))

    assert len(came.texts()) == min(after, 24)
    assert b"[DONE]" not in came.body
    assert b'"finish_reason":"stop"' not in came.body
    assert (b'"error"' in came.body) == (mode == "error-mid")


def test_a_refusal_for_too_many_calls_says_when_to_come_again_and_each_call_is_counted():
    async def steps():
        async with SimulatedProvider() as provider:
            provider.fault = Fault(mode="429", retry_after_s=20)
            came = [await call(provider.port, asked()) for _ in range(3)]
            return came, provider.calls

    came, calls = run(steps())
    assert {(each.status, each.header("retry-after"), each.header("retry-after-ms")) for each in came} == {
        (429, "20", "20000")
    }
    assert calls == 3


def test_an_outage_takes_the_list_of_models_with_it_and_a_refusal_does_not():
    async def steps():
        found = {}
        async with SimulatedProvider() as provider:
            for mode in FAULTS:
                provider.fault = mode
                came = await call(provider.port, b"", "/v1/models", method="GET")
                found[mode] = came.how == "end" and came.status == 200
        return found

    assert run(steps()) == {mode: not row.everywhere for mode, row in FAULTS.items()}


def messages(**fields):
    asked = {"model": "c", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
    return json.dumps({**asked, **fields}).encode()


def test_to_anthropics_dialect_it_answers_in_the_same_words_whole_and_streamed():
    whole = answer(messages(), "/v1/messages", words=6).json()
    came = answer(messages(stream=True), "/v1/messages", words=6)

    assert (whole["type"], whole["stop_reason"], whole["usage"]["output_tokens"]) == ("message", "end_turn", 6)
    assert whole["content"][0]["text"].startswith("Simulated answer from primary: ")
    events = [json.loads(data.partition(b"\ndata: ")[2]) for data in came.data()]
    assert [event["type"] for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 6,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert "".join(event["delta"]["text"] for event in events[2:8]) == whole["content"][0]["text"]
    assert came.data()[0].startswith(b"event: message_start\n")
    assert answer(messages(max_tokens=2), "/v1/messages").json()["stop_reason"] == "max_tokens"


def test_in_anthropics_dialect_it_fails_like_in_the_other():
    assert answer(messages(), "/v1/messages", fault="empty").json()["content"] == []
    assert b"content_block" not in answer(messages(stream=True), "/v1/messages", fault="empty").body
    cut = answer(messages(stream=True), "/v1/messages", fault=Fault(mode="cut", after_events=2))
    assert (cut.how, cut.body.count(b"text_delta"), b"message_stop" in cut.body) == ("end", 2, False)


def test_embeddings_fail_like_any_whole_answer():
    body = json.dumps({"model": "e", "input": "a"}).encode()

    assert answer(body, "/v1/embeddings", fault="empty").json()["data"] == []
    assert answer(body, "/v1/embeddings", fault="reset").how == "reset"


def test_a_fault_is_switched_while_it_runs_and_a_call_that_runs_goes_on():
    async def steps():
        async with SimulatedProvider() as provider, connected(provider) as (reader, writer):
            provider.fault = "hang"
            writer.write(request("/v1/chat/completions", asked()))
            await until(lambda: provider.calls == 1)
            provider.fault = None
            good = await call(provider.port, asked())
            return good.status, (await read(reader)).how

    assert run(steps()) == (200, "silence")


def test_a_fault_ends_by_itself_after_its_time():
    clock = HeldClock()
    provider = SimulatedProvider(clock=clock)
    assert provider.fault_ends_s is None

    provider.break_for("500", 30)
    clock.pass_s(10)
    assert (provider.fault.mode, provider.fault_ends_s) == ("500", 20)
    clock.pass_s(20)
    assert (provider.fault, provider.fault_ends_s) == (None, None)


def test_a_share_of_the_calls_fails_the_same_ones_for_the_same_seed():
    async def steps(seed):
        async with SimulatedProvider(seed=seed) as provider:
            provider.fault = Fault(mode="500", share=0.5)
            return [(await call(provider.port, asked())).status for _ in range(40)]

    one, same, other = run(steps(1)), run(steps(1)), run(steps(2))
    assert one == same != other
    assert 10 < one.count(500) < 30


def test_a_fault_that_there_is_not_is_refused_with_the_nearest():
    provider = SimulatedProvider()

    with pytest.raises(ConfigError) as refused:
        provider.fault = "stal"
    assert "did you mean stall?" in refused.value.fix
    assert provider.fault is None


# Connections, and what is counted


def test_a_connection_is_used_again_and_requests_that_come_together_are_answered_in_turn():
    async def steps():
        async with SimulatedProvider() as provider, connected(provider) as (reader, writer):
            one = request("/v1/chat/completions", asked(stream=True), more="")
            last = request("/v1/models", b"", method="GET")
            writer.write(one + one + last)
            came = await read(reader)
            return came, provider.calls, provider.looks, provider.connections

    came, calls, looks, connections = run(steps())
    assert came.body.count(b"[DONE]") == 2
    assert came.body.index(b'"object":"list"') > came.body.rindex(b"[DONE]")
    assert (calls, looks, connections, came.how) == (2, 1, 1, "end")


def test_a_request_in_pieces_is_put_together():
    async def steps():
        async with SimulatedProvider() as provider, connected(provider) as (reader, writer):
            for byte in request("/v1/chat/completions", asked()):
                writer.write(bytes([byte]))
                await asyncio.sleep(0)
            came = await read(reader)
            return came, provider.received[0]

    came, received = run(steps())
    assert came.status == 200
    assert (received.method, received.path, received.body) == ("POST", "/v1/chat/completions", asked())


def test_the_latest_requests_can_be_looked_at_and_no_more_are_kept_than_it_was_told():
    async def steps():
        async with SimulatedProvider(received_max=2, clock=HeldClock()) as provider, connected(provider) as (_, writer):
            for number in range(3):
                more = f"Authorization: Bearer key{number}\r\n"
                writer.write(request("/v1/chat/completions", asked(), more=more))
            await until(lambda: provider.calls == 3)
            return list(provider.received)

    received = run(steps())
    assert [each.header("authorization") for each in received] == ["Bearer key1", "Bearer key2"]
    assert received[0].header("x-none") == ""
    assert received[0].at_s == HeldClock().monotonic_s()


def test_callers_that_leave_before_the_end_are_counted_and_the_others_are_not():
    async def steps():
        async with SimulatedProvider() as provider:
            assert (await call(provider.port, asked(stream=True))).whole
            await until(lambda: provider.open == 0)
            assert provider.cancelled == 0
            provider.fault = "stall"
            async with connected(provider) as (reader, writer):
                writer.write(request("/v1/chat/completions", asked(stream=True)))
                await reader.readuntil(b"data: ")
                assert provider.open == 1
            await until(lambda: provider.open == 0)
            return provider.cancelled, provider.connections

    assert run(steps()) == (1, 2)


def test_stopping_ends_connections_and_frees_the_port():
    async def steps():
        provider = SimulatedProvider()
        port = await provider.start()
        provider.fault = "hang"
        async with connected(provider) as (reader, writer):
            writer.write(request("/v1/chat/completions", asked()))
            await until(lambda: provider.calls == 1)
            await provider.stop()
            came = await read(reader)
            again = SimulatedProvider()
            assert await again.start(port) == port
            await again.stop()
            await again.stop()
        return came.how, provider.open, provider.cancelled

    how, opened, cancelled = run(steps())
    assert how in {"end", "reset"}
    assert (opened, cancelled) == (0, 0)


def test_a_reader_that_is_slow_gets_a_long_stream_whole_and_it_does_not_pile_up():
    async def steps():
        async with SimulatedProvider(words=40_000, events_per_write=100) as provider:
            reader, writer = await asyncio.open_connection("127.0.0.1", provider.port, limit=1024)
            writer.write(request("/v1/chat/completions", asked(stream=True)))
            await until(lambda: provider.calls == 1)
            [connection] = provider._connections
            await until(lambda: connection._held)
            held = connection._transport.get_write_buffer_size()
            came = await read(reader)
            writer.transport.abort()
            return held, len(came.texts()), came.how

    held, words, how = run(steps())
    assert held < 1 << 18
    assert (words, how) == (40_000, "end")


def test_several_events_go_in_one_write_where_it_is_told_so():
    one = answer(asked(stream=True), words=16)
    eight = answer(asked(stream=True), words=16, events_per_write=8)

    assert eight.texts() == one.texts()
    # Opening, words and finish, in groups; then what ends the stream, and the last chunk.
    assert [came.body.count(b"\r\n") // 2 for came in (one, eight)] == [18 + 2, 3 + 2]


def test_a_stream_with_a_pace_is_the_same_stream():
    assert answer(asked(stream=True), words=4, pace_s=0.001).texts() == answer(asked(stream=True), words=4).texts()


def test_a_name_that_no_header_can_hold_is_made_one_and_stands_whole_in_the_answer():
    async def steps():
        async with SimulatedProvider("zürich\r\nx: y") as provider:
            return await call(provider.port, asked())

    came = run(steps())
    assert came.header("x-simulated") == "z?rich??x: y"
    assert came.status == 200
    assert "zürich" in came.json()["choices"][0]["message"]["content"]
