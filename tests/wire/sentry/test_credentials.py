"""Where the key stands, and that two places must agree."""

from __future__ import annotations

import pytest

from leeward.errors import ProtocolError
from leeward.wire.sentry.credentials import Dsn, key_of_request, read_dsn


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (b"sentry_key=abc", []),
        (b"sentry_version=7&sentry_key=abc&sentry_client=sentry.javascript.browser%2F11.12.0", []),
        (b"sentry_key=%61bc", []),
        (b"", [(b"x-sentry-auth", b"Sentry sentry_key=abc, sentry_version=7, sentry_client=sentry.python/2.75.0")]),
        (b"", [(b"x-sentry-auth", b"SENTRY  sentry_version=7,sentry_key=abc,sentry_secret=no")]),
        (b"", [(b"x-sentry-auth", b'Sentry sentry_key="abc"')]),
        (b"", [(b"authorization", b"Sentry sentry_key=abc")]),
        (b"sentry_key=abc", [(b"x-sentry-auth", b"Sentry sentry_key=abc"), (b"host", b"sentry_key=no")]),
    ],
)
def test_a1_each_place_is_read(query, headers):
    assert key_of_request(query, headers) == b"abc"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (b"", []),
        (b"sentry_key=", []),
        (b"my_sentry_key=abc&key=abc", []),
        (b"", [(b"authorization", b"Bearer sentry_key=abc")]),
        (b"", [(b"authorization", b"Basic YWJj")]),
        (b"", [(b"x-sentry-auth", b"sentry_key=abc")]),
        (b"", [(b"x-sentry-auth", b"Sentry")]),
        (b"", [(b"cookie", b"Sentry sentry_key=abc")]),
    ],
)
def test_a1_anything_else_is_no_key(query, headers):
    assert key_of_request(query, headers) is None


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        (b"sentry_key=abc&sentry_key=abd", []),
        (b"sentry_key=abc", [(b"x-sentry-auth", b"Sentry sentry_key=abd")]),
        (b"", [(b"x-sentry-auth", b"Sentry sentry_key=abc, sentry_key=abd")]),
        (b"", [(b"x-sentry-auth", b"Sentry sentry_key=abc"), (b"authorization", b"Sentry sentry_key=abd")]),
    ],
)
def test_a1_two_different_keys_are_refused(query, headers):
    with pytest.raises(ProtocolError) as refused:
        key_of_request(query, headers)

    assert refused.value.status == 403


@pytest.mark.parametrize(
    ("text", "dsn"),
    [
        ("http://abc@127.0.0.1:8000/7", Dsn("abc", "7")),
        ("https://abc:secret@o1.example.org/some/path/7/", Dsn("abc", "7")),
        ("http://abc@[::1]:8000/7", Dsn("abc", "7")),
        ("http://127.0.0.1/7", None),
        ("http://abc@127.0.0.1", None),
        ("http://abc@[::1/7", None),
        ("", None),
        (None, None),
    ],
)
def test_a_dsn_names_key_and_project(text, dsn):
    assert read_dsn(text) == dsn
