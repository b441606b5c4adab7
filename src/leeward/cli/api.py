"""Talks to a server over HTTP: one request a call, answers as values, refusals as errors with a cure.

Limits    an answer of at most 256 MiB; redirects are not followed; no proxy is used.
"""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from leeward.errors import BadCredentials, LeewardError, RateLimited, Refused, Unavailable
from leeward.resilience.retry import parse_retry_after
from leeward.version import VERSION

__all__ = ["Answer", "Api", "checked_address", "masked_key"]

TIMEOUT_S: Final = 30.0
ANSWER_BYTES_MAX: Final = 256 << 20
TAIL_SHOWN_FROM_CHARS: Final = 24
_NAME: Final = re.compile(r"[A-Za-z0-9.-]+", re.ASCII)
_HELD_AND_NEEDED: Final = re.compile(r"\(scope (\w+)\).*needs scope (\w+)", re.ASCII)


class Answer(NamedTuple):
    """What came back: status, headers, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            Refused: it is none; then it was not leeward who answered.
        """
        try:
            document = json.loads(self.body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise Refused("what answers there is not leeward", code="not_leeward", fix="leeward doctor")
        return document


class Api:
    """A server and a key for it. `key_origin` says where the key is from, for the sentence that refuses it.

    `spare` is a second key and its origin: it takes over when the server knows the first key, which may not do this.
    """

    def __init__(self, url: str, key: str = "", key_origin: str = "", spare: tuple[str, str] | None = None) -> None:
        parts = checked_address(url)
        self.url = url.rstrip("/")
        self.key_origin = key_origin
        self._key = key
        self._spare = spare
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._base = parts.path.rstrip("/")

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Answer:
        """Ask. Raises LeewardError with a cure for everything but 200."""
        return self._good("GET", path + ("?" + urllib.parse.urlencode(parameters) if parameters else ""))

    def post(self, path: str, document: Any) -> Answer:
        """Give a JSON document. Raises as `get`."""
        return self.post_bytes(path, json.dumps(document).encode())

    def post_bytes(self, path: str, body: bytes) -> Answer:
        """Give a JSON document that is bytes already. Raises as `get`."""
        return self._good("POST", path, body)

    def put(self, path: str, document: Any) -> Answer:
        """Put a JSON document in the place of what is there. Raises as `get`."""
        return self._good("PUT", path, json.dumps(document).encode())

    def patch(self, path: str, value: object) -> Answer:
        """Change, by JSON. Raises as `get`."""
        return self._good("PATCH", path, json.dumps(value).encode())

    def delete(self, path: str) -> Answer:
        """Take away. Raises as `get`."""
        return self._good("DELETE", path)

    def _good(self, method: str, path: str, body: bytes | None = None) -> Answer:
        answer = self.exchange(method, path, body)
        if answer.status == 403 and self._spare is not None:  # nothing was done: it may be asked again
            (self._key, self.key_origin), self._spare = self._spare, None
            answer = self.exchange(method, path, body)
        return self.checked(answer)

    def checked(self, answer: Answer) -> Answer:
        """The answer, if it is a 200; else what it says is raised."""
        if answer.status != 200:
            raise self._refusal(answer)
        return answer

    def exchange(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """One request and its answer, whatever its status. Raises Unavailable when there is no answer."""
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        headers = {"User-Agent": f"leeward-cli/{VERSION}", "Connection": "close"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, self._base + path, body, headers)
            response = connection.getresponse()
            data = response.read(ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._no_answer(error) from error
        finally:
            connection.close()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, data)

    def _no_answer(self, error: OSError | http.client.HTTPException) -> Unavailable:
        if isinstance(error, ConnectionRefusedError):
            reason = "nobody listens there"
        elif isinstance(error, TimeoutError):
            reason = f"nothing came within {TIMEOUT_S:.0f} s"
        elif isinstance(error, OSError):
            reason = (error.strerror or str(error)).lower()
        else:
            reason = "what answers there does not speak HTTP"
        return Unavailable(
            f"no answer from {self.url}: {reason}",
            code="server_unreachable",
            fix="leeward serve starts one, --host URL names another; leeward doctor looks further",
        )

    def _refusal(self, answer: Answer) -> LeewardError:
        """What the server said, in its own words, with the cure that this side knows."""
        document = answer.document()
        if "error" not in document:  # of a request without a valid event, the first verdict is the reason
            document = next(iter(document.get("results") or ({},)))
        code = str(document.get("code") or f"http_{answer.status}")
        message = str(document.get("error") or f"the server answered {answer.status}").rstrip(".")
        details = document.get("details") or ()
        more = "; ".join(map(str, details)) if isinstance(details, (list, tuple)) else str(details)
        if answer.status == 401:
            shown = f"the key {masked_key(self._key)}" if self._key else "a request without a key"
            return BadCredentials(
                f"{self.url} does not accept {shown}",
                code=code,
                where=self.key_origin,
                fix="leeward keys create --scope write makes one; give it with --key or LEEWARD_API_KEY",
            )
        if answer.status == 403:
            return BadCredentials(
                message, code=code, where=self.key_origin, fix=self._other_key(f"{message} {more}") or more
            )
        if answer.status in {429, 503}:
            kind = RateLimited if answer.status == 429 else Unavailable
            wait_s = parse_retry_after(answer.headers.get("retry-after"), time.time())
            return kind(message, code=code, retry_after_s=wait_s, fix=more or "try again in a moment")
        if answer.status >= 500:
            return Unavailable(message, code=code, fix="look at the server's log")
        return Refused(message, code=code, fix=more)

    def _other_key(self, refusal: str) -> str:
        """How to come by a key that may; nothing if the server does not say which one that is."""
        scopes = _HELD_AND_NEEDED.search(refusal)
        if scopes is None:
            return ""
        held, needed = scopes.groups()
        stopped = "with the server stopped: " if needed == "admin" else ""  # making a key needs an admin key itself
        return (
            f"{self.key_origin} holds {_a(held)} key: pass --key with {_a(needed)} key, "
            f"or: {stopped}leeward keys create --scope {needed}"
        )


def _a(scope: str) -> str:
    return f"an {scope}" if scope.startswith("a") else f"a {scope}"


def masked_key(key: str) -> str:
    """A key as it may be shown: its last four characters, of a short one nothing."""
    return "…" + key[-4:] if len(key) >= TAIL_SHOWN_FROM_CHARS else "…"


def checked_address(url: str) -> urllib.parse.SplitResult:
    """The address in its parts.

    Raises:
        LeewardError: it is none, or it holds a password, which would end in logs.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = usable and "@" not in parts.netloc and not parts.query and url.isprintable() and " " not in url
    except ValueError:
        usable = False
    if not usable:
        raise LeewardError(
            f"{url[:100]!r} is not a server's address",
            code="bad_address",
            where="--host or LEEWARD_HOST",
            fix=_with_scheme(url) or "it looks like http://127.0.0.1:5330 or https://telemetry.example.com",
        )
    return parts


def _with_scheme(url: str) -> str:
    """What was meant, if only the scheme is missing: "localhost" → http://localhost:5330."""
    name, colon, port = url.partition(":")
    if "//" in url or not _NAME.fullmatch(name) or (colon and not (port.isascii() and port.isdigit())):
        return ""
    local = name == "localhost" or name.startswith("127.")
    meant = f"http://{name}:{port or 5330}" if local else f"https://{url}"
    return f"it begins with http:// or https://: {meant}"
