"""The gateway: a request in, an answer out, whatever happens to the providers.

    gateway = Gateway.from_config("leeward.toml")
    reply = await gateway.chat({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]})
    print(reply.content)

Promises  a request with one working provider left gets a good answer; a stream that is cut says so; an answer that is
          degraded says that it is, and how.
Limits    a Gateway's state is shared by all that use it in this process; calls from several event loops at once are
          possible, each loop then has its own connections. The blocking calls share one loop (`background`).
"""

from __future__ import annotations

import asyncio
import os
import random as chance
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec

from leeward.clock import SystemClock
from leeward.gateway.background import BACKGROUND
from leeward.gateway.core import Core
from leeward.gateway.failures import StreamCut
from leeward.gateway.records import Caller
from leeward.gateway.replies import Chunk, ChunkStream, Reply
from leeward.gateway.sentences import sentence
from leeward.wire.chat import RequestInvalid
from leeward.wire.openai_requests import RequestLimits, decode_request

if TYPE_CHECKING:
    from pathlib import Path

    from leeward.clock import Clock
    from leeward.gateway.circuits import ProviderStatus
    from leeward.gateway.records import Observer
    from leeward.settings.gateway import Gateway as Settings

__all__ = ["Gateway"]

REQUEST_ID_BYTES: Final = 12
_ENCODE = msgspec.json.Encoder().encode


class Gateway:
    """Chat with whichever provider answers.

    Args:
        settings: the section `[gateway]`.
        observer: told of every attempt and request; default: the module-level telemetry client, if there is one.
        clock: time; for tests.
        random: a number in [0, 1); for tests.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        observer: Observer | None = None,
        clock: Clock | None = None,
        random: Callable[[], float] = chance.random,
    ) -> None:
        if observer is None:
            from leeward.gateway.observe import default_observer  # noqa: PLC0415 - the telemetry client, not always wanted

            observer = default_observer()
        self.core = Core(settings, observer=observer, clock=clock or SystemClock(), random=random)

    @classmethod
    def from_config(cls, file: str | Path | None = None, *, environ: Mapping[str, str] = os.environ) -> Gateway:
        """A gateway as a configuration file says.

        Args:
            file: `leeward.toml`, or one like it; default: where leeward looks for it.
            environ: variables that win over the file, and hold `env:` keys.

        Raises:
            ConfigError: a setting is wrong; says which, where and what to do.
        """
        from leeward.settings.find import config_file  # noqa: PLC0415 - only those who read files need it
        from leeward.settings.load import load  # noqa: PLC0415

        found = file if file is not None else config_file(None, environ)
        return cls(load({}, environ, found).settings.gateway)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def chat(self, request: Mapping[str, Any]) -> Reply:
        """Answer a request in the form of Chat Completions.

        Raises:
            GatewayError: there is no answer; it has `code`, `status`, `retry_after_s` and a sentence for people.
            RequestInvalid: the request cannot be served as it is; `param` names the field.
        """
        answered = await self.core.respond(self._decoded(request, stream=False), _caller())
        return Reply(answered)

    async def stream(self, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
        """The same, in pieces as they come. Leaving the loop early closes the provider's connection.

        Raises:
            GatewayError: there is no answer, or (`StreamCut`) it broke off; what came before was given out.
            RequestInvalid: the request cannot be served as it is.
        """
        chunks = ChunkStream()
        decoded = self._decoded(request, stream=True)
        task = asyncio.ensure_future(self.core.respond_stream(decoded, _caller(), chunks))
        task.add_done_callback(chunks.finished)
        try:
            async for chunk in chunks:
                yield chunk
            record = await task
            if record.outcome == "cut":
                raise StreamCut(
                    sentence("stream_interrupted", self.core.routes.settings.language),
                    request_id=record.caller.request_id,
                    attempts=len(record.attempts),
                )
        finally:
            task.cancel()

    def chat_sync(self, request: Mapping[str, Any]) -> Reply:
        """`chat` for code that is not asynchronous; from any thread."""
        return BACKGROUND.run(self.chat(request))

    def stream_sync(self, request: Mapping[str, Any]) -> Iterator[Chunk]:
        """`stream` for code that is not asynchronous; from any thread."""
        return BACKGROUND.iterate(self.stream(request))

    def providers(self) -> list[ProviderStatus]:
        """How each provider is: health, breaker, limits, latency."""
        return self.core.providers()

    def close_sync(self) -> None:
        """Close the connections of the blocking calls."""
        BACKGROUND.run(self.close())

    async def close(self) -> None:
        """Close the connections. Running requests fail."""
        await self.core.close()

    def _decoded(self, request: Mapping[str, Any], *, stream: bool) -> Any:
        settings = self.core.routes.settings
        limits = RequestLimits(settings.choices_max, settings.output_tokens_max, settings.request_bytes_max)
        try:
            body = _ENCODE({**request, "stream": stream})
        except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError is a ValueError
            raise RequestInvalid(f"The request cannot be written as JSON: {error}", code="invalid_json") from None
        return decode_request(body, "chat", limits)


def _caller() -> Caller:
    return Caller(request_id=f"req_{os.urandom(REQUEST_ID_BYTES).hex()}")
