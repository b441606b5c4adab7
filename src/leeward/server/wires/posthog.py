"""PostHog's protocol, old and new: what its SDKs send is taken, and what they ask for is answered so that they are quiet.

Promises  Over the older protocol a request is taken whole or not at all, and 200 is the only answer of success: browsers
          would send anything else again, but for a beacon, which gets its 204. Over the newer one each event gets an
          answer. A used-up quota is no error in either: an SDK would repeat its events for ever.
          There are no feature flags, surveys or recordings here; those who ask are told so, with or without a key.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from leeward.errors import LeewardError, ProtocolError, QuotaExceeded, Unavailable
from leeward.model import Dropped
from leeward.server.access import bearer
from leeward.server.http import Lease, Request, Response, error_response, json_response
from leeward.wire.otlp import decode as otlp
from leeward.wire.posthog import v1 as wire_v1
from leeward.wire.posthog.body import LZ64, Payload, form_field
from leeward.wire.posthog.columns import Received, to_events
from leeward.wire.posthog.events import Batch, decode
from leeward.wire.posthog.lz import lz_unpack
from leeward.wire.posthog.times import milliseconds, sent_at_of_query
from leeward.wire.text import repair

if TYPE_CHECKING:
    from collections.abc import Callable

    from leeward.server.road import Road

__all__ = ["Posthog", "refusal"]

V1_PATHS: Final = frozenset({"/i/v1/analytics/events", "/i/v1/ai/events"})
ENGAGE: Final = "/engage"
NAME_OF_ENGAGE: Final = "$identify"  # its events are changes to a person and bring no name
REPLAY_EVENTS: Final = frozenset({"$snapshot", "$snapshot_items"})
RETRY_AFTER: Final = (b"retry-after", b"1")
LZ_WEIGHT: Final = 16  # a packed byte costs as much as so many plain ones
PROTOBUF: Final = b"application/x-protobuf"
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_JSON: Final = (b"content-type", b"application/json")
_STATUS_OK: Final = b'{"status":1}'
_OVER_QUOTA: Final = b'{"status":1,"quota_limited":["events"]}'

_NO_FLAGS: Final = {
    "flags": {},
    "featureFlags": {},
    "featureFlagPayloads": {},
    "errorsWhileComputingFlags": False,
    "config": {"enable_collect_everything": False},
    "supportedCompression": ["gzip", "gzip-js"],
    "sessionRecording": False,
    "surveys": False,
    "toolbarParams": {},
    "isAuthenticated": False,
    "siteApps": [],
}
# Without a member `surveys`: posthog-js loads a script for any value of it.
_REMOTE_CONFIG: Final = {
    "supportedCompression": ["gzip", "gzip-js"],
    "hasFeatureFlags": False,
    "captureDeadClicks": False,
    "capturePerformance": False,
    "autocapture_opt_out": True,
    "autocaptureExceptions": False,
    "analytics": {"endpoint": "/i/v0/e/"},
    "elementsChainAsString": True,
    "sessionRecording": False,
    "heatmaps": False,
    "defaultIdentifiedOnly": True,
    "siteApps": [],
}
_NO_DEFINITIONS: Final = b'{"flags":[],"group_type_mapping":{},"cohorts":{}}'
_DEFINITIONS_TAG: Final = b'"no-flags"'


class Posthog:
    """The handlers."""

    def __init__(self, road: Road) -> None:
        self._road = road

    # -- events, older protocol --------------------------------------------------------------------------------------

    async def capture(self, request: Request) -> Response:
        """Events in any shape and encoding; all are taken, or none."""
        road = self._road
        road.enter(request)
        with road.lease() as lease:
            batch, repaired, size = await self._batch(request, lease)
            try:
                identity = road.identify(request, batch.token)
            except QuotaExceeded:
                road.count_dropped(request, "quota_exceeded", len(batch.events) - 1)  # and the one that is answered
                raise
            received = Received(
                identity.project,
                road.received_at(),
                batch.token.encode(),
                batch.sent_at,
                batch.historical,
                NAME_OF_ENGAGE if request.route_path == ENGAGE else "",
            )
            events = await road.aside(size, lambda: to_events(batch.events, received))
            kept = [event for event in events if isinstance(event, Dropped) or event.name not in REPLAY_EVENTS]
            if len(kept) < len(events):
                road.count_dropped(request, "replay", len(events) - len(kept))
            if kept:
                await road.take(
                    request, kept, received_at=received.received_at, repaired=repaired, size=size, whole=True
                )
        return _accepted(request)

    async def replay(self, request: Request) -> Response:
        """A session recording: taken, counted and thrown away."""
        road = self._road
        road.enter(request)
        with road.lease() as lease:
            batch, _, _ = await self._batch(request, lease)
            road.identify(request, batch.token)
        road.count_dropped(request, "replay", len(batch.events))
        return _accepted(request)

    async def _batch(self, request: Request, lease: Lease) -> tuple[Batch, bool, int]:
        """The request's events, whether their text was repaired, and the size of their JSON."""
        payload = await self._payload(request, lease)
        query = request.query_string
        sent_at = sent_at_of_query(form_field(query, b"_") or form_field(query, b"sent_at"))
        size = len(payload.data)
        batch, repaired = await self._road.aside(size, lambda: _decoded(payload.data, sent_at))
        return batch, repaired, size

    async def _payload(self, request: Request, lease: Lease) -> Payload:
        """The request's JSON, out of all that it was packed in."""
        road = self._road
        payload = Payload(
            await road.read_packed(request, lease),
            query_string=request.query_string,
            content_type=request.header(b"content-type"),
            content_encoding=request.header(b"content-encoding"),
        )
        while encoding := await road.aside(len(payload.data), payload.peel):
            payload.data = await self._unpacked(request, payload.data, encoding, lease)
        return payload

    async def _unpacked(self, request: Request, packed: bytes, encoding: bytes, lease: Lease) -> bytes:
        road = self._road
        if encoding != LZ64:
            return await road.unpack(request, packed, encoding, lease)
        bytes_max = road.unpacked_bytes_max(request)
        unpacked = await road.aside(LZ_WEIGHT * len(packed), lambda: lz_unpack(packed, bytes_max))
        lease.grow(len(unpacked))
        return unpacked

    # -- events, newer protocol --------------------------------------------------------------------------------------

    async def v1(self, request: Request) -> Response:
        """Events, each with an answer of its own."""
        road = self._road
        road.enter(request)
        over_quota: QuotaExceeded | None = None
        try:
            road.identify(request, bearer(request.headers))
        except QuotaExceeded as error:
            over_quota = error
        with road.lease() as lease:
            body = await road.read(request, lease)
            batch, repaired = await road.aside(len(body), lambda: _decoded_v1(body))
            if over_quota is not None:
                refusals = self._refused(request, batch, over_quota)
            else:
                refusals = await self._taken(request, batch, len(body), repaired=repaired)
        answer, comes_again = wire_v1.results(batch.events, refusals)
        return json_response(answer, headers=[RETRY_AFTER] if comes_again else None)

    async def _taken(
        self, request: Request, batch: wire_v1.BatchIn, size: int, *, repaired: bool
    ) -> list[tuple[int, str, str]]:
        """Take what can be taken; what was not, as (index, code, sentence)."""
        road = self._road
        received = Received(
            request.project,
            road.received_at(),
            (bearer(request.headers) or b"").strip(),
            milliseconds(request.header(b"posthog-request-timestamp").decode("latin-1"), zone_needed=True),
            batch.historical,
            zone_needed=True,
        )
        sdk_info = request.header(b"posthog-sdk-info").decode("latin-1")
        items = await road.aside(size, lambda: wire_v1.to_events(batch, received, sdk_info=sdk_info))
        try:
            outcome = await road.take(request, items, received_at=received.received_at, repaired=repaired, size=size)
        except Unavailable as error:
            return self._refused(request, batch, error)
        return outcome.refusals

    def _refused(self, request: Request, batch: wire_v1.BatchIn, error: LeewardError) -> list[tuple[int, str, str]]:
        """All of a request, for one reason."""
        refusals = [(index, error.code, error.message) for index in range(len(batch.events))]
        self._road.count_refused(request, refusals)
        return refusals

    async def ai_blobs(self, _request: Request) -> Response:
        """Events of language models with large parts beside them, which no SDK sends unless told to."""
        raise ProtocolError(
            "Multipart events are not taken here; send them to /i/v0/ai/batch", code="not_found", status=404
        )

    # -- OpenTelemetry's records, which the SDKs send to addresses of PostHog's -----------------------------------------

    async def logs(self, request: Request) -> Response:
        """Log records."""
        return await self._otlp(request, otlp.logs)

    async def metrics(self, request: Request) -> Response:
        """Metrics."""
        return await self._otlp(request, otlp.metrics)

    async def traces(self, request: Request) -> Response:
        """Spans."""
        return await self._otlp(request, otlp.traces)

    async def _otlp(self, request: Request, decode_records: Callable[..., otlp.Decoded]) -> Response:
        """Take an export request, its key in the query string or in a header.

        It is protobuf where the SDK has OpenTelemetry's own exporter send it.
        """
        road = self._road
        road.enter(request)
        token = form_field(request.query_string, b"token") or bearer(request.headers)
        identity = road.identify(request, token)
        is_json = not request.header(b"content-type").lower().startswith(PROTOBUF)
        with road.lease() as lease:
            if is_json:
                body = (await self._payload(request, lease)).data
            else:
                body = await road.read(request, lease)
            received_at = road.received_at()
            decoded = await road.aside(
                len(body),
                lambda: decode_records(body, is_json=is_json, project=identity.project, received_at=received_at),
            )
            if decoded.items:
                await road.take(
                    request, decoded.items, received_at=received_at, repaired=decoded.repaired, size=len(body)
                )
        return Response(200, b"{}", [_JSON]) if is_json else Response(200, b"", [(b"content-type", PROTOBUF)])

    # -- what SDKs ask for -------------------------------------------------------------------------------------------

    async def flags(self, _request: Request) -> Response:
        """There are no feature flags."""
        return json_response({**_NO_FLAGS, "requestId": str(uuid.uuid4())})

    async def config(self, request: Request) -> Response:
        """What a browser SDK should do: capture, and nothing else."""
        return json_response({"token": request.path_parameter, **_REMOTE_CONFIG})

    async def config_js(self, request: Request) -> Response:
        """The same as a script, which the SDK loads first."""
        token = request.path_parameter
        config = json_response({"token": token, **_REMOTE_CONFIG}).body
        script = b"(window._POSTHOG_REMOTE_CONFIG=window._POSTHOG_REMOTE_CONFIG||{})[%b]={config:%b,siteApps:[]};" % (
            json_response(token).body,
            config,
        )
        return Response(200, script, [(b"content-type", b"text/javascript; charset=utf-8")])

    async def surveys(self, _request: Request) -> Response:
        """There are no surveys."""
        return json_response({"surveys": []})

    async def product_tours(self, _request: Request) -> Response:
        """There are no product tours."""
        return json_response({"product_tours": []})

    async def web_experiments(self, _request: Request) -> Response:
        """There are no experiments."""
        return json_response({"experiments": []})

    async def definitions(self, request: Request) -> Response:
        """Flags for a server that computes them itself: none, and they have not changed."""
        tag = (b"etag", _DEFINITIONS_TAG)
        if request.header(b"if-none-match").removeprefix(b"W/") == _DEFINITIONS_TAG:
            return Response(304, b"", [tag])
        return Response(200, _NO_DEFINITIONS, [_JSON, tag])

    async def remote_config(self, _request: Request) -> Response:
        """What hangs on one flag: nothing."""
        return json_response(None)


def refusal(request: Request, error: LeewardError) -> Response:
    """An error as this protocol tells it: a sentence, or in the newer one an object with a tag."""
    if request.route_path in V1_PATHS:
        return _refusal_v1(error)
    if isinstance(error, QuotaExceeded):
        return Response(200, _OVER_QUOTA, [_JSON])
    answer = error_response(error)
    details = error.details if isinstance(error, ProtocolError) and error.status != 405 else ()
    sentence = ": ".join((error.message, *details))
    return _with_body(answer, sentence.encode("utf-8", "replace"), _TEXT)


def _refusal_v1(error: LeewardError) -> Response:
    answer = error_response(error)
    tag = "invalid_api_token" if answer.status == 401 else error.code
    details = error.details if isinstance(error, ProtocolError) else ()
    told: dict[str, Any] = {"error": tag, "error_description": ": ".join((error.message, *details))}
    return _with_body(answer, json_response(told).body, _JSON)


def _with_body(answer: Response, body: bytes, content_type: tuple[bytes, bytes]) -> Response:
    others = [(name, value) for name, value in answer.headers if name != b"content-type"]
    return Response(answer.status, body, [content_type, *others])


def _accepted(request: Request) -> Response:
    if form_field(request.query_string, b"beacon") == b"1":
        return Response(204)
    return Response(200, _STATUS_OK, [_JSON])


def _decoded(data: bytes, sent_at: int | None) -> tuple[Batch, bool]:
    text, repaired = repair(data)
    return decode(text, sent_at=sent_at), repaired


def _decoded_v1(body: bytes) -> tuple[wire_v1.BatchIn, bool]:
    text, repaired = repair(body)
    return wire_v1.decode(text), repaired
