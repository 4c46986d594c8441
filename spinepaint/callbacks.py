"""Where a webhook may go: what a caller's address may look like, and which addresses a connection may reach.

Whoever may submit a job chooses where this service connects to, from inside a network that they may not be in. So a name is
resolved once, every address that it has is checked, and the connection goes to one that was checked.
"""

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

MAX_URL = 2048
Address = IPv4Address | IPv6Address
Resolve = Callable[[str, int], list[str]]

_SECURE, _PLAIN = "https", "http"
_DEFAULT_PORTS = {_SECURE: 443, _PLAIN: 80}
_URL = re.compile(r"[!-~]+")
_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_INSIDE_NAMES = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa")

# IANA's special-purpose registries, the blocks that are not to be reached from here; and metadata services outside them.
_CLOSED_V4 = [
    ip_network(block)
    for block in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's host service
    )
]  # fmt: skip
_OPEN_V6 = ip_network("2000::/3")
"""Global unicast; mapped, link-local, unique-local, multicast, NAT64 and loopback lie outside."""
_CLOSED_V6 = [
    ip_network(block)
    for block in (
        "2001::/23",  # Teredo and other protocols, which carry IPv4 addresses
        "2001:db8::/32", "3fff::/20",
        "2002::/16",  # 6to4, likewise
    )
]  # fmt: skip


class BadCallback(ValueError):
    """The address cannot be one that webhooks go to; the message says why and does not repeat it."""


@dataclass(frozen=True)
class CallbackRules:
    """What a deployment allows beyond https to public addresses: http, and hosts inside (names, addresses, networks as CIDR)."""

    allow_http: bool = False
    private_hosts: tuple[str, ...] = ()

    def names(self, host: str) -> bool:
        """Whether a host is allowed by its name, whatever it resolves to."""
        return host in {entry.lower() for entry in self.private_hosts}

    def admits(self, address: Address) -> bool:
        """Whether a connection to the address is allowed."""
        return is_public(address) or any(address in network for network in _networks(self.private_hosts))


@dataclass(frozen=True)
class Callback:
    """An address in its parts; `host` in small letters, without brackets. Its text may hold a secret of the caller."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def netloc(self) -> str:
        """Host and port as the Host header has them (RFC 9110 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_callback(url: str, rules: CallbackRules) -> Callback:
    """Take a caller's address apart. Raises BadCallback for what can never be one, without resolving any name."""
    if len(url) > MAX_URL or not _URL.fullmatch(url) or "\\" in url:
        raise BadCallback(f"It must be a URL of at most {MAX_URL} printable ASCII characters.")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        raise BadCallback("It is not a URL.") from None
    if parts.scheme != _SECURE and not (parts.scheme == _PLAIN and rules.allow_http):
        raise BadCallback("It must begin with https://.")
    if "@" in parts.netloc:
        raise BadCallback("It must not hold a user name or password.")
    if "#" in url:
        raise BadCallback("It must not have a fragment.")
    if port == 0:
        raise BadCallback("Its port must be from 1 to 65535.")
    _check_host(host, rules)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Callback(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], target)


def _check_host(host: str, rules: CallbackRules) -> None:
    address = _literal(host)
    if rules.names(host):
        return
    if address is not None:
        if not rules.admits(address):
            raise BadCallback("Its address is not a public one.")
        return
    if not _NAME.fullmatch(host) or len(host) > 253:
        raise BadCallback("Its host is not a name or an address.")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        raise BadCallback("Its address must be written as four decimal numbers.")  # 127.1, 0x7f000001 and the like
    if any(host == name or host.endswith(f".{name}") for name in _INSIDE_NAMES):
        raise BadCallback("Its host is a name of an inside network.")


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _networks(entries: Sequence[str]) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    found = []
    for entry in entries:
        try:
            found.append(ip_network(entry, strict=False))
        except ValueError:
            continue  # a name
    return found


def is_public(address: Address) -> bool:
    """Whether the address is one of the open internet: no network inside, no other machine's way to one."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_V4)
    return address.scope_id is None and address in _OPEN_V6 and not any(address in network for network in _CLOSED_V6)


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver, in its order. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def addresses_of(callback: Callback, rules: CallbackRules, resolve: Resolve = resolved) -> list[str]:
    """The addresses to connect to, all of them checked. Raises BadCallback where one is not allowed, OSError where none is known.

    One that is not allowed among others that are is refused too: which of them is taken must not be left to chance.
    """
    found = [str(_literal(callback.host))] if _literal(callback.host) is not None else resolve(callback.host, callback.port)
    if not found:
        raise OSError("the name has no address")
    if not rules.names(callback.host):
        for text in found:
            address = _literal(text)
            if address is None or not rules.admits(address):
                raise BadCallback("Its name resolves to an address that is not a public one.")
    return found
