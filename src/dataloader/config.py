"""Settings: the only reader of the environment, validated once at the start."""

from __future__ import annotations

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from dataloader.exceptions import SettingsError

NAME_PATTERN = r"[a-z0-9_.-]{1,63}"
"""What queues and tasks may be called."""

_SCHEMA_PATTERN = re.compile(r"[a-z_][a-z0-9_]{0,47}")
_HEADER_PATTERN = re.compile(r"[!-~]+")
_HEARTBEATS_PER_LEASE = 4


class QueueWorkers(BaseModel):
    """How many jobs of one queue this process runs at a time.

    Attributes:
        tasks: The only tasks whose jobs it takes; None for all that may run there.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
    concurrency: Annotated[int, Field(ge=1, le=10_000)] = 4
    tasks: tuple[str, ...] | None = None


def _parse_workers(value: object) -> object:
    """Turn the text of WORKERS_JSON into objects."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f'is not JSON ({error}); expected a list like [{{"queue": "load.cbr", "concurrency": 2}}]'
        ) from None


def _parse_connections(value: object) -> object:
    """Turn the text of DL_CONNECTIONS into names and addresses."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(dsn, str) for dsn in found.values()):
        raise ValueError('is not a JSON object like {"warehouse": "postgresql://user:password@host/database"}')
    return found


def _check_uri(dsn: str, whose: str) -> None:
    """Refuse what is no address of a database; an unescaped sign in a password shows as a port that is none."""
    parts = urlsplit(dsn)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts]
    if parts.scheme not in {"postgresql", "postgres"} or not all(port.isdecimal() for port in ports if port):
        raise ValueError(
            f"{whose}must be a URI like postgresql://user:password@host:5432/database; in a password write "
            "/ # ? @ : % as %2F %23 %3F %40 %3A %25"
        )


def _split_names(value: object) -> object:
    """Turn a comma-separated text into names."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _none_if_blank(value: object) -> object:
    """Read an empty variable as one that is not set."""
    return None if isinstance(value, str) and not value.strip() else value


def _takes_lineage(address: str) -> bool:
    """Return whether events can be sent there: over HTTP, or into a file."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and port != 0 if parts.scheme in {"http", "https"} else not parts.scheme


Blankable = BeforeValidator(_none_if_blank)
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """Every setting of a process, under the name of its environment variable in lower case."""

    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    app_host: Annotated[str | None, Blankable] = None
    app_port: Annotated[int, Field(ge=0, le=65_535)] = 8081
    debug: bool = False
    local: bool = False

    pg_host: Annotated[str | None, Blankable] = None
    pg_port: Annotated[int, Field(ge=1, le=65_535)] = 5432
    pg_user: str = "postgres"
    pg_password: SecretStr = SecretStr("")
    pg_database: str = "dataloader"
    pg_schema: str = "public"
    pg_pool_size: Annotated[int, Field(ge=1, le=1_000)] = 10
    pg_max_overflow: Annotated[int, Field(ge=0, le=1_000)] = 0
    pg_pool_recycle: Annotated[int, Field(ge=-1)] = 1_800
    dl_db_dsn: Annotated[SecretStr | None, Blankable] = None
    dl_listen_dsn: Annotated[SecretStr | None, Blankable] = None
    dl_pg_statement_cache: Annotated[int, Field(ge=0, le=10_000)] = 100
    dl_auto_migrate: bool = False

    workers_json: Annotated[tuple[QueueWorkers, ...] | None, NoDecode, BeforeValidator(_parse_workers)] = None
    dl_pipelines: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_heartbeat_sec: Seconds = 10
    dl_default_lease_ttl_sec: Seconds = 60
    dl_reaper_period_sec: Seconds = 10
    dl_claim_backoff_sec: Seconds = 15
    dl_poll_sec: Annotated[float, Field(gt=0, le=60)] = 1
    dl_cancel_grace_sec: Seconds = 10
    dl_shutdown_grace_sec: Seconds = 25
    dl_process_tasks: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_children_max: Annotated[int, Field(ge=1, le=1_000)] = 8
    dl_child_memory_mb: Annotated[Annotated[int, Field(ge=128)] | None, Blankable] = 1_024
    dl_retention_days: Annotated[float, Field(gt=0, le=36_500)] = 30

    dl_data_dir: Path = Path(".dataloader")
    dl_pg_bindir: Annotated[Path | None, Blankable] = None
    dl_allow_anonymous: bool = False
    dl_metrics_port: Annotated[Annotated[int, Field(ge=1, le=65_535)] | None, Blankable] = None
    dl_connections: Annotated[dict[str, SecretStr] | None, NoDecode, BeforeValidator(_parse_connections)] = None
    dl_source_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_source_hosts: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_target_roots: Annotated[tuple[Path, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_target_buckets: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_source_buckets: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_dlt_sources: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)] = ()
    dl_unpack_max_ratio: Annotated[float, Field(ge=1)] = 300
    dl_unpack_max_bytes: Annotated[int, Field(ge=1)] = 1 << 40
    dl_cbr_base_url: str = "https://www.cbr.ru"
    dl_lineage_url: Annotated[SecretStr | None, Blankable] = None
    dl_lineage_namespace: Annotated[str, Field(min_length=1)] = "dataloader"
    dl_lineage_token: Annotated[SecretStr | None, Blankable] = None
    dl_sgx_base_url: str = "https://links.sgx.com"
    dl_sgx_feed_url: str = (
        "https://api3.sgx.com/infofeed/Apps?A=COW_Infopubdtstat_Content&B=DailyDataDownload&S_T=1&C_T=60"
    )

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_path: Annotated[Path | None, Blankable] = None
    log_file_name: str = "app.log"
    metric_path: Annotated[Path | None, Blankable] = None
    metric_file_name: str = "metric.log"
    audit_log_path: Annotated[Path | None, Blankable] = None
    audit_log_file_name: str = "audit.log"

    @field_validator("pg_schema")
    @classmethod
    def _check_schema(cls, value: str) -> str:
        if not _SCHEMA_PATTERN.fullmatch(value) or value.startswith("pg_"):
            raise ValueError("is not a plain lower-case schema name of at most 48 characters outside pg_*")
        return value

    @field_validator("dl_db_dsn", "dl_listen_dsn")
    @classmethod
    def _check_dsn(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None or (info.field_name == "dl_listen_dsn" and value.get_secret_value() == "none"):
            return value
        _check_uri(value.get_secret_value(), "")
        return value

    @field_validator("dl_lineage_url")
    @classmethod
    def _check_lineage(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _takes_lineage(value.get_secret_value()):
            raise ValueError("must be an address like https://host/api/v1/lineage, or the path of a file")
        return value

    @field_validator("dl_lineage_token")
    @classmethod
    def _check_lineage_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _HEADER_PATTERN.fullmatch(value.get_secret_value()):
            raise ValueError("must be printable ASCII without spaces: it is sent in a header")
        return value

    @field_validator("dl_connections")
    @classmethod
    def _check_connections(cls, value: dict[str, SecretStr] | None) -> dict[str, SecretStr] | None:
        for name, dsn in (value or {}).items():
            _check_uri(dsn.get_secret_value(), f"{name!r} ")
        return value

    @field_validator("dl_cbr_base_url", "dl_sgx_base_url", "dl_sgx_feed_url")
    @classmethod
    def _check_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise ValueError("must be an http or https URL")
        return value.rstrip("/")

    @field_validator("workers_json")
    @classmethod
    def _check_workers(cls, value: tuple[QueueWorkers, ...] | None) -> tuple[QueueWorkers, ...] | None:
        names = [worker.queue for worker in value or ()]
        if len(names) != len(set(names)):
            raise ValueError("names a queue twice")
        return value

    @field_validator("log_file_name", "metric_file_name", "audit_log_file_name")
    @classmethod
    def _check_file_name(cls, value: str) -> str:
        if value in {"", ".."} or Path(value).name != value:
            raise ValueError("must be a file name without a directory")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        lease_s, heartbeat_s = self.dl_default_lease_ttl_sec, self.dl_heartbeat_sec
        if lease_s < _HEARTBEATS_PER_LEASE * heartbeat_s:
            raise ValueError(
                f"DL_DEFAULT_LEASE_TTL_SEC ({lease_s:g}) must be at least {_HEARTBEATS_PER_LEASE} times "
                f"DL_HEARTBEAT_SEC ({heartbeat_s:g}), or a short hiccup costs a running job its lease"
            )
        url = self.dl_lineage_url.get_secret_value() if self.dl_lineage_url else ""
        if self.dl_lineage_token is not None and urlsplit(url).username is not None:
            raise ValueError("DL_LINEAGE_TOKEN and a user in DL_LINEAGE_URL exclude each other: both are credentials")
        if not is_loopback(self.host) and not self.dl_allow_anonymous:
            raise ValueError(
                f"APP_HOST={self.host} would listen beyond this machine without authentication; "
                "keep 127.0.0.1, or set DL_ALLOW_ANONYMOUS=true if the network in front of it is trusted"
            )
        return self

    @property
    def host(self) -> str:
        """Address the API listens on."""
        return self.app_host or "127.0.0.1"

    @property
    def has_database(self) -> bool:
        """Whether a database is configured."""
        return self.dl_db_dsn is not None or self.pg_host is not None


def is_loopback(host: str) -> bool:
    """Return whether `host` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(**overrides: Any) -> Settings:
    """Read the environment and `.env`; `overrides` win and are named like the fields.

    Raises:
        SettingsError: One sentence that names the variable and the reason.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("; ".join(_sentences(error))) from None


def _sentences(error: ValidationError) -> list[str]:
    return [_sentence(item["loc"], item["msg"].removeprefix("Value error, ")) for item in error.errors()]


def _sentence(loc: tuple[int | str, ...], message: str) -> str:
    if not loc:
        return message
    where = ".".join(str(part) for part in loc[1:])
    return f"{str(loc[0]).upper()}{f' (at {where})' if where else ''}: {message[:1].lower()}{message[1:]}"
