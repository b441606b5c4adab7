"""Every setting there is: one Struct a section, and in it name, type, default, limits and description of each key.

This is the only place where a setting is declared. File, environment, options, the sample file, the JSON Schema and
the reference are read off these Structs. Names carry their unit; every key has a default and a description.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, NamedTuple, get_args

import msgspec
from msgspec import Meta

__all__ = ["KEYS", "SECTIONS", "Client", "Key", "Privacy", "Section", "Server", "Settings", "Storage", "masked"]

KiB: Final = 1024
MiB: Final = 1024 * KiB
GiB: Final = 1024 * MiB
_ADDRESS: Final = re.compile(r"([a-z+]+://)(?:([^:/?]*?)(?::(.*))?@)?([^@]*?)(\?.*)?\Z", re.DOTALL)
_NOT_SECRET: Final = frozenset({"", "embedded"})
TAIL_SHOWN_FROM_CHARS: Final = 24  # of a shorter secret, four characters would be too much


def _size(minimum: int, maximum: int, description: str) -> Meta:
    """A number of bytes; may be written as text with a unit: "64MiB"."""
    return Meta(ge=minimum, le=maximum, description=description, extra={"size": True})


def _secret(description: str) -> Meta:
    """A text that is never shown whole, and may be `env:NAME` or `file:PATH`."""
    return Meta(description=description, extra={"secret": True})


def masked(secret: str) -> str:
    """A secret as it may be shown: `…x9Qd`. Of an address only the password, and what follows a `?`, is secret."""
    address = _ADDRESS.match(secret)
    if address is not None:
        scheme, user, password, rest, query = address.groups()
        userinfo = "" if user is None else f"{user}@" if password is None else f"{user}:{_tail(password)}@"
        return f"{scheme}{userinfo}{rest}{'' if query is None else '?…'}"
    return secret if secret in _NOT_SECRET else _tail(secret)


def _tail(secret: str) -> str:
    """The last four characters of a long secret, nothing of a short one."""
    return "…" + secret[-4:] if len(secret) >= TAIL_SHOWN_FROM_CHARS else "…"


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the configuration file. Its `repr` shows no secret."""

    def __repr__(self) -> str:
        shown = []
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            secret = any((meta.extra or {}).get("secret") for meta in get_args(field.type) if isinstance(meta, Meta))
            shown.append(f"{field.name}={masked(value) if secret else value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


class Server(Section, frozen=True, kw_only=True):
    """The server: where it listens, what it accepts and how long it waits."""

    host: Annotated[str, Meta(min_length=1, description="Address to listen on; a loopback address keeps it local.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port; 0 takes any free one.")] = 5330
    data_dir: Annotated[
        str, Meta(description="Folder of log, store and keys; empty means the user's data directory.")
    ] = ""
    allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Further names by which browsers may call this server (the Host header)."),
    ] = ()
    connections_max: Annotated[
        int, Meta(ge=1, le=100_000, description="Open connections; further ones are refused.")
    ] = 4_096
    body_packed_bytes_max: Annotated[int, _size(KiB, GiB, "Largest request body as it arrives, still compressed.")] = (
        20 * MiB
    )
    body_unpacked_bytes_max: Annotated[int, _size(KiB, GiB, "Largest request body after decompression.")] = 20 * MiB
    otlp_body_unpacked_bytes_max: Annotated[int, _size(KiB, GiB, "The same for OpenTelemetry's requests.")] = 64 * MiB
    sentry_body_unpacked_bytes_max: Annotated[int, _size(KiB, GiB, "The same for Sentry's envelopes.")] = 100 * MiB
    head_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3_600, description="Seconds for a request's head to arrive whole.")
    ] = 10.0
    body_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3_600, description="Seconds for a request's body to arrive whole.")
    ] = 30.0
    idle_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3_600, description="Seconds that a connection may stay open between two requests.")
    ] = 75.0
    shutdown_timeout_s: Annotated[
        float, Meta(ge=0.1, le=600, description="Seconds that running requests have to end when the server stops.")
    ] = 10.0
    inflight_bytes_max: Annotated[
        int, _size(MiB, 64 * GiB, "Bytes that all running requests together may hold; beyond it they get 429.")
    ] = 192 * MiB
    commit_latency_max_s: Annotated[
        float, Meta(ge=0.01, le=600, description="Seconds that a commit may take before new writes get 429.")
    ] = 2.0


class Storage(Section, frozen=True, kw_only=True):
    """The log and the store behind it."""

    url: Annotated[
        str,
        _secret(
            '"embedded", or clickhouse://user:password@host:8123/database; env:NAME and file:PATH hold it elsewhere.'
        ),
    ] = "embedded"
    retention_days: Annotated[
        int, Meta(ge=1, le=3_650, description="Days after their arrival that events are kept.")
    ] = 7
    store_memory_bytes_max: Annotated[int, _size(256 * MiB, 1_024 * GiB, "Memory that the embedded store may use.")] = (
        2 * GiB
    )
    log_bytes_max: Annotated[
        int, _size(64 * MiB, 1_024 * GiB, "Log not yet in the store; beyond it new events get 503.")
    ] = 2 * GiB
    log_segment_bytes: Annotated[int, _size(MiB, GiB, "Size of one file of the log.")] = 64 * MiB
    block_rows_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Rows of one block for the store.")] = 100_000
    block_bytes_max: Annotated[int, _size(64 * KiB, GiB, "Bytes of one block for the store.")] = 32 * MiB
    block_age_max_s: Annotated[
        float, Meta(ge=0.01, le=60, description="Seconds that an accepted event waits at most for its block to fill.")
    ] = 0.8
    retry_delays_ms: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=60_000)], ...],
        Meta(description="Milliseconds to wait before a refused block is tried again; then in the background."),
    ] = (100, 200, 400)
    door_ids_max: Annotated[
        int, Meta(ge=1_000, le=300_000, description="Ids of accepted events that are remembered to answer repeats.")
    ] = 200_000


class Privacy(Section, frozen=True, kw_only=True):
    """What is taken out of events before they are kept."""

    scrub: Annotated[
        bool, Meta(description="Takes secrets out of every event: under telling names, and of known forms.")
    ] = True


class Client(Section, frozen=True, kw_only=True):
    """The telemetry client on this machine."""

    disabled: Annotated[bool, Meta(description="Switches the client off: no file, no thread, no connection.")] = False


class Settings(Section, frozen=True, kw_only=True):
    """All sections."""

    server: Server = Server()
    storage: Storage = Storage()
    privacy: Privacy = Privacy()
    client: Client = Client()


class Key(NamedTuple):
    """One setting, as declared: what load, show, the sample file and the schema walk over."""

    name: str  # "server.port"
    type: Any
    default: Any
    meta: Meta

    @property
    def section(self) -> str:
        """The table that it stands in."""
        return self.name.rpartition(".")[0]

    @property
    def field(self) -> str:
        """Its name inside the table."""
        return self.name.rpartition(".")[2]

    @property
    def size(self) -> bool:
        """Whether it is a number of bytes."""
        return bool((self.meta.extra or {}).get("size"))

    @property
    def secret(self) -> bool:
        """Whether it is never shown whole."""
        return bool((self.meta.extra or {}).get("secret"))


def _keys_of(struct: type[msgspec.Struct], prefix: str = "") -> Iterator[Key]:
    for field in msgspec.structs.fields(struct):
        name = prefix + field.name
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from _keys_of(field.type, f"{name}.")
        else:
            yield Key(name, field.type, field.default, get_args(field.type)[1])


KEYS: Final[dict[str, Key]] = {key.name: key for key in _keys_of(Settings)}
SECTIONS: Final[dict[str, type[Section]]] = {field.name: field.type for field in msgspec.structs.fields(Settings)}
