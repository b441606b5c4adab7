"""What a program in the same process gets: a whole reply, or chunks as they come."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.wire.sse import Events, data_of

if TYPE_CHECKING:
    from leeward.gateway.core import Answered
    from leeward.gateway.sinks import Headers
    from leeward.wire.chat import Usage

__all__ = ["Chunk", "ChunkStream", "Reply"]

CHUNKS_WAITING_MAX: Final = 256
_DECODE = msgspec.json.Decoder().decode
_DONE: Final = b"[DONE]"


class Reply:
    """A whole answer. `data` is all of it in the form of Chat Completions."""

    def __init__(self, answered: Answered) -> None:
        self.body = answered.body
        self.provider = answered.provider
        self.attempts = answered.attempts
        self.degraded = answered.degraded
        self.age_s = answered.age_s
        self.usage: Usage | None = answered.usage

    @cached_property
    def data(self) -> dict[str, Any]:
        """The answer's JSON."""
        data: dict[str, Any] = _DECODE(self.body)
        return data

    @property
    def message(self) -> dict[str, Any]:
        """The first choice's message: content, tool calls, refusal."""
        choices = self.data.get("choices") or [{}]
        message: dict[str, Any] = choices[0].get("message") or {}
        return message

    @property
    def content(self) -> str:
        """The first choice's text; "" if it is none, but a tool call."""
        content = self.message.get("content")
        return content if isinstance(content, str) else ""

    def __repr__(self) -> str:
        degraded = f", degraded={self.degraded!r}" if self.degraded else ""
        return f"Reply({self.content[:60]!r}, provider={self.provider!r}{degraded})"


class Chunk:
    """A piece of an answer. `data` is the piece in the form of Chat Completions."""

    __slots__ = ("data", "degraded", "provider")

    def __init__(self, data: dict[str, Any], provider: str, degraded: str) -> None:
        self.data = data
        self.provider = provider
        self.degraded = degraded

    @property
    def delta(self) -> dict[str, Any]:
        """What is new in the first choice."""
        choices = self.data.get("choices") or [{}]
        delta: dict[str, Any] = choices[0].get("delta") or {}
        return delta

    @property
    def content(self) -> str:
        """The text that is new; often ""."""
        content = self.delta.get("content")
        return content if isinstance(content, str) else ""

    def __repr__(self) -> str:
        return f"Chunk({self.content!r})"


class ChunkStream:
    """A sink that is read by `async for`. When the reader is slow, the provider is, too."""

    def __init__(self) -> None:
        self.on_room: Callable[[], None] = _nothing
        self._events = Events()
        self._waiting: deque[Chunk] = deque()
        self._ended = False
        self._news: asyncio.Future[None] | None = None
        self._provider = ""
        self._degraded = ""

    def head(self, status: int, headers: Headers) -> None:
        """Begin."""
        del status
        for name, value in headers:
            if name == b"x-leeward-provider":
                self._provider = value.decode()
            elif name == b"x-leeward-degraded":
                self._degraded = value.decode()

    def data(self, data: bytes) -> bool:
        """Take whole events."""
        for event in self._events.feed(data):
            told = data_of(event)
            if told and told != _DONE:
                chunk = _decoded(told)
                if "error" not in chunk:  # the caller gets that as an exception
                    self._waiting.append(Chunk(chunk, self._provider, self._degraded))
        self._wake()
        return len(self._waiting) < CHUNKS_WAITING_MAX

    def end(self) -> None:
        """Nothing comes any more."""
        self._ended = True
        self._wake()

    def finished(self, task: asyncio.Future[Any]) -> None:
        """The request's task has ended, if it told so or not."""
        if not task.cancelled():
            task.exception()  # seen, though the reader may have left
        self.end()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def __aiter__(self) -> AsyncIterator[Chunk]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
                if len(self._waiting) == CHUNKS_WAITING_MAX // 2:
                    self.on_room()
            if self._ended:
                return
            self._news = asyncio.get_running_loop().create_future()
            await self._news


def _decoded(told: bytes) -> dict[str, Any]:
    """A chunk that has passed as one. Strict JSON is more than that: half a surrogate pair, a number beyond all bounds."""
    try:
        chunk: dict[str, Any] = _DECODE(told)
    except msgspec.DecodeError:
        chunk = json.loads(told)
    return chunk


def _nothing() -> None:
    """There is nobody to tell."""
