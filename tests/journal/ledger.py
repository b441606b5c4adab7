"""Drives a log and keeps the books: what was acknowledged must come back, once, and nothing that was never written."""

from __future__ import annotations

import random

from faults.disk import Killed
from leeward.errors import LeewardError
from leeward.journal.log import Log, Record

SEGMENT_BYTES = 12 * 1024


class Ledger:
    """One log on one file layer, opened again and again."""

    def __init__(self, files, seed: int, directory: str = "/log") -> None:
        self.files = files
        self.random = random.Random(seed)
        self.directory = directory
        self.acknowledged: dict[int, bytes] = {}
        self.submitted: dict[bytes, None] = {}
        self.refused: set[bytes] = set()
        self.confirmed = 0
        self.attempted: set[int] = {0}
        self.notes: dict[int, set[bytes]] = {}
        self.highest_seen = 0
        self.log: Log | None = None

    def open(self) -> None:
        salts = random.Random(self.random.random())
        self.log = Log.open(self.directory, files=self.files, segment_bytes=SEGMENT_BYTES, random=salts.randbytes)
        self.refused = set()
        self.check()

    def check(self) -> None:
        """Read everything behind the checkpoint and compare it with the books."""
        log = self.log
        point = log.checkpoint_sequence
        assert point >= self.confirmed
        assert point in self.attempted
        self.confirmed = point
        if point:
            assert log.checkpoint_note in self.notes[point]
        entries, after = [], point
        while chunk := log.read(after, bytes_max=self.random.choice((1, 2000, 1 << 20))):
            entries += chunk
            after = chunk[-1].sequence
        sequences = [entry.sequence for entry in entries]
        assert sequences == sorted(set(sequences))
        assert len({entry.payload for entry in entries}) == len(entries), "read twice"
        by_sequence = {entry.sequence: entry.payload for entry in entries}
        for entry in entries:
            assert entry.payload in self.submitted, "never written"
            assert entry.payload not in self.refused, "refused, and read all the same"
        for sequence, payload in self.acknowledged.items():
            if sequence > point:
                assert by_sequence.get(sequence) == payload, f"acknowledged and lost: {sequence}"
        for sequence, payload in by_sequence.items():
            assert self.acknowledged.setdefault(sequence, payload) == payload, f"sequence {sequence} was used twice"
        self.highest_seen = max([self.highest_seen, *sequences])

    def step(self) -> None:
        roll = self.random.random()
        if roll < 0.75:
            self.append()
        elif roll < 0.85:
            self.checkpoint()
        elif roll < 0.95:
            self.check()
        else:
            self.log.close()
            self.open()

    def append(self) -> None:
        records = []
        for _ in range(self.random.randint(1, 4)):
            payload = b"%d:" % len(self.submitted) + self.random.randbytes(self.random.choice((0, 60, 700, 2500)))
            self.submitted[payload] = None
            records.append(Record(1, payload))
        try:
            first = self.log.append(records)
            self.log.sync()
        except LeewardError:
            self.refused.update(record.payload for record in records)
            return
        assert first > self.highest_seen, "a sequence that was read before"
        for sequence, record in enumerate(records, first):
            assert sequence not in self.acknowledged
            self.acknowledged[sequence] = record.payload

    def checkpoint(self) -> None:
        sequence = self.random.randint(self.log.checkpoint_sequence, self.log.synced_sequence)
        note = self.random.randbytes(self.random.choice((0, 300, 5000)))
        self.attempted.add(sequence)
        self.notes.setdefault(sequence, set()).add(note)
        try:
            self.log.checkpoint(sequence, note)
        except LeewardError:
            return
        self.confirmed = sequence

    def run(self, steps: int) -> bool:
        """Open and take *steps*; False if the process was killed on the way."""
        try:
            self.open()
            for _ in range(steps):
                self.step()
        except Killed:
            return False
        return True
