"""What a log tells about itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from leeward.journal.recover import Segment


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """A snapshot. `bytes_after_checkpoint` is exact for whole segments and estimated inside the checkpoint's own."""

    segments: int
    bytes_total: int
    bytes_after_checkpoint: int
    last_sequence: int
    synced_sequence: int
    checkpoint_sequence: int
    damaged_spans: int
    damaged_bytes: int
    truncated_bytes: int
    files_set_aside: int
    notes_damaged: int
    segments_given_up: int
    file_errors: int
    sync_seconds_last: float
    failed: str


def bytes_after(sequence: int, segments: Sequence[Segment], sizes: Sequence[int], synced: int) -> int:
    """Add up what lies behind *sequence*; inside a segment, as if all its records were equally long."""
    total = 0
    for index, (one, size) in enumerate(zip(segments, sizes, strict=True)):
        last = segments[index + 1].first_sequence - 1 if index + 1 < len(segments) else synced
        count = last - one.first_sequence + 1
        after = min(count, last - sequence)
        if after > 0:
            total += size * after // count
    return total
