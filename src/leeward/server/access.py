"""Who is asking, and may they? The one access check, and the words for keys, sessions and cookies around it.

Promises  Deny by default: whoever is not found in memory gets the same 401, whatever was wrong with the key. No look-up
          leaves memory, so a request pays about 3 µs; a revoked key is gone from here before its revocation answers.
          No token is kept, logged or compared in clear: what is known of one is its SHA-256 and its last four characters.
Limits    A token of more than 256 bytes is no key. Failures are counted for 10,000 addresses; beyond that the oldest
          count is forgotten. A right key is never rate-limited here: several programs share one address.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import re
import secrets
import string
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

import msgspec

from leeward.errors import ProtocolError, RateLimited

if TYPE_CHECKING:
    from leeward.clock import Clock
    from leeward.server.quotas import Quota

__all__ = [
    "SCOPES",
    "SESSION_COOKIE",
    "Access",
    "Failures",
    "Headers",
    "Identity",
    "KeyRing",
    "Session",
    "Sessions",
    "allows",
    "basic_password",
    "bearer",
    "csrf_matches",
    "csrf_token",
    "digest",
    "forbidden",
    "is_secret",
    "key_in_url",
    "key_tail",
    "new_key",
    "new_secret",
    "session_cookie",
    "session_cookie_cleared",
    "session_cookie_set",
    "unauthorized",
]

Headers = Iterable[tuple[bytes, bytes]]  # as ASGI gives them: names in lower case

SCOPES: Final = ("write", "read", "chat", "admin")
SESSION_COOKIE: Final = "leeward_session"
WWW_AUTHENTICATE: Final = (b"www-authenticate", b"Bearer")

TOKEN_BYTES_MAX: Final = 256
BASIC_BYTES_MAX: Final = 1024
TAIL_SHOWN_FROM_CHARS: Final = 24  # of a shorter key, four characters would be too much
FAILURES_MAX: Final = 20
FAILURES_WINDOW_S: Final = 60.0
ADDRESSES_MAX: Final = 10_000
ADDRESS_LENGTH_MAX: Final = 64

_ALPHABET: Final = string.ascii_letters + string.digits
_KEY_PATTERN: Final = re.compile(rb"lw_[A-Za-z0-9]{32}")
_SECRET_PATTERN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_KEY_PARAMETERS: Final = frozenset(
    {b"api_key", b"apikey", b"api-key", b"x-api-key", b"access_token", b"auth_token", b"token", b"bearer"}
)
_COOKIE_PREFIX: Final = SESSION_COOKIE.encode() + b"="
_CSRF_PURPOSE: Final = b"leeward form"


class Identity(msgspec.Struct, frozen=True):
    """Whoever holds a key: its project, its scope, and what a person may see of the key itself."""

    project: int
    scope: str
    key_id: str
    last4: str
    quota: Quota | None = None


class Session(msgspec.Struct, frozen=True):
    """A signed-in browser. `key_id` is the key it was signed in with, or empty after a one-time link."""

    project: int
    scope: str
    key_id: str
    created_at: int
    expires_at: int


def new_key() -> str:
    """Make a key: `lw_` and 32 of `[A-Za-z0-9]`, which is 190 bits."""
    return "lw_" + "".join(secrets.choice(_ALPHABET) for _ in range(32))


def new_secret() -> str:
    """Make the secret of a cookie or a one-time link: 256 bits that need no quoting in a header or an address."""
    return secrets.token_urlsafe(32)


def is_secret(text: str) -> bool:
    """Say whether a text has the form of what `new_secret` makes; what has not need not be looked for."""
    return _SECRET_PATTERN.fullmatch(text) is not None


def digest(secret: bytes | str) -> bytes:
    """SHA-256 of a secret: all that is ever stored of one. Takes any text; looks at 256 bytes at most."""
    if isinstance(secret, str):
        secret = secret.encode("utf-8", "surrogatepass")
    return hashlib.sha256(secret[:TOKEN_BYTES_MAX]).digest()


def allows(scope: str, needed: str) -> bool:
    """Say whether a key of this scope may do what needs that scope; `admin` may do all."""
    return scope == needed or scope == "admin"  # noqa: PLR1714  a set would be built per request


class KeyRing:
    """All keys that are valid now, in memory: digest of the token → who holds it.

    The look-up goes by digest, and does not leak by timing: whoever sends a guess cannot steer its SHA-256, so the time
    that a table of digests takes says nothing about how near the guess is to a key; and knowing a digest would not give
    the token. The hit is compared once more in constant time. Every token takes the same road, however malformed: it is
    hashed and looked up, so there is no quick way out that would tell a shape from a value.

    The whole ring is replaced at once, so any thread may look while another replaces it.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[bytes, tuple[bytes, Identity]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, token: bytes | str) -> Identity | None:
        """Return the holder of this token, or None. Takes any bytes or text."""
        asked = digest(token)
        held = self._held.get(asked)
        if held is None or not hmac.compare_digest(held[0], asked):
            return None
        return held[1]

    def replace(self, valid: Iterable[tuple[bytes, Identity]]) -> None:
        """Hold these digests and holders, and no others: who is not among them is not found from now on."""
        self._held = {sha256: (sha256, identity) for sha256, identity in valid}


class Sessions:
    """All sessions that are open now, in memory: digest of the cookie → session. Looked up as a key is, and replaced so."""

    __slots__ = ("_clock", "_held")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[bytes, tuple[bytes, Session]] = {}

    def __len__(self) -> int:
        return len(self._held)

    def find(self, cookie: bytes | str) -> Session | None:
        """Return the session of this cookie, or None when there is none or its time is over."""
        asked = digest(cookie)
        held = self._held.get(asked)
        if held is None or not hmac.compare_digest(held[0], asked) or held[1].expires_at <= self._clock.wall_ms():
            return None
        return held[1]

    def replace(self, live: Iterable[tuple[bytes, Session]]) -> None:
        """Hold these sessions, and no others."""
        self._held = {sha256: (sha256, session) for sha256, session in live}


def bearer(headers: Headers) -> bytes | None:
    """Return the one token that the headers carry, as `Authorization: Bearer …` or `X-API-Key: …`, or None.

    None as well when there is reason to doubt which one is meant: a header given twice, another scheme, or both
    headers with different tokens.
    """
    found: bytes | None = None
    seen_authorization = seen_api_key = False
    for name, value in headers:
        if name == b"authorization":
            if seen_authorization or value[:7].lower() != b"bearer ":
                return None
            seen_authorization = True
            token = value[7:].strip(b" \t")
        elif name == b"x-api-key":
            if seen_api_key:
                return None
            seen_api_key = True
            token = value.strip(b" \t")
        else:
            continue
        if not token or (found is not None and found != token):
            return None
        found = token
    return found


def basic_password(headers: Headers) -> bytes | None:
    """Return the password of `Authorization: Basic`, or None when there is none, or more than one."""
    found: bytes | None = None
    for name, value in headers:
        if name != b"authorization":
            continue
        scheme, _, encoded = value.partition(b" ")
        if found is not None or scheme.lower() != b"basic" or len(encoded) > BASIC_BYTES_MAX:
            return None
        try:
            found = base64.b64decode(encoded.strip(), validate=True).partition(b":")[2]
        except ValueError:
            return None
    return found


def key_tail(token: bytes | str | None) -> str:
    """Return what a person may see of a key that was tried: its last four characters, of a long one only."""
    if isinstance(token, bytes):
        token = token[:TOKEN_BYTES_MAX].decode("ascii", "replace")
    if not token or len(token) < TAIL_SHOWN_FROM_CHARS:
        return ""
    return token[:TOKEN_BYTES_MAX][-4:]


def key_in_url(query_string: bytes) -> bool:
    """Say whether a query string carries a key, by a parameter's name or because one of ours stands in it.

    Addresses end up in histories, proxies' logs and Referer headers; paths of our own refuse a key there.
    """
    if not query_string:
        return False
    for part in query_string.split(b"&"):
        name = unquote_to_bytes(part.partition(b"=")[0].replace(b"+", b" "))
        if name.strip().lower() in _KEY_PARAMETERS:
            return True
    return _KEY_PATTERN.search(unquote_to_bytes(query_string)) is not None


def unauthorized() -> ProtocolError:
    """Build the 401: the same sentence for a missing, wrong, revoked or unreadable key. Goes with WWW_AUTHENTICATE."""
    return ProtocolError(
        "This needs a key that is valid here, as Authorization: Bearer lw_… or X-API-Key: lw_…",
        code="unauthorized",
        status=401,
    )


def forbidden(scope: str, needed: str) -> ProtocolError:
    """Build the 403 for a key that is valid, but not for this."""
    return ProtocolError(
        f"This key (scope {scope}) may not do this.",
        code="forbidden",
        status=403,
        details=(f"needs scope {needed}; leeward keys create --scope {needed}",),
    )


class Failures:
    """How often an address has failed to authenticate: after 20 times within a minute it is told to wait.

    For keys it is asked only once one was found wrong. So a right key always passes, also from an address where another
    program keeps trying a wrong one; and a guess costs its sender time, while 190 bits are what keeps it from succeeding.
    IPv6 addresses count by their /64, which is what one customer gets.
    """

    __slots__ = ("_clock", "_seen", "addresses_max", "failures_max")

    def __init__(self, clock: Clock, *, failures_max: int = FAILURES_MAX, addresses_max: int = ADDRESSES_MAX) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[float, int]] = {}  # address → start of its minute, count; oldest minute first
        self.failures_max = failures_max
        self.addresses_max = addresses_max

    def __len__(self) -> int:
        return len(self._seen)

    def failed(self, address: str) -> None:
        """Count one failure; raise RateLimited when the address has had its share for this minute."""
        who = _network(address)
        started_s, count = self._this_minute(who)
        if who not in self._seen and len(self._seen) >= self.addresses_max:
            del self._seen[next(iter(self._seen))]
        self._seen[who] = (started_s, count + 1)

    def check(self, address: str) -> None:
        """Raise RateLimited when the address has had its share for this minute; count nothing.

        For a guess that costs more than memory to judge: asked before it is.
        """
        self._this_minute(_network(address))

    def _this_minute(self, who: str) -> tuple[float, int]:
        now_s = self._clock.monotonic_s()
        started_s, count = self._seen.get(who, (now_s, 0))
        if now_s - started_s >= FAILURES_WINDOW_S:
            del self._seen[who]
            return now_s, 0
        if count >= self.failures_max:
            raise RateLimited(
                "Too many requests with a wrong key came from this address.",
                retry_after_s=started_s + FAILURES_WINDOW_S - now_s,
            )
        return started_s, count


def _network(address: str) -> str:
    """Return what failures are counted by: the address, or the /64 of an IPv6 address."""
    if ":" not in address:
        return address[:ADDRESS_LENGTH_MAX]
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return address[:ADDRESS_LENGTH_MAX]
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(parsed) >> 64 << 64))


class Access:
    """The access check that every request passes whose route row is not public. Checked anew for each request."""

    __slots__ = ("failures", "keys")

    def __init__(self, keys: KeyRing, failures: Failures) -> None:
        self.keys = keys
        self.failures = failures

    def admit(self, headers: Headers, query_string: bytes, address: str, needed: str) -> Identity:
        """Return who asks on a path of our own, where the key stands in a header.

        Raises ProtocolError (401, 403) or RateLimited.
        """
        if key_in_url(query_string):
            raise ProtocolError(
                "A key does not belong in the address, where logs and histories keep it. Send it in a header, and "
                "replace this one: it may have been seen.",
                code="key_in_url",
                status=401,
            )
        return self.admit_token(bearer(headers), address, needed)

    def admit_token(self, token: bytes | str | None, address: str, needed: str) -> Identity:
        """Return who holds this token, wherever its wire carries it. Raises ProtocolError (401, 403) or RateLimited."""
        identity = self.keys.find(token or b"")
        if identity is None:
            self.failures.failed(address)
            raise unauthorized()
        if not allows(identity.scope, needed):
            raise forbidden(identity.scope, needed)
        return identity


def session_cookie(headers: Headers) -> str | None:
    """Return the value of the session's cookie, or None when there is none, or more than one."""
    found: str | None = None
    for name, value in headers:
        if name != b"cookie":
            continue
        for crumb in value.split(b";"):
            stripped = crumb.strip(b" \t")
            if stripped.startswith(_COOKIE_PREFIX):
                if found is not None:
                    return None
                found = stripped[len(_COOKIE_PREFIX) :].decode("latin-1")
    return found or None


def session_cookie_set(cookie: str, *, seconds: int, secure: bool) -> tuple[bytes, bytes]:
    """Build the header that gives a browser its session; `secure` on https."""
    attributes = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
    return b"set-cookie", f"{SESSION_COOKIE}={cookie}; {attributes}".encode("ascii")


def session_cookie_cleared(*, secure: bool) -> tuple[bytes, bytes]:
    """Build the header that takes it away again."""
    return session_cookie_set("", seconds=0, secure=secure)


def csrf_token(cookie: str) -> str:
    """Return what a form of this session must send back: bound to the cookie, and telling nothing about it."""
    return hmac.new(cookie.encode("utf-8", "surrogatepass"), _CSRF_PURPOSE, hashlib.sha256).hexdigest()


def csrf_matches(cookie: str, sent: str) -> bool:
    """Say whether a form came from a page of this very session."""
    return hmac.compare_digest(csrf_token(cookie).encode(), sent.encode("utf-8", "surrogatepass"))
