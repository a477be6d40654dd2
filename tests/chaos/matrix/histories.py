"""The three histories of a storm, and the fenced table beside them, as values."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

TABLES = """
create table applied (job_id uuid, chunk int, epoch int, at timestamptz default clock_timestamp());
create unlogged table moves (
  n bigint generated always as identity, at timestamptz default clock_timestamp(), job_id uuid, seq bigint,
  before text, status text, was_epoch int, epoch int, was_attempt int, attempt int, losses int, asked boolean,
  lock_key text, partition_key text
);
create function note_move() returns trigger language plpgsql as $$
declare
  v_row dl_jobs := case when tg_op = 'DELETE' then old else new end;
begin
  insert into moves (job_id, seq, before, status, was_epoch, epoch, was_attempt, attempt, losses, asked,
                     lock_key, partition_key)
  values (v_row.job_id, v_row.seq, old.status, new.status, old.epoch, new.epoch, old.attempt, new.attempt, v_row.losses,
          coalesce(old.cancel_requested, false), v_row.lock_key, v_row.partition_key);
  return null;
end $$;
create trigger moved after update on dl_jobs for each row
  when ((old.status, old.epoch, old.attempt) is distinct from (new.status, new.epoch, new.attempt))
  execute function note_move();
create trigger came_or_went after insert or delete on dl_jobs for each row execute function note_move();
"""


class Told(NamedTuple):
    """What a client asked and what it was told.

    Attributes:
        op: `trigger`, `cancel`, `retry` or `status`.
        code: HTTP status, 0 when no answer came.
        key: Idempotency key of a trigger.
        job: The job that was named, in the answer to a trigger or in the request.
        status: Status in the answer.
        chunks: Chunks of the triggered job.
    """

    op: str
    code: int
    sent_s: float
    answered_s: float
    key: str | None = None
    job: str | None = None
    status: str | None = None
    partition: str | None = None
    chunks: int = 0


class Move(NamedTuple):
    """A line of the transition log.

    Attributes:
        before: None when the row was inserted.
        status: None when it was deleted.
        asked: Whether the job had been asked to stop before.
    """

    n: int
    at_s: float
    job: str
    seq: int
    before: str | None
    status: str | None
    was_epoch: int | None
    epoch: int | None
    was_attempt: int | None
    attempt: int | None
    losses: int | None = 0
    asked: bool | None = False
    lock_key: str | None = None
    partition_key: str | None = None


class Attempted(NamedTuple):
    """A line of the ledger of chunks: `try`, `refused` by the fence, or `raised`."""

    event: str
    job: str
    epoch: int
    chunk: int
    at_s: float = 0
    error: str | None = None


class Applied(NamedTuple):
    """A row of the fenced table."""

    job: str
    chunk: int
    epoch: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Histories:
    """All that a checker may look at.

    Attributes:
        told: What clients were told.
        moves: The transition log in order of its numbers.
        attempted: The ledger of chunks.
        applied: What the fenced table holds at the end.
        final: Status of every job at the end, from its own row.
        keys: Idempotency key to job, from the service's table.
        left: What was counted at rest and should be zero.
    """

    told: Sequence[Told] = ()
    moves: Sequence[Move] = ()
    attempted: Sequence[Attempted] = ()
    applied: Sequence[Applied] = ()
    final: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)


async def read(pg: Any, *, told: Sequence[Told], ledger: Path, left: Mapping[str, int]) -> Histories:
    """Read what a storm has left."""
    moves = await pg.fetch(
        """
        select n, extract(epoch from at)::float8, job_id::text, seq, before, status, was_epoch, epoch,
               was_attempt, attempt, losses, asked, lock_key, partition_key
          from moves
         order by n
        """
    )
    applied = await pg.fetch("select job_id::text, chunk, epoch, extract(epoch from at)::float8 from applied")
    final = await pg.fetch("select job_id::text, status from dl_jobs")
    keys = await pg.fetch("select key, job_id::text from dl_idempotency")
    return Histories(
        told=told,
        moves=[Move(*row) for row in moves],
        attempted=list(_attempted(ledger)),
        applied=[Applied(*row) for row in applied],
        final=dict(tuple(row) for row in final),
        keys=dict(tuple(row) for row in keys),
        left=left,
    )


def _attempted(ledger: Path) -> Iterator[Attempted]:
    with ledger.open() as lines:
        for line in lines:
            note = json.loads(line)
            if note["event"] != "armed":
                yield Attempted(
                    note["event"], note["job"], note["epoch"], note["chunk"], note["at_s"], note.get("error")
                )
