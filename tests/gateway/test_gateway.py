"""The gateway in process, as a program uses it: async and blocking, from threads, after a fork, left early."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest

from gateways import Notes, row_of, settings_of, settled
from leeward.clock import SystemClock
from leeward.gateway.background import BACKGROUND
from leeward.gateway.failures import AllFailed, StreamCut
from leeward.gateway.faults import Fault
from leeward.gateway.gateway import Gateway
from leeward.gateway.simulated import SimulatedProvider
from leeward.wire.chat import RequestInvalid

HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


@contextlib.asynccontextmanager
async def gateway_of(*names, provider=None, **settings):
    """A gateway in front of providers of these names."""
    async with contextlib.AsyncExitStack() as stack:
        providers = [SimulatedProvider(name, **(provider or {})) for name in names or ("a", "b")]
        for each in providers:
            await stack.enter_async_context(each)
        gateway = Gateway(
            settings_of(*map(row_of, providers), **settings),
            observer=Notes(),
            clock=SystemClock(),
            random=lambda: 0.5,
        )
        try:
            yield gateway, *providers
        finally:
            await gateway.close()


def run(steps):
    return asyncio.run(steps())


# -- asynchronous


def test_a_reply_and_a_stream_say_the_same():
    async def steps():
        async with gateway_of() as (gateway, a, b):
            del a, b
            reply = await gateway.chat(HELLO)
            assert reply.content.startswith("Simulated answer from a")
            assert (reply.provider, reply.attempts, reply.degraded) == ("a", 1, "")
            assert reply.usage is not None
            pieces = [chunk async for chunk in gateway.stream(HELLO)]
            assert "".join(chunk.content for chunk in pieces).startswith("Simulated answer from a")
            assert {chunk.provider for chunk in pieces} == {"a"}

    run(steps)


def test_a_request_that_cannot_be_served_is_refused_before_any_call():
    async def steps():
        async with gateway_of() as (gateway, a, b):
            with pytest.raises(RequestInvalid):
                await gateway.chat({"model": "chat"})
            with pytest.raises(RequestInvalid):
                async for _ in gateway.stream({**HELLO, "api_base": "http://evil.example"}):
                    pass
            assert a.calls + b.calls == 0

    run(steps)


def test_failures_are_exceptions_that_say_what_to_do():
    async def steps():
        async with gateway_of("a") as (gateway, a):
            a.fault = "malformed"
            with pytest.raises(AllFailed) as caught:
                await gateway.chat(HELLO)
            assert caught.value.request_id.startswith("req_")
            with pytest.raises(AllFailed):
                async for _ in gateway.stream(HELLO):
                    pass
            a.fault = Fault(mode="cut", after_events=2)
            said = []

            async def read():
                async for chunk in gateway.stream(HELLO):
                    said.append(chunk.content)

            with pytest.raises(StreamCut):
                await read()
            assert "".join(said)

    run(steps)


def test_g8_leaving_a_stream_early_closes_the_providers_connection():
    async def steps():
        async with gateway_of("a", provider={"words": 10_000, "pace_s": 0.001}) as (gateway, a):
            stream = gateway.stream(HELLO)
            async for _ in stream:
                break
            await stream.aclose()
            await settled(lambda: not a.open)
            async for _ in gateway.stream(HELLO):  # and without a word, by letting go of it
                break
            await settled(lambda: not a.open)
            assert a.cancelled == 2
            assert [record.outcome for record in gateway.core.observer.requests] == ["cancelled"] * 2

    run(steps)


def test_g8_a_cancelled_reader_closes_the_providers_connection():
    async def steps():
        async with gateway_of("a") as (gateway, a):
            a.fault = "stall"

            async def read():
                async for _ in gateway.stream(HELLO):
                    pass

            reading = asyncio.ensure_future(read())
            await settled(lambda: a.calls)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await settled(lambda: not a.open)

    run(steps)


def test_g9_a_reader_who_is_slow_holds_the_provider_back():
    async def steps():
        async with gateway_of("a", provider={"words": 100_000, "events_per_write": 50}) as (gateway, a):
            stream = gateway.stream(HELLO)
            await anext(stream)
            await asyncio.sleep(0.1)
            count = 1
            async for _ in stream:
                count += 1
            assert count > 100_000
            assert a.cancelled == 0

    run(steps)


# -- from a file


def test_it_is_made_from_a_file(tmp_path):
    file = tmp_path / "leeward.toml"
    file.write_text(
        '[[gateway.providers]]\nname = "a"\nkind = "simulated"\nmodels = { chat = "m" }\n',
        encoding="utf-8",
    )

    async def steps():
        gateway = Gateway.from_config(file, environ={"HOME": str(tmp_path)})
        try:
            return (await gateway.chat(HELLO)).provider, [status.name for status in gateway.providers()]
        finally:
            await gateway.close()

    assert run(steps) == ("a", ["a"])


# -- blocking


@contextlib.contextmanager
def blocking(*names, provider=None, **settings):
    """The same for code that is not asynchronous: providers and gateway on the background's loop."""
    stack = gateway_of(*names, provider=provider, **settings)
    yield BACKGROUND.run(stack.__aenter__())
    BACKGROUND.run(stack.__aexit__(None, None, None))


def test_chat_and_stream_without_a_loop():
    with blocking() as (gateway, a, _):
        assert gateway.chat_sync(HELLO).provider == "a"
        text = "".join(chunk.content for chunk in gateway.stream_sync(HELLO))
        assert text.startswith("Simulated answer from a")
        a.fault = "malformed"
        assert gateway.chat_sync(HELLO).provider == "b"
        with pytest.raises(RequestInvalid):
            gateway.chat_sync({})
        with pytest.raises(RequestInvalid):
            next(iter(gateway.stream_sync({})))


def test_many_threads_share_the_connections():
    with blocking("a") as (gateway, a):
        said = []

        def work():
            for _ in range(10):
                said.append(gateway.chat_sync(HELLO).provider)
                said.append("".join(chunk.content for chunk in gateway.stream_sync(HELLO))[:9])

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(set(said)) == ["Simulated", "a"]
        assert len(said) == 160
        assert a.connections <= 8


def test_within_a_running_loop_the_blocking_calls_work_too():
    with blocking("a") as (gateway, _):

        async def steps():
            return gateway.chat_sync(HELLO).provider

        assert run(steps) == "a"


def test_g8_leaving_a_blocking_stream_early_closes_the_providers_connection():
    with blocking("a", provider={"words": 10_000, "pace_s": 0.001}) as (gateway, a):
        stream = gateway.stream_sync(HELLO)
        next(stream)
        stream.close()
        BACKGROUND.run(settled(lambda: not a.open))
        for _ in gateway.stream_sync(HELLO):
            break
        gc.collect()
        BACKGROUND.run(settled(lambda: not a.open))
        assert a.cancelled == 2


def python(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has two simulated providers, for at most some seconds."""
    preamble = """
        import os, sys, threading
        import msgspec
        from leeward.gateway.gateway import Gateway
        from leeward.settings.gateway import Gateway as Settings
        rows = [{"name": name, "kind": "simulated", "models": {"chat": "m"}} for name in "ab"]
        gateway = Gateway(msgspec.convert({"providers": rows}, Settings))
        HELLO = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(preamble) + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, "LEEWARD_DISABLED": "1"},
    )


def test_a_program_that_leaves_with_an_unfinished_stream_ends():
    done = python(
        """
        stream = gateway.stream_sync(HELLO)
        print(next(stream).provider)
        """
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "a", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_loop_of_its_own():
    done = python(
        """
        print(gateway.chat_sync(HELLO).provider, flush=True)
        child = os.fork()
        if child == 0:
            print(gateway.chat_sync(HELLO).provider, flush=True)
            print("".join(chunk.content for chunk in gateway.stream_sync(HELLO))[:9], flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(gateway.chat_sync(HELLO).provider, status, flush=True)
        """
    )
    assert done.stdout.split("\n") == ["a", "a", "Simulated", "a 0", ""]
    assert done.returncode == 0
