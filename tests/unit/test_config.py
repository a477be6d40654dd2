"""Settings: read once, checked together, refused with a sentence that names the variable."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.config import QueueWorkers, Settings, is_loopback, load_settings
from dataloader.exceptions import SettingsError


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment without settings, in a directory without a `.env`."""
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def settings(**overrides: object) -> Settings:
    return load_settings(_env_file=None, **overrides)


def refusal(**overrides: object) -> str:
    """Return the sentence that a setting is refused with."""
    with pytest.raises(SettingsError) as caught:
        settings(**overrides)
    return caught.value.message


def test_without_any_variable_the_defaults_of_the_contract_hold(env: pytest.MonkeyPatch) -> None:
    found = load_settings()

    assert (found.app_port, found.host, found.pg_schema) == (8081, "127.0.0.1", "public")
    assert (found.dl_heartbeat_sec, found.dl_default_lease_ttl_sec, found.dl_reaper_period_sec) == (10, 60, 10)
    assert (found.dl_claim_backoff_sec, found.dl_cancel_grace_sec, found.dl_shutdown_grace_sec) == (15, 10, 25)
    assert (found.dl_retention_days, found.dl_auto_migrate, found.workers_json) == (30, False, None)
    assert not found.has_database


def test_the_environment_is_read_and_wins_over_the_file(env: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("APP_PORT=1\nPG_HOST=from-file\nUNKNOWN=x\n", encoding="utf-8")
    env.setenv("app_port", "2")
    env.setenv("WORKERS_JSON", '[{"queue": "load.cbr", "concurrency": 2}, {"queue": "noop"}]')
    env.setenv("DL_PIPELINES", " mine.loads, ,other ")

    found = load_settings()

    assert (found.app_port, found.pg_host, found.has_database) == (2, "from-file", True)
    assert found.workers_json == (QueueWorkers(queue="load.cbr", concurrency=2), QueueWorkers(queue="noop"))
    assert found.dl_pipelines == ("mine.loads", "other")


@pytest.mark.parametrize(
    "name", ["APP_HOST", "PG_HOST", "DL_DB_DSN", "DL_LISTEN_DSN", "WORKERS_JSON", "LOG_PATH", "DL_PG_BINDIR"]
)
def test_an_empty_variable_is_one_that_is_not_set(env: pytest.MonkeyPatch, name: str) -> None:
    env.setenv(name, "  ")

    assert getattr(load_settings(), name.lower()) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("APP_PORT", "x"),
        ("APP_PORT", "65536"),
        ("APP_PORT", "-1"),
        ("PG_PORT", "0"),
        ("PG_POOL_SIZE", "0"),
        ("PG_MAX_OVERFLOW", "-1"),
        ("DEBUG", "maybe"),
        ("DL_AUTO_MIGRATE", "perhaps"),
        ("DL_HEARTBEAT_SEC", "0"),
        ("DL_HEARTBEAT_SEC", "nan"),
        ("DL_POLL_SEC", "61"),
        ("DL_CANCEL_GRACE_SEC", "inf"),
        ("DL_SHUTDOWN_GRACE_SEC", "soon"),
        ("DL_RETENTION_DAYS", "0"),
        ("DL_PG_STATEMENT_CACHE", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FILE_NAME", "a/b.log"),
        ("METRIC_FILE_NAME", ""),
        ("AUDIT_LOG_FILE_NAME", ".."),
        ("PG_SCHEMA", "Upper"),
        ("PG_SCHEMA", "pg_mine"),
        ("PG_SCHEMA", "a" * 49),
        ("PG_SCHEMA", 'a"b'),
        ("PG_SCHEMA", "a\n"),
        ("DL_DB_DSN", "mysql://x"),
        ("DL_DB_DSN", "none"),
        ("DL_LISTEN_DSN", "localhost"),
        ("DL_DB_DSN", "postgresql://u:Sekr3t/x@localhost/db"),
        ("DL_CONNECTIONS", '{"shop": "postgresql://u:Sekr3t/x@localhost/db"}'),
        ("DL_CONNECTIONS", '{"shop": "postgresql://u:Se#kr3t@localhost/db"}'),
        ("DL_CONNECTIONS", '{"shop": "postgresql://u:a:b?Sekr3t@localhost/db"}'),
        ("DL_CONNECTIONS", '{"shop": "postgresql://localhost:80x/db"}'),
        ("DL_LINEAGE_URL", "kafka://broker:9092"),
        ("DL_LINEAGE_URL", "http://"),
        ("DL_LINEAGE_URL", "http:marquez"),
        ("DL_LINEAGE_URL", "http://h:x/"),
        ("DL_LINEAGE_URL", "marquez:5000/api"),
        ("DL_LINEAGE_URL", "file:///var/x.jsonl"),
        ("DL_LINEAGE_TOKEN", "to\nken"),
        ("DL_CBR_BASE_URL", "ftp://x"),
        ("DL_CBR_BASE_URL", "https://"),
        ("WORKERS_JSON", "{"),
        ("WORKERS_JSON", "[" * 100_000),
        ("WORKERS_JSON", "5"),
        ("WORKERS_JSON", '[{"queue": "Bad Name"}]'),
        ("WORKERS_JSON", '[{"queue": "q", "concurrency": 0}]'),
        ("WORKERS_JSON", '[{"queue": "q", "threads": 2}]'),
        ("WORKERS_JSON", '[{"queue": "q"}, {"queue": "q"}]'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_in_one_sentence_that_names_its_variable(
    env: pytest.MonkeyPatch, name: str, value: str
) -> None:
    env.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert caught.value.message.startswith(name)
    assert "\n" not in caught.value.message


def test_the_place_of_a_fault_in_a_list_is_named() -> None:
    assert "(at 1.concurrency)" in refusal(workers_json='[{"queue": "a"}, {"queue": "b", "concurrency": "many"}]')
    assert "expected a list like" in refusal(workers_json="{")
    assert "names a queue twice" in refusal(workers_json='[{"queue": "a"}, {"queue": "a"}]')


def test_every_fault_is_told_at_once() -> None:
    message = refusal(app_port="x", pg_port="y")

    assert "APP_PORT" in message
    assert "PG_PORT" in message


@pytest.mark.parametrize("name", ["dl_db_dsn", "dl_listen_dsn", "pg_password"])
def test_no_message_and_no_text_of_the_settings_shows_a_secret(name: str) -> None:
    assert "s3cret" not in repr(settings(**{name: "postgresql://u:s3cret@h/d"}))
    assert "s3cret" not in refusal(app_port="x", **{name: "postgresql://u:s3cret@h/d"})
    if name != "pg_password":
        assert "s3cret" not in refusal(**{name: "mysql://u:s3cret@h/d"})


def test_a_listener_may_be_turned_off_and_a_database_may_not() -> None:
    found = settings(dl_listen_dsn="none")

    assert found.dl_listen_dsn is not None
    assert found.dl_listen_dsn.get_secret_value() == "none"


class TestLeases:
    @pytest.mark.parametrize(("lease", "heartbeat"), [(40, 10), (4, 1), (60, 10)])
    def test_four_heartbeats_in_a_lease_are_enough(self, lease: float, heartbeat: float) -> None:
        assert settings(dl_default_lease_ttl_sec=lease, dl_heartbeat_sec=heartbeat).dl_heartbeat_sec == heartbeat

    def test_fewer_are_refused_with_both_names(self) -> None:
        message = refusal(dl_default_lease_ttl_sec=39.9, dl_heartbeat_sec=10)

        assert "DL_DEFAULT_LEASE_TTL_SEC (39.9)" in message
        assert "DL_HEARTBEAT_SEC (10)" in message

    @given(lease=st.floats(0.1, 86_400), heartbeat=st.floats(0.1, 86_400))
    def test_a_lease_is_accepted_exactly_when_four_beats_fit(self, lease: float, heartbeat: float) -> None:
        try:
            settings(dl_default_lease_ttl_sec=lease, dl_heartbeat_sec=heartbeat)
        except SettingsError:
            assert lease < 4 * heartbeat
        else:
            assert lease >= 4 * heartbeat


class TestHosts:
    @pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
    def test_this_machine_may_be_listened_on_without_a_key(self, host: str) -> None:
        assert settings(app_host=host).host == host
        assert is_loopback(host)

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.example.org"])  # noqa: S104
    def test_beyond_this_machine_only_when_it_is_said(self, host: str) -> None:
        message = refusal(app_host=host)

        assert f"APP_HOST={host}" in message
        assert "DL_ALLOW_ANONYMOUS=true" in message
        assert settings(app_host=host, dl_allow_anonymous=True).host == host


def test_a_setting_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings(), "app_port", 1)  # noqa: B010 - a type checker sees that it is frozen


@pytest.mark.parametrize("url", ["http://marquez:5000/api/v1/lineage", "https://h/", "/var/x.jsonl", "x.jsonl"])
def test_lineage_goes_to_an_address_or_a_file(url: str) -> None:
    assert settings(dl_lineage_url=url).dl_lineage_url is not None


def test_lineage_is_not_sent_with_two_credentials() -> None:
    message = refusal(dl_lineage_url="http://u:s3cret@h/", dl_lineage_token="t0ken")

    assert message.startswith("DL_LINEAGE_TOKEN")
    assert not [secret for secret in ("s3cret", "t0ken") if secret in message]


def test_a_base_url_is_kept_without_its_last_slash() -> None:
    assert settings(dl_cbr_base_url="http://localhost:1/").dl_cbr_base_url == "http://localhost:1"
