"""What was read → what the overview says. Decided here, in plain values; the template only arranges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from leeward.recipes import RECIPES
from leeward.server.dashboard import text
from leeward.server.dashboard.overview import OverviewState
from leeward.store.clients import ClientAccount, ClientAccounts

__all__ = ["CLIENTS_SHOWN", "EVENTS_SHOWN", "OverviewView", "Reading", "build"]

CLIENTS_SHOWN: Final = 10
EVENTS_SHOWN: Final = 50
MINUTES_SHOWN: Final = 60
_MINUTE_MS: Final = 60_000
_CHART_HEIGHT: Final = 100.0
_LEAST_BAR: Final = 2.0  # one event beside a thousand is still seen

Tone = Literal["good", "warn", "bad", "plain"]
_WIRES: Final = {"native": "leeward", "posthog": "PostHog", "otlp": "OpenTelemetry", "sentry": "Sentry"}
_MARKS: Final[dict[Tone, str]] = {"good": "✓", "warn": "!", "bad": "✕", "plain": "·"}


class Reading(msgspec.Struct, frozen=True):
    """What the store gave, or a sentence about why it could not."""

    minutes: Sequence[tuple[int, int, int]] = ()
    events: Sequence[Mapping[str, Any]] = ()
    clients: ClientAccounts = ClientAccounts()
    trouble: str = ""


class Answer(msgspec.Struct, frozen=True):
    """One of the questions at the top, answered: a mark, a few words, and sentences below."""

    tone: Tone
    words: str
    notes: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """The tone as a sign, for those who do not see its colour."""
        return _MARKS[self.tone]


class Moment(msgspec.Struct, frozen=True):
    """A time: for machines, and as the reader sees it until the script has put it into their zone."""

    iso: str
    utc: str


class Bar(msgspec.Struct, frozen=True):
    """One minute. `top`, `height` and `errors_height` are in the chart's own units, which end at 100."""

    minute: Moment
    x: int
    events: int
    errors: int
    top: float
    height: float
    errors_height: float
    title: str


class Chart(msgspec.Struct, frozen=True):
    """The last hour, minute by minute. The last bar is the minute that is still running."""

    bars: tuple[Bar, ...]
    peak: str
    errors_peak: str
    events: int
    errors: int


class Row(msgspec.Struct, frozen=True):
    """One event of the list, and all that it says when it is opened."""

    key: str
    received: Moment
    name: str
    kind: str
    level: str
    person: str
    provider: str
    preview: str
    stack: str
    json: str
    tone: Tone


class ClientRow(msgspec.Struct, frozen=True):
    """One run of a client: what arrived of its numbered events, and what did not."""

    process: str
    last_seen: Moment
    received: str
    lost: str
    reasons: tuple[tuple[str, str], ...]
    missing: str
    missing_tone: Tone


class ClientsView(msgspec.Struct, frozen=True):
    """What all clients lost and what is missing, as numbers with a tone; some of the clients, and how many more."""

    lost: Answer
    missing: Answer
    rows: tuple[ClientRow, ...]
    more: str


class WireRow(msgspec.Struct, frozen=True):
    """What came in by one protocol since the start. `others` is what was not kept: (why, how many)."""

    name: str
    accepted: str
    duplicates: str
    others: tuple[tuple[str, str], ...]


class Fact(msgspec.Struct, frozen=True):
    """A line about log or store."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "plain"
    moment: Moment | None = None
    link: str = ""


class OverviewView(msgspec.Struct, frozen=True):
    """Everything that the page says."""

    broken: Answer
    lost: Answer
    rate: Answer
    clients: ClientsView | None
    facts: tuple[Fact, ...]
    refused: tuple[tuple[str, str], ...]
    wires: tuple[WireRow, ...]
    chart: Chart
    rows: tuple[Row, ...]
    trouble: str
    on_their_way: str
    sdks: tuple[tuple[str, str], ...]  # how `leeward connect` calls each, and its title
    demo: bool
    now: Moment


def build(reading: Reading, state: OverviewState, now_ms: int) -> OverviewView:
    """Say how things are."""
    chart = _chart(reading.minutes, now_ms)
    on_their_way = ""
    if not reading.trouble and not reading.events and state.unstored_bytes:
        on_their_way = f"{_unstored(state)} in the log, on the way into the store."
    return OverviewView(
        broken=_broken(reading, state),
        lost=_lost(state, reading.clients),
        rate=_rate(reading, chart),
        clients=_clients(reading.clients) if reading.clients.total else None,
        facts=_facts(state),
        refused=tuple(
            (text.visible(code), text.count(number)) for code, number in sorted(state.refused.items()) if number
        ),
        wires=_wires(state.wire_items),
        chart=chart,
        rows=tuple(_row(event) for event in reading.events[:EVENTS_SHOWN]),
        trouble=_trouble(reading, state),
        on_their_way=on_their_way,
        sdks=tuple((recipe.name, recipe.title) for recipe in RECIPES),
        demo=state.demo,
        now=_moment(now_ms, "%H:%M:%S UTC"),
    )


def _wires(items: Mapping[tuple[str, str], int]) -> tuple[WireRow, ...]:
    rows = []
    for wire, name in _WIRES.items():
        of_wire = {outcome: count for (own, outcome), count in items.items() if own == wire and count}
        if of_wire:
            accepted, duplicates = of_wire.pop("accepted", 0), of_wire.pop("duplicate", 0)
            others = tuple((text.visible(outcome), text.count(count)) for outcome, count in sorted(of_wire.items()))
            rows.append(WireRow(name, text.count(accepted), text.count(duplicates), others))
    return tuple(rows)


def _moment(time_ms: int, form: str) -> Moment:
    return Moment(text.iso(time_ms), text.utc(time_ms, form))


def _trouble(reading: Reading, state: OverviewState) -> str:
    if not reading.trouble or state.health == "unhealthy":
        return text.visible(reading.trouble)
    return f"{text.visible(reading.trouble)} Events are still accepted, and wait in the log."


def _broken(reading: Reading, state: OverviewState) -> Answer:
    notes = tuple(text.visible(trouble) for trouble in state.troubles)
    if state.health == "unhealthy":
        return Answer("bad", "Broken", notes)
    if state.health == "degraded":
        return Answer("warn", "Degraded", notes)
    if reading.trouble:
        return Answer("warn", "The store does not answer", ("Events are still accepted, and wait in the log.",))
    return Answer("good", "Nothing is broken", notes)


def _lost(state: OverviewState, clients: ClientAccounts) -> Answer:
    notes = []
    if clients.missing:
        notes.append(f"{_events(clients.missing)} of clients missing: on the way, or lost.")
    if state.dead:
        notes.append(f"{_events(state.dead)} refused by the store: kept in the dead-letter list, to be replayed.")
    if state.lost:
        return Answer("bad", f"{_events(state.lost)} lost", tuple(notes))
    if clients.lost:
        return Answer("warn", f"{_events(clients.lost)} lost by clients", ("Nothing was lost here.", *notes))
    if state.unstored_bytes:
        notes.append(f"{_unstored(state)} safe in the log, not in the store yet.")
    return Answer("good", "0 events lost", tuple(notes))


def _clients(clients: ClientAccounts) -> ClientsView:
    shown = clients.accounts[:CLIENTS_SHOWN]
    more = clients.total - len(shown)
    return ClientsView(
        lost=Answer("warn" if clients.lost else "good", text.count(clients.lost)),
        missing=Answer("warn" if clients.missing else "good", text.count(clients.missing)),
        rows=tuple(_client_row(account) for account in shown),
        more=f"{text.count(more)} more, as {text.count(clients.total)} were seen lately." if more else "",
    )


def _client_row(account: ClientAccount) -> ClientRow:
    return ClientRow(
        process=text.visible(account.process),
        last_seen=_moment(account.last_seen, "%Y-%m-%d %H:%M:%S UTC"),
        received=text.count(account.received),
        lost=text.count(sum(account.lost.values())),
        reasons=tuple((text.visible(reason), text.count(count)) for reason, count in account.lost.items()),
        missing=text.count(account.missing),
        missing_tone="warn" if account.missing else "plain",
    )


def _rate(reading: Reading, chart: Chart) -> Answer:
    if reading.trouble:
        return Answer("plain", "Unknown", ("The store counts events, and it does not answer.",))
    if not chart.events:
        return Answer("plain", "0 events")
    share = f"{_errors(chart.errors)} among them." if chart.errors else "No errors among them."
    return Answer("plain", _events(chart.events), (share,))


def _events(number: int) -> str:
    return f"{text.count(number)} event" + ("" if number == 1 else "s")


def _errors(number: int) -> str:
    return f"{text.count(number)} error" + ("" if number == 1 else "s")


def _unstored(state: OverviewState) -> str:
    size = text.bytes_text(state.unstored_bytes)
    if state.unstored_events is None:
        return f"{size} of events are"
    return f"{_events(state.unstored_events)} ({size}) " + ("is" if state.unstored_events == 1 else "are")


def _facts(state: OverviewState) -> tuple[Fact, ...]:
    waiting = text.bytes_text(state.unstored_bytes)
    if state.unstored_events is not None:
        waiting = f"{_events(state.unstored_events)}, {waiting}"
    synced = None if state.sync_ms is None else _moment(state.sync_ms, "%H:%M:%S UTC")
    return (
        Fact("Last sync of the log", "" if synced else "nothing written yet", moment=synced),
        Fact(
            "In the log, not stored yet",
            waiting if state.unstored_bytes else "nothing",
            f"the oldest for {text.duration(state.lag_s)}" if state.unstored_bytes else "",
        ),
        Fact("Store", text.visible(state.store)),
        _providers(state),
        Fact("Accepted", _events(state.accepted)),
        Fact("Stored", _events(state.stored)),
        Fact("Duplicates removed", _events(state.duplicates)),
        Fact("Dead letters", _events(state.dead), tone="warn" if state.dead else "plain"),
    )


def _providers(state: OverviewState) -> Fact:
    count, unwell = state.providers
    if not count:
        return Fact("Providers", "none configured", link="/providers")
    told = f"{text.count(unwell)} of {text.count(count)} not well" if unwell else f"{text.count(count)}, all well"
    return Fact("Providers", told, tone="warn" if unwell else "plain", link="/providers")


def _chart(minutes: Sequence[tuple[int, int, int]], now_ms: int) -> Chart:
    counted = {start_ms // _MINUTE_MS: (events, errors) for start_ms, events, errors in minutes}
    last = now_ms // _MINUTE_MS
    shown = [(minute, *counted.get(minute, (0, 0))) for minute in range(last - MINUTES_SHOWN + 1, last + 1)]
    peak = max(events for _, events, _ in shown)
    errors_peak = max(errors for _, _, errors in shown)
    bars = tuple(
        _bar(x, minute * _MINUTE_MS, events, errors, peak, errors_peak)
        for x, (minute, events, errors) in enumerate(shown)
    )
    return Chart(
        bars,
        text.count(peak),
        text.count(errors_peak),
        sum(bar.events for bar in bars),
        sum(bar.errors for bar in bars),
    )


def _bar(x: int, minute_ms: int, events: int, errors: int, peak: int, errors_peak: int) -> Bar:
    height = _height(events, peak)
    moment = _moment(minute_ms, "%H:%M UTC")
    return Bar(
        minute=moment,
        x=x,
        events=events,
        errors=errors,
        top=round(_CHART_HEIGHT - height, 2),
        height=height,
        errors_height=_height(errors, errors_peak),
        title=f"{_events(events)}, {_errors(errors)}",
    )


def _height(number: int, peak: int) -> float:
    return round(max(number / peak * _CHART_HEIGHT, _LEAST_BAR), 2) if number else 0.0


def _row(event: Mapping[str, Any]) -> Row:
    error = event.get("error")
    stack = error.get("stack", "") if isinstance(error, Mapping) else ""
    level = text.visible(event.get("level", ""))
    kind = text.visible(event.get("kind", ""))
    received_at = event.get("received_at")
    return Row(
        key=text.visible(event.get("key", "")),
        received=_moment(received_at if isinstance(received_at, int) else 0, "%H:%M:%S UTC"),
        name=text.visible(event.get("event_type", "")),
        kind=kind,
        level=level,
        person=text.visible(event.get("distinct_id", "")),
        provider=text.visible(event.get("provider", "")),
        preview=_preview(event, error),
        stack=text.block(stack, text.STACK_CHARS_MAX) if isinstance(stack, str) else "",
        json=text.event_json(event),
        tone=_tone(kind, level),
    )


def _preview(event: Mapping[str, Any], error: object) -> str:
    if isinstance(error, Mapping) and (error.get("type") or error.get("message")):
        return text.preview_line(f"{error.get('type', '')}: {error.get('message', '')}".strip(": "))
    return text.preview(event.get("data", {}))


def _tone(kind: str, level: str) -> Tone:
    if level in {"ERROR", "FATAL"} or kind == "exception":
        return "bad"
    return "warn" if level == "WARN" else "plain"
