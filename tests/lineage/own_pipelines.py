"""Pipelines of users, and the one of the guide."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from dataloader import JobContext
from dataloader.domain.retry import LinearBackoff
from dataloader.workers.pipelines.registry import Registry, load_all, register
from tests.architecture.documents import ROOT, blocks

QUEUE = "own"


def make_registry(folder: Path) -> Registry:
    """Return a registry that knows the built-in pipelines, the guide's, and three more."""
    registry = Registry()
    for spec in load_all():
        registry.add(spec)
    _import_guide(folder / "guide.py", registry)

    @register("own.once", queue=QUEUE, registry=registry, retry=LinearBackoff(base_s=0.01))
    async def fail_once(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        """Fail at the first attempt, behind its chunk."""
        async with ctx.transaction() as tx:
            tx.record(source=f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise ValueError("not yet")
        yield

    @register("own.both", queue=QUEUE, registry=registry)
    async def write_both(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        """Write to two tables."""
        async with ctx.transaction() as tx:
            for table in ("a", "b"):
                await tx.ensure_table(table, {"n": "int"}, primary_key=["n"])
            await tx.upsert("a", [{"n": 1}], key=["n"])
            await tx.copy_rows("b", [(1,), (2,)])
            tx.record(source="a feed that only we know")
        yield

    @register("own.careless", queue=QUEUE, registry=registry)
    async def tell_secrets(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        """Name what is read and written by addresses with all that is in them."""
        async with ctx.transaction() as tx:
            tx.record(
                source="https://s3user:s3cret@h:8443/f.csv?sig=s3cret",
                target="postgresql://s3user:s3cret@h:5432/shop.public.t?password=s3cret",
            )
        async with ctx.transaction() as tx:
            tx.record(source="host=h dbname=shop password=s3cret")
        yield

    return registry


def _import_guide(path: Path, registry: Registry) -> None:
    (source,) = [text for text in blocks(ROOT / "docs" / "pipelines.md", "python") if "tx.dataset" in text]
    path.write_text(source.replace('queue="shop"', f'queue="{QUEUE}", registry=registry'))
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    module.registry = registry  # type: ignore[attr-defined]
    spec.loader.exec_module(module)
