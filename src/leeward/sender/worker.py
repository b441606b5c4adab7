"""The one thread of a client: joins waiting events into batches, sends them, and settles what came of it.

Promises  it sleeps without a timer while nothing waits; a batch keeps its id over all its tries; nothing is settled
          before the server acknowledged it, or before it was set aside or counted as dropped. No error ends the thread.
Nothing here takes a lock that a caller could wait for: a caller wakes the worker by releasing a bare lock that only
the worker acquires, which is safe from a signal handler, too.
`step` is the whole logic, without any sleeping: the thread calls it in a loop, a test with a clock of its own.
"""

from __future__ import annotations

import _thread

from leeward.sender import plan
from leeward.wire import native_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, Protocol

    from leeward.clock import Clock
    from leeward.resilience.retry import Retry
    from leeward.sender.notes import Notes
    from leeward.sender.plan import Answer
    from leeward.sender.results import Counts

    class Lane(Protocol):
        """A queue of encoded events, oldest first."""

        def pending(self) -> int:
            """How many wait; those that were taken and not yet settled count as well."""
            ...

        def take(self, events_max: int, bytes_max: int) -> list[bytes]:
            """The oldest events, at least one if there is one and can be read. They stay until they are settled."""
            ...

        def settle(self, count: int) -> None:
            """The oldest `count` events are done with."""
            ...

    class Lanes(Protocol):
        """All queues of one client, in the order in which they are sent."""

        def lanes(self) -> Sequence[Lane]:
            """The queues as they are now."""
            ...

        def tend(self, *, eager: bool) -> None:
            """Look after the queues: adopt what dead processes left, mend what failed. Must be cheap when not due."""
            ...

        def set_aside(self, events: Sequence[bytes], cause: str) -> bool:
            """Keep refused events in a file; false if that cannot be."""
            ...

        @property
        def adopting(self) -> bool:
            """Whether there may be more than the queues show."""
            ...

        def close(self) -> None:
            """Let go of everything; what is not settled stays for others."""
            ...

    class Transport(Protocol):
        """What the worker needs of the network."""

        def send(self, body: bytes, batch_id: str) -> Answer:
            """Post one batch; never raises for what the network does."""
            ...

        def close(self) -> None:
            """Close the connection."""
            ...

        def abandon(self) -> None:
            """Give back a connection that was inherited over a fork."""
            ...


__all__ = ["DRAINED", "FAILED", "NOW", "Worker"]

ERROR_REST_S: Final = 1.0  # after an error of our own, so that a defect cannot spin
DRAINED: Final = "drained"
FAILED: Final = "failed"
NOW: Final = "now"


class _Batch:
    __slots__ = ("events", "id", "lane", "renamed")

    def __init__(self, lane: Lane, events: Sequence[bytes]) -> None:
        self.lane = lane
        self.events = events
        self.id = native_encode.batch_id(events)
        self.renamed = False


class Worker:
    """Sends what waits in `lanes`. `transport` is called once, on the worker's thread, when the first batch is due.

    With `may_start` false it never gets a thread, and what waits is left to other processes.
    """

    def __init__(
        self,
        lanes: Lanes,
        transport: Callable[[Callable[[], None]], Transport],
        *,
        counts: Counts,
        clock: Clock,
        retry: Retry,
        random: Callable[[int], bytes],
        notes: Notes,
        may_start: bool = True,
    ) -> None:
        self._lanes = lanes
        self._make_transport = transport
        self._transport: Transport | None = None
        self._counts = counts
        self._clock = clock
        self._retry = retry
        self._random = random
        self._notes = notes
        self._batches: list[_Batch] = []  # taken from a lane and not yet settled; more than one after a halving
        self._pace = plan.Pace()
        self._waiting_since_s: float | None = None
        self._settled = 0
        self._progress_at_s = 0.0
        self._gate = _thread.allocate_lock()
        self._gate.acquire()
        self._waiters: list[_thread.LockType] = []
        self._tickets = [None]  # who pops it starts the thread: an atomic step, also for a signal handler
        self._may_start = may_start
        self._leave = ""
        self._look = False  # somebody waits: adopt what there is now
        self.idle = True  # sleeps until it is woken, or is not born yet
        self.stopped = False  # the server refused the key
        self.ended = False

    # Called by any thread

    def wake(self) -> None:
        """Start the thread, once, and end its rest."""
        if self._tickets:
            self._start()
        try:
            self._gate.release()
        except RuntimeError:
            return  # woken already

    def _start(self) -> None:
        if not self._may_start:
            return
        try:
            self._tickets.pop()
        except IndexError:
            return
        try:
            # Not threading.Thread: its start() waits for the new thread. This one dies with the process, as we want.
            _thread.start_new_thread(self._run, ())
        except RuntimeError:
            self._tickets.append(None)  # refused, as it is while the interpreter ends; the next call tries again

    def look_again(self) -> None:
        """There may be something new to adopt. A thread that was never started will look by itself."""
        self._look = True
        if not self._tickets:
            self.wake()

    def waiting(self) -> int:
        """How many events are not settled."""
        return sum(lane.pending() for lane in self._lanes.lanes())

    def drain(self, timeout_s: float) -> None:
        """Wait until what waits now is settled, at most `timeout_s`; less if no next try falls into that time."""
        target = self._settled + self.waiting()
        self._wait(
            timeout_s,
            None,
            lambda: (
                self.stopped
                or ((self._settled >= target or not self.waiting()) and not self._look and not self._lanes.adopting)
            ),
        )

    def retire(self, when: str) -> None:
        """Let the thread end, for good: when all is sent (DRAINED), also at a failure (FAILED), or at once (NOW)."""
        self._leave = when
        if self.ended:
            self._lanes.close()  # of what came after the end
            return
        try:
            self._tickets.pop()
        except IndexError:
            self.wake()
        else:
            self._end()  # there never was a thread, and there will be none

    def wait_ended(self, timeout_s: float, *, patience_s: float | None) -> None:
        """Wait for a retired thread, at most `timeout_s`, and at most `patience_s` without any progress."""
        self._wait(timeout_s, patience_s, lambda: False)

    def _wait(self, timeout_s: float, patience_s: float | None, done: Callable[[], bool]) -> None:
        waiter = _thread.allocate_lock()
        waiter.acquire()
        started_s = self._clock.monotonic_s()
        self._waiters.append(waiter)
        self._look = True
        try:
            self.wake()
            while not (self.ended or self._tickets or done()):
                now_s = self._clock.monotonic_s()
                left_s = started_s + timeout_s - now_s
                if self._pace.not_before_s > now_s + left_s:
                    return  # the next try comes too late for us
                if patience_s is not None:
                    left_s = min(left_s, max(started_s, self._progress_at_s) + patience_s - now_s)
                if left_s <= 0:
                    return
                waiter.acquire(timeout=left_s)
        finally:
            self._waiters.remove(waiter)

    def abandon(self) -> None:
        """In a forked child: the thread is the parent's, and so is its connection."""
        if self._transport is not None:
            self._transport.abandon()

    # The thread

    def _run(self) -> None:
        self.idle = False
        while not self.ended:
            try:
                self._rest(self.step())
            except Exception as error:
                # Boundary: a defect of ours must not end the delivery, and never reaches the host program.
                self._counts.last_error = f"internal: {type(error).__name__}"
                self._notes.say("internal", f"an error of leeward's own: {type(error).__name__}; delivery goes on")
                self._gate.acquire(timeout=ERROR_REST_S)

    def step(self) -> float | None:
        """Send one batch if one is due. Returns how long to rest before the next step; None: until woken."""
        if self._leave == NOW or (self._leave == FAILED and self._pace.failures):
            self._end()
            return None
        eager = self._look
        self._lanes.tend(eager=eager)
        if eager:
            self._look = False
        rest_s = self._rest_s()
        if rest_s == 0.0:
            self._send_next()
        elif rest_s is None and self._leave:
            self._end()
        self._tell()
        return rest_s

    def _rest_s(self) -> float | None:
        now_s = self._clock.monotonic_s()
        waiting = self.waiting()
        if not waiting:
            self._waiting_since_s = None
        elif self._waiting_since_s is None:
            self._waiting_since_s = now_s
        return plan.rest_s(
            now_s,
            waiting=waiting,
            waiting_since_s=self._waiting_since_s or now_s,
            hurry=bool(self._waiters or self._leave),
            stopped=self.stopped,
            pace=self._pace,
        )

    def _rest(self, rest_s: float | None) -> None:
        if rest_s is None:
            # Said first, then looked once more: a caller appends first and then looks at `idle`. Events that come
            # after the server refused the key need not wake anybody.
            self.idle = not self.stopped
            if self._rest_s() is None and not self._leave:
                self._gate.acquire()
            self.idle = False
        elif rest_s > 0.0:
            self._gate.acquire(timeout=rest_s)

    def _send_next(self) -> None:
        if not self._batches:
            self._take()
        if not self._batches:
            return
        if self._transport is None:
            self._transport = self._make_transport(self._progress)
        batch = self._batches[0]
        answer = self._transport.send(native_encode.batch(batch.id, batch.events), batch.id)
        self._apply(plan.judge(answer, events=len(batch.events), renamed=batch.renamed), batch, answer)

    def _take(self) -> None:
        """Take a batch from the first lane that gives one. If all that wait give nothing, rest before the next try."""
        for lane in self._lanes.lanes():
            events = lane.take(plan.BATCH_EVENTS_MAX, plan.BATCH_BYTES_MAX) if lane.pending() else []
            if events:
                self._batches.append(_Batch(lane, events))
                return
        if self.waiting():
            self._counts.last_error = "spool"
            self._pace = self._pace.failed(self._clock.monotonic_s(), self._retry, None, self._chance)

    def _apply(self, decision: str, batch: _Batch, answer: Answer) -> None:
        if decision == plan.DELIVERED:
            self._deliver(batch, answer)
        elif decision == plan.HALVE:
            middle = len(batch.events) // 2
            halves = batch.events[:middle], batch.events[middle:]
            self._batches[:1] = [_Batch(batch.lane, half) for half in halves]
        elif decision == plan.RENAME:
            batch.id = self._random(16).hex()
            batch.renamed = True
        elif decision == plan.SET_ASIDE:
            self._failed(answer, "refused a batch, which is set aside")
            if self._lanes.set_aside(batch.events, answer.cause):
                self._counts.quarantined += len(batch.events)
            else:
                self._counts.drop(answer.cause, len(batch.events))
            self._settle(batch)
        elif decision == plan.STOP:
            self._failed(answer, "does not accept the key; nothing is sent until the client is configured anew")
            self.stopped = True
        else:
            self._failed(answer, "cannot be reached or cannot take events now; they are kept and sent later")
            self._counts.retries += 1
            self._pace = self._pace.failed(self._clock.monotonic_s(), self._retry, answer.retry_after_s, self._chance)

    def _deliver(self, batch: _Batch, answer: Answer) -> None:
        refused = 0
        for code, count in answer.refused.items():
            self._counts.drop(code, count)
            refused += count
        self._counts.delivered += max(0, len(batch.events) - refused)
        self._counts.last_error = ""
        self._pace = plan.Pace()
        self._settle(batch)

    def _settle(self, batch: _Batch) -> None:
        del self._batches[0]
        batch.lane.settle(len(batch.events))
        self._settled += len(batch.events)
        self._waiting_since_s = None
        self._progress()

    def _failed(self, answer: Answer, sentence: str) -> None:
        self._counts.last_error = answer.cause
        self._notes.say(answer.cause, f"the server {sentence} ({answer.cause})")

    def _chance(self) -> float:
        return int.from_bytes(self._random(4), "little") / 2**32

    def _progress(self) -> None:
        self._progress_at_s = self._clock.monotonic_s()
        self._tell()

    def _tell(self) -> None:
        """Let those look again who wait in `drain`."""
        for waiter in tuple(self._waiters):
            try:
                waiter.release()
            except RuntimeError:
                continue  # told already

    def _end(self) -> None:
        self.idle = False
        try:
            if self._transport is not None:
                self._transport.close()
            self._lanes.close()
        finally:
            self.ended = True
            self._tell()
