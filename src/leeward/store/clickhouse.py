"""The one ClickHouse client: its HTTP interface, over TCP or a Unix socket.

An instance may be shared by threads: each call takes a kept connection or makes one. A kept connection that the
other side closed meanwhile is replaced once; that repeats a statement whose answer was lost, which is harmless here:
reads change nothing, inserts carry a token, and every other statement that leeward sends may be run twice.

Values travel as bound parameters, in the body and never in the address. Errors say whether to try again:
`StoreRefused` means that this very data is wrong, `StoreUnavailable` everything else, a wrong statement too: so neither a
broken store nor a drifted schema is taken for a poison row. Neither ever holds the address's password.
"""

from __future__ import annotations

import base64
import http.client
import re
import secrets
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit

import msgspec

from leeward.errors import ConfigError, Refused, Unavailable

__all__ = ["INSERT_SETTINGS", "READ_SETTINGS", "ClickHouse", "StoreRefused", "StoreUnavailable"]

Parameter = str | int | Sequence[str] | Sequence[tuple[int, int]]

# Acknowledged means on disk and once; a block is parsed whole, so that it becomes one part or nothing.
INSERT_SETTINGS: Final[Mapping[str, str]] = {
    "async_insert": "0",
    "insert_deduplicate": "1",
    "deduplicate_blocks_in_dependent_materialized_views": "1",
    "optimize_on_insert": "0",
    "materialize_skip_indexes_on_insert": "0",  # built by the first merge instead: 2 µs less per row
    "max_insert_threads": "1",
    "max_threads": "1",
    "input_format_parallel_parsing": "0",
    "max_insert_block_size": "1000000",
    "min_insert_block_size_rows": "1000000",
    "min_insert_block_size_bytes": "1073741824",
    "max_insert_block_size_bytes": "0",
    "input_format_skip_unknown_fields": "0",
    "input_format_allow_errors_num": "0",
    "input_format_null_as_default": "0",  # from here on: a value of another type is refused, not converted
    "input_format_json_read_objects_as_strings": "0",
    "input_format_json_read_arrays_as_strings": "0",
    "input_format_json_read_numbers_as_strings": "0",
    "input_format_json_read_bools_as_strings": "0",
}

READ_SETTINGS: Final[Mapping[str, str]] = {
    "readonly": "1",
    "allow_ddl": "0",
    "allow_introspection_functions": "0",
    "max_execution_time": "20",
    "max_memory_usage": "1073741824",
    "max_result_rows": "200000",
    "result_overflow_mode": "throw",
    "max_threads": "2",
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_escape_forward_slashes": "0",
}

# What a row itself can be guilty of: those codes with which the engine's reader of rows stops at a value. Codes for
# tables, columns, types, formats and statements are missing on purpose: there, every row would be refused alike.
_REFUSED_CODES: Final = frozenset({
    6,    # CANNOT_PARSE_TEXT
    25,   # CANNOT_PARSE_ESCAPE_SEQUENCE
    26,   # CANNOT_PARSE_QUOTED_STRING
    27,   # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    32,   # ATTEMPT_TO_READ_AFTER_EOF
    33,   # CANNOT_READ_ALL_DATA
    38,   # CANNOT_PARSE_DATE
    41,   # CANNOT_PARSE_DATETIME
    69,   # ARGUMENT_OUT_OF_BOUND
    72,   # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA
    130,  # CANNOT_READ_ARRAY_FROM_TEXT
    131,  # TOO_LARGE_STRING_SIZE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    467,  # CANNOT_PARSE_BOOL
})  # fmt: skip

_ESCAPES: Final = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\0": "\\0", "\b": "\\b", "\f": "\\f"}
)
_QUOTES: Final = _ESCAPES | str.maketrans({"'": "\\'"})
_CODE: Final = re.compile(r"Code: (\d+)\.")
_STALE: Final = (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError)
_ANSWER_BYTES_MAX: Final = 256 << 20
_ERROR_CHARS_MAX: Final = 600
_KEPT_MAX: Final = 8


class StoreUnavailable(Unavailable):
    """The store cannot do it just now. `clickhouse_code` is ClickHouse's number for the reason, 0 without one."""

    def __init__(self, message: str, *, clickhouse_code: int = 0) -> None:
        super().__init__(message, code="store_unavailable")
        self.clickhouse_code = clickhouse_code


class StoreRefused(Refused):
    """The store looked at this data and said no. `clickhouse_code` is ClickHouse's number for it."""

    def __init__(self, message: str, *, clickhouse_code: int = 0) -> None:
        super().__init__(message, code="store_refused")
        self.clickhouse_code = clickhouse_code


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ClickHouse:
    """A ClickHouse server, or the embedded engine, at `endpoint`: `http://host:port`, `https://…` or `unix:/path`."""

    def __init__(
        self, endpoint: str, database: str = "leeward", user: str = "", password: str = "", timeout_s: float = 30.0
    ) -> None:
        self.database = database
        self._timeout_s = timeout_s
        self._kept: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._closed = False
        self._scheme, self._host, self._port = _address(endpoint)
        self._headers: dict[str, str] = {}
        if user:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"

    @classmethod
    def from_url(cls, url: str, timeout_s: float = 30.0) -> ClickHouse:
        """`clickhouse://user:password@host:8123/database`, the same with http or https, or `unix:/path`."""
        if url.startswith("unix:"):
            return cls(url, timeout_s=timeout_s)
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise _bad_url() from None
        if parts.scheme not in {"clickhouse", "http", "https"} or not parts.hostname:
            raise _bad_url()
        scheme = "https" if parts.scheme == "https" else "http"
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        return cls(
            f"{scheme}://{host}:{port or (8443 if scheme == 'https' else 8123)}",
            unquote(parts.path.strip("/")) or "leeward",
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            timeout_s,
        )

    def __repr__(self) -> str:
        return f"ClickHouse({self._where()!r}, database={self.database!r})"

    def close(self) -> None:
        """Close the kept connections. Calls that run finish; a later call raises `StoreUnavailable`."""
        with self._lock:
            self._closed = True
            kept, self._kept = self._kept, []
        for connection in kept:
            connection.close()

    def command(
        self,
        sql: str,
        params: Mapping[str, Parameter] | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        database: str | None = None,
    ) -> bytes:
        """Run a statement that changes something, and return its output, mostly empty."""
        return self._call(sql, params, {"wait_end_of_query": "1", **(settings or {})}, database)

    def insert(
        self,
        table: str,
        lines: Sequence[bytes] | bytes,
        *,
        token: str = "",
        columns: Sequence[str] = (),
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Insert JSON lines as one block: all or nothing, on disk when this returns.

        A block with a token that the table has seen lately is taken for the same block and not stored again.
        Left without one, ClickHouse would compare contents and drop honest repeats: so it gets a token in any case.
        """
        names = f" ({', '.join(columns)})" if columns else ""
        query = urlencode(
            {
                "query": f"INSERT INTO {table}{names} FORMAT JSONEachRow",
                "database": self.database,
                **INSERT_SETTINGS,
                "insert_deduplication_token": token or secrets.token_hex(16),
                **(settings or {}),
            }
        )
        body = lines if isinstance(lines, bytes) else b"\n".join(lines)
        self._send("POST", f"/?{query}", body, {"Content-Type": "application/x-ndjson"})

    def select(
        self,
        sql: str,
        params: Mapping[str, Parameter] | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        database: str | None = None,
    ) -> list[dict[str, Any]]:
        """Run a read and return its rows. It cannot change anything, nor reach files or other hosts."""
        rows: list[dict[str, Any]] = _DECODER.decode_lines(
            self.select_bytes(sql, params, settings, database=database, output="JSONEachRow")
        )
        return rows

    def select_bytes(
        self,
        sql: str,
        params: Mapping[str, Parameter] | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        database: str | None = None,
        output: str = "JSONCompactEachRow",
    ) -> bytes:
        """The same as `select`, undecoded, in ClickHouse's format `output`."""
        chosen = {**READ_SETTINGS, **(settings or {}), "default_format": output, "wait_end_of_query": "1"}
        return self._call(sql, params, chosen, database)

    def ping(self) -> bool:
        """Whether the store answers at all within the time-out."""
        try:
            self._send("GET", "/ping", None, {})
        except (StoreUnavailable, StoreRefused):
            return False
        return True

    def _call(
        self, sql: str, params: Mapping[str, Parameter] | None, settings: Mapping[str, str], database: str | None
    ) -> bytes:
        address = "/?" + urlencode({"database": self.database if database is None else database, **settings})
        if not params:
            return self._send("POST", address, sql.encode(), {"Content-Type": "text/plain"})
        boundary = secrets.token_hex(16)
        fields = {"query": sql, **{f"param_{name}": _parameter(value) for name, value in params.items()}}
        return self._send("POST", address, _form(boundary, fields), {
            "Content-Type": f"multipart/form-data; boundary={boundary}"
        })  # fmt: skip

    def _send(self, method: str, address: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        connection, kept = self._take()
        try:
            try:
                status, code, data = self._exchange(connection, method, address, body, headers)
            except _STALE:
                if not kept:
                    raise
                connection.close()
                connection = self._new()
                status, code, data = self._exchange(connection, method, address, body, headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise StoreUnavailable(f"no answer from {self._where()}: {type(error).__name__}: {error}") from None
        except BaseException:
            connection.close()  # somewhere inside an exchange: it cannot be used again
            raise
        self._give_back(connection)
        if status == 200 and not code:
            return data
        raise _error(status, code, data)

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        address: str,
        body: bytes | None,
        headers: Mapping[str, str],
    ) -> tuple[int, str, bytes]:
        connection.request(method, address, body, {**self._headers, **headers})
        answer = connection.getresponse()
        data = answer.read(_ANSWER_BYTES_MAX + 1)
        if len(data) > _ANSWER_BYTES_MAX:
            raise http.client.HTTPException(f"the answer is larger than {_ANSWER_BYTES_MAX >> 20} MiB")
        if answer.length:  # read() with a size does not mind that the rest is missing
            raise http.client.IncompleteRead(b"", answer.length)
        return answer.status, answer.headers.get("X-ClickHouse-Exception-Code", ""), data

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"the connection to {self._where()} was closed by this process")
            if self._kept:
                return self._kept.pop(), True
        return self._new(), False

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if not self._closed and len(self._kept) < _KEPT_MAX:
                self._kept.append(connection)
                return
        connection.close()

    def _new(self) -> http.client.HTTPConnection:
        if self._scheme == "unix":
            return _UnixConnection(self._host, self._timeout_s)
        if self._scheme == "https":
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout_s)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s)

    def _where(self) -> str:
        return "the embedded store" if self._scheme == "unix" else f"ClickHouse at {self._host}:{self._port}"


_DECODER: Final = msgspec.json.Decoder(dict[str, Any])


def _address(endpoint: str) -> tuple[str, str, int]:
    if endpoint.startswith("unix:"):
        return "unix", endpoint.removeprefix("unix:"), 0
    parts = urlsplit(endpoint)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise _bad_url()
    return parts.scheme, parts.hostname, parts.port or (8443 if parts.scheme == "https" else 8123)


def _bad_url() -> ConfigError:
    return ConfigError(  # the address itself stays out of the message: it may hold a password
        "[storage] url is not an address of a ClickHouse server",
        where="[storage] url",
        fix='url = "clickhouse://user:password@host:8123/leeward"',
    )


def _parameter(value: Parameter) -> str:
    """A value in the text form of ClickHouse's parameters: tab-separated escapes outside, quoted within arrays."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return value.translate(_ESCAPES)
    return "[" + ",".join(_element(item) for item in value) + "]"


def _element(item: str | tuple[int, int]) -> str:
    return f"'{item.translate(_QUOTES)}'" if isinstance(item, str) else f"({item[0]},{item[1]})"


def _form(boundary: str, fields: Mapping[str, str]) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode("utf-8", "surrogatepass")


def _error(status: int, code: str, data: bytes) -> StoreUnavailable | StoreRefused:
    text = data[: 4 * _ERROR_CHARS_MAX].decode("utf-8", "replace").strip()[:_ERROR_CHARS_MAX]
    found = _CODE.search(text)
    number = int(code) if code.isdecimal() else int(found[1]) if found else 0
    kind = StoreRefused if number in _REFUSED_CODES else StoreUnavailable
    return kind(text or f"the store answered with status {status}", clickhouse_code=number)
