"""How much may wait, and for how long: looked after on the worker's time, over all processes of one destination.

Promises  What was not sent after 7 days is dropped: own segments by the monotonic clock, so that no jump of the wall
          clock reaches them, those of dead processes by their files' time, against the wall clock as it was when this
          process began: a jump while it runs reaches those neither. If all processes together hold more than
          the quota, the oldest segments go: each process drops its own and dead ones', and leaves to its living
          siblings what is theirs; rest before errors. What goes is counted with its number of events.
          A look is cheap: some spools at a time, without reading what is in them.
Limits    Between two looks, the sum over all processes may be above the quota.
"""

from __future__ import annotations

import os

from leeward.journal.spool import adopt
from leeward.journal.spool_home import ERRORS, REST
from leeward.journal.spool_survey import survey
from leeward.journal.spool_writer import SpoolWriter
from leeward.sender.lanes import ReaderLane

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any, Final

    from leeward.clock import Clock
    from leeward.journal.spool import SpoolHome
    from leeward.journal.spool_home import Quota
    from leeward.journal.spool_survey import Found
    from leeward.journal.spool_writer import Segment
    from leeward.sender.results import Counts

__all__ = ["AGE_MAX_S", "LOOK_EVERY_S", "ROTATE_S", "Limits"]

AGE_MAX_S: Final = 7 * 86_400.0
ROTATE_S: Final = 6 * 3_600.0  # so that a segment's events are of about one age
LOOK_EVERY_S: Final = 5.0
SPOOLS_AT_ONCE: Final = 32
CANDIDATES_MAX: Final = 1_000


class Limits:
    """See the module. One thread looks."""

    def __init__(self, folder: str, *, quota: Quota, counts: Counts, clock: Clock) -> None:
        self._folder = folder
        self._quota = quota
        self._counts = counts
        self._clock = clock
        self._wall_ahead_s = clock.wall_ms() / 1000 - clock.monotonic_s()  # read once: it may jump
        self._round: Iterator[list[Found]] | None = None
        self._others_bytes = 0
        self._found: list[Found] = []

    def look(self, homes: Sequence[SpoolHome], adopted: Sequence[ReaderLane]) -> bool:
        """See after age and size, a part of it at a time; whether there is more to look at."""
        if self._round is None:
            for home in homes:
                for lane in home.lanes:
                    self._age(lane)
            for left in adopted:
                self.expire(left)
            self._others_bytes, self._found = 0, []
            self._round = survey(self._folder, own={home.directory for home in homes})
        for _ in range(SPOOLS_AT_ONCE):
            found = next(self._round, None)
            if found is None:
                self._round = None
                self._quota.others_bytes = self._others_bytes
                self._shrink(homes, adopted)
                self._found = []
                return False
            self._note(found)
        return True

    def expire(self, left: ReaderLane) -> None:
        """Drop what is too old in an adopted lane."""
        for part in left.reader.segments():
            if not self._is_expired(_changed_s(part.path)):
                return
            self._drop(left, part.number, "expired")

    def _age(self, lane: SpoolWriter) -> None:
        """Drop this process's segments that are too old, and end the active one before its events differ much in age."""
        now_s = self._clock.monotonic_s()
        for part in lane.ordered():
            if part.is_closed or part.is_sealed:
                part.closed_s = now_s if part.closed_s is None else part.closed_s
                if now_s - part.closed_s >= AGE_MAX_S:
                    count = lane.drop(part)
                    if count:
                        self._counts.lose("expired", count)
            elif part.records:
                part.used_s = now_s if part.used_s is None else part.used_s
                if now_s - part.used_s >= ROTATE_S:
                    lane.rotate()

    def _note(self, found: list[Found]) -> None:
        """Count a spool; drop what is too old in it if its process is dead."""
        expired = [part for part in found if part.is_dead and self._is_expired(part.changed_s)]
        if expired:
            self._drop_left(expired, "expired")
        kept = [part for part in found if part not in expired]
        self._others_bytes += sum([part.bytes for part in kept])
        self._found += kept
        if len(self._found) > 2 * CANDIDATES_MAX:
            self._found.sort(key=lambda part: (part.is_error, part.changed_s))
            del self._found[CANDIDATES_MAX:]

    def _shrink(self, homes: Sequence[SpoolHome], adopted: Sequence[ReaderLane]) -> None:
        """Drop the oldest if there is more than the quota. What a living sibling has, it is expected to drop itself."""
        wanted = self._quota.reserve_bytes() if self._quota.is_short else 0
        self._quota.is_short = False
        excess = wanted - self._quota.room()
        if excess <= 0:
            return
        mine = {left.reader.lane.directory: left for left in adopted}
        oldest: list[tuple[bool, float, int, SpoolWriter | ReaderLane | None, Any]] = []
        for part in self._found:
            lane = mine.get(os.path.join(part.directory, ERRORS if part.is_error else REST))
            oldest.append((part.is_error, part.changed_s, part.bytes, lane, part))
        for home in homes:
            for own in home.lanes:
                oldest += [(own.is_error, _changed_s(part.path), part.bytes, own, part) for part in own.droppable()]
        oldest.sort(key=lambda candidate: candidate[:2])
        for _, _, size, holder, part in oldest:
            if excess <= 0:
                return
            excess -= size
            if isinstance(holder, SpoolWriter):
                self._drop_own(holder, part)
            elif holder is not None:
                self._drop(holder, part.number, "spool_full")
            else:
                self._drop_left([part], "spool_full")

    def _drop_own(self, lane: SpoolWriter, closed: Segment) -> None:
        count = lane.drop(closed)
        if count:
            self._counts.lose("spool_full", count)

    def _drop(self, left: ReaderLane, number: int, reason: str) -> None:
        count = left.drop(number)
        if count:
            self._counts.lose(reason, count)

    def _drop_left(self, parts: Sequence[Found], reason: str) -> None:
        """Drop segments of one spool, if its process is dead, and nobody else has it."""
        spool = adopt(parts[0].directory)
        if spool is None:
            return  # it is alive, or gone
        for reader, is_error in zip(spool.readers, (True, False), strict=True):
            left = ReaderLane(reader, self._counts)
            for part in parts:
                if part.is_error is is_error:
                    self._drop(left, part.number, reason)
        spool.finish()

    def _is_expired(self, changed_s: float) -> bool:
        return self._wall_ahead_s + self._clock.monotonic_s() - changed_s >= AGE_MAX_S


def _changed_s(path: str) -> float:
    """When a file was last written, by the wall clock; the end of time if it is gone."""
    try:
        return os.lstat(path).st_mtime
    except OSError:
        return float("inf")
