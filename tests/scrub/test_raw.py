"""Secrets in raw JSON, as any SDK sends it: none survives, and nothing else is touched (C24)."""

from __future__ import annotations

import copy
import json
import uuid

import pytest
from hypothesis import assume, example, given, settings, strategies as st

import json_strategies
from leeward.scrub import raw as scrub_raw
from leeward.scrub.raw import PATHS_MAX, PLAIN_BYTES_MAX, PLAIN_MAX, clean_column, clean_json, may_hold_secret
from leeward.scrub.secrets import REDACTED, clean, clean_text
from real_payloads import PAYLOADS
from secret_plants import (
    BY_FORM,
    HARMLESS_NAMES,
    HARMLESS_TEXTS,
    PLACES,
    SECRET_NAMES,
    SPELLINGS,
    UNDER_NAMES,
    WORDS,
    encoded,
    planted,
    word,
)


@pytest.fixture(autouse=True)
def _nothing_is_known():
    scrub_raw._plain.clear()


def text_of(value, *, ascii_only=False):
    return json.dumps(value, ensure_ascii=ascii_only).encode()


def shape(raw):
    """The value with all strings alike and all numbers as they are spelled; members as pairs."""
    return alike(json.loads(raw, object_pairs_hook=tuple, parse_int=str.encode, parse_float=str.encode))


def alike(value):
    if isinstance(value, str):
        return ""
    return type(value)(map(alike, value)) if isinstance(value, list | tuple) else value


def as_json(value):
    """A planted value as JSON would carry it; None for what only Python has."""
    try:
        return text_of(value)
    except (TypeError, UnicodeEncodeError):
        return None


# --- nothing survives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", BY_FORM)
def test_c24_no_secret_of_a_known_form_survives_in_raw_json(kind):
    survived = []
    tried = 0
    for place, put in PLACES.items():
        text, secret = planted(kind)
        for raw in filter(None, (as_json(put(text)), as_json([[put(text)]]))):
            tried += 1
            cleaned, paths = clean_json(raw)
            if secret[4:] in cleaned.decode() or encoded(text)[4:-4] in cleaned.decode() or not paths:
                survived.append((place, cleaned))
            assert shape(cleaned) == shape(raw)
            assert secret[4:] not in str(paths)
            assert clean_json(cleaned) == (cleaned, [])

    assert survived == []
    assert tried >= 30


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("words", WORDS)
def test_c24_nothing_under_a_secret_name_survives_in_raw_json(words, spelling):
    survived = []
    name = SPELLINGS[spelling](words.split())
    for place, put in UNDER_NAMES.items():
        canary = "canary" + word(8)
        raw = as_json(put(name, canary))
        if raw is not None:
            cleaned, paths = clean_json(raw)
            if canary in cleaned.decode() or encoded(canary)[4:12] in cleaned.decode() or not paths:
                survived.append((place, cleaned))
            assert shape(cleaned) == shape(raw)
            assert canary not in str(paths)
            assert clean_json(cleaned) == (cleaned, [])

    assert survived == []


@pytest.mark.parametrize("kind", BY_FORM)
def test_c24_no_secret_survives_in_a_column(kind):
    text, secret = planted(kind)

    for column in (text, f"it was said: {text} and no more", encoded("- " + text)):
        cleaned, changed = clean_column(column)
        assert changed
        assert REDACTED in cleaned
        assert secret[4:] not in cleaned
        assert clean_column(cleaned) == (cleaned, False)


def test_c24_a_write_key_of_ours_is_a_secret():
    key = "lw_" + "aB3" * 10 + "xy"

    assert clean_json(text_of({"note": f"sent with {key}"})) == (text_of({"note": f"sent with {REDACTED}"}), ["note"])
    assert clean_column(key) == (REDACTED, True)


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_c24_every_secret_name_is_found_by_the_first_look(name):
    assert may_hold_secret(name)
    assert clean_json(text_of({name: "x"}))[0] == text_of({name: REDACTED})


def test_c24_a_name_or_a_key_in_escapes_is_read():
    assert clean_json(rb'{"\u0070assword":"canary"}') == (rb'{"\u0070assword":"<redacted>"}', ["password"])
    assert clean_json(rb'{"a":"p\u0061ssword=canary"}') == (b'{"a":"password=<redacted>"}', ["a"])
    assert clean_json(rb'{"a":"http:\/\/u:canary@h\/x"}') == (b'{"a":"http://u:<redacted>@h/x"}', ["a"])
    assert clean_json(rb'{"a":"\\\"token\\\": \\\"canary\\\""}')[1] == ["a"]
    assert clean_json(rb'{"a\\":"x","token":"canary"}') == (rb'{"a\\":"x","token":"<redacted>"}', ["token"])


# --- what is replaced, and where ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "cleaned", "paths"),
    [
        ('{"user":{"password":"x","n":5}}', '{"user":{"password":"<redacted>","n":5}}', ["user.password"]),
        ('{"token":["a",[{"b":"c","d":1.50}],""]}', '{"token":["<redacted>",[{"b":"<redacted>","d":1.50}],""]}',
         ["token[0]", "token[1][0].b"]),
        ('{"headers":[["Host","h"],["Cookie","a=b"]]}', '{"headers":[["Host","h"],["Cookie","<redacted>"]]}',
         ["headers[1][1]"]),
        ('[{"name":"X-Api-Key","value":"k"}]', '[{"name":"X-Api-Key","value":"<redacted>"}]', ["[0].value"]),
        ('[{"value":"k","name":"X-Api-Key"}]', '[{"value":"<redacted>","name":"X-Api-Key"}]', ["[0].value"]),
        ('[{"key":"db.password","value":{"stringValue":"k"}}]', '[{"key":"db.password","value":{"stringValue":"<redacted>"}}]',
         ["[0].value.stringValue"]),
        ('[{"value":{"v":["k",{"value":"l"}]},"key":"token"}]', '[{"value":{"v":["<redacted>",{"value":"<redacted>"}]},"key":"token"}]',
         ["[0].value.v[0]", "[0].value.v[1].value"]),
        ('{"value":"a","x":"b","value":"c","name":"token"}', '{"value":"<redacted>","x":"b","value":"<redacted>","name":"token"}',
         ["value", "value"]),
        ('{"value":[{"value":"a","name":"token"},"b"],"name":"c"}', '{"value":[{"value":"<redacted>","name":"token"},"b"],"name":"c"}',
         ["value[0].value"]),
        ('{"value":[{"value":"a","name":"b"},"c"],"name":"token"}',
         '{"value":[{"value":"<redacted>","name":"<redacted>"},"<redacted>"],"name":"token"}',
         ["value[0].value", "value[0].name", "value[1]"]),
        ('{"key":"http.method","value":"GET"}', '{"key":"http.method","value":"GET"}', []),
        ('{"key":"abc"}', '{"key":"<redacted>"}', ["key"]),
        ('{"key":"abc","key":"def"}', '{"key":"<redacted>","key":"<redacted>"}', ["key", "key"]),
        ('{"key":{"a":"b"},"value":"c"}', '{"key":{"a":"<redacted>"},"value":"c"}', ["key.a"]),
        ('{"token":{"key":"a","value":"b"}}', '{"token":{"key":"<redacted>","value":"<redacted>"}}', ["token.key", "token.value"]),
        ('{"modules":{"PyJWT":"2.8.0","google-auth":"v2.23rc1","x":"1"}}', '{"modules":{"PyJWT":"2.8.0","google-auth":"v2.23rc1","x":"1"}}',
         []),
        ('{"modules":{"token":"abc"}}', '{"modules":{"token":"<redacted>"}}', ["modules.token"]),
        ('{"token":{"modules":{"a":"1.0"}}}', '{"token":{"modules":{"a":"<redacted>"}}}', ["token.modules.a"]),
        (' { "a" : 1e5 , "token" :\t"x\\"y" } ', ' { "a" : 1e5 , "token" :\t"<redacted>" } ', ["token"]),
        ('{"token":"a","token":"b","n":123456789012345678901}', '{"token":"<redacted>","token":"<redacted>","n":123456789012345678901}',
         ["token", "token"]),
        ('{"url":"/x?token=abc&page=2"}', '{"url":"/x?token=<redacted>&page=2"}', ["url"]),
        ('{"url":"/k?se=1&sig=abc%2B&sp=r"}', '{"url":"/k?se=1&sig=<redacted>&sp=r"}', ["url"]),
        ('"password=abc"', '"password=<redacted>"', [""]),
        ('["token","abc"]', '["token","<redacted>"]', ["[1]"]),
        ('["token","abc","def"]', '["token","abc","def"]', []),
        ('{"token":5,"secret":true,"password":null,"key":"","cookie":"<redacted>"}',
         '{"token":5,"secret":true,"password":null,"key":"","cookie":"<redacted>"}', []),
    ],
)  # fmt: skip
def test_c24_strings_alone_are_replaced_and_each_place_is_named(raw, cleaned, paths):
    assert clean_json(raw.encode()) == (cleaned.encode(), paths)


def test_c24_names_that_hold_secrets_are_clean_and_stay_different():
    first, second = "sk-" + "a" * 40, "sk-" + "b" * 40
    raw = text_of({"deep": {first: 1, second: {"token": "x"}}})

    cleaned, paths = clean_json(raw)

    assert list(json.loads(cleaned)["deep"].values()) == [1, {"token": REDACTED}]
    assert paths[0] == f"deep.{REDACTED}"
    assert first not in str(paths)
    assert second not in str(paths)
    assert clean_json(cleaned) == (cleaned, [])


def test_c24_the_paths_are_the_first_ones_and_short():
    raw = text_of([{"token": "x"}] * 60 + [{"n" * 500: {"t" * 90: {"secret": "x"}}}])

    cleaned, paths = clean_json(raw)

    assert cleaned.count(b"<redacted>") == 61
    assert paths == [f"[{index}].token" for index in range(PATHS_MAX)]
    long = text_of({"n" * 500: {"t" * 90: {"m" * 90: {"q" * 90: {"secret": "x"}}}}})
    (path,) = clean_json(long)[1]
    assert path.startswith("n" * 64 + "…." + "t" * 64 + "….")
    assert len(path) <= 201


# --- what stays ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [text for text in HARMLESS_TEXTS if "\ud800" not in text])
def test_c24_harmless_texts_come_back_as_the_same_object(text):
    for ascii_only in (False, True):
        raw = text_of({"first": text, "second": {"deep": [text, 1, None]}}, ascii_only=ascii_only)
        for _ in range(2):
            cleaned, paths = clean_json(raw)
            assert cleaned is raw
            assert paths == []
    assert clean_column(text) == (text, False)
    assert clean_column(text)[0] is text


def test_c24_harmless_names_come_back_as_the_same_object():
    raw = text_of(dict.fromkeys(HARMLESS_NAMES, "some text"))

    assert clean_json(raw)[0] is raw


@pytest.mark.parametrize("name", PAYLOADS)
def test_c24_of_a_payload_as_an_sdk_sends_it_nothing_useful_is_lost(name):
    payload, expected = PAYLOADS[name]
    raw = text_of(payload)

    cleaned, paths = clean_json(raw)

    assert sorted(paths) == sorted(expected)
    assert shape(cleaned) == shape(raw)
    assert clean_json(cleaned) == (cleaned, [])


def test_c24_ids_in_hex_are_not_looked_at_and_not_remembered():
    raw = text_of({"a": str(uuid.uuid4()), "b": uuid.uuid4().hex, "c": "ab" * 20, "d": "0F" * 32})

    assert clean_json(raw)[0] is raw
    assert scrub_raw._plain == {b"a", b"b", b"c", b"d"}


def test_c24_what_is_remembered_has_an_end_and_is_short():
    for number in range(PLAIN_MAX + 100):
        clean_json(b'{"name %d":"text %d"}' % (number, number))
    clean_json(b'{"a":"%b"}' % (b"long " * 30))

    assert len(scrub_raw._plain) <= PLAIN_MAX + 2
    assert max(map(len, scrub_raw._plain)) <= PLAIN_BYTES_MAX


def test_c24_what_is_plain_in_one_role_is_a_secret_in_another():
    assert clean_json(b'{"type":"session"}') == (b'{"type":"session"}', [])
    assert clean_json(b'{"session":"abc"}') == (b'{"session":"<redacted>"}', ["session"])
    assert clean_json(b'{"name":"session"}') == (b'{"name":"session"}', [])
    assert clean_json(b'{"name":"session","value":"abc"}')[1] == ["value"]
    assert clean_json(b'["session","abc","def"]')[1] == []
    assert clean_json(b'["session","abc"]')[1] == ["[1]"]


def test_c24_what_is_remembered_is_not_mistaken_for_a_text_with_other_quotes():
    plain = b'{"a":"token=\'\'canary status"}'
    assert clean_json(plain)[0] is plain

    assert clean_json(b'{"a":"token=\\"\'canary status"}')[1] == ["a"]


def test_c24_a_long_text_is_no_name_and_a_long_prompt_stays():
    long = text_of({"the key " * 50: "plain", "n": [["the token " * 50, "plain"]]})
    assert clean_json(long)[0] is long

    prompt = text_of(
        {"content": "Look at this file: the token is wrong and the session ended in the service. " * 6_000}
    )
    assert clean_json(prompt)[0] is prompt


# --- the same as the client ----------------------------------------------------------------------------------------------

PIECES = st.sampled_from([
    "password", "token", "api_key", "Cookie", "name", "value", "session_id", "max_tokens", "modules", "a", "b", "",
    "Bearer abcdef1234567890abcdef12", "password=canary", '{"token": "x"}', "sk-" + "a1" * 20, "4111111111111111",
    "https://u:hunter22@h/x?token=a", "/k?a=1&sig=abc", "to=%3Fsignature%3Dabc", "550e8400-e29b-41d4-a716-446655440000", "2026-01-02T03:04:05Z", "it's a key",
    "cGFzc3dvcmQ9aHVudGVyMg==", "plain text", "back\\slash \"quoted\" 'single'", "é\n€ 😀", "a_long_word_in_small_letters",
])  # fmt: skip
VALUES = st.recursive(
    PIECES | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PIECES, inner, max_size=4),
    max_leaves=12,
)


def has_two_unclean_names(value):
    """Which of them is numbered is not the same here and there."""
    if isinstance(value, dict):
        changed = sum(clean_text(name) != name for name in value)
        return changed > 1 or any(map(has_two_unclean_names, value.values()))
    return isinstance(value, list) and any(map(has_two_unclean_names, value))


@settings(max_examples=250, deadline=None)
@given(VALUES, st.booleans())
@example({"value": {"deep": ["x"]}, "name": "Cookie"}, False)
@example(["token", "value"], True)
@example({"token": ["token", {"name": "a", "value": "b"}]}, False)
def test_c24_the_verdict_is_the_clients(value, ascii_only):
    assume(not has_two_unclean_names(value))
    assume("modules" not in str(value))
    raw = text_of(value, ascii_only=ascii_only)

    cleaned, paths = clean_json(raw)

    assert json.loads(cleaned) == clean(copy.deepcopy(value))
    assert bool(paths) is (cleaned is not raw)
    assert shape(cleaned) == shape(raw)
    assert clean_json(cleaned) == (cleaned, [])


@settings(max_examples=150, deadline=None)
@given(json_strategies.values(leaves_max=20))
def test_c24_whatever_the_spelling_nothing_but_strings_changes(text):
    raw = text.encode()

    cleaned, paths = clean_json(raw)

    assert shape(cleaned) == shape(raw)
    assert bool(paths) is (cleaned is not raw)
    assert clean_json(cleaned) == (cleaned, [])


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES | st.text(st.characters(codec="utf-8"), max_size=8), max_size=12).map("".join))
def test_c24_what_the_first_look_lets_pass_is_clean(text):
    assert may_hold_secret(text) or clean_text(text) == text
    assert clean_column(text) == (clean_text(text), clean_text(text) != text)


# --- no end of work --------------------------------------------------------------------------------------------------------


def row(number):
    return {"id": number, "note": f"password=canary{number}", "secret thing": "canary"}


def test_c24_when_the_effort_is_spent_the_rest_is_emptied():
    raw = text_of([row(number) for number in range(4_000)])

    cleaned, paths = clean_json(raw)

    assert b"canary" not in cleaned
    assert shape(cleaned) == shape(raw)
    assert json.loads(cleaned)[0] == {"id": 0, "note": "password=<redacted>", "secret thing": REDACTED}
    assert json.loads(cleaned)[-1] == {"": ""} | {"": 3_999} | {"": ""}
    assert len(paths) == PATHS_MAX


def test_c24_names_of_secrets_are_found_when_the_effort_is_spent():
    spent = [f"password=canary{number} " + "and on " * 8 for number in range(600)]
    rest = {"never seen secret": "canary", "never seen before": "fine", "size": "canary=1"}

    cleaned, _ = clean_json(text_of([*spent, rest]))

    assert b"canary1" not in cleaned
    assert json.loads(cleaned)[-2:] == [
        REDACTED,
        {"never seen secret": REDACTED, "never seen before": "fine", "size": "canary=1"},
    ]


def test_c24_what_is_plain_stays_when_the_effort_is_spent():
    fine = [{"name": f"row {number % 50}", "size": number} for number in range(3_000)]
    raw = text_of([{"token": "canary"}] * 9_000 + fine)

    cleaned, _ = clean_json(raw)

    assert b"canary" not in cleaned
    assert json.loads(cleaned)[:2] == [{"token": REDACTED}] * 2

    many = text_of([{"token": "canary"}, *({"size": number} for number in range(30_000))])
    cleaned, paths = clean_json(many)
    assert paths == ["[0].token"]
    assert json.loads(cleaned)[-1] == {"size": 29_999}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"token":[', b"]}"),
        (b'{"token":{"a":[', b"]}}"),
        (b'{"name":"token","value":[', b"]}"),
        (b'{"value":[', b'],"name":"token"}'),
        (b'{"key":"api_key","value":{"values":[', b"]}}"),
    ],
)
def test_c24_plain_words_that_are_secrets_by_their_place_do_not_survive_when_the_steps_are_spent(before, after):
    words = b",".join(b'"word%d"' % (number % 50) for number in range(60_000))

    cleaned, paths = clean_json(before + words + after)

    assert b"word" not in cleaned
    assert paths[-1] == "…"
    json.loads(cleaned)


@pytest.mark.parametrize("padding", range(12))
def test_c24_wherever_the_steps_are_spent_nothing_is_written_twice(padding):
    raw = b"[" + b"1," + b'"",' * padding + b'["token","canary"],{"name":"token","value":"canary"},' * 3_000 + b"1]"

    cleaned, _ = clean_json(raw)

    assert b"canary" not in cleaned
    assert shape(cleaned) == shape(raw)


def test_c24_a_pending_name_is_settled_when_the_effort_is_spent():
    rows = [{"token": "canary"}] * 4_000
    raw = b'{"key":"canary","rows":%b}' % text_of(rows)
    assert b"canary" not in clean_json(raw)[0]

    raw = b'{"name":"token","other":1,"value":["canary",%b]}' % text_of(rows)[1:-1]
    assert b"canary" not in clean_json(raw)[0]


MEBIBYTE = 1 << 20
HEAVY = {
    "tokens in an array": b'["",' * 1 + b'"",' * (MEBIBYTE // 3) + b'"token"]',
    "brackets": b"[" + b"[]," * (MEBIBYTE // 3) + b'{"token":"x"}]',
    "pairs": b"[" + b'["token","x"],' * (MEBIBYTE // 14) + b"1]",
    "values before names": b'{"value":' * 60 + b"[" + b'"b",' * (MEBIBYTE // 5) + b'"b"]' + b',"name":"token"}' * 60,
    "names of secrets": b"[" + b",".join(b'{"secret thing %d":"x"}' % n for n in range(MEBIBYTE // 26)) + b"]",
    "blanks": b'["token' + b'",       "b' * (MEBIBYTE // 11) + b'"]',
    "one text": b'["' + b"password=canary " * (MEBIBYTE // 16) + b'"]',
}


@pytest.mark.parametrize("kind", HEAVY)
def test_c24_a_mebibyte_of_the_worst_costs_no_more_tokens_than_its_effort(kind, monkeypatch):
    """Counted, not timed: a token costs about a microsecond."""
    counts = {"tokens": 0}

    class Counting:
        def finditer(self, raw):
            for match in token.finditer(raw):
                counts["tokens"] += 1
                yield match

    token = scrub_raw._TOKEN
    monkeypatch.setattr(scrub_raw, "_TOKEN", Counting())

    cleaned, _ = clean_json(HEAVY[kind])

    assert counts["tokens"] <= len(HEAVY[kind]) // scrub_raw.BYTES_PER_STEP + 1
    assert b"canary" not in cleaned
    json.loads(cleaned)


def test_c24_no_pattern_of_the_walk_looks_at_a_byte_twice():
    for name in ("_TOKEN", "_ITEM", "_PAIR"):
        assert b"*" not in getattr(scrub_raw, name).pattern.replace(b"*+", b""), name


def test_i5_many_names_that_only_sound_like_secrets_are_not_each_looked_for_in_the_whole_value(monkeypatch):
    scanned = []
    looked_for = scrub_raw._tells_of_a_neighbour
    monkeypatch.setattr(
        scrub_raw,
        "_tells_of_a_neighbour",
        lambda encoded, value: scanned.append(len(value)) or looked_for(encoded, value),
    )
    value = b'{"a":[' + b",".join(b'"k%d token"' % number for number in range(20_000)) + b"]}"

    clean_json(value)

    assert sum(scanned) < 40 * len(value)
