"""HTTP in plain values: what a handler gets, what it gives back, and how a body is read within its limits."""

from __future__ import annotations

import asyncio
import urllib.parse
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from leeward.errors import LeewardError, ProtocolError, RateLimited, RetryableError, Unavailable
from leeward.server.unpack import unpack, unpacked_bytes_max

if TYPE_CHECKING:
    from leeward.server.access import Identity
    from leeward.server.routes import Wire

__all__ = [
    "BodyLimits",
    "ByteBudget",
    "ClientGone",
    "ErrorBody",
    "Lease",
    "Request",
    "Response",
    "error_response",
    "failure",
    "json_response",
    "read_body",
    "read_document",
    "read_packed",
    "unpack_body",
]

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
_Document = TypeVar("_Document")

_JSON: Final = (b"content-type", b"application/json")
_ENCODE: Final = msgspec.json.Encoder().encode

# Above this a body is decoded in a thread, so that the event loop keeps answering.
LOOP_BYTES_MAX: Final = 256 * 1024
# Above this a packed body is unpacked in a thread: by the ratio's limit it may become 200 times as large.
LOOP_PACKED_BYTES_MAX: Final = 16 * 1024
ROOM_WAIT_S: Final = 2.0  # that a large request waits for others to end
SMALL_BYTES: Final = 1 << 20  # up to here a request need not wait behind large ones


class BodyLimits(msgspec.Struct, frozen=True):
    """What a request's body may be: bytes as sent, bytes unpacked, and seconds until it is all there."""

    packed_bytes_max: int = 20 << 20
    unpacked_bytes_max: int = 20 << 20
    timeout_s: float = 30.0


_SMALL_BODY: Final = BodyLimits(packed_bytes_max=16 * 1024, unpacked_bytes_max=16 * 1024, timeout_s=10.0)


class ByteBudget:
    """Bytes that all running requests together may hold. Belongs to the event loop."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def lease(self) -> Lease:
        """Begin to hold bytes; leaving the lease's context gives them back."""
        return Lease(self)

    def take(self, count: int) -> bool:
        """Hold *count* bytes more, if there is room."""
        if self.held + count > self.bytes_max:
            return False
        self.held += count
        return True

    async def wait_for(self, count: int) -> None:
        """Hold *count* bytes more, when there is room; of large requests, those who asked before go before.

        Raises:
            TimeoutError: there was none for `ROOM_WAIT_S`.
        """
        if (not self._waiting or count <= SMALL_BYTES) and self.take(count):
            return
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (count, room)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(ROOM_WAIT_S):
                await room
        except BaseException:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self.give_back(0)  # the next one may be smaller
            elif not room.cancelled():
                self.give_back(count)
            raise

    def give_back(self, count: int) -> None:
        """Hold *count* bytes less."""
        self.held -= count
        while self._waiting and self.held + self._waiting[0][0] <= self.bytes_max:
            wanted, room = self._waiting.popleft()
            if not room.done():  # else it has been cancelled
                self.held += wanted
                room.set_result(None)


class Lease:
    """What one request holds of the budget."""

    __slots__ = ("_at_exit", "_budget", "_held")

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self._held = 0
        self._at_exit: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._budget.give_back(self._held)
        self._held = 0
        if self._at_exit is not None:
            self._at_exit()
            self._at_exit = None

    def at_exit(self, ended: Callable[[], None]) -> None:
        """Call this, too, when the lease ends. One such call."""
        assert self._at_exit is None
        self._at_exit = ended

    def grow(self, count: int) -> None:
        """Hold *count* bytes more.

        Raises:
            RateLimited: the budget is used up.
        """
        if not self._budget.take(count):
            raise _too_much()
        self._held += count

    async def reserve(self, count: int) -> None:
        """Hold *count* bytes more before they are there; wait a while for room. No more than all that there is.

        Raises:
            RateLimited: there was no room.
        """
        count = min(count, self._budget.bytes_max - self._held)
        try:
            await self._budget.wait_for(count)
        except TimeoutError:
            raise _too_much() from None
        self._held += count

    def shrink(self, count: int) -> None:
        """Hold *count* bytes less: so many of what was reserved were not needed."""
        count = min(count, self._held)
        self._held -= count
        self._budget.give_back(count)


def _too_much() -> RateLimited:
    return RateLimited("Too much is being sent at once", retry_after_s=1)


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """The native form of every refusal: a sentence for a person, a stable tag for programs."""

    error: str
    code: str
    details: list[str] = []


class Request:
    """One request, as its handler sees it."""

    __slots__ = (
        "_first",
        "identity",
        "key_tail",
        "method",
        "path",
        "path_parameter",
        "query_string",
        "receive",
        "request_id",
        "route_path",
        "scope",
        "send",
        "wire",
    )

    def __init__(self, scope: Scope, receive: Receive, request_id: str, send: Send | None = None) -> None:
        self.scope = scope
        self._first: dict[bytes, bytes] | None = None
        self.receive = receive
        self.send: Send = send or _nowhere  # for an answer that is pushed; see `Response.sent`
        self.request_id = request_id
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.path_parameter = ""  # what stood in the place of `{id}`
        self.query_string: bytes = scope["query_string"]
        self.identity: Identity | None = None  # who asks, as the access check found out; nobody on public routes
        self.key_tail = ""  # the end of the key that was shown, right or wrong: for those who look after refusals
        self.wire: Wire = "native"  # in which protocol, as the route's row says
        self.route_path = ""  # the row's path: unlike `path` it holds nothing of the caller's

    @property
    def headers(self) -> Headers:
        """Names in lower case, in the order they came."""
        headers: Headers = self.scope["headers"]
        return headers

    def header(self, name: bytes) -> bytes:
        """The header's value, or `b""`. *name* in lower case."""
        found = self._first
        if found is None:
            found = self._first = dict(reversed(self.scope["headers"]))  # of several the first is what counts
        return found.get(name, b"")

    @property
    def project(self) -> int:
        """The number of the key's project. Not for public routes."""
        assert self.identity is not None
        return self.identity.project

    @property
    def client_address(self) -> str:
        """The peer's address, for limits and logs."""
        client = self.scope.get("client")
        return str(client[0]) if client else ""

    def query(self) -> dict[str, str]:
        """The query string's parameters.

        Raises:
            ProtocolError: 400 `invalid_query` for a parameter given twice or a string that is no query string.
        """
        if not self.query_string:
            return {}
        try:
            pairs = urllib.parse.parse_qsl(
                self.query_string.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"
            )
        except (ValueError, UnicodeError):
            raise ProtocolError("The query string cannot be read", code="invalid_query") from None
        parameters = dict(pairs)
        if len(parameters) != len(pairs):
            raise ProtocolError("A query parameter is given twice", code="invalid_query")
        return parameters


class Response:
    """What a handler answers. `sent`: it has pushed the answer out by itself, and only the status is of interest."""

    __slots__ = ("body", "headers", "sent", "status")

    def __init__(self, status: int, body: bytes = b"", headers: Headers | None = None, *, sent: bool = False) -> None:
        self.status = status
        self.body = body
        self.headers = headers if headers is not None else []
        self.sent = sent


async def _nowhere(message: MutableMapping[str, Any]) -> None:  # noqa: ARG001 - as every `send`
    raise AssertionError("this request has nowhere to push an answer to")


def json_response(value: Any, status: int = 200, headers: Headers | None = None) -> Response:
    """Answer *value* as JSON."""
    return Response(status, _ENCODE(value), [_JSON, *(headers or [])])


def error_response(error: LeewardError) -> Response:
    """The native answer that an error deserves. One that was not made for a caller says nothing of itself."""
    headers: Headers = []
    details: list[str] = []
    if isinstance(error, ProtocolError):
        status = error.status
        details = list(error.details)
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        elif status == 405:
            headers.append((b"allow", ", ".join(details).encode()))
    elif isinstance(error, RetryableError):
        status = 429 if isinstance(error, RateLimited) else 503
        headers.append((b"retry-after", b"%d" % max(1, round(error.retry_after_s or 1))))
    else:
        return error_response(failure())
    if error.fix:
        details.append(error.fix)
    return json_response(ErrorBody(error.message, error.code, details), status, headers)


def failure() -> Unavailable:
    """What a caller is told of a request that failed in here: why is for the log."""
    return Unavailable("The server could not answer this request", retry_after_s=1)


async def read_body(request: Request, limits: BodyLimits, lease: Lease) -> bytes:
    """Read and unpack the whole body, counted against the budget of all running requests.

    Raises:
        ProtocolError: 413 `payload_too_large`, 415 `unsupported_encoding`, 400 `invalid_json` for a body that is not
            what its encoding says, 408 `timeout` for one that does not come.
        RateLimited: all running requests together hold too much.
        ClientGone: the client has left.
    """
    packed = await read_packed(request, limits, lease)
    return await unpack_body(packed, request.header(b"content-encoding"), limits, lease)


async def read_packed(request: Request, limits: BodyLimits, lease: Lease) -> bytes:
    """Read the whole body as it comes; raises as `read_body` does, but for its encoding."""
    is_packed = bool(request.header(b"content-encoding"))
    bytes_max = limits.packed_bytes_max if is_packed else max(limits.packed_bytes_max, limits.unpacked_bytes_max)
    declared = request.header(b"content-length")
    if declared.isdigit() and int(declared[:20]) > bytes_max:
        raise too_large(bytes_max)
    connection = request.scope.get("leeward.connection")
    if connection is not None and connection.body_is_here():
        return await _receive(request.receive, bytes_max, lease)  # there is nothing to wait for
    try:
        async with asyncio.timeout(limits.timeout_s):
            return await _receive(request.receive, bytes_max, lease)
    except TimeoutError:
        raise ProtocolError("The body did not arrive in time", code="timeout", status=408) from None


async def unpack_body(packed: bytes, encoding: bytes, limits: BodyLimits, lease: Lease) -> bytes:
    """Undo a content encoding; none at all if *encoding* is empty. Raises as `read_body` does for it."""
    if not encoding:
        if len(packed) > limits.unpacked_bytes_max:
            raise too_large(limits.unpacked_bytes_max)
        return packed
    if len(packed) <= LOOP_PACKED_BYTES_MAX:
        body = unpack(packed, encoding, limits.unpacked_bytes_max)
        lease.grow(len(body))
        return body
    # What it becomes is not known before: several at once that turn out to be bombs must not fill the memory.
    room = unpacked_bytes_max(len(packed), limits.unpacked_bytes_max)
    await lease.reserve(room)
    body = await asyncio.to_thread(unpack, packed, encoding, limits.unpacked_bytes_max)
    lease.shrink(room - len(body))
    return body


async def read_document(request: Request, wanted: type[_Document], budget: ByteBudget) -> _Document:
    """Read a small JSON document of our own interface.

    Raises:
        ProtocolError: 400 `invalid_field` or `invalid_json`, and as `read_body`.
    """
    with budget.lease() as lease:
        body = await read_body(request, _SMALL_BODY, lease)
    try:
        return msgspec.json.decode(body, type=wanted)
    except msgspec.ValidationError as error:
        raise ProtocolError(f"Invalid request: {error}", code="invalid_field") from None
    except (msgspec.DecodeError, RecursionError):
        raise ProtocolError("Invalid JSON", code="invalid_json") from None


def too_large(bytes_max: int) -> ProtocolError:
    """The refusal of a body over its limit."""
    return ProtocolError(f"The body is larger than {bytes_max} bytes", code="payload_too_large", status=413)


class ClientGone(Exception):
    """The client closed the connection before its request was whole: there is nobody to answer."""


async def _receive(receive: Receive, bytes_max: int, lease: Lease) -> bytes:
    message = await receive()
    body: bytes = message.get("body", b"")
    lease.grow(len(body))
    parts = [body]
    size = len(body)
    while message.get("more_body") and size <= bytes_max:
        message = await receive()
        part: bytes = message.get("body", b"")
        lease.grow(len(part))
        parts.append(part)
        size += len(part)
    if message["type"] == "http.disconnect":
        raise ClientGone
    if size > bytes_max:
        raise too_large(bytes_max)
    return body if len(parts) == 1 else b"".join(parts)
