"""Bad bodies, bad queries, bad keys and bad paths against a running server: a documented refusal, and health after each."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
import urllib.parse
import zlib
from collections.abc import Callable

import pytest

from server_process import HEAVY, Answer, ServerProcess, memory_peak_bytes

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MUTANTS = 1000 if HEAVY else 200
SEED = 5
BOMB_BYTES = 200 << 20
INGEST, BATCH, QUERY = "/api/telemetry/ingest", "/api/telemetry/batch", "/api/telemetry/query"
DOCUMENTED = {
    400: {"invalid_json", "empty_batch", "batch_too_large", "invalid_query", "invalid_field", "invalid_event",
          "missing_event_type", "event_too_large", "too_deep", "too_many_keys"},
    401: {"unauthorized", "key_in_url"},
    403: {"forbidden"},
    404: {"not_found", "batch_not_found"},
    405: {"method_not_allowed"},
    409: {"batch_conflict"},
    413: {"payload_too_large"},
    415: {"unsupported_encoding"},
    429: {"rate_limited"},
}  # fmt: skip
GOOD = {"event_type": "good", "id": "good", "data": {"a": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with ServerProcess(tmp_path_factory.mktemp("bad") / "d") as running:
        running.wait_store()
        yield running
        running.wait_store()
        assert running.health()["parts"]["writer"]["dead_letters"] == 0, "whatever is accepted, the store takes"
        assert running.reported("request_failed") == []
        assert running.reported("writer_failed") == []
        assert all(line["event"] == "ready" for line in running.log_lines())


@pytest.fixture
def own_server(tmp_path_factory: pytest.TempPathFactory):
    """One whose count of wrong keys nobody else adds to."""
    with ServerProcess(tmp_path_factory.mktemp("bad") / "d") as running:
        running.wait_store()
        yield running


def is_healthy(server: ServerProcess) -> bool:
    return server.ask("GET", "/health").status == 200 and server.running


def check(server: ServerProcess, answer: Answer) -> None:
    """A 200, or a refusal that the documentation names; nothing internal in it; and the server goes on."""
    if answer.status != 200:
        assert answer.status in DOCUMENTED, answer
        body = answer.json()
        if "results" not in body:
            assert body["code"] in DOCUMENTED[answer.status], answer
            assert body["error"]
        assert b"Traceback" not in answer.body
        assert b"/work" not in answer.body
    assert is_healthy(server)


def send(server: ServerProcess, path: str, body: bytes, **headers: str) -> Answer:
    return server.ask("POST", path, body, key=server.key("write"), headers=headers)


def nested(depth: int) -> bytes:
    return b'{"event_type":"deep","data":' + b'{"a":' * depth + b"1" + b"}" * depth + b"}"


def one(member: bytes) -> bytes:
    return b'{"event_type":"odd","data":{"a":' + member + b"}}"


WHOLE_BODY_REFUSED = {
    "i1 nothing": b"",
    "i1 a space": b" ",
    "i1 cut": b'{"event_type":"a"',
    "i1 cut in a string": b'{"event_type":"a',
    "i1 cut in an escape": b'{"event_type":"\\u00',
    "i1 utf-16": '{"event_type":"a"}'.encode("utf-16"),
    "i1 a comment": b'/* a */{"event_type":"a"}',
    "i1 a trailing comma": b'{"event_type":"a",}',
    "i1 single quotes": b"{'event_type':'a'}",
    "i1 trailing bytes": b'{"event_type":"a"}x',
    "i1 two documents": b'{"event_type":"a"}{"event_type":"b"}',
    "i1 lines": b'{"event_type":"a"}\n{"event_type":"b"}',
    "i2 NaN": one(b"NaN"),
    "i2 Infinity": one(b"-Infinity"),
    "i2 a leading zero": one(b"01"),
    "i2 a plus": one(b"+1"),
    "i2 hexadecimal": one(b"0x10"),
    "i6 not gzip at all": b"\x1f\x8b\x08nothing",
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("path", [INGEST, BATCH])
@pytest.mark.parametrize("name", WHOLE_BODY_REFUSED)
def test_i1_a_body_that_is_not_json_is_refused_whole(server: ServerProcess, path: str, name: str):
    body = WHOLE_BODY_REFUSED[name]
    if path == BATCH and not name.startswith("i6"):
        body = b'{"events":[' + body + b"]}" if body.strip() else body
    answer = send(server, path, body)
    check(server, answer)
    assert answer.status == 400
    assert answer.code in {"invalid_json", "empty_batch"} or "results" in answer.json() or name.startswith("i1 lines")


ODD = {
    "i1 null": b"null",
    "i1 true": b"true",
    "i1 a number": b"7",
    "i1 a string": b'"event"',
    "i1 an empty object": b"{}",
    "i1 no event": b"[]",
    "i1 a list of lists": b"[[[]]]",
    "i1 nulls": b"[null,null]",
    "i1 a mark in front": b'\xef\xbb\xbf{"event_type":"a"}',
    "i1 name of a wrong type": b'{"event_type":7}',
    "i1 data of a wrong type": b'{"event_type":"a","data":[1]}',
    "i1 every field of a wrong type": b'{"event_type":"a","id":1,"timestamp":{},"level":[],"error":"x","kind":3}',
    "i1 an unknown kind": b'{"event_type":"a","kind":"novel"}',
    "i1 an unknown level": b'{"event_type":"a","level":"LOUD"}',
    "i2 1e999": one(b"1e999"),
    "i2 -0.0": one(b"-0.0"),
    "i2 2^53+1": one(b"9007199254740993"),
    "i2 2^64": one(b"18446744073709551616"),
    "i2 400 digits": one(b"1" * 400),
    "i2 5,000 digits": one(b"1" * 5000),
    "i2 a million digits": one(b"1" * 1_000_000),
    "i2 a time of 400 digits": b'{"event_type":"a","timestamp":' + b"9" * 400 + b"}",
    "i2 a time at the end of time": b'{"event_type":"a","timestamp":9223372036854775807}',
    "i2 a count beyond 64 bits": b'{"event_type":"a","input_tokens":18446744073709551616}',
    "i2 a negative count": b'{"event_type":"a","data":{"input_tokens":-9223372036854775808}}',
    "i2 a duration of 1e308": b'{"event_type":"a","data":{"duration_ms":1e308}}',
    "i3 64 levels": nested(63),
    "i3 100 levels": nested(100),
    "i3 1,000 levels": nested(1000),
    "i3 100,000 levels": nested(100_000),
    "i3 1,000,000 lists": b"[" * 1_000_000,
    "i4 a lone surrogate": one(b'"\\ud800"'),
    "i4 a lone surrogate as a key": b'{"event_type":"a","data":{"\\udc00":1}}',
    "i4 invalid utf-8": one(b'"\xff\xfe"'),
    "i4 overlong utf-8": one(b'"\xc0\xaf"'),
    "i4 NUL": one(b'"\\u0000"'),
    "i4 NUL as a key": b'{"event_type":"a","data":{"\\u0000":1}}',
    "i4 NUL in the name": b'{"event_type":"a\\u0000b"}',
    "i4 a raw control character": one(b'"\x01"'),
    "i4 text that turns round": one('"\u202eabc\u202c"'.encode()),
    "i4 a face": one('"\U0001f600"'.encode()),
    "i5 the same key twice": b'{"event_type":"a","event_type":"b","data":{"x":1,"x":2}}',
    "i5 __proto__": one(b'{"__proto__":{"x":1}}'),
    "i5 an empty key": one(b'{"":1}'),
    "i5 an empty name": b'{"event_type":""}',
    "i5 a name of 201": b'{"event_type":"' + b"n" * 201 + b'"}',
    "i5 an id of 129": b'{"event_type":"a","id":"' + b"n" * 129 + b'"}',
    "i5 an empty id": b'{"event_type":"a","id":""}',
    "i5 100,000 keys": one(b"{" + b",".join(b'"k%d":1' % number for number in range(100_000)) + b"}"),
    "i5 a key of 1 MB": one(b'{"' + b"k" * 1_000_000 + b'":1}'),
    "i5 a string of 10 MB": one(b'"' + b"s" * 10_000_000 + b'"'),
    "i5 1,001 events": b"[" + b",".join([b'{"event_type":"a"}'] * 1001) + b"]",
    "i5 100,000 events": b"[" + b",".join([b"{}"] * 100_000) + b"]",
}


@pytest.mark.parametrize("path", [INGEST, BATCH])
@pytest.mark.parametrize("name", ODD)
def test_i5_what_is_json_but_odd_is_taken_or_refused_by_name(server: ServerProcess, path: str, name: str):
    body = ODD[name]
    if path == BATCH:
        body = b'{"events":' + (body if body[:1] == b"[" else b"[" + body + b"]") + b"}"
    check(server, send(server, path, body))


def test_i1_the_good_events_of_a_mixed_request_are_taken(server: ServerProcess):
    answer = send(server, INGEST, b'[{"event_type":"mixed"},null,{"data":{}},7,{"event_type":"mixed","level":"LOUD"}]')
    body = answer.json()
    assert (answer.status, body["accepted"], body["total"]) == (200, 1, 5)
    assert [entry.get("code", "") for entry in body["results"]] == [
        "", "invalid_event", "missing_event_type", "invalid_event", "invalid_field",
    ]  # fmt: skip
    assert len(server.query_all("event_type=mixed")) == 1


def test_i2_numbers_come_back_digit_by_digit(server: ServerProcess):
    text = '{"big":9007199254740993,"zero":-0.0,"fraction":0.1000000000000000055,"more":123456789012345678901234567890}'
    answer = send(server, INGEST, b'{"event_type":"digits","data":%b}' % text.encode())
    assert answer.status == 200
    raw = server.query("event_type=digits").body.decode()
    assert text in raw


def test_i4_broken_text_is_replaced_the_same_way_wherever_it_stands(server: ServerProcess):
    assert send(server, INGEST, b'{"event_type":"broken","data":{"a":"\\ud800","b":"x\xffy"}}').status == 200
    (event,) = server.query_all("event_type=broken")
    assert event["data"] == {"a": "\ufffd", "b": "x\ufffdy"}
    assert "leeward.changed" in event["attributes"]


def test_i5_a_body_over_its_limit_is_refused_before_it_is_read_and_after(server: ServerProcess):
    key = server.key("write")
    declared = server.raw(
        b"POST /api/telemetry/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\n"
        b"Content-Length: 99999999\r\n\r\n{" % key.encode()
    )
    assert declared.startswith(b"HTTP/1.1 413")
    chunk = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
    streamed = server.raw(
        b"POST /api/telemetry/ingest HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %b\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n%b" % (key.encode(), chunk * 24)
    )
    assert streamed.startswith(b"HTTP/1.1 413")
    assert is_healthy(server)


def test_i5_c5_whoever_sends_too_much_hears_so_and_can_send_less(server: ServerProcess):
    connection, key = server.connect(), server.key("write")

    for _ in range(3):
        assert connection.ask("POST", INGEST, b" " * (21 << 20), key=key).status == 413, "a reset would be repeated"
    assert connection.ask("POST", INGEST, b'{"event_type":"less"}', key=key).status == 200
    connection.close()


def deflated(data: bytes) -> bytes:
    return zlib.compress(data)


PACKED = {
    "gzip, cut": ("gzip", gzip.compress(b'{"event_type":"a"}')[:-9], 400),
    "gzip, a wrong checksum": ("gzip", gzip.compress(b'{"event_type":"a"}')[:-8] + bytes(8), 400),
    "gzip, trailing bytes": ("gzip", gzip.compress(b'{"event_type":"a"}') + b"rest", 400),
    "gzip, 1,000 members": ("gzip", gzip.compress(b"") * 1000 + gzip.compress(b'{"event_type":"a"}'), 400),
    "gzip, plain JSON": ("gzip", b'{"event_type":"a"}', 400),
    "gzip twice": ("gzip", gzip.compress(gzip.compress(b'{"event_type":"a"}')), 400),
    "gzip, gzip": ("gzip, gzip", gzip.compress(gzip.compress(b'{"event_type":"a"}')), 415),
    "deflate, cut": ("deflate", deflated(b'{"event_type":"a"}')[:-5], 400),
    "zstd, cut": ("zstd", zstd.compress(b'{"event_type":"a"}')[:-5], 400),
    "zstd, a window of 2 GB": ("zstd", bytes.fromhex("28b52ffd00a801000061"), 400),
    "br": ("br", b"\x0b\x08\x80{}\x03", 400),
    "unknown": ("xyzzy", b"{}", 415),
    "a name of 10,000": ("z" * 10_000, b"{}", 415),
}


@pytest.mark.parametrize("path", [INGEST, BATCH])
@pytest.mark.parametrize("name", PACKED)
def test_i6_a_body_that_does_not_unpack_is_refused(server: ServerProcess, path: str, name: str):
    encoding, body, status = PACKED[name]
    answer = send(server, path, body, **{"Content-Encoding": encoding})
    check(server, answer)
    assert answer.status == status


def test_i6_a_bomb_costs_its_limit_and_not_its_size(server: ServerProcess):
    plain = bytes(BOMB_BYTES)
    bombs = {
        "gzip": gzip.compress(plain, 6),
        "deflate": zlib.compress(plain, 6),
        "zstd": zstd.compress(plain),
    }
    before = memory_peak_bytes(server.pid)
    for encoding, bomb in bombs.items():
        for path in (INGEST, BATCH):
            answer = send(server, path, bomb, **{"Content-Encoding": encoding})
            assert (answer.status, answer.code) == (413, "payload_too_large")
    grown = memory_peak_bytes(server.pid) - before
    print(f"6 bombs of {BOMB_BYTES >> 20} MiB: the server's peak grew by {grown / (1 << 20):.1f} MiB")
    assert grown < 80 << 20
    assert is_healthy(server)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, zstd.compress])
def test_i6_a_small_bomb_within_the_body_limit_is_refused_by_its_ratio(
    server: ServerProcess, pack: Callable[..., bytes]
):
    encoding = {gzip.compress: "gzip", zlib.compress: "deflate"}.get(pack, "zstd")
    bomb = pack(b'{"event_type":"bomb","data":{"a":"' + b" " * (19 << 20) + b'"}}')
    answer = send(server, INGEST, bomb, **{"Content-Encoding": encoding})
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert "packed bytes may become" in answer.json()["error"]


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "zstd", "identity", " GZIP "])
def test_a_well_packed_body_is_taken(server: ServerProcess, encoding: str):
    body = json.dumps({"event_type": "packed", "id": encoding.strip()}).encode()
    packers = {"deflate": zlib.compress, "zstd": zstd.compress, "identity": bytes}
    packed = packers.get(encoding, gzip.compress)(body)
    assert send(server, INGEST, packed, **{"Content-Encoding": encoding}).status == 200


BAD_QUERIES = {
    "limit=0", "limit=1001", "limit=-1", "limit=1e2", "limit=%D9%A1", "limit=", "limit=1&limit=2", "wait_ms=5001",
    "wait_ms=x", "start=x", "start=2&end=1", "start=1&end=1", "start=99999999999999999999", "end=NaN", "order=up",
    "order=desc;DROP", "kind=novel", "level=LOUD", "eventtype=a", "select=1", "project=2", "cursor=x", "cursor=",
    "cursor=%00", "cursor=" + "A" * 40, "cursor=" + "A" * 100_00, "=1", "a", "%", "event_type=%ff", "&&", "start=2026-13-01",
}  # fmt: skip


@pytest.mark.parametrize("query", sorted(BAD_QUERIES))
def test_a6_a_query_that_is_not_one_is_refused(server: ServerProcess, query: str):
    answer = server.query(query)
    check(server, answer)
    assert (answer.status, answer.code) == (400, "invalid_query")


INJECTIONS = (
    "' OR 1=1 --", "'; DROP TABLE events; --", "\\' OR 1=1 --", "{project:UInt32}", "{{name:String}}", "%", "_", "\\",
    "a\x00b", "\t\n\r", "') UNION ALL SELECT * FROM system.tables --", "file('/etc/passwd')", "\u202e", "x" * 10_000,
)  # fmt: skip
TEXT_FILTERS = ("event_type", "category", "distinct_id", "session_id", "correlation_id", "trace_id", "batch_id")


@pytest.mark.parametrize("name", TEXT_FILTERS)
def test_a6_a_filter_is_a_value_and_never_a_statement(server: ServerProcess, name: str):
    for injection in INJECTIONS:
        answer = server.query(urllib.parse.urlencode({name: injection, "wait_ms": 0}))
        assert (answer.status, answer.json()["count"]) == (200, 0), injection
    assert is_healthy(server)


def test_a6_a_hostile_value_is_found_again_by_itself(server: ServerProcess):
    for number, hostile in enumerate(INJECTIONS[:-1]):
        event = {"event_type": "hostile", "id": f"h{number}", "distinct_id": hostile}
        assert send(server, INGEST, json.dumps(event).encode()).status == 200
    for number, hostile in enumerate(INJECTIONS[:-1]):
        stored = hostile.replace("\0", "\ufffd")  # the one character that is replaced
        found = server.query_all(urllib.parse.urlencode({"distinct_id": stored}))
        assert [event["id"] for event in found] == [f"h{number}"]


def test_a6_a_cursor_holds_for_its_own_query_only(server: ServerProcess):
    for number in range(3):
        assert (
            send(server, INGEST, json.dumps({"event_type": f"c{number % 2}", "id": f"c{number}"}).encode()).status
            == 200
        )
    cursor = server.patient_query("limit=1&event_type=c0")["next_cursor"]
    assert server.query(f"limit=1&event_type=c0&cursor={cursor}").status == 200
    raw = bytearray(base64.urlsafe_b64decode(cursor))
    forged = [f"limit=1&event_type=c1&cursor={cursor}", f"limit=1&cursor={cursor}",
              f"limit=1&event_type=c0&order=asc&cursor={cursor}"]  # fmt: skip
    for bit in range(0, len(raw) * 8, 5):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        forged.append(f"limit=1&event_type=c0&cursor={base64.urlsafe_b64encode(changed).decode()}")
    for query in forged:
        answer = server.query(query)
        assert (answer.status, answer.code) == (400, "invalid_query"), query


def test_a1_every_wrong_key_gets_the_same_answer(own_server: ServerProcess):
    key = own_server.key("read")
    wrong = ({}, {"Authorization": ""}, {"Authorization": "Bearer"}, {"Authorization": "Bearer "},
             {"Authorization": f"Bearer {key[:-1]}"}, {"Authorization": f"Bearer {key}x"},
             {"Authorization": f"Bearer {key} {key}"}, {"Authorization": f"Basic {key}"}, {"Authorization": key},
             {"Authorization": f"Bearer {key.upper()}"}, {"Authorization": "Bearer " + "x" * 10_000},
             {"Authorization": "Bearer \xff\xfe"}, {"X-API-Key": ""}, {"X-API-Key": "wrong", "Authorization": f"Bearer {key}"},
             {"Cookie": f"leeward_session={key}"})  # fmt: skip
    answers = [own_server.ask("GET", QUERY, headers=headers) for headers in wrong]
    assert {answer.status for answer in answers} == {401}
    assert len({answer.body for answer in answers}) == 1
    assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
    assert own_server.ask("GET", QUERY, headers={"X-API-Key": key}).status == 200
    more = [own_server.ask("GET", QUERY, key="wrong").status for _ in range(15)]
    assert more[-1] == 429, "failures are limited"
    assert own_server.query("").status == 200, "a right key is not"


def test_a1_a_key_in_the_address_is_refused_and_never_logged(own_server: ServerProcess):
    key = own_server.key("read")
    for query in (f"api_key={key}", f"token={key}", f"event_type={key}", f"access_token={key}&limit=1"):
        for header in ("", key):
            answer = own_server.ask("GET", f"{QUERY}?{query}", key=header)
            assert (answer.status, answer.code) == (401, "key_in_url")
            assert key.encode() not in answer.body
    own_server.terminate()
    assert all(key.encode() not in line for line in own_server.stderr)


def test_a3_a_key_does_what_its_scope_says_and_nothing_else(server: ServerProcess):
    body = json.dumps(GOOD).encode()
    calls = {
        "write": [("POST", INGEST), ("POST", BATCH)],
        "read": [("GET", QUERY), ("GET", f"{BATCH}/b"), ("GET", "/metrics")],
        "admin": [("GET", "/api/keys"), ("POST", "/api/keys"), ("GET", "/api/projects"), ("GET", "/api/dead-letters")],
    }
    for needed, asked in calls.items():
        for held in ("write", "read", "chat"):
            for method, path in asked:
                answer = server.ask(method, path, body if method == "POST" else None, key=server.key(held))
                if held != needed:
                    assert (answer.status, answer.code) == (403, "forbidden"), (held, path)
                else:
                    assert answer.status not in {401, 403}, (held, path)


SPELLINGS = (
    "//api/telemetry/query", "/api//telemetry/query", "/api/telemetry//query", "/api/telemetry/query//",
    "/./api/telemetry/query", "/api/./telemetry/query", "/api/x/../telemetry/query", "/livez/../api/telemetry/query",
    "/api/telemetry/query;x", "/api/telemetry/query;/livez", "/API/telemetry/query", "/api/telemetry/Query",
    "/api%2ftelemetry%2fquery", "/api/telemetry/%71uery", "/%61pi/telemetry/query", "/api/telemetry/query%00",
    "/api/telemetry/query%20", "/api/telemetry/query.json", "/api/telemetry/query/..", "/api/telemetry/query/x",
    "/api/telemetry/query/", "/static/../api/telemetry/query", "/static/%2e%2e/api/telemetry/query",
    "/api/telemetry/batch/../query", "/api/telemetry/batch/%2e%2e%2fquery", "/api/telemetry/batch/{id}",
    "http://127.0.0.1/api/telemetry/query", "/api\\telemetry\\query",
)  # fmt: skip


@pytest.mark.parametrize("path", SPELLINGS)
def test_a4_no_spelling_of_a_path_goes_round_the_key(own_path_server: ServerProcess, path: str):
    for method in ("GET", "HEAD", "OPTIONS", "POST"):
        received = own_path_server.raw(
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-HTTP-Method-Override: GET\r\nConnection: close\r\n\r\n".encode()
        )
        assert received[9:12] in {b"400", b"401", b"404", b"405", b"429"}, received
        assert b'"events"' not in received


@pytest.fixture(scope="module")
def own_path_server(tmp_path_factory: pytest.TempPathFactory):
    with ServerProcess(tmp_path_factory.mktemp("bad") / "d") as running:
        assert running.send(GOOD).status == 200
        running.wait_store()
        yield running


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD", "CONNECT", "PROPFIND"])
def test_a4_another_method_is_refused_with_those_that_are_answered(server: ServerProcess, method: str):
    received = server.raw(
        f"{method} {INGEST} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.key('write')}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    assert received[9:12] in {b"405", b"400"}, received
    if received[9:12] == b"405":
        assert b"allow: POST" in received
    assert is_healthy(server)


def test_head_answers_as_get_does_without_a_body(server: ServerProcess):
    answer = server.ask("HEAD", "/livez")
    assert (answer.status, answer.body) == (200, b"")
    assert int(answer.headers["content-length"]) == len(server.ask("GET", "/livez").body)


def mutant(body: bytes, chance: random.Random) -> bytes:
    """A good body with a few random faults."""
    changed = bytearray(body)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(changed) + 1)
        kind = chance.randrange(5)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at:at] = chance.randbytes(chance.randrange(1, 8))
        elif kind == 2:
            del changed[at : at + chance.randrange(1, 20)]
        elif kind == 3:
            changed[at:at] = changed[at // 2 : at // 2 + chance.randrange(1, 40)]
        else:
            changed[at:at] = chance.choice(
                (b'"', b"{", b"[", b"\\u0000", b"\\ud83d", b"1e400", b"null", b",", b"\xf0\x9f")
            )
    return bytes(changed)


def test_i1_no_random_mutant_of_a_good_body_gets_anything_but_a_documented_answer(server: ServerProcess):
    chance = random.Random(SEED)
    rich = {
        **GOOD,
        "timestamp": 1795322741463,
        "level": "ERROR",
        "session_id": "s",
        "error": {"type": "T", "message": "m"},
    }
    good = {
        INGEST: [json.dumps(GOOD).encode(), json.dumps([rich] * 3).encode(), gzip.compress(json.dumps(rich).encode())],
        BATCH: [json.dumps({"batch_id": "mutant", "events": [GOOD, rich]}).encode()],
    }
    seen: dict[int, int] = {}
    connection, key = server.connect(), server.key("write")
    for _ in range(MUTANTS):
        path = chance.choice(list(good))
        body = chance.choice(good[path])
        headers = {"Content-Encoding": "gzip"} if body[:2] == b"\x1f\x8b" else {}
        answer = connection.ask("POST", path, mutant(body, chance), key=key, headers=headers)
        check_quickly(answer)
        seen[answer.status] = seen.get(answer.status, 0) + 1
    connection.close()
    print(f"{MUTANTS} mutants: {seen}")
    assert seen[400] > 0
    assert is_healthy(server)
    assert server.patient_query("limit=1000")["count"] >= 1


def check_quickly(answer: Answer) -> None:
    assert answer.status == 200 or answer.status in DOCUMENTED, answer


def test_i1_no_random_mutant_of_a_query_gets_anything_but_a_documented_answer(server: ServerProcess):
    chance = random.Random(SEED)
    key = server.key("read")
    good = b"limit=5&order=asc&event_type=good&start=1795322741463&kind=event&wait_ms=0"
    for _ in range(MUTANTS // 4):
        query = urllib.parse.quote_from_bytes(mutant(good, chance), safe="=&%+")
        check_quickly(server.ask("GET", f"{QUERY}?{query}", key=key))
    assert is_healthy(server)
