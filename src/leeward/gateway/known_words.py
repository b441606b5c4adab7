"""Which of a provider's words about a mistake of the caller's may reach the caller: those that everybody knows.

Any other word could be a piece of a prompt, of another caller's even, or of a key. Pure.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["known_code", "known_param"]

PARAM_CHARS_MAX: Final = 100
PLACE_DIGITS_MAX: Final = 4
OTHER: Final = "invalid_request"

_CODES: Final = frozenset({
    "billing_hard_limit_reached", "billing_not_active", "content_filter", "content_policy_violation",
    "context_length_exceeded", "context_window_exceeded", "empty_array", "empty_string", "failed_precondition",
    "function_call_invalid", "image_too_large", "integer_above_max_value", "integer_below_min_value",
    "invalid_argument", "invalid_array_type", "invalid_base64", "invalid_function_parameters", "invalid_image",
    "invalid_image_format", "invalid_image_url", "invalid_json_schema", "invalid_parameter",
    "invalid_parameter_value", "invalid_prompt", "invalid_request", "invalid_request_error", "invalid_tool_call",
    "invalid_type", "invalid_value", "invalid_value_error", "json_validate_failed", "max_tokens_exceeded",
    "missing_required_parameter", "model_not_supported", "out_of_range", "rate_limit_exceeded",
    "request_too_large", "responsible_ai_policy_violation", "string_above_max_length", "string_below_min_length",
    "tokens_limit_reached", "tool_use_failed", "too_many_images", "unknown_parameter", "unknown_url",
    "unprocessable_entity", "unsupported_country_region_territory", "unsupported_file", "unsupported_model",
    "unsupported_parameter", "unsupported_value", "untranslatable", "validation_error",
})  # fmt: skip
# Names that the fields of requests have, at any depth.
_FIELDS: Final = frozenset({
    "arguments", "audio", "content", "data", "detail", "dimensions", "encoding_format", "file", "file_data",
    "file_id", "filename", "format", "frequency_penalty", "function", "function_call", "functions", "id",
    "image_url", "images", "input", "input_audio", "json_schema", "logit_bias", "logprobs",
    "max_completion_tokens", "max_output_tokens", "max_tokens", "messages", "metadata", "modalities", "model",
    "n", "name", "parallel_tool_calls", "parameters", "prediction", "presence_penalty", "prompt", "reasoning",
    "reasoning_effort", "refusal", "response_format", "role", "schema", "seed", "service_tier", "stop", "store",
    "stream", "stream_options", "strict", "system", "temperature", "text", "thinking", "tool_call_id",
    "tool_calls", "tool_choice", "tools", "top_k", "top_logprobs", "top_p", "type", "url", "user", "verbosity",
    "web_search_options",
})  # fmt: skip
_PART: Final = re.compile(r"\.?([a-z_]+)|\.([0-9]+)|\.?\[([0-9]+)\]")


def known_code(said: str) -> str:
    """A provider's code, if it is one of these; else the general one."""
    return said if said in _CODES else OTHER


def known_param(said: str) -> str:
    """The field that a provider names, as far as the path consists of known names and of numbers: `messages[0].content`."""
    end = 0
    while (part := _PART.match(said, end, PARAM_CHARS_MAX)) is not None:
        number = part[2] or part[3]
        is_known = len(number) <= PLACE_DIGITS_MAX if number else part[1] in _FIELDS
        if not is_known or (end == 0) != (part.start(1) == 0):
            break
        end = part.end()
    return said[:end]
