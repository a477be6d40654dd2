"""Official exchange rates of the Bank of Russia."""

from __future__ import annotations

from dataloader.workers.pipelines.cbr.args import CbrRatesArgs
from dataloader.workers.pipelines.cbr.pipeline import load_daily_rates

__all__ = ["CbrRatesArgs", "load_daily_rates"]
