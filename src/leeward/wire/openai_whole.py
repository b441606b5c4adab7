"""Whole answers and streams of Chat Completions into each other, and answers of our own.

Promises  `assemble(as_stream(answer))` says what the answer said: every choice with its content, refusal, thoughts, calls
          and reasons to end, the usage, and what leeward knows nothing of. No stream here ends in `[DONE]`: who sends it
          writes that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from leeward.wire.chat import BadAnswer
from leeward.wire.sse import Events, data_of
from leeward.wire.text import repair

__all__ = ["as_stream", "assemble", "static_answer", "with_x_leeward"]

OBJECT = "chat.completion"
CHUNK_OBJECT = "chat.completion.chunk"
_DONE = b"[DONE]"
_NAMES = ("id", "created", "model")  # the first chunk that tells one is believed
_OF_CHUNKS = ("choices", "object", "obfuscation")  # what a whole answer has in another form, or not at all
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")

_DECODE = msgspec.json.Decoder(dict[str, Any]).decode
_DECODE_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ENCODE = msgspec.json.Encoder().encode


def static_answer(
    text: str, model: str, id: str, created: int, *, x_leeward: Mapping[str, object] | None = None
) -> bytes:
    """A whole answer of ours, for when nobody else has one; no tokens are counted for it."""
    answer: dict[str, object] = {
        "id": id,
        "object": OBJECT,
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
    if x_leeward:
        answer["x_leeward"] = x_leeward
    return _ENCODE(answer)


def with_x_leeward(body: bytes, x_leeward: Mapping[str, object]) -> bytes:
    """The same answer with what leeward has to say of it; everything else stays byte for byte.

    Raises:
        BadAnswer: the body is no JSON object.
    """
    try:
        return _ENCODE({**_DECODE_FIELDS(body), "x_leeward": x_leeward})
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"the answer is no JSON object: {error}") from error


# --- whole → stream ---------------------------------------------------------------------------------------------------


def as_stream(answer: bytes, extra: Mapping[str, object] | None = None, *, with_usage: bool = False) -> bytes:
    """A whole answer as the events of a stream.

    Args:
        answer: JSON of Chat Completions.
        extra: members of our own for the first event.
        with_usage: the caller asked for the usage at the stream's end.

    Raises:
        BadAnswer: the answer is no object with choices.
    """
    value = _object(answer)
    choices = value.pop("choices", None)
    usage = value.pop("usage", None)
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise BadAnswer("the answer has no choices")
    events: list[bytes] = []
    head: dict[str, Any] = {**value, "object": CHUNK_OBJECT}
    # What is said once of the whole answer goes with the first event; the others repeat what names it.
    named: dict[str, Any] = {
        name: head[name] for name in ("id", "object", "created", "model", "system_fingerprint") if name in head
    }
    for place, choice in enumerate(choices):
        rest = {name: item for name, item in choice.items() if name not in {"message", "finish_reason"}}
        rest["index"] = choice.get("index", place)
        first = {**rest, "delta": _as_delta(choice.get("message")), "finish_reason": None}
        last = {"index": rest["index"], "delta": {}, "finish_reason": choice.get("finish_reason")}
        start = named if events else {**head, **(extra or {})}
        events += [_event({**start, "choices": [first]}), _event({**named, "choices": [last]})]
    if with_usage and usage is not None:
        events.append(_event({**named, "choices": [], "usage": usage}))
    return b"".join(events)


def _as_delta(message: Any) -> dict[str, Any]:
    """A message as the one step that says it all: tool calls get the number that streams know them by."""
    if not isinstance(message, dict):
        return {}
    calls = message.get("tool_calls")
    if not isinstance(calls, list):
        return message
    numbered = [{"index": place, **call} if isinstance(call, dict) else call for place, call in enumerate(calls)]
    return {**message, "tool_calls": numbered}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + _encoded(value) + b"\n\n"


def _encoded(value: dict[str, Any]) -> bytes:
    try:
        return _ENCODE(value)
    except RecursionError as error:
        raise BadAnswer(f"the answer cannot be written: {error}") from error


def _object(text: bytes) -> dict[str, Any]:
    try:
        return _DECODE(text)
    except (ValueError, RecursionError):
        pass
    try:
        return _DECODE(repair(text)[0])  # half a surrogate pair was all that was wrong, or it is none
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"no JSON object: {error}") from error


# --- stream → whole ---------------------------------------------------------------------------------------------------


def assemble(stream: bytes) -> bytes:
    """The events of a stream, with or without `[DONE]`, as one whole answer; whether it is a good one, `read_answer` says.

    Raises:
        BadAnswer: an event is cut, is no JSON object, is an error, or has not the form of a chunk.
    """
    events = Events(event_bytes_max=len(stream) + 1)
    answer: dict[str, Any] = {"object": OBJECT}
    choices: dict[int, _Choice] = {}
    for event in events.feed(stream):
        data = data_of(event)
        if data is None or data.strip() == _DONE:
            continue
        chunk = _object(data)
        if chunk.get("error"):
            raise BadAnswer("the stream has an error in it")
        for name, value in chunk.items():
            if name not in _OF_CHUNKS and value is not None and not (name in _NAMES and answer.get(name)):
                answer[name] = value
        for piece in _objects(chunk.get("choices"), "choices"):
            index = _index(piece, 0)
            choices.setdefault(index, _Choice()).add(piece)
    if events.cut:
        raise BadAnswer("the stream ends within an event")
    usage = {"usage": answer.pop("usage")} if "usage" in answer else {}
    return _encoded({**answer, "choices": [choices[index].whole(index) for index in sorted(choices)], **usage})


class _Choice:
    """One choice as it grows. Texts grow by pieces, lists by their items; of all else the last word counts."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
        self.texts: dict[str, list[str]] = {}
        self.calls: dict[int, _Call] = {}
        self.function = _Call()  # as calls were told before there were several
        self.logprobs: dict[str, Any] | None = None
        self.rest: dict[str, Any] = {"finish_reason": None}

    def add(self, piece: dict[str, Any]) -> None:
        """One chunk's part in it."""
        for name, value in piece.items():
            if name == "delta":
                for said, what in _members(value, name).items():
                    self._say(said, what)
            elif name == "logprobs" and value is not None:
                self.logprobs = {} if self.logprobs is None else self.logprobs
                for told, tokens in _members(value, name).items():
                    _grow(self.logprobs, told, tokens)
            elif name != "index" and value is not None and value != "":
                self.rest[name] = value

    def _say(self, name: str, value: Any) -> None:
        if name == "tool_calls":
            for call in _objects(value, name):
                self._call(call)
        elif name == "function_call":
            self.function.add({"function": value})
        elif name in _TEXTS and isinstance(value, str):
            self.texts.setdefault(name, []).append(value)
        else:
            _grow(self.message, name, value)

    def _call(self, call: dict[str, Any]) -> None:
        """A piece of a call. Without a number, another id begins the next call, and no id goes on with the last one."""
        last = max(self.calls, default=-1)
        goes_on = last >= 0 and call.get("id") in {None, "", self.calls[last].rest.get("id")}
        self.calls.setdefault(_index(call, last if goes_on else last + 1), _Call()).add(call)

    def whole(self, index: int) -> dict[str, Any]:
        """As a choice of a whole answer."""
        message = self.message
        for name, pieces in self.texts.items():
            text = "".join(pieces)
            if isinstance(message.get(name), list):  # thoughts came as parts, the text behind them did not
                message[name] = [*message[name], {"type": "text", "text": text}]
            else:
                message[name] = text or (None if self.calls else "")
        if self.calls:
            message["tool_calls"] = [self.calls[number].whole() for number in sorted(self.calls)]
        if self.function.name:
            message["function_call"] = self.function.whole()["function"]
        return {"index": index, "message": message, "logprobs": self.logprobs, **self.rest}


class _Call:
    """One tool call as it grows: its arguments come in pieces, everything else once (or again and again)."""

    def __init__(self) -> None:
        self.rest: dict[str, Any] = {}
        self.name = ""
        self.arguments: list[str] = []

    def add(self, piece: dict[str, Any]) -> None:
        """One chunk's part in it."""
        for name, value in piece.items():
            if name == "function":
                function = _members(value, name)
                self.name = self.name or str(function.get("name") or "")
                self.arguments.append(str(function.get("arguments") or ""))
            elif name != "index" and value is not None and not self.rest.get(name):
                self.rest[name] = value

    def whole(self) -> dict[str, Any]:
        """As a call of a whole answer."""
        function = {"name": self.name, "arguments": "".join(self.arguments)}
        return {"id": "", "type": "function", **self.rest, "function": function}


def _grow(whole: dict[str, Any], name: str, value: Any) -> None:
    known = whole.get(name)
    if isinstance(known, list) and isinstance(value, list):
        whole[name] = [*known, *value]
    elif value is not None:
        whole[name] = value


def _index(piece: dict[str, Any], otherwise: int) -> int:
    index = piece.get("index")
    if index is None:
        return otherwise
    if not isinstance(index, int):
        raise BadAnswer("an index is no number")
    return index


def _objects(value: Any, name: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadAnswer(f"{name} is no list of objects")
    return value


def _members(value: Any, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise BadAnswer(f"{name} is no object")
    return value
