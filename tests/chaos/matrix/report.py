"""What a storm has shown, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from tests.chaos.matrix.nemesis import Done
from tests.chaos.matrix.orders import Action
from tests.chaos.matrix.rules import Violation
from tests.chaos.matrix.rules_chunks import refused_writes, zombie_tries
from tests.chaos.matrix.seams import SEAMS
from tests.chaos.matrix.storm import Aftermath

_COMMAND = ".venv/bin/pytest tests/chaos/test_matrix.py -s"
_WHAT_WAS_DONE = """# Crash matrix

What happens to jobs when a process dies, freezes or loses its connection at the worst moment? This page is the report
of one run of the long form, about an hour. A short form, with each cell at least once, is a part of `make test`.

Four worker processes and two API processes run on one PostgreSQL, behind a proxy. Clients trigger, cancel, retry and
look at jobs over HTTP, with lock keys, partitions, failures and loads in chunks, and ask again when an answer is
unclear. Meanwhile faults strike in *seams*: places between two steps of the code between which something may be lost,
such as "claim sent" or "chunk sealed". A process that ends is started anew. The faults of a seam:

| fault | what is done there |
| --- | --- |
| SIGKILL | the process ends at once |
| SIGSTOP | the process freezes for longer than the lease of its jobs, then goes on |
| cut | the connection is closed |
| answer dropped | the server commits, its answer is thrown away and the connection is cut |
| error | an error that nobody foresaw is raised |
| passing error | an error of the database that may go away is raised |

Others come from outside: signals to processes, and connections ended by the server. The timers are short: a lease lasts
two seconds. The server runs without fsync, since processes die here and machines do not.

At the end all must be at rest, and a checker reads three histories: what clients were told, what moved in the table of
jobs, written by a trigger, and what the loads tried, written to a file before they did it. It looks for acknowledged
jobs that are gone, keys with two jobs, moves that are not allowed, attempts charged without a failure, overlapping runs
of a key, partitions out of order, chunks applied twice, missing, or by a run that had lost its job, and locks left
behind. A *zombie write* is a chunk of a run that has lost its lease; the fence must refuse it.
"""


def facts(aftermath: Aftermath, violations: Sequence[Violation]) -> dict[str, object]:
    """Return the numbers of a storm."""
    histories = aftermath.histories
    return {
        "jobs": len(histories.final),
        "ends": dict(Counter(histories.final.values())),
        "faults": aftermath.done.total(),
        "kinds_of_faults": len(aftermath.done.kinds()),
        "cells_hit": len(aftermath.done.cells),
        "cells_missed": [f"{seam}: {action.value}" for seam, action in aftermath.done.missed],
        "violations": len(violations),
        "zombie_writes_refused": refused_writes(histories),
        "chunks_tried_by_zombies": zombie_tries(histories),
        "chunks_tried": sum(one.event == "try" for one in histories.attempted),
        "chunks_applied": len(histories.applied),
        "unclear_answers": sum(one.code == 0 or one.code >= 500 for one in histories.told),
        "processes_ended": aftermath.restarts,
        "ended_without_a_reason": len(aftermath.unexplained),
        "seconds": round(aftermath.took_s, 1),
    }


def matrix(done: Done) -> str:
    """Return how often each fault struck in each seam as a Markdown table, empty where it makes no sense."""
    actions = list(Action)
    lines = [["seam", *(action.value for action in actions)], ["---", *("---:" for _ in actions)]]
    for seam in SEAMS:
        lines.append([seam.name, *(_cell(done, seam.name, action, seam.actions) for action in actions)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def markdown(aftermath: Aftermath, violations: Sequence[Violation], *, seed: int) -> str:
    """Return the whole report as a page."""
    return "\n".join(_page(aftermath, violations, seed)) + "\n"


def _page(aftermath: Aftermath, violations: Sequence[Violation], seed: int) -> Iterator[str]:
    yield _WHAT_WAS_DONE
    yield f"To repeat this run's plan: `DL_CHAOS_SEED={seed} DL_CHAOS=full {_COMMAND}`.\n"
    yield "## Figures\n"
    yield from _table("what", {"seed": seed} | facts(aftermath, violations))
    yield "\n## Faults in the seams\n"
    yield "How often each fault struck in each seam; a cell is empty where the fault makes no sense.\n"
    yield matrix(aftermath.done)
    yield "\n## Faults by kind\n"
    yield from _table("kind", dict(sorted(aftermath.done.kinds().items())))
    yield "\n## Violations\n"
    yield from [f"* {one.rule}: {one.what}" for one in violations] or ["None."]


def _table(what: str, values: Mapping[str, object]) -> Iterator[str]:
    yield f"| {what} | value |"
    yield "| --- | ---: |"
    for name, value in values.items():
        yield f"| {name.replace('_', ' ')} | {_plain(value)} |"


def _cell(done: Done, seam: str, action: Action, sensible: frozenset[Action]) -> str:
    return str(done.cells[seam, action]) if action in sensible else ""


def _plain(value: object) -> str:
    match value:
        case dict():
            return ", ".join(f"{name} {count}" for name, count in value.items())
        case list():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value)
