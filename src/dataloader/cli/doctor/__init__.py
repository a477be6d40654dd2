"""`dataloader doctor`: looks at everything a process needs, and says what to do about what is missing."""

from __future__ import annotations

from dataloader.cli.doctor.command import register_doctor

__all__ = ["register_doctor"]
