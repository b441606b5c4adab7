"""TLS for the worker: whom to trust, and why a handshake failed. Imported for https only; brings ssl (15 ms).

Trust is the system's store, as OpenSSL finds it; SSL_CERT_FILE and SSL_CERT_DIR take its place. Where neither is set,
REQUESTS_CA_BUNDLE, a file or a directory, adds to it, as a courtesy to machines that are set up for requests: behind a
company's own root that is often the only variable there. There is no switch that turns the checks off.
"""

from __future__ import annotations

import os
import ssl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

__all__ = ["cause", "client_context"]

# OpenSSL's verify results, as in x509_vfy.h
CAUSES: Final = {
    9: "tls_expired",  # not valid yet: the same remedy, look at the dates and at the clock
    10: "tls_expired",
    18: "tls_self_signed",
    2: "tls_untrusted",  # an issuer that is not in the store, in its four forms
    19: "tls_untrusted",
    20: "tls_untrusted",
    21: "tls_untrusted",
    62: "tls_host_name",
    64: "tls_host_name",  # the same, of an address
}
CLOSED: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


def client_context(environ: Mapping[str, str]) -> ssl.SSLContext:
    """A context that verifies chain, dates and host name."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    bundle = environ.get("REQUESTS_CA_BUNDLE")
    if bundle and not environ.get("SSL_CERT_FILE") and not environ.get("SSL_CERT_DIR"):
        try:
            if os.path.isdir(bundle):
                context.load_verify_locations(capath=bundle)
            else:
                context.load_verify_locations(cafile=bundle)
        except OSError:
            pass  # it only adds trust: without it the system's store decides, and an unknown root is tls_untrusted
    return context


def cause(error: ssl.SSLError) -> str:
    """A stable tag for what went wrong."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return CAUSES.get(error.verify_code, "tls")
    return "reset" if isinstance(error, CLOSED) else "tls"
