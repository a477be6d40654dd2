"""What a storm has shown, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.matrix.nemesis import Done
from tests.chaos.matrix.orders import Action
from tests.chaos.matrix.rules import Violation
from tests.chaos.matrix.rules_chunks import refused_writes, zombie_tries
from tests.chaos.matrix.seams import SEAMS
from tests.chaos.matrix.storm import Aftermath


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
    yield "# Crash matrix"
    yield ""
    yield "Written by `make chaos`; do not edit. What was done and what was looked for: `tests/chaos/matrix/`."
    yield ""
    yield "| what | value |"
    yield "| --- | --- |"
    yield f"| seed | {seed} |"
    for name, value in facts(aftermath, violations).items():
        yield f"| {name.replace('_', ' ')} | {_plain(value)} |"
    yield ""
    yield "## Faults in the seams"
    yield ""
    yield matrix(aftermath.done)
    yield ""
    yield "## Faults by kind"
    yield ""
    yield "| kind | times |"
    yield "| --- | ---: |"
    for kind, count in sorted(aftermath.done.kinds().items()):
        yield f"| {kind} | {count} |"
    yield ""
    yield "## Violations"
    yield ""
    yield from [f"* {one.rule}: {one.what}" for one in violations] or ["None."]


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
