"""`leeward query`: events by time and filters, as lines or as JSON; with --follow, new ones as they come.

Promises  --json gives the very numbers and texts that the server sent. --follow shows each event once, also when the
          server goes away meanwhile and comes back.
"""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import click

from leeward.cli.api import Api
from leeward.cli.connection import target_of
from leeward.cli.form import KINDS, LEVELS, Within, command as make, connection_options
from leeward.cli.terminal import json_text, printable, program, show, talk
from leeward.errors import RateLimited, Unavailable

__all__ = ["command"]

PATH: Final = "/api/telemetry/query"
POLL_S: Final = 1.0
OVERLAP_MS: Final = 2000  # requests that arrived together may become visible in another order
FOLLOW_LIMIT: Final = 10
PAGE_LIMIT: Final = 1000
_AGO: Final = re.compile(r"(\d{1,9})(s|m|h|d)", re.ASCII)
_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_EVENTS: Final = '"events":['
_COLOURS: Final = {"WARN": "yellow", "ERROR": "red", "FATAL": "red"}
_NUMBER_CHARS_MAX: Final = 4000  # beyond it the interpreter refuses to make a number of digits


@make(
    "query",
    "leeward query --since 15m --event-type signup",
    "leeward query --level ERROR --follow --json | jq .data",
)
@click.option("--since", metavar="TIME", help="From 15m, 2h, 7d ago, or RFC 3339, or ms since 1970 [24h].")
@click.option("--until", metavar="TIME", help="To; in the same words [now].")
@click.option("--event-type", metavar="NAME", help="Only events of this name.")
@click.option("--kind", metavar="KIND", type=click.Choice(KINDS), help="event, exception, span, log or metric.")
@click.option(
    "--level",
    metavar="LEVEL",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="DEBUG, INFO, WARN, ERROR or FATAL.",
)
@click.option("--category", metavar="NAME", help="Only errors of this category.")
@click.option("--distinct-id", metavar="ID", help="Only of this person.")
@click.option("--session-id", metavar="ID", help="Only of this session.")
@click.option("--correlation-id", metavar="ID", help="Only with this correlation id.")
@click.option("--trace-id", metavar="ID", help="Only of this trace.")
@click.option("--batch-id", metavar="ID", help="Only of this batch.")
@click.option("--limit", metavar="NUMBER", type=Within(1, 1000), help="At most so many, up to 1000 [100].")
@click.option("--order", metavar="ORDER", type=click.Choice(["desc", "asc"]), help="asc for the oldest first [desc].")
@click.option("--cursor", metavar="TEXT", help="Go on where the last answer ended.")
@click.option("--wait-ms", metavar="MS", type=Within(0, 5000), help="Wait so long for what was just sent [5000].")
@click.option("--follow", is_flag=True, help="Go on with new events as they come.")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="The server's answer; with --follow an event a line.")
def command(
    *,
    since: str | None,
    until: str | None,
    limit: int | None,
    follow: bool,
    as_json: bool,
    host: str | None,
    key: str | None,
    data_dir: str | None,
    config: str | None,
    **filters: str | int | None,
) -> None:
    """Read events, the newest first."""
    if follow and (until or filters["order"] or filters["cursor"]):
        raise click.UsageError("--follow goes on from now; leave --until, --order and --cursor away")
    parameters = {name: str(value) for name, value in filters.items() if value is not None}
    for name, option, given in (("start", "--since", since), ("end", "--until", until)):
        if given is not None:
            parameters[name] = _time(given, option)
    if {"start", "end"} <= parameters.keys() and _ms(parameters["start"]) >= _ms(parameters["end"]):
        raise click.UsageError(f"--since {since} must lie before --until {until}")
    api = target_of(host=host, key=key, data_dir=data_dir, config=config, environ=os.environ).api("read")
    if follow:
        _follow(api, {**parameters, "limit": str(limit or FOLLOW_LIMIT)}, as_json=as_json)
        return
    answer = api.get(PATH, {**parameters, "limit": str(limit or 100)})
    if as_json:
        show(json_text(answer.body.decode()))
        return
    for event in _events_of(answer.body.decode()):
        show(_line(event))
    document = answer.document()
    if not document["count"]:
        talk("no events" + ("" if since else " in the last 24 hours (--since 7d looks further)"))
    elif document["next_cursor"]:
        talk(f"there are more: add --cursor {printable(document['next_cursor'])}")


def _time(text: str, option: str) -> str:
    """A moment as the API reads it; "15m" means so long ago."""
    ago = _AGO.fullmatch(text.removesuffix(" ago"))
    if ago is not None:
        return str(max(0, time.time_ns() // 1_000_000 - int(ago[1]) * _UNIT_MS[ago[2]]))
    try:
        _ms(text)
    except (ValueError, OverflowError):
        raise click.UsageError(
            f"{option} is {text[:40]!r}, but must be 15m, 2h or 7d ago, an RFC 3339 time, or milliseconds since 1970"
        ) from None
    return text


def _ms(moment: str) -> float:
    """Milliseconds since 1970 of what the API takes for a moment."""
    if moment.isascii() and moment.isdigit() and len(moment) <= 15:
        return float(moment)
    read = datetime.datetime.fromisoformat(moment)
    return (read if read.tzinfo is not None else read.replace(tzinfo=datetime.UTC)).timestamp() * 1000


class _Event(NamedTuple):
    """An event as a value, and the server's own text of it."""

    value: dict[str, Any]
    text: str


def _events_of(answer: str) -> list[_Event]:
    """The events of an answer, each with the text that it stands in: what JSON numbers say is not rounded there."""
    decoder = json.JSONDecoder(parse_int=_whole_number, parse_float=_number)
    events = []
    position = answer.index(_EVENTS) + len(_EVENTS)
    while answer[position] != "]":
        value, end = decoder.raw_decode(answer, position)
        events.append(_Event(value, answer[position:end]))
        position = end + 1 if answer[end] == "," else end
    return events


def _whole_number(digits: str) -> int | str:
    return int(digits) if len(digits) <= _NUMBER_CHARS_MAX else digits


def _number(text: str) -> float | str:
    number = float(text)
    return number if math.isfinite(number) else text


def _measured(value: dict[str, Any]) -> Iterator[str]:
    """A metric's value with its unit, a span's time, and how it ended."""
    if "value" in value:
        yield f"{value['value']:g} {value.get('unit', '')}".strip()
    if "duration_ms" in value:
        yield f"{value['duration_ms']:g} ms"
    yield str(value.get("status", ""))


def _said(error: dict[str, Any]) -> str:
    """An error as a traceback ends: type and message."""
    return ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))


def _line(event: _Event) -> str:
    """An event for a person: when, what, how bad, whom, and the rest as far as the line goes."""
    value = event.value
    moment = datetime.datetime.fromtimestamp(value["timestamp"] / 1000, datetime.UTC).astimezone()
    level = str(value.get("level", ""))
    error = value.get("error") or {}
    parts = [
        f"{moment:%Y-%m-%d %H:%M:%S}.{value['timestamp'] % 1000:03d}",
        printable(str(value["event_type"])).ljust(16),
    ]
    details = (level, str(value.get("distinct_id", "")), *_measured(value), _said(error))
    parts += [printable(text) for text in details if text]
    shown = {key: item for key, item in (value.get("data") or {}).items() if key != "exceptions"}  # `--json` has them
    if shown:
        parts.append(printable(json.dumps(shown, ensure_ascii=False, separators=(",", ":"))))
    line = "  ".join(parts)
    if sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
        line = line if len(line) <= width else line[: width - 1] + "…"
    return click.style(line, fg=_COLOURS[level]) if level in _COLOURS else line


# Following


def _follow(api: Api, parameters: Mapping[str, str], *, as_json: bool) -> None:
    """The last events, then the new ones, oldest first, until Ctrl+C."""
    shown = int(parameters["limit"])
    first = _events_of(api.get(PATH, {**parameters, "limit": str(PAGE_LIMIT)}).body.decode())[::-1]
    started_ms = int(parameters.get("start", 0) or 0) if parameters.get("start", "").isdigit() else 0
    seen = {str(event.value["key"]): int(event.value["received_at"]) for event in first[:-shown]}
    _show_new(first[-shown:], seen, as_json=as_json)
    filters = {name: value for name, value in parameters.items() if name not in {"start", "limit"}}
    silent = False
    while True:
        newest_ms = max(seen.values(), default=started_ms)
        start = {"start": str(newest_ms - OVERLAP_MS)} if newest_ms else {}
        try:
            for page in _pages(api, {**filters, **start, "order": "asc", "limit": str(PAGE_LIMIT)}):
                _show_new(page, seen, as_json=as_json)
            silent = False
        except (Unavailable, RateLimited) as error:
            if not silent:
                talk(f"{printable(error.message)}; still trying ({program()} doctor says more)")
            silent = True
        horizon_ms = max(seen.values(), default=0) - OVERLAP_MS
        for key in [key for key, received_at in seen.items() if received_at < horizon_ms]:
            del seen[key]
        time.sleep(POLL_S)


def _pages(api: Api, parameters: Mapping[str, str]) -> Iterable[list[_Event]]:
    cursor: dict[str, str] = {}
    while True:
        answer = api.get(PATH, {**parameters, **cursor})
        yield _events_of(answer.body.decode())
        following = answer.document()["next_cursor"]
        if not following:
            return
        cursor = {"cursor": following}


def _show_new(events: Iterable[_Event], seen: dict[str, int], *, as_json: bool) -> None:
    for event in events:
        key = str(event.value["key"])
        if key not in seen:
            seen[key] = event.value["received_at"]
            show(json_text(event.text) if as_json else _line(event))
    sys.stdout.flush()
