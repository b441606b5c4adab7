"""Unexpected failures of leeward itself, and alerts of the gateway, as events of a Sentry project: `[report] sentry_dsn`.

Promises  whoever reports never waits, and nothing is raised: an event has a place among `WAITING_MAX` or is counted as
          dropped, at most `EVENTS_PER_MINUTE` are made, the same one once in `SAME_EVERY_S`. A task of its own sends
          them, each within `SEND_S` and once; while Sentry asks for fewer, none. What became of them is counted.
          An event has the name of what failed, the stack as places in code, and the request's id: no variables, no
          lines of code, no prompt. An exception's own words are told only where they are ours or the system's: any
          other might quote a request, and stands in the log.
Limits    no proxies. What waits when the process is killed is lost; the log has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import threading
import traceback
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

import msgspec

from leeward.errors import ConfigError, LeewardError
from leeward.gateway.origin import Endpoint, Origin
from leeward.gateway.transport import Transport, TransportError, header_lines
from leeward.resilience.retry import parse_retry_after
from leeward.scrub.secrets import clean, load
from leeward.version import VERSION

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.gateway.records import AttemptRecord, RequestRecord
    from leeward.server.logs import Report

__all__ = ["OUTCOMES", "SentryReport"]

EVENTS_PER_MINUTE: Final = 10
WAITING_MAX: Final = 50
SAME_EVERY_S: Final = 300.0
KNOWN_MAX: Final = 200  # kinds of events that are remembered
SEND_S: Final = 5.0
PAUSE_S: Final = 60.0
PAUSE_MAX_S: Final = 3_600.0
CHAIN_MAX: Final = 5
FRAMES_MAX: Final = 50
TEXT_CHARS_MAX: Final = 500
ANSWER_BYTES_MAX: Final = 64 << 10
NOT_TOLD: Final = "its words are in the server's log"
OUTCOMES: Final = ("sent", "failed", "limited", "dropped")
_DSN: Final = re.compile(r"(https?)://([A-Za-z0-9_-]{1,128})(?::[A-Za-z0-9_-]*)?@([^@]+)/([0-9]{1,20})")
_ENCODE: Final = msgspec.json.Encoder().encode


class SentryReport:
    """Belongs to the loop that starts it; exceptions may be reported from any thread. With an empty DSN it is off.

    Raises:
        ConfigError: the DSN is none.
    """

    def __init__(self, dsn: str, *, clock: Clock, report: Report) -> None:
        self._clock = clock
        self._report = report
        self._address = _address(dsn) if dsn else None
        self._transport = Transport(clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[bytes] = deque()
        self._stirred = asyncio.Event()
        self._lock = threading.Lock()
        self._minute = (-1, 0)  # which, and how many events were made in it
        self._known: dict[str, float] = {}  # what was told, and when
        self._paused_until_s = -math.inf
        self._complained_s = -math.inf
        self.counts: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))

    @property
    def is_on(self) -> bool:
        """Whether there is a project to tell."""
        return self._address is not None

    def start(self) -> None:
        """Begin to send, on the running loop."""
        if self.is_on:
            load()
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._send_all())

    async def stop(self, timeout_s: float) -> None:
        """Send what waits, at most so long, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        self._loop = None
        self._stirred.set()
        await asyncio.wait((task,), timeout=timeout_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.counts["dropped"] += len(self._waiting)
        self._waiting.clear()
        await self._transport.close()

    def watching(self, report: Report) -> Report:
        """The same log, but an exception that is written there is told here, too."""
        if not self.is_on:
            return report

        def told(event: str, fields: dict[str, Any], /) -> None:
            report(event, fields)
            error = next((value for value in fields.values() if isinstance(value, BaseException)), None)
            if error is not None:
                self.failed(event, error, str(fields.get("request_id", "")))

        return told

    def failed(self, name: str, error: BaseException, request_id: str = "") -> None:
        """Tell of an exception. From any thread."""
        raised = traceback.extract_tb(error.__traceback__)[-1:]
        place = f"{raised[0].filename}:{raised[0].lineno}" if raised else ""
        if self._may_tell(f"{name} {type(error).__qualname__} {place}"):
            self._hand_over({"level": "error", "exception": {"values": _chain(error)}}, name, request_id)

    def alert(self, name: str, sentence: str, key: str, **tags: str) -> None:
        """Tell that somebody should look. From any thread."""
        if self._may_tell(f"{name} {key}"):
            event = {"level": "error", "logentry": {"formatted": sentence}, "fingerprint": [name, key]}
            self._hand_over(event, name, tags.pop("request_id", ""), **tags)

    # As an observer of the gateway

    def attempted(self, request: RequestRecord, attempt: AttemptRecord, why: str) -> None:
        """Nothing: one call's failure is what the gateway is for."""

    def ended(self, request: RequestRecord) -> None:
        """Nobody could be asked."""
        if request.outcome == "open":
            self._all_open(request.route, request.caller.request_id)

    def changed(self, provider: str, model: str, what: str, state: str, why: str) -> None:  # noqa: ARG002 - as every observer
        """A key is refused, or everybody is open."""
        if state == "forced-probe":
            self._all_open(model, "")
        elif what == "credentials" and state == "refused":
            sentence = f"The provider {provider} does not accept its key. Calls go to others until it is replaced."
            self.alert("credentials_refused", sentence, provider, provider=provider)

    def _all_open(self, model: str, request_id: str) -> None:
        sentence = "Every provider of a route failed lately and is left alone: its requests get no model's answer."
        self.alert("providers_unavailable", sentence, "", model=model, request_id=request_id)

    # inside

    def _may_tell(self, key: str) -> bool:
        """Whether an event is made of this; cheap for all that is not."""
        if self._loop is None:
            return False
        now_s = self._clock.monotonic_s()
        minute = int(now_s // 60)
        with self._lock:
            if now_s - self._known.get(key, -math.inf) < SAME_EVERY_S:
                return False
            count = self._minute[1] if self._minute[0] == minute else 0
            if count >= EVENTS_PER_MINUTE:
                self.counts["limited"] += 1
                return False
            self._minute = (minute, count + 1)
            self._known.pop(key, None)
            self._known[key] = now_s
            if len(self._known) > KNOWN_MAX:
                del self._known[next(iter(self._known))]
        return True

    def _hand_over(self, event: dict[str, Any], name: str, request_id: str, **tags: str) -> None:
        event_id = os.urandom(16).hex()
        at_s = self._clock.wall_ms() / 1000
        known = {"event": name, "request_id": request_id, **tags}
        event |= {
            "event_id": event_id,
            "timestamp": at_s,
            "platform": "python",
            "logger": "leeward",
            "release": f"leeward@{VERSION}",
            "tags": {tag: value for tag, value in known.items() if value},
        }
        payload = _ENCODE(clean(event))
        head = _ENCODE({"event_id": event_id, "sdk": {"name": "leeward", "version": VERSION}})
        envelope = b'%b\n{"type":"event","length":%d}\n%b\n' % (head, len(payload), payload)
        loop = self._loop
        try:
            if loop is not None:
                loop.call_soon_threadsafe(self._enqueue, envelope)
        except RuntimeError:
            pass  # boundary: the loop was closed in this moment; the log has it

    def _enqueue(self, envelope: bytes) -> None:
        if len(self._waiting) >= WAITING_MAX:
            self.counts["dropped"] += 1
            return
        self._waiting.append(envelope)
        self._stirred.set()

    async def _send_all(self) -> None:
        while True:
            await self._stirred.wait()
            self._stirred.clear()
            while self._waiting:
                await self._send(self._waiting.popleft())
            if self._loop is None:
                return

    async def _send(self, envelope: bytes) -> None:
        if self._clock.monotonic_s() < self._paused_until_s:
            self.counts["dropped"] += 1
            return
        assert self._address is not None
        try:
            exchange = await self._transport.begin(
                *self._address,
                envelope,
                connect_timeout_s=SEND_S,
                head_timeout_s=SEND_S,
                stall_timeout_s=SEND_S,
                deadline_s=self._clock.monotonic_s() + SEND_S,
                bytes_max=ANSWER_BYTES_MAX,
            )
            await exchange.read()
        except TransportError as error:
            self._not_sent(error.kind)
            return
        if 200 <= exchange.status < 300:
            self.counts["sent"] += 1
            return
        if exchange.status == 429:
            said = exchange.header(b"retry-after").decode("latin-1")
            wait_s = parse_retry_after(said or None, self._clock.wall_ms() / 1000, max_s=PAUSE_MAX_S)
            self._paused_until_s = self._clock.monotonic_s() + (PAUSE_S if wait_s is None else wait_s)
        self._not_sent(f"status_{exchange.status}")

    def _not_sent(self, reason: str) -> None:
        self.counts["failed"] += 1
        now_s = self._clock.monotonic_s()
        if now_s - self._complained_s >= PAUSE_MAX_S:
            self._complained_s = now_s
            self._report("sentry_not_told", {"reason": reason, "fix": "[report] sentry_dsn"})


def _address(dsn: str) -> tuple[Endpoint, bytes, bytes]:
    """Where a DSN leads, and the header lines with its key."""
    found = _DSN.fullmatch(dsn)
    problem = ConfigError(
        "sentry_dsn is no address of a Sentry project",
        code="config_sentry_dsn",
        where="[report] sentry_dsn",
        fix='sentry_dsn = "https://KEY@sentry.example.com/1"',
    )
    if found is None:
        raise problem
    scheme, key, rest, project = found.groups()
    try:
        origin = Origin.of(f"{scheme}://{rest}")
    except ConfigError:
        raise problem from None
    headers = header_lines(
        (
            ("content-type", "application/x-sentry-envelope"),
            ("user-agent", f"leeward/{VERSION}"),
            ("x-sentry-auth", f"Sentry sentry_version=7, sentry_client=leeward/{VERSION}, sentry_key={key}"),
        )
    )
    # A private network is where many have their Sentry; whoever writes the configuration says so with the address.
    return Endpoint(origin, private=True, connections_max=1), f"{origin.path}/api/{project}/envelope/".encode(), headers


def _chain(error: BaseException) -> list[dict[str, Any]]:
    """An exception and its causes, the oldest first, as Sentry has them."""
    values: list[dict[str, Any]] = []
    one: BaseException | None = error
    while one is not None and len(values) < CHAIN_MAX:
        values.append(
            {
                "type": type(one).__qualname__,
                "module": type(one).__module__,
                "value": _words(one),
                "stacktrace": {"frames": _frames(one)},
            }
        )
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return values[::-1]


def _words(error: BaseException) -> str:
    """What an exception says, if it can quote nobody."""
    if isinstance(error, LeewardError):
        return error.message[:TEXT_CHARS_MAX]
    if isinstance(error, OSError) and error.strerror:
        return f"[Errno {error.errno}] {error.strerror}"
    return NOT_TOLD


def _frames(error: BaseException) -> list[dict[str, Any]]:
    """Places in code: without its lines, and without what this machine's folders are called."""
    frames = []
    for frame in traceback.extract_tb(error.__traceback__, limit=-FRAMES_MAX):
        path = frame.filename.replace(os.sep, "/")
        is_ours = "/leeward/" in path
        short = f"leeward/{path.rpartition('/leeward/')[2]}" if is_ours else path.rpartition("/")[2]
        frames.append({"filename": short, "function": frame.name, "lineno": frame.lineno, "in_app": is_ours})
    return frames
