"""`leeward connect`: the lines that point an SDK at this server, then the first event that they bring.

Promises  stdout has the lines and nothing else: `leeward connect posthog > app.py` makes a program that runs. What the
          server refuses meanwhile is said with its reason and cure, and does not end the wait.
Limits    events do not say which program sent them: on a server that others write to, too, the first one may be theirs.
"""

from __future__ import annotations

import datetime
import json
import os
import textwrap
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from leeward.cli.api import Api
from leeward.cli.connection import Target, target_of
from leeward.cli.form import Within, command as make, connection_options
from leeward.cli.terminal import json_text, printable, program, show, table, talk
from leeward.errors import BadCredentials, LeewardError, RateLimited, Refused, Unavailable
from leeward.recipes import RECIPES, Recipe, filled, find, nearest

__all__ = ["command"]

QUERY: Final = "/api/telemetry/query"
REFUSALS: Final = "/api/refusals"
POLL_S: Final = 0.5
_Given = TypeVar("_Given")
_Refusal = dict[str, Any]


@make("connect", "leeward connect posthog", "leeward connect sentry --no-wait > app.py")
@click.argument("name", required=False)
@click.option("--no-wait", is_flag=True, help="Print the lines and do not wait for an event.")
@click.option("--timeout-s", metavar="S", type=Within(1, 86_400), help="Wait at most so many seconds [no end].")
@click.option("--project", metavar="N", type=Within(1, 2**31), default=1, help="The key's project, for Sentry [1].")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="Objects: the lines, then what came of them.")
def command(
    *,
    name: str | None,
    no_wait: bool,
    timeout_s: int | None,
    project: int,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Print the lines that point an SDK at this server, and wait for its first event."""
    if name is None:
        _list(as_json=as_json)
        return
    recipe = find(name)
    if recipe is None:
        near = nearest(name)
        meant = f"did you mean {near}? " if near else ""
        raise click.UsageError(f"connect knows no SDK of the name {name[:40]!r}; {meant}(leeward connect lists all)")
    target = target_of(**connection, environ=os.environ)
    target.api(recipe.scope)  # refuses an address that is none, and says how to come by a key
    key = _key(target, recipe.scope)
    watch = None if no_wait else _Watch(_reader(target), timeout_s, as_json=as_json)
    _print(filled(recipe, target.url, key, project), target.url, as_json=as_json)
    if watch is not None:
        watch.run()


def _key(target: Target, scope: str) -> str:
    """The key for the lines: the one that was given; LEEWARD_API_KEY is the client's, which only writes."""
    first = target.first_key(scope)
    if first is None or (target.key and (scope == "write" or target.key_origin != "LEEWARD_API_KEY")):
        return target.key
    return first[0]


def _list(*, as_json: bool) -> None:
    if as_json:
        fields = ("name", "title", "language", "package", "version_tested")
        listed = [{field: getattr(recipe, field) for field in fields} for recipe in RECIPES]
        show(json_text(json.dumps({"recipes": listed})))
        return
    rows = [(recipe.name, recipe.title, f"{recipe.package} {recipe.version_tested}") for recipe in RECIPES]
    for line in table(rows, ("NAME", "WHAT", "TESTED WITH")):
        show(line)


def _print(recipe: Recipe, url: str, *, as_json: bool) -> None:
    """The lines; below them the event to try them with, unless it belongs into a file of its own."""
    if as_json:
        show(json_text(json.dumps({**recipe._asdict(), "host": url})))
        return
    talk(f"{recipe.title}, tested with {recipe.package} {recipe.version_tested}".rstrip())
    if recipe.install:
        talk(f"install: {recipe.install}")
    if recipe.language == "shell":
        talk(f"to try it, put this into {recipe.file}:\n\n{textwrap.indent(recipe.event, '    ')}")
        text = recipe.lines
    else:
        talk(f"to try it, put this into {recipe.file}:\n")
        text = f"{recipe.lines}\n{recipe.event}"
    show("\n".join(map(printable, text.splitlines())))  # address and key are from outside


def _reader(target: Target) -> Api:
    """Who looks for the event: the key in the lines may not read, as it should."""
    first = target.first_key("read")
    return target.api("read") if first is None else Api(target.url, *first)


class _Watch:
    """Looks at what comes and at what is refused, from its making on."""

    def __init__(self, api: Api, timeout_s: int | None, *, as_json: bool) -> None:
        self._api = api
        self._as_json = as_json
        self._timeout_s = timeout_s
        self._began_s = time.monotonic()
        self._silent = False
        self._last: _Refusal | None = None
        newest = self._patiently(lambda: self._events({"limit": "1"}))
        self._start = {"start": str(newest[0]["received_at"])} if newest else {}
        known = self._patiently(lambda: self._events({**self._start, "limit": "1000"})) if newest else []
        self._known = {event["key"] for event in known}
        self._refused = {_same(refusal): refusal for refusal in self._patiently(self._refusals)}

    def run(self) -> None:
        """Return when an event has come. Raises LeewardError when the time is over."""
        self._began_s = time.monotonic()
        talk("waiting for the first event; Ctrl+C ends")
        while True:
            for refusal in self._patiently(self._refusals):
                self._tell_refusal(refusal)
            for event in self._patiently(lambda: self._events({**self._start, "order": "asc", "limit": "1000"})):
                if event["key"] not in self._known:
                    self._tell_event(event)
                    return
            self._rest()

    def _events(self, parameters: dict[str, str]) -> list[dict[str, Any]]:
        return list(self._api.get(QUERY, parameters).document()["events"])

    def _refusals(self) -> list[_Refusal]:
        try:
            return list(self._api.get(REFUSALS).document()["refusals"])
        except Refused:
            return []  # a server that is older than the list

    def _patiently(self, ask: Callable[[], _Given]) -> _Given:
        """Ask until there is an answer: a server may be away for a moment, or its store behind."""
        while True:
            try:
                given = ask()
            except BadCredentials as error:
                fix = f"add --no-wait, and look with: {program()} query --key READ_KEY"
                raise BadCredentials(error.message, code=error.code, where=error.where, fix=fix) from None
            except (Unavailable, RateLimited) as error:
                if not self._silent:
                    talk(f"{printable(error.message)}; still trying ({program()} doctor says more)")
                self._silent = True
            else:
                self._silent = False
                return given
            self._rest()

    def _rest(self) -> None:
        if self._timeout_s is not None and time.monotonic() - self._began_s >= self._timeout_s:
            advice = f"run the lines while this waits; {program()} doctor looks further"
            raise LeewardError(
                f"no event came within {self._timeout_s} s",
                code="no_event",
                where=self._last["reason"] if self._last else "",
                fix=self._last["cure"] if self._last else advice,
            )
        time.sleep(POLL_S)

    def _tell_event(self, event: dict[str, Any]) -> None:
        after_s = time.monotonic() - self._began_s
        if self._as_json:
            show(json_text(json.dumps({"after_s": round(after_s, 3), "event": event})))
            return
        moment = datetime.datetime.fromtimestamp(event["received_at"] / 1000, datetime.UTC).astimezone()
        name = printable(str(event["event_type"]))
        talk(f"First event after {after_s:.1f} s: {name}, {moment:%Y-%m-%d %H:%M:%S}, {self._api.url}/")

    def _tell_refusal(self, refusal: _Refusal) -> None:
        """Say it once, and again when the same was refused once more."""
        before = self._refused.get(_same(refusal))
        if before is not None and (before["at_ms"], before["count"]) == (refusal["at_ms"], refusal["count"]):
            return
        self._refused[_same(refusal)] = self._last = refusal
        if self._as_json:
            show(json_text(json.dumps({"refused": refusal})))
            return
        who = " ".join(
            filter(None, (refusal["client"], refusal["key_tail"] and f"with the key …{refusal['key_tail']}"))
        )
        talk(f"refused: {printable(refusal['reason'])}" + (f" ({printable(who)})" if who else ""))
        talk(f"fix: {printable(refusal['cure'])}")


def _same(refusal: _Refusal) -> tuple[Any, ...]:
    return tuple(refusal[name] for name in ("wire", "code", "client", "key_tail", "path", "since_ms"))
