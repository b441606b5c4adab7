"""Fuzz target of the gateway's upstream client: what a provider may answer."""

from __future__ import annotations

from still_connection import Call, cut
from upstreams import answer, chunked

CONTENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


def read_answer(data: bytes) -> None:
    """The bytes of an answer, at once and in pieces: the same result, one end, one closed or kept connection."""
    outcomes = []
    for parts in (cut(data), cut(data, range(0, len(data), 7))):
        call = Call().feed(*parts)
        if not call.socket.aborted and call.outcome[2] is None:
            call.connection.eof_received()
        assert len(call.ends) == 1
        assert call.socket.aborted is ("useless" in call.owner.told)
        call.connection.connection_lost(None)
        assert call.owner.told[-2:] == ["useless", "gone"]
        outcomes.append(call.outcome)
    (_, _, kind), (_, _, kind_in_pieces) = outcomes
    # Bytes behind an answer are seen only if they came with it, and a head is measured read by read.
    if kind == "" or kind_in_pieces not in {"", "too_large"}:
        assert outcomes[0] == outcomes[1]


TARGETS = {
    "provider-answer": (
        read_answer,
        [
            answer(b'{"choices":[]}', headers=b"x-request-id: r\r\nretry-after: 3\r\n"),
            chunked(CONTENT, CONTENT, b"data: [DONE]\n\n"),
            b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(b"{}", headers=b"connection: close\r\n"),
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nx-trailer: 1\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
            b"HTTP/1.1 204 No Content\r\n\r\n",
        ],
    ),
}
