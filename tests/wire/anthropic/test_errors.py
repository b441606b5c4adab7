import json

import pytest

from anthropic_provider import REQUEST_ID, error
from leeward.wire.anthropic.dialect import ANTHROPIC
from leeward.wire.chat import ProviderError


def read(status, kind, text="It went wrong."):
    """An error as the gateway reads it."""
    return ANTHROPIC.read_error(status, json.dumps(error(kind, text)).encode())


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        *((401, "authentication_error", "invalid_api_key"), (402, "billing_error", "insufficient_quota")),
        *((403, "permission_error", "permission_denied"), (404, "not_found_error", "model_not_found")),
        *((413, "request_too_large", "request_too_large"), (429, "rate_limit_error", "rate_limit_exceeded")),
        *(
            (500, "api_error", "server_error"),
            (504, "timeout_error", "timeout"),
            (529, "overloaded_error", "overloaded"),
        ),
        *((400, "invalid_request_error", ""), (418, "teapot_error", "")),
    ],
)
def test_every_type_has_its_code_and_stays_itself(status, kind, code):
    told = read(status, kind)
    assert (told.status, told.type, told.code) == (status, kind, code)


def test_the_request_id_stands_with_the_message_for_the_logs():
    assert read(500, "api_error").message == f"It went wrong. (request {REQUEST_ID})"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("prompt is too long: 214000 tokens > 200000 maximum", "context_length_exceeded"),
        ("input length and `max_tokens` exceed context limit: 199000 + 16384 > 200000", "context_length_exceeded"),
        ("Your credit balance is too low to access the Anthropic API.", "insufficient_quota"),
    ],
)
def test_a_refusal_that_is_not_the_callers_fault_is_known_by_its_text(text, code):
    assert read(400, "invalid_request_error", text).code == code


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("max_tokens: 300000 > 128000, which is the maximum", "max_tokens"),
        ("messages.3.content.0: text content blocks must be non-empty", "messages"),
        ("stop_sequences: each stop sequence must contain non-whitespace", "stop"),
        ("output_config.format.schema: For 'object' type, 'additionalProperties' must be false", "response_format"),
        ("something else", ""),
    ],
)
def test_a_refusal_names_the_field_that_the_caller_wrote(text, param):
    assert read(400, "invalid_request_error", text).param == param


@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"[]", b'{"error":"x"}', b"\xff\xfe", b"[" * 1_500])
def test_a_body_of_another_shape_is_its_own_message(body):
    told = ANTHROPIC.read_error(502, body)
    assert told == ProviderError(status=502, message=body.decode("utf-8", "replace"))


def test_a_long_message_is_cut():
    assert len(ANTHROPIC.read_error(502, b"x" * 100_000).message) == 2_000
    assert len(read(500, "api_error", "y" * 100_000).message) < 2_100
