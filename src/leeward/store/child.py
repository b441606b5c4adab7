"""The embedded engine's process: chDB behind the part of ClickHouse's HTTP interface that `store/clickhouse` speaks.

Started as `python -P -m leeward.store.child DIRECTORY SOCKET MEMORY_BYTES LOCK_WAIT_S`, with a pipe as standard input.
It ends when that pipe ends or its parent dies, ignores the signals of a terminal (its parent decides), owns its
directory by a lock, and listens only on the Unix socket, which only its own user may open. Nothing needs to be closed
at the end: every insert that was answered is on disk, and one that was not is a whole part or nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import os
import re
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, urlsplit

__all__ = ["EXIT_ENGINE_MISSING", "EXIT_LOCKED", "Engine", "SqlRefused", "main", "serve"]

EXIT_LOCKED: Final = 3
EXIT_ENGINE_MISSING: Final = 4

# A small box: few threads, small caches, none of ClickHouse's own tables of logs.
_CONFIG: Final = """<clickhouse>
<max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
<max_server_memory_usage_to_ram_ratio>0.8</max_server_memory_usage_to_ram_ratio>
<background_pool_size>1</background_pool_size>
<background_merges_mutations_concurrency_ratio>2</background_merges_mutations_concurrency_ratio>
<background_common_pool_size>1</background_common_pool_size>
<background_schedule_pool_size>2</background_schedule_pool_size>
<background_move_pool_size>1</background_move_pool_size>
<background_fetches_pool_size>1</background_fetches_pool_size>
<max_thread_pool_size>128</max_thread_pool_size>
<max_thread_pool_free_size>4</max_thread_pool_free_size>
<mark_cache_size>16777216</mark_cache_size>
<index_mark_cache_size>8388608</index_mark_cache_size>
<primary_index_cache_size>67108864</primary_index_cache_size>
<uncompressed_cache_size>0</uncompressed_cache_size>
<index_uncompressed_cache_size>0</index_uncompressed_cache_size>
<query_condition_cache_size>4194304</query_condition_cache_size>
<compiled_expression_cache_size>8388608</compiled_expression_cache_size>
</clickhouse>
"""
# They differ from request to request, so a session gets them anew each time; the other settings choose the session.
_PER_REQUEST: Final = "insert_deduplication_token"
_NOT_SETTINGS: Final = frozenset({"query", "database", "default_format", "wait_end_of_query"})
_NAME: Final = re.compile(r"[A-Za-z0-9_]+\Z")
_INSERT: Final = re.compile(r"\s*(INSERT\s+INTO\s.+?)\s+FORMAT\s+(\w+)\s*\Z", re.DOTALL | re.IGNORECASE)
_CODE: Final = re.compile(r"Code: (\d+)\.")
# The engine lets even a read-only session reach files in some ways, `file()` and INTO OUTFILE. A read's text needs no
# comment and no backslash, since values are bound; without those, no name can be spelled so that this misses it.
_FORBIDDEN: Final = re.compile(
    r"/\*|--|#|\\|\b(?:\w*outfile|\w*infile|file\w*|executable\w*|url\w*|python\w*|remote\w*|s3\w*|gcs\w*|hdfs\w*|azure\w*"
    r"|mysql\w*|postgresql\w*|mongodb\w*|redis\w*|sqlite\w*|odbc\w*|jdbc\w*|iceberg\w*|deltalake\w*|hudi\w*|paimon\w*"
    r"|arrowflight\w*|ytsaurus\w*|cluster\w*|input|dictionary|loop)\b",
    re.IGNORECASE,
)
_READ: Final = re.compile(r"\s*(?:SELECT|WITH)\b", re.IGNORECASE)
_SESSIONS_KEPT_MAX: Final = 16
_CHUNK_BYTES: Final = 1 << 20


class SqlRefused(Exception):
    """A statement that the child does not hand to the engine."""


class Engine:
    """The engine and its sessions. A session keeps settings and database; sessions run beside each other."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._first = connect()  # the engine lives as long as one connection does
        self._idle: list[tuple[tuple[tuple[str, str], ...], Any]] = []
        self._lock = threading.Lock()

    def run(self, sql: str, fields: dict[str, str], body: bytes | None) -> bytes:
        """Run one statement; `fields` are settings, `param_…`, `database` and `default_format`."""
        params = {name[6:]: value for name, value in fields.items() if name.startswith("param_")}
        settings = {
            name: value for name, value in fields.items() if name not in _NOT_SETTINGS and not name.startswith("param_")
        }
        if settings.get("readonly") == "1":
            _check_read(sql)
        token = settings.pop(_PER_REQUEST, "")
        insert = _INSERT.match(sql) if body is not None else None
        with self._session(fields.get("database", ""), settings) as session:
            if insert is not None:
                session.query(f"SET {_PER_REQUEST} = {_literal(token)}", "TSV", params={})
            if insert is not None and body is not None:
                self._insert(session, insert[1], insert[2], body)
                return b""
            output = fields.get("default_format", "TabSeparated")
            return bytes(session.query(sql, output, params=params).bytes())

    @staticmethod
    def _insert(session: Any, sql: str, input_format: str, body: bytes) -> None:
        inserter = session.send_insert(sql, input_format)
        try:
            if body:
                session.insert_append(inserter, body)
        except BaseException:
            session.insert_cancel(inserter)
            raise
        session.insert_done(inserter)

    @contextlib.contextmanager
    def _session(self, database: str, settings: dict[str, str]) -> Iterator[Any]:
        key = (("", database), *sorted(settings.items()))
        session = self._take(key) or self._open(key)
        try:
            yield session
        except BaseException:
            session.close()  # after an error a session is not trusted with its state
            raise
        with self._lock:
            self._idle.append((key, session))
            oldest = self._idle.pop(0)[1] if len(self._idle) > _SESSIONS_KEPT_MAX else None
        if oldest is not None:
            oldest.close()

    def _take(self, key: tuple[tuple[str, str], ...]) -> Any:
        with self._lock:
            for index in range(len(self._idle) - 1, -1, -1):
                if self._idle[index][0] == key:
                    return self._idle.pop(index)[1]
        return None

    def _open(self, key: tuple[tuple[str, str], ...]) -> Any:
        session = self._connect()
        try:
            (_, database), *settings = key
            if database:
                session.query("USE {database:Identifier}", "TSV", params={"database": database})
            for name, value in sorted(settings, key=lambda item: item[0] == "readonly"):  # last: it forbids SET
                session.query(f"SET {_name(name)} = {_literal(value)}", "TSV", params={})
        except BaseException:
            session.close()
            raise
        return session


def _name(setting: str) -> str:
    if not _NAME.match(setting):
        raise SqlRefused(f"Code: 115. DB::Exception: no setting is called {setting!r}. (UNKNOWN_SETTING)")
    return setting


def _check_read(sql: str) -> None:
    """A read-only session of the engine still takes KILL, BACKUP and files: refuse what is not a plain read."""
    found = _FORBIDDEN.search(sql)
    if found is not None or not _READ.match(sql):
        what = f"may not say {found[0]!r}" if found is not None else "begins with SELECT or WITH"
        raise SqlRefused(f"Code: 497. DB::Exception: a read {what}. (ACCESS_DENIED)")


def _literal(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


class _Handler(BaseHTTPRequestHandler):
    """One connection of the client; a thread each."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave in one write
    server: _Server

    def do_GET(self) -> None:
        """Answer `/ping`: the engine, not only this process, must answer."""
        self._answer("SELECT 1", {}, None)

    def do_POST(self) -> None:
        """Run a statement, given in the address, the body, or a form with its parameters."""
        fields = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body: bytes | None = self._body()
        kind, _, boundary = self.headers.get("Content-Type", "").partition("boundary=")
        if kind.startswith("multipart/form-data"):
            fields.update(_form_fields(body or b"", boundary.encode()))
            body = None
        sql = fields.get("query", "")
        if not sql:
            sql, body = (body or b"").decode("utf-8", "replace"), None
        self._answer(sql, fields, body)

    def _body(self) -> bytes:
        left = int(self.headers.get("Content-Length", "0"))
        body = bytearray()
        while left > 0:
            chunk = self.rfile.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise ConnectionResetError("the client went away within a body")
            body += chunk
            left -= len(chunk)
        return bytes(body)

    def _answer(self, sql: str, fields: dict[str, str], body: bytes | None) -> None:
        code, status = "", 200
        try:
            data = self.server.engine.run(sql, fields, body)
        except (RuntimeError, SqlRefused, UnicodeDecodeError) as error:
            # chDB raises RuntimeError with ClickHouse's own sentence; where it cuts that sentence inside a character,
            # reading it fails, and the sentence is what could not be read.
            text = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else str(error)
            data = text.encode("utf-8", "replace")
            found = _CODE.search(text)
            code, status = (found[1] if found else "1001"), 500
        self.send_response(status)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle(self) -> None:
        """Serve the connection until the client closes it, however it does that."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def finish(self) -> None:
        """Flush and close; a client that is gone needs no answer."""
        with contextlib.suppress(ConnectionError):
            super().finish()

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Say nothing: an answered request is no news."""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, path: str, engine: Engine) -> None:
        self.engine = engine
        super().__init__(path, _Handler)

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("client", 0)  # a Unix peer has no address; the handler wants one


def _form_fields(body: bytes, boundary: bytes) -> Iterator[tuple[str, str]]:
    """The fields of a form, as `store/clickhouse` writes them."""
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0]
        yield name.decode(), value.removesuffix(b"\r\n").decode("utf-8", "replace")


def serve(directory: Path, socket_path: str, connect: Callable[[], Any]) -> NoReturn:
    """Answer on `socket_path` until the process ends. The socket appears only when the engine is ready."""
    engine = Engine(connect)
    starting = Path(f"{socket_path}.new")
    starting.unlink(missing_ok=True)
    server = _Server(str(starting), engine)
    starting.replace(socket_path)
    (directory / "pid").write_text(f"{os.getpid()}\n")
    server.serve_forever(poll_interval=3600.0)
    raise SystemExit(0)


def _end_with_parent(parent_pid: int) -> None:
    """Two ways, since each has a gap: the pipe may be held open by a fork, the signal exists on Linux only."""

    def wait_for_the_end() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 64):
                pass
        os._exit(0)

    threading.Thread(target=wait_for_the_end, name="parent", daemon=True).start()
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 - on Linux only

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent_pid:
        os._exit(0)  # it died before we could ask to be told


def _lock(directory: Path, wait_s: float) -> io.TextIOWrapper | None:
    """The directory's lock, held until this process ends, or None: another engine has it and does not end."""
    held = (directory / "lock").open("a+")
    deadline_s = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                held.close()
                return None
            time.sleep(0.02)
        else:
            return held


def main(arguments: list[str]) -> int:
    """Start the engine in a directory and answer on a socket."""
    directory, socket_path, memory_bytes, lock_wait_s, parent_pid = arguments
    root = Path(directory)
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _end_with_parent(int(parent_pid))
    held = _lock(root, float(lock_wait_s))
    if held is None:
        print("another process holds the embedded store's lock", file=sys.stderr)  # noqa: T201 - its log
        return EXIT_LOCKED
    try:
        chdb: Any = importlib.import_module("chdb._chdb")  # half a second; in this process alone
    except ImportError as error:
        print(f"the engine cannot be loaded: {error}", file=sys.stderr)  # noqa: T201 - its log
        return EXIT_ENGINE_MISSING
    chdb.set_signal_handlers_enabled(False)
    config = root / "engine.xml"
    config.write_text(_CONFIG.format(memory_bytes=int(memory_bytes)))
    data = root / "data"
    data.mkdir(exist_ok=True)
    serve(root, socket_path, lambda: chdb.connect(f"{data}?config-file={config}"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
