"""Projects, keys, links and sessions: what each call does, and that memory and disk say the same after it."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings, strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from control_helpers import HeldClock, rows, started_directory
from leeward.errors import ProtocolError, Unavailable
from leeward.server.access import SCOPES, Identity, digest
from leeward.server.control import records as records_module
from leeward.server.control.records import LINK_MS, SESSION_MS, Records
from leeward.server.quotas import UNLIMITED, Quota


@pytest.fixture
def clock():
    return HeldClock()


@pytest.fixture
def records(tmp_path, clock):
    with Records(started_directory(tmp_path), clock=clock) as opened:
        yield opened


def test_a_new_key_is_found_at_once_and_after_a_restart(tmp_path, clock, records):
    key, token = records.create_key(1, "chat", "  my app ")

    holder = Identity(1, "chat", key.id, token[-4:])
    assert re.fullmatch(r"lw_[A-Za-z0-9]{32}", token)
    assert re.fullmatch(r"k_[a-z0-9]{12}", key.id)
    assert (key.name, key.created_at, key.revoked_at) == ("my app", clock.now_ms, None)
    assert records.keys.find(token) == holder
    assert key in records.list_keys()
    records.close()
    with Records(tmp_path, clock=clock) as again:
        assert again.keys.find(token) == holder


def test_each_limit_of_a_key_comes_back_as_the_one_that_it_is(tmp_path, clock, records):
    limits = Quota(per_minute=1, per_day=2, requests_per_minute=3, tokens_per_day=4, usd_per_day=5.25)
    key, token = records.create_key(1, "chat", "my app", limits)
    assert records.keys.find(token).quota == key.quota == limits
    records.close()

    with Records(tmp_path, clock=clock) as again:
        assert again.keys.find(token).quota == limits
        assert [each.quota for each in again.list_keys() if each.id == key.id] == [limits]
    columns = "events_per_minute_max, events_per_day_max, requests_per_minute_max, tokens_per_day_max, usd_per_day_max"
    assert rows(tmp_path, f"SELECT {columns} FROM keys WHERE id = '{key.id}'") == [(1, 2, 3, 4, 5.25)]


def test_a_changed_quota_holds_from_the_next_request_and_after_a_restart(tmp_path, clock, records):
    key, token = records.create_key(1, "write", "my app", Quota(per_minute=60))
    assert records.keys.find(token).quota == key.quota == Quota(60, None)

    changed = records.set_quota(key.id, lambda quota: Quota(quota.per_minute, 1000))

    assert changed.quota == records.keys.find(token).quota == Quota(60, 1000)
    records.close()
    with Records(tmp_path, clock=clock) as again:
        assert again.keys.find(token).quota == Quota(60, 1000)
        assert again.set_quota(key.id, lambda _: UNLIMITED).quota == UNLIMITED
        assert again.keys.find(token).quota is None
        assert again.set_quota("k_nothing", lambda _: UNLIMITED) is None


def test_no_token_cookie_or_link_is_on_disk_but_in_the_owners_file(tmp_path, records):
    _, token = records.create_key(1, "read", "seen")
    link = records.create_sign_in_link(1, "read")
    cookie = records.redeem(records.create_sign_in_link(1, "read"))
    first = json.loads((tmp_path / "first-keys.json").read_text())
    secrets = [token, link, cookie, *(first[scope] for scope in SCOPES)]

    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name != "first-keys.json")

    assert digest(token) in written
    assert [secret for secret in secrets if secret.encode() in written] == []


def test_a3_a_revoked_key_is_unknown_before_the_call_returns_and_stays_so(tmp_path, clock, records):
    key, token = records.create_key(1, "write", "leaked")
    clock.pass_s(5)

    revoked = records.revoke_key(key.id)

    assert records.keys.find(token) is None
    assert revoked.revoked_at == clock.now_ms
    clock.pass_s(5)
    assert records.revoke_key(key.id) == revoked, "a second revocation changes nothing"
    records.close()
    with Records(tmp_path, clock=clock) as again:
        assert again.keys.find(token) is None
        assert revoked in again.list_keys()


def test_revoking_what_is_no_key_says_so(records):
    assert records.revoke_key("k_nothing") is None
    assert records.revoke_key("' OR 1=1 --") is None
    assert len(records.keys) == 4


def test_revoking_every_key_does_not_bring_first_keys_again(tmp_path, clock, records):
    for key in records.list_keys():
        records.revoke_key(key.id)
    records.close()

    with Records(tmp_path, clock=clock) as again:
        assert again.started.first_keys is None
        assert len(again.keys) == 0


def test_a3_a_key_of_one_project_is_never_one_of_another(records):
    other = records.create_project("other")
    key, token = records.create_key(other.id, "read", "theirs")

    assert (other.id, records.keys.find(token).project) == (2, 2)
    assert records.list_keys(other.id) == [key]
    assert [held.project for held in records.list_keys(1)] == [1] * 4
    assert [project.name for project in records.list_projects()] == ["default", "other"]


@pytest.mark.parametrize(
    ("project", "scope", "name", "code", "status"),
    [
        (1, "root", "x", "invalid_scope", 400),
        (1, "", "x", "invalid_scope", 400),
        (7, "read", "x", "unknown_project", 404),
        (-1, "read", "x", "unknown_project", 404),
        (1, "read", " ", "invalid_name", 400),
        (1, "read", "x" * 201, "invalid_name", 400),
        (1, "read", "two\nlines", "invalid_name", 400),
        (1, "read", "\ud800", "invalid_name", 400),
        (1, "read", "\u202egnp", "invalid_name", 400),
    ],
)
def test_a_key_that_cannot_be_is_refused_and_nothing_is_kept(records, project, scope, name, code, status):
    with pytest.raises(ProtocolError) as refused:
        records.create_key(project, scope, name)

    assert (refused.value.code, refused.value.status) == (code, status)
    assert len(records.list_keys()) == len(records.keys) == 4


def test_a_second_project_of_the_same_name_is_refused(records):
    with pytest.raises(ProtocolError, match="'default' already") as refused:
        records.create_project("default")

    assert refused.value.status == 409


@pytest.mark.parametrize(("project", "scope"), [(9, "read"), (1, "root")])
def test_a_link_that_cannot_be_is_refused(records, project, scope):
    with pytest.raises(ProtocolError):
        records.create_sign_in_link(project, scope)


def test_a_link_signs_in_once(records, clock):
    link = records.create_sign_in_link(1, "read")

    cookie = records.redeem(link)

    session = records.sessions.find(cookie)
    assert (session.project, session.scope, session.key_id) == (1, "read", "")
    assert session.expires_at == clock.now_ms + SESSION_MS
    assert records.redeem(link) is None
    assert records.redeem("never made") is None
    assert len(records.sessions) == 1


@pytest.mark.parametrize(("age_ms", "works"), [(LINK_MS - 1, True), (LINK_MS, False)])
def test_a_link_is_good_for_fifteen_minutes(records, clock, age_ms, works):
    link = records.create_sign_in_link(1, "read")

    clock.now_ms += age_ms

    assert (records.redeem(link) is not None) is works
    assert LINK_MS == 15 * 60_000


@pytest.mark.parametrize(("age_ms", "works"), [(SESSION_MS - 1, True), (SESSION_MS, False)])
def test_a3_a_session_ends_with_its_time_without_anyone_ending_it(records, clock, age_ms, works):
    cookie = records.redeem(records.create_sign_in_link(1, "read"))

    clock.now_ms += age_ms

    assert (records.sessions.find(cookie) is not None) is works


def test_what_is_over_leaves_the_database(tmp_path, records, clock):
    records.redeem(records.create_sign_in_link(1, "read"))
    clock.now_ms += SESSION_MS
    records.create_sign_in_link(1, "read")
    records.close()

    assert rows(tmp_path, "SELECT count(*) FROM sessions") == [(0,)]
    assert rows(tmp_path, "SELECT count(*) FROM sign_in_links") == [(1,)]
    clock.now_ms += LINK_MS
    Records(tmp_path, clock=clock).close()
    assert rows(tmp_path, "SELECT count(*) FROM sign_in_links") == [(0,)]


def test_a3_revoking_a_key_ends_the_sessions_that_were_signed_in_with_it_and_no_others(tmp_path, records, clock):
    key, token = records.create_key(1, "read", "x")
    holder = records.keys.find(token)
    theirs, other = records.sign_in(holder), records.redeem(records.create_sign_in_link(1, "read"))
    assert records.sessions.find(theirs).key_id == key.id

    records.revoke_key(key.id)

    assert records.sessions.find(theirs) is None
    assert records.sessions.find(other) is not None
    assert records.sign_in(holder) is None, "a sign-in that overlapped with the revocation gets no session"
    records.close()
    with Records(tmp_path, clock=clock) as again:
        assert len(again.sessions) == 1


def test_signing_out_ends_the_session(records):
    cookie = records.redeem(records.create_sign_in_link(1, "admin"))

    records.end_session(cookie)
    records.end_session("no such cookie")

    assert records.sessions.find(cookie) is None


def test_beyond_the_limit_the_oldest_session_gives_way(records, clock, monkeypatch):
    monkeypatch.setattr(records_module, "SESSIONS_MAX", 3)
    cookies = []
    for _ in range(5):
        clock.pass_s(1)
        cookies.append(records.redeem(records.create_sign_in_link(1, "read")))

    assert [records.sessions.find(cookie) is not None for cookie in cookies] == [False, False, True, True, True]
    assert len(records.sessions) == 3


def test_a_full_disk_is_said_changes_nothing_and_passes(records):
    key, token = records.create_key(1, "read", "before")
    before = records.list_keys()
    driver = records._connection.connection.driver_connection
    pages = driver.execute("PRAGMA page_count").fetchone()[0]
    driver.execute(f"PRAGMA max_page_count = {pages}")

    def fill():
        for _ in range(10_000):
            records.create_key(1, "read", "x" * 200)

    with pytest.raises(Unavailable, match="database or disk is full"):
        fill()

    assert records.keys.find(token).key_id == key.id
    assert {held.id for held in records.list_keys()} == {identity.key_id for _, identity in records.keys._held.values()}
    driver.execute("PRAGMA max_page_count = 1000000")
    assert records.create_key(1, "read", "after")[0] not in before


def test_a_commit_that_fails_leaves_the_key_valid_and_the_second_revocation_holds(records):
    key, token = records.create_key(1, "read", "x")

    def fail(connection):
        raise OperationalError("COMMIT", {}, OSError("disk I/O error"))

    event.listen(records._connection.engine, "commit", fail)
    with pytest.raises(Unavailable, match="disk I/O error"):
        records.revoke_key(key.id)
    event.remove(records._connection.engine, "commit", fail)

    assert records.keys.find(token) is not None
    assert records.list_keys()[-1].revoked_at is None
    records.revoke_key(key.id)
    assert records.keys.find(token) is None


class Model(RuleBasedStateMachine):
    """Any sequence of calls, restarts and waiting: who may in is what a plain dictionary says."""

    tokens, cookies, links = Bundle("tokens"), Bundle("cookies"), Bundle("links")

    @initialize()
    def start(self):
        self.directory = started_directory(Path(tempfile.mkdtemp(prefix="leeward-model-")))
        self.clock = HeldClock()
        self.keys, self.sessions, self.open_links = {}, {}, {}
        self.records = Records(self.directory, clock=self.clock)

    def teardown(self):
        self.records.close()
        shutil.rmtree(self.directory)

    @rule(target=tokens, scope=st.sampled_from(SCOPES))
    def create(self, scope):
        key, token = self.records.create_key(1, scope, "x")
        self.keys[token] = (key.id, scope)
        return token

    @rule(token=tokens)
    def revoke(self, token):
        identity = self.records.keys.find(token)
        if identity is not None:
            self.records.revoke_key(identity.key_id)
        self.keys.pop(token, None)
        self.sessions = {cookie: held for cookie, held in self.sessions.items() if held[0] != token}

    @rule(target=cookies, token=tokens)
    def sign_in(self, token):
        identity = self.records.keys.find(token)
        cookie = None if identity is None else self.records.sign_in(identity)
        if cookie is None:
            return multiple()
        self.sessions[cookie] = (token, self.clock.now_ms + SESSION_MS)
        return cookie

    @rule(target=links)
    def link(self):
        link = self.records.create_sign_in_link(1, "read")
        self.open_links[link] = self.clock.now_ms + LINK_MS
        return link

    @rule(target=cookies, link=links)
    def redeem(self, link):
        cookie = self.records.redeem(link)
        assert (cookie is not None) == (self.open_links.pop(link, 0) > self.clock.now_ms)
        if cookie is None:
            return multiple()
        self.sessions[cookie] = (None, self.clock.now_ms + SESSION_MS)
        return cookie

    @rule(cookie=consumes(cookies))
    def sign_out(self, cookie):
        self.records.end_session(cookie)
        self.sessions.pop(cookie, None)

    @rule(step_ms=st.sampled_from([1, LINK_MS // 2, LINK_MS, SESSION_MS // 2, SESSION_MS]))
    def wait(self, step_ms):
        self.clock.now_ms += step_ms

    @rule()
    def restart(self):
        self.records.close()
        self.records = Records(self.directory, clock=self.clock)

    @invariant()
    def memory_agrees(self):
        if not hasattr(self, "records"):
            return
        for token, (key_id, scope) in self.keys.items():
            assert self.records.keys.find(token) == Identity(1, scope, key_id, token[-4:])
        assert len(self.records.keys) == len(self.keys) + 4
        found = {cookie for cookie in self.sessions if self.records.sessions.find(cookie) is not None}
        assert found == {cookie for cookie, (_, ends) in self.sessions.items() if ends > self.clock.now_ms}


Model.TestCase.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
TestAnySequenceOfCalls = Model.TestCase
