"""Inputs that were good once, for tests of decoders."""

from __future__ import annotations

import random
from collections.abc import Sequence


def broken(chance: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """A seed with one to three wounds."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(data) + 1)
        wound = chance.randrange(5)
        if wound == 0:
            del data[at : at + chance.randint(1, 40)]
        elif wound == 1:
            data[at:at] = chance.choice(tokens)
        elif wound == 2:
            data[at : at + 1] = bytes([chance.randrange(256)])
        elif wound == 3:
            other = chance.choice(seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
        else:
            token = chance.choice(tokens)
            data[at : at + len(token)] = token
    return bytes(data)
