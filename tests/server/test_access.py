"""Who is asking, and may they: keys, headers, scopes, failures, cookies."""

from __future__ import annotations

import hashlib
import os
import random
import statistics
import time

import pytest
from hypothesis import example, given, strategies as st

from control_helpers import HeldClock
from leeward.errors import ProtocolError, RateLimited
from leeward.server.access import (
    SCOPES,
    Access,
    Failures,
    Identity,
    KeyRing,
    Session,
    Sessions,
    allows,
    bearer,
    csrf_matches,
    csrf_token,
    digest,
    is_secret,
    key_in_url,
    new_key,
    new_secret,
    session_cookie,
    session_cookie_cleared,
    session_cookie_set,
)

HEAVY = os.environ.get("LEEWARD_TEST_HEAVY") == "1"
TOKEN = "lw_" + "aB3" * 10 + "xy"
HOLDER = Identity(1, "read", "k_1", TOKEN[-4:])


def ring(**tokens):
    made = KeyRing()
    made.replace((digest(token), Identity(1, scope, f"k_{scope}", token[-4:])) for scope, token in tokens.items())
    return made


def access(**tokens):
    return Access(ring(**tokens), Failures(HeldClock()))


def authorization(value):
    return [(b"host", b"x"), (b"authorization", value), (b"accept", b"*/*")]


# Keys


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400)))
@example(TOKEN.encode() + b"\x00")
@example(b"")
@example("\ud800")
@example(b"\xff" * 100_000)
@example("é" * 100_000)
def test_a1_whatever_is_not_the_key_is_nobodys(token):
    if token in {TOKEN, TOKEN.encode()}:
        return
    assert ring(read=TOKEN).find(token) is None


def test_a_key_is_found_as_bytes_and_as_text():
    held = ring(read=TOKEN)

    assert held.find(TOKEN) == held.find(TOKEN.encode()) == Identity(1, "read", "k_read", TOKEN[-4:])


def test_a3_what_is_not_among_the_keys_any_more_is_not_found_by_the_next_request():
    held = ring(read=TOKEN)

    held.replace([])

    assert held.find(TOKEN) is None
    assert len(held) == 0


@pytest.mark.parametrize("secret", [b"x" * 256, "x" * 256, b"x" * 257, "é" * 129])
def test_no_more_than_256_bytes_of_a_token_are_hashed(secret):
    raw = secret.encode() if isinstance(secret, str) else secret

    assert digest(secret) == hashlib.sha256(raw[:256]).digest()


def test_new_keys_and_secrets_are_all_different_and_use_the_whole_alphabet():
    keys = [new_key() for _ in range(200)]

    assert len(set(keys)) == 200
    assert len(set("".join(key[3:] for key in keys))) == 62
    assert len({new_secret() for _ in range(200)}) == 200
    assert min(len(new_secret()) for _ in range(20)) == 43


# Headers


@pytest.mark.parametrize(
    "value",
    [b"Bearer lw_x", b"bearer lw_x", b"BEARER   lw_x", b"Bearer \tlw_x", b"Bearer lw_x "],
)
def test_a_bearer_token_is_read_however_its_scheme_is_spelt(value):
    assert bearer(authorization(value)) == b"lw_x"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        authorization(b""),
        authorization(b"Bearer"),
        authorization(b"Bearer "),
        authorization(b"Bearer  \t "),
        authorization(b"Basic bHdfeDpsd194"),
        authorization(b"Token lw_x"),
        authorization(b"Bearerlw_x"),
        authorization(b"lw_x"),
        authorization(b"Bearer lw_x") * 2,
        [(b"x-api-key", b"lw_x"), (b"x-api-key", b"lw_x")],
        [(b"x-api-key", b"")],
        [(b"x-api-key", b"lw_x"), (b"authorization", b"Bearer lw_y")],
        [(b"authorization", b"Bearer lw_y"), (b"x-api-key", b"lw_x")],
        [(b"authorization", b"Basic bHdfeA=="), (b"x-api-key", b"lw_x")],
        [(b"authorization", b"Bearer "), (b"x-api-key", b"lw_x")],
        [(b"authorization", b"Bearer lw_x"), (b"x-api-key", b"")],
    ],
)
def test_a1_no_empty_doubled_basic_or_contradicting_credential_is_none(headers):
    assert bearer(headers) is None


def test_an_api_key_header_does_as_well_and_both_may_agree():
    assert bearer([(b"x-api-key", b" lw_x ")]) == b"lw_x"
    assert bearer([(b"x-api-key", b"lw_x"), (b"authorization", b"Bearer lw_x")]) == b"lw_x"


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"authorization", b"x-api-key", b"cookie", b"host"]),
            st.one_of(st.binary(max_size=40), st.sampled_from([b"Bearer lw_x", b"lw_x", b"leeward_session=c"])),
        ),
        max_size=5,
    )
)
def test_a1_any_headers_give_one_certain_token_or_none(headers):
    token = bearer(headers)

    assert token is None or (token and any(token in value for _, value in headers))
    named = [name for name, _ in headers]
    if named.count(b"authorization") > 1 or named.count(b"x-api-key") > 1:
        assert token is None
    session_cookie(headers)


@pytest.mark.parametrize(
    "query",
    [
        b"api_key=lw_x",
        b"token=x",
        b"a=1&TOKEN=x",
        b"api%5fkey=x",
        b"api%5Fke%79=x&b=2",
        b"+token+=x",
        b"access_token=x",
        b"q=" + TOKEN.encode(),
        b"q=%6cw_" + TOKEN[3:].encode(),
        TOKEN.encode(),
        b"token",
    ],
)
def test_a1_a_key_in_the_address_is_seen(query):
    assert key_in_url(query)


@pytest.mark.parametrize(
    "query", [b"", b"event_type=a%26token%3Dx", b"tokens=3", b"q=lw_short", b"session_id=api_key", b"%"]
)
def test_a_query_without_a_key_is_not_taken_for_one(query):
    assert not key_in_url(query)


@given(st.binary(max_size=200))
def test_any_query_string_is_looked_at_without_an_error(query):
    assert key_in_url(query) in {True, False}


# The check


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("needed", SCOPES)
def test_a3_a_scope_allows_itself_and_admin_allows_all(scope, needed):
    one = access(**{scope: TOKEN})
    if scope in (needed, "admin"):
        assert one.admit(authorization(b"Bearer " + TOKEN.encode()), b"", "", needed).scope == scope
        assert allows(scope, needed)
        return

    with pytest.raises(ProtocolError) as refused:
        one.admit(authorization(b"Bearer " + TOKEN.encode()), b"", "", needed)

    assert (refused.value.status, refused.value.code) == (403, "forbidden")
    assert refused.value.details == (f"needs scope {needed}; leeward keys create --scope {needed}",)
    assert not allows(scope, needed)


WRONG = [
    b"",
    b"Bearer ",
    b"Bearer wrong",
    b"Bearer " + TOKEN[:-1].encode() + b"z",
    b"Bearer " + TOKEN.encode() + b"a",
    b"Bearer " + TOKEN.lower().encode(),
    b"Bearer " + TOKEN.encode() + b"\x00",
    b"Bearer \x00" + TOKEN.encode(),
    b"Bearer " + TOKEN.encode() + b", Bearer " + TOKEN.encode(),
    b"Bearer " + TOKEN.encode() * 1000,
    b"Bearer " + "lw_é".encode(),
    b"Bearer \xff\xfe",
    b"Basic " + TOKEN.encode(),
]


@pytest.mark.parametrize("value", WRONG)
def test_a1_every_wrong_key_gets_the_same_401(value):
    with pytest.raises(ProtocolError) as missing:
        access(admin=TOKEN).admit([], b"", "", "read")
    with pytest.raises(ProtocolError) as refused:
        access(admin=TOKEN).admit(authorization(value), b"", "", "read")

    def answer(error):
        return error.status, error.code, error.message, error.details

    assert answer(refused.value) == answer(missing.value)
    assert refused.value.status == 401


def test_a1_a_right_key_in_the_address_is_refused_and_never_repeated():
    with pytest.raises(ProtocolError) as refused:
        access(admin=TOKEN).admit([], b"api_key=" + TOKEN.encode(), "", "read")

    assert (refused.value.status, refused.value.code) == (401, "key_in_url")
    assert TOKEN not in str(refused.value)


def test_a3_the_check_is_made_anew_for_each_request():
    one = access(read=TOKEN)
    headers = authorization(b"Bearer " + TOKEN.encode())
    assert one.admit(headers, b"", "", "read").key_id == "k_read"

    one.keys.replace([])

    with pytest.raises(ProtocolError):
        one.admit(headers, b"", "", "read")


def test_a_wire_with_a_place_of_its_own_for_the_key_passes_the_same_check():
    one = access(write=TOKEN)

    assert one.admit_token(TOKEN, "", "write").scope == "write"
    for nobody in (None, "", b"", "wrong"):
        with pytest.raises(ProtocolError):
            one.admit_token(nobody, "", "write")


# Failures


def fail(failures, address, times=1):
    for _ in range(times):
        failures.failed(address)


def test_a1_after_twenty_failures_in_a_minute_an_address_is_told_how_long_to_wait():
    clock = HeldClock()
    failures = Failures(clock)
    fail(failures, "192.0.2.1", 10)
    clock.pass_s(40)
    fail(failures, "192.0.2.1", 10)

    with pytest.raises(RateLimited) as limited:
        fail(failures, "192.0.2.1")

    assert limited.value.retry_after_s == 20
    fail(failures, "192.0.2.2", 20)
    clock.pass_s(20)
    fail(failures, "192.0.2.1", 20)
    with pytest.raises(RateLimited):
        fail(failures, "192.0.2.1")


def test_a1_a_right_key_passes_from_an_address_that_is_limited():
    one = access(read=TOKEN)
    for _ in range(20):
        with pytest.raises(ProtocolError):
            one.admit_token("wrong", "127.0.0.1", "read")
    with pytest.raises(RateLimited):
        one.admit_token("wrong", "127.0.0.1", "read")

    assert one.admit_token(TOKEN, "127.0.0.1", "read").key_id == "k_read"


def test_a_key_of_the_wrong_scope_is_not_counted_as_a_failure():
    one = access(write=TOKEN)
    for _ in range(50):
        with pytest.raises(ProtocolError):
            one.admit_token(TOKEN, "127.0.0.1", "read")

    assert len(one.failures) == 0


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("no:address", "no:address", True),
        ("", "", True),
        ("x" * 64 + "1", "x" * 64 + "2", True),
    ],
)
def test_failures_count_by_address_and_for_ipv6_by_its_network(first, second, same):
    failures = Failures(HeldClock(), failures_max=1)
    fail(failures, first)

    if same:
        with pytest.raises(RateLimited):
            fail(failures, second)
    else:
        fail(failures, second)


def test_beyond_ten_thousand_addresses_the_oldest_is_forgotten():
    clock = HeldClock()
    failures = Failures(clock, failures_max=1)
    for number in range(10_001):
        clock.now_ms += 1
        fail(failures, f"192.0.{number >> 8}.{number & 255}")

    assert len(failures) == 10_000
    fail(failures, "192.0.0.0")
    with pytest.raises(RateLimited):
        fail(failures, "192.0.0.2")


def test_an_address_whose_minute_began_anew_is_not_the_oldest():
    clock = HeldClock()
    failures = Failures(clock, failures_max=1, addresses_max=2)
    fail(failures, "a")
    clock.pass_s(59)
    fail(failures, "b")
    clock.pass_s(1)
    fail(failures, "a")

    fail(failures, "c")

    with pytest.raises(RateLimited):
        fail(failures, "a")


def test_a1_an_address_may_be_asked_about_without_a_count():
    clock = HeldClock()
    failures = Failures(clock, failures_max=2)
    for _ in range(5):
        failures.check("192.0.2.1")
    assert len(failures) == 0
    fail(failures, "192.0.2.1", 2)

    for _ in range(2):
        with pytest.raises(RateLimited) as limited:
            failures.check("192.0.2.1")
        assert limited.value.retry_after_s == 60
    failures.check("192.0.2.2")
    clock.pass_s(60)
    failures.check("192.0.2.1")


@pytest.mark.parametrize(
    "text", ["", "x", "a" * 42, "a" * 44, "a" * 42 + "=", "a" * 42 + "é", "a" * 42 + "\n", "٣" * 43]
)
def test_a1_what_cannot_be_a_secret_is_known_by_its_form(text):
    assert not is_secret(text)
    assert all(is_secret(new_secret()) for _ in range(20))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0, 1, 29, 30, 31, 60])), max_size=60))
def test_no_address_fails_more_than_its_share_in_any_minute_that_began_with_a_failure(steps):
    clock = HeldClock()
    failures = Failures(clock, failures_max=3, addresses_max=3)
    started: dict[str, tuple[float, int]] = {}
    for address, wait_s in steps:
        clock.pass_s(wait_s)
        now_s = clock.monotonic_s()
        begun, count = started.get(address, (now_s, 0))
        if now_s - begun >= 60:
            del started[address]
            begun, count = now_s, 0
        if count == 3:
            with pytest.raises(RateLimited) as limited:
                failures.failed(address)
            assert limited.value.retry_after_s == begun + 60 - now_s > 0
            continue
        failures.failed(address)
        if address not in started and len(started) == 3:
            del started[min(started, key=lambda held: started[held][0])]
        started[address] = (begun, count + 1)
        assert len(failures) == len(started)


# Sessions and cookies


def test_a_session_is_found_by_its_cookie_until_its_time_is_over():
    clock = HeldClock()
    sessions = Sessions(clock)
    session = Session(1, "read", "", clock.now_ms, clock.now_ms + 1000)
    sessions.replace([(digest("cookie"), session)])

    assert sessions.find("cookie") == sessions.find(b"cookie") == session
    assert sessions.find("other") is None
    clock.pass_s(1)
    assert sessions.find("cookie") is None


def test_the_cookie_is_out_of_reach_of_scripts_and_of_other_sites():
    secret = new_secret()

    name, value = session_cookie_set(secret, seconds=60, secure=True)
    parts = value.decode().split("; ")

    assert name == b"set-cookie"
    assert parts[0] == f"leeward_session={secret}"
    assert set(parts[1:]) == {"Path=/", "Max-Age=60", "HttpOnly", "SameSite=Strict", "Secure"}
    assert b"Secure" not in session_cookie_set(secret, seconds=60, secure=False)[1]
    assert session_cookie_cleared(secure=False)[1].startswith(b"leeward_session=; Path=/; Max-Age=0; ")


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"cookie", b"leeward_session=abc")], "abc"),
        ([(b"cookie", b"a=b;leeward_session=abc; c=d")], "abc"),
        ([(b"cookie", b"a=b"), (b"cookie", b"leeward_session=abc")], "abc"),
        ([(b"cookie", b"leeward_session=abc; leeward_session=def")], None),
        ([(b"cookie", b"leeward_session=abc"), (b"cookie", b"leeward_session=abc")], None),
        ([(b"cookie", b"leeward_session=")], None),
        ([(b"cookie", b"xleeward_session=abc")], None),
        ([(b"cookie", b"leeward_session=\xff")], "ÿ"),
        ([(b"authorization", b"leeward_session=abc")], None),
        ([], None),
    ],
)
def test_the_cookie_is_read_if_there_is_exactly_one(headers, expected):
    assert session_cookie(headers) == expected


@given(st.text(max_size=60), st.text(max_size=80))
def test_a_form_of_another_session_is_not_ones_own(cookie, other):
    token = csrf_token(cookie)

    assert csrf_matches(cookie, token)
    assert not csrf_matches(cookie, other)
    assert other == cookie or not csrf_matches(other, token)


# Timing


def t_value(finders, rounds):
    """Return Welch's t of the times for two kinds of wrong token: wrong in its first character, and in its last.

    Many keys, because for a single one a fixed pair of digests may lie differently in the table, which tells nothing.
    """
    times = {"early": [], "late": []}
    pairs = [(find, ("early", "!" + token[1:]), ("late", token[:-1] + "!")) for token, find in finders]
    order = random.Random(7)
    for _ in range(rounds):
        for find, *kinds in pairs:
            order.shuffle(kinds)
            for kind, wrong in kinds:
                begun = time.perf_counter_ns()
                find(wrong)
                times[kind].append(time.perf_counter_ns() - begun)
    kept = [sorted(measured)[: len(measured) * 9 // 10] for measured in times.values()]  # without the scheduler's doing
    spread = sum(statistics.variance(one) / len(one) for one in kept)
    return abs(statistics.mean(kept[0]) - statistics.mean(kept[1])) / spread**0.5


def compared_by_character(token):
    """What a key must not be looked up with."""
    return lambda sent: all(mine == theirs for mine, theirs in zip(token, sent, strict=True))


@pytest.mark.heavy
@pytest.mark.skipif(not HEAVY, reason="measures time; LEEWARD_TEST_HEAVY=1 runs it")
def test_a2_where_a_key_is_wrong_cannot_be_told_from_the_time():
    tokens = [new_key() for _ in range(2000)]

    assert t_value([(token, compared_by_character(token)) for token in tokens], 5) > 20, "the measurement can see"
    ours = [(token, ring(read=token).find) for token in tokens]
    assert min(t_value(ours, 50) for _ in range(3)) < 4.5
