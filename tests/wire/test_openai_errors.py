"""Errors of providers in all their shapes, and ours in OpenAI's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

import json_strategies
from chat_streams import ERRORS
from leeward.wire.chat import ProviderError
from leeward.wire.openai import OPENAI
from leeward.wire.openai_errors import DONE, error_body, error_event, error_type, read_error


@pytest.mark.parametrize("shape", ERRORS)
def test_a_provider_s_error_is_read_in_whatever_shape_it_comes(shape):
    status, body, (code, kind, message) = ERRORS[shape]

    assert OPENAI.read_error(status, body) == ProviderError(status, code, kind, "", message)


def test_the_field_that_a_provider_blames_is_known():
    body = b'{"error":{"message":"no","param":"messages[0].role","code":"invalid_value"}}'

    assert read_error(400, body).param == "messages[0].role"


def test_g10_a_provider_s_error_is_bounded():
    error = read_error(
        500, json.dumps({"error": {"message": "m" * 9_000, "code": "c" * 900, "type": "t" * 900}}).encode()
    )

    assert (len(error.message), len(error.code), len(error.type)) == (2_000, 100, 100)
    assert len(read_error(500, b"x" * 1_000_000).message) == 2_000
    # More than any error has to say is not taken apart.
    assert read_error(500, b'{"code":"c",' + b" " * (64 << 10) + b'"type":"t"}') == ProviderError(
        500, message='{"code":"c",'
    )


@pytest.mark.parametrize("wrap", [b'{"error":{"message":%s%s}}', b'[{"message":%s%s}]', b"%s7%s"])
def test_g10_an_error_of_any_depth_is_read(wrap):
    for depth in (10, *range(700, 1_100), 50_000):
        assert read_error(500, wrap % (b"[" * depth, b"]" * depth)).status == 500


@settings(deadline=None)
@given(json_strategies.values() | st.text(max_size=40))
def test_whatever_a_provider_says_is_an_error_within_bounds(text):
    for body in (text.encode(), b'{"error":' + text.encode() + b"}"):
        error = read_error(500, body)
        assert error.status == 500
        assert len(error.message) <= 2_000


def test_our_errors_have_openai_s_form_and_name_the_request():
    body = error_body(
        "Say which model.", type="invalid_request_error", code="invalid_request", param="model", request_id="r1"
    )

    assert json.loads(body) == {
        "error": {
            "message": "Say which model.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "invalid_request",
            "request_id": "r1",
        }
    }
    assert json.loads(error_body("No.", type="t", code="c"))["error"] == {
        "message": "No.",
        "type": "t",
        "param": None,
        "code": "c",
    }


def test_the_last_event_of_a_stream_that_failed_is_one_line_with_the_same_error():
    event = error_event("The answer\nwas cut.", type="server_error", code="cut", request_id="r1")

    assert (
        event
        == b"data: " + error_body("The answer\nwas cut.", type="server_error", code="cut", request_id="r1") + b"\n\n"
    )
    assert event.count(b"\n") == 2
    assert DONE == b"data: [DONE]\n\n"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (404, "not_found_error"),
        (418, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
        (504, "timeout_error"),
    ],
)
def test_every_status_has_a_type(status, kind):
    assert error_type(status) == kind
