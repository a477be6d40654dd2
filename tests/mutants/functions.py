"""Mutants of the functions in the database: enqueue, promote, cancel."""

from __future__ import annotations

from tests.mutants.mutant import FUNCTIONS, Edit, Mutant
from tests.mutants.statements import STORAGE

ENQUEUE = f"{FUNCTIONS}/04_enqueue.sql"
PROMOTE = f"{FUNCTIONS}/05_promote.sql"
OPERATE = f"{FUNCTIONS}/06_operate.sql"
KEYS = f"{STORAGE}/interleavings/test_keys.py"
_FOUND = "  if not found then\n    return;\n  end if;\n\n"
_TURN = "select true from {schema}.dl_jobs t where t.lock_key = l and (t.ready or t.status = 'running') limit 1"
_FREE = f"where ({_TURN}) is null"

FUNCTION_MUTANTS = (
    Mutant(
        "idempotency answered from one snapshot",
        "of two clients with the same key one gets an error instead of the job",
        (
            Edit(ENQUEUE, "for i in 1..3 loop", "for i in 1..1 loop"),
            Edit(
                ENQUEUE,
                "    insert into {schema}.dl_idempotency as k (",
                "    with added as (insert into {schema}.dl_idempotency as k (",
            ),
            Edit(ENQUEUE, "        on conflict do nothing;", "        on conflict do nothing returning k.*)"),
            Edit(
                ENQUEUE,
                "i.final_status from {schema}.dl_idempotency i\n",
                "i.final_status from (select * from {schema}.dl_idempotency union all select * from added) i\n",
            ),
        ),
        (KEYS, "-k", "same_key or same and key"),
    ),
    Mutant(
        "partition without a lock at enqueue",
        "jobs of a partition start in another order than they were acknowledged",
        (Edit(ENQUEUE, "perform pg_advisory_xact_lock(p.hash)", "perform p.hash"),),
        (KEYS,),
    ),
    Mutant(
        "replay that overlooks another request",
        "a client takes somebody else's job for its own",
        (
            Edit(
                ENQUEUE,
                "k.job_id <> v_ids[e.n::integer] and k.fingerprint <>",
                "k.job_id <> v_ids[e.n::integer] and k.fingerprint is null and k.fingerprint <>",
            ),
        ),
        (KEYS,),
    ),
    Mutant(
        "promotion without its lock",
        "two jobs of a key are offered at once",
        (Edit(PROMOTE, "perform pg_advisory_xact_lock(k.hash)", "perform k.hash"),),
        (KEYS,),
    ),
    Mutant(
        "promotion that looks before it locks",
        "a lock that comes late vouches for a look that was too early",
        (
            Edit(PROMOTE, "  v_now timestamptz;\nbegin", "  v_now timestamptz;\n  v_free text[];\nbegin"),
            Edit(
                PROMOTE,
                "  perform pg_advisory_xact_lock(k.hash)",
                f"  v_free := array(select l from unnest(p_lock_keys) l {_FREE}\n"
                "    and exists (select from {schema}.dl_jobs q where q.lock_key = l and q.status = 'queued'));\n"
                "  perform pg_advisory_xact_lock(k.hash)",
            ),
            Edit(PROMOTE, f"select l from unnest(v_locks) l\n     {_FREE}", "select l from unnest(v_free) l"),
        ),
        (KEYS,),
    ),
    Mutant(
        "promotion of a running job's successor",
        "two jobs of a key run at a time",
        (
            Edit(
                PROMOTE,
                "where t.lock_key = l and (t.ready or t.status = 'running') limit 1) is null\n  ), picked",
                "where t.lock_key = l and t.ready limit 1) is null\n  ), picked",
            ),
        ),
        (KEYS,),
    ),
    Mutant(
        "head of a partition by priority",
        "an urgent job overtakes those before it in its partition",
        (
            Edit(
                PROMOTE,
                "order by j.seq limit 1) h\n       where (select true",
                "order by j.seq desc limit 1) h\n       where (select true",
            ),
        ),
        (f"{STORAGE}/test_promote.py",),
    ),
    Mutant(
        "cancel that a waiting job ignores",
        "a job that was canceled before it began is run",
        (
            Edit(
                OPERATE,
                "set status = 'canceled', cancel_requested = true, ready = false, finished_at = clock_timestamp()",
                "set cancel_requested = true",
            ),
        ),
        (f"{STORAGE}/test_operate.py",),
    ),
    Mutant(
        "cancel that looks without a lock",
        "a cancel beside a claim cancels a job that runs",
        (
            Edit(
                OPERATE,
                f"where j.job_id = p_job_id for no key update;\n{_FOUND}  if v_job.status = 'queued'",
                f"where j.job_id = p_job_id;\n{_FOUND}  if v_job.status = 'queued'",
            ),
        ),
        (f"{STORAGE}/interleavings/test_claims.py",),
    ),
    Mutant(
        "retry by hand that falls back to an old epoch",
        "the fence of a former run fits the next one",
        (
            Edit(
                OPERATE,
                "set status = 'queued', attempt = 0, losses = 0,",
                "set status = 'queued', attempt = 0, epoch = 0, losses = 0,",
            ),
        ),
        (f"{STORAGE}/test_operate.py",),
    ),
)
