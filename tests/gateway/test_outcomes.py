"""What a status, a broken connection and a broken stream mean, as tables."""

from __future__ import annotations

from typing import get_args

import pytest

from leeward.gateway.exchange import TransportError
from leeward.gateway.outcomes import UNTRANSLATABLE, Outcome, of_broken_stream, of_status, of_transport
from leeward.gateway.records import AttemptOutcome
from leeward.wire.chat import ProviderError

STATUSES = [
    # status, code, kind, may the same provider get it again
    (400, "", "refused", False),
    (413, "", "refused", False),
    (422, "", "refused", False),
    (401, "", "credentials", False),
    (402, "", "credentials", False),
    (403, "", "credentials", False),
    (404, "", "unavailable_model", False),
    (408, "", "server_error", False),
    (429, "", "rate_limited", True),
    (429, "rate_limit_exceeded", "rate_limited", True),
    (429, "insufficient_quota", "credentials", False),  # its Retry-After means nothing: there is no money
    (429, "overloaded", "server_error", True),
    (302, "", "server_error", False),
    (500, "", "server_error", True),
    (501, "", "server_error", False),
    (502, "", "server_error", True),
    (503, "", "server_error", True),
    (504, "", "server_error", True),
]


@pytest.mark.parametrize(("status", "code", "kind", "repeatable"), STATUSES)
def test_g19_a_status_says_whose_fault_it_is_and_whether_to_ask_again(status, code, kind, repeatable):
    outcome = of_status(status, ProviderError(status=status, code=code), 3.0, 10.0)
    assert (outcome.kind, outcome.repeatable, outcome.status) == (kind, repeatable, status)
    assert (outcome.retry_after_s, outcome.detail) == (3.0, f"status_{status}")


CONNECTIONS = [
    ("connect_refused", False, "network", True),
    ("dns", False, "network", True),
    ("pool_full", False, "busy", True),
    ("connect_timeout", False, "timeout", False),
    ("tls", False, "network", False),
    ("forbidden_address", False, "network", False),
    ("reset", True, "network", False),
    ("reset", False, "network", False),
    ("head_timeout", True, "timeout", False),
    ("stall", True, "timeout", False),
    ("deadline", True, "timeout", False),
    ("truncated", True, "network", False),
    ("protocol", True, "network", False),
    ("too_large", True, "network", False),
]


@pytest.mark.parametrize(("kind", "sent", "outcome_kind", "repeatable"), CONNECTIONS)
def test_g19_only_what_was_surely_not_sent_may_be_sent_again(kind, sent, outcome_kind, repeatable):
    outcome = of_transport(TransportError(kind, sent=sent), 10.0)
    assert (outcome.kind, outcome.repeatable, outcome.detail) == (outcome_kind, repeatable, kind)
    after_content = of_transport(TransportError(kind, sent=sent), 10.0, committed=True)
    assert (after_content.kind, after_content.repeatable) == ("cut", False)


def test_a_broken_stream_is_cut_only_if_the_caller_has_seen_some_of_it():
    assert of_broken_stream("no_finish", None, 1.0, committed=False).kind == "bad_answer"
    assert of_broken_stream("no_finish", None, 1.0, committed=True).kind == "cut"


FINAL = {"ok", "refused", "cut", "cancelled"}
NO_SIGN = {"ok", "refused", "cancelled", "rate_limited", "busy", "declined"}


@pytest.mark.parametrize("kind", get_args(AttemptOutcome))
def test_an_outcome_is_final_or_speaks_against_the_provider(kind):
    outcome = Outcome(kind, at_s=1.0)
    assert outcome.is_final == (kind in FINAL)
    assert outcome.is_failure == (kind not in NO_SIGN)


def test_what_one_dialect_cannot_say_another_may():
    assert not Outcome("refused", at_s=1.0, detail=UNTRANSLATABLE).is_final
