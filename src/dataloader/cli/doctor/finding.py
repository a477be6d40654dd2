"""What an examination finds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from dataloader.exceptions import DataloaderError


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: What was looked at.
        detail: What was found.
        advice: What to do about it, empty when nothing.
    """

    check: str
    verdict: Verdict
    detail: str
    advice: str = ""


@dataclass(slots=True)
class Report:
    """The findings so far; each check adds its own."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing failed."""
        return all(finding.verdict is not Verdict.FAILED for finding in self.findings)

    def ok(self, check: str, detail: str) -> None:
        """Note that a check passed."""
        self.findings.append(Finding(check, Verdict.OK, detail))

    def warn(self, check: str, detail: str, advice: str) -> None:
        """Note what works, but worse than it could."""
        self.findings.append(Finding(check, Verdict.WARNING, detail, advice))

    def fail(self, check: str, detail: str, advice: str = "") -> None:
        """Note what keeps the service from working."""
        self.findings.append(Finding(check, Verdict.FAILED, detail, advice))

    def skip(self, check: str, reason: str) -> None:
        """Note what was not looked at."""
        self.findings.append(Finding(check, Verdict.SKIPPED, reason))

    async def run(self, check: str, examine: Callable[[], Awaitable[None]]) -> bool:
        """Run a check that adds its own finding; return whether it came to one by itself.

        An error that we raise on purpose is a failure whose message is the finding.
        """
        try:
            await examine()
        except DataloaderError as error:
            self.fail(check, error.message)
            return False
        return True
