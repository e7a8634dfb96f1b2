"""The forms of a pod's address, as users write them and as `Pod.address` holds them. Case D 17."""

from __future__ import annotations

import pytest

from statesync.discovery.address import PodAddress, of, parse
from statesync.errors import DiscoveryError
from tests.fakes.each_case import each_case


@each_case(
    ("text", "expected", "stored", "authority"),
    [
        ("http://10.0.0.1:8000", PodAddress("10.0.0.1", 8000), "10.0.0.1:8000", "10.0.0.1:8000"),
        ("http://vllm", PodAddress("vllm", 80), "vllm:80", "vllm"),
        ("https://vllm", PodAddress("vllm", 443, True), "https://vllm:443", "vllm"),
        ("https://vllm:8443/a/b/", PodAddress("vllm", 8443, True, "/a/b"), "https://vllm:8443/a/b", "vllm:8443"),
        ("http://host/base", PodAddress("host", 80, base="/base"), "http://host:80/base", "host"),
        ("http://[::1]:8000", PodAddress("::1", 8000), "[::1]:8000", "[::1]:8000"),
        ("https://[FD00:0:0::1]", PodAddress("fd00::1", 443, True), "https://[fd00::1]:443", "[fd00::1]"),
        ("http://[fe80::1%25eth0]:8000", PodAddress("fe80::1%eth0", 8000), "[fe80::1%eth0]:8000", "[fe80::1]:8000"),
        ("http://[fe80::1%eth0]:8000", PodAddress("fe80::1%eth0", 8000), "[fe80::1%eth0]:8000", "[fe80::1]:8000"),
        ("unix:/run/vllm.sock", PodAddress(socket="/run/vllm.sock"), "unix:/run/vllm.sock", "localhost"),
        ("unix:///run/vllm.sock", PodAddress(socket="/run/vllm.sock"), "unix:/run/vllm.sock", "localhost"),
        ("unix:/run/x:/base", PodAddress(base="/base", socket="/run/x"), "unix:/run/x:/base", "localhost"),
    ],
)
def test_an_address_is_read_and_its_stored_form_means_the_same(
    text: str, expected: PodAddress, stored: str, authority: str
) -> None:
    at = parse(text)
    assert at == expected
    assert (at.text, at.authority) == (stored, authority)
    assert of(stored) == parse(stored) == expected


def test_what_the_pool_says_counts_where_the_address_does_not() -> None:
    assert parse("a:1", tls=True, base="/b").text == "https://a:1/b"
    assert parse("http://a:1", tls=True).text == "a:1"
    assert parse("http://a:1/own", base="/b").text == "http://a:1/own"
    assert parse("unix:/x", tls=True, base="/b").text == "unix:/x:/b"


@each_case(
    ("text", "word"),
    [
        ("grpc://10.0.0.1:8000", "unknown scheme 'grpc'"),
        ("http://10.0.0.1:8000?x=1", "no query"),
        ("http://10.0.0.1:8000/v1#x", "no query or fragment"),
        ("10.0.0.1", "no port"),
        ("http://10.0.0.1:99999", "out of range"),
        ("http://10.0.0.1:0", "port 0"),
        ("http://10.0.0.1:http", "could not be cast"),
        ("http://:8000", "no host"),
        ("", "no host"),
        ("http://a b:8000", "neither a host name"),
        ("http://::1:8000", "could not be cast"),
        ("http://[::1:8000", "Invalid IPv6 URL"),
        ("http://[fe80::1%]:8000", "does not appear"),
        ("http://[fe80::1%e/0]:8000", ""),
        ("http://a/../x", "no base path"),
        ("http://a/./x", "no base path"),
        ("http://a/%2e%2e/x", "no base path"),
        ("http://a//x", "no base path"),
        ("http://a/b c", "no base path"),
        ("http://256.1.1.1:8000", "neither a host name nor an IP address"),
        ("http://10.0.1:8000", "neither a host name nor an IP address"),
        ("http://0x7f.1", "neither a host name nor an IP address"),
        ("http://a..b:1", "neither a host name nor an IP address"),
        ("unix:run/vllm.sock", "begins with /"),
        ("unix:", "begins with /"),
        ("unix:/" + "x" * 200, "at most 107 bytes"),
        ("unix:/x\x00y", "printable"),
        ("unix:/x:base", "base path"),
        ("unix:/ü", "ASCII"),
    ],
)
def test_an_invalid_address_is_an_error_with_the_reason(text: str, word: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        parse(text)
    assert word in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["http://me:s3cret@a:1", "https://s3cret@a:99999", "me:s3cret@a:1"])
def test_credentials_in_an_address_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(DiscoveryError, match=r"\*\*\*@a:") as caught:
        parse(text)
    assert "s3cret" not in str(caught.value)
