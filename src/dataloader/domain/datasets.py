"""How the ledger of chunks and OpenLineage call what a run reads and writes: by an address that holds no secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from dataloader.logger.patterns import mask_text

PORT = 5432
_ADDRESS = re.compile(r"([A-Za-z][\w+.-]*)://([^/?#]*)(.*)", re.DOTALL)
_DATABASE = re.compile(r'postgres://[^/]*/?(?:(?:"(?:[^"]|"")*"|[^".]+)\.)?')
_PLAIN = re.compile(r"[^\".]+")


@dataclass(frozen=True, slots=True)
class Database:
    """A database that rows come from or go into.

    Attributes:
        server: `postgres://host:port`; a socket is this machine.
        name: What the database is called there.
    """

    server: str
    name: str

    @classmethod
    def at(cls, host: str, port: int | str, name: str) -> Database:
        """Return the database of that name; a `host` that is empty or a socket's directory is this machine."""
        shown = "localhost" if not host or host.startswith("/") else host
        return cls(f"postgres://{f'[{shown}]' if ':' in shown else shown}:{port}", name)

    @classmethod
    def of_dsn(cls, dsn: str) -> Database:
        """Return the database that an address names: the first of its hosts, without user, password and options."""
        parts = urlsplit(dsn)
        options = dict(parse_qsl(parts.query))
        credentials, _, hosts = parts.netloc.rpartition("@")
        first = urlsplit(f"//{hosts.partition(',')[0]}")
        host, port = (options.get(name, "").partition(",")[0] for name in ("host", "port"))
        user = unquote(credentials.partition(":")[0]) or options.get("user", "")
        name = unquote(parts.path.removeprefix("/")) or options.get("dbname") or options.get("database") or user
        return cls.at(unquote(first.hostname or "") or host, first.port or port or PORT, name)

    def table(self, schema: str, name: str) -> str:
        """Return the address of a table; a part with a dot or a quote is quoted as in SQL."""
        return f"{self._prefix}{_part(schema)}.{_part(name)}"

    def query(self, digest: str) -> str:
        """Return the address of what a query gives: the same for the same query, and for no other."""
        return f"{self._prefix}query:{digest}"

    def inside(self, address: str) -> str | None:
        """Return what a table's address names inside this database, `schema.name`; None of anything else."""
        return address.removeprefix(self._prefix) if address.startswith(self._prefix) else None

    @property
    def _prefix(self) -> str:
        return f"{self.server}/{_part(self.name)}."


def cleaned(text: str) -> str:
    """Return a path, an address or a name without user, password, query string, and what else looks like a secret."""
    if text.startswith(("/", "s3://")):
        return text
    masked = mask_text(text)
    found = _ADDRESS.fullmatch(masked)
    if found is None:
        return masked
    scheme = "postgres" if found[1] == "postgresql" else found[1]
    return f"{scheme}://{found[2].rpartition('@')[2]}{re.split('[?#]', found[3])[0]}"


def shown(address: str) -> str:
    """Return what users of the HTTP interface see: of a table neither host nor database."""
    return _DATABASE.sub("", address, count=1) if is_table(address) else address


def is_address(text: str) -> bool:
    """Return whether a text says where something is, so that it cannot be the name of a table."""
    return text.startswith("/") or "://" in text.partition('"')[0]


def is_table(address: str) -> bool:
    """Return whether something is in a database."""
    return address.startswith("postgres://")


def dataset_of(address: str, namespace: str) -> tuple[str, str]:
    """Return namespace and name of a path, an address, or else of something that only `namespace` knows."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return ("file", address) if address.startswith("/") else (namespace, address)
    scheme, host, path = found.groups()
    return f"{scheme}://{host}", (path if scheme in {"http", "https"} else path.lstrip("/")) or "/"


def _part(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'
