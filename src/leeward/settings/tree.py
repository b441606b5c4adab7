"""Every setting there is: one Struct a section, and in it name, type, default, limits and description of each key.

This is the only place where a setting is declared. File, environment, options, the sample file, the JSON Schema and
the reference are read off these Structs. Names carry their unit; every key has a default and a description.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from leeward.settings.gateway import NAME_FORM, Gateway, Money
from leeward.settings.keys import Array, Key, arrays_of, keys_of, sections_of
from leeward.settings.sections import GiB, KiB, MiB, Section, secret, size

__all__ = [
    "ARRAYS",
    "KEYS",
    "SECTIONS",
    "Client",
    "Privacy",
    "Report",
    "Server",
    "ServerKey",
    "Settings",
    "Storage",
]


class ServerKey(Section, frozen=True, kw_only=True):
    """A key of this server, for the gateway alone: what it may do, and how much. The key itself stands nowhere."""

    name: Annotated[
        str,
        Meta(
            max_length=64,
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?\Z",
            description="Its name, by which spans and limits know it; empty: the head of its digest.",
            extra={"form": NAME_FORM},
        ),
    ] = ""
    sha256: Annotated[
        str,
        Meta(
            pattern=r"^[0-9A-Fa-f]{64}\Z",
            description="SHA-256 of the key, as 64 hexadecimal digits.",
            extra={"form": "64 hexadecimal digits"},
        ),
    ]
    scope: Annotated[Literal["write", "read", "chat", "admin"], Meta(description="What it may do.")]
    requests_per_minute: Annotated[
        Annotated[int, Meta(ge=1, le=10_000_000)] | None, Meta(description="Requests a minute; absent: any number.")
    ] = None
    tokens_per_day: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000_000_000)] | None,
        Meta(description="Tokens a day, in and out; absent: any number."),
    ] = None
    usd_per_day: Annotated[
        Money | None, Meta(description="US dollars a day, by the prices of the models; absent: any sum.")
    ] = None


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
    body_packed_bytes_max: Annotated[int, size(KiB, GiB, "Largest request body as it arrives, still compressed.")] = (
        20 * MiB
    )
    body_unpacked_bytes_max: Annotated[int, size(KiB, GiB, "Largest request body after decompression.")] = 20 * MiB
    otlp_body_unpacked_bytes_max: Annotated[int, size(KiB, GiB, "The same for OpenTelemetry's requests.")] = 64 * MiB
    sentry_body_unpacked_bytes_max: Annotated[int, size(KiB, GiB, "The same for Sentry's envelopes.")] = 100 * MiB
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
        int, size(MiB, 64 * GiB, "Bytes that all running requests together may hold; beyond it they get 429.")
    ] = 192 * MiB
    commit_latency_max_s: Annotated[
        float, Meta(ge=0.01, le=600, description="Seconds that a commit may take before new writes get 429.")
    ] = 2.0
    keys: Annotated[
        tuple[ServerKey, ...], Meta(description="Keys of a server that runs the gateway alone, without a store.")
    ] = ()


class Storage(Section, frozen=True, kw_only=True):
    """The log and the store behind it."""

    url: Annotated[
        str,
        secret(
            '"embedded", or clickhouse://user:password@host:8123/database; env:NAME and file:PATH hold it elsewhere.'
        ),
    ] = "embedded"
    retention_days: Annotated[
        int, Meta(ge=1, le=3_650, description="Days after their arrival that events are kept.")
    ] = 7
    store_memory_bytes_max: Annotated[int, size(256 * MiB, 1_024 * GiB, "Memory that the embedded store may use.")] = (
        2 * GiB
    )
    log_bytes_max: Annotated[
        int, size(64 * MiB, 1_024 * GiB, "Log not yet in the store; beyond it new events get 503.")
    ] = 2 * GiB
    log_segment_bytes: Annotated[int, size(MiB, GiB, "Size of one file of the log.")] = 64 * MiB
    block_rows_max: Annotated[int, Meta(ge=1, le=1_000_000, description="Rows of one block for the store.")] = 100_000
    block_bytes_max: Annotated[int, size(64 * KiB, GiB, "Bytes of one block for the store.")] = 32 * MiB
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
    prompts: Annotated[
        bool, Meta(description="Reserved for pages that will show prompts; the gateway's own events never carry them.")
    ] = False


class Report(Section, frozen=True, kw_only=True):
    """Where the server's own errors are told, besides its log."""

    sentry_dsn: Annotated[
        str,
        secret("Address of a Sentry project, with its key; empty: nowhere. env:NAME and file:PATH hold it elsewhere."),
    ] = ""


class Client(Section, frozen=True, kw_only=True):
    """The telemetry client on this machine."""

    disabled: Annotated[bool, Meta(description="Switches the client off: no file, no thread, no connection.")] = False


class Settings(Section, frozen=True, kw_only=True):
    """All sections."""

    server: Server = Server()
    storage: Storage = Storage()
    gateway: Gateway = Gateway()
    privacy: Privacy = Privacy()
    report: Report = Report()
    client: Client = Client()


SECTIONS: Final[dict[str, type[Section]]] = dict(sections_of(Settings))
KEYS: Final[dict[str, Key]] = {key.name: key for name, struct in SECTIONS.items() for key in keys_of(struct, name)}
ARRAYS: Final[dict[str, Array]] = {
    array.name: array for name, struct in SECTIONS.items() for array in arrays_of(struct, name)
}
