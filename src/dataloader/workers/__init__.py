"""What runs jobs: claims, leases, runs, recovery, and the pipelines themselves."""

from __future__ import annotations
