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
from leeward.sender.loading import LOADING
from leeward.sender.optout import LOOK_EVERY_S, Watch
from leeward.wire import native_encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Final, Protocol

    from leeward.clock import Clock
    from leeward.sender.config import Config
    from leeward.sender.lanes import Taken
    from leeward.sender.notes import Notes
    from leeward.sender.plan import Answer, Policy
    from leeward.sender.results import Counts
    from leeward.sender.rhythm import Rhythm
    from leeward.sender.transport import Reply
    from leeward.sender.wires import Wire

    class Lane(Protocol):
        """A queue of encoded events, oldest first."""

        def pending(self) -> int:
            """How many wait; those that were taken and not yet settled count as well."""
            ...

        def take(self, events_max: int, bytes_max: int) -> Taken | None:
            """The oldest events of one kind, at least one if there is one and can be read; they stay until settled."""
            ...

        def settle(self, count: int) -> None:
            """The oldest `count` events are done with."""
            ...

    class Lanes(Protocol):
        """All queues of one client, in the order in which they are sent."""

        process: str

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

        def clear(self) -> int:
            """Delete all that waits and is ours to delete; how many events went."""
            ...

        def close(self) -> None:
            """Let go of everything; what is not settled stays for others."""
            ...

    class Transport(Protocol):
        """What the worker needs of the network."""

        def send(self, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
            """Post one body; never raises for what the network does."""
            ...

        def close(self) -> None:
            """Close the connection."""
            ...

        def abandon(self) -> None:
            """Give back a connection that was inherited over a fork."""
            ...


__all__ = ["DRAINED", "FAILED", "NOW", "Worker"]

WAIT_MAX_S: Final = 3_600.0  # nobody waits longer, whatever was said
LEFT_FOR_S: Final = 120.0  # so long after a fork we look for what children left
LEFT_EVERY_S: Final = 5.0
ERROR_REST_S: Final = 1.0  # after an error of our own, so that a defect cannot spin
DRAINED: Final = "drained"
FAILED: Final = "failed"
NOW: Final = "now"


class _Group:
    """What was taken from a lane in one go: it is settled there when all its batches are done with."""

    __slots__ = ("count", "first", "lane", "last", "left", "process")

    def __init__(self, lane: Lane, taken: Taken) -> None:
        self.lane = lane
        self.count = self.left = len(taken.events)
        self.process = taken.process
        self.first = taken.first
        self.last = taken.last


class _Batch:
    """Events that travel together. `losses` are reported with it, and reported again if it does not arrive."""

    __slots__ = ("events", "group", "id", "losses", "record_type", "renamed", "since_s", "tries")

    def __init__(self, group: _Group, record_type: int, events: Sequence[bytes], losses: dict[str, int]) -> None:
        self.group = group
        self.record_type = record_type
        self.events = events
        self.losses = losses
        self.id = native_encode.batch_id(events)
        self.renamed = False
        self.since_s = 0.0  # when it was first sent
        self.tries = 0

    def client(self) -> bytes:
        """What the batch says about its sender: which process, which of its events, what it lost."""
        group = self.group
        lost = ",".join(f'{{"reason":"{reason}","count":{count}}}' for reason, count in self.losses.items())
        return f'{{"process":"{group.process}","first":{group.first},"last":{group.last},"lost":[{lost}]}}'.encode()


class Worker:
    """Sends what waits in `lanes`. `transport` is called once, on the worker's thread, when the first batch is due.

    With `may_start` false it never gets a thread, and what waits is left to other processes.
    """

    def __init__(
        self,
        lanes: Lanes,
        transport: Callable[[Callable[[], None], float], Transport],
        *,
        config: Config,
        counts: Counts,
        clock: Clock,
        policy: Policy,
        rhythm: Rhythm,
        random: Callable[[int], bytes],
        notes: Notes,
        told_to_stop: Callable[[], None] = lambda: None,
        watch: Watch | None = None,
        may_start: bool = True,
    ) -> None:
        self._lanes = lanes
        self._make_transport = transport
        self._transport: Transport | None = None
        self._wire: Wire | None = None
        self._config = config
        self._counts = counts
        self._clock = clock
        self._policy = policy
        self._rhythm = rhythm
        self._random = random
        self._notes = notes
        self._told_to_stop = told_to_stop
        self._watch = watch
        self._turn: Lane | None = None  # the lane that the last batch of this round came from
        self._batches: list[_Batch] = []  # taken from a lane and not yet settled; more than one after a halving
        self._pace = plan.Pace()
        self._waiting_since_s: float | None = None
        self._round_since_s: float | None = None
        self._settled = 0
        self._settling = False
        self._cleared = 0
        self._progress_at_s = 0.0
        self._gate = _thread.allocate_lock()
        self._gate.acquire()
        self._waiters: list[_thread.LockType] = []
        self._tickets = [None]  # who pops it starts the thread: an atomic step, also for a signal handler
        self._may_start = may_start
        self._leave = ""
        self._look = False  # somebody waits: adopt what there is now
        self._left_until_s = 0.0  # forked children may leave something until then
        self._hurry_once = False  # one last try before the end, whatever the pace
        self._clear = False  # somebody wants what waits to be deleted
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

    def expect_left(self) -> None:
        """A child was forked. Called by the hook: no lock is waited for."""
        self._left_until_s = self._clock.monotonic_s() + LEFT_FOR_S
        if self.idle and not self._tickets:
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
                or (
                    (self._settled >= target or not self.waiting())
                    and not (self._settling or self._look or self._lanes.adopting)
                )
            ),
        )

    def clear(self, timeout_s: float) -> int:
        """Delete what waits; how many events went. A batch that is on its way may still arrive."""
        if self.ended:  # what waits then, nobody else looks after
            count = self._lanes.clear()
            self._counts.drop("deleted", count)
            return count
        before = self._cleared
        self._clear = True
        self._wait(timeout_s, None, lambda: not self._clear)
        return self._cleared - before

    def retire(self, when: str, *, delete: bool = False) -> None:
        """Let the thread end, for good: when all is sent (DRAINED), also at a failure (FAILED), or at once (NOW).

        With `delete`, what waits is deleted first.
        """
        self._clear = self._clear or delete
        self._hurry_once = when == DRAINED
        self._leave = when
        if self.ended:
            self._lanes.close()  # of what came after the end
            return
        try:
            self._tickets.pop()
        except IndexError:
            self.wake()
        else:  # there never was a thread, and there will be none
            if delete:
                self._delete()
            self._end()

    def wait_ended(self, timeout_s: float, *, patience_s: float | None) -> None:
        """Wait for a retired thread, at most `timeout_s`, and at most `patience_s` without any progress."""
        self._wait(timeout_s, patience_s, lambda: False)

    def _wait(self, timeout_s: float, patience_s: float | None, done: Callable[[], bool]) -> None:
        timeout_s = min(timeout_s, WAIT_MAX_S) if timeout_s == timeout_s else 0.0  # noqa: PLR0124 - NaN's own test
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
                goes_on = self._clear or self._pace.catching_up or self._hurry_once
                if not goes_on and self._pace.not_before_s > now_s + left_s:
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
        if self._clear:
            self._delete()
        if self._leave == NOW or (self._leave == FAILED and self._pace.failures):
            self._end()
            return None
        eager = self._look
        self._lanes.tend(eager=eager)
        if eager:
            self._look = False
        rest_s = self._rest_s()
        if rest_s is not None and self._is_unwanted():
            self._delete()
            self._end()
            return None
        if rest_s == 0.0 and not self._clear:  # asked for in between: who waits for a deletion wants nothing sent
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
            return None
        if self._waiting_since_s is None:
            self._waiting_since_s = now_s
        if self.stopped:
            return None
        hurry = bool(self._waiters or self._leave)
        due_s = self._rhythm.due_s(
            now_s, waiting_since_s=self._waiting_since_s, full=waiting >= plan.BATCH_EVENTS_MAX, hurry=hurry
        )
        return 0.0 if self._hurry_once else self._pace.rest_s(now_s, due_s, hurry=hurry)

    def _rest(self, rest_s: float | None) -> None:
        if rest_s is None:
            # Said first, then looked once more: a caller appends first and then looks at `idle`. Events that come
            # after the server refused the key need not wake anybody.
            self.idle = not self.stopped
            if self._rest_s() is None and not self._leave and not self._clear:
                if self._clock.monotonic_s() >= self._left_until_s:
                    self._gate.acquire()
                elif not self._gate.acquire(timeout=LEFT_EVERY_S):
                    self._look = True
            self.idle = False
        elif rest_s > 0.0:
            self._gate.acquire(timeout=min(rest_s, LOOK_EVERY_S) if self._config.watched else rest_s)

    def _is_unwanted(self) -> bool:
        """Whether the person at this machine has opted out while we ran."""
        if not self._config.watched:
            return False
        if self._watch is None:
            from os import environ

            self._watch = Watch(environ)
        return self._watch.says_stop(self._clock.monotonic_s())

    def _delete(self) -> None:
        """Delete what waits, as was asked; if the person opted out, nothing is captured any more, either."""
        if not self._clear:
            self._told_to_stop()
            self._leave = NOW
            self._notes.say("opted_out", "telemetry was switched off; what waited is deleted")
        self._batches.clear()
        count = self._lanes.clear()
        self._counts.drop("deleted", count)
        self._cleared += count
        self._settled += count
        self._clear = False
        self._tell()

    def _send_next(self) -> None:
        if not self._batches:
            self._take()
        if not self._batches:
            return
        now_s = self._clock.monotonic_s()
        if self._round_since_s is None:
            self._round_since_s = now_s
        self._rhythm.began(now_s, waiting=self.waiting())
        batch = self._batches[0]
        batch.since_s = batch.since_s or now_s
        self._hurry_once = False
        answer = self._exchange(batch)
        batch.tries += 1
        decision = plan.judge(
            answer,
            events=len(batch.events),
            renamed=batch.renamed,
            tries=batch.tries,
            waited_s=self._clock.monotonic_s() - batch.since_s,
            tries_max=self._policy.tries_max,
        )
        self._apply(decision, batch, answer)

    def _exchange(self, batch: _Batch) -> Answer:
        if self._transport is None or self._wire is None:
            with LOADING:
                from leeward.sender.wires import WIRES  # the worker's thread pays for it

            self._wire = WIRES[self._config.wire]
            self._transport = self._make_transport(self._progress, self._policy.timeout_s)
        request = self._wire.request(
            batch.record_type,
            batch.id,
            batch.events,
            key=self._config.api_key,
            client=batch.client(),
            sent_at_ms=self._clock.wall_ms(),
            app=self._config.app,
        )
        reply = self._transport.send(request.path, request.headers, request.body)
        return self._wire.answer(reply, batch.record_type, batch.id, len(batch.events))

    def _take(self) -> None:
        """Take a batch from the next lane that gives one. If all that wait give nothing, rest before the next try.

        A round begins with the first lane; then they take turns, so that none that is never empty starves the others.
        """
        lanes = [lane for lane in self._lanes.lanes() if lane.pending() or lane is self._turn]
        if self._turn in lanes:
            after = lanes.index(self._turn) + 1
            lanes = lanes[after:] + lanes[:after]
        for lane in lanes:
            taken = lane.take(plan.BATCH_EVENTS_MAX, plan.BATCH_BYTES_MAX) if lane.pending() else None
            if taken is not None:
                self._turn = lane
                losses = self._counts.take_unreported() if taken.process == self._lanes.process else {}
                group = _Group(lane, taken)
                for record_type, events in taken.by_kind().items():
                    self._batches.append(_Batch(group, record_type, events, losses))
                    losses = {}
                return
        if self.waiting():
            self._counts.last_error = "spool"
            self._fail(None)

    def _apply(self, decision: str, batch: _Batch, answer: Answer) -> None:
        if decision == plan.DELIVERED:
            self._deliver(batch, answer)
        elif decision == plan.HALVE:
            self._halve(batch)
        elif decision == plan.RENAME:
            batch.id = self._random(16).hex()
            batch.renamed = True
        elif decision == plan.SET_ASIDE:
            self._failed(answer, "refused a batch, which is set aside")
            if self._lanes.set_aside(batch.events, answer.cause):
                self._counts.quarantined += len(batch.events)
            else:
                self._counts.lose(answer.cause, len(batch.events))
            self._counts.unreport(batch.losses)
            self._settle(batch)
            self._end_round(ok=False)
        elif decision == plan.DROP:
            self._failed(answer, "did not take events; they are dropped")
            self._counts.lose(answer.cause if 400 <= answer.status < 500 else "not_delivered", len(batch.events))
            self._counts.unreport(batch.losses)
            self._settle(batch)
            self._end_round(ok=False)
        elif decision == plan.STOP:
            self._failed(answer, "does not accept the key; nothing is sent until the client is configured anew")
            self.stopped = True
            self._end_round(ok=False)
        else:
            if self._policy.tries_max is None:
                self._failed(answer, "cannot be reached or cannot take events now; they are kept and sent later")
            else:  # whether they are dropped is not said before the last try
                self._counts.last_error = answer.cause
            self._counts.retries += 1
            self._fail(answer.retry_after_s)

    def _deliver(self, batch: _Batch, answer: Answer) -> None:
        refused = 0
        for code, count in answer.refused.items():
            self._counts.drop(code, count)
            refused += count
        self._counts.delivered += max(0, len(batch.events) - refused)
        self._counts.last_error = ""
        self._settle(batch)
        left = self.waiting()
        self._pace = self._pace.succeeded(self._clock.monotonic_s(), left, self._chance)
        self._rhythm.sent(len(batch.events), full=len(batch.events) >= plan.BATCH_EVENTS_MAX, left=left)
        if not left:
            self._end_round(ok=True)

    def _halve(self, batch: _Batch) -> None:
        """Two batches for one; what it reports goes with the first."""
        middle = len(batch.events) // 2
        self._batches[:1] = [
            _Batch(batch.group, batch.record_type, batch.events[:middle], batch.losses),
            _Batch(batch.group, batch.record_type, batch.events[middle:], {}),
        ]

    def _settle(self, batch: _Batch) -> None:
        del self._batches[0]
        group = batch.group
        group.left -= len(batch.events)
        if not group.left:
            self._settling = True  # the two counts change together for who waits
            if group.process == self._lanes.process:  # what was adopted meanwhile is not what somebody waits for
                self._settled += group.count  # first: who begins to wait in between must not aim too low
            group.lane.settle(group.count)
            self._settling = False
        self._waiting_since_s = None
        self._progress()

    def _fail(self, retry_after_s: float | None) -> None:
        wait_s = retry_after_s if self._policy.wait_s is None else self._policy.wait_s
        self._pace = self._pace.failed(self._clock.monotonic_s(), self._policy.retry, wait_s, self._chance)
        self._end_round(ok=False)

    def _failed(self, answer: Answer, sentence: str) -> None:
        self._counts.last_error = answer.cause
        self._notes.say(answer.cause, f"the server {sentence} ({answer.cause})")

    def _end_round(self, *, ok: bool) -> None:
        self._turn = None
        if self._round_since_s is None:
            return
        self._counts.flush_last_s = self._clock.monotonic_s() - self._round_since_s
        self._counts.flush_s += self._counts.flush_last_s
        self._counts.flushes += 1
        self._counts.flushes_ok += ok
        self._round_since_s = None

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
