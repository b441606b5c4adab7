"""Group commit: one thread, one sync for all that waits.

A sync starts at once when none runs. What is submitted meanwhile is the next group: at most `group_bytes_max`, at
least one submission. Each group is one write and one sync, then one call of `on_group` for all its submitters.

Promises  `submit` never waits for the disk. Submissions are answered in the order they came, each exactly once: with its
          first sequence, after the sync returned, or with an error, and then nothing of it will be read.
Limits    It does not bound what waits: look at `waiting_bytes` and `oldest_wait_s` before you submit.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from leeward.clock import SystemClock
from leeward.errors import LeewardError, Unavailable
from leeward.journal.frame import Record

if TYPE_CHECKING:
    from leeward.clock import Clock

Token = TypeVar("Token")
GROUP_BYTES_MAX: Final = 1024 * 1024

_logger = logging.getLogger(__name__)


class AppendingLog(Protocol):
    """What group commit needs of a log."""

    def append(self, records: Sequence[Record], *, urgent: bool = False) -> int:
        """Write records; give the first one's sequence."""
        ...

    def sync(self) -> None:
        """Make them durable."""
        ...


class _Submission(Generic[Token]):
    __slots__ = ("records", "size", "submitted_s", "token", "urgent")

    def __init__(self, records: Sequence[Record], token: Token, submitted_s: float, *, urgent: bool) -> None:
        self.records = records
        self.token = token
        self.submitted_s = submitted_s
        self.urgent = urgent
        self.size = sum(record.size for record in records)


class GroupCommit(Generic[Token]):
    """Collects records from any thread, and commits them in groups on its own."""

    def __init__(
        self,
        log: AppendingLog,
        *,
        on_group: Callable[[list[tuple[Token, int | None, LeewardError | None]]], None],
        group_bytes_max: int = GROUP_BYTES_MAX,
        clock: Clock | None = None,
    ) -> None:
        self._log = log
        self._on_group = on_group
        self._group_bytes_max = group_bytes_max
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._waiting: deque[_Submission[Token]] = deque()
        self._running: list[_Submission[Token]] = []
        self._waiting_bytes = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread. Until then submissions wait."""
        self._thread = threading.Thread(target=self._run, name="leeward-commit", daemon=True)
        self._thread.start()

    def submit(self, records: Record | Sequence[Record], token: Token, *, urgent: bool = False) -> None:
        """Hand over records that stay together; `on_group` is called with *token* when they are durable or refused.

        Args:
            records: One record or several; none to learn when all that was handed over before is answered.
            token: Given back to `on_group`.
            urgent: They may use the room that the log keeps back for what drains it.

        Raises:
            Unavailable: It was closed.
        """
        group = [records] if isinstance(records, Record) else records
        submission = _Submission(group, token, self._clock.monotonic_s(), urgent=urgent)
        with self._changed:
            if self._closed:
                raise Unavailable("the log is closing", code="closing")
            self._waiting.append(submission)
            self._waiting_bytes += submission.size
            self._changed.notify()

    @property
    def waiting_bytes(self) -> int:
        """Bytes handed over and not yet answered."""
        return self._waiting_bytes

    @property
    def oldest_wait_s(self) -> float:
        """How long the oldest submission has not been answered; 0 when nothing waits."""
        with self._changed:
            oldest = self._running or self._waiting
            return self._clock.monotonic_s() - oldest[0].submitted_s if oldest else 0.0

    def run_once(self) -> bool:
        """Commit one group, if anything waits, and answer it. What the thread does, again and again."""
        with self._changed:
            group = self._running = self._next_group()
        if not group:
            return False
        answers = self._commit(group)
        with self._changed:
            self._waiting_bytes -= sum(submission.size for submission in group)
            self._running = []
        try:
            self._on_group(answers)
        except Exception:
            # Boundary: a caller's fault must not stop everybody else's acknowledgements.
            _logger.exception("on_group failed for a group of %d", len(answers))
        return True

    def close(self, timeout_s: float | None = None) -> None:
        """Commit what waits, then stop. Later submissions are refused."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
        else:
            while self.run_once():
                pass

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    return
            self.run_once()

    def _next_group(self) -> list[_Submission[Token]]:
        """Take what fits into one group, and one submission in any case. Urgent ones go by themselves."""
        group: list[_Submission[Token]] = []
        size = 0
        while self._waiting:
            first = self._waiting[0]
            if group and (size + first.size > self._group_bytes_max or first.urgent != group[0].urgent):
                break
            group.append(self._waiting.popleft())
            size += first.size
        return group

    def _commit(self, group: list[_Submission[Token]]) -> list[tuple[Token, int | None, LeewardError | None]]:
        try:
            records = [record for submission in group for record in submission.records]
            if not records:
                return [(submission.token, None, None) for submission in group]
            sequence = self._log.append(records, urgent=group[0].urgent)
            self._log.sync()
        except LeewardError as error:
            return [(submission.token, None, error) for submission in group]
        except Exception as error:
            # Boundary: without it one group's fault ends the thread, and everybody after it waits for ever.
            _logger.exception("a group of %d could not be committed", len(group))
            refusal = Unavailable(f"the log could not be written: {type(error).__name__}", code="log")
            return [(submission.token, None, refusal) for submission in group]
        answers: list[tuple[Token, int | None, LeewardError | None]] = []
        for submission in group:
            answers.append((submission.token, sequence, None))
            sequence += len(submission.records)
        return answers
