"""What a provider can do wrong, as a table, and what becomes of a good answer under each fault. Pure.

A `Fault` is a mode and its numbers. `script_of` turns an answer that would have been good into what is written instead,
when, and how the connection ends; whoever holds the connection plays the script.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from leeward.errors import ConfigError

__all__ = ["FAULTS", "Fault", "FaultRow", "Mode", "Reply", "Script", "fault_named", "good_script", "script_of"]

Mode = Literal[
    "429",
    "500",
    "503",
    "401",
    "400",
    "hang",
    "reset",
    "reset-mid",
    "malformed",
    "empty",
    "slow-first-token",
    "stall",
    "cut",
    "error-mid",
    "slow",
]
End = Literal["keep", "close", "reset", "silence"]
_Delay = Annotated[float, Meta(ge=0, le=86_400)]


class FaultRow(msgspec.Struct, frozen=True):
    """One fault of the table: what it does, and whether the provider's list of models suffers, too."""

    sentence: str
    everywhere: bool = False


FAULTS: Final[Mapping[Mode, FaultRow]] = MappingProxyType(
    {
        "429": FaultRow("Refuses with 429 and a Retry-After."),
        "500": FaultRow("Answers 500.", everywhere=True),
        "503": FaultRow("Answers 503.", everywhere=True),
        "401": FaultRow("Does not accept the key (401).", everywhere=True),
        "400": FaultRow("Refuses the request itself (400)."),
        "hang": FaultRow("Takes the request and never answers.", everywhere=True),
        "reset": FaultRow("Resets the connection before it answers.", everywhere=True),
        "reset-mid": FaultRow("Resets the connection within the answer."),
        "malformed": FaultRow("Answers 200 with half of a JSON document."),
        "empty": FaultRow("Answers 200 with nothing in it."),
        "slow-first-token": FaultRow("Starts a stream and lets the first content wait."),
        "stall": FaultRow("Falls silent within the answer."),
        "cut": FaultRow("Ends the connection within the answer, as if it were whole."),
        "error-mid": FaultRow("Sends an error within a stream; to other calls, an error with status 200."),
        "slow": FaultRow("Answers well, but takes its time."),
    }
)


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault with its numbers. `Fault(mode="429", retry_after_s=20)`."""

    mode: Mode
    retry_after_s: Annotated[_Delay | None, Meta(description="The Retry-After of 429 (20) and 503 (none).")] = None
    delay_s: Annotated[_Delay, Meta(description="How long slow and slow-first-token take.")] = 5.0
    after_events: Annotated[
        int, Meta(ge=0, le=1_000_000, description="Pieces of content before a fault in mid-stream.")
    ] = 3
    share: Annotated[float, Meta(ge=0, le=1, description="Which part of the calls it meets.")] = 1.0


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A good answer: a whole one is `body`; a stream is `events`, and `tail` from its finish on.

    The first event opens the stream, each of the others has a piece of content.
    """

    body: bytes = b""
    events: Sequence[bytes] = ()
    tail: bytes = b""
    empty: bytes = b""  # what is said in its place by a provider with nothing to say: a body, or a whole stream


class Script(msgspec.Struct, gc=False):
    """What is written, one segment each, and how it ends. `silence`: the connection stays, and nothing more is said."""

    writes: Sequence[bytes] = ()
    end: End = "keep"
    before_s: float = 0.0  # before the first write
    after_first_s: float = 0.0  # between the first and the second
    pace_s: float = 0.0  # between all others


def fault_named(name: str, **numbers: float | None) -> Fault:
    """The fault of this mode.

    Raises:
        ConfigError: there is none, or a number is out of its range; names the nearest, or the range.
    """
    if name not in FAULTS:
        near = difflib.get_close_matches(name, get_args(Mode), 1, 0.5)
        fix = f"did you mean {near[0]}? The faults are: " if near else "the faults are: "
        raise ConfigError(f"there is no fault {name[:40]!r}", code="unknown_fault", fix=fix + ", ".join(FAULTS))
    try:
        return msgspec.convert({"mode": name, **numbers}, Fault)
    except msgspec.ValidationError as error:
        sentence, _, place = str(error).partition(" - at ")
        field = place.strip("`$.") or "the fault"
        raise ConfigError(f"{field}: {sentence[:1].lower()}{sentence[1:]}", code="bad_fault", where=field) from None


_REASONS: Final = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 413: b"Content Too Large"}
_REASONS_OF_FAULTS: Final = {429: b"Too Many Requests", 500: b"Internal Server Error", 503: b"Service Unavailable"}
_REFUSALS: Final = {
    "429": (b"rate_limit_exceeded", b"rate_limit_exceeded", b"Simulated: too many requests."),
    "500": (b"server_error", b"server_error", b"Simulated: the server had an error."),
    "503": (b"server_error", b"service_unavailable", b"Simulated: the engine is overloaded."),
    "401": (b"authentication_error", b"invalid_api_key", b"Simulated: incorrect API key provided."),
    "400": (b"invalid_request_error", b"invalid_value", b"Simulated: the request cannot be served."),
}
_JSON: Final = b"application/json"
_SSE: Final = b"text/event-stream; charset=utf-8"
RETRY_AFTER_S: Final = 20.0


def head(status: int, content_type: bytes, common: bytes, framing: bytes) -> bytes:
    """The head of an answer; `common` are header lines that all of a provider's answers have."""
    reason = _REASONS.get(status) or _REASONS_OF_FAULTS[status]
    return b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%b%b\r\n" % (status, reason, content_type, common, framing)


def whole(status: int, body: bytes, common: bytes, more: bytes = b"") -> bytes:
    """A whole answer in JSON: head and body."""
    return head(status, _JSON, common, b"%bcontent-length: %d\r\n" % (more, len(body))) + body


def refusal(status: int, sentence: bytes, common: bytes, *, kind: bytes, code: bytes, more: bytes = b"") -> bytes:
    """A whole answer that is an error in OpenAI's form."""
    return whole(status, error_document(sentence, kind, code), common, more)


def error_document(sentence: bytes, kind: bytes, code: bytes) -> bytes:
    """An error in OpenAI's form. The sentence is our own and needs no escaping but that of quotes."""
    quoted = msgspec.json.encode(sentence.decode("utf-8", "replace"))
    return b'{"error":{"message":%b,"type":"%b","param":null,"code":"%b"}}' % (quoted, kind, code)


def stream_head(common: bytes) -> bytes:
    """The head of a stream in chunks."""
    return head(200, _SSE, common, b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n")


def chunk(data: bytes) -> bytes:
    """Data as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def good_script(reply: Reply, common: bytes, pace_s: float) -> Script:
    """What is written without a fault."""
    if reply.events:
        return Script(_good_stream(reply, common), after_first_s=pace_s, pace_s=pace_s)
    return Script((whole(200, reply.body, common),))


def script_of(fault: Fault, reply: Reply, common: bytes) -> Script:
    """What is written in the place of a good answer."""
    if fault.mode == "hang":
        return Script(end="silence")
    if fault.mode == "reset":
        return Script(end="reset")
    if fault.mode in _REFUSALS:
        return Script([_refused(fault, common)])
    if reply.events:
        return _stream_script(fault, reply, common)
    return _body_script(fault, reply, common)


def _refused(fault: Fault, common: bytes) -> bytes:
    kind, code, sentence = _REFUSALS[fault.mode]
    retry_after_s = fault.retry_after_s
    if retry_after_s is None and fault.mode == "429":
        retry_after_s = RETRY_AFTER_S
    more = b""
    if retry_after_s is not None and fault.mode in {"429", "503"}:
        # A header of whole seconds, and the finer one that some providers add and SDKs prefer.
        more = b"retry-after: %d\r\nretry-after-ms: %d\r\n" % (-(-retry_after_s // 1), round(retry_after_s * 1000))
    return refusal(int(fault.mode), sentence, common, kind=kind, code=code, more=more)


def _body_script(fault: Fault, reply: Reply, common: bytes) -> Script:
    good = whole(200, reply.body, common)
    half = good[: len(good) - (len(reply.body) + 1) // 2]
    match fault.mode:
        case "malformed":
            return Script([whole(200, reply.body[: len(reply.body) // 2], common)])
        case "empty":
            return Script([whole(200, reply.empty, common)])
        case "error-mid":
            return Script([whole(200, error_document(*_ERROR_MID), common)])
        case "reset-mid":
            return Script([half], "reset")
        case "cut":
            return Script([half], "close")
        case "stall":
            return Script([half], "silence")
        case _:  # slow, slow-first-token
            return Script([good], before_s=fault.delay_s)


_ERROR_MID: Final = (b"Simulated: the server had an error while it answered.", b"server_error", b"server_error")


def _stream_script(fault: Fault, reply: Reply, common: bytes) -> Script:
    opening, *rest = reply.events
    begun = [opening, *rest[: fault.after_events]]
    start = stream_head(common)
    match fault.mode:
        case "malformed":
            half = opening[: len(opening) // 2] + b"\n\n"
            return Script([start + chunk(half) + LAST_CHUNK])
        case "empty":
            return Script([start + chunk(reply.empty) + LAST_CHUNK])
        case "error-mid":
            error = b"data: %b\n\n" % error_document(*_ERROR_MID)
            return Script([*_written(start, begun), chunk(error) + LAST_CHUNK])
        case "reset-mid":
            return Script(_written(start, begun), "reset")
        case "stall":
            return Script(_written(start, begun), "silence")
        case "cut":
            # Without chunks the end of the connection is the end of the body: nothing but the missing finish tells.
            start = head(200, _SSE, common, b"cache-control: no-cache\r\nconnection: close\r\n")
            return Script([start + begun[0], *begun[1:]], "close")
    if fault.mode == "slow-first-token":
        return Script(_good_stream(reply, common), after_first_s=fault.delay_s)
    writes = _good_stream(reply, common)
    return Script(writes, pace_s=fault.delay_s / len(writes), after_first_s=fault.delay_s / len(writes))


def _good_stream(reply: Reply, common: bytes) -> list[bytes]:
    writes = _written(stream_head(common), reply.events)
    writes[-1] += chunk(reply.tail) + LAST_CHUNK
    return writes


def _written(start: bytes, events: Sequence[bytes]) -> list[bytes]:
    """Events in chunks, a write each; the head goes with the first."""
    chunks = [chunk(event) for event in events]
    chunks[0] = start + chunks[0]
    return chunks
