"""Mutants of single statements: fences, claims, the reaper."""

from __future__ import annotations

from tests.mutants.mutant import SQL, Edit, Mutant

STORAGE = "tests/storage"
LEASES = f"{STORAGE}/interleavings/test_leases.py"
CLAIMS = f"{STORAGE}/interleavings/test_claims.py"
EXCHANGE = f"{SQL}/exchange.sql"
REAP = f"{SQL}/reap.sql"
HEARTBEAT = f"{SQL}/heartbeat.sql"
_CLAIM_LOCK = "where i.ctid = f.tid and i.ready\n             for no key update"

STATEMENTS = (
    Mutant(
        "settle without a fence",
        "a worker that was taken for dead ends the run of its successor",
        (
            Edit(EXCHANGE, "case when c.epoch = e.epoch and c.status", "case when c.status"),
            Edit(EXCHANGE, "j.ctid = d.tid and j.epoch = d.epoch and j.status", "j.ctid = d.tid and j.status"),
        ),
        (f"{STORAGE}/test_settle.py::TestTheFence",),
    ),
    Mutant(
        "complete without a fence",
        "a worker that was taken for dead ends the run of its successor",
        (Edit(f"{SQL}/complete.sql", "case when c.epoch = e.epoch and c.status", "case when c.status"),),
        (f"{STORAGE}/test_settle.py::TestComplete",),
    ),
    Mutant(
        "complete that waits for a locked row",
        "one open cancel holds up the ends of all runs of its process",
        (Edit(f"{SQL}/complete.sql", "for no key update skip locked", "for no key update"),),
        (LEASES,),
    ),
    Mutant(
        "checkpoint without a fence",
        "a zombie's chunk is committed beside its successor's",
        (Edit(SQL + "/checkpoint.sql", "j.epoch = $2 and", "$2::integer is not null and"),),
        (f"{STORAGE}/test_settle.py::TestTheFence", f"{STORAGE}/test_heartbeat.py::TestCheckpoint"),
    ),
    Mutant(
        "heartbeat without a fence",
        "a zombie keeps its successor's lease alive and never learns that it is one",
        (
            Edit(HEARTBEAT, "c.job_id = h.job_id and c.epoch = h.epoch and", "c.job_id = h.job_id and"),
            Edit(HEARTBEAT, "b.job_id = h.job_id and b.epoch = h.epoch", "b.job_id = h.job_id"),
        ),
        (f"{STORAGE}/test_heartbeat.py",),
    ),
    Mutant(
        "heartbeat that waits for a locked row",
        "one open chunk holds up the renewal of every lease of its process",
        (Edit(HEARTBEAT, "for no key update skip locked", "for no key update"),),
        (LEASES,),
    ),
    Mutant(
        "epoch that does not grow",
        "two claims of a job cannot be told apart, and no fence holds",
        (Edit(EXCHANGE, "epoch = j.epoch + 1", "epoch = greatest(j.epoch, 1)"),),
        (f"{STORAGE}/test_claim.py",),
    ),
    Mutant(
        "claim that waits for locked rows",
        "workers stand in line behind each other's claims",
        (Edit(EXCHANGE, f"{_CLAIM_LOCK} skip locked) c", f"{_CLAIM_LOCK}) c"),),
        (CLAIMS,),
    ),
    Mutant(
        "claim under a stale snapshot",
        "two workers run one job, and a canceled job starts",
        (Edit(EXCHANGE, f"{_CLAIM_LOCK} skip locked) c", "where i.ctid = f.tid) c"),),
        (CLAIMS,),
    ),
    Mutant(
        "claim from a paused queue",
        "an operator's pause stops nothing",
        (Edit(EXCHANGE, "q.queue = $13 and q.paused_at is not null", "q.queue = $13 and q.paused_at is null"),),
        (f"{STORAGE}/test_claim.py",),
    ),
    Mutant(
        "suspect that is claimed with others",
        "a poison job takes innocent ones down with it",
        (
            Edit(
                EXCHANGE,
                "> 0 then v.tid = (select f.tid from foremost f) else v.losses = 0 end",
                "> 0 then true else true end",
            ),
        ),
        (f"{STORAGE}/test_claim.py::TestAJobThatWasLostBefore",),
    ),
    Mutant(
        "hand-over that is charged",
        "every deployment costs running jobs an attempt",
        (
            Edit(
                EXCHANGE,
                "case when l.kind in ('handed_over', 'retry_later') then greatest(l.attempt - 1, 0)",
                "case when l.kind = 'retry_later' then greatest(l.attempt - 1, 0)",
            ),
        ),
        (f"{STORAGE}/test_settle.py",),
    ),
    Mutant(
        "settle that waits for a locked row",
        "one row that somebody holds keeps a whole batch of runs from ending",
        (Edit(EXCHANGE, "for no key update skip locked) j\n), decided", "for no key update) j\n), decided"),),
        (LEASES,),
    ),
    Mutant(
        "cancel that is forgotten at the end",
        "a job that was asked to stop runs again",
        (Edit(EXCHANGE, "when l.cancel_requested or l.kind = 'canceled'", "when l.kind = 'canceled'"),),
        (f"{STORAGE}/test_settle.py",),
    ),
    Mutant(
        "reaper that reads, then writes",
        "a job that has just succeeded runs again",
        (
            Edit(REAP, "limit $1\n     for no key update skip locked", "limit $1"),
            Edit(REAP, "where j.job_id = d.job_id and j.status = 'running'", "where j.job_id = d.job_id"),
        ),
        (LEASES,),
    ),
    Mutant(
        "reaper that overlooks a renewal",
        "a live worker's run is taken away in the moment of its heartbeat",
        (Edit(REAP, "limit $1\n     for no key update skip locked", "limit $1"),),
        (LEASES,),
    ),
    Mutant(
        "loss that is not charged",
        "a poison job kills workers for ever",
        (Edit(REAP, "else e.losses + 1 end as losses", "else e.losses end as losses"),),
        (f"{STORAGE}/test_recovery.py::TestLosses",),
    ),
    Mutant(
        "loss that costs an attempt",
        "a job fails for what its workers suffered",
        (Edit(REAP, "attempt = greatest(j.attempt - 1, 0)", "attempt = j.attempt"),),
        (f"{STORAGE}/test_recovery.py", LEASES),
    ),
    Mutant(
        "reaper that asks for no time",
        "a statement that lay in a frozen server takes every live run",
        (
            Edit(
                REAP,
                "j.lease_expires_at < $4",
                "coalesce(j.lease_expires_at < clock_timestamp(), $4::timestamptz is null)",
            ),
        ),
        (f"{STORAGE}/test_recovery.py",),
    ),
    Mutant(
        "stray that is younger than the question",
        "the chunk of a fresh claim is cut off",
        (Edit(f"{SQL}/terminate_strays.sql", " and a.xact_start < $1", ""),),
        (f"{STORAGE}/test_strays.py",),
    ),
)
