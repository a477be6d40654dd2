"""Loads an example as DL_PIPELINES does, and forgets it afterwards."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from dataloader.workers.pipelines.registry import REGISTRY, Registry, load_all


@pytest.fixture
def load() -> Iterator[Callable[[str], Registry]]:
    """Return the registry with the pipelines of a module in it; other tests know the built-in ones only."""
    before, loaded = {spec.name: spec for spec in load_all()}, set[str]()

    def load_module(module: str) -> Registry:
        loaded.add(module)
        sys.modules.pop(module, None)
        return load_all([module])

    yield load_module
    REGISTRY._specs = before
    for module in loaded:
        sys.modules.pop(module, None)
