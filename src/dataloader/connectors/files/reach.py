"""Where loads may read: directories of this machine, and hosts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from yarl import URL

from dataloader.connectors.urls import show_url
from dataloader.exceptions import PermanentError

_CREDENTIALS = re.compile(r"(?!arn:)[^/]*?(@|:(?!\d+(/|$)))")
"""How the part of an address before its path begins if it holds more than a name and a port."""

_LEADING_TO_IPV4 = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Addresses that end in one of IPv4, which a router or this machine may translate them to (RFC 4291, 6145, 6052)."""

_OF_A_SITE = tuple(map(ipaddress.IPv6Network, ("fec0::/10", "64:ff9b:1::/48")))
"""Addresses of a network's own that Python takes for global ones (RFC 3879, 8215)."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What the arguments of a job may point at; a trigger comes from outside, the settings from the operator.

    Attributes:
        roots: Directories whose files may be read, links resolved; none means no local file.
        hosts: Names, or patterns like `*.example.com`; none means every host with a public address. A host that is
            listed may have any address.
        buckets: Beginnings of addresses like `s3://market-data/`, each a whole folder; `*` for all.
    """

    roots: tuple[Path, ...] = ()
    hosts: tuple[str, ...] = ()
    buckets: tuple[str, ...] = ()

    @classmethod
    def of(cls, roots: Sequence[Path], hosts: Sequence[str], buckets: Sequence[str] = ()) -> Reach:
        """Build it from settings; links in the roots are resolved once."""
        resolved = tuple(root.expanduser().resolve() for root in roots)
        return cls(resolved, tuple(host.lower() for host in hosts), tuple(buckets))

    def check_path(self, path: Path) -> Path:
        """Return the path with links resolved.

        Raises:
            PermanentError: It lies outside the roots.
        """
        try:
            resolved = path.resolve()
        except (OSError, RuntimeError, ValueError):
            raise PermanentError(f"{str(path)[:200]!r} is not a path that can be read") from None
        if not self.roots:
            raise PermanentError(
                "local files are not open to loads here; name their directories in DL_SOURCE_ROOTS to allow them"
            )
        if not any(resolved.is_relative_to(root) for root in self.roots):
            raise PermanentError(f"{path} lies outside the directories named in DL_SOURCE_ROOTS")
        return resolved

    def check_url(self, url: URL) -> None:
        """Accept an address whose host may be asked; what its name resolves to is checked when connecting.

        Raises:
            PermanentError: It is no http or https address, or its host is not allowed.
        """
        host = (url.host or "").lower()
        if url.scheme not in {"http", "https"} or not host:
            raise PermanentError("only absolute http and https addresses can be fetched")
        if self.hosts and not self._is_listed(host):
            raise PermanentError(f"{show_url(url)}: the host {host} is not among those named in DL_SOURCE_HOSTS")
        if (address := _as_address(host)) is not None and not self.allows(host, address):
            raise PermanentError(private_message(host))

    def check_bucket(self, address: str) -> None:
        """Accept an address of a store that may be read.

        Raises:
            PermanentError: It lies outside the buckets.
        """
        check_bucket(address, self.buckets, setting="DL_SOURCE_BUCKETS", may="be read")

    def allows(self, host: str, address: str) -> bool:
        """Return whether a connection to the address that a host's name resolved to may be opened."""
        return self._is_listed(host.lower()) or is_public(address)

    def _is_listed(self, host: str) -> bool:
        return any(fnmatchcase(host, pattern) for pattern in self.hosts)


def check_bucket(address: str, buckets: Sequence[str], *, setting: str, may: str) -> None:
    """Accept an address of a store that is asked with the machine's own credentials.

    Args:
        address: With its scheme.
        buckets: Beginnings of addresses that are allowed; `*` for all.
        setting: What names them.
        may: What they allow, for messages.

    Raises:
        PermanentError: It lies outside the buckets.
    """
    scheme, _, place = address.partition("://")
    if _CREDENTIALS.match(place):
        raise PermanentError(
            f"an address of {scheme}:// must not hold credentials; the worker's own are used, from its environment"
        )
    if not buckets:
        raise PermanentError(
            f"{scheme}:// is not open here; name what may {may} in {setting} to allow it, like {scheme}://market-data/"
        )
    if "::" in address or ".." in address.split("/"):
        raise PermanentError("an address of a bucket must not hold `::` or a part `..`")
    if "*" not in buckets and not any(address.startswith(_folder(prefix)) for prefix in buckets):
        raise PermanentError(f"{address} lies outside what {setting} names; add it to allow it")


def private_message(host: str) -> str:
    """Say why a host is refused, and what an operator can do."""
    return f"{host} has no public address; name it in DL_SOURCE_HOSTS to allow it"


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the open internet: not private, link-local, loopback or the like."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inner = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo[1] if parsed.teredo else None)
        if inner is None and any(parsed in network for network in _LEADING_TO_IPV4):
            inner = ipaddress.IPv4Address(parsed.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if any(parsed in network for network in _OF_A_SITE):
            return False
    return parsed.is_global and not parsed.is_multicast


def _folder(prefix: str) -> str:
    """Return a prefix that ends where a name does: `s3://prices` is not `s3://prices-of-others`."""
    return prefix if prefix.endswith("/") else f"{prefix}/"


def _as_address(host: str) -> str | None:
    """Return the address a host is written as, None for a name: those are checked once they are resolved."""
    try:
        return str(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
    except ValueError:
        return None
