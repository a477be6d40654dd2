"""The rules of jobs, free of I/O: states, outcomes, retry policies, progress."""

from __future__ import annotations
