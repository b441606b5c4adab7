"""What `leeward doctor` looks at for a client: whether it is on, and every step of its way to the server.

The way is the client's own: its resolver, its proxies, its roots, its transport. One request without any event goes
there, written by the client's wire; what comes back says which step failed. No check shows a password.
Limits    a program's own arguments (`init(host=…)`) are not known here: what is checked is what the environment says.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from typing import Final

from leeward.cli.api import masked_key
from leeward.cli.causes import in_words
from leeward.cli.check import Check, failed
from leeward.cli.connection import FIRST_KEYS, Target
from leeward.cli.consent import switched_off_by
from leeward.clock import SystemClock
from leeward.errors import ConfigError
from leeward.sender import address, proxy
from leeward.sender.answers import Reply
from leeward.sender.config import POSTHOG_KEY, Config, configure
from leeward.sender.connection import cause
from leeward.sender.resolver import SHARED, DnsError
from leeward.sender.transport import HttpTransport
from leeward.sender.wires import WIRES

__all__ = ["client_of", "look_client", "look_way", "way_in_words"]

TIMEOUT_S: Final = 5.0
DNS_SLOW_MS: Final = 1000.0
EVENT: Final = 1  # the record type of an event on the wires that the environment can choose
EMPTY_BATCH: Final = "empty_batch"  # what leeward says to a good key with no event
_PROXIES: Final = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_OWN_ROOTS: Final = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_MAKE_KEY: Final = "leeward keys create --scope write makes one; then: export LEEWARD_API_KEY=KEY"
_SEE_ABOVE: Final = "see above"


def client_of(target: Target, environ: Mapping[str, str]) -> Config:
    """What a client would do for this server, were it not switched off; without a key of its own, with the first one."""
    first = target.first_key("write")
    key = target.key or (first[0] if first is not None else "")
    return configure(environ, api_key=key, host=target.url, disabled=False)


# Whether it is on


def look_client(target: Target, environ: Mapping[str, str]) -> Iterator[Check]:
    """What switches a client off, or has it send to another place, before anything is sent."""
    try:
        off = switched_off_by(environ)
    except ConfigError as error:
        yield failed("opt-out", error)
    else:
        if off is not None:
            yield Check("opt-out", "warn", f"{off.by} switches all clients off: nothing is captured", off.fix)
        else:
            yield Check("opt-out", "ok", "nothing switches clients off")
    rate = environ.get("LEEWARD_SAMPLE_RATE")
    if rate:
        share = configure(environ).sample_rate
        detail = f"LEEWARD_SAMPLE_RATE is {rate[:20]}: {share:.1%} of events are captured, exceptions always"
        yield Check("sampling", "ok" if share == 1.0 else "warn", detail, "unset LEEWARD_SAMPLE_RATE to capture all")
    yield from _client(target, environ)


def _client(target: Target, environ: Mapping[str, str]) -> Iterator[Check]:
    """What a program's client does that is given no arguments."""
    own = configure(environ, disabled=False)
    key = environ.get("LEEWARD_API_KEY", "")
    if own.problem:
        yield Check("client", "fail", f"clients are off: {own.problem}", "correct it in the environment")
        return
    elsewhere = own.host != target.url.rstrip("/")
    if not key:
        yield Check("client", "warn", "LEEWARD_API_KEY is not set: a client without api_key= is off", _MAKE_KEY)
    elif not elsewhere:
        yield Check("client", "ok", f"clients send to {own.host} with LEEWARD_API_KEY, {masked_key(key)}")
    if elsewhere:
        detail = f"clients without host= send to {own.host}, and what is looked at here is {target.url}"
        yield Check("client", "warn", detail, f"export LEEWARD_HOST={target.url}")


# The way


def look_way(target: Target, environ: Mapping[str, str], *, is_leeward: bool) -> Iterator[Check]:
    """Name, proxy, certificate and key, by one request without any event. `is_leeward`: one answers there."""
    config = client_of(target, environ)
    try:
        server = address.parse(config.host)
    except ValueError as error:
        yield Check("delivery", "fail", f"not tried: {error}", "correct --host or LEEWARD_HOST")
        return
    if not config.usable:
        yield Check("delivery", "fail", f"not tried: {config.problem or 'there is no key'}", _MAKE_KEY)
        return
    if config.wire == "posthog" and is_leeward:
        detail = f"a PostHog key ({POSTHOG_KEY}…), and {config.host} is a leeward server, whose keys begin with lw_"
        yield Check("delivery", "fail", detail, _MAKE_KEY)
        return
    before = list(_before(server, environ))
    if any(check.state == "fail" for check in before):
        yield from before
        yield Check("delivery", "fail", "not tried", _SEE_ABOVE)
        return
    reply, took_ms = _probe(config, environ)
    yield from [_failed_proxy(server, environ)] if reply.cause == "proxy" else before
    if server.https and (reply.status or reply.cause.startswith("tls")):
        yield _certificate(environ, reply)
    yield _delivery(config, _key_in_words(target, config), reply, took_ms)


def _before(server: address.Address, environ: Mapping[str, str]) -> Iterator[Check]:
    """What can be said before anything is sent: the proxy, and the address of the name."""
    name = _proxy_variable(environ, server)
    try:
        between = proxy.find(environ, server)
    except proxy.ProxyError as error:
        yield Check("proxy", "fail", f"{name}: {error}", f"correct {name}, or: export NO_PROXY={server.name}")
        return
    if between is None:
        yield Check("proxy", "ok", f"NO_PROXY goes around {name} for {server.name}" if name else "none is set")
        yield _name(server)
    else:
        yield Check("proxy", "ok", f"{name} leads over {between.name}:{between.port}")


def _name(server: address.Address) -> Check:
    clock = SystemClock()
    began_s = clock.monotonic_s()
    try:
        found = SHARED.addresses(server.name, server.port, deadline_s=began_s + TIMEOUT_S, clock=clock)
    except DnsError:
        took_s = clock.monotonic_s() - began_s
        return Check("dns", "fail", f"{server.name} does not resolve ({took_s:.1f} s)", in_words("dns")[1])
    took_ms = (clock.monotonic_s() - began_s) * 1000
    shown = ", ".join(dict.fromkeys(str(entry[4][0]) for entry in found))
    if took_ms > DNS_SLOW_MS:
        return Check("dns", "warn", f"{server.name} took {took_ms:,.0f} ms", "look at this machine's name service")
    return Check("dns", "ok", f"{server.name} is {shown} ({took_ms:.0f} ms)")


def _probe(config: Config, environ: Mapping[str, str]) -> tuple[Reply, float]:
    """Post a batch without events; the reply, and how many milliseconds it took."""
    clock = SystemClock()
    request = WIRES[config.wire].request(
        EVENT, "leeward-doctor", (), key=config.api_key, client=None, sent_at_ms=clock.wall_ms(), app=config.app
    )
    transport = HttpTransport(config, clock, lambda: None, timeout_s=TIMEOUT_S, environ=environ)
    began_s = clock.monotonic_s()
    reply = transport.send(request.path, request.headers, request.body)
    took_ms = (clock.monotonic_s() - began_s) * 1000
    transport.close()
    return reply, took_ms


def _failed_proxy(server: address.Address, environ: Mapping[str, str]) -> Check:
    """A proxy that is named and does not do: whether it can be reached at all."""
    name, between = _proxy_variable(environ, server), proxy.find(environ, server)
    assert between is not None
    where = f"{name} leads over {between.name}:{between.port}"
    clock = SystemClock()
    try:
        deadline_s = clock.monotonic_s() + TIMEOUT_S
        found = SHARED.addresses(between.name, between.port, deadline_s=deadline_s, clock=clock)
        socket.create_connection(found[0][4][:2], TIMEOUT_S).close()
    except OSError as error:
        fix = f"start it, or correct {name}; or: export NO_PROXY={server.name}"
        return Check("proxy", "fail", f"{where}: {in_words(cause(error))[0]}", fix)
    login = "its user name and password are wrong" if between.credentials else "it wants a user name and password"
    fix = f"correct {name} (http://USER:PASSWORD@…), or: export NO_PROXY={server.name}"
    return Check("proxy", "fail", f"{where}, which lets nobody through to {server.name}: perhaps {login}", fix)


def _certificate(environ: Mapping[str, str], reply: Reply) -> Check:
    """Whether it is trusted, and by whose roots."""
    own = [name for name in _OWN_ROOTS if environ.get(name)]
    if not own and environ.get("REQUESTS_CA_BUNDLE"):
        own = ["REQUESTS_CA_BUNDLE"]
    missing = [name for name in own if not os.access(environ[name], os.R_OK)]
    roots = ", ".join(f"{name}={environ[name]}" for name in own) or "the system's roots"
    if reply.status:
        return Check("certificate", "ok", f"good, by {roots}")
    problem, fix = in_words(reply.cause)
    if missing:
        return Check("certificate", "fail", f"{problem}, and {roots} cannot be read", f"correct {missing[0]}")
    return Check("certificate", "fail", f"{problem}; looked at with {roots}", fix)


def _key_in_words(target: Target, config: Config) -> str:
    """A key as it may be shown, and where it is from."""
    origin = target.key_origin if target.key or target.data_dir is None else target.data_dir / FIRST_KEYS
    return f"{masked_key(config.api_key)} ({origin})"


def _delivery(config: Config, key: str, reply: Reply, took_ms: float) -> Check:
    """What the answer to the request without events means."""
    if not reply.status:
        if reply.cause == "proxy" or reply.cause.startswith("tls"):
            return Check("delivery", "fail", "nothing gets through", _SEE_ABOVE)
        problem, fix = in_words(reply.cause)
        return Check("delivery", "fail", f"{config.host}: {problem}", fix)
    if reply.status in {401, 403}:
        problem, fix = in_words(f"http_{reply.status}")
        return Check("delivery", "fail", f"{problem}: {key} at {config.host}", fix)
    if _has_arrived(config, reply):
        return Check("delivery", "ok", f"a request arrives in {took_ms:.0f} ms, with the key {key}")
    if reply.status == 404 and config.wire == "native":
        fix = f"correct LEEWARD_HOST; a PostHog server has keys that begin with {POSTHOG_KEY}, or takes wire='posthog'"
        return Check("delivery", "fail", f"what answers at {config.host} is not leeward", fix)
    problem, fix = in_words(f"http_{reply.status}")
    return Check("delivery", "fail", f"{config.host}: {problem}", fix)


def _has_arrived(config: Config, reply: Reply) -> bool:
    """Whether the server itself took the request, and had nothing to say but that there is no event in it."""
    if config.wire == "native":
        return reply.status == 400 and _document(reply).get("code") == EMPTY_BATCH
    return reply.status in {200, 400}


def _document(reply: Reply) -> dict[str, object]:
    try:
        document = json.loads(reply.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def way_in_words(host: str, environ: Mapping[str, str]) -> str:
    """How clients reach a host: over which proxy, if one is set; empty for straight on."""
    try:
        server = address.parse(host)
    except ValueError:
        return ""
    name = _proxy_variable(environ, server)
    try:
        between = proxy.find(environ, server)
    except proxy.ProxyError:
        return f", not at all: {name} cannot be used"
    return f", over {between.name}:{between.port} ({name})" if between is not None else ""


def _proxy_variable(environ: Mapping[str, str], server: address.Address) -> str:
    """The variable that names this server's proxy, exceptions aside: the first that does so alone; empty if none."""
    method = {name: environ[name] for name in ("REQUEST_METHOD",) if name in environ}
    for name in _PROXIES:
        try:
            alone = proxy.find({**method, name: environ.get(name, "")}, server)
        except proxy.ProxyError:
            return name
        if alone is not None:
            return name
    return ""
