"""Why a queued job waits, told from the facts; pure."""

from __future__ import annotations

from collections.abc import Iterator

from dataloader.api.v1.schemas import WaitReason
from dataloader.domain.jobs import JobStatus
from dataloader.storage.repositories.jobs import COUNT_LIMIT, WaitFacts


def reasons(facts: WaitFacts, *, lease_s: float) -> list[WaitReason]:
    """Return all that keeps a job waiting; empty for one that is not queued.

    Args:
        facts: What the database knows.
        lease_s: Lease of the workers: that long a job that was lost before waits for an idle process.
    """
    if facts.status is not JobStatus.QUEUED:
        return []
    found = [*_settings(facts), *_order(facts)]
    return found or [_next_step(facts, lease_s=lease_s)]


def _settings(facts: WaitFacts) -> Iterator[WaitReason]:
    """Yield what only an operator or time ends."""
    if facts.hold_reason is not None:
        yield WaitReason(reason="held", message=f"It is held: {facts.hold_reason}.")
    if facts.due_in_s > 0:
        message = f"It is due in {facts.due_in_s:.0f} s."
        yield WaitReason(reason="not_due", message=message, until=facts.available_at)
    if facts.paused_at is not None:
        by = f" by {facts.paused_by}" if facts.paused_by else ""
        yield WaitReason(reason="queue_paused", message=f"Queue {facts.queue} was paused{by}; resume it.")
    if facts.processes == 0:
        message = f"No live worker serves queue {facts.queue} and knows task {facts.task}."
        yield WaitReason(reason="no_worker", message=message)


def _order(facts: WaitFacts) -> Iterator[WaitReason]:
    """Yield the jobs in the way."""
    if facts.lock_job_id is not None:
        how = "runs" if facts.lock_job_status == JobStatus.RUNNING else "is about to run"
        message = f"Job {facts.lock_job_id} holds lock key {facts.lock_key!r}: it {how}."
        yield WaitReason(reason="lock", message=message, job_id=facts.lock_job_id)
    if facts.head_job_id is not None:
        message = (
            f"Job {facts.head_job_id} comes first in partition {facts.partition_key!r}: it is {facts.head_job_status}."
        )
        yield WaitReason(reason="partition", message=message, job_id=facts.head_job_id)


def _next_step(facts: WaitFacts, *, lease_s: float) -> WaitReason:
    """Return what a job waits for when nothing is in its way."""
    if not facts.ready:
        return WaitReason(reason="turn", message="It is its turn, or nearly: it is offered to workers within a moment.")
    if facts.losses > 0:
        message = f"Its worker died: it runs alone, in an idle process at once, beside others after {lease_s:.0f} s."
        return WaitReason(reason="after_loss", message=message, ahead=facts.ahead)
    number = f"{COUNT_LIMIT} or more" if facts.ahead >= COUNT_LIMIT else str(facts.ahead)
    message = f"It waits for a free slot: {number} jobs come first, {facts.running} of {facts.slots} slots are taken."
    return WaitReason(reason="slot", message=message, ahead=facts.ahead)
