"""The doctor finds what is wrong, and says what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from dataloader.cli.doctor.command import leads_to_embedded
from dataloader.cli.doctor.database import examine_database, judge_clock, judge_connections, judge_delay, judge_server
from dataloader.cli.doctor.finding import Finding, Report, Verdict
from dataloader.cli.doctor.surroundings import examine_surroundings, is_writable
from dataloader.config import Settings, load_settings
from dataloader.embedded.home import Home
from dataloader.storage.db import Connection
from tests.cli.shell import environment, free_port, run

MakeSettings = Callable[..., Settings]


async def findings(settings: Settings) -> dict[str, Finding]:
    """Return what is found about the database, by check."""
    report = Report()
    await examine_database(report, settings)
    return {finding.check: finding for finding in report.findings}


async def around(settings: Settings, *, embedded: bool = False) -> dict[str, Finding]:
    """Return what is found about everything else, by check."""
    report = Report()
    await examine_surroundings(report, settings, embedded=embedded)
    return {finding.check: finding for finding in report.findings}


async def test_a_good_database_passes_every_check(settings: Settings) -> None:
    found = await findings(settings)
    assert {check: finding.verdict for check, finding in found.items()} == dict.fromkeys(
        ("database", "isolation", "connections", "schema", "privileges", "clock", "pooler", "notifications"), Verdict.OK
    )


async def test_no_database_is_a_failure_that_names_both_ways() -> None:
    (finding,) = (await findings(load_settings(_env_file=None))).values()
    assert finding.verdict is Verdict.FAILED
    assert "PG_HOST" in finding.advice
    assert "--embedded" in finding.advice


async def test_an_absent_server_ends_the_examination_of_it() -> None:
    settings = load_settings(_env_file=None, pg_host="127.0.0.1", pg_port=free_port())
    (finding,) = (await findings(settings)).values()
    assert (finding.check, finding.verdict) == ("database", Verdict.FAILED)
    assert "cannot be reached" in finding.detail


async def test_a_missing_schema_says_what_to_do(make_settings: MakeSettings) -> None:
    found = await findings(make_settings(pg_schema="nowhere"))
    assert found["schema"].verdict is Verdict.FAILED
    assert "dataloader migrate" in found["schema"].detail


async def test_another_isolation_is_a_failure(make_settings: MakeSettings, pg: Connection) -> None:
    name = await pg.fetchval("select current_database()")
    await pg.execute(f"alter database \"{name}\" set default_transaction_isolation = 'serializable'")
    assert (await findings(make_settings(dl_pg_statement_cache=0)))["isolation"].verdict is Verdict.FAILED


async def test_a_read_only_database_is_a_failure(settings: Settings, pg: Connection) -> None:
    name = await pg.fetchval("select current_database()")
    await pg.execute(f'alter database "{name}" set default_transaction_read_only = on')
    assert (await findings(settings))["database"].verdict is Verdict.FAILED


async def test_missing_privileges_are_named(make_settings: MakeSettings, pg: Connection) -> None:
    settings = make_settings()
    if settings.dl_db_dsn:
        pytest.skip("the role is part of the DSN")
    role = f"poor_{await pg.fetchval('select current_database()')}"
    await pg.execute(f'create role "{role}" login')
    try:
        found = await findings(make_settings(pg_user=role))
        assert found["privileges"].verdict is Verdict.FAILED
        assert "dl_" in found["privileges"].detail
        await pg.execute(f'grant select, insert, update, delete on all tables in schema public to "{role}"')
        found = await findings(make_settings(pg_user=role))
        assert found["privileges"].verdict is Verdict.WARNING
        assert "may not create" in found["privileges"].detail
        absent = (await findings(make_settings(pg_user=role, pg_schema="absent")))["privileges"]
        assert (absent.verdict, "no schema absent" in absent.detail) == (Verdict.FAILED, True)
        await pg.execute(f'revoke temporary on database "{settings.pg_database}" from public')
        found = await findings(make_settings(pg_user=role))
        assert "temporary" in found["privileges"].advice
    finally:
        await pg.execute(f'drop owned by "{role}"')
        await pg.execute(f'drop role "{role}"')


def test_servers_that_do_not_suit_are_told_apart() -> None:
    for major, writable, verdict in (
        (14, True, Verdict.FAILED),
        (18, False, Verdict.FAILED),
        (19, True, Verdict.WARNING),
        (15, True, Verdict.OK),
    ):
        report = Report()
        judge_server(report, "here", major=major, writable=writable)
        assert report.findings[0].verdict is verdict


def test_what_works_worse_than_it_could_is_a_warning() -> None:
    report, settings = Report(), load_settings(_env_file=None)
    judge_connections(report, settings, limit=100, used=90)
    judge_clock(report, -5.0, trip_s=0.1)
    judge_delay(report, settings, None)
    assert {finding.verdict for finding in report.findings} == {Verdict.WARNING}
    assert "behind" in report.findings[1].detail
    assert report.is_healthy


def test_connections_count_both_roles() -> None:
    report = Report()
    judge_connections(report, load_settings(_env_file=None, pg_pool_size=5, pg_max_overflow=3), limit=100, used=10)
    assert "takes up to 24" in report.findings[0].detail


def test_an_embedded_server_that_has_run_here_is_the_database(tmp_path: Path) -> None:
    settings = load_settings(_env_file=None, dl_data_dir=tmp_path)
    assert not leads_to_embedded(settings)
    Home.at(tmp_path).cluster.mkdir(parents=True)
    assert leads_to_embedded(settings)
    assert not leads_to_embedded(load_settings(_env_file=None, dl_data_dir=tmp_path, pg_host="db"))


async def test_polling_is_no_failure(make_settings: MakeSettings) -> None:
    finding = (await findings(make_settings(dl_listen_dsn="none")))["notifications"]
    assert finding.verdict is Verdict.SKIPPED
    assert "poll" in finding.detail


async def test_good_surroundings_pass(tmp_path: Path, settings: Settings) -> None:
    chosen = settings.model_copy(update={"app_port": free_port(), "log_path": tmp_path / "new" / "logs"})
    found = await around(chosen, embedded=True)
    assert {finding.verdict for finding in found.values()} == {Verdict.OK}
    assert not (tmp_path / "new").exists()


async def test_a_port_that_something_else_has_is_a_failure(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        found = await around(settings.model_copy(update={"app_port": taken.getsockname()[1]}))
    assert found["port"].verdict is Verdict.FAILED
    assert "APP_PORT" in found["port"].advice


async def test_unwritable_logs_unknown_modules_and_idle_queues_are_found(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = load_settings(
        _env_file=None,
        app_port=free_port(),
        audit_log_path=tmp_path / "file" / "logs",
        dl_pipelines="no_such_module",
        dl_pg_bindir=tmp_path,
    )
    found = await around(settings)
    assert "AUDIT_LOG_PATH" in found["logs"].detail
    assert "no_such_module" in found["tasks"].detail
    assert "DL_PG_BINDIR" in found["embedded server"].detail
    assert [finding.verdict for finding in found.values()].count(Verdict.FAILED) == 3

    idle = await around(load_settings(_env_file=None, app_port=free_port(), workers_json='[{"queue": "idle"}]'))
    assert idle["tasks"].verdict is Verdict.WARNING


def test_a_directory_in_the_place_of_a_log_is_not_writable(tmp_path: Path) -> None:
    assert not is_writable(tmp_path)
    assert is_writable(tmp_path / "a" / "b" / "app.log")


async def test_the_command_ends_with_0_when_all_is_well(tmp_path: Path, settings: Settings) -> None:
    env = environment(settings, app_port=free_port())
    ended = await run(tmp_path, "doctor", "--json", env=env)
    assert (ended.code, ended.err) == (0, "")
    assert {finding["verdict"] for finding in json.loads(ended.out)} == {"ok", "skipped"}


async def test_the_command_shows_a_bad_setting_like_any_other_finding(tmp_path: Path) -> None:
    ended = await run(tmp_path, "doctor", env=environment(None, workers_json="{"))
    assert ended.code == 1
    assert "✗" in ended.out
    assert "WORKERS_JSON" in ended.out
