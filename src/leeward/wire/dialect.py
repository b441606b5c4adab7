"""What every dialect of a provider can do: requests out, answers in. The gateway knows providers by this alone.

All methods are pure: bytes and values in, bytes and values out. An implementation keeps no state; a reader is the state
of one stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from leeward.wire.chat import Answer, ChatRequest, Delta, Operation, ProviderError, Usage

__all__ = ["AnswerReader", "Dialect"]


class AnswerReader(Protocol):
    """One streamed answer as it arrives, in whatever pieces; what goes on to the caller are whole events.

    Nothing at or behind an error is given out, nor is `[DONE]`: who drives the stream decides how it ends.
    """

    content: bool  # something of an answer has been seen: text, reasoning, a refusal, a tool call
    finish: str  # of the first choice that told one, "" before
    done: bool  # the provider has said that this is all
    error: ProviderError | None
    usage: Usage | None
    model: str
    id: str
    events: int  # whole events with data, so far
    deltas: list[Delta]  # only where they were asked for; the driver may take them out

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return what may go on to the caller, in the form of Chat Completions."""

    def end(self) -> str:
        """Whether the stream was a whole answer: "", or "error", "cut_event", "no_finish", "no_content"."""


class Dialect(Protocol):
    """How the providers of one kind are spoken to."""

    def path(self, operation: Operation) -> str:
        """What follows the base address, from its slash on."""

    def encode(
        self,
        request: ChatRequest,
        model: str,
        *,
        add_usage: bool = False,
        drop: frozenset[str] = frozenset(),
        rename: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body for a provider that calls the model *model*.

        Args:
            request: of the caller.
            model: the provider's own name for it.
            add_usage: a stream tells its usage, whether the caller asked for it or not.
            drop: fields that this provider does not take.
            rename: fields that this provider calls otherwise.

        Raises:
            RequestInvalid: a field cannot be translated; `param` names it.
        """

    def read_answer(self, body: bytes, operation: Operation, request: ChatRequest) -> Answer:
        """A whole answer, in the form of Chat Completions or Embeddings.

        Raises:
            BadAnswer: it is none.
        """

    def reader(self, request: ChatRequest, *, withhold_usage: bool = False, collect: bool = False) -> AnswerReader:
        """A reader for one streamed answer.

        Args:
            request: that is being answered.
            withhold_usage: the caller did not ask for the usage at the stream's end and does not get it.
            collect: keep what was said as `deltas`.
        """

    def read_error(self, status: int, body: bytes) -> ProviderError:
        """What an answer that is not a 2xx says, whatever its shape; never raises."""

    def read_models(self, body: bytes) -> list[str]:
        """The names in a provider's list of models.

        Raises:
            BadAnswer: it is no such list.
        """
