"""How PostHog's SDKs wrap JSON: peeled off layer by layer, by what the bytes are and not by what the headers say.

A browser SDK sends gzip without saying so, form fields, base64 and lz-string; an old one says gzip and sends JSON. So
each layer is known by its own first bytes, and a header or parameter counts only where the bytes cannot tell.

Promises  sans I/O: what must be unpacked within limits is named to the caller, who does it. Only ProtocolError is raised.
Limits    `LAYERS_MAX` layers; `FORM_BYTES_MAX` bytes of a form, which PostHog's own server would not take either.
"""

from __future__ import annotations

import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from leeward.errors import ProtocolError

__all__ = ["LZ64", "Payload", "form_field"]

LAYERS_MAX: Final = 5
FORM_BYTES_MAX: Final = 4 << 20
LZ64: Final = b"lz64"

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_BLANK: Final = b" \t\r\n"
_JSON_START: Final = re.compile(rb"[ \t\r\n]*+[{\[]")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/]++={0,2}")
# These name no layer, or one that its bytes tell.
_SELF_EVIDENT: Final = frozenset({b"", b"identity", b"gzip", b"x-gzip", b"gzip-js", b"base64", b"zstd"})
_LZ_NAMES: Final = frozenset({b"lz64", b"lz-string", b"lzstring", b"lz-str"})
_FORM: Final = b"application/x-www-form-urlencoded"
_UNQUOTE_BYTES: Final = 1 << 16


class Payload:
    """The layers around one request's JSON. `data` is what is left of them: its caller unpacks it when `peel` says so.

    ::

        while encoding := payload.peel():
            payload.data = unpack(payload.data, encoding)
    """

    __slots__ = ("_content_encoding", "_form", "_layers", "_lz", "data")

    def __init__(
        self, body: bytes, *, query_string: bytes = b"", content_type: bytes = b"", content_encoding: bytes = b""
    ) -> None:
        compression = form_field(query_string, b"compression").strip().lower()
        encoding = content_encoding.strip().lower()
        self.data = form_field(query_string, b"data") or body
        self._form = content_type.partition(b";")[0].strip().lower() == _FORM
        self._lz = compression in _LZ_NAMES or encoding in _LZ_NAMES
        self._content_encoding = b"" if encoding in _SELF_EVIDENT | _LZ_NAMES else encoding
        self._layers = 0
        if not self.data:
            raise ProtocolError("The request has no events: its body is empty", code="empty_batch")

    def peel(self) -> bytes:
        """Take layers off until the data is JSON, which gives `b""`, or must be unpacked, which gives the encoding.

        Raises:
            ProtocolError: 400 `invalid_json`, 413 `payload_too_large`.
        """
        while True:
            self._layers += 1
            if self._layers > LAYERS_MAX:
                raise _unreadable("it is packed too many times")
            encoding = self._encoding()
            if encoding is not None:
                return encoding
            self.data = self._unwrapped()

    def _encoding(self) -> bytes | None:
        """The encoding that the data is in, `b""` if it is JSON, None if a form or base64 is around it."""
        if self.data.startswith(_GZIP):
            return b"gzip"
        if self.data.startswith(_ZSTD):
            return b"zstd"
        self.data = self.data.removeprefix(_BYTE_ORDER_MARK)
        if _JSON_START.match(self.data):
            return b""
        encoding, self._content_encoding = self._content_encoding, b""
        if encoding:
            return encoding
        if self._lz and not self._is_form():
            self._lz = False
            return LZ64
        return None

    def _is_form(self) -> bool:
        return self._form or self.data.startswith((b"data=", b"compression="))

    def _unwrapped(self) -> bytes:
        if self._is_form():
            self._form = False  # what is inside is no form again
            if len(self.data) > FORM_BYTES_MAX:
                raise ProtocolError(
                    f"A form has at most {FORM_BYTES_MAX} bytes; send larger batches as JSON, gzipped",
                    code="payload_too_large",
                    status=413,
                )
            self._lz = self._lz or form_field(self.data, b"compression").strip().lower() in _LZ_NAMES
            inside = form_field(self.data, b"data")
            if inside:
                return inside
        # A form's decoding has made a blank of each plus.
        data = self.data.strip(_BLANK).replace(b" ", b"+")
        if not _BASE64.fullmatch(data):
            raise _unreadable("it is neither JSON, nor a form with `data`, nor base64 or gzip of one of these")
        try:
            return binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error as error:
            raise _unreadable(f"it is not valid base64: {str(error).lower()}") from None


def form_field(form: bytes, name: bytes) -> bytes:
    """The first value of a field in a form or a query string, with its escapes undone; `b""` if there is none."""
    found = re.search(rb"(?:^|&)" + re.escape(name) + rb"=([^&]*+)", form)
    if found is None:
        return b""
    quoted = found[1].replace(b"+", b" ")
    if b"%" not in quoted:
        return quoted
    # In parts: the standard library's way takes twenty times the size of its argument.
    parts: list[bytes] = []
    start = 0
    while start < len(quoted):
        end = start + _UNQUOTE_BYTES
        split = quoted.find(b"%", end - 2, end)  # an escape that the end would cut in two
        if split >= 0:
            end = split
        parts.append(unquote_to_bytes(quoted[start:end]))
        start = end
    return b"".join(parts)


def _unreadable(why: str) -> ProtocolError:
    return ProtocolError("Invalid JSON", code="invalid_json", details=(f"the body cannot be read: {why}",))
