"""Daily futures settlement of the Singapore Exchange."""

from __future__ import annotations

from dataloader.workers.pipelines.sgx.args import SgxFuturesArgs
from dataloader.workers.pipelines.sgx.pipeline import load_futures

__all__ = ["SgxFuturesArgs", "load_futures"]
