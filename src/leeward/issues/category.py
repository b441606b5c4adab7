"""An error → whose fault it is, in one word: network, authentication, provider, mcp, channel, other. Pure.

What is asked, in this order; the first answer counts:

1. the status: 401, 403 and 407 are authentication, whoever sends them, for the remedy is the same: another key.
2. the error's type, which says what happened. `mcp` first: behind an MCP server's error stands a process or a server
   of the user's own, so its closed connection is no fault of the network. Then authentication, then network: a
   provider's or a channel's library tells of both, and neither is the provider's fault. An error with a status has
   been answered, so the network has worked. Then what only the API of a provider or a channel says: a rate limit.
3. the message, for mcp, authentication, network: a type like `Error` or `APIStatusError` says nothing of them.
4. the library that the type or module comes from, and the provider's name. Channels before providers, as their names
   are their own, while any service may be called a provider: Slack's status 429 is the channel's.
5. the message, for channel and provider.

Limits    The first 1,000 characters of a message. A message is a person's text: its words count only where they can
          hardly mean anything else. What the rules give is kept with the event; `CATEGORY_VERSION` tells the rules.
"""

from __future__ import annotations

import itertools
import re
from functools import lru_cache
from typing import Final

__all__ = ["CATEGORIES", "CATEGORY_VERSION", "category"]

CATEGORY_VERSION: Final = 1
CATEGORIES: Final = ("network", "authentication", "provider", "mcp", "channel", "other")
MESSAGE_CHARS_MAX: Final = 1_000
NAMES_REMEMBERED_MAX: Final = 4_096
MESSAGES_REMEMBERED_MAX: Final = 1_024

_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", re.ASCII)
_STATUS_IN_MESSAGE: Final = re.compile(
    r"\b(?:error code|status ?code|status|http(?: error)?)[:= ]{1,3}([45][0-9]{2})\b|^([45][0-9]{2}) ", re.ASCII
)
_AUTHENTICATION_STATUS: Final = frozenset((401, 403, 407))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Of an error's type and module, by whole words: `APIConnectionError` is api, connection, error.
_MCP: Final = _words("mcp fastmcp modelcontextprotocol")
_AUTHENTICATION: Final = _words(
    "authentication authorization auth oauth unauthorized unauthorised unauthenticated forbidden credential credentials"
)
_NETWORK: Final = _words(
    "connect connection connector timeout dns ssl tls certificate socket network proxy unreachable handshake "
    "disconnected disconnect gaierror herror econnrefused econnreset econnaborted etimedout enotfound ehostunreach"
)
_FAULT: Final = _words("overloaded throttling throttled")
# Two words in a row.
_AUTHENTICATION_PAIRS: Final = _words(
    "permission-denied access-denied expired-token invalid-token token-expired api-key login-failed"
)
_NETWORK_PAIRS: Final = _words(
    "timed-out broken-pipe unknown-host read-error write-error url-error remote-protocol incomplete-read max-retry "
    "name-resolution deadline-exceeded"
)
_FAULT_PAIRS: Final = _words(
    "rate-limit ratelimit-error api-status resource-exhausted insufficient-quota quota-exceeded content-filter "
    "content-policy context-length context-window"
)
# Libraries and services, by how a word begins.
_CHANNELS: Final = (
    *("slack", "telegram", "discord", "whats", "msteams", "smtp", "aiosmtp", "sendgrid", "mailgun", "postmark"),
    *("twilio", "vonage", "webhook", "mattermost"),
)
_CHANNELS_BY_NAME: Final = _words("teams email mail sms slack signal matrix")  # of what the sender calls a provider
_PROVIDERS: Final = (
    *("openai", "anthropic", "cohere", "mistral", "groq", "litellm", "ollama", "replicate", "together", "huggingface"),
    *("vertexai", "genai", "generativeai", "gemini", "bedrock", "deepseek", "fireworks", "perplexity", "openrouter"),
)

# In a message, in lower case.
_MCP_SAID: Final = ("mcp error", "mcp server")
_AUTHENTICATION_SAID: Final = (
    *(
        "api key",
        "api_key",
        "api-key",
        "unauthorized",
        "unauthenticated",
        "authentication",
        "forbidden",
        "invalid_auth",
    ),
    *("not authorized", "access denied", "credentials", "permission_denied", "invalid_grant", "token has expired"),
)
_NETWORK_SAID: Final = (
    *("econn", "etimedout", "enotfound", "eai_again", "unreach", "getaddrinfo", "name resolution"),
    *("name or service not known", "no such host", "no route to host", "fetch failed", "failed to fetch"),
    *("network error", "socket hang up", "broken pipe", "certificate", "handshake", "x509", "net::err", "dial tcp"),
    *("server disconnected", "i/o timeout"),
)
_WAITED: Final = ("timed out", "timeout")
_WAITED_FOR: Final = ("connect", "request", "read", "socket", "http", "response", "gateway")
_CHANNEL_SAID: Final = ("slack", "telegram", "discord", "whatsapp", "smtp", "webhook")
_FAULT_SAID: Final = ("rate limit", "rate_limit", "overloaded", "insufficient_quota", "exceeded your current quota",
                      "context length", "context_length", "model_not_found")  # fmt: skip
_CONNECTED: Final = (
    *("connection refused", "connection reset", "connection aborted", "connection closed", "connection error"),
    *("connection timed out", "connection lost", "connection failed", "connection was", "to connect", "not connect"),
)


def category(error_type: str, message: str, *, status: str = "", provider: str = "", module: str = "") -> str:
    """The category of an error; never empty.

    Args:
        error_type: the class, with or without its module.
        message: what it says.
        status: of the answer, if there was one.
        provider: whom the sender called, if that is known.
        module: of the class, if it is known apart.
    """
    code = int(status) if len(status) == 3 and status.isascii() and status.isdigit() else 0
    if code in _AUTHENTICATION_STATUS:
        return "authentication"
    kind, source = _of_names(error_type, module, provider)
    if kind == "fault":
        return source or "provider"
    if kind and not (kind == "network" and code >= 400):
        return kind
    said, mentioned = _of_message(message[:MESSAGE_CHARS_MAX], code)
    if said:
        return said
    if source == "channel" or mentioned == "channel":
        return "channel"
    return "provider" if source or mentioned or (provider and code >= 400) else "other"


@lru_cache(NAMES_REMEMBERED_MAX)
def _of_names(error_type: str, module: str, provider: str) -> tuple[str, str]:
    """What the names say: the kind of error (a category, `fault` of an API, or nothing), and from whose library."""
    listed = [word.lower() for word in _WORD.findall(error_type)]
    words = frozenset(listed)
    pairs = frozenset(map("-".join, itertools.pairwise(listed)))
    places = words.union(word.lower() for word in _WORD.findall(f"{module} {provider}"))
    called = frozenset(word.lower() for word in _WORD.findall(provider))
    if _MCP & places:
        kind = "mcp"
    elif _AUTHENTICATION & words or _AUTHENTICATION_PAIRS & pairs:
        kind = "authentication"
    elif _NETWORK & words or _NETWORK_PAIRS & pairs:
        kind = "network"
    else:
        kind = "fault" if _FAULT & words or _FAULT_PAIRS & pairs else ""
    if _CHANNELS_BY_NAME & called or any(place.startswith(_CHANNELS) for place in places):
        return kind, "channel"
    return kind, "provider" if any(place.startswith(_PROVIDERS) for place in places) else ""


@lru_cache(MESSAGES_REMEMBERED_MAX)
def _of_message(message: str, code: int) -> tuple[str, str]:
    """What a message says of mcp, authentication and network, and whether it mentions a channel or a provider's fault.

    Errors come in floods of the same, so the last messages are remembered.
    """
    low = message.lower()
    mentioned = "channel" if _holds(low, _CHANNEL_SAID) else "provider" if _holds(low, _FAULT_SAID) else ""
    if _holds(low, _MCP_SAID):
        return "mcp", mentioned
    if not code and ("4" in low or "5" in low):
        found = _STATUS_IN_MESSAGE.search(low)
        code = int(found[1] or found[2]) if found else 0
    if code in _AUTHENTICATION_STATUS or _holds(low, _AUTHENTICATION_SAID):
        return "authentication", mentioned
    is_network = code < 400 and (
        ("connect" in low and _holds(low, _CONNECTED))
        or ("time" in low and _holds(low, _WAITED) and _holds(low, _WAITED_FOR))
        or _holds(low, _NETWORK_SAID)
    )
    return ("network" if is_network else ""), mentioned


def _holds(low: str, phrases: tuple[str, ...]) -> bool:
    for phrase in phrases:  # noqa: SIM110 - any() with a generator takes twice as long
        if phrase in low:
            return True
    return False
