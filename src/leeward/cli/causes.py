"""Why a client's batch does not arrive: the client's own short tags, in words and with a cure. Pure.

The tags are those of `stats().last_error` and of the file of events that were set aside; one that is not known here is
shown as it is.
"""

from __future__ import annotations

from typing import Final

__all__ = ["in_words"]

_CLOCK: Final = "and look at this machine's clock"
_ROOTS: Final = "SSL_CERT_FILE=FILE names the roots to trust, for a company's own also REQUESTS_CA_BUNDLE=FILE"
_PROXY: Final = "correct HTTPS_PROXY or HTTP_PROXY; NO_PROXY=NAME goes around it"
_KEY: Final = "leeward keys create --scope write makes one; the program takes it from LEEWARD_API_KEY or api_key="
_LATER: Final = "nothing is lost: it is sent again by itself; or look at the server's log"
_OTHER: Final = "correct the address that the program gives (LEEWARD_HOST or host=)"

_WORDS: Final = {
    "dns": ("its name does not resolve", f"{_OTHER}, or look at this machine's name service"),
    "refused": ("nobody listens there", f"start the server: leeward serve; or {_OTHER}"),
    "timeout": ("it did not answer in time", "look whether a firewall is between, and at the server's log"),
    "reset": ("the connection was broken off", "look at the server's log, and at what is between"),
    "network": ("the network does not lead there", "look at this machine's network; a firewall may forbid it"),
    "proxy": ("the proxy cannot be used, cannot be reached, or refuses", _PROXY),
    "not_http": ("what answers there does not speak HTTP", _OTHER),
    "too_long": ("the answer is too long to be the server's", _OTHER),
    "not_ours": ("what answers there is not the server: a sign-in page or a proxy, perhaps", _OTHER),
    "tls": ("there is no agreement on TLS: it may speak plain http there", f"write http:// if that is so; or {_OTHER}"),
    "tls_expired": ("its certificate has expired, or is not valid yet", f"renew it, {_CLOCK}"),
    "tls_host_name": ("its certificate is for another name", "use the name that is in the certificate, or renew it"),
    "tls_self_signed": ("its certificate is signed by itself", f"{_ROOTS}; here that may be the certificate itself"),
    "tls_untrusted": ("its certificate is from an authority that is not trusted here", _ROOTS),
    "spool": ("the disk does not give back what waits", "look at the disk, and who owns the files"),
    "held": ("another process has them in its hands", "wait for it to end, or look who owns the files"),
    "http_401": ("the key is not accepted", _KEY),
    "http_403": ("the key may not send events", _KEY),
    "http_404": ("there is no such address: it may be another server", _OTHER),
    "http_413": ("an event is too large for it", "send less with the event"),
    "http_429": ("it asks for fewer requests", _LATER),
}


def in_words(cause: str) -> tuple[str, str]:
    """What a tag means, and what to do about it."""
    words = _WORDS.get(cause)
    if words is not None:
        return words
    status = cause.removeprefix("http_")
    if status == cause or not status.isdigit():
        return cause or "it was not sent in the time that was given", "try again; --timeout SECONDS gives it longer"
    if status.startswith("4"):
        return f"it refuses them ({status})", "look at the server's log for the reason"
    return f"it answers {status}", _LATER if status.startswith("5") else _OTHER
