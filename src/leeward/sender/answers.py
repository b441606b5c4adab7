"""An HTTP/1.1 answer, from bytes to a `Reply`. No socket here: bytes are fed in, in whatever pieces they come.

Promises  any bytes are taken without an exception, and the same bytes in other pieces give the same reply. At most
          `ANSWER_BYTES_MAX` are looked at, head and body together. What has two readings has none: repeated or
          contradicting lengths, folded headers, bare line feeds, control characters are "not_http".
An answer other than 2xx counts by its head alone: a proxy that refuses a body may break off in the middle of its page,
and the status is what matters. A 2xx must be whole, since it may be an acknowledgement.
Redirects are statuses like others. An encoded body is handed on as it came: we ask for `identity`.
Written for this (http.client brings the e-mail parser: 30 ms of imports, and no limit on the whole).
"""

from __future__ import annotations

from leeward.resilience.retry import parse_retry_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

__all__ = ["ANSWER_BYTES_MAX", "AnswerParser", "Reply"]

ANSWER_BYTES_MAX: Final = 64 * 1024
LENGTH_DIGITS_MAX: Final = 18

NOT_HTTP: Final = "not_http"
TOO_LONG: Final = "too_long"
RESET: Final = "reset"

_TEXT: Final = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])  # what a line may hold
_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEX: Final = b"0123456789abcdefABCDEF"
_VERSION: Final = b"HTTP/1."
_FRAMING: Final = frozenset({"content-length", "transfer-encoding"})
_READ: Final = _FRAMING | {"connection", "content-type", "retry-after"}  # other headers are checked and forgotten

# States of the parser. Those above HEADERS have the final head behind them.
_STATUS: Final = 0
_HEADERS: Final = 1
_FIXED: Final = 2
_CHUNK_SIZE: Final = 3
_CHUNK: Final = 4
_CHUNK_END: Final = 5
_TRAILERS: Final = 6
_UNTIL_CLOSE: Final = 7


class Reply:
    """What came back; a value. `status` is 0 when nothing usable came: then `cause` says why, else it is empty.

    Causes: dns, refused, timeout, reset, network, proxy, not_http, too_long, tls, tls_expired, tls_host_name,
    tls_self_signed, tls_untrusted. No cause holds a key, a name or an address.
    """

    __slots__ = ("body", "cause", "content_type", "retry_after_s", "status")

    def __init__(
        self,
        status: int,
        cause: str = "",
        content_type: str = "",
        body: bytes = b"",
        retry_after_s: float | None = None,
    ) -> None:
        self.status = status
        self.cause = cause
        self.content_type = content_type
        self.body = body
        self.retry_after_s = retry_after_s


class AnswerParser:
    """Feed it until it is `done`. Then either `problem` says what is wrong, or the answer is there.

    `keep`: another request may follow on the same connection. With `tunnel`, the answer is a proxy's to CONNECT:
    a 2xx has no body then.
    """

    __slots__ = ("_body", "_buffer", "_fields", "_http11", "_left", "_scanned", "_seen", "_state", "_tunnel", "done",
                 "keep", "problem", "status")  # fmt: skip

    def __init__(self, *, tunnel: bool = False) -> None:
        self.done = False
        self.keep = False
        self.problem = ""
        self.status = 0
        self._tunnel = tunnel
        self._state = _STATUS
        self._http11 = False
        self._fields: dict[str, str] = {}
        self._buffer = bytearray()  # what no state has consumed yet
        self._scanned = 0  # so much of the buffer has no line end
        self._seen = 0
        self._left = 0  # of a body or chunk with a length
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes; those behind the end of the answer only make the connection useless."""
        room = max(0, ANSWER_BYTES_MAX - self._seen)
        self._seen += len(data)
        self._buffer += data[:room]
        try:
            while not self.done and self._step():
                pass
        except ValueError:
            self._fail(NOT_HTTP)
        if self.done:
            self.keep = self.keep and not self._buffer and len(data) <= room
        elif len(data) > room:
            self.cut(TOO_LONG)

    def end(self) -> None:
        """The other side closed."""
        if self._state == _UNTIL_CLOSE and not self.done:
            self._finish(keep=False)
        else:
            self.cut(RESET)

    def cut(self, cause: str) -> None:
        """Nothing more will come, because of `cause`."""
        if self.done:
            return
        if self._state > _HEADERS and self.status >= 300:
            self._finish(keep=False)
        else:
            self._fail(cause)

    def reply(self, now_s: float) -> Reply:
        """The answer; `now_s` is wall time, for a Retry-After that is a date."""
        if self.problem:
            return Reply(0, self.problem)
        wait_s = parse_retry_after(self._fields.get("retry-after"), now_s) if self.status >= 400 else None
        return Reply(self.status, "", self._fields.get("content-type", ""), bytes(self._body), wait_s)

    def _step(self) -> bool:
        """Go on by one line or piece; false when more bytes are needed."""
        state = self._state
        if state in {_FIXED, _CHUNK, _UNTIL_CLOSE}:
            return self._take_body()
        line = self._line()
        if line is None:
            if state == _STATUS and self._buffer[: len(_VERSION)] != _VERSION[: len(self._buffer)]:
                raise ValueError("another protocol")  # said before its line ends: it may never end
            return False
        if state == _STATUS:
            self._begin(line)
        elif state == _HEADERS:
            if line:
                self._header(line)
            else:
                self._head_ended()
        elif state == _CHUNK_SIZE:
            self._chunk(line)
        elif state == _CHUNK_END:
            if line:
                raise ValueError("a chunk is longer than it says")
            self._state = _CHUNK_SIZE
        elif line:
            _field(line)
        else:
            self._finish(keep=self.keep)
        return True

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._buffer)
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._scanned = 0
        if not line.endswith(b"\r") or line[:-1].translate(None, _TEXT):
            raise ValueError("no line of HTTP")
        return line[:-1]

    def _begin(self, line: bytes) -> None:
        """`HTTP/1.1 200 OK`; the words behind the number may be missing."""
        version, _, rest = line.partition(b" ")
        code, _, _ = rest.partition(b" ")
        if version not in {b"HTTP/1.1", b"HTTP/1.0"} or len(code) != 3 or not code.isdigit():
            raise ValueError("no status line")
        self.status = int(code)
        if not 100 <= self.status <= 599 or self.status == 101:  # nobody asked to switch protocols
            raise ValueError("no status of HTTP")
        self._http11 = version == b"HTTP/1.1"
        self._fields = {}
        self._state = _HEADERS

    def _header(self, line: bytes) -> None:
        name, value = _field(line)
        if name not in _READ:
            return
        if name not in self._fields:
            self._fields[name] = value
        elif name in _FRAMING:
            raise ValueError("the length is said twice")
        elif name == "connection":
            self._fields[name] += "," + value

    def _head_ended(self) -> None:
        if self.status < 200:
            self._state = _STATUS  # an interim answer; the real one follows
            return
        self._state = _FIXED
        length, coding = (self._fields.get(name) for name in ("content-length", "transfer-encoding"))
        options = {word.strip().lower() for word in self._fields.get("connection", "").split(",")}
        self.keep = self._http11 and "close" not in options
        if self._tunnel and self.status < 300:
            self._finish(keep=True)  # whatever it says of connections and lengths: from here on it only passes bytes
        elif self.status in {204, 304}:
            self._finish(keep=self.keep)
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None or not self._http11:
                raise ValueError("a length with two readings")
            self._state = _CHUNK_SIZE
        elif length is not None:
            if not (length.isascii() and length.isdigit()):
                raise ValueError("no length")
            self._expect(int(length) if len(length) <= LENGTH_DIGITS_MAX else ANSWER_BYTES_MAX + 1)
        else:
            self.keep = False
            self._state = _UNTIL_CLOSE

    def _expect(self, length: int) -> None:
        """A body of so many bytes."""
        self._left = length
        if length > ANSWER_BYTES_MAX:
            self.cut(TOO_LONG)
        elif not length:
            self._finish(keep=self.keep)

    def _chunk(self, line: bytes) -> None:
        size = line.partition(b";")[0].rstrip(b" \t")
        if not size or size.translate(None, _HEX):
            raise ValueError("no chunk")
        self._left = int(size, 16)
        if self._left > ANSWER_BYTES_MAX:
            self.cut(TOO_LONG)
        else:
            self._state = _CHUNK if self._left else _TRAILERS

    def _take_body(self) -> bool:
        if self._state == _UNTIL_CLOSE:
            self._body += self._buffer
            self._buffer.clear()
            return False
        piece = self._buffer[: self._left]
        del self._buffer[: len(piece)]
        self._body += piece
        self._left -= len(piece)
        if self._left:
            return False
        if self._state == _FIXED:
            self._finish(keep=self.keep)
        else:
            self._state = _CHUNK_END
        return True

    def _finish(self, *, keep: bool) -> None:
        self.keep = keep
        self.done = True

    def _fail(self, problem: str) -> None:
        self.problem = problem
        self._finish(keep=False)


def _field(line: bytes) -> tuple[str, str]:
    """`Name: value`; the name in lower case. A folded line begins with a space, which no name has."""
    name, colon, value = line.partition(b":")
    if not colon or not name or name.translate(None, _TOKEN):
        raise ValueError("no header")
    return name.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
