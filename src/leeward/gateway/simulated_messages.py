"""What a simulated provider says to who speaks Anthropic's Messages: words, whole and streamed. Pure.

It is for chaos: a real provider of that dialect needs a stand-in that fails in the same dialect.

Limits    words alone: no tools, no images. Its errors have OpenAI's form, with the status that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from leeward.gateway.faults import Reply

__all__ = ["AskedMessages", "messages_reply"]

_STOP_REASONS: Final = {"stop": "end_turn", "length": "max_tokens"}


class AskedMessages(msgspec.Struct):
    """What a request says that matters here."""

    messages: msgspec.Raw
    model: str
    max_tokens: int = 0
    stream: bool | None = None


def messages_reply(asked: AskedMessages, pieces: Sequence[str], finish: str, number: int) -> Reply:
    """The good answer made of these pieces; a stream if one was asked for."""
    stop_reason = _STOP_REASONS[finish]
    input_tokens = max(1, len(asked.messages) // 4)
    message: dict[str, Any] = {
        "id": f"msg_simulated_{number:012x}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": len(pieces)},
    }
    if not asked.stream:
        text = {"type": "text", "text": "".join(pieces)}
        return Reply(body=_encode({**message, "content": [text]}), empty=_encode(message))
    begun = {**message, "stop_reason": None, "usage": {"input_tokens": input_tokens, "output_tokens": 1}}
    ended = _event(
        "message_delta",
        delta={"stop_reason": stop_reason, "stop_sequence": None},
        usage={"output_tokens": len(pieces)},
    )
    ended += _event("message_stop")
    start = _event("message_start", message=begun)
    opening = start + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    return Reply(
        events=[
            opening,
            *(_event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}) for piece in pieces),
        ],
        tail=_event("content_block_stop", index=0) + ended,
        empty=start + ended,
    )


def _encode(document: object) -> bytes:
    return msgspec.json.encode(document)


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))
