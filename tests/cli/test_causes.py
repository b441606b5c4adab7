from __future__ import annotations

import re

import pytest

from leeward.cli.causes import in_words
from leeward.sender.answers import Reply
from leeward.sender.tls import CAUSES


def test_every_cause_of_a_reply_without_an_answer_has_words_and_a_cure():
    listed = re.findall(r"[a-z_]+", Reply.__doc__.split("Causes:")[1].split(".")[0])

    assert len(listed) == 13
    for cause in {*listed, *CAUSES.values(), "not_ours", "spool", "held"}:
        problem, fix = in_words(cause)
        assert problem not in {cause, ""}
        assert fix


@pytest.mark.parametrize(
    ("cause", "problem"),
    [
        ("http_401", "the key is not accepted"),
        ("http_418", "it refuses them (418)"),
        ("http_503", "it answers 503"),
        ("http_302", "it answers 302"),
        ("http_x", "http_x"),
        ("", "it was not sent in the time that was given"),
        ("internal: ValueError", "internal: ValueError"),
    ],
)
def test_statuses_and_unknown_tags_are_said_too(cause, problem):
    assert in_words(cause)[0] == problem
    assert in_words(cause)[1]
