"""Where webhooks may go, and where they must not."""

import socket

import pytest

from spinepaint.callbacks import BadCallback, Callback, CallbackRules, addresses_of, is_public, parse_callback, resolved

OPEN = CallbackRules()
INSIDE = CallbackRules(allow_http=True, private_hosts=("hooks.local", "10.1.0.0/16", "fd00::7"))


@pytest.mark.parametrize(
    ("url", "found", "netloc"),
    [
        ("https://example.org", Callback("https", "example.org", 443, "/"), "example.org"),
        ("https://Example.org.:8443/a?b=c", Callback("https", "example.org", 8443, "/a?b=c"), "example.org:8443"),
        ("https://8.8.8.8/x", Callback("https", "8.8.8.8", 443, "/x"), "8.8.8.8"),
        ("https://[2606:4700::1111]:444/", Callback("https", "2606:4700::1111", 444, "/"), "[2606:4700::1111]:444"),
    ],
)
def test_an_address_in_its_parts(url: str, found: Callback, netloc: str) -> None:
    assert parse_callback(url, OPEN) == found
    assert found.netloc == netloc


REFUSED = [
    "",
    "example.org",
    "//example.org/",
    "http://example.org/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "https://",
    "https:///x",
    "https://user@example.org/",
    "https://user:word@example.org/",
    "https://example.org@10.0.0.1/",
    "https://example.org#@10.0.0.1/",
    "https://example.org\\@10.0.0.1/",
    "https://example.org/a b",
    "https://example.org/\r\nHost: x",
    "https://exämple.org/",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https://example.org:x/",
    "https://[::1",
    "https://-a.example/",
    "https://a..example/",
    f"https://example.org/{'x' * 2048}",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://a.localhost/",
    "https://printer.local/",
    "https://metadata.google.internal/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://10.0.0.1/",
    "https://100.100.100.200/",
    "https://169.254.169.254/latest/meta-data",
    "https://168.63.129.16/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::8.8.8.8]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2001::1]/",
    "https://[fe80::1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[ff02::1]/",
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_can_never_be_a_callback(url: str) -> None:
    with pytest.raises(BadCallback) as refusal:
        parse_callback(url, OPEN)
    assert url not in str(refusal.value) or not url


def test_what_a_deployment_allows() -> None:
    for url in ("http://example.org/", "http://hooks.local:8080/", "https://10.1.2.3/", "https://[fd00::7]/"):
        assert parse_callback(url, INSIDE)
    for url in ("ftp://hooks.local/", "https://a.hooks.local/", "https://10.2.0.1/", "https://[fd00::8]/", "https://127.0.0.1/"):
        with pytest.raises(BadCallback):
            parse_callback(url, INSIDE)


def test_every_address_of_a_name_is_checked() -> None:
    def names(*found: str) -> list[str]:
        return addresses_of(parse_callback("https://example.org", OPEN), OPEN, lambda host, port: list(found))

    assert names("8.8.8.8", "2606:4700::1111") == ["8.8.8.8", "2606:4700::1111"]
    for inside in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:10.0.0.1", "fe80::1%eth0", "fd00::1", "what"):
        with pytest.raises(BadCallback):
            names("8.8.8.8", inside)
    with pytest.raises(OSError, match="no address"):
        names()


def test_a_name_that_is_allowed_may_be_anywhere_and_an_address_is_not_resolved() -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    assert addresses_of(parse_callback("http://hooks.local/", INSIDE), INSIDE, resolve) == ["127.0.0.1"]
    assert addresses_of(parse_callback("https://10.1.2.3/", INSIDE), INSIDE, resolve) == ["10.1.2.3"]
    assert asked == ["hooks.local"]
    allowed = CallbackRules(private_hosts=("127.0.0.0/8",))
    assert addresses_of(parse_callback("https://example.org/", allowed), allowed, resolve) == ["127.0.0.1"]


def test_the_systems_resolver() -> None:
    assert resolved("127.0.0.1", 80) == ["127.0.0.1"]
    assert resolved("localhost", 80)
    with pytest.raises(socket.gaierror):
        resolved("does-not-exist.invalid", 80)


def test_no_closed_block_is_thought_public() -> None:
    from ipaddress import IPv4Address, IPv6Address

    for step in range(0, 2**32, 2**16 - 1):
        address = IPv4Address(step)
        assert not is_public(address) or (address.is_global and not address.is_multicast), address
        assert not is_public(IPv6Address((0xFFFF << 32) + step))
