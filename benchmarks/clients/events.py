"""The events that every client is given: flat properties of about 500 bytes that differ from event to event.

What repeats in them is what repeats in a program's telemetry (names, models, plans); ids, times, counts and text do not.
An event carries a `mark`, unique in its run, by which a sink knows it again whatever wire it came over. A run draws from
a pool that is larger than the window of any compressor used here, so that repeating the pool does not flatter gzip.
Ten properties with the mark: Sentry's events keep no more, and cut the rest off.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import accumulate, count

Event = tuple[str, dict[str, object], str]  # name, properties, the person's id

POOL_SIZE = 2000
NAMES = ("message_sent", "message_received", "tool_called", "answer_streamed", "search_made", "file_uploaded")
MODELS = (("openai", "gpt-4o-mini"), ("openai", "gpt-4o"), ("anthropic", "claude-sonnet"), ("mistral", "mistral-large"))
ROUTES = ("/v1/chat/completions", "/v1/embeddings", "/api/search", "/api/files", "/api/threads")
SYLLABLES = (
    "an",
    "ber",
    "con",
    "de",
    "el",
    "for",
    "gra",
    "in",
    "ka",
    "lo",
    "mi",
    "nor",
    "po",
    "re",
    "sta",
    "ti",
    "un",
    "ver",
)


def _words(chance: random.Random) -> list[str]:
    return ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(1500)]


def pool(size: int = POOL_SIZE, seed: int = 1) -> list[Event]:
    """The same events in every process."""
    chance = random.Random(seed)
    words = _words(chance)
    weights = list(accumulate(1 / rank for rank in range(1, len(words) + 1)))  # few words are common, many are rare
    return [_event(chance, words, weights) for _ in range(size)]


def _event(chance: random.Random, words: list[str], weights: list[float]) -> Event:
    provider, model = chance.choice(MODELS)
    properties: dict[str, object] = {
        "provider": provider,
        "model": model,
        "route": chance.choice(ROUTES),
        "conversation": f"{chance.getrandbits(128):032x}",
        "latency_ms": round(chance.uniform(80, 4000), 1),
        "input_tokens": int(chance.paretovariate(0.8) * 40),
        "output_tokens": chance.randrange(800),
        "status": chance.choice((200, 200, 200, 200, 429, 503)),
        "note": " ".join(chance.choices(words, cum_weights=weights, k=chance.randint(16, 44))),
    }
    return chance.choice(NAMES), properties, f"user-{chance.randrange(10_000)}"


def stream(run: str) -> Iterator[Event]:
    """The pool over and over, each event with a mark of its own: `run-0`, `run-1`, …"""
    events = pool()
    for number in count():
        name, properties, person = events[number % len(events)]
        yield name, {**properties, "mark": f"{run}-{number}"}, person


class _NoText:
    def __repr__(self) -> str:
        raise RuntimeError("no text for this")

    __str__ = __repr__


def hostile() -> list[object]:
    """Ten values that no property should have."""
    cyclic: dict[str, object] = {}
    cyclic["itself"] = cyclic
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    return [
        cyclic,
        deep,
        "x" * 5_000_000,
        list(range(1_000_000)),
        {str(number): number for number in range(200_000)},
        _NoText(),
        [float("nan"), float("inf"), float("-inf")],
        "half a pair: \ud800",
        {("a", "tuple"): 1, None: 2, 3: 4},
        10**10_000,
    ]
