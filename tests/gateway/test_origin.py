from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from leeward.errors import ConfigError
from leeward.gateway.origin import Endpoint, Origin, check_address

REFUSED = [
    # schemes
    "", "api.example.com", "api.example.com/v1", "file:///etc/passwd", "file://localhost/etc/passwd",
    "ftp://api.example.com", "gopher://api.example.com/_x", "https:api.example.com", "https:/api.example.com",
    "unix:///run/x.sock", "javascript://api.example.com", "//api.example.com", " https://api.example.com",
    # users and passwords
    "https://user@api.example.com", "https://user:pass@api.example.com/v1", "https://api.example.com@169.254.169.254/",
    "https://@api.example.com",
    # link-local, metadata, unspecified, multicast
    "http://169.254.169.254/latest/meta-data/", "http://169.254.0.1", "http://100.100.100.200", "http://168.63.129.16",
    "http://192.0.0.192", "http://0.0.0.0:8000", "http://0.1.2.3", "http://224.0.0.1", "http://255.255.255.255",
    "http://[::]:8000", "http://[fe80::1]", "http://[fd00:ec2::254]", "http://[fd20:ce::254]", "http://[ff02::1]",
    # other spellings of addresses
    "http://2130706433", "http://2852039166", "http://0177.0.0.1", "http://0x7f.0.0.1", "http://0x7f000001",
    "http://127.1", "http://127.0.1", "http://127.000.000.001", "http://127.0.0.1.", "http://256.256.256.256",
    "http://example.0x7f", "http://1.2.3.4.5", "http://[::ffff:127.0.0.1]", "http://[::ffff:a9fe:a9fe]",
    "http://[::127.0.0.1]", "http://[64:ff9b::a9fe:a9fe]", "http://[64:ff9b::8.8.8.8]", "http://[2002:7f00:1::]",
    "http://[2001:0:4136:e378:8000:63bf:80ff:fffe]", "http://[fe80::1%25eth0]", "http://[fe80::1%eth0]", "http://[::1",
    # names that are none
    "http://", "http:///v1", "http://exämple.com", "http://①②⑦.0.0.1", "http://127。0。0。1", "http://-a.example.com",
    "http://a-.example.com", "http://a..example.com", "http://example.com.", "http://exa mple.com", "http://a%2eb.com",
    "http://a\\@b.com", "http://a\r\nhost: b", "http://[localhost]", "http://[v1.x]", "http://" + "a." * 127 + "aa",
    # ports, queries, paths
    "http://localhost:0", "http://localhost:65536", "http://localhost:-1", "http://localhost:8_0", "http://localhost:80:80",
    "http://localhost:٣", "https://api.example.com/v1?key=x", "https://api.example.com/#x", "https://api.example.com/../x",
    "https://api.example.com/v1\r\nx: y", "https://api.example.com/v 1", "https://api.example.com//v1",
    "https://api.example.com/ä",
]  # fmt: skip
ALLOWED = {
    "https://api.openai.com/v1": ("https", "api.openai.com", 443, "/v1", "api.openai.com"),
    "HTTPS://API.OpenAI.com/v1/": ("https", "api.openai.com", 443, "/v1", "api.openai.com"),
    "https://api.example.com:443": ("https", "api.example.com", 443, "", "api.example.com"),
    "https://api.example.com:8443/a/b": ("https", "api.example.com", 8443, "/a/b", "api.example.com:8443"),
    "https://xn--exmple-cua.com": ("https", "xn--exmple-cua.com", 443, "", "xn--exmple-cua.com"),
    "https://generativelanguage.googleapis.com/v1beta/openai": (
        "https", "generativelanguage.googleapis.com", 443, "/v1beta/openai", "generativelanguage.googleapis.com",
    ),
    "http://localhost:11434/v1": ("http", "localhost", 11434, "/v1", "localhost:11434"),
    "http://127.0.0.1:8000": ("http", "127.0.0.1", 8000, "", "127.0.0.1:8000"),
    "http://[::1]:8000/v1": ("http", "::1", 8000, "/v1", "[::1]:8000"),
    "http://[0:0::1]": ("http", "::1", 80, "", "[::1]"),
    "http://192.168.1.20/v1": ("http", "192.168.1.20", 80, "/v1", "192.168.1.20"),
    "http://10.0.0.5:8080": ("http", "10.0.0.5", 8080, "", "10.0.0.5:8080"),
    "http://[fd12:3456::1]": ("http", "fd12:3456::1", 80, "", "[fd12:3456::1]"),
    "http://ollama:11434": ("http", "ollama", 11434, "", "ollama:11434"),
    "http://my_service.internal/v1": ("http", "my_service.internal", 80, "/v1", "my_service.internal"),
    "https://8.8.8.8": ("https", "8.8.8.8", 443, "", "8.8.8.8"),
}  # fmt: skip


@pytest.mark.parametrize("base_url", REFUSED)
def test_g12_an_address_that_no_provider_has_is_refused_with_a_cure(base_url):
    with pytest.raises(ConfigError) as refused:
        Origin.of(base_url, where="leeward.toml:7")
    assert refused.value.code == "config_base_url"
    assert refused.value.where == "leeward.toml:7"
    assert refused.value.fix
    assert "pass" not in refused.value.message.replace("password", "")


def test_g12_a_user_and_a_password_are_refused_without_being_repeated():
    with pytest.raises(ConfigError, match="no user and no password") as refused:
        Origin.of("https://someone:hunter2@api.example.com/v1")
    assert "hunter2" not in str(refused.value)
    assert "someone" not in str(refused.value)


@pytest.mark.parametrize("base_url", ALLOWED)
def test_g12_a_provider_s_address_is_taken_as_written(base_url):
    origin = Origin.of(base_url)
    assert (origin.scheme, origin.host, origin.port, origin.path, origin.authority) == ALLOWED[base_url]
    assert origin.https is (origin.scheme == "https")


@settings(deadline=None)
@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "http://[", "http://127.0.0.1"]))
def test_any_text_is_an_origin_or_a_configuration_error(text, before):
    try:
        origin = Origin.of(before + text)
    except ConfigError:
        return
    assert origin.authority.isascii()
    assert not set(origin.authority + origin.path) & set(" \r\n\0@?#")


PUBLIC, PRIVATE_NAME = Origin.of("https://api.example.com"), Origin.of("http://llm.internal")
NEVER = [
    "169.254.169.254", "169.254.1.1", "0.0.0.0", "100.100.100.200", "168.63.129.16", "224.0.0.1", "255.255.255.255",
    "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "fd20:ce::254", "ff02::1", "::ffff:169.254.169.254",
    "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::", "::169.254.169.254",
    "2001:0:4136:e378:8000:63bf:5601:5601", "", "not an address",
]  # fmt: skip
ONLY_PRIVATE = [
    "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1", "::1", "fd12::1",
    "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "::10.0.0.1", "192.0.2.1", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", NEVER)
def test_g12_no_name_leads_to_metadata_or_link_local_addresses_even_if_it_may_be_private(address):
    assert check_address(PUBLIC, address, private=False)
    assert check_address(PRIVATE_NAME, address, private=True)


@pytest.mark.parametrize("address", ONLY_PRIVATE)
def test_g12_a_name_leads_to_a_private_network_only_if_the_provider_says_so(address):
    assert "private = true" in check_address(PUBLIC, address, private=False)
    assert check_address(PRIVATE_NAME, address, private=True) == ""


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_g12_a_name_leads_to_public_addresses(address):
    assert check_address(PUBLIC, address, private=False) == ""


@pytest.mark.parametrize("base_url", ["http://127.0.0.1", "http://10.0.0.5", "http://[::1]", "http://[fd12::1]"])
def test_g12_a_literal_address_leads_to_itself(base_url):
    origin = Origin.of(base_url)
    assert origin.addresses == (origin.host,)
    assert check_address(origin, origin.host, private=False) == ""
    assert check_address(origin, "10.0.0.6", private=False)


def test_g12_localhost_leads_to_loopback_and_nowhere_else():
    origin = Origin.of("http://localhost")
    assert origin.addresses == ("127.0.0.1", "::1")
    assert not any(check_address(origin, address, private=False) for address in origin.addresses)
    assert check_address(origin, "10.0.0.1", private=False)
    assert PUBLIC.addresses == ()


def test_endpoints_are_told_apart_though_they_are_equal():
    assert Endpoint(PUBLIC) != Endpoint(PUBLIC)
    assert "literal" not in repr(PUBLIC)
