"""HTTP answers as a caller sees them: where one ends, and whether it is good. Pure.

Only what gateways send is understood: a length, chunks, or an end with the connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

HEAD_END: Final = b"\r\n\r\n"
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
LENGTH: Final = b"\r\ncontent-length:"
CHUNKED: Final = b"\r\ntransfer-encoding: chunked"
CONTENT: Final = b'"content":"'  # as the providers write it, without spaces; the gateways do so, too
NO_CONTENT: Final = CONTENT + b'"'  # a stream may open with it


def is_whole(received: bytes | bytearray) -> bool:
    """A first answer has arrived to its end. One that ends with its connection never is."""
    end = received.find(HEAD_END)
    if end < 0:
        return False
    head = received[:end].lower()
    at = head.find(LENGTH)
    if at >= 0:
        start = at + len(LENGTH)
        until = head.find(b"\r", start)
        return len(received) >= end + 4 + int(head[start : until if until > 0 else end])
    return CHUNKED in head and received.endswith(LAST_CHUNK)


def pieces(received: bytes | bytearray) -> int:
    """How many pieces of content have come; one in a whole answer."""
    return received.count(CONTENT) - received.count(NO_CONTENT)


def status_of(received: bytes | bytearray) -> int:
    """The status; 0 if there is none."""
    first = bytes(received[9:12])
    return int(first) if received.startswith(b"HTTP/1.") and first.isdigit() else 0


def leaves(received: bytes | bytearray) -> bool:
    """The server will close this connection."""
    return b"\r\nconnection: close" in received.partition(HEAD_END)[0].lower()


def body_of(received: bytes | bytearray) -> bytes:
    """The body, without its framing; what of it has come."""
    head, _, rest = bytes(received).partition(HEAD_END)
    if CHUNKED not in head.lower():
        return rest
    parts = []
    while rest:
        size, found, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0] or b"0", 16) if found else 0
        if not length:
            break
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)


def verdict(received: bytes | bytearray, *, stream: bool, whole: bool) -> str:
    """What an answer is to the one who asked.

    ok                 content, and a reason why it ends
    error              a status that says so
    garbage            200, and no answer in it
    cut-with-error     a stream that says that it broke off
    silent-cut         a stream that just ends
    none               nothing, or not all of it
    """
    status = status_of(received)
    if status != 200:
        return "error" if status else "none"
    if stream:
        return _of_stream(body_of(received))
    return ("ok" if _has_content(body_of(received)) else "garbage") if whole else "none"


def _has_content(body: bytes) -> bool:
    try:
        choice = json.loads(body)["choices"][0]
        return bool(choice["message"]["content"] and choice["finish_reason"])
    except (ValueError, LookupError, TypeError):
        return False


def _of_stream(body: bytes) -> str:
    content, finished, done = 0, False, False
    for event in _events(body):
        if event == "[DONE]":
            done = True
        elif not isinstance(event, dict) or "error" in event:
            return "cut-with-error"
        else:
            for choice in event.get("choices") or ():
                content += len((choice.get("delta") or {}).get("content") or "")
                finished = finished or bool(choice.get("finish_reason"))
    if content and finished and done:
        return "ok"
    return "silent-cut" if content else "garbage"


def _events(body: bytes) -> Iterator[Any]:
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            try:
                yield "[DONE]" if value.strip() == b"[DONE]" else json.loads(value)
            except ValueError:
                yield None
