"""A streamed answer of Chat Completions as it arrives: whole events go on byte for byte, and each is looked at once.

Promises  what is given out are the provider's own bytes, in order, without `[DONE]`, without the usage where it is
          withheld, and without anything at or behind an error. An error is: an event that says so, in any shape that
          providers use; a finish that means failure; an event that is not JSON, not UTF-8, nested too deeply or too large.
Cost      about a microsecond an event: a typed decoder reads only the members that are looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from leeward.wire.chat import BadAnswer, Delta, ProviderError, ToolCallDelta, Usage
from leeward.wire.openai_answers import FAILED_FINISHES, FINISHES_WITHOUT_CONTENT, usage_of
from leeward.wire.openai_errors import error_in
from leeward.wire.sse import EVENT_BYTES_MAX, Events, event_of
from leeward.wire.text import repair

__all__ = ["StreamReader"]


class _Function(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(Struct, gc=False):
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: Any = None
    audio: Any = None
    images: Any = None


class _Choice(Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    x_groq: Any = None  # Groq tells its usage here


class _NamedChunk(_Chunk, gc=False):
    model: str | None = None
    id: str | None = None


_DECODE = msgspec.json.Decoder(_Chunk).decode
_DECODE_NAMED = msgspec.json.Decoder(_NamedChunk).decode
_DECODE_ANY = msgspec.json.Decoder().decode


class StreamReader:
    """One streamed answer; see `AnswerReader`, whose form it has."""

    __slots__ = (
        "_answered",
        "_collect",
        "_decode",
        "_events",
        "_is_ascii",
        "_open_choices",
        "_withheld_last",
        "_withhold_usage",
        "content",
        "deltas",
        "done",
        "error",
        "events",
        "finish",
        "id",
        "model",
        "usage",
    )

    def __init__(
        self, *, withhold_usage: bool = False, collect: bool = False, event_bytes_max: int = EVENT_BYTES_MAX
    ) -> None:
        self.content = False
        self.finish = ""
        self.done = False
        self.error: ProviderError | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.id = ""
        self.events = 0
        self.deltas: list[Delta] = []
        self._events = Events(event_bytes_max)
        self._withhold_usage = withhold_usage
        self._withheld_last = False
        self._is_ascii = True  # so far
        self._decode: Callable[[bytes], _Chunk] = _DECODE_NAMED  # until id and model are known
        self._collect = collect
        self._answered = False  # said something that is an answer: thoughts alone are none
        self._open_choices: dict[int, bool] = {}  # whether each choice's end is still to come

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return what may go on to the caller."""
        if self.error is not None or self.done:
            return b""
        if not data.isascii():
            self._is_ascii = False
        try:
            events = self._events.feed(data)
        except BadAnswer as error:
            self.error = ProviderError(code="bad_event", message=str(error))
            return b""
        passed = b"".join([event for event in events if self._passes(event)])
        if self._events.flooded and self.error is None and not self.done:
            self._failed("too many events in a row have no data")
        return passed

    def end(self) -> str:
        """Whether the stream was a whole answer: "", or "error", "cut_event", "no_finish", "no_content"."""
        if self.error is not None:
            return "error"
        if not self._open_choices or any(self._open_choices.values()):
            return "cut_event" if self._events.cut and not self.done else "no_finish"
        return "" if self._answered else "no_content"

    def _passes(self, event: bytes) -> bool:
        """Look at one event; whether the caller gets it."""
        if self.error is not None or self.done:
            return False
        if not self._is_ascii and not _is_text(event):
            return self._failed("an event is no valid UTF-8")
        if event.startswith(b"data:"):
            data = event[5:]
            try:
                # Several lines of data, or other lines beside it, are no JSON as they stand, and are read below.
                chunk = self._decode(data)
            except (msgspec.DecodeError, RecursionError):
                pass
            else:
                return self._read(chunk, data)
        return self._passes_carefully(event)

    def _passes_carefully(self, event: bytes) -> bool:
        """The same for what is rare: comments, the end, events of several lines or with a type, and what is broken."""
        kind, data = event_of(event)
        if data is None:
            return not (self._withheld_last and event == b"\n")  # a comment, or what is left of a withheld event
        data = data.strip()
        if data == b"[DONE]":
            self.done = True
            return False
        data = _readable(data)
        if kind == b"error" or not data.startswith(b"{"):
            return self._failed_as_told(data)
        try:
            chunk = _DECODE_NAMED(data)
        except RecursionError:
            return self._failed("an event is nested too deeply")
        except msgspec.DecodeError as error:
            return self._failed(f"an event has another form: {error}")
        return self._read(chunk, data)

    def _failed(self, why: str) -> bool:
        self.error = ProviderError(code="bad_event", message=why)
        return False

    def _failed_as_told(self, data: bytes) -> bool:
        """The provider said that it failed: an object or a list of one, and nothing else, may say so."""
        value = _value_of(data)
        said = value[0] if isinstance(value, list) and value else value
        if not isinstance(said, dict):
            return self._failed("an event is no object")
        self.error = error_in(said)
        return False

    def _read(self, chunk: _Chunk, data: bytes) -> bool:
        """Take in what one event says; whether it goes on."""
        self.events += 1
        choices = chunk.choices
        if chunk.error or (choices is None and chunk.usage is None and _is_error(data)):
            return self._failed_as_told(data)
        if isinstance(chunk, _NamedChunk):
            self.id = self.id or chunk.id or ""
            self.model = self.model or chunk.model or ""
            if self.id and self.model:
                self._decode = _DECODE
        if chunk.usage is not None or chunk.x_groq is not None:
            self._count(chunk)
        self._withheld_last = not choices and self._withhold_usage and chunk.usage is not None
        for choice in choices or ():
            if not self._answered and choice.delta is not None:
                self._hear(choice.delta)
            if choice.finish_reason:
                self._close(choice.index, choice.finish_reason)
            elif choice.index not in self._open_choices:
                self._open_choices[choice.index] = True
        if self._collect:
            self.deltas += _deltas(chunk, self.usage)
        return self.error is None and not self._withheld_last

    def _hear(self, delta: _Delta) -> None:
        """Note whether anything is said, of an answer or of thoughts on the way to one."""
        if delta.content:
            self.content = True
            self._answered = isinstance(delta.content, str) or bool(_text_of(delta.content)[0])
        elif delta.reasoning_content or delta.reasoning:
            self.content = True
        elif delta.tool_calls or delta.refusal or delta.function_call or delta.audio or delta.images:
            self.content = self._answered = True

    def _close(self, index: int, finish: str) -> None:
        if finish in FAILED_FINISHES:
            self.error = ProviderError(code=finish, message="a choice ended with a failure")
            return
        self._open_choices[index] = False
        self.finish = self.finish or finish
        self._answered = self._answered or finish in FINISHES_WITHOUT_CONTENT

    def _count(self, chunk: _Chunk) -> None:
        usage = chunk.usage
        if usage is None and isinstance(chunk.x_groq, dict):
            usage = chunk.x_groq.get("usage")
        self.usage = usage_of(usage) or self.usage


def _readable(data: bytes) -> bytes:
    """The data, with U+FFFD for half a surrogate pair: clients can read that, our decoder does not."""
    try:
        _DECODE_ANY(data)
    except msgspec.DecodeError:
        return repair(data)[0]
    except RecursionError:
        pass  # is told by who reads it
    return data


def _is_error(data: bytes) -> bool:
    """Whether an event without choices is an error whose members have no "error" around them."""
    value = _value_of(data)
    if not isinstance(value, dict):
        return True
    return value.get("object") == "error" or ("message" in value and "type" in value) or "detail" in value


def _value_of(data: bytes) -> Any:
    """The JSON value in an event, None if it cannot be told."""
    try:
        return _DECODE_ANY(data)
    except (msgspec.DecodeError, RecursionError):
        return None


def _is_text(event: bytes) -> bool:
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text_of(parts: list[Any]) -> tuple[str, str]:
    """The text and the thoughts of a content in parts, as Mistral's reasoning models have it."""
    texts = [part for part in parts if isinstance(part, dict)]
    thoughts = [
        thought
        for part in texts
        if isinstance(part.get("thinking"), list)
        for thought in part["thinking"]
        if isinstance(thought, dict)
    ]
    return _joined(texts), _joined(thoughts)


def _joined(parts: list[dict[str, Any]]) -> str:
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _deltas(chunk: _Chunk, usage: Usage | None) -> list[Delta]:
    """What one event says, as values."""
    if not chunk.choices:
        return [] if chunk.usage is None else [Delta(usage=usage)]
    deltas = []
    for choice in chunk.choices:
        said = choice.delta or _Delta()
        text, thoughts = (said.content or "", "") if not isinstance(said.content, list) else _text_of(said.content)
        calls = tuple(
            ToolCallDelta(
                place if call.index is None else call.index,
                call.id or "",
                (call.function and call.function.name) or "",
                (call.function and call.function.arguments) or "",
            )
            for place, call in enumerate(said.tool_calls or ())
        )
        deltas.append(
            Delta(
                choice.index,
                text,
                thoughts or said.reasoning_content or said.reasoning or "",
                said.refusal or "",
                calls,
                choice.finish_reason or "",
                usage if chunk.usage is not None else None,
            )
        )
    return deltas
