"""Which names say that what stands under them is a secret.

A name is taken as whole words, split at signs and at camelCase: `X-Api-Key`, `dbPassword`, `client_secrets`. One secret
word makes a secret name, but for names that only sound so: `session_id`, `max_tokens`, `token_count`, `public_key`.
Answers are remembered, so that a name is taken apart once.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = [
    "SECRET_WORDS",
    "STEMS",
    "is_known",
    "is_secret_name",
    "plain_names",
    "remember_plain",
    "secret_words",
    "words_set",
]

REMEMBERED_MAX: Final = 4_096  # names; then it starts anew
REMEMBERED_CHARS_MAX: Final = 64


def words_set(words: str) -> frozenset[str]:
    """The words of a text as a set."""
    return frozenset(words.split())


SECRET_WORDS: Final = words_set(
    "auth authorization token secret secrets password passwords passwd passwds passcode passphrase passphrases pwd key "
    "keys jwt jwts bearer sso saml csrf xsrf cookie cookies credential credentials session sessions private apikey "
    "apikeys accesskey authkey encryptionkey privatekey secretkey sessionkey signingkey"
)
# Of words that were written as one: `dbpassword`, `clientsecret`.
_SECRET_ENDINGS: Final = tuple(words_set("password passwords passwd secret secrets apikey apikeys token"))
# What the last word of a name says about a secret without being one.
_HARMLESS_LAST: Final = words_set("tokens count counts type method provider status length limit usage expires at")
_HARMLESS_KEYS: Final = words_set(
    "public primary foreign partition sort routing idempotency dedup group flag cache message"
)
_HARMLESS_NAMES: Final = (
    ("session", "id"),
    ("session", "ids"),
    ("previous", "id"),
    ("distinct", "id"),
    ("fingerprint",),
)
# What a session began with is not the session: only the words behind the first one are asked.
_HARMLESS_STARTS: Final = (("session", "entry"), ("session", "recording"))
# One of these is part of every secret name, in lower case.
STEMS: Final = tuple(
    sorted(words_set("key token secret pass auth pwd cookie session credential bearer private jwt srf saml sso sig"))
)

plain_names: Final[set[str]] = set()  # names that are neither secret nor hold a secret; at most `REMEMBERED_MAX`
_words_of_names: Final[dict[str, tuple[str, ...]]] = {}


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret."""
    return bool(secret_words(name))


def is_known(name: str) -> bool:
    """Whether the answer for this name is remembered, so that it costs next to nothing."""
    return name in _words_of_names


def secret_words(name: str) -> tuple[str, ...]:
    """The words of a secret name; nothing for any other."""
    words = _words_of_names.get(name)
    if words is None:
        low = name.lower()
        words = ()
        if any(stem in low for stem in STEMS):
            from leeward.scrub.patterns import WORD  # noqa: PLC0415 - 5 ms: not for a program that captures nothing

            found = tuple(word.lower() for word in WORD.findall(name))
            words = found if _is_secret(found) else ()
        if len(name) <= REMEMBERED_CHARS_MAX:
            if len(_words_of_names) >= REMEMBERED_MAX:
                _words_of_names.clear()
            _words_of_names[name] = words
    return words


def _is_secret(words: tuple[str, ...]) -> bool:
    if not words or words[-1] in _HARMLESS_LAST or words[-2:] in _HARMLESS_NAMES or words[-1:] in _HARMLESS_NAMES:
        return False
    if words[:2] in _HARMLESS_STARTS:
        return _is_secret(words[1:])
    if words[-1] == "key" and len(words) > 1 and words[-2] in _HARMLESS_KEYS:
        return False
    if words[-1] == "pass" and len(words) > 1:
        return True
    return any(word in SECRET_WORDS or word.endswith(_SECRET_ENDINGS) for word in words)


def remember_plain(*names: str) -> None:
    """The caller has seen that the names are neither secret nor hold a secret."""
    if len(plain_names) + len(names) > REMEMBERED_MAX:
        plain_names.clear()
    plain_names.update(names)
