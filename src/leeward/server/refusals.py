"""What was refused lately, in every protocol, why, and what to do: the first thing that whoever misses data needs.

Promises  No body, header or key is kept: of a key the last four characters, and only of a long one; of a path the route
          table's template. Reasons and the client's name are free of control characters and of what looks like a
          secret. The same refusal again is counted, not listed again, so that a storm does not push out the rest.
Limits    The last 100, in memory: a restart forgets them. Same is what has the same protocol, code, client and key, and
          comes within a minute of the last one.
Belongs to the event loop. Noting a repeat costs one look-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from leeward.scrub.secrets import clean_text
from leeward.server.http import Request, Response, json_response

if TYPE_CHECKING:
    from leeward.clock import Clock

__all__ = ["CURES", "Refusal", "RefusalList", "Refusals"]

REFUSALS_MAX: Final = 100
MERGE_MS: Final = 60_000
CLIENT_CHARS_MAX: Final = 120
REASON_CHARS_MAX: Final = 300
ADDRESS_CHARS_MAX: Final = 64
NOBODY: Final = 0  # the project of those whose key is not known

_EVENT_FIELDS: Final = "Send the field as the reason asks; /docs lists the fields and what they may hold."
_JSON: Final = (
    "Send the body whole, in the form and the encoding that its headers name; a proxy or a time-out may have cut it."
)
_FORM: Final = "Load the page anew and send its form from there."
_QUERY: Final = "Correct the parameter that the reason names; /docs lists them."
_MANAGED: Final = "Correct what the reason names and ask again."
_LIST: Final = "Look at the list first: it may have changed since it was shown."
_STORE: Final = "Nothing is lost: events wait in the log. Look at /health; ask again once the store is ready."

CURES: Final[dict[str, str]] = {
    # keys
    "unauthorized": "Give the client a key of this very server: leeward keys create --scope write --host ADDRESS",
    "forbidden": "This key may not do that: leeward keys create with the scope that the reason names.",
    "key_in_url": "Send the key in a header and make a new one: this one may stand in logs by now.",
    "quota_exceeded": "Wait until the minute or the day ends, or allow more: leeward keys set-quota",
    "rate_limit_exceeded": "Wait until the minute ends, or allow more: leeward keys set-quota --requests-per-minute",
    "spend_limit_reached": "Wait until the day ends (UTC), or allow more: leeward keys set-quota",
    # too much
    "rate_limited": "Send less at once, in larger batches; clients that wait for Retry-After lose nothing.",
    "unavailable": "The server could not take it then: look at /health. Clients that try again lose nothing.",
    "shutting_down": "The server was being stopped: ask again. A balancer that looks at /readyz sends nothing then.",
    "unknown_fault": "Choose one that there is: leeward chaos faults lists the faults that can be switched on.",
    "shed": "The server had too much to do and took what tells of trouble first: send less, or give it more cores.",
    "payload_too_large": "Split it: fewer items in a request; or raise the limit of its protocol's bodies under [server].",
    "batch_too_large": "Send fewer events in a batch.",
    "event_too_large": "Send less with each event: no files and no whole documents.",
    "timeout": "The body came too slowly: send smaller batches, or raise body_timeout_s under [server].",
    # form
    "unsupported_encoding": "Send the body plain, or packed in one of the ways that the reason names.",
    "unsupported_type": "Send the content type that the reason names.",
    "unsupported_media_type": "Send OTLP as application/x-protobuf or application/json; gRPC is not spoken here.",
    "invalid_json": _JSON,
    "undecodable": "This is a defect of the server: its log names it. Please report it, with what was sent if you can.",
    "not_otlp": "Update the exporter: its JSON is not OTLP's; enumerations are numbers there, ids are hex.",
    "invalid_protobuf": "Look at what is sent: it is no OTLP message. A proxy may have changed it.",
    "invalid_envelope": "Update the Sentry SDK; what it sends is no envelope.",
    "protocol": "Look at what is sent: it is not what this address takes.",
    "invalid_event": _EVENT_FIELDS,
    "invalid_field": _EVENT_FIELDS,
    "invalid_id": "Send the ids of spans and traces as OTLP has them: 8 and 16 bytes, not all of them zero.",
    "invalid_timestamp": "Send times in RFC 3339 or as numbers since 1970.",
    "invalid_uuid": "Send a UUID, or none: then one is made here.",
    "missing_distinct_id": "Give each event a distinct_id: who it is about.",
    "missing_event_name": "Give each event its name in event.",
    "missing_event_type": "Give each event its name in event_type, or event.",
    "missing_name": "Give each item a name.",
    "empty_batch": "Send at least one event, or nothing.",
    "too_deep": "Send values that are nested less deeply; a reference to itself may be the cause.",
    "too_many_buckets": "Send histograms with fewer buckets.",
    "too_many_keys": "Send fewer fields with each event; data in the names of fields may be the cause.",
    "too_many_parts": "Send fewer events, links or exemplars with each item.",
    "batch_conflict": "Give every batch an id of its own; the same id again means the same events.",
    "duplicate_event_uuid": "Give every event of a batch a uuid of its own.",
    "batch_not_found": "Ask with the key of the project that sent it; ids are forgotten after the retention.",
    # asking and managing
    "invalid_query": _QUERY,
    "store_behind": _STORE,
    "store_unavailable": _STORE,
    "store_refused": _STORE,
    "not_found": "Look at the address in the client's settings; /docs lists what this server answers.",
    "method_not_allowed": "Use the method that /docs names for this address.",
    "unknown_host": "Add the name to allowed_hosts under [server].",
    "exists": _LIST,
    "key_not_found": _LIST,
    "project_not_found": _LIST,
    "unknown_project": _LIST,
    "dead_letter_not_found": _LIST,
    "invalid_name": _MANAGED,
    "invalid_scope": _MANAGED,
    "foreign_form": _FORM,
    "invalid_form": _FORM,
}
_OTHER_CURE: Final = "Look at the reason; the server's log may say more."


class Refusal(msgspec.Struct, frozen=True):
    """One refusal, or several that are the same. Times in milliseconds: the last of them, and the first."""

    at_ms: int
    since_ms: int
    count: int
    wire: str
    code: str
    reason: str
    cure: str
    client: str
    key_tail: str
    path: str
    address: str


class RefusalList(msgspec.Struct):
    """What was refused lately, the newest first. `count` is of those listed."""

    count: int
    refusals: list[Refusal]


class _Noted(msgspec.Struct):
    same: tuple[int, str, str, bytes, str]  # project, wire, code, client, end of the key
    first: Refusal
    at_ms: int
    count: int


class Refusals:
    """The list."""

    def __init__(self, *, clock: Clock, refusals_max: int = REFUSALS_MAX) -> None:
        self._clock = clock
        self._refusals_max = refusals_max
        self._noted: dict[int, _Noted] = {}  # by a number of its own; that of the newest refusal stands last
        self._newest: dict[tuple[int, str, str, bytes, str], int] = {}  # the number of the newest of a kind
        self._number = 0

    def note(
        self,
        *,
        wire: str,
        code: str,
        reason: str,
        path: str,
        user_agent: bytes = b"",
        key_tail: str = "",
        address: str = "",
        project: int = NOBODY,
        count: int = 1,
        cure: str = "",
    ) -> None:
        """Note that a request, or *count* events of one, were refused. Without a cure it is that of the code."""
        now_ms = self._clock.wall_ms()
        same = (project, wire, code, user_agent[:CLIENT_CHARS_MAX], key_tail)
        number = self._newest.get(same)
        if number is not None and abs(now_ms - self._noted[number].at_ms) < MERGE_MS:
            noted = self._noted[number] = self._noted.pop(number)
            noted.at_ms = now_ms
            noted.count += count
            return
        if len(self._noted) >= self._refusals_max:
            self._forget_oldest()
        self._number += 1
        self._newest[same] = self._number
        first = Refusal(
            at_ms=now_ms,
            since_ms=now_ms,
            count=count,
            wire=wire,
            code=code,
            reason=_shown(reason, REASON_CHARS_MAX),
            cure=cure or CURES.get(code, _OTHER_CURE),
            client=_shown(user_agent.decode("utf-8", "replace"), CLIENT_CHARS_MAX),
            key_tail=_printable(key_tail),
            path=_printable(path),
            address=_printable(address[:ADDRESS_CHARS_MAX]),
        )
        self._noted[self._number] = _Noted(same, first, now_ms, count)

    def _forget_oldest(self) -> None:
        number = next(iter(self._noted))
        noted = self._noted.pop(number)
        if self._newest[noted.same] == number:
            del self._newest[noted.same]

    def of_project(self, project: int) -> list[Refusal]:
        """The newest first: what was refused of this project, and of those whose key is not known."""
        return [
            msgspec.structs.replace(noted.first, at_ms=noted.at_ms, count=noted.count)
            for noted in reversed(self._noted.values())
            if noted.same[0] in {project, NOBODY}
        ]

    def clear(self) -> None:
        """Forget all: what the self-check at the start was refused is nobody's."""
        self._noted.clear()
        self._newest.clear()

    async def list(self, request: Request) -> Response:
        """Answer with the list."""
        refusals = self.of_project(request.project)
        return json_response(RefusalList(len(refusals), refusals))


def _shown(text: str, chars_max: int) -> str:
    """What may be shown of a text from outside; looked at for secrets before it is cut, as half of one hides it."""
    return _printable(clean_text(text[: 4 * chars_max]))[:chars_max]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
