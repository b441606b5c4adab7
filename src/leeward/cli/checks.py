"""What `leeward doctor` looks at: each check is a function that gives one verdict and, when it is bad, the cure.

Limits    every check ends by itself: disks are asked 20 times, networks for at most some seconds.
Leaves    one event `leeward.doctor` in the store, which is the round trip; nothing on disk.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from leeward.cli.api import Answer, Api
from leeward.cli.check import Check, failed
from leeward.cli.client_checks import client_of, look_client, look_way, way_in_words
from leeward.cli.connection import FIRST_KEYS, SCOPES, Target, loopback
from leeward.cli.demo import MARK
from leeward.cli.spool_checks import look_spool
from leeward.cli.terminal import byte_text
from leeward.errors import LeewardError
from leeward.journal.owner import owner_of
from leeward.wire import native_encode

if TYPE_CHECKING:
    from leeward.settings.load import Loaded

__all__ = ["look"]

SPACE_LOW_BYTES: Final = 1 << 30
SPACE_NONE_BYTES: Final = 256 << 20
SYNCS: Final = 20
SYNC_SLOW_MS: Final = 20.0
CLOCK_OFF_S: Final = 60.0
BUILT_S: Final = 1_793_500_000  # November 2026: no clock that is right shows less
REFUSED_LATELY_S: Final = 3600
REFUSED_SHOWN: Final = 3
STORE_TIMEOUT_S: Final = 3.0
_STATES: Final[dict[str, Literal["ok", "warn", "fail"]]] = {"healthy": "ok", "degraded": "warn", "unhealthy": "fail"}


def look(loaded: Loaded, file: str | None, target: Target, environ: Mapping[str, str]) -> Iterator[Check]:
    """Everything, in the order in which one thing rests on another: the machine, the server, then its clients."""
    given = sum(origin != "default" for origin in loaded.origins.values())
    yield Check("configuration", "ok", f"{file or 'no file'}; {given} of {len(loaded.origins)} settings are set")
    if target.data_dir is not None:
        yield _data_directory(target.data_dir)
        yield _space(target.data_dir)
        yield _sync(target.data_dir)
        yield from _first_keys(target.data_dir)
    health = _health(target)
    is_leeward = isinstance(health, Answer)
    wants_leeward = is_leeward or client_of(target, environ).wire == "native"
    if wants_leeward:
        yield _store(loaded)
        yield from _server(target, health, way_in_words(target.url, environ))
    yield _clock(health if isinstance(health, Answer) else None)
    yield from look_client(target, environ)
    yield from look_way(target, environ, is_leeward=is_leeward)
    keys = {target.key, *(first[0] for scope in SCOPES if (first := target.first_key(scope)) is not None)}
    yield from look_spool(target.url, keys, environ)
    if is_leeward:
        yield _round_trip(target)
        yield from _losses(target)
        yield from _refused(target)
    elif wants_leeward:
        yield Check("round trip", "fail", "not tried: there is no server", "see above")
    yield from _addresses(loaded, target, environ)


# The machine


def _data_directory(directory: Path) -> Check:
    try:
        status = directory.stat()
    except FileNotFoundError:
        return Check("data directory", "warn", f"{directory} is not there yet", "leeward serve makes it")
    except OSError as error:
        return Check("data directory", "fail", f"{directory}: {error.strerror}", "leeward serve --data-dir FOLDER")
    if os.name == "posix" and status.st_uid != os.getuid():
        return Check("data directory", "fail", f"{directory} belongs to user {status.st_uid}", "run as that user")
    if os.name == "posix" and status.st_mode & 0o077:
        shown = f"{status.st_mode & 0o777:03o}"
        return Check("data directory", "fail", f"others may read {directory} ({shown})", f"chmod 700 {directory}")
    owner = owner_of(str(directory / "log" / "lock"))
    held = f", in use by pid {owner.pid}" if owner is not None and owner.is_alive() else ""
    return Check("data directory", "ok", f"{directory}{held}")


def _space(directory: Path) -> Check:
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{byte_text(free)} are free"
    if free < SPACE_LOW_BYTES:
        state: Literal["warn", "fail"] = "fail" if free < SPACE_NONE_BYTES else "warn"
        return Check("disk space", state, detail, "make room, or leeward serve --data-dir FOLDER elsewhere")
    return Check("disk space", "ok", detail)


def _sync(directory: Path) -> Check:
    """How long the disk takes to keep a small write: what every acknowledged event waits for."""
    times_ms = []
    try:
        with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
            for _ in range(SYNCS):
                file.write(b"\0" * 4096)
                begun = time.perf_counter()
                os.fsync(file.fileno())
                times_ms.append((time.perf_counter() - begun) * 1000)
    except FileNotFoundError:
        return Check("disk sync", "ok", "not measured: the data directory is not there yet")
    except OSError as error:
        return Check("disk sync", "fail", f"{directory}: {error.strerror}", "make room, or choose another disk")
    middle, worst = statistics.median(times_ms), max(times_ms)
    detail = f"{middle:.2f} ms in the middle, {worst:.2f} ms at worst"
    if middle > SYNC_SLOW_MS:
        return Check("disk sync", "warn", detail, "put the data directory on a faster disk")
    return Check("disk sync", "ok", detail)


def _first_keys(directory: Path) -> Iterator[Check]:
    path = directory / FIRST_KEYS
    if path.exists() and not (directory / MARK).exists():
        yield Check(
            "first keys", "warn", f"all keys still lie in {path}", "put them where you keep secrets, then delete it"
        )


# The store


def _store(loaded: Loaded) -> Check:
    storage = loaded.settings.storage
    if storage.url == "embedded":
        if importlib.util.find_spec("chdb") is None:
            return Check(
                "store",
                "fail",
                "embedded storage needs Linux (glibc) or macOS, and its extra",
                'pip install "leeward[server]", or set [storage] url = "clickhouse://…"',
            )
        return Check("store", "ok", "embedded; its engine is installed")
    from leeward.settings.sections import masked
    from leeward.store.clickhouse import ClickHouse

    try:
        client = ClickHouse.from_url(storage.url, STORE_TIMEOUT_S)
    except LeewardError as error:
        return failed("store", error)
    try:
        answers = client.ping()
    finally:
        client.close()
    if not answers:
        return Check("store", "fail", f"no answer from {masked(storage.url)}", "start it, or correct [storage] url")
    return Check("store", "ok", f"{masked(storage.url)} answers")


# The server


def _health(target: Target) -> Answer | LeewardError:
    try:
        answer = Api(target.url).exchange("GET", "/health")
        answer.document()["parts"]
    except LeewardError as error:
        return error
    except KeyError:
        return LeewardError(f"what answers at {target.url} is not leeward", fix="--host URL names the right address")
    return answer


def _server(target: Target, health: Answer | LeewardError, way: str = "") -> Iterator[Check]:
    if isinstance(health, LeewardError):
        found = failed("server", health)
        yield (
            found._replace(fix=f"{found.fix}; commands go straight there, and clients{way.removeprefix(',')}")
            if way
            else found
        )
        return
    document = health.document()
    yield Check("server", _STATES.get(document.get("status", ""), "fail"), f"{target.url} is {document.get('status')}")
    for name, part in document["parts"].items():
        if part.get("status") != "healthy":
            state = _STATES.get(part.get("status"), "fail")
            yield Check(f"server's {name}", state, str(part.get("detail", "")), "look at the server's log")


def _clock(health: Answer | None) -> Check:
    now_s = time.time()
    if now_s < BUILT_S:
        return Check("clock", "fail", "this machine's clock is years behind", "set it, or let it be set (NTP)")
    date = health.headers.get("date", "") if health is not None else ""
    if not date:
        return Check("clock", "ok", "plausible; there is no server to compare with")
    off_s = now_s - parsedate_to_datetime(date).timestamp()
    if abs(off_s) > CLOCK_OFF_S:
        return Check("clock", "warn", f"{off_s:+.0f} s against the server's", "set it, or let it be set (NTP)")
    return Check("clock", "ok", "agrees with the server's")


def _round_trip(target: Target) -> Check:
    """One event with the write key, asked for with the read key."""
    begun_s = time.monotonic()
    session = native_encode.uuid7(time.time_ns() // 1_000_000, os.urandom(10))
    event: dict[str, Any] = {"event_type": "leeward.doctor", "id": session, "session_id": session}
    try:
        target.api("write").post("/api/telemetry/ingest", event)
        found = target.api("read").get("/api/telemetry/query", {"session_id": session}).document()["count"]
    except LeewardError as error:
        return failed("round trip", error)
    if found != 1:
        return Check(
            "round trip", "fail", f"{found} events came back for the one that was sent", "see the server's log"
        )
    took_ms = (time.monotonic() - begun_s) * 1000
    return Check("round trip", "ok", f"keys are good; one event there and back in {took_ms:.0f} ms")


def _losses(target: Target) -> Iterator[Check]:
    """What the server knows that clients lost; nothing if it cannot be asked, which the round trip has said."""
    try:
        told = target.api("read").get("/api/telemetry/clients", {"limit": "1"}).document()
    except LeewardError:
        return
    lost, missing, total = (int(told.get(name, 0)) for name in ("lost", "missing", "total"))
    detail = f"{lost:,} lost, {missing:,} missing, of {total:,} clients"
    if not lost and not missing:
        yield Check("client losses", "ok", detail)
        return
    yield Check(
        "client losses",
        "warn",
        detail,
        "lost: a spool was full or too old; missing: look with leeward spool status on the machine where they ran",
    )


def _refused(target: Target) -> Iterator[Check]:
    """What the server refused lately, and the cure; nothing if it cannot be asked, which the round trip has said."""
    try:
        listed = target.api("read").get("/api/refusals").document()["refusals"]
    except (LeewardError, KeyError):
        return
    now_ms = time.time() * 1000
    lately = [
        refusal
        for refusal in listed
        if now_ms - refusal["at_ms"] < REFUSED_LATELY_S * 1000 and not _is_own_question(refusal)
    ]
    if not lately:
        before = f"; {len(listed)} before, see {target.url}/refused" if listed else ""
        yield Check("refused", "ok", f"nothing within the last hour{before}")
    for refusal in lately[:REFUSED_SHOWN]:
        minutes = max(0, int(now_ms - refusal["at_ms"])) // 60_000
        times = f", {refusal['count']:,} times" if refusal["count"] > 1 else ""
        who = f"{refusal['client'] or 'a client'}" + (f", key …{refusal['key_tail']}" if refusal["key_tail"] else "")
        detail = f"{minutes} min ago{times}: {refusal['path']} from {who}: {refusal['reason']}"
        yield Check("refused", "warn", detail, refusal["cure"])
    if len(lately) > REFUSED_SHOWN:
        yield Check("refused", "ok", f"{len(lately) - REFUSED_SHOWN} more within the last hour: {target.url}/refused")


def _is_own_question(refusal: dict[str, Any]) -> bool:
    """Whether it is how the client's checks find out what a key may do: an empty batch."""
    return refusal.get("code") == "empty_batch" and "leeward/" in str(refusal.get("client"))


def _addresses(loaded: Loaded, target: Target, environ: Mapping[str, str]) -> Iterator[Check]:
    """Every address that leeward would contact. There are no others."""
    from leeward.settings.sections import masked

    where = "this machine" if loopback(target.url) else "another machine"
    way = way_in_words(target.url, environ)
    if way:
        yield Check("contacts", "ok", f"clients: {target.url} ({where}){way}")
        yield Check("contacts", "ok", f"commands: {target.url}, without the proxy")
    else:
        yield Check("contacts", "ok", f"clients and commands: {target.url} ({where})")
    url = loaded.settings.storage.url
    yield Check("contacts", "ok", f"server: {'a socket in its data directory' if url == 'embedded' else masked(url)}")
