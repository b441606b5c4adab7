"""What the handlers of all wires share, in the order in which a request meets it: admission → key → body → stages →
quota → door → log → counts.

Promises  Each item of a request ends in exactly one outcome, which is counted by wire: accepted, duplicate, the code of
          its refusal, or the name of what is taken and thrown away on purpose. Whatever is refused is noted with its
          reason, for those who look for missing data.
Belongs to the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from leeward.errors import LeewardError, ProtocolError, RateLimited
from leeward.model import Dropped, Event
from leeward.server.access import key_tail
from leeward.server.admission import is_shed
from leeward.server.http import (
    LOOP_BYTES_MAX,
    BodyLimits,
    Lease,
    Request,
    read_body,
    read_packed,
    unpack_body,
)
from leeward.server.intake import Prepared, prepare_events
from leeward.server.pipeline import Outcome, Pipeline
from leeward.server.resends import Resends

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leeward.server.access import Access, Identity
    from leeward.server.admission import Admission
    from leeward.server.counters import Counters
    from leeward.server.http import ByteBudget
    from leeward.server.logs import Report
    from leeward.server.quotas import Quotas
    from leeward.server.refusals import Refusals
    from leeward.server.routes import Wire

__all__ = ["Road", "overloaded"]

LARGE_BYTES: Final = 2 << 20
SHED_RETRY_AFTER_S: Final = 30.0
WORK_BYTES_PER_BYTE: Final = 4  # what decoded items, events and rows hold besides the body that they came in
_SHED: Final = Dropped("shed", "the server is overloaded and takes what matters more; send this again later")
_Made = TypeVar("_Made")


class Road:
    """One for the whole server; `limits` has those of each wire's bodies, `scrub` says whether secrets are taken out."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        admission: Admission,
        access: Access,
        quotas: Quotas,
        refusals: Refusals,
        counters: Counters,
        budget: ByteBudget,
        resends: Resends,
        limits: Mapping[Wire, BodyLimits],
        report: Report,
        scrub: bool = True,
    ) -> None:
        self.pipeline = pipeline
        self._admission = admission
        self._access = access
        self._quotas = quotas
        self._refusals = refusals
        self._counters = counters
        self._budget = budget
        self._resends = resends
        self._limits = limits
        self._report = report
        # Of their own, so that a few bodies that take seconds do not hold up the many that take milliseconds.
        self._threads_for_large = ThreadPoolExecutor(2, "leeward-large")
        self.scrub = scrub

    # -- before any work ---------------------------------------------------------------------------------------------

    def enter(self, request: Request) -> None:
        """Refuse what cannot be taken now; the quota too, where the key is known already.

        Raises:
            Unavailable: the log is full.
            RateLimited: too much at once, or this key's quota is used up.
        """
        self._admission.check()
        if request.identity is not None:
            self._check_quota(request.identity)

    @property
    def shed_level(self) -> int:
        """How much must give way: 0 nothing, 1 debug logs (and transactions, at their handler), 2 and 3 all but errors,
        warnings and events.
        """
        return self._admission.level()

    def received_at(self) -> int:
        """The time of receipt of a request that has just come, in milliseconds."""
        return self.pipeline.received_at()

    def identify(self, request: Request, token: bytes | str | None) -> Identity:
        """Say who brings this key, wherever the wire carries it, and remember it in the request.

        Raises:
            ProtocolError: 401 `unauthorized`, 403 `forbidden`.
            RateLimited: too many wrong keys came from this address, or the key's quota is used up.
        """
        request.key_tail = key_tail(token)
        identity = self._access.admit_token(token, request.client_address, "write")
        request.identity = identity
        self._check_quota(identity)
        return identity

    def _check_quota(self, identity: Identity) -> None:
        if identity.quota is not None:
            self._quotas.check(identity.key_id, identity.quota, self.received_at())

    # -- the body ----------------------------------------------------------------------------------------------------

    def lease(self) -> Lease:
        """Begin to hold bytes; a context manager."""
        return self._budget.lease()

    async def read(self, request: Request, lease: Lease) -> bytes:
        """The body, unpacked, within the limits of the request's wire. Raises as `server.http.read_body`."""
        body = await read_body(request, self._limits[request.wire], lease)
        await self._begin(lease, len(body))
        return body

    async def read_packed(self, request: Request, lease: Lease) -> bytes:
        """The body as it came, for a wire that must look at it to know how it is packed; `unpack` undoes it."""
        packed = await read_packed(request, self._limits[request.wire], lease)
        await self._begin(lease, len(packed))
        return packed

    async def unpack(self, request: Request, packed: bytes, encoding: bytes, lease: Lease) -> bytes:
        """Undo an encoding by name, within the limits of the request's wire."""
        body = await unpack_body(packed, encoding, self._limits[request.wire], lease)
        await lease.reserve(WORK_BYTES_PER_BYTE * len(body))
        return body

    def unpacked_bytes_max(self, request: Request) -> int:
        """How large a body of this wire may be when unpacked."""
        return self._limits[request.wire].unpacked_bytes_max

    async def _begin(self, lease: Lease, size: int) -> None:
        await lease.reserve(WORK_BYTES_PER_BYTE * size)
        self._admission.begin()
        lease.at_exit(self._admission.end)

    async def aside(self, size: int, work: Callable[[], _Made]) -> _Made:
        """Do work on so many bytes: many of them in a thread, so that the event loop keeps answering.

        Raises:
            ProtocolError: 400 `undecodable`: the work met what it cannot handle, which is a defect here. It would meet
                it again, so the sender is not asked to come again; the defect is reported.
        """
        try:
            if size <= LOOP_BYTES_MAX:
                return work()
            threads = self._threads_for_large if size > LARGE_BYTES else None
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        except (LeewardError, MemoryError):
            raise
        except Exception as error:
            self._report("undecodable", {"error": error})
            raise ProtocolError("This request cannot be read", code="undecodable") from error

    # -- requests that came before -----------------------------------------------------------------------------------

    def known_body(self, request: Request, digest: bytes) -> Any | None:
        """What a request of the same bytes was answered, if it came within the last 15 minutes."""
        return self._resends.find(request.project, request.path, digest)

    def remember_body(self, request: Request, digest: bytes, answer: Any) -> None:
        """Remember what a request is answered that is on stable storage by now; anything but None."""
        self._resends.remember(request.project, request.path, digest, answer)

    # -- the events --------------------------------------------------------------------------------------------------

    async def take(
        self,
        request: Request,
        items: Sequence[Event | Dropped],
        *,
        received_at: int,
        repaired: bool = False,
        size: int = 0,
        whole: bool = False,
    ) -> Outcome:
        """Take mapped events through all stages and into the log; return when they are on stable storage.

        Args:
            request: with its identity.
            items: in the sender's order; what its decoder refused among them.
            received_at: as `received_at` said.
            repaired: whether broken text was replaced anywhere in the request.
            size: bytes of the body that they came in; of a large one the work is done in a thread.
            whole: refuse the request as a whole when one event must be.

        Raises:
            ProtocolError: 400, or 413 `event_too_large`: *whole*, and an event was refused; nothing is kept.
            Unavailable: the log could not take them; nothing is kept.
        """
        prepared = await self.aside(size, lambda: prepare_events(items, repaired=repaired, scrub=self.scrub))
        if whole:
            self._refuse_whole(request, prepared)
        return await self.take_prepared(request, prepared, received_at=received_at)

    async def take_prepared(
        self, request: Request, prepared: Prepared, *, received_at: int, with_keys: bool = False
    ) -> Outcome:
        """The same for events that have passed the stages."""
        self.shed(prepared, comes_again=_comes_again(request))
        outcome = await self.pipeline.take(
            prepared, project=request.project, received_at=received_at, with_keys=with_keys
        )
        self.count(request, outcome.accepted, outcome.duplicates, outcome.refusals)
        return outcome

    def shed(self, prepared: Prepared, *, comes_again: bool) -> None:
        """Under pressure, refuse those events that matter least.

        Raises:
            RateLimited: there is nothing else in the request, or its sender keeps what is refused as a whole, so that it
                may come again as it is.
        """
        level = self.shed_level
        if not level:
            return
        has_shed = False
        for index, event in enumerate(prepared.events):
            if isinstance(event, Event) and is_shed(event.kind, event.level, level):
                prepared.events[index] = _SHED
                prepared.rows[index] = b""
                has_shed = True
        if has_shed and (comes_again or not any(prepared.rows)):
            raise overloaded()

    def _refuse_whole(self, request: Request, prepared: Prepared) -> None:
        refused = next((event for event in prepared.events if isinstance(event, Dropped)), None)
        if refused is not None:
            others = len(prepared.events) - 1  # the one is counted where the refusal is answered
            if others:
                self._counters.wire_items[request.wire, "refused_with_others"] += others
            raise ProtocolError(
                refused.error, code=refused.code, status=413 if refused.code == "event_too_large" else 400
            )

    # -- counts ------------------------------------------------------------------------------------------------------

    def count(self, request: Request, accepted: int, duplicates: int, refusals: Sequence[tuple[int, str, str]]) -> None:
        """Count the outcomes of a request whose events are on stable storage; *duplicates* are among *accepted*."""
        items = self._counters.wire_items
        wire = request.wire
        if accepted > duplicates:
            items[wire, "accepted"] += accepted - duplicates
            assert request.identity is not None
            self._quotas.count(request.identity.key_id, accepted - duplicates, self.received_at())
        if duplicates:
            items[wire, "duplicate"] += duplicates
        if refusals:
            self.count_refused(request, refusals)

    def count_refused(self, request: Request, refusals: Sequence[tuple[int, str, str]]) -> None:
        """Count and note events of a request that are refused by themselves."""
        reasons = {code: sentence for _, code, sentence in reversed(refusals)}
        for code, count in Counter(code for _, code, _ in refusals).items():
            self._counters.refused[code] += count
            self._counters.wire_items[request.wire, code] += count
            self._note(request, code, reasons[code], count)

    def count_resend(self, request: Request, taken: int) -> None:
        """Count what a request brought that is known byte for byte: so many repeats."""
        self._counters.duplicates_at_door += taken
        self._counters.wire_items[request.wire, "duplicate"] += taken

    def count_dropped(self, request: Request, name: str, count: int = 1) -> None:
        """Count what is accepted and thrown away on purpose, by name."""
        self._counters.wire_items[request.wire, name] += count

    def note(self, request: Request, error: LeewardError) -> None:
        """Remember why a whole request was refused."""
        details = error.details if isinstance(error, ProtocolError) else ()
        reason = _NO_KEY if error.code == "unauthorized" else ": ".join((error.message, *details))
        self._note(request, error.code, reason, 1, cure=error.fix)

    def _note(self, request: Request, code: str, reason: str, count: int, *, cure: str = "") -> None:
        identity = request.identity
        self._refusals.note(
            wire=request.wire,
            code=code,
            reason=reason,
            path=request.route_path,
            user_agent=request.header(b"user-agent"),
            key_tail=request.key_tail,
            address=request.client_address,
            project=identity.project if identity is not None else 0,
            count=count,
            cure=f"Allow more: {cure}" if cure else "",
        )


def overloaded() -> RateLimited:
    """Build the refusal of a whole request that holds nothing but what gives way now."""
    return RateLimited("The server is overloaded and takes what matters more", retry_after_s=SHED_RETRY_AFTER_S)


def _comes_again(request: Request) -> bool:
    """Whether a request that is refused as a whole waits at its sender: the promise of our own client, on any wire.

    OpenTelemetry's exporters give up after some seconds, and with the whole they would lose the errors in it.
    """
    return request.wire in {"native", "posthog"} or b"leeward/" in request.header(b"user-agent")


_NO_KEY: Final = "It has no key, or one that is not valid here"
