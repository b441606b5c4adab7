"""OTLP over HTTP: traces, metrics and logs, in protobuf or JSON.

Promises  Every answer is in the sender's encoding. What is refused by itself is counted in `partial_success`; a refusal
          of the whole is a `google.rpc.Status`, and never a 500: senders throw away what was answered so, while after
          429 and 503 they come again. A request that comes again byte for byte is answered as before and costs a hash.
          Under pressure spans are refused before they are read, with the request whole, so that they may come again.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from leeward.errors import LeewardError, ProtocolError
from leeward.model import Event
from leeward.server.http import Request, Response, error_response
from leeward.server.road import overloaded
from leeward.wire.otlp import decode
from leeward.wire.otlp.answers import Signal, export_answer, status_answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leeward.model import Dropped
    from leeward.server.road import Road

__all__ = ["Otlp", "refusal"]

PROTOBUF: Final = b"application/x-protobuf"
JSON: Final = b"application/json"
SPANS_SHED_LEVEL: Final = 2
REASONS_MAX: Final = 3

_DECODERS: Final[dict[Signal, Callable[..., decode.Decoded]]] = {
    "traces": decode.traces,
    "metrics": decode.metrics,
    "logs": decode.logs,
}
_ITEMS: Final[dict[Signal, str]] = {"traces": "spans", "metrics": "data points", "logs": "log records"}


class _Verdict(msgspec.Struct, frozen=True):
    """What became of a request: as much as its answer, and that of a resend, needs."""

    taken: int
    rejected: int
    message: str


class Otlp:
    """The three handlers."""

    def __init__(self, road: Road) -> None:
        self._road = road

    async def traces(self, request: Request) -> Response:
        """Take spans."""
        if self._road.shed_level >= SPANS_SHED_LEVEL:
            raise overloaded()
        return await self._export(request, "traces")

    async def metrics(self, request: Request) -> Response:
        """Take data points."""
        return await self._export(request, "metrics")

    async def logs(self, request: Request) -> Response:
        """Take log records."""
        return await self._export(request, "logs")

    async def _export(self, request: Request, signal: Signal) -> Response:
        is_json = _is_json(request)
        road = self._road
        road.enter(request)
        with road.lease() as lease:
            body = await road.read(request, lease)
            digest = await road.aside(len(body), partial(decode.body_digest, body))
            verdict = road.known_body(request, digest)
            if verdict is None:
                verdict = await self._take(request, signal, body, digest)
                road.remember_body(request, digest, verdict)
            else:
                road.count_resend(request, verdict.taken)
        answer = export_answer(signal, is_json=is_json, rejected=verdict.rejected, message=verdict.message)
        return Response(200, answer, [_type_header(is_json)])

    async def _take(self, request: Request, signal: Signal, body: bytes, digest: bytes) -> _Verdict:
        road = self._road
        received_at = road.received_at()
        read = partial(
            _DECODERS[signal],
            body,
            is_json=_is_json(request),
            project=request.project,
            received_at=received_at,
            digest=digest,
        )
        decoded = await road.aside(len(body), read)
        if not decoded.items:
            return _Verdict(0, 0, "")
        outcome = await road.take(
            request, decoded.items, received_at=received_at, repaired=decoded.repaired, size=len(body)
        )
        rejected = sum(not _is_part(signal, decoded.items[index]) for index, _, _ in outcome.refusals)
        return _Verdict(outcome.accepted, rejected, _why(signal, decoded.count, rejected, outcome.refusals))


def refusal(request: Request, error: LeewardError) -> Response:
    """The refusal of a whole request in its encoding; in JSON, if it has none that we know."""
    answer = error_response(error)
    said = ": ".join([error.message, *(error.details if isinstance(error, ProtocolError) else ())])
    is_json = _media_type(request) != PROTOBUF
    headers = [header for header in answer.headers if header[0] != b"content-type"]
    body = status_answer(answer.status, said, is_json=is_json)
    return Response(answer.status, body, [_type_header(is_json), *headers])


def _media_type(request: Request) -> bytes:
    return request.header(b"content-type").partition(b";")[0].strip().lower()


def _is_json(request: Request) -> bool:
    media_type = _media_type(request)
    if media_type not in {PROTOBUF, JSON}:
        raise ProtocolError(
            "Content-Type must be application/x-protobuf or application/json",
            code="unsupported_media_type",
            status=415,
        )
    return media_type == JSON


def _type_header(is_json: bool) -> tuple[bytes, bytes]:
    return (b"content-type", JSON if is_json else PROTOBUF)


def _is_part(signal: Signal, item: Event | Dropped) -> bool:
    """Whether this is no item of the sender's but an exception in one of its spans."""
    return signal == "traces" and isinstance(item, Event) and item.kind == "exception"


def _why(signal: Signal, count: int, rejected: int, refusals: Sequence[tuple[int, str, str]]) -> str:
    """A sentence for the sender's log: how many were refused, and the commonest reasons; "" if none were."""
    if not refusals:
        return ""
    sentences = {code: sentence for _, code, sentence in reversed(refusals)}
    commonest = Counter(code for _, code, _ in refusals).most_common()
    reasons = [f"{code} ({times}): {sentences[code]}" for code, times in commonest[:REASONS_MAX]]
    if len(commonest) > REASONS_MAX:
        reasons.append("and others")
    parts = len(refusals) - rejected
    beside = f", and {parts} exceptions of spans" if parts else ""
    return f"{rejected} of {count} {_ITEMS[signal]} refused{beside}: {'; '.join(reasons)}"
