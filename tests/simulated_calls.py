"""Calls to a simulated provider over a bare socket: what came, byte for byte, and how the connection ended."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NamedTuple

SILENT_AFTER_S = 0.1  # nothing more has come for so long: an answer that is not silent is on loopback well before


class Came(NamedTuple):
    """An answer. `how`: "end" (FIN), "reset" (RST) or "silence"."""

    how: str
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        lines = self.head.decode().split("\r\n")[1:]
        return next((line.partition(": ")[2] for line in lines if line.partition(":")[0] == name), None)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def whole(self) -> bool:
        """Whether the body is all that the head announced."""
        if self.header("transfer-encoding") == "chunked":
            return self.body.endswith(b"0\r\n\r\n")
        length = self.header("content-length")
        return length is None or len(self.body) == int(length)

    def data(self) -> list[bytes]:
        """What the events of a stream carry."""
        body = self.body
        if self.header("transfer-encoding") == "chunked":
            chunks, at = [], 0
            while (end := body.find(b"\r\n", at)) >= 0:
                size = int(body[at:end], 16)
                chunks.append(body[end + 2 : end + 2 + size])
                at = end + 2 + size + 2
            body = b"".join(chunks)
        return [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]

    def texts(self) -> list[str]:
        """The pieces of content of a stream."""
        events = [json.loads(data) for data in self.data() if data != b"[DONE]"]
        deltas = [choice["delta"] for event in events for choice in event.get("choices", ())]
        return [delta["content"] for delta in deltas if delta.get("content")]


def request(path: str, body: bytes, *, method: str = "POST", more: str = "connection: close\r\n") -> bytes:
    """The bytes of a request."""
    head = f"{method} {path} HTTP/1.1\r\nhost: test\r\n{more}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def asked(text: str = "hello", **fields: Any) -> bytes:
    """The body of a chat request."""
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **fields}).encode()


async def read(reader: asyncio.StreamReader) -> Came:
    """All that comes."""
    got, how = b"", "end"
    try:
        while True:
            async with asyncio.timeout(SILENT_AFTER_S):
                data = await reader.read(65536)
            if not data:
                break
            got += data
    except TimeoutError:
        how = "silence"
    except ConnectionResetError:
        how = "reset"
    head, _, body = got.partition(b"\r\n\r\n")
    return Came(how, head, body)


async def call(port: int, body: bytes, path: str = "/v1/chat/completions", *, method: str = "POST") -> Came:
    """One request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request(path, body, method=method))
        return await read(reader)
    finally:
        writer.transport.abort()
