"""Sentry's wire, `POST /api/{project}/envelope/` and `/store/`: key, decode, leave out, take, answer as Sentry does.

Sentry's SDKs send nothing twice that was answered, whatever the answer. So what can be taken is taken, and under pressure
only transactions, spans and metrics are left out, before they are decoded, and the SDK is told to keep them for a minute.
`X-Sentry-Rate-Limits` silences an SDK, also beside a 200: it is sent for that and for a used-up quota, and never else.
"""

from __future__ import annotations

from typing import Final

import msgspec

from leeward.errors import LeewardError, ProtocolError, QuotaExceeded, RateLimited, RetryableError
from leeward.model import Dropped, Event
from leeward.server.admission import is_shed
from leeward.server.http import Request, Response, failure, json_response
from leeward.server.pipeline import Outcome
from leeward.server.road import Road
from leeward.wire.sentry.credentials import disagreement, key_of_request, read_dsn
from leeward.wire.sentry.envelope import read_headers, split
from leeward.wire.sentry.items import Mapped, map_envelope, map_store

__all__ = ["Sentry", "refusal"]

SHED_S: Final = 60
SENTENCE_CHARS_MAX: Final = 200
CAUSES_MAX: Final = 10
SHED_SENTENCE: Final = "the server is overloaded and takes what matters more"
NO_KEY_SENTENCE: Final = "The key of the DSN is missing, or not valid here"

_SHED_TYPES: Final = (frozenset[str](), frozenset({"transaction"}), frozenset({"transaction", "span", "trace_metric"}))
_SHED_CATEGORIES: Final = ("", "transaction;span", "transaction;span;trace_metric")


class _Id(msgspec.Struct, omit_defaults=True):
    """The answer to what was taken."""

    id: str = ""


class _Refusal(msgspec.Struct):
    """Sentry's form of an error."""

    detail: str
    causes: list[str]


class Sentry:
    """The two handlers."""

    def __init__(self, road: Road) -> None:
        self._road = road

    async def envelope(self, request: Request) -> Response:
        """An envelope of items, each stored or refused by itself."""
        road = self._road
        road.enter(request)
        key = key_of_request(request.query_string, request.headers)
        if key is not None:
            self._identify(request, key)
        with road.lease() as lease:
            body = await road.read(request, lease)
            await self._check_dsn(request, key, body)
            received_at = road.received_at()
            level = min(road.shed_level, len(_SHED_TYPES) - 1)
            mapped = await road.aside(
                len(body),
                lambda: map_envelope(
                    body, split(body), project=request.project, received_at=received_at, shed=_SHED_TYPES[level]
                ),
            )
            if level:
                _leave_out(mapped, level)
            outcome = await self._take(request, mapped, received_at, len(body))
        if outcome is not None and not outcome.accepted:
            return _all_refused(request, outcome)
        limits = f"{SHED_S}:{_SHED_CATEGORIES[level]}:key:overload"
        told = not _SHED_TYPES[level].isdisjoint(mapped.shed)
        return json_response(
            _Id(mapped.event_id), headers=[(b"x-sentry-rate-limits", limits.encode())] if told else None
        )

    async def store(self, request: Request) -> Response:
        """One event, in the form of older SDKs."""
        road = self._road
        road.enter(request)
        self._identify(request, key_of_request(request.query_string, request.headers))
        with road.lease() as lease:
            body = await road.read(request, lease)
            received_at = road.received_at()
            mapped = await road.aside(
                len(body), lambda: map_store(body, project=request.project, received_at=received_at)
            )
            outcome = await self._take(request, mapped, received_at, len(body))
        assert outcome is not None  # a store body is at least one event
        if not outcome.accepted:
            return _all_refused(request, outcome)
        return json_response(_Id(mapped.event_id or outcome.ids[0] or ""))

    def _identify(self, request: Request, key: bytes | str | None) -> None:
        identity = self._road.identify(request, key)
        if request.path_parameter != str(identity.project):
            raise ProtocolError(
                "The key is not of the project in the address; copy the whole DSN", code="forbidden", status=403
            )

    async def _check_dsn(self, request: Request, key: bytes | None, body: bytes) -> None:
        """Hold the envelope's DSN against the key that came before it; without one, it has the key."""
        try:
            headers = await self._road.aside(len(body), lambda: read_headers(body))
            dsn = read_dsn(headers.dsn)
        except ProtocolError:
            if key is not None:
                raise
            dsn = None  # whoever shows no key is told nothing else
        if dsn is not None and ((key is not None and dsn.key.encode() != key) or dsn.project != request.path_parameter):
            raise disagreement()
        if key is None:
            self._identify(request, dsn.key if dsn is not None else None)

    async def _take(self, request: Request, mapped: Mapped, received_at: int, size: int) -> Outcome | None:
        """Store what there is, then count everything else: a request that fails here is counted as its failure alone."""
        road = self._road
        outcome = None
        if mapped.events:
            outcome = await road.take(
                request, mapped.events, received_at=received_at, repaired=mapped.repaired, size=size
            )
        for name, count in mapped.unused.items():
            road.count_dropped(request, name, count)
        for (reason, category), count in mapped.lost.items():
            road.count_dropped(request, f"client_report:{reason}:{category}", count)
        shed = mapped.shed.total()
        if shed:
            road.count_refused(request, [(0, "shed", SHED_SENTENCE)] * shed)
        return outcome


def _leave_out(mapped: Mapped, level: int) -> None:
    """Leave out what matters least of the rest: quiet log records."""
    kept: list[Event | Dropped] = []
    for event in mapped.events:
        if isinstance(event, Event) and is_shed(event.kind, event.level, level):
            mapped.shed[event.kind] += 1
        else:
            kept.append(event)
    mapped.events = kept


def _all_refused(request: Request, outcome: Outcome) -> Response:
    """Every item was refused by itself, and is counted so: this only tells the sender."""
    codes = {code for _, code, _ in outcome.refusals}
    causes = tuple(f"{sentence} ({code})" for _, code, sentence in outcome.refusals[:CAUSES_MAX])
    status = 413 if codes == {"event_too_large"} else 400
    return refusal(
        request, ProtocolError("Nothing of this could be taken", code=min(codes), status=status, details=causes)
    )


def refusal(request: Request, error: LeewardError) -> Response:
    """An error in Sentry's form: a sentence, causes, and the sentence in a header that SDKs write into their log."""
    headers = []
    detail = error.message
    if isinstance(error, ProtocolError):
        status = error.status
        if status == 401:
            status, detail = 403, NO_KEY_SENTENCE  # Sentry's SDKs know only this one
        causes = list(error.details)
    elif isinstance(error, RetryableError):
        wait_s = max(1, round(error.retry_after_s or 1))
        status = 429 if isinstance(error, RateLimited) else 503
        headers.append((b"retry-after", b"%d" % wait_s))
        if isinstance(error, QuotaExceeded):
            headers.append((b"x-sentry-rate-limits", b"%d::key:quota" % wait_s))
        causes = []
    else:
        return refusal(request, failure())
    if error.fix:
        causes.append(error.fix)
    headers.append((b"x-sentry-error", _printable(detail)))
    return json_response(_Refusal(detail, causes), status, headers)


def _printable(sentence: str) -> bytes:
    short = sentence[:SENTENCE_CHARS_MAX]
    return "".join(char if " " <= char <= "~" else "?" for char in short).encode("ascii")
