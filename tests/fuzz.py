"""Mutated inputs against every decoder: `python tests/fuzz.py [--seconds N] [--inputs N] [--seed S] [NAMES…]`.

Every `tests/fuzz_targets_*.py` gives `TARGETS`: a name, a function of bytes that raises nothing but what it documents
(and swallows that itself), and seeds, which are well-formed inputs. An input is a finding if anything is raised or if
it takes longer than a second. It is made smaller, kept in a file, and told with the line that runs it again.

The same seed gives the same inputs. Memory is bounded: an input has at most 64 KiB.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import hashlib
import importlib
import pathlib
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from types import FrameType

Target = Callable[[bytes], object]

SLOW_S = 1.0
HANG_S = 20
INPUT_BYTES_MAX = 64 * 1024
POOL_SIZE_MAX = 256  # inputs that are mutated further
SHRINK_RUNS_MAX = 400
TOKENS = (
    *(b"{", b"}", b"[", b"]", b'"', b":", b",", b"\\", b"\\u0000", b"\\ud800", b"\\udc00", b"\\u0041", b'\\"', b"null"),
    *(b"true", b"false", b"0", b"-1", b"-0", b"1e999", b"1e-999", b"9223372036854775808", b"NaN", b"Infinity", b'""'),
    *(
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x98\x80",
        b"\xef\xbf\xbd",
        b"\xe2\x80\xae",
        b"\n",
        b"\r\n",
    ),
    *(
        b"{}\n{}",
        b"[[",
        b"]]",
        b"{}",
        b"[]",
        b'{"":',
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\xff\xff\xff\xff\x0f",
    ),
    *(b"\x0a\x00", b"\x0a\x7f", b"\x1a\xff\x7f", b"\x0b", b"\x0c", b"\x1f\x8b\x08", b"=", b"&", b"%", b"%7B", b"%00"),
    *(b"password", b"key", b"token", b"Bearer ", b"://u:p@", b"sk-", b"a" * 40, b"4111111111111111", b"-----BEGIN "),
)
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x22, 0x5C, 0x7B, 0x5B, 0x0A)


@dataclasses.dataclass(frozen=True)
class Finding:
    """An input that should not do what it does."""

    data: bytes
    why: str


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one target."""

    name: str
    inputs: int
    seconds: float
    slowest_s: float
    slowest: bytes
    finding: Finding | None

    @property
    def per_second(self) -> float:
        return self.inputs / max(self.seconds, 1e-9)


def run(
    name: str,
    target: Target,
    seeds: Sequence[bytes],
    inputs: int | None,
    seed: int,
    *,
    seconds: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Result:
    """Run a target on its seeds and on mutated inputs, until there were so many or the time is over, or one is found.

    Args:
        name: of the target; other names get other inputs of the same seed.
        target: raises for nothing that it documents.
        seeds: well-formed inputs.
        inputs: how many; None for as many as the time allows.
        seed: the same gives the same inputs.
        seconds: at most so long; None for no end.
        clock: for the time that an input takes.
    """
    mutator = Mutator(random.Random(f"{seed} {name}"), seeds)
    started = clock()
    slowest_s, slowest, count = 0.0, b"", 0
    finding = None
    while finding is None and (inputs is None or count < inputs) and (seconds is None or clock() - started < seconds):
        data = seeds[count] if count < len(seeds) else mutator.next()
        begun = clock()
        try:
            target(data)
        except Exception as error:  # whatever it is, it is what is looked for
            finding = Finding(data, "".join(traceback.format_exception(error)))
        took_s = clock() - begun
        count += 1
        if took_s > slowest_s:
            slowest_s, slowest = took_s, data
        if finding is None and took_s > SLOW_S:
            finding = Finding(data, f"took {took_s:.1f} s")
    return Result(name, count, clock() - started, slowest_s, slowest, finding)


class Mutator:
    """Inputs made from others by a few random changes each."""

    def __init__(self, chance: random.Random, seeds: Sequence[bytes]) -> None:
        self.chance = chance
        self.seeds = [seed[:INPUT_BYTES_MAX] for seed in seeds] or [b""]
        self.pool = list(self.seeds)
        self.changes = (
            (self.flip_bit, 6),
            (self.set_byte, 4),
            (self.insert_token, 8),
            (self.replace_by_token, 6),
            (self.cut, 4),
            (self.truncate, 2),
            (self.repeat, 3),
            (self.splice, 4),
            (self.copy_within, 3),
            (self.change_number, 4),
            (self.nest, 1),
            (self.repeat_often, 1),
        )
        self.makers = [change for change, weight in self.changes for _ in range(weight)]

    def next(self) -> bytes:
        """One more input."""
        chance = self.chance
        data = chance.choice(self.pool if chance.random() < 0.5 else self.seeds)
        for _ in range(1 + int(chance.expovariate(0.7))):
            data = chance.choice(self.makers)(data)[:INPUT_BYTES_MAX]
        if chance.random() < 0.05:
            if len(self.pool) >= POOL_SIZE_MAX:
                del self.pool[chance.randrange(len(self.pool))]
            self.pool.append(data[:4096])
        return data

    def span(self, data: bytes) -> tuple[int, int]:
        """A place in the input and one behind it, near as a rule."""
        start = self.chance.randrange(len(data) + 1)
        return start, min(len(data), start + int(self.chance.expovariate(0.08)) + 1)

    def flip_bit(self, data: bytes) -> bytes:
        return self.with_byte(data, lambda byte: byte ^ 1 << self.chance.randrange(8))

    def set_byte(self, data: bytes) -> bytes:
        return self.with_byte(
            data, lambda _: self.chance.choice(EXTREMES) if self.chance.random() < 0.5 else self.chance.randrange(256)
        )

    def with_byte(self, data: bytes, change: Callable[[int], int]) -> bytes:
        if not data:
            return data
        at = self.chance.randrange(len(data))
        return data[:at] + bytes([change(data[at])]) + data[at + 1 :]

    def insert_token(self, data: bytes) -> bytes:
        at, _ = self.span(data)
        return data[:at] + self.chance.choice(TOKENS) + data[at:]

    def replace_by_token(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:start] + self.chance.choice(TOKENS) + data[end:]

    def cut(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:start] + data[end:]

    def truncate(self, data: bytes) -> bytes:
        return data[: self.span(data)[0]]

    def repeat(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:end] + data[start:end] * self.chance.randrange(1, 8) + data[end:]

    def repeat_often(self, data: bytes) -> bytes:
        start, end = self.span(data)
        return data[:end] + data[start:end] * self.chance.randrange(1, 2000) + data[end:]

    def splice(self, data: bytes) -> bytes:
        other = self.chance.choice(self.pool)
        return data[: self.span(data)[0]] + other[self.span(other)[0] :]

    def copy_within(self, data: bytes) -> bytes:
        start, end = self.span(data)
        at, _ = self.span(data)
        return data[:at] + data[start:end] + data[at:]

    def change_number(self, data: bytes) -> bytes:
        """Numbers are lengths, counts and times: a byte more or less, or a digit that becomes many."""
        digits = [at for at, byte in enumerate(data[:4096]) if 0x30 <= byte <= 0x39]
        if not digits:
            return self.with_byte(data, lambda byte: (byte + self.chance.choice((-1, 1))) % 256)
        at = self.chance.choice(digits)
        number = self.chance.choice((b"", b"0", b"-1", b"1.5", b"1e400", b"9" * 20, b"4294967296", b"%d" % at))
        return data[:at] + number + data[at + 1 :]

    def nest(self, data: bytes) -> bytes:
        """What is somewhere in the input, deep within brackets or lengths."""
        start, end = self.span(data)
        opening, closing = self.chance.choice(
            ((b"[", b"]"), (b'{"a":', b"}"), (b'{"values":[', b"]}"), (b"\x0a\x7f", b""))
        )
        depth = self.chance.choice((10, 70, 300, 1_500, 5_000))
        return data[:start] + opening * depth + data[start:end] + closing * depth + data[end:]


def shrink(target: Target, finding: Finding) -> bytes:
    """A smaller input that raises an error of the same kind."""
    kind = finding.why.strip().rsplit("\n", 1)[-1].partition(":")[0]
    data, size, runs = finding.data, len(finding.data) // 2, 0
    while size and runs < SHRINK_RUNS_MAX:
        at = 0
        while at < len(data) and runs < SHRINK_RUNS_MAX:
            runs += 1
            shorter = data[:at] + data[at + size :]
            if _raises(target, shorter) == kind:
                data = shorter
            else:
                at += size
        size //= 2
    return data


def _raises(target: Target, data: bytes) -> str:
    try:
        target(data)
    except Exception as error:  # its kind is what is asked for
        return traceback.format_exception_only(error)[-1].partition(":")[0].strip()
    return ""


# --- the command ------------------------------------------------------------------------------------------------------


def targets() -> dict[str, tuple[Target, list[bytes]]]:
    """All targets of all modules beside this one."""
    found: dict[str, tuple[Target, list[bytes]]] = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("fuzz_targets_*.py")):
        found.update(importlib.import_module(path.stem).TARGETS)
    return found


class Hang(Exception):
    """An input takes longer than anyone waits."""


def _hang(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f"still at it after {HANG_S} s")


def _watched(target: Target) -> Target:
    """The target, which raises when it hangs."""

    def watched(data: bytes) -> None:
        signal.alarm(HANG_S)
        try:
            target(data)
        finally:
            signal.alarm(0)

    return watched


def tell(finding: Finding, name: str, target: Target) -> None:
    """Make the input smaller, keep it, and say how to run it again."""
    data = finding.data if finding.why.startswith("took ") or "Hang" in finding.why else shrink(target, finding)
    encoded = base64.b64encode(data).decode()
    path = pathlib.Path(tempfile.gettempdir(), f"fuzz-{name}-{hashlib.sha256(data).hexdigest()[:12]}.b64")
    path.write_text(encoded + "\n")
    print(f"{name}: {finding.why.rstrip()}\n  input of {len(data)} bytes: {encoded if len(encoded) <= 2000 else path}")
    print(f"  run it again: python tests/fuzz.py --again {path} {name}")


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Mutated inputs against every decoder.")
    parser.add_argument("names", nargs="*", metavar="NAMES", help="targets; all of them if none is named")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each target (default 10)")
    parser.add_argument("--inputs", type=int, help="for each target, instead of a time")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same inputs (default 1)")
    parser.add_argument("--again", type=pathlib.Path, metavar="FILE", help="run the one input of this file")
    options = parser.parse_args(arguments)
    known = targets()
    unknown = [name for name in options.names if name not in known]
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(known)}")
    signal.signal(signal.SIGALRM, _hang)
    found = 0
    for name in options.names or known:
        target, seeds = known[name]
        if options.again:
            target(base64.b64decode(options.again.read_text()))
            print(f"{name}: nothing was raised")
            continue
        seconds = None if options.inputs else options.seconds
        result = run(name, _watched(target), seeds, options.inputs, options.seed, seconds=seconds)
        print(
            f"{name:28} {result.inputs:9,} inputs {result.per_second:9,.0f}/s   slowest {result.slowest_s * 1000:8.1f} ms"
            f" ({len(result.slowest)} bytes)",
            flush=True,
        )
        if result.finding:
            found += 1
            tell(result.finding, name, target)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
