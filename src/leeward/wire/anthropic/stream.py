"""A streamed answer: events of Anthropic Messages → chunks of Chat Completions, in bytes.

All chunks of a stream bear one id, creation time and model. The first carries the role; a call of a tool begins with
its id and name and goes on in pieces of its arguments, numbered among the calls alone; the reason of the end comes with
the last but one event. The usage follows only where the caller asked for it. Pings and blocks of kinds that are never
asked for give nothing.

The end is `message_stop`. A stream that ends without it, or without a reason, was no whole answer, whatever came before.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from leeward.wire.anthropic.answers import WITHOUT_CONTENT, Content, StopDetails, Tokens, finish_of, usage_document
from leeward.wire.anthropic.errors import Fault, provider_error
from leeward.wire.anthropic.reading import UNREADABLE
from leeward.wire.chat import BadAnswer, Delta, ProviderError, ToolCallDelta, Usage
from leeward.wire.sse import Events, data_of

__all__ = ["StreamReader"]


class Start(msgspec.Struct, frozen=True):
    """What is known of the answer when it begins."""

    id: str
    model: str = ""
    usage: Tokens = Tokens()


class Piece(msgspec.Struct, frozen=True):
    """What an event adds: to a block, or to the message itself."""

    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class Event(msgspec.Struct, frozen=True):
    """One event, of whatever type."""

    type: str
    index: int = 0
    message: Start | None = None
    content_block: Content | None = None
    delta: Piece | None = None
    usage: Tokens | None = None
    error: Fault | None = None
    request_id: str | None = None


class Call:
    """A call of a tool that is being told."""

    __slots__ = ("begun", "index", "input")

    def __init__(self, index: int, input: bytes) -> None:
        self.index = index  # among the calls
        self.input = input  # what it is if no piece of it follows
        self.begun = False


EVENT: Final = msgspec.json.Decoder(Event)
ENCODER: Final = msgspec.json.Encoder()
GARBAGE: Final = ProviderError(code="bad_answer", message="an event that is not of Anthropic Messages")


class StreamReader:
    """One streamed answer as it arrives: an `AnswerReader`."""

    __slots__ = (
        *("content", "deltas", "done", "error", "events", "finish", "id", "model", "usage"),
        *("_calls", "_calls_count", "_collect", "_created_s", "_head", "_sse", "_tokens", "_usage_wanted"),
    )

    def __init__(self, created_s: int, *, usage_wanted: bool, collect: bool = False) -> None:
        """
        Args:
            created_s: when, as the chunks say it.
            usage_wanted: the caller asked for the usage at the end.
            collect: keep what was said as `deltas`.
        """
        self.content = False
        self.finish = ""
        self.done = False
        self.error: ProviderError | None = None
        self.usage: Usage | None = None
        self.model = ""
        self.id = ""
        self.events = 0
        self.deltas: list[Delta] = []
        self._sse = Events()
        self._created_s = created_s
        self._usage_wanted = usage_wanted
        self._collect = collect
        self._head = b""  # of every chunk, up to the delta; empty before the answer begins
        self._calls: dict[int, Call] = {}  # by the index of the block
        self._calls_count = 0
        self._tokens = Tokens()

    def feed(self, data: bytes) -> bytes:
        """Take what arrived; return the chunks that it makes."""
        if self.error is not None or self.done:
            return b""
        out: list[bytes] = []
        try:
            for event in self._sse.feed(data):
                told = data_of(event)
                if not told:
                    continue
                self.events += 1
                if not self._take(EVENT.decode(told), out):
                    break
        except (*UNREADABLE, BadAnswer):
            self.error = GARBAGE
        return b"".join(out)

    def end(self) -> str:
        """Whether it was a whole answer: "", or why not."""
        if self.error is not None:
            return "error"
        if self._sse.cut and not self.done:
            return "cut_event"
        if not (self.done and self.finish):
            return "no_finish"
        if not (self.content or self.finish in WITHOUT_CONTENT):
            return "no_content"
        return ""

    def _take(self, event: Event, out: list[bytes]) -> bool:
        """One event. False: nothing that follows it counts."""
        kind = event.type
        if kind == "error":
            self.error = provider_error(event.error or Fault(), request_id=event.request_id or "")
            return False
        if kind == "message_start" and event.message is not None:
            if not self._head:
                self._begin(event.message, out)
        elif kind == "ping":
            pass
        elif not self._head:
            self.error = GARBAGE
            return False
        elif kind == "content_block_delta" and event.delta is not None:
            self._add(event.index, event.delta, out)
        elif kind == "content_block_start" and event.content_block is not None:
            self._open(event.index, event.content_block, out)
        elif kind == "content_block_stop":
            self._close(event.index, out)
        elif kind == "message_delta" and event.delta is not None:
            self._finish(event.delta, event.usage, out)
        elif kind == "message_stop":
            self._stop(out)
            return False
        return True  # whatever else it is, is new: Anthropic asks that clients pass over events that they do not know

    def _begin(self, message: Start, out: list[bytes]) -> None:
        self.id, self.model, self._tokens = message.id, message.model, message.usage
        self.usage = self._tokens.usage()  # of the input, should the stream be cut
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            ENCODER.encode(message.id),
            self._created_s,
            ENCODER.encode(message.model),
        )
        self._say({"role": "assistant", "content": ""}, out)

    def _open(self, index: int, block: Content, out: list[bytes]) -> None:
        if block.type == "tool_use":
            call = self._calls[index] = Call(self._calls_count, bytes(block.input))
            self._calls_count += 1
            self.content = True
            begun = {"index": call.index, "id": block.id, "type": "function"}
            self._say({"tool_calls": [{**begun, "function": {"name": block.name, "arguments": ""}}]}, out)
            self._keep(Delta(tool_calls=(ToolCallDelta(call.index, block.id, block.name),)))
        elif block.type in ("text", "thinking"):  # nearly always empty as yet
            self._add(index, Piece(type=f"{block.type}_delta", text=block.text, thinking=block.thinking), out)

    def _add(self, index: int, piece: Piece, out: list[bytes]) -> None:
        if piece.type == "text_delta":
            if piece.text:
                self.content = True
                self._chunk(b'{"content":%b}' % ENCODER.encode(piece.text), out)
                self._keep(Delta(content=piece.text))
        elif piece.type == "thinking_delta":
            if piece.thinking:
                self.content = True
                self._chunk(b'{"reasoning_content":%b}' % ENCODER.encode(piece.thinking), out)
                self._keep(Delta(reasoning=piece.thinking))
        elif piece.type == "input_json_delta" and piece.partial_json and (call := self._calls.get(index)):
            call.begun = True
            self._arguments(call, piece.partial_json, out)

    def _close(self, index: int, out: list[bytes]) -> None:
        call = self._calls.pop(index, None)
        if call is not None and not call.begun:
            self._arguments(call, call.input.decode(), out)

    def _arguments(self, call: Call, text: str, out: list[bytes]) -> None:
        told = b'{"tool_calls":[{"index":%d,"function":{"arguments":%b}}]}' % (call.index, ENCODER.encode(text))
        self._chunk(told, out)
        self._keep(Delta(tool_calls=(ToolCallDelta(call.index, arguments=text),)))

    def _finish(self, delta: Piece, usage: Tokens | None, out: list[bytes]) -> None:
        if usage is not None:
            self._tokens = self._tokens.updated(usage)
            self.usage = self._tokens.usage()
        if self.finish or not delta.stop_reason:
            return
        if delta.stop_details is not None and delta.stop_details.explanation:
            self._say({"refusal": delta.stop_details.explanation}, out)
            self._keep(Delta(refusal=delta.stop_details.explanation))
            self.content = True
        self.finish = finish_of(delta.stop_reason)
        self._chunk(b"{}", out, b'"%b"' % self.finish.encode())
        self._keep(Delta(finish=self.finish))

    def _stop(self, out: list[bytes]) -> None:
        self.done = True
        usage = self._tokens.usage()
        self._keep(Delta(usage=usage))
        if self._usage_wanted:
            out.append(b'%b],"usage":%b}\n\n' % (self._head, ENCODER.encode(usage_document(usage))))

    def _say(self, delta: dict[str, Any], out: list[bytes]) -> None:
        self._chunk(ENCODER.encode(delta), out)

    def _chunk(self, delta: bytes, out: list[bytes], finish: bytes = b"null") -> None:
        out.append(b'%b{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b}]}\n\n' % (self._head, delta, finish))

    def _keep(self, delta: Delta) -> None:
        if self._collect:
            self.deltas.append(delta)
