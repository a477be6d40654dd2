"""Where faults strike: the places of the code between which something may be lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.chaos.matrix.orders import Action

Arguments = Mapping[str, Any]

PROCESS = frozenset({Action.KILL, Action.FREEZE, Action.RAISE})
ERRORS = PROCESS | {Action.REFUSE}
LINE = ERRORS | {Action.CUT}
COMMIT = LINE | {Action.DROP}


class Provocation(StrEnum):
    """What brings processes to a seam that load alone does not lead to."""

    RESTART = "restart"
    CUT_LISTENERS = "cut listeners"
    CUT_ANY = "cut any"
    KILL = "kill"
    CANCEL = "cancel"
    BURST = "burst"


def _always(_arguments: Arguments, _result: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Seam:
    """A place before or after a method of the service.

    Attributes:
        name: Name in the report.
        target: `module:Class.method` or `module:function`.
        after: Whether it lies after the call, else before it.
        connection: The argument, or `argument.attribute`, that holds the connection of the seam; None without one.
        actions: Which faults make sense here.
        when: Looks at arguments and result: whether this passage is the one that is meant.
        provoked: What is done so that a process comes by.
    """

    name: str
    target: str
    actions: frozenset[Action]
    after: bool = False
    connection: str | None = None
    when: Callable[[Arguments, Any], bool] = _always
    provoked: Provocation | None = None


_STORAGE = "dataloader.storage"
_QUEUE = f"{_STORAGE}.repositories.queue:QueueRepository"
_RECOVERY = f"{_STORAGE}.repositories.recovery:RecoveryRepository"
_PROMOTION = f"{_STORAGE}.repositories.promotion:PromotionRepository"
_INTAKE = f"{_STORAGE}.repositories.intake:IntakeRepository"
_PRESENCE = f"{_STORAGE}.repositories.presence:PresenceRepository"
_CHUNK = "dataloader.workers.chunks:ChunkTransaction"


def _ends_runs(arguments: Arguments, _result: object) -> bool:
    return bool(arguments["settlements"] or arguments.get("succeeded"))


def _completes(arguments: Arguments, _result: object) -> bool:
    return bool(arguments["leases"])


def _goes_ahead(arguments: Arguments, _result: object) -> bool:
    worker = arguments["self"]
    return worker._ahead is not None and worker._fleet.control._pinned._connection is not None


def _claims(arguments: Arguments, _result: object) -> bool:
    return arguments["claim"] is not None and not _ends_runs(arguments, None)


def _settled(_arguments: Arguments, result: Any) -> bool:
    return bool(result[0])


def _claimed(_arguments: Arguments, result: Any) -> bool:
    return bool(result[1])


def _something(_arguments: Arguments, result: object) -> bool:
    return bool(result)


def _has_keys(arguments: Arguments, _result: object) -> bool:
    return bool(arguments["keys"])


SEAMS: tuple[Seam, ...] = (
    Seam("claim sent", f"{_QUEUE}.exchange", COMMIT, connection="connection", when=_claims),
    Seam("claim committed", f"{_QUEUE}.exchange", LINE, after=True, connection="connection", when=_claimed),
    Seam("before settle", f"{_QUEUE}.exchange", COMMIT, connection="connection", when=_ends_runs),
    Seam("settle committed", f"{_QUEUE}.exchange", LINE, after=True, connection="connection", when=_settled),
    Seam(
        "before complete",
        f"{_QUEUE}.complete",
        COMMIT,
        connection="connection",
        when=_completes,
        provoked=Provocation.BURST,
    ),
    Seam(
        "complete committed",
        f"{_QUEUE}.complete",
        LINE,
        after=True,
        connection="connection",
        when=_completes,
        provoked=Provocation.BURST,
    ),
    Seam(
        "claim ahead sent",
        "dataloader.workers.base:Worker._send_ahead",
        COMMIT,
        after=True,
        connection="self._fleet.control._pinned._connection",
        when=_goes_ahead,
        provoked=Provocation.BURST,
    ),
    Seam("chunk written", f"{_CHUNK}.copy_rows", LINE, after=True, connection="self.connection"),
    Seam("chunk sealed", f"{_CHUNK}.seal", COMMIT, after=True, connection="self.connection"),
    Seam("chunk committed", "dataloader.telemetry.metrics:Metrics.rows_loaded", ERRORS, after=True),
    Seam("heartbeat sent", f"{_QUEUE}.heartbeat", COMMIT, connection="connection"),
    Seam("heartbeat answered", f"{_QUEUE}.heartbeat", LINE, after=True, connection="connection"),
    Seam("reap sent", f"{_RECOVERY}.reap", COMMIT, connection="connection"),
    Seam(
        "reap committed",
        f"{_RECOVERY}.reap",
        LINE,
        after=True,
        connection="connection",
        when=_something,
        provoked=Provocation.KILL,
    ),
    Seam("reconcile sent", f"{_RECOVERY}.reconcile", COMMIT, connection="connection"),
    Seam("strays sent", f"{_RECOVERY}.terminate_strays", LINE, connection="connection"),
    Seam("promotion sent", f"{_PROMOTION}.promote", COMMIT, connection="connection", when=_has_keys),
    Seam("promotion committed", f"{_PROMOTION}.promote", LINE, after=True, connection="connection", when=_something),
    Seam("due promotion sent", f"{_PROMOTION}.promote_due", COMMIT, connection="connection"),
    Seam(
        "connecting",
        f"{_STORAGE}.db:_set_defaults",
        LINE - {Action.REFUSE},
        connection="connection",
        provoked=Provocation.CUT_ANY,
    ),
    Seam(
        "listener connected",
        f"{_STORAGE}.notify_listener:NotifyListener._probe",
        LINE,
        connection="connection",
        provoked=Provocation.CUT_LISTENERS,
    ),
    Seam("catalogue sent", f"{_PRESENCE}.publish", COMMIT, connection="connection", provoked=Provocation.RESTART),
    Seam("presence sent", f"{_PRESENCE}.beat", COMMIT, connection="connection"),
    Seam("drain begun", "dataloader.workers.drain:Drain._begin", PROCESS, after=True, provoked=Provocation.RESTART),
    Seam(
        "before the rest is given back",
        "dataloader.workers.manager:WorkerManager._give_back_the_rest",
        PROCESS,
        provoked=Provocation.RESTART,
    ),
    Seam(
        "cancel heard",
        "dataloader.workers.manager:WorkerManager._on_cancel",
        PROCESS - {Action.RAISE},
        when=lambda arguments, _: arguments["job_id"] != "*",
        provoked=Provocation.CANCEL,
    ),
    Seam("enqueue sent", f"{_INTAKE}.enqueue", LINE, connection="target"),
    Seam("enqueue written", f"{_INTAKE}.enqueue", COMMIT, after=True, connection="target"),
    Seam("enqueue committed", "dataloader.api.v1.service:JobService._announce", ERRORS),
    Seam("cancel sent", f"{_INTAKE}.cancel", LINE, connection="target"),
    Seam("cancel locked", f"{_INTAKE}.cancel", COMMIT, after=True, connection="target", when=_something),
    Seam("retry locked", f"{_INTAKE}.retry", COMMIT, after=True, connection="target", when=_something),
)

BY_NAME: Mapping[str, Seam] = {seam.name: seam for seam in SEAMS}


def cells() -> Iterator[tuple[str, Action]]:
    """Return every pair of seam and fault that makes sense."""
    for seam in SEAMS:
        for action in Action:
            if action in seam.actions:
                yield seam.name, action
