"""Anthropic Messages as a dialect: what the gateway asks of every kind of provider, answered by the translations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from leeward.clock import SystemClock
from leeward.wire.anthropic import answers, errors
from leeward.wire.anthropic.requests import encode_request
from leeward.wire.anthropic.stream import StreamReader
from leeward.wire.chat import Answer, BadAnswer, ChatRequest, Operation, ProviderError

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["ANTHROPIC", "AnthropicMessages"]

MS: Final = 1000


class AnthropicMessages:
    """Chat Completions on the caller's side, Anthropic Messages on the provider's.

    Embeddings are refused when they are encoded: Anthropic has none. Its answers bear no time of their creation; the
    clock gives the time at which they are read.
    """

    __slots__ = ("_clock",)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def path(self, operation: Operation) -> str:  # noqa: ARG002 - of the protocol
        """One path for all."""
        return "/messages"

    def encode(
        self,
        request: ChatRequest,
        model: str,
        *,
        add_usage: bool = False,  # noqa: ARG002 - of the protocol
        drop: frozenset[str] = frozenset(),
        rename: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body for Anthropic. Its streams always tell their usage, so `add_usage` asks for nothing more."""
        renamed = rename or {}
        fields = {renamed.get(name, name): raw for name, raw in request.fields.items() if name not in drop}
        return encode_request(request, model, fields)

    def read_answer(
        self,
        body: bytes,
        operation: Operation,
        request: ChatRequest,  # noqa: ARG002 - of the protocol
    ) -> Answer:
        """A whole answer in the form of Chat Completions."""
        if operation != "chat":
            raise BadAnswer("Anthropic has no embeddings")
        return answers.read_answer(body, self._now_s())

    def reader(self, request: ChatRequest, *, withhold_usage: bool = False, collect: bool = False) -> StreamReader:
        """A reader for one streamed answer; the usage is told only to a caller who asked for it."""
        wanted = request.needs.stream_usage and not withhold_usage
        return StreamReader(self._now_s(), usage_wanted=wanted, collect=collect)

    def read_error(self, status: int, body: bytes) -> ProviderError:
        """What an answer that is not a 2xx says."""
        return errors.read_error(status, body)

    def read_models(self, body: bytes) -> list[str]:
        """The names in the list of models."""
        return answers.read_models(body)

    def _now_s(self) -> int:
        return self._clock.wall_ms() // MS


ANTHROPIC: Final = AnthropicMessages(SystemClock())
