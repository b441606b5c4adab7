"""Is this id surely new? A growing set of Bloom filters over the ids of the whole id window.

Promises  An id that was added is never called new. Of new ids, fewer than three in a hundred are called "perhaps
          known", after ten million ids too, and then the store is asked. Generations double in size, so that few are
          probed; one whose newest id has left the window is dropped.
Memory    about 2.1 bytes an id.
Source    B. H. Bloom, "Space/time trade-offs in hash coding with allowable errors" (1970); P. S. Almeida et al.,
          "Scalable Bloom filters" (2007); double hashing after A. Kirsch and M. Mitzenmacher (2006).

The hash is Python's own for strings (SipHash, keyed anew in each process), which the string has cached already: so
the filter lives in memory only and is rebuilt from the store. Belongs to one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["IdFilter"]

_PROBES: Final = 4
_PROBE_RANGE: Final = range(_PROBES)
_BITS_PER_ID: Final = 16  # a false "perhaps" in 400 for each full generation; they add up
FIRST_BITS: Final = 1 << 22
LARGEST_BITS: Final = 1 << 29


class _Generation:
    """One Bloom filter with room for `ids_max` ids."""

    __slots__ = ("bits", "count", "ids_max", "mask", "newest_ms")

    def __init__(self, size_bits: int) -> None:
        self.bits = bytearray(size_bits >> 3)
        self.mask = size_bits - 1
        self.ids_max = size_bits // _BITS_PER_ID
        self.count = 0
        self.newest_ms = 0

    def has(self, digest: int) -> bool:
        bits, mask = self.bits, self.mask
        step = (digest >> 31) | 1
        for _ in _PROBE_RANGE:
            place = digest & mask
            if not bits[place >> 3] >> (place & 7) & 1:
                return False
            digest += step
        return True

    def add(self, digest: int) -> None:
        bits, mask = self.bits, self.mask
        step = (digest >> 31) | 1
        for _ in _PROBE_RANGE:
            place = digest & mask
            bits[place >> 3] |= 1 << (place & 7)
            digest += step
        self.count += 1


class IdFilter:
    """Generations of Bloom filters, youngest last. One that is made for many ids holds them in one generation."""

    def __init__(self, ids_expected: int = 0) -> None:
        size_bits = FIRST_BITS
        while size_bits < min(ids_expected * _BITS_PER_ID, LARGEST_BITS):
            size_bits *= 2
        self._generations = [_Generation(size_bits)]

    def __len__(self) -> int:
        return sum(generation.count for generation in self._generations)

    @property
    def bytes_used(self) -> int:
        """Memory of all generations, in bytes."""
        return sum(len(generation.bits) for generation in self._generations)

    def add(self, lane: tuple[int, str], ids: Iterable[str], newest_ms: int) -> None:
        """Enter ids of a (project, kind) without asking; the youngest of them was received at *newest_ms*."""
        salt = hash(lane)
        for event_id in ids:
            self._room(newest_ms).add(hash(event_id) ^ salt)

    def add_and_find(self, lane: tuple[int, str], ids: Sequence[str], newest_ms: int) -> list[int]:
        """Enter ids of a (project, kind); return the indices of those that perhaps were there before."""
        salt = hash(lane)
        young = self._room(newest_ms)
        older = self._generations[:-1]
        bits, mask = young.bits, young.mask
        perhaps: list[int] = []
        for index, event_id in enumerate(ids):
            digest = hash(event_id) ^ salt
            step = digest >> 31 | 1
            place = digest & mask
            new = False
            for _ in _PROBE_RANGE:  # as in _Generation.has and .add, at once: this loop runs for every event
                byte, bit = place >> 3, 1 << (place & 7)
                if not bits[byte] & bit:
                    bits[byte] |= bit
                    new = True
                place = (place + step) & mask
            for generation in older:
                if not new:
                    break
                new = not generation.has(digest)
            if not new:
                perhaps.append(index)
        young.count += len(ids)
        return perhaps

    def merge(self, older: IdFilter) -> None:
        """Take over the generations of a filter that was built aside from older ids."""
        self._generations[:0] = older._generations

    def forget_before(self, oldest_ms: int) -> None:
        """Drop the generations whose newest id was received before *oldest_ms*."""
        kept = [generation for generation in self._generations[:-1] if generation.newest_ms >= oldest_ms]
        self._generations[:-1] = kept

    def _room(self, newest_ms: int) -> _Generation:
        young = self._generations[-1]
        if young.count >= young.ids_max:
            young = _Generation(min((young.mask + 1) * 2, LARGEST_BITS))
            self._generations.append(young)
        young.newest_ms = max(young.newest_ms, newest_ms)
        return young
