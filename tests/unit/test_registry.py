"""Registering pipelines: which functions are taken, what is read of them, and what is refused."""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from dataloader.config import QueueWorkers
from dataloader.domain.jobs import OnPartitionFailure
from dataloader.domain.retry import ExponentialBackoff
from dataloader.exceptions import InvalidArgsError, SettingsError, UnknownTaskError
from dataloader.workers.base import tasks_of
from dataloader.workers.pipelines.registry import REGISTRY, Registry, load_all, register
from dataloader.workers.pipelines.spec import TaskOptions, TaskSpec, describe

if TYPE_CHECKING:
    from decimal import Decimal  # a name that exists for type checkers only

    import typed_only  # type: ignore[import-not-found]


class Args(BaseModel):
    """Arguments of a load."""

    day: str
    limit: int = Field(default=3, ge=1)


class Undescribable(BaseModel):
    """Arguments that cannot be published."""

    call: Callable[[int], int]


@pytest.fixture
def registry() -> Registry:
    return Registry()


def spec_of(pipeline: Callable[..., Any]) -> TaskSpec:
    return describe("t", pipeline, queue=None, options=TaskOptions())


async def plain(args: dict[str, object]) -> AsyncGenerator[object, None]:
    yield args


class TestSignatures:
    async def test_the_short_form_takes_a_dict_of_its_own(self) -> None:
        spec, given = spec_of(plain), {"a": 1}
        args = spec.parse_args(given)

        assert [item async for item in spec.start(args, object())] == [given]
        assert args is not given
        assert (spec.args_model, spec.takes_context, spec.args_schema()) == (None, False, None)

    async def test_a_second_parameter_is_the_context(self) -> None:
        async def pipeline(args: dict[str, object], ctx: object) -> AsyncGenerator[object, None]:
            yield ctx

        context = object()
        assert [item async for item in spec_of(pipeline).start({}, context)] == [context]

    def test_a_model_gives_validation_and_a_schema(self) -> None:
        async def pipeline(args: Args, ctx: object) -> AsyncGenerator[None, None]:
            yield

        spec = spec_of(pipeline)

        assert spec.args_model is Args
        assert spec.parse_args({"day": "x"}) == Args(day="x")
        assert (spec.args_schema() or {})["required"] == ["day"]

    def test_bad_arguments_are_told_by_field_without_their_values(self) -> None:
        async def pipeline(args: Args) -> AsyncGenerator[None, None]:
            yield

        with pytest.raises(InvalidArgsError) as caught:
            spec_of(pipeline).parse_args({"limit": "s3cret"})

        errors = caught.value.details["errors"]
        assert [error["field"] for error in errors] == ["args.day", "args.limit"]  # type: ignore[attr-defined]
        assert "s3cret" not in str(errors)

    def test_an_annotation_that_only_type_checkers_know_is_taken_as_any(self) -> None:
        async def pipeline(args: Decimal, ctx: object) -> AsyncGenerator[None, None]:
            yield

        assert spec_of(pipeline).args_model is None

    def test_an_attribute_of_a_module_that_only_type_checkers_import_is_no_fault(self) -> None:
        async def pipeline(args: Args, ctx: typed_only.Context) -> AsyncGenerator[None, None]:
            yield

        async def other(args: typed_only.Args) -> AsyncGenerator[None, None]:
            yield

        assert spec_of(pipeline).args_model is Args
        assert spec_of(other).args_model is None

    def test_no_annotation_at_all_is_fine(self) -> None:
        async def pipeline(args, ctx):  # type: ignore[no-untyped-def]
            yield

        assert spec_of(pipeline).takes_context

    def test_the_first_line_of_the_docstring_is_the_description(self) -> None:
        async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
            """Load rates.

            More of it.
            """
            yield

        assert spec_of(pipeline).doc == "Load rates."
        assert spec_of(plain).doc == ""

    def test_keyword_parameters_beside_the_two_do_not_count(self) -> None:
        async def pipeline(args: dict[str, object], ctx: object, **more: object) -> AsyncGenerator[None, None]:
            yield

        assert spec_of(pipeline).takes_context


class TestRefusals:
    def test_a_plain_function(self) -> None:
        def pipeline(args: dict[str, object]) -> None: ...

        with pytest.raises(
            TypeError,
            match=r"t: a pipeline is an `async def`.*needs a process of its own: register it with",
        ):
            spec_of(pipeline)

    def test_a_function_without_a_yield(self) -> None:
        async def pipeline(args: dict[str, object]) -> None: ...

        with pytest.raises(TypeError, match="an `async def` without a `yield` is not"):
            spec_of(pipeline)

    def test_something_that_is_no_function(self) -> None:
        with pytest.raises(TypeError, match="int is not"):
            spec_of(5)  # type: ignore[arg-type]

    def test_a_model_that_has_no_json_schema(self) -> None:
        async def pipeline(args: Undescribable) -> AsyncGenerator[None, None]:
            yield

        with pytest.raises(TypeError, match=r"t: the model Undescribable of its arguments has no JSON Schema: .*"):
            spec_of(pipeline)

    def test_no_parameter_and_too_many(self) -> None:
        async def none() -> AsyncGenerator[None, None]:
            yield

        async def three(args: object, ctx: object, more: object) -> AsyncGenerator[None, None]:
            yield

        for pipeline in (none, three):
            with pytest.raises(TypeError, match="takes `args`, or `args` and a JobContext"):
                spec_of(pipeline)

    @pytest.mark.parametrize("name", ["", "Upper", "a b", "a" * 64, "a/b", "é", "a\n"])
    def test_a_malformed_name_of_a_task_or_a_queue(self, registry: Registry, name: str) -> None:
        with pytest.raises(ValueError, match="is not a name"):
            register(name, registry=registry)(plain)
        with pytest.raises(ValueError, match="is not a name"):
            register("t", queue=name, registry=registry)(plain)

    def test_a_name_that_another_pipeline_has(self, registry: Registry) -> None:
        async def other(args: dict[str, object]) -> AsyncGenerator[None, None]:
            yield

        register("t", registry=registry)(plain)

        with pytest.raises(ValueError, match=r"'t' is registered twice: .*plain and .*other"):
            register("t", registry=registry)(other)

    def test_a_policy_that_does_not_exist(self) -> None:
        with pytest.raises(ValueError, match="stop"):
            register("t", on_partition_failure="stop")


class TestTheRegistry:
    def test_what_is_registered_is_found(self, registry: Registry) -> None:
        assert register("b", queue="q", registry=registry)(plain) is plain
        register("a", registry=registry)(plain)

        assert [spec.name for spec in registry] == ["a", "b"]
        assert "a" in registry
        assert "c" not in registry
        assert registry.get("b").queue == "q"
        assert registry.queues() == ["q"]
        assert registry.tasks_on("q") == ["a", "b"]
        assert registry.tasks_on("other") == ["a"]

    def test_the_same_pipeline_may_be_registered_again_as_a_reload_does(self, registry: Registry) -> None:
        register("t", queue="old", registry=registry)(plain)
        register("t", queue="new", registry=registry)(plain)

        assert registry.queues() == ["new"]

    def test_an_unknown_task_is_refused_with_the_known_names(self, registry: Registry) -> None:
        register("t", registry=registry)(plain)

        with pytest.raises(UnknownTaskError) as caught:
            registry.get("nope")

        assert caught.value.details == {"known": ["t"]}

    def test_the_options_of_a_task_are_kept_and_published(self, registry: Registry) -> None:
        retry = ExponentialBackoff()
        register(
            "t", retry=retry, max_attempts=2, max_losses=1, timeout_s=5.0, stall_timeout_s=1.0,
            on_partition_failure="block", start_over_on_progress=True, registry=registry,
        )(plain)  # fmt: skip

        options = registry.get("t").options
        assert options.retry is retry
        assert options.on_partition_failure is OnPartitionFailure.BLOCK
        assert options.as_json() == {
            "max_attempts": 2, "max_losses": 1, "timeout_s": 5.0, "stall_timeout_s": 1.0, "start_over_on_progress": True
        }  # fmt: skip


class TestLoading:
    def test_the_built_in_pipelines_are_known(self) -> None:
        registry = load_all()

        assert registry is REGISTRY
        assert {"noop", "cbr.daily_rates"} <= {spec.name for spec in registry}

    def test_modules_named_in_a_setting_are_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written(tmp_path, "my_loads_by_setting", registers("by.setting"))
        monkeypatch.syspath_prepend(tmp_path)

        assert "by.setting" in load_all(["my_loads_by_setting"])

    def test_a_module_of_the_current_directory_is_found(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        written(tmp_path, "my_loads_here", registers("by.directory"))
        monkeypatch.setattr(sys, "path", list(sys.path))
        monkeypatch.chdir(tmp_path)

        assert "by.directory" in load_all(["my_loads_here"])
        with pytest.raises(SettingsError, match=f"No module named 'my_loads_there' in {tmp_path} or elsewhere"):
            load_all(["my_loads_there"])

    def test_entry_points_of_installed_packages_are_loaded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written(tmp_path, "my_loads_by_entry", registers("by.entry"))
        installed(tmp_path, "my-loads", "mine = my_loads_by_entry")
        monkeypatch.syspath_prepend(tmp_path)

        assert "by.entry" in load_all()

    @pytest.mark.parametrize(
        ("source", "reason"),
        [
            (None, "ModuleNotFoundError"),
            ("raise RuntimeError('no licence')", "RuntimeError: no licence"),
            ("raise SystemExit(3)", "SystemExit: 3"),
            ("def (", "SyntaxError"),
            ("from dataloader import register\n@register('x')\ndef x(args): ...", "TypeError: x: a pipeline is"),
        ],
    )
    def test_a_module_that_cannot_be_imported_is_named_with_the_reason(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, reason: str
    ) -> None:
        name = f"broken_{re.sub(r'[^a-z]', '_', reason.lower())}"
        if source is not None:
            written(tmp_path, name, source)
        monkeypatch.syspath_prepend(tmp_path)

        with pytest.raises(SettingsError, match=f"^DL_PIPELINES: {name} cannot be loaded: {reason}"):
            load_all([name])

    def test_an_entry_point_that_cannot_be_loaded_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        installed(tmp_path, "broken-loads", "broken = no_such_module_at_all")
        monkeypatch.syspath_prepend(tmp_path)

        with pytest.raises(SettingsError, match=r"^entry point broken cannot be loaded: ModuleNotFoundError"):
            load_all()


def test_a_task_that_is_named_twice_for_a_queue_is_taken_once(registry: Registry) -> None:
    for name in ("a", "b"):
        register(name, registry=registry)(takes_a_dict)

    assert tasks_of(QueueWorkers(queue="q", tasks=("b", "a", "b", "unknown")), registry) == ["b", "a"]


async def takes_a_dict(args: dict[str, object]) -> AsyncGenerator[None, None]:
    yield


def registers(task: str) -> str:
    return f"from dataloader import register\n@register({task!r})\nasync def pipeline(args: dict):\n    yield\n"


def written(directory: Path, module: str, source: str) -> None:
    """Write a module, one that was not imported before."""
    assert module not in sys.modules
    (directory / f"{module}.py").write_text(source, encoding="utf-8")


def installed(directory: Path, package: str, entry: str) -> None:
    """Make a directory look like one with an installed package."""
    info = directory / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[dataloader.pipelines]\n{entry}\n", encoding="utf-8")
