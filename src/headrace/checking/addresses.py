"""Which addresses an endpoint may lead to.

A name is resolved once, each address is held against the rules, and the connection goes to an address that was checked: a name that
resolves to something else a moment later (DNS rebinding) gains nothing. Addresses that carry another one (IPv4 in IPv6, NAT64,
6to4, Teredo) are judged by both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from headrace.errors import UsageError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Where IPv6 addresses end with an IPv4 one: NAT64, well known and local (RFC 6052, RFC 8215), IPv4-translated (RFC 2765), and
# IPv4-compatible, which is obsolete and still understood by some.
_ENDS_WITH_IPV4 = tuple(ipaddress.IPv6Network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96"))
# What is denied where nothing else is said: this machine itself, where clouds keep credentials of machines (link-local, and what Alibaba
# Cloud, AWS, Azure, Google and Oracle use besides), NAT64 of a site, and what is no host's address.
DENIED = (
    "127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::/32",
    "fd20:ce::/32", "64:ff9b:1::/48", "0.0.0.0/8", "::/128", "224.0.0.0/4", "ff00::/8",
)  # fmt: skip
# `::` and `::1` are themselves, not 0.0.0.0 and 0.0.0.1.
_THEMSELVES = 2**16


@dataclass(frozen=True)
class AddressRules:
    """What is denied, and what of it is allowed all the same."""

    allow: tuple[Network, ...]
    deny: tuple[Network, ...]

    @classmethod
    def of(cls, allow: Iterable[str], deny: Iterable[str]) -> AddressRules:
        """Raises UsageError for what is no network."""
        return cls(tuple(_networks("control origins allow", allow)), tuple(_networks("control origins deny", deny)))

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> AddressRules:
        """The rules of a document; where it names nothing to deny, what is denied by default."""
        return cls.of(map(str, said.get("allow", ())), map(str, said.get("deny", DENIED)))

    def document(self) -> dict[str, list[str]]:
        return {"allow": list(map(str, self.allow)), "deny": list(map(str, self.deny))}

    def permits(self, text: str) -> bool:
        """Whether an endpoint may be at this IP address."""
        # A zone (`fe80::1%eth0`) says by which interface, not what it is.
        return all(self._permits(address) for address in _carried(ipaddress.ip_address(text.split("%")[0])))

    def _permits(self, address: Address) -> bool:
        return _inside(address, self.allow) or not _inside(address, self.deny)


def _inside(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _carried(address: Address) -> Iterator[Address]:
    yield address
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            yield address.ipv4_mapped
        if address.sixtofour is not None:
            yield address.sixtofour
        if address.teredo is not None:
            yield address.teredo[1]
        if int(address) >= _THEMSELVES and any(address in network for network in _ENDS_WITH_IPV4):
            yield ipaddress.IPv4Address(address.packed[-4:])


def _networks(field: str, texts: Iterable[str]) -> Iterator[Network]:
    for text in texts:
        try:
            yield ipaddress.ip_network(text)
        except ValueError:
            raise UsageError("bad-setting", f"{field}: {text!r} is not a network; write 10.0.0.0/8 or fd00::/8, separated by commas") from None
