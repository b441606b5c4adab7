"""From how a request ended to what its caller is told, as a table; nothing of the inside is in it."""

from __future__ import annotations

from typing import get_args, get_type_hints

import pytest

from leeward.errors import LeewardError, RateLimited, Refused, Unavailable
from leeward.gateway import plan as plan_module
from leeward.gateway.failures import (
    AllCircuitsOpen,
    AllFailed,
    AllLimited,
    DeadlineExceeded,
    GatewayError,
    RequestRefused,
    StreamCut,
    Unsupported,
)
from leeward.gateway.outcomes import Outcome
from leeward.gateway.plan import Verdict
from leeward.gateway.sentences import LANGUAGES, SENTENCES
from leeward.gateway.verdicts import OUTCOMES, error_of
from leeward.wire.chat import ProviderError

SECRET = "sk-live-0123456789 is not valid for prompt 'my diary'"


def told(verdict, language="en"):
    return error_of(verdict, request_id="req_1", attempts=2, language=language)


ERRORS = [
    ("failed", AllFailed, 502, "all_providers_failed", Unavailable),
    ("timeout", DeadlineExceeded, 504, "deadline_exceeded", Unavailable),
    ("open", AllCircuitsOpen, 503, "providers_unavailable", LeewardError),
    ("limited", AllLimited, 429, "rate_limited", RateLimited),
    ("cut", StreamCut, 502, "stream_interrupted", Unavailable),
]


@pytest.mark.parametrize(("kind", "error", "status", "code", "base"), ERRORS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_end_has_its_error_status_code_and_sentence(kind, error, status, code, base, language):
    last = Outcome("server_error", at_s=1.0, error=ProviderError(message=SECRET))
    found = told(Verdict(kind, None, last), language)
    assert type(found) is error
    assert isinstance(found, (GatewayError, base))
    assert (found.status, found.code, found.request_id, found.attempts) == (status, code, "req_1", 2)
    assert SENTENCES[code][language] in str(found)
    assert "sk-live" not in repr(vars(found))


def test_every_verdict_has_an_outcome_for_the_records():
    hints = get_type_hints(Verdict, vars(plan_module) | {"Target": object})
    assert set(get_args(hints["kind"])) == set(OUTCOMES)


@pytest.mark.parametrize(
    ("wait_s", "expected"), [(0.2, 1.0), (20.0, 20.0), (None, 1.0)], ids=["short", "long", "unsaid"]
)
@pytest.mark.parametrize("kind", ["limited", "open"])
def test_g5_where_waiting_helps_the_error_says_how_long(kind, wait_s, expected):
    assert told(Verdict(kind, wait_s=wait_s)).retry_after_s == expected


def test_where_waiting_does_not_help_nothing_is_said_of_it():
    assert told(Verdict("failed")).retry_after_s is None


def refused(**error):
    return told(Verdict("refused", None, Outcome("refused", at_s=1.0, status=422, error=ProviderError(**error))))


def test_the_callers_own_mistake_keeps_status_code_and_param_and_loses_the_providers_words():
    found = refused(code="invalid_value", param="messages[0].content", message=SECRET)
    assert isinstance(found, RequestRefused)
    assert isinstance(found, Refused)
    assert (found.status, found.code, found.param) == (422, "invalid_value", "messages[0].content")
    assert "sk-live" not in repr(vars(found))


@pytest.mark.parametrize("text", [SECRET, "x" * 65, "a b", "ünïcode", "<script>"])
def test_g14_what_is_no_code_and_no_name_of_a_field_is_not_passed_on(text):
    found = refused(code=text, param=text)
    assert (found.code, found.param) == ("invalid_request", "")


def test_a_refusal_that_says_nothing_is_told_all_the_same():
    found = told(Verdict("refused", None, Outcome("refused", at_s=1.0, status=400)))
    assert (found.code, found.param) == ("invalid_request", "")


def test_a_conversation_that_is_too_long_has_a_sentence_of_its_own():
    assert SENTENCES["context_length_exceeded"]["en"] in str(refused(code="context_length_exceeded"))


def test_what_nobody_can_do_names_the_field():
    found = told(Verdict("unsupported", need="tools"))
    assert isinstance(found, Unsupported)
    assert (found.status, found.code, found.param) == (400, "unsupported", "tools")
