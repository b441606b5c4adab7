"""What providers write, made fit for logs: our key, secrets and the prompt are out, what went wrong stays."""

from __future__ import annotations

import string

import msgspec
import pytest
from hypothesis import given, strategies as st

from leeward.gateway.redact import CHARS_MAX, LEFT_OUT, REQUEST_BYTES_MAX, redacted
from secret_plants import BY_FORM

KEY = "sk-proj-9f8E7d6C5b4A39281706"
PROMPT = "My patient Zebraquokka lives in Größenwahnstraße 47110, call 0170-2290-815."
UNICODE = "秘密の計画は月曜日に始まります"


def told(text, prompt=PROMPT, *, key=KEY):
    messages = msgspec.json.encode([{"role": "user", "content": prompt}])
    return redacted(text, [msgspec.Raw(messages)], key=key)


def test_what_went_wrong_stays_as_it_was_told():
    sentence = "Rate limit reached for gpt-4o-mini in organization org-1 on tokens per min (TPM): Limit 200000."

    assert told(sentence) == sentence


@pytest.mark.parametrize(
    "quoted",
    [
        "Zebraquokka",
        "zebraQUOKKA",
        "'Zebraquokka'",
        "Zebra quokka lives in",
        "Z-e-b-r-a-q-u-o-k-k-a",
        "Zebra\u200bquokka lives",
        "Zebra\nquokka\nlives",
        "\\u005a\\u0065braquokka",
        "\\\\u005aebraquokka",
        "Z%65braquokka",
        "&#90;ebraquokka",
        "Ｚｅｂｒａｑｕｏｋｋａ",
        "Größenwahnstraße",
        "Gro\u0308ßenwahnstraße",
        "GROSSENWAHNSTRASSE",
        "Gr\\u00f6\\u00dfenwahnstra\\u00dfe",
        "Gr%C3%B6%C3%9Fenwahnstra%C3%9Fe",
        "Gr&ouml;&szlig;enwahnstra&szlig;e",
        "47110",
        "0170 2290 815",
        "0170/2290/815",
        "01702290815",
        "patient",
    ],
)
def test_g14_what_the_prompt_says_is_left_out_however_it_is_written(quoted):
    said = told(f"I do not like this: {quoted} and so on").casefold()

    assert "i do not like this" in said
    assert LEFT_OUT in said
    for canary in ("zebra", "quokka", "wahn", "4711", "2290", "patient", "5aebra", "z-e-b", "ｚ"):
        assert canary not in said, said


@pytest.mark.parametrize("quoted", [UNICODE, UNICODE[:5], UNICODE[3:6], "x" + UNICODE[2:8] + "y"])
def test_g14_a_script_without_blanks_is_left_out_from_three_signs_on(quoted):
    assert not set(told(f"Not allowed: {quoted}", UNICODE)) & set(UNICODE)


def test_g14_the_end_of_a_text_that_is_too_long_is_no_piece_of_a_word():
    said = told("x " * (CHARS_MAX // 2 - 2) + "Zebraquokka")

    assert "Zeb" not in said
    assert len(said) <= CHARS_MAX


@pytest.mark.parametrize(
    "quoted",
    [
        KEY,
        KEY.upper(),
        KEY[:14],
        KEY[-10:],
        " ".join(KEY),
        f"{KEY[:12]}…{KEY[12:]}",
        KEY.replace("-", "\\u002d"),
        KEY.replace("-", "%2D"),
        f"Bearer {KEY}",
        f"{KEY[:9]}\u200b{KEY[9:]}",
    ],
)
def test_g14_our_key_is_left_out_in_whole_and_in_part(quoted):
    said = told(f"Incorrect API key provided: {quoted}.")

    assert said.startswith("Incorrect API key provided:")
    bare = "".join(sign for sign in said.casefold() if sign.isalnum())
    squeezed = "".join(sign for sign in KEY.casefold() if sign.isalnum())
    assert not any(squeezed[place : place + 8] in bare for place in range(len(squeezed) - 7)), said


def test_g14_a_short_key_is_left_out_too_and_no_key_is_no_harm():
    assert told("no: abc123", key="abc123") == f"no: {LEFT_OUT}"
    assert told("no: abc123", key="") == "no: abc123"


@pytest.mark.parametrize("kind", BY_FORM)
def test_g14_a_secret_of_a_known_form_is_left_out_whoever_it_belongs_to(kind):
    around, secret = BY_FORM[kind]
    planted = secret()

    assert planted not in told(f"Refused: {around.format(planted)} was wrong", "hello")


def test_a_long_request_is_not_searched_and_then_nothing_is_kept():
    long = "a b c d " * (REQUEST_BYTES_MAX // 8)

    assert told("This says something", long) == LEFT_OUT


def test_a_row_that_is_everywhere_in_the_request_is_left_out_without_looking_at_every_place():
    assert LEFT_OUT in told("bad: aaaaaaaaaaaa!", "aaaaaac" * 5_000)


def test_no_line_begins_and_no_control_sign_stands_in_what_is_kept():
    said = told("one\r\ntwo\x1b[31mred\x00\u202eback\u2028next", "hello")

    assert said.isprintable()
    assert said.startswith("one two")


@given(st.text(max_size=700), st.text(max_size=200), st.text(string.ascii_letters + string.digits + "-_", max_size=60))
def test_whatever_comes_it_does_not_raise_and_is_one_short_line(text, prompt, key):
    said = told(text, prompt, key=key)

    assert said.isprintable()
    assert len(said) <= 4 * CHARS_MAX


@given(st.from_regex(r"[a-zA-Z]{11,20}( [a-z]{3,9}){0,3}", fullmatch=True), st.sampled_from(["", " ", "-", "\u00ad"]))
def test_g14_a_long_word_of_the_prompt_never_stays(word, between):
    said = told(f"Bad: {between.join(word)}!", f"I said {word} to her")

    letters = "".join(sign for sign in said.casefold() if sign.isalnum())
    squeezed = word.replace(" ", "").casefold()
    assert not any(squeezed[place : place + 11] in letters for place in range(len(squeezed) - 10)), said
