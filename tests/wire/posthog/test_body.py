"""Bodies in every form in which PostHog's SDKs send them, crafted by hand: each gives the same JSON."""

from __future__ import annotations

import base64
import gzip
import json
import sys
import zlib
from urllib.parse import quote

import brotli
import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from fuzz_targets_posthog import LZ_SEEDS, unwrapped
from leeward.errors import ProtocolError
from leeward.wire.posthog.body import FORM_BYTES_MAX, Payload, form_field

JSON = b'{"api_key":"phc_k","event":"a??>>","distinct_id":"u1"}'
BASE64 = base64.b64encode(JSON)
FORM = b"application/x-www-form-urlencoded"


def test_its_base64_has_what_a_form_spoils():
    assert b"+" in BASE64 or b"/" in BASE64


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(JSON, {"content_type": b"application/json"}, id="plain"),
        pytest.param(b" \n" + JSON, {}, id="blanks before it"),
        pytest.param(b"\xef\xbb\xbf" + JSON, {}, id="a byte order mark before it"),
        pytest.param(gzip.compress(JSON), {"content_encoding": b"gzip"}, id="gzip, said in the header"),
        pytest.param(gzip.compress(JSON), {"content_type": b"text/plain"}, id="gzip, not said anywhere"),
        pytest.param(gzip.compress(JSON), {"query_string": b"compression=gzip-js&_=1"}, id="gzip-js in the query"),
        pytest.param(JSON, {"content_encoding": b"gzip"}, id="said to be gzip and is not"),
        pytest.param(JSON, {"query_string": b"compression=gzip-js"}, id="said to be gzip-js and is not"),
        pytest.param(JSON, {"content_encoding": b"br"}, id="said to be br and is not"),
        pytest.param(gzip.compress(JSON), {"content_encoding": b"deflate"}, id="said to be deflate and is gzip"),
        pytest.param(zlib.compress(JSON), {"content_encoding": b"deflate"}, id="deflate"),
        pytest.param(brotli.compress(JSON), {"content_encoding": b"br"}, id="br"),
        pytest.param(zstd.compress(JSON), {}, id="zstd, not said anywhere"),
        pytest.param(BASE64, {}, id="base64 of the whole body"),
        pytest.param(BASE64 + b"\n", {"query_string": b"compression=base64"}, id="base64 with a line's end"),
        pytest.param(base64.b64encode(gzip.compress(JSON)), {}, id="base64 of gzip"),
        pytest.param(b"data=" + quote(BASE64, safe="").encode(), {"content_type": FORM}, id="a form with base64"),
        pytest.param(
            b"data=" + BASE64.replace(b"=", b"%3D"),
            {"content_type": FORM + b"; charset=UTF-8"},
            id="a form with base64 whose pluses were not escaped",
        ),
        pytest.param(
            b"compression=base64&data=" + quote(BASE64, safe="").encode(),
            {"content_type": b"text/plain"},
            id="late data",
        ),
        pytest.param(b"data=" + quote(JSON).encode(), {"content_type": b"text/plain"}, id="a form that is not said"),
        pytest.param(
            gzip.compress(b"data=" + quote(BASE64, safe="").encode()), {"content_type": FORM}, id="gzip of one"
        ),
        pytest.param(b"", {"query_string": b"ip=1&data=" + quote(BASE64, safe="").encode()}, id="the query, as base64"),
        pytest.param(b"", {"query_string": b"data=" + BASE64 + b"&ver=1"}, id="the query, pluses not escaped"),
        pytest.param(b"", {"query_string": b"data=" + quote(JSON).encode()}, id="the query, as JSON"),
        pytest.param(b"{}", {"query_string": b"data=" + quote(JSON).encode()}, id="the query before the body"),
    ],
)
def test_every_form_gives_the_same_json(body, told):
    assert unwrapped(body, **told).strip() == JSON


@pytest.mark.parametrize("packed", LZ_SEEDS)
@pytest.mark.parametrize(
    "told",
    [
        {"query_string": b"compression=lz64"},
        {"query_string": b"compression=lz-string"},
        {"content_encoding": b"lz64"},
    ],
)
def test_lz_string_is_known_by_its_name_only(packed, told):
    assert json.loads(unwrapped(packed, **told)) == {"event": "a", "distinct_id": "u"}


def test_lz_string_in_a_form():
    form = b"compression=lz64&data=" + quote(LZ_SEEDS[0], safe="").encode()

    assert json.loads(unwrapped(form, content_type=FORM))["distinct_id"] == "u"


@pytest.mark.parametrize(
    ("body", "told", "code"),
    [
        pytest.param(b"", {}, "empty_batch", id="nothing"),
        pytest.param(b"", {"query_string": b"data=&_=1"}, "empty_batch", id="nothing in the query either"),
        pytest.param(b"hello, world", {}, "invalid_json", id="words"),
        pytest.param(b"abc=", {}, "invalid_json", id="base64 of something else"),
        pytest.param(b"abcde", {}, "invalid_json", id="base64 that is cut"),
        pytest.param(b"other=1", {"content_type": FORM}, "invalid_json", id="a form without data"),
        pytest.param(gzip.compress(JSON)[:-9], {}, "invalid_json", id="gzip that is cut"),
        pytest.param(BASE64, {"content_encoding": b"compress"}, "unsupported_encoding", id="an unknown encoding"),
        pytest.param(b"data=" + b"A" * FORM_BYTES_MAX, {}, "payload_too_large", id="a form that is too large"),
    ],
)
def test_i7_what_cannot_be_read_is_refused_with_a_reason(body, told, code):
    with pytest.raises(ProtocolError) as refused:
        unwrapped(body, **told)

    assert refused.value.code == code
    assert refused.value.message


def test_i7_layers_within_layers_come_to_an_end():
    body = JSON
    for _ in range(9):
        body = base64.b64encode(body)

    with pytest.raises(ProtocolError, match="Invalid JSON") as refused:
        unwrapped(body)
    assert refused.value.details == ("the body cannot be read: it is packed too many times",)


def test_i7_a_form_of_nothing_but_escapes_is_undone_in_parts():
    text = b"%41" * 100_000 + b"B" * 70_000 + b"%C3%A9"

    assert form_field(b"x=1&data=" + text, b"data") == b"A" * 100_000 + b"B" * 70_000 + "é".encode()


def test_an_escape_that_is_none_stays_as_it_is():
    assert form_field(b"data=100%&x=%zz", b"data") == b"100%"
    assert form_field(b"data=100%&x=%zz", b"x") == b"%zz"


def test_a_field_is_found_by_its_whole_name():
    assert form_field(b"metadata=1&data=2", b"data") == b"2"
    assert form_field(b"data[]=1", b"data") == b""


def test_the_data_is_left_to_its_caller_to_unpack_within_limits():
    payload = Payload(gzip.compress(JSON))

    assert payload.peel() == b"gzip"
    assert payload.data == gzip.compress(JSON)
