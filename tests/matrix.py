"""Runs tests on every PostgreSQL of this machine, and through PgBouncer: `python -m tests.matrix [pytest arguments]`.

Each server is our own, in a temporary directory, and is reached by `DL_TEST_DSN`. PgBouncer stands before the newest
one, in transaction mode with fewer connections than the tests have, so that statements really change places.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from dataloader.embedded import EmbeddedServer
from dataloader.embedded.binaries import Binaries, _places
from tests.conftest import _UNSAFE_BUT_FAST, _settings, direct_dsn

TESTS = ("tests/storage", "tests/workers")
POOL_SIZE = 5
_PGBOUNCER = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 1000
server_idle_timeout = 5
logfile = {log}
"""


def main(arguments: Sequence[str]) -> int:
    """Run the tests everywhere; return how many places failed."""
    results = asyncio.run(_everywhere(arguments or TESTS))
    _say("")
    for name, (passed, last_line) in results.items():
        _say(f"{'ok    ' if passed else 'FAILED'} {name}: {last_line}")
    return sum(not passed for passed, _ in results.values())


async def _everywhere(arguments: Sequence[str]) -> dict[str, tuple[bool, str]]:
    results = {}
    installed = {binaries.major: binaries for place in _places() if (binaries := Binaries.at(place))}
    for major in sorted(installed):
        async with _server(installed[major]) as dsn:
            results[f"PostgreSQL {major}"] = _pytest(f"PostgreSQL {major}", {"DL_TEST_DSN": dsn}, arguments)
            if major < max(installed):
                continue
            name = f"PostgreSQL {major} through PgBouncer"
            program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
            if program is None:
                results[name] = (True, "skipped, PgBouncer is not installed (Debian: apt-get install pgbouncer)")
                continue
            with _pooler(program, dsn) as pooler:
                results[name] = _pytest(name, {"DL_TEST_DSN": dsn, "DL_TEST_POOLER": pooler}, arguments)
    return results


@asynccontextmanager
async def _server(binaries: Binaries) -> AsyncIterator[str]:
    """Run a server; the value leads to its maintenance database."""
    with tempfile.TemporaryDirectory(prefix="dl-matrix-", ignore_cleanup_errors=True) as directory:
        home = Path(directory) / "postgres"
        server = EmbeddedServer(home, bindir=binaries.bindir, database="postgres", settings=_UNSAFE_BUT_FAST)
        async with server:
            for path in (Path(directory), home):
                path.chmod(0o711)  # the pooler's account must find the socket
            yield direct_dsn(_settings(server.overrides(), "postgres"))


@contextmanager
def _pooler(program: str, dsn: str) -> Iterator[str]:
    """Run PgBouncer before a server; the value leads to the server's maintenance database through it."""
    host, port = _socket_of(dsn)
    with tempfile.TemporaryDirectory(prefix="dl-pooler-") as directory, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen_port = probe.getsockname()[1]
        probe.close()
        config, log = Path(directory) / "pgbouncer.ini", Path(directory) / "pgbouncer.log"
        config.write_text(
            _PGBOUNCER.format(host=host, port=port, listen_port=listen_port, pool_size=POOL_SIZE, log=log),
            encoding="utf-8",
        )
        account = pwd.getpwuid(Path(host).stat().st_uid)
        for path in (Path(directory), config):
            os.chown(path, account.pw_uid, account.pw_gid)
        command = [program, "-q", *(["-u", account.pw_name] if os.geteuid() == 0 else []), str(config)]
        process = subprocess.Popen(command)
        try:
            _wait_for(listen_port, process, log)
            yield f"postgresql://postgres@127.0.0.1:{listen_port}/postgres"
        finally:
            process.terminate()
            process.wait(10)


def _socket_of(dsn: str) -> tuple[str, str]:
    """Return directory and port of the socket that a DSN made by `direct_dsn` leads to."""
    query = parse_qs(urlsplit(dsn).query)
    return query["host"][0], query["port"][0]


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a port takes connections."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.settimeout(0.1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise RuntimeError(f"PgBouncer does not start: {log.read_text('utf-8') if log.exists() else 'no log'}")


def _pytest(name: str, environment: Mapping[str, str], arguments: Sequence[str]) -> tuple[bool, str]:
    """Run pytest; return whether it passed, and its last line."""
    _say(f"\n=== {name}")
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-o", "addopts=", "--strict-markers",
               "--import-mode=importlib", "-p", "no:cacheprovider", *arguments]  # fmt: skip
    last_line = ""
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            last_line = line.strip(" =\n") or last_line
    return process.returncode == 0, last_line


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
