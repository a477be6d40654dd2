"""Mutants of the parts of the service: leases, listener, chunks, drain, desk, masking."""

from __future__ import annotations

from tests.mutants.mutant import API, SOURCE, WORKERS, Edit, Mutant

WORK = "tests/workers"
LEASES = f"{WORKERS}/leases.py"
LISTENER = f"{SOURCE}/storage/notify_listener.py"

PARTS = (
    Mutant(
        "heartbeat on the loop of the pipelines",
        "one blocking call costs every lease of its process",
        (
            Edit(
                f"{WORKERS}/manager.py",
                "        self._leases.open()\n",
                "        asyncio.run_coroutine_threadsafe(self._leases._serve(), self._executor._loop)\n",
            ),
        ),
        (f"{WORK}/test_lifecycle.py", "-k", "blocked_loop"),
    ),
    Mutant(
        "lost lease that stops nobody",
        "a run that was taken away goes on for hours",
        (Edit(LEASES, "            run.request_stop(StopReason.LEASE_LOST)\n", ""),),
        (f"{WORK}/test_leases.py",),
    ),
    Mutant(
        "own deadline that is not kept",
        "a worker cut off from the database works on beside its successor",
        (Edit(LEASES, "                self._stop_cut_off()\n", ""),),
        (f"{WORK}/test_leases.py",),
    ),
    Mutant(
        "busy heartbeat that counts as a renewal",
        "a worker trusts a lease that nobody has renewed",
        (Edit(LEASES, "if beat.verdict is Verdict.OK:", "if beat.verdict is not Verdict.LOST:"),),
        (f"{WORK}/test_leases.py",),
    ),
    Mutant(
        "reaper that does not measure its own gap",
        "after an outage every live run is taken away before it could renew",
        (
            Edit(
                f"{WORKERS}/reaper.py",
                "if self._looked_s is None or now_s - self._looked_s > settings.dl_default_lease_ttl_sec / 2:",
                "if self._looked_s is None:",
            ),
        ),
        (f"{WORK}/test_reaper.py",),
    ),
    Mutant(
        "suspect that does not run alone",
        "a poison job takes the runs beside it along",
        (Edit(f"{WORKERS}/fleet.py", "return not self._suspects", "return True"),),
        (f"{WORK}/test_suspects.py",),
    ),
    Mutant(
        "drain that abandons",
        "a deployment leaves jobs to the reaper, a lease later and with a loss",
        (
            Edit(f"{WORKERS}/runner.py", 'return HandedOver("shutdown")', 'return Abandoned("shutdown")'),
            Edit(f"{WORKERS}/manager.py", "            steps.push_async_callback(self._give_back_the_rest)\n", ""),
        ),
        (f"{WORK}/test_lifecycle.py", "-k", "shutdown"),
    ),
    Mutant(
        "fence before the rows of a chunk",
        "a chunk of a run that lost its lease meanwhile is committed",
        (
            Edit(
                f"{WORKERS}/chunks.py",
                "            yield chunk\n",
                "            await chunk.seal()\n            yield chunk\n",
            ),
            Edit(
                f"{WORKERS}/chunks.py",
                "                sent_s = time.monotonic()\n                await chunk.seal()\n",
                "                sent_s = time.monotonic()\n",
            ),
        ),
        (f"{WORK}/test_lifecycle.py", "-k", "runs_to_its_end"),
    ),
    Mutant(
        "fence whose answer is ignored",
        "a zombie's rows are committed twice",
        (Edit(f"{WORKERS}/chunks.py", "        if asked is None:\n", "        if asked is None and not self.rows:\n"),),
        (f"{WORK}/test_chunks.py",),
    ),
    Mutant(
        "outage that is charged",
        "a restart of the database fails jobs",
        (Edit(f"{WORKERS}/runner.py", "if _is_outage(error) else None", "if False else None"),),
        (f"{WORK}/test_chunks.py",),
    ),
    Mutant(
        "error of a run that is not masked",
        "a password is stored with the job and shown by the API",
        (
            Edit(
                f"{WORKERS}/runner.py", "mask(clean_text(message, 2_000)), trace)", "clean_text(message, 2_000), trace)"
            ),
        ),
        (f"{WORK}/test_chunks.py",),
    ),
    Mutant(
        "registered secret that is not masked",
        "a password of the settings stands in the log",
        (
            Edit(
                f"{SOURCE}/logger/masking.py",
                "masked = mask_text(pattern.sub(MASK, value))",
                "masked = mask_text(value)",
            ),
            Edit(f"{SOURCE}/logger/masking.py", "return MASK if pattern.search(masked) else masked", "return masked"),
        ),
        ("tests/unit/test_logger_masking.py",),
    ),
    Mutant(
        "result that is not cleaned",
        "a pipeline that returns NUL never ends: its outcome cannot be written",
        (Edit(f"{SOURCE}/domain/json_values.py", '.replace("\\x00", _REPLACEMENT)', ""),),
        ("tests/storage/test_settle.py", "-k", "whatever"),
    ),
    Mutant(
        "poll before listen",
        "what is announced between the two waits for the next poll",
        (
            Edit(
                LISTENER,
                "            await connection.add_listener(self._channel, self._on_notification)\n",
                "            self._tell_all()\n"
                "            await connection.add_listener(self._channel, self._on_notification)\n",
            ),
            Edit(
                LISTENER,
                "            self.connected = True\n            self._tell_all()\n",
                "            self.connected = True\n",
            ),
        ),
        ("tests/storage/test_notify.py", "-k", "pooler_swallowed"),
    ),
    Mutant(
        "no poll after a reconnect",
        "what was announced during the gap waits for the next poll",
        (
            Edit(
                LISTENER,
                "            self.connected = True\n            self._tell_all()\n",
                "            self.connected = True\n",
            ),
        ),
        ("tests/storage/test_notify.py::TestListener",),
    ),
    Mutant(
        "announcement before the commit",
        "workers look too early, and keyed jobs wait for the sweep",
        (
            Edit(
                f"{API}/service.py",
                "            _refuse_conflicts(answers, bulk=True)\n        await self._announce(jobs, answers)\n",
                "            _refuse_conflicts(answers, bulk=True)\n            await self._announce(jobs, answers)\n",
            ),
        ),
        ("tests/api/test_bulk.py",),
    ),
    Mutant(
        "unclear commit that is written anew",
        "a job whose commit was not confirmed exists twice",
        (Edit(f"{API}/desk.py", "        job = replace(job, job_id=job_id)\n", ""),),
        ("tests/api/test_desk.py", "-k", "not_confirmed"),
    ),
    Mutant(
        "unclear end that is not looked up",
        "a run whose end was written without an answer keeps its slot for ever",
        (
            Edit(
                f"{WORKERS}/endings.py",
                "{**await self._fates(batch, written), **written}",
                "{**dict.fromkeys((run.lease for run, _ in batch), JobStatus.RUNNING), **written}",
            ),
        ),
        (f"{WORK}/test_exchange.py", "-k", "counted_once"),
    ),
    Mutant(
        "batch apart that leaves no slots",
        "the server settles a large batch and has nothing to claim beside it",
        (Edit(f"{WORKERS}/endings.py", "            self._under_way = len(self._waiting)\n", ""),),
        (f"{WORK}/test_endings.py", "-k", "while_jobs_are_claimed"),
    ),
    Mutant(
        "claim ahead of a job that is to run alone",
        "what killed its last worker takes five hundred more runs with it",
        (Edit(f"{WORKERS}/base.py", 'return not any(row["losses"] for row in exchanged.rows)', "return True"),),
        (f"{WORK}/test_ahead.py",),
    ),
    Mutant(
        "claim ahead that counts as nothing",
        "a job that was lost before runs beside others, and may take them with it",
        (Edit(f"{WORKERS}/base.py", " and not self._fleet.ahead\n", "\n"),),
        (f"{WORK}/test_ahead.py",),
    ),
    Mutant(
        "batch apart that is forgotten when its answer is lost",
        "runs whose end was written keep their slots for ever",
        (
            Edit(
                f"{WORKERS}/endings.py",
                "                    self.put_back(batch)\n                    raise\n",
                "                    raise\n",
            ),
        ),
        (f"{WORK}/test_endings.py", "-k", "counted_once"),
    ),
)
