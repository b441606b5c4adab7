"""Our own wire, `POST /api/telemetry/ingest` and `/api/telemetry/batch`: decode, take, answer."""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Callable
from typing import Final, Literal

from leeward.errors import ProtocolError
from leeward.model import Dropped
from leeward.server.http import Request, Response, json_response
from leeward.server.intake import Prepared, prepare, prepare_body
from leeward.server.pipeline import Outcome
from leeward.server.record import BATCH_ID, BatchHead
from leeward.server.road import Road
from leeward.server.schemas import BatchAnswer, IngestAnswer, IngestResult, RefusedEvent
from leeward.wire import native
from leeward.wire.client import decode_client
from leeward.wire.text import repair

__all__ = ["Ingest"]

RESULTS_BELOW: Final = 100
_ALPHABET: Final = string.ascii_letters + string.digits
_MADE_ID_CHARS: Final = 16


class Ingest:
    """The two handlers. `batch_state` says how batches stand that were just accepted."""

    def __init__(
        self,
        road: Road,
        *,
        retention_seconds: int,
        batch_state: Callable[[int, str], Literal["completed", "processing", "failed"]],
    ) -> None:
        self._road = road
        self._pipeline = road.pipeline
        self._retention_seconds = retention_seconds
        self._batch_state = batch_state

    async def ingest(self, request: Request) -> Response:
        """One event, or an array of them."""
        road = self._road
        road.enter(request)
        with road.lease() as lease:
            body = await road.read(request, lease)
            received_at = road.received_at()
            prepared = await road.aside(
                len(body),
                lambda: prepare_body(body, project=request.project, received_at=received_at, scrub=road.scrub),
            )
            total = len(prepared.events)
            if not any(prepared.rows):
                outcome = _nothing(prepared, received_at)
                road.count_refused(request, outcome.refusals)
                return json_response(self._answer(outcome, with_results=True), 400)
            outcome = await road.take_prepared(
                request, prepared, received_at=received_at, with_keys=total < RESULTS_BELOW
            )
        return json_response(self._answer(outcome, with_results=total < RESULTS_BELOW))

    def _answer(self, outcome: Outcome, *, with_results: bool) -> IngestAnswer:
        answer = IngestAnswer(
            accepted=outcome.accepted,
            total=outcome.total,
            duplicates=outcome.duplicates,
            timestamp=outcome.received_at,
            retention_seconds=self._retention_seconds,
        )
        if with_results:
            refused = {index: (code, error) for index, code, error in outcome.refusals}
            answer.results = [
                IngestResult(success=False, code=refused[index][0], error=refused[index][1])
                if index in refused
                else IngestResult(success=True, id=outcome.ids[index] or "", key=outcome.keys[index] or "")
                for index in range(outcome.total)
            ]
        else:
            answer.errors = _refused_events(outcome.refusals)
        return answer

    async def batch(self, request: Request) -> Response:
        """A batch under an id: the sender's, or one made here."""
        road = self._road
        road.enter(request)
        with road.lease() as lease:
            body = await road.read(request, lease)
            project = request.project
            work = await road.aside(len(body), lambda: _BatchWork(body))
            known = await self._known(project, work)
            if known is None:
                received_at = road.received_at()
                prepared = await road.aside(len(body), lambda: work.prepare(project, received_at, scrub=road.scrub))
                # The same batch may have come in on another connection meanwhile.
                known = await self._known(project, work)
            if known is not None:
                road.count(request, len(known.keys), len(known.keys), ())
                return json_response(self._batch_answer(project, known))
            road.shed(prepared, comes_again=True)
            if not any(prepared.rows):
                raise self._no_valid_event(request, prepared, received_at)
            if work.client_ignored:
                self._pipeline.count_client_field_ignored()
            batch = await self._pipeline.take_batch(
                prepared,
                project=project,
                received_at=received_at,
                batch_id=work.batch_id or _made_batch_id(),
                digest=work.digest,
                client=work.client,
            )
        road.count(request, len(batch.keys), batch.duplicates, batch.refusals)
        return json_response(self._batch_answer(project, batch))

    async def _known(self, project: int, work: _BatchWork) -> BatchHead | None:
        if not work.batch_id:
            return None
        return await self._pipeline.known_batch(project, work.batch_id, work.digest)

    def _no_valid_event(self, request: Request, prepared: Prepared, received_at: int) -> ProtocolError:
        refusals = _nothing(prepared, received_at).refusals
        self._road.count_refused(request, refusals)
        return ProtocolError(
            "No valid event in the batch",
            code=refusals[0][1],
            details=tuple(f"event {index}: {error} ({code})" for index, code, error in refusals[:10]),
        )

    def _batch_answer(self, project: int, batch: BatchHead) -> BatchAnswer:
        return BatchAnswer(
            batch_id=batch.batch_id,
            status=self._batch_state(project, batch.batch_id),
            accepted=len(batch.keys),
            total=batch.total,
            duplicates=batch.duplicates,
            event_count=batch.total,
            timestamp=batch.received_at,
            events=batch.keys,
            errors=_refused_events(batch.refusals),
        )


class _BatchWork:
    """The part of a batch that any thread may do: decode the envelope, then prepare the events."""

    __slots__ = ("batch_id", "client", "client_ignored", "digest", "events", "repaired")

    def __init__(self, body: bytes) -> None:
        text, self.repaired = repair(body)
        envelope = native.decode_batch(text)
        if envelope.batch_id is not None and not BATCH_ID.fullmatch(envelope.batch_id):
            raise ProtocolError(
                "batch_id: must be 1 to 128 of the characters A-Z a-z 0-9 . _ : -", code="invalid_field"
            )
        self.batch_id = envelope.batch_id or ""
        self.events = bytes(envelope.events)
        if self.events[:1] != b"[":
            raise ProtocolError("events: must be an array", code="invalid_field")
        self.digest = hashlib.sha256(self.events).digest()[:16]
        said = bytes(envelope.client)
        self.client = decode_client(said) if said not in {b"", b"null"} else None
        self.client_ignored = self.client is None and said not in {b"", b"null"}

    def prepare(self, project: int, received_at: int, *, scrub: bool) -> Prepared:
        """Decode and prepare the events."""
        events = native.decode_events(self.events)
        return prepare(
            events,
            project=project,
            received_at=received_at,
            batch_id=self.batch_id,
            repaired=self.repaired,
            scrub=scrub,
        )


def _nothing(prepared: Prepared, received_at: int) -> Outcome:
    """The outcome of a request of which no event is valid: nothing goes to the door."""
    refusals = [
        (index, event.code, event.error) for index, event in enumerate(prepared.events) if isinstance(event, Dropped)
    ]
    return Outcome(received_at, len(refusals), 0, [], [], refusals)


def _refused_events(refusals: list[tuple[int, str, str]]) -> list[RefusedEvent]:
    return [RefusedEvent(index, code, error) for index, code, error in refusals]


def _made_batch_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_MADE_ID_CHARS))
