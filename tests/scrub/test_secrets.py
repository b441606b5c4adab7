"""What counts as a secret, where it is found, and what stays as it is (C24)."""

import base64
import itertools
import json
import pathlib
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings, strategies as st

from leeward.scrub import names, patterns, secrets
from leeward.scrub.names import is_secret_name
from leeward.scrub.secrets import REDACTED, clean, clean_text, may_hold_secret
from leeward.scrub.values import bounded, bounded_text
from secret_plants import (
    BY_FORM,
    HARMLESS_NAMES,
    HARMLESS_TEXTS,
    PEM,
    PLACES,
    SECRET_NAMES,
    SPELLINGS,
    UNDER_NAMES,
    WORDS,
    encoded,
    planted,
    word,
)

PLANTED = len(BY_FORM) * len(PLACES) + len(WORDS) * len(SPELLINGS) * len(UNDER_NAMES)


def shown(value):
    return json.dumps(value, ensure_ascii=False)


def test_c24_more_than_a_thousand_forms_are_planted():
    assert PLANTED >= 2_000


@pytest.mark.parametrize("kind", BY_FORM)
def test_c24_no_secret_of_a_known_form_survives_anywhere(kind):
    survived = []
    for place, put in PLACES.items():
        text, secret = planted(kind)
        value = put(text)
        for _ in range(2):  # the second time its names are known
            result = shown(bounded(value))
            if secret[4:] in result or encoded(text)[4:-4] in result or REDACTED not in result:
                survived.append((place, result))

    assert survived == []


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("words", WORDS)
def test_c24_nothing_under_a_secret_name_survives(words, spelling):
    survived = []
    name = SPELLINGS[spelling](words.split())
    for place, put in UNDER_NAMES.items():
        canary = "canary" + word(8)
        value = put(name, canary)
        for _ in range(2):
            result = shown(bounded(value))
            if canary in result or encoded(canary)[4:12] in result or REDACTED not in result:
                survived.append((place, result))

    assert survived == []


@pytest.mark.parametrize("kind", BY_FORM)
def test_c24_names_and_ids_are_clean_where_they_are_cut_too(kind):
    text, secret = planted(kind)

    assert secret not in bounded_text(text)
    for length in (150, 190, 199):
        left = bounded_text("a" * (length - 1) + " " + text)
        assert len(left) <= 200
        assert secret[:8] not in left


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("https://u:hunter22@host/x?token=abc&page=2", "https://u:<redacted>@host/x?token=<redacted>&page=2"),
        ("redis://:hunter22@cache:6379/0", "redis://:<redacted>@cache:6379/0"),
        ('{"password": "a\\"b c", "n": 1}', '{"password": "<redacted>", "n": 1}'),
        ('{"api_keys": ["a", {"b": ["c"]}], "n": 1}', '{"api_keys": <redacted>, "n": 1}'),
        ("Authorization: Bearer abcdefg was sent", "Authorization: Bearer <redacted> was sent"),
        ("Authorization: Digest a=b, c=d\nHost: x", "Authorization: Digest <redacted>\nHost: x"),
        ("Set-Cookie: sid=1; Path=/\r\nHost: x", "Set-Cookie: <redacted>\r\nHost: x"),
        ("curl -H 'X-Api-Key: abcdefg' https://x", "curl -H 'X-Api-Key: <redacted>' https://x"),
        ("key sk-" + "k" * 40 + ", then", "key <redacted>, then"),
        ("paid with 4111 1111 1111 1111 today", "paid with <redacted> today"),
        ("4111111111111111sk-passwordpasswordpassword.", "<redacted>."),
        ("Password=ab;c!d&e;User Id=x", "Password=<redacted>;User Id=x"),
        ("login(password=abc, user=x)", "login(password=<redacted>, user=x)"),
        ("login(user=x, password=abc)", "login(user=x, password=<redacted>)"),
        ("password=12345678", "password=<redacted>"),
        ("auth=('user', 'abc') timeout=3", "auth=<redacted> timeout=3"),
        ("user[password]=abc&a=b", "user[password]=<redacted>&a=b"),
        ("a%22token%22%3A%22abc%22%7D", "a%22token%22%3A%22<redacted>%22%7D"),
        ("to=%3Ftoken%3Dabcdef%26page%3D2", "to=%3Ftoken%3D<redacted>%26page%3D2"),
        ("is " + PEM + " it", "is <redacted> it"),
        ("is " + PEM[:50], "is <redacted>"),
        ("s='" + encoded("password=hunter22") + "'", "s='<redacted>'"),
        ("password='never closed", "password='<redacted>"),
        ("key={'never': closed", "key=<redacted>"),
        ("\u0130" * 20 + " password=abc", "\u0130" * 20 + " password=<redacted>"),
        ("x-" + encoded("password=hunter22"), "x-<redacted>"),
        (encoded("https://an.example/some/where/x?password=???hunter22"), "<redacted>"),
        ("caf\u00e9 " * 3 + "password=p\u00e4ss", "caf\u00e9 " * 3 + "password=<redacted>"),
        ("TOKENSECRET=abc", "TOKENSECRET=<redacted>"),
    ],
)
def test_c24_only_the_secret_itself_is_replaced(text, cleaned):
    assert clean_text(text) == cleaned


@pytest.mark.parametrize("text", HARMLESS_TEXTS, ids=[ascii(text)[:50] for text in HARMLESS_TEXTS])
def test_c24_what_is_harmless_is_the_same_object(text):
    value = {"first": text, "second": {"deep": [text, 1, None]}}

    assert clean_text(text) is text
    assert bounded(value) == value
    assert bounded(value) == value
    assert bounded_text(text, 20_000) == text


def test_c24_names_are_secret_by_whole_words():
    assert [name for name in SECRET_NAMES if not is_secret_name(name)] == []
    assert [name for name in SECRET_NAMES if not is_secret_name(name.replace("_", " "))] == []
    assert [name for name in HARMLESS_NAMES if is_secret_name(name)] == []
    assert not is_secret_name("")
    assert not is_secret_name("\u0130")


def test_c24_numbers_booleans_and_what_is_empty_stay_under_a_secret_name():
    value = {"token": 5, "secret": True, "password": None, "key": "", "cookie": [1, 2.5, "x", {"n": 1, "t": "x"}]}

    cleaned = {**value, "cookie": [1, 2.5, REDACTED, {"n": 1, "t": REDACTED}]}
    assert bounded(value) == cleaned
    assert bounded(cleaned) == cleaned


def test_c24_keys_that_hold_secrets_are_clean_and_stay_different():
    first, second = "sk-" + "a" * 40, "sk-" + "b" * 40

    assert bounded({first: 1, second: 2, "c": 3}) == {REDACTED: 1, REDACTED + "#1": 2, "c": 3}


def test_c24_there_is_no_end_to_the_secrets_of_one_text():
    for unit in (
        "password=abcd ",
        "key sk-" + "a" * 30 + " ",
        "4111111111111111 ",
        "http://a:bcdefgh@c ",
        "{'key':'abcd'",
    ):
        for count in (400, 600, 1_100, 3_000):
            cleaned = clean_text(unit * count)
            assert "abcd" not in cleaned
            assert "bcdefgh" not in cleaned
            assert "4111" not in cleaned
            assert "aaaa" not in cleaned


def test_c24_what_is_behind_too_many_suspicious_places_is_replaced_unseen():
    for unit, secret in (
        ("key ", "key=canary"),
        ("4111111111111112 ", "4111111111111111"),
        ("http://a:bcdefgh@c ", "canary"),
        ("an_identifier_of_many_words ", "canary"),
    ):
        times = 65_000 // len(unit)
        cleaned = clean_text(unit * times + secret)
        assert cleaned.startswith(unit[:9]) or unit[0] == "4"  # its long numbers have used up the effort
        assert cleaned.endswith(REDACTED)
        assert secret not in cleaned
        assert len(cleaned) < 60_000


def test_c24_there_is_no_end_to_the_secrets_of_one_value():
    value = [f"row {number}: password=canary" for number in range(1_500)]

    cleaned = bounded({"rows": value, "fine": "and well"})

    assert "canary" not in shown(cleaned)
    assert cleaned["rows"][0] == "row 0: password=<redacted>"
    assert cleaned["rows"][-1] == REDACTED
    assert cleaned["fine"] == "and well"


def test_c24_json_is_read_through_seven_texts_within_each_other():
    text = json.dumps({"password": "canary", "n": 1})
    for _ in range(7):
        text = json.dumps([text])

    assert "canary" not in clean_text(text)
    assert REDACTED in clean_text(text)


def test_c24_quotes_and_brackets_without_end_are_looked_at_so_far():
    assert clean_text("password='" + "\\'" * 500 + "abc") == "password='" + REDACTED
    assert clean_text("'key': " + "[" * 500 + "'abc'" + "]" * 500 + " and on") == "'key': " + REDACTED


def test_c24_base64_that_is_cut_within_a_letter_is_read_up_to_it():
    text = base64.b64encode("password=hunter22 \u20ac".encode()).decode()

    assert clean_text(text[:-2]) == REDACTED
    assert clean_text(base64.b64encode(b"password=hunter22 \x81\x82\x83\x84 not a text").decode()).startswith("cGFz")
    for text in ("A" + "aA" * 12, "Basic Aabcdefghijklmnopq.r"):  # one letter too many; one that base64 has not
        assert clean_text(text) is text


def test_c24_what_is_remembered_has_an_end():
    for number in range(2 * secrets.REMEMBERED_MAX):
        clean({f"name {number}": f"text number {number}"})
        is_secret_name(f"key{number}")
    long = "long " * 30 + "key"

    assert len(secrets._clean_texts) <= secrets.REMEMBERED_MAX
    assert len(names.plain_names) <= names.REMEMBERED_MAX
    assert len(names._words_of_names) <= names.REMEMBERED_MAX
    assert is_secret_name(long)
    assert long not in names._words_of_names


pieces = st.sampled_from([
    "password", "token", "api_key", "Cookie", "Authorization", "Bearer ", "Basic ", "=", ":", ": ", " = ", '"', "'",
    '\\"', "\\", "{", "}", "[", "]", "(", ")", "&", ";", ",", "?", "://", "@", "<redacted>", "<", ">", "%22", "%3D", "\n",
    "sk-", "a" * 20, "Ab1" * 8, "eyJ", ".", "-----BEGIN X-----", "-----END X-----", "4111111111111111", "4111 ", "5", "é",
    "cGFzc3dvcmQ9aHVudGVyMg==", "/", "+", "-", "_", " ", "\u0130", "true", "digest ", "self.", "tokens", "sig",
])  # fmt: skip
texts = st.lists(pieces | st.text(max_size=5), max_size=25).map("".join)


@settings(max_examples=600, deadline=None)
@given(texts)
@example('password="sk-' + "a" * 20 + ' b"')
@example("Cookie: a='b")
@example("4111111111111111sk-passwordpasswordpassword")
def test_c24_cleaning_never_raises_and_twice_is_once(text):
    once = clean_text(text)

    assert clean_text(once) == once
    assert once is text or REDACTED in once
    assert once is text or may_hold_secret(text)


@settings(max_examples=200, deadline=None)
@given(texts, st.sampled_from(sorted(BY_FORM)), texts)
def test_c24_a_key_is_found_whatever_stands_around_it(before, kind, after):
    secret = "AKIA" + "ABCDEFGH12345678"

    assert secret not in clean_text(f"{before} {secret} {after}")
    assert kind in BY_FORM


def test_c24_no_repeat_in_a_pattern_can_be_tried_twice_for_the_same_characters():
    """Time is linear by structure: an open repeat is possessive, or begins behind a mark that it cannot contain."""
    repeats = {
        name: re.findall(
            r"[*+](?![+?])", re.sub(r"\\.|\[(?:\\.|[^\]\\])*\]|\{[0-9,]+\}\+|[*+]\+", "x", pattern.pattern)
        )
        for name, pattern in vars(patterns).items()
        if isinstance(pattern, re.Pattern)
    }

    # WORD gives back one letter at most. USERINFO: the next try begins at `:/`, and no `/` is in its repeats.
    assert {name for name, found in repeats.items() if found} <= {"WORD", "USERINFO"}
    for name, pattern in vars(patterns).items():
        if isinstance(pattern, re.Pattern):
            assert not re.search(r",\}(?!\+)", pattern.pattern), name


def test_c24_an_open_repeat_of_a_provider_ends_its_pattern_or_begins_behind_what_it_cannot_contain():
    """Possessive is not enough: what fails behind a long repeat must not be tried again from within the repeat."""
    restarted = [source for source in patterns._PROVIDERS.split() if re.search(r",\}\+(?!$|\)$|\|)", source)]

    assert restarted == [r"SG\.[\w-]{16,}+\.[\w-]{16,}+"]  # `SG.` needs a dot, and no dot is in the repeat


def test_c24_a_word_that_seems_to_be_many_tokens_is_read_once():
    text = "eyJhbGciOi-" * 6_000

    assert [match.span() for match in patterns.JWT.finditer(text)] == [(0, len(text))]
    assert clean_text("-" + text + ".aaaaaaaaaa.b") == "-" + REDACTED
    assert clean_text("eyJaaaaaaaa-sk-" + "a1" * 20 + " x") == "eyJaaaaaaaa-" + REDACTED + " x"  # not hidden by it


SECRET_WORDS_ALONE = ("key token secret password auth cookie session " * 60)[:1_780]
WORST = {
    "one word of many tokens": {"t": "eyJhbGciOi-" * 6_000},
    "keys of base64": {
        f"-aGVsbG8gd29ybGQgdGhpcyBpcyBh00000000000000000000.\nc2stcHJvai1BYkNkRWYwMTIzNDU2Nzg5/{number}": 1
        for number in range(1_000)
    },
    "keys that are cut": {"aGVsbG8gd29ybGQgdGhp-" * 19 + str(number): 1 for number in range(1_000)},
    "dicts of addresses": [{f"https://u:hunter22@example.com/a?token=abc{number}": 1} for number in range(1_000)],
    "messages": [
        {"role": "user", "content": f"the key sk-proj-{'A1b2C3d4' * 5}{number} and password=hunter{number}"}
        for number in range(1_000)
    ],
    "secret words": [f"{SECRET_WORDS_ALONE}={number}" for number in range(64)],
    "many texts": [f"password=canary{number}" for number in range(5_000)],
    "long names": [
        {"secret a b c d e f g h i j " * 6 + f"{row}-{number}": "x" for number in range(29)} for row in range(99)
    ],
    "pairs": [[f"token-{number}", f"abc{number}"] for number in range(1_600)],
}


@pytest.mark.parametrize("kind", WORST)
def test_c24_all_of_one_value_shares_one_effort(kind, monkeypatch):
    looked_at = []
    names_read = []
    real_look, real_words = secrets._Look, names._is_secret

    def look(text, raw, level, effort):
        looked_at.append(len(text))
        return real_look(text, raw, level, effort)

    def read(words):
        names_read.append(words)
        return real_words(words)

    monkeypatch.setattr(secrets, "_Look", look)
    monkeypatch.setattr(names, "_is_secret", read)
    for known in (secrets._clean_texts, names.plain_names, names._words_of_names):
        known.clear()

    bounded(WORST[kind])

    assert secrets.TEXT_EFFORT * (len(looked_at) - 1) <= secrets.EFFORT_MAX
    assert sum(looked_at[:-1]) <= secrets.EFFORT_MAX * secrets.TEXT_CHARS_PER_EFFORT
    assert len(names_read) <= 2 * secrets.EFFORT_MAX // secrets.NAME_EFFORT


def test_c24_one_secret_in_a_long_message_costs_the_message_nothing_else():
    prose = "Please look at this file: the token is wrong and the session ended in some_function_of_the_service. " * 100
    message = prose + "password=canary " + prose

    assert bounded([{"role": "user", "content": message}])[0]["content"] == message.replace("canary", REDACTED)


def test_c24_what_is_known_stays_when_the_effort_is_spent():
    bounded({"fine": {"rows": 3, "text": "and well"}})
    spent = [f"row {number}: password=canary{number}" for number in range(900)]

    cleaned = bounded({"rows": spent, "fine": {"rows": 3, "text": "and well"}, "new": {"never_seen_secret": "canary"}})

    assert "canary" not in shown(cleaned)
    assert cleaned["fine"]["rows"] == 3
    assert cleaned["new"] == REDACTED


@pytest.mark.parametrize(
    "text", ["the key " * 100, "def login(password):", "what is a token", "session: what?", "key=1", "auth\nby"]
)
def test_c24_a_text_is_no_name_of_a_pair(text):
    assert bounded([[text, "plain"]]) == [[text, "plain"]]


@pytest.mark.parametrize("name", ["API key", "user[password]", "X-Api-Key", "session cookie", "db.password:"])
def test_c24_a_name_of_two_words_is_the_name_of_a_pair(name):
    assert bounded([[name, "canary"]]) == [[name, REDACTED]]


def test_the_letter_that_grows_in_lower_case_is_the_only_one():
    assert [letter for letter in map(chr, range(0x110000)) if len(letter.lower()) != 1] == ["\u0130"]


def test_patterns_are_compiled_when_a_capture_needs_them_and_not_by_import():
    program = (
        "import sys\n"
        "import leeward.scrub.values\n"
        "from leeward.scrub import secrets\n"
        "assert 'leeward.scrub.patterns' not in sys.modules and 're' not in sys.modules\n"
        "assert leeward.scrub.values.bounded({'plan': 'professional', 'n': 1}) == {'plan': 'professional', 'n': 1}\n"
        "assert 'leeward.scrub.patterns' not in sys.modules and 're' not in sys.modules\n"
        "secrets.load()\n"
        "assert 'leeward.scrub.patterns' in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-S", "-c", program], check=True, env={"PYTHONPATH": str(pathlib.Path("src").resolve())}
    )


def test_c24_every_stem_is_needed_and_every_secret_word_has_one():
    words = names.SECRET_WORDS
    assert [word for word in words if not any(stem in word for stem in names.STEMS)] == []
    for stem in names.STEMS:
        others = [other for other in names.STEMS if other != stem]
        assert stem == "sig" or any(stem in word and not any(other in word for other in others) for word in words), stem


def test_the_table_of_planted_forms_has_no_repeats():
    samples = [planted(kind)[1] for kind, _ in itertools.product(BY_FORM, range(2))]
    assert len(set(samples)) >= 2 * len(BY_FORM) - 3  # the cards are always the same
