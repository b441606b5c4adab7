"""The client: against the real engine for what it means, against a scripted server for what goes wrong between them."""

import socket
import threading

import pytest

from leeward.errors import ConfigError, Refused, Unavailable
from leeward.store.clickhouse import _REFUSED_CODES, ClickHouse, StoreRefused, StoreUnavailable
from store_rows import block, event

SECRET = "hunter2-not-for-logs"


class Script:
    """A server that answers each request with the next of its answers; None closes instead."""

    def __init__(self, *answers):
        self._answers = list(answers)
        self.requests = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self):
        while self._answers:
            connection, _ = self._socket.accept()
            with connection, connection.makefile("rb") as reader:
                while self._answers:
                    head = b""
                    while not head.endswith(b"\r\n\r\n"):
                        line = reader.readline()
                        if not line:
                            break
                        head += line
                    if not head:
                        break
                    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                    self.requests.append((head, reader.read(length)))
                    answer = self._answers.pop(0)
                    connection.sendall(answer or b"")
                    if answer is None or answer.endswith(b"cut"):
                        break

    def client(self):
        self._client = ClickHouse.from_url(f"clickhouse://ann:{SECRET}@127.0.0.1:{self.port}/db", timeout_s=5)
        return self._client

    def close(self):
        self._client.close()
        self._thread.join(5)
        self._socket.close()
        assert not self._answers


@pytest.fixture
def script():
    made = []

    def start(*answers):
        made.append(Script(*answers))
        return made[-1]

    yield start
    for one in made:
        one.close()


def answer(body=b"", status="200 OK", code=""):
    extra = f"X-ClickHouse-Exception-Code: {code}\r\n" if code else ""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


def test_values_travel_in_the_body_and_the_password_in_its_header(script):
    server = script(answer(b'{"a":1}\n'), answer())
    client = server.client()
    assert client.select("SELECT {x:String} AS a", {"x": "a\tb"}) == [{"a": 1}]
    client.insert("events", [b"{}", b"{}"], token="log:0-1", columns=("id", "name"))
    client.close()
    (head, body), (insert_head, insert_body) = server.requests
    assert b"Authorization: Basic " in head
    assert b'name="param_x"\r\n\r\na\\tb\r\n' in body
    assert b"readonly=1" in head
    assert b"database=db" in head
    assert b"INSERT+INTO+events+%28id%2C+name%29+FORMAT+JSONEachRow" in insert_head
    assert b"insert_deduplication_token=log%3A0-1" in insert_head
    assert insert_body == b"{}\n{}"


@pytest.mark.parametrize(
    ("given", "kind", "code"),
    [
        (answer(b"Code: 27. DB::Exception: bad row", "400 Bad Request", "27"), StoreRefused, 27),
        (answer(b"Code: 252. DB::Exception: Too many parts", "500 Oh", "252"), StoreUnavailable, 252),
        (answer(b"Code: 241. DB::Exception: memory limit exceeded", "500 Oh", "241"), StoreUnavailable, 241),
        (answer(b"Code: 242. DB::Exception: table is read-only", "500 Oh", "242"), StoreUnavailable, 242),
        (answer(b"Code: 516. DB::Exception: Authentication failed", "403 Forbidden", "516"), StoreUnavailable, 516),
        (answer(b"Code: 117. DB::Exception: Unknown field found", "500 Oh"), StoreRefused, 117),
        (answer(b"Code: 62. DB::Exception: Syntax error", "500 Oh"), StoreUnavailable, 62),
        (answer(b"<html>bad gateway", "502 Bad Gateway"), StoreUnavailable, 0),
        (answer(b"", "502 Bad Gateway"), StoreUnavailable, 0),
        (answer(b"half an answer", "200 OK", "159"), StoreUnavailable, 159),
        (b"SSH-2.0-OpenSSH\r\n", StoreUnavailable, 0),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ncut", StoreUnavailable, 0),
        (None, StoreUnavailable, 0),
    ],
)
def test_w13_an_error_says_whether_to_try_again_and_never_the_password(script, given, kind, code):
    server = script(given)
    client = server.client()
    with pytest.raises(kind) as raised:
        client.select("SELECT 1")
    assert raised.value.clickhouse_code == code
    assert isinstance(raised.value, Unavailable if kind is StoreUnavailable else Refused)
    assert SECRET not in str(raised.value) + repr(raised.value) + repr(client)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize("code", [8, 10, 16, 20, 36, 42, 43, 44, 46, 47, 49, 50, 53, 62, 70, 73, 248, 410, 636, 691])
def test_w13_a_drifted_schema_or_our_own_statement_is_never_blamed_on_the_rows(script, code):
    """Every row would be refused alike, and the writer would carry them all to the dead letters, one by one."""
    server = script(answer(b"Code: %d. DB::Exception: something" % code, "500 Oh", str(code)))
    with pytest.raises(StoreUnavailable) as raised:
        server.client().insert("events", [b"{}"])
    assert raised.value.clickhouse_code == code


def test_w13_a_column_that_the_table_does_not_have_is_not_the_rows_fault(client):
    with pytest.raises(StoreUnavailable, match="NO_SUCH_COLUMN_IN_TABLE"):
        client.insert("events", block([event("a")]).lines, columns=("id", "drifted"))


def test_w13_the_codes_that_blame_a_row_are_those_of_the_reader_of_rows(client):
    codes = ", ".join(str(code) for code in _REFUSED_CODES)
    found = client.select(f"SELECT errorCodeToName(toInt32(arrayJoin([{codes}]))) AS name")
    assert {row["name"] for row in found} == {
        "ARGUMENT_OUT_OF_BOUND",
        "ATTEMPT_TO_READ_AFTER_EOF",
        "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
        "CANNOT_PARSE_BOOL",
        "CANNOT_PARSE_DATE",
        "CANNOT_PARSE_DATETIME",
        "CANNOT_PARSE_ESCAPE_SEQUENCE",
        "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
        "CANNOT_PARSE_NUMBER",
        "CANNOT_PARSE_QUOTED_STRING",
        "CANNOT_PARSE_TEXT",
        "CANNOT_READ_ALL_DATA",
        "CANNOT_READ_ARRAY_FROM_TEXT",
        "INCORRECT_DATA",
        "TOO_LARGE_STRING_SIZE",
    }


def test_a_connection_that_the_other_side_closed_is_replaced_once(script):
    server = script(answer(b"1"), None, answer(b"2"), None, None)
    client = server.client()
    assert client.command("SELECT 1") == b"1"
    assert client.command("SELECT 2") == b"2"
    with pytest.raises(StoreUnavailable):
        client.command("SELECT 3")
    assert len(server.requests) == 5


def test_an_answer_without_end_is_not_read_into_memory(script, monkeypatch):
    monkeypatch.setattr("leeward.store.clickhouse._ANSWER_BYTES_MAX", 10)
    server = script(answer(b"x" * 10), answer(b"x" * 11))
    assert server.client().command("SELECT 1") == b"x" * 10
    with pytest.raises(StoreUnavailable, match="larger than"):
        server._client.command("SELECT 1")


def test_nobody_there_is_unavailable():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    client = ClickHouse(f"http://127.0.0.1:{port}", user="ann", password=SECRET, timeout_s=1)
    assert client.ping() is False
    with pytest.raises(StoreUnavailable, match=f"no answer from ClickHouse at 127.0.0.1:{port}"):
        client.command("SELECT 1")


def test_a_silent_server_is_unavailable_after_the_time_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = ClickHouse(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        with pytest.raises(StoreUnavailable, match="timed out"):
            client.command("SELECT 1")


def test_an_address_may_be_ipv6_or_https_and_has_the_usual_ports():
    assert repr(ClickHouse.from_url("https://[::1]/x")) == "ClickHouse('ClickHouse at ::1:8443', database='x')"
    assert repr(ClickHouse.from_url("clickhouse://host")) == "ClickHouse('ClickHouse at host:8123', database='leeward')"
    assert ClickHouse.from_url("https://localhost:1", timeout_s=0.1).ping() is False


@pytest.mark.parametrize("url", [f"mysql://ann:{SECRET}@h", "clickhouse://", "nonsense", f"http://a:{SECRET}@h:99999/"])
def test_a_wrong_address_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigError) as raised:
        ClickHouse.from_url(url)
    assert SECRET not in f"{raised.value}{raised.value.fix}{raised.value.where}"
    with pytest.raises(ConfigError):
        ClickHouse("ftp://x")


def test_a_closed_client_says_so(engine):
    client = engine.client("default")
    assert client.select("SELECT 1 AS a") == [{"a": 1}]
    client.close()
    with pytest.raises(StoreUnavailable, match="closed by this process"):
        client.select("SELECT 1")


def test_an_interrupt_within_a_call_spoils_no_connection(engine, monkeypatch):
    client = engine.client("default")
    client.select("SELECT 1 AS a")
    read = ClickHouse._exchange

    def interrupted(*args):
        args[1].request("POST", "/", b"SELECT 7")
        raise KeyboardInterrupt

    monkeypatch.setattr(ClickHouse, "_exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        client.select("SELECT 1 AS a")
    monkeypatch.setattr(ClickHouse, "_exchange", read)
    assert client.select("SELECT 2 AS a") == [{"a": 2}]


def test_parameters_of_any_text_arrive_as_they_are(client):
    for text in ("", "a\tb\n\r\0\b\f\\'\"", "é😀\u2028", "{x:String}", "\\N", "a" * 200_000):
        assert client.select("SELECT {x:String} AS x, {y:Array(String)} AS y", {"x": text, "y": [text, "z"]}) == [
            {"x": text, "y": [text, "z"]}
        ]
    assert client.select("SELECT {n:Int64} AS n, {r:Array(Tuple(UInt64, UInt64))} AS r", {"n": -5, "r": [(1, 2)]}) == [
        {"n": -5, "r": [[1, 2]]}
    ]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT file('/etc/hostname')",
        "SELECT `file`('/etc/hostname')",
        "SELECT `\\x66ile`('/etc/hostname')",
        "SELECT file/**/('/etc/hostname')",
        "SELECT 1 INTO OUTFILE '/tmp/leeward-must-not-exist'",
        "SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString', 'a String')",
        "SELECT * FROM remote('127.0.0.1', 'system', 'one')",
        "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
        "SELECT * FROM sqlite('/tmp/a', 'b')",
        "SELECT * FROM Python(x)",
        "SELECT * FROM cluster('default', 'system', 'one')",
        "SELECT * FROM fuzzJSON('a', 'b')",
        "INSERT INTO events (id) VALUES ('x')",
        "INSERT INTO FUNCTION file('/tmp/leeward-must-not-exist', 'CSV', 'a String') VALUES ('x')",
        "CREATE TABLE t (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE t (a Int8)",
        "DROP TABLE events",
        "ALTER TABLE events DELETE WHERE 1",
        "TRUNCATE TABLE events",
        "SET readonly = 0",
        "SELECT 1 SETTINGS readonly = 0",
        "SYSTEM SHUTDOWN",
        "ATTACH TABLE t",
        "BACKUP DATABASE default TO Disk('x', 'y')",
        "KILL QUERY WHERE 1",
    ],
)
def test_a_read_reaches_no_file_no_host_and_changes_nothing(client, sql, tmp_path):
    with pytest.raises((StoreRefused, StoreUnavailable)) as raised:
        client.select(sql)
    assert raised.value.clickhouse_code in {36, 62, 164, 344, 497}
    assert client.select("SELECT count() AS n FROM events") == [{"n": 0}]


def test_a_read_has_limits_of_time_memory_and_rows(client):
    for sql, settings, code in (
        ("SELECT count() AS n FROM numbers(100000000000) WHERE NOT ignore(number)", {"max_execution_time": "1"}, 159),
        ("SELECT groupArray(number) AS n FROM numbers(100000000)", {"max_memory_usage": "10000000"}, 241),
        ("SELECT number AS n FROM numbers(1000)", {"max_result_rows": "10"}, 396),
    ):
        with pytest.raises((StoreRefused, StoreUnavailable)) as raised:
            client.select(sql, settings=settings)
        assert raised.value.clickhouse_code == code
    assert client.select("SELECT 1 AS a") == [{"a": 1}]


def test_a_setting_with_a_hostile_name_is_refused(client):
    with pytest.raises(StoreUnavailable, match="no setting is called"):
        client.select("SELECT 1", settings={"max_threads = 1, readonly": "0"})


def test_w11_without_a_token_equal_inserts_are_both_stored_and_with_one_only_once(client):
    lines = block([event("a")]).lines
    for token, expected in (("", 2), ("", 4), ("t1", 5), ("t1", 5), ("t2", 7)):
        client.insert("events", lines, token=token)
        if token != "t1":
            client.insert("events", b"\n".join(lines), token="" if not token else "t3")
        assert client.select("SELECT count() AS n FROM events") == [{"n": expected}]
        assert client.select("SELECT count() AS n FROM event_ids") == [{"n": expected}]


def test_a_block_becomes_exactly_one_part_of_each_table(client):
    for number, rows in enumerate((1, 20_000)):
        client.command("TRUNCATE TABLE events")
        client.command("TRUNCATE TABLE event_ids")
        client.command("SYSTEM STOP MERGES")
        big = [event(f"{number}-{n}", data='{"x":"' + "y" * 900 + '"}') for n in range(rows)]
        client.insert("events", block(big).lines, token=f"t{number}")
        client.command("SYSTEM START MERGES")
        parts = client.select(
            "SELECT table, count() AS parts, sum(rows) AS rows FROM system.parts"
            " WHERE active AND database = currentDatabase() AND table IN ('events', 'event_ids') GROUP BY table ORDER BY table"
        )
        assert parts == [
            {"table": "event_ids", "parts": 1, "rows": rows}, {"table": "events", "parts": 1, "rows": rows}
        ]  # fmt: skip


def test_reads_run_beside_an_insert_and_each_other(client):
    """Every read that begins while inserts run sees whole blocks only."""
    seen, done = [], threading.Event()

    def read():
        while not done.is_set():
            seen.append(client.select("SELECT count() AS n FROM events")[0]["n"])

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for n in range(20):
        client.insert("events", block([event(f"{n}-{i}") for i in range(500)], n * 1000).lines, token=f"t{n}")
    done.set()
    for reader in readers:
        reader.join()
    assert len(seen) >= 3
    assert all(n % 500 == 0 for n in seen)
