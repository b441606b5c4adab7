"""`leeward send`: one event from the command line, or many as JSON lines from stdin.

Promises  an event counts as sent when the server says that it is on stable storage. What the server put off (429, 503:
          nothing of it was kept) is sent again for a while, and is stored once: one event has an id, many a batch id.
          A line that cannot be sent is named by its number; the others are sent.
"""

from __future__ import annotations

import functools
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import click

from leeward.cli.connection import target_of
from leeward.cli.form import LEVELS, command as make, connection_options
from leeward.cli.terminal import json_text, printable, show, talk
from leeward.errors import LeewardError, Refused, RetryableError
from leeward.resilience.retry import Retry
from leeward.wire import native_encode

if TYPE_CHECKING:
    from leeward.cli.api import Answer, Api

__all__ = ["command"]

LINES_PER_BATCH_MAX: Final = 1000
BYTES_PER_BATCH_MAX: Final = 4 << 20
LINE_BYTES_MAX: Final = 16 << 20
PATIENCE: Final = Retry(attempts_max=6, base_s=0.5, cap_s=8)
WAIT_S_MAX: Final = 30.0


@make(
    "send",
    "leeward send signup -p plan=pro --distinct-id u1",
    "leeward send - < events.jsonl",
)
@click.argument("event")
@click.option("-p", "properties", metavar="NAME=VALUE", multiple=True, help="A property; JSON, else text. Repeatable.")
@click.option("--data", metavar="JSON", help="All properties, as a JSON object.")
@click.option("--distinct-id", metavar="ID", help="Whom it concerns.")
@click.option(
    "--level",
    metavar="LEVEL",
    type=click.Choice(LEVELS, case_sensitive=False),
    help="DEBUG, INFO, WARN, ERROR or FATAL.",
)
@click.option("--id", metavar="ID", help="Its own id; a repeat is stored once [a new one].")
@connection_options
@click.option("--json", "as_json", is_flag=True, help="The server's answer; with - one a batch.")
def command(
    *,
    event: str,
    properties: tuple[str, ...],
    data: str | None,
    distinct_id: str | None,
    level: str | None,
    id: str | None,
    as_json: bool,
    **connection: str | None,
) -> None:
    """Send an event, or many from stdin."""
    if event == "-":
        if properties or data or distinct_id or level or id:
            raise click.UsageError("with - every line says everything about its event; leave the other options away")
        _send_lines(sys.stdin.buffer, target_of(**connection, environ=os.environ).api("write"), as_json=as_json)
        return
    fields = {"event_type": event, "id": id or _new_id()}
    fields.update({name: value for name, value in (("distinct_id", distinct_id), ("level", level)) if value})
    body = f'{json.dumps(fields)[:-1]}, "data": {_data(data, properties)}}}'.encode("utf-8", "replace")
    api = target_of(**connection, environ=os.environ).api("write")
    answer = _patiently(functools.partial(api.post_bytes, "/api/telemetry/ingest", body))
    result = answer.document()["results"][0]
    show(json_text(answer.body.decode()) if as_json else f"{printable(result['id'])}  {printable(result['key'])}")


def _data(data: str | None, properties: Iterable[str]) -> str:
    """All properties as JSON text: the object, then the single ones. Numbers go as they were typed."""
    merged = {}
    if data is not None:
        document = _object(data)
        if not properties:
            return data
        merged = {name: json.dumps(value) for name, value in document.items()}
    for given in properties:
        name, equals, value = given.partition("=")
        if not name or not equals:
            raise click.BadParameter(f"{given!r} is not NAME=VALUE", param_hint="-p")
        merged[name] = json.dumps(value) if _json_or_none(value) is None and value.strip() != "null" else value
    return "{" + ",".join(f"{json.dumps(name)}:{value}" for name, value in merged.items()) + "}"


def _object(text: str) -> dict[str, Any]:
    """What --data says. Raises UsageError with the place where it stops being JSON."""
    try:
        document = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except json.JSONDecodeError as error:
        place = (
            f"at character {error.pos + 1}" if error.lineno == 1 else f"at line {error.lineno}, column {error.colno}"
        )
        problem = error.msg[:1].lower() + error.msg[1:]
        raise click.UsageError(f"--data is not JSON {place}: {problem}") from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise click.UsageError(f"--data cannot be sent: {reason}") from None
    if not isinstance(document, dict):
        raise click.UsageError('--data is JSON, but not an object such as {"plan": "pro"}')
    return document


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large for a number")
    return number


def _new_id() -> str:
    return native_encode.uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask until the answer is not "later", for about half a minute.

    Who does not answer at all, or asks for a longer wait, is not asked again: a day's quota may be used up.
    """
    attempts = 0
    while True:
        attempts += 1
        try:
            return ask()
        except RetryableError as error:
            is_hopeless = error.code == "server_unreachable" or (error.retry_after_s or 0.0) > WAIT_S_MAX
            if is_hopeless or not PATIENCE.again(attempts):
                raise
            wait_s = PATIENCE.delay_s(attempts, error.retry_after_s, random.random)
            talk(f"{printable(error.message)}: once more in {wait_s:.1f} s")
            time.sleep(wait_s)


# Many


class _Batch(NamedTuple):
    """Lines that go together; `numbers` says where each stood."""

    numbers: list[int]
    lines: list[bytes]


def _send_lines(stream: BinaryIO, api: Api, *, as_json: bool) -> None:
    accepted = refused = 0

    def refuse(number: int, reason: str, count: int = 1) -> None:
        nonlocal refused
        refused += count
        where = f"line {number:,}" if count == 1 else f"{count:,} lines from line {number:,} on"
        talk(f"{where}: {printable(reason)}")

    for batch in _batches(stream, refuse):
        body = native_encode.batch(_new_id(), batch.lines)
        try:
            answer = _patiently(functools.partial(api.post_bytes, "/api/telemetry/batch", body))
        except Refused as error:  # not one of them is valid
            refuse(batch.numbers[0], f"{error.message}: {error.fix}", len(batch.lines))
            continue
        except LeewardError as error:
            sent = f"{accepted:,} events were sent before line {batch.numbers[0]:,}"
            error.where = f"{error.where}; {sent}" if error.where else sent
            raise
        document = answer.document()
        accepted += document["accepted"]
        for one in document["errors"]:
            refuse(batch.numbers[one["index"]], f"{one['error']} ({one['code']})")
        if as_json:
            show(json_text(answer.body.decode()))
    if not as_json:
        show(f"{accepted:,} sent, {refused:,} refused")
    if refused:
        raise LeewardError(
            f"{refused:,} of {accepted + refused:,} events were refused", code="refused", fix="see the lines above"
        )


def _batches(stream: BinaryIO, refuse: Callable[[int, str], None]) -> Iterator[_Batch]:
    """The lines in batches. What is not one JSON object a line is refused here: it would spoil its whole batch."""
    batch, size = _Batch([], []), 0
    for number, raw in enumerate(iter(lambda: stream.readline(LINE_BYTES_MAX), b""), 1):
        line = raw.strip()
        if not line:
            continue
        reason = _wrong(line)
        if reason:
            refuse(number, reason)
            continue
        if batch.lines and (len(batch.lines) == LINES_PER_BATCH_MAX or size + len(line) > BYTES_PER_BATCH_MAX):
            yield batch
            batch, size = _Batch([], []), 0
        batch.numbers.append(number)
        batch.lines.append(line)
        size += len(line)
    if batch.lines:
        yield batch


def _wrong(line: bytes) -> str:
    """Why this line cannot go into a batch, or nothing. The event's own fields are the server's to judge."""
    try:
        document = json.loads(line.decode("utf-8"), parse_constant=_refuse, parse_int=str, parse_float=str)
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    except (ValueError, RecursionError):
        return "it is not JSON"
    return "" if isinstance(document, dict) else "it is not a JSON object"
