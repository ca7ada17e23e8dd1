"""Imports inside src/sft point one way, those inside functions and under TYPE_CHECKING included.

cli -> dialects, training, evaluation, export, report -> generation, models, tasks, data, trackers, notebook
    -> config -> terminal -> errors
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src"

LAYERS = (
    ("cli",),
    ("dialects", "training", "evaluation", "export", "report"),
    ("generation", "models", "tasks", "data", "trackers", "notebook"),
    ("config",),
    ("terminal",),
    ("errors",),
)
LEVELS = {package: level for level, packages in enumerate(LAYERS) for package in packages}

# Packages of one layer that may use each other, in this direction only.
SIDEWAYS = {
    ("training", "evaluation"),
    ("training", "export"),
    ("training", "report"),  # a run leaves its page behind
    ("report", "evaluation"),  # the history of scores, and where answers lie
    ("models", "data"),  # a tokenizer's template is one of data/templates
    ("tasks", "data"),  # rows of a benchmark are read as all rows are, and may be trained on
}

# They are read before, or without, a model: a mistake in a config or in data is found at once, and cheaply.
LIGHT = (
    "sft", "sft.__main__", "sft.errors", "sft.terminal*", "sft.config*", "sft.dialects*", "sft.cli.main",
    "sft.data", "sft.data.types", "sft.data.sources*", "sft.data.formats*", "sft.data.conversations",
    "sft.data.packing", "sft.data.lengths", "sft.data.templates*", "sft.tasks*",
)  # fmt: skip
HEAVY = ("torch", "transformers", "accelerate", "peft", "datasets", "safetensors", "trl", "bitsandbytes", "deepspeed")


class Import(NamedTuple):
    """One imported module or name, and where it is written."""

    target: str
    line: int


def read_modules(source: Path) -> dict[str, list[Import]]:
    """Every module below ``source``, by its dotted name, with all it imports."""
    modules = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        modules[name] = list(find_imports(path.read_text(encoding="utf-8"), name, is_package=is_package))
    return modules


def find_imports(text: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """The imports of one file, wherever in it they stand; ``importlib.import_module("name")`` counts too."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: None if is_package and node.level == 1 else -node.level + is_package]
                base = ".".join([*package, *([base] if base else [])])
            yield from (Import(f"{base}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield Import(name.value, node.lineno)


def wrong_directions(modules: dict[str, list[Import]]) -> list[str]:
    """One line for each import that points up or sideways."""
    return [
        f"{module}, line {found.line}: imports {found.target}"
        for module, imports in modules.items()
        for found in imports
        if not is_allowed(module, found.target)
    ]


def is_allowed(module: str, target: str) -> bool:
    """Whether ``module`` may import ``target``. The root ``sft`` and ``sft.__main__`` stand above everything."""
    if target.split(".")[0] != "sft" or target == "sft.__version__" or module in ("sft", "sft.__main__"):
        return True
    user, used = module.split(".")[1], [*target.split("."), ""][1]
    if used not in LEVELS or user not in LEVELS:
        return False
    return user == used or LEVELS[user] < LEVELS[used] or (user, used) in SIDEWAYS


def heavy_imports(modules: dict[str, list[Import]]) -> list[str]:
    """One line for each import of a heavy library in a module that must stay light."""
    return [
        f"{module}, line {found.line}: imports {found.target}"
        for module, imports in modules.items()
        if any(fnmatch(module, pattern) for pattern in LIGHT) and module != "sft.tasks.bleurt"
        for found in imports
        if found.target.split(".")[0] in HEAVY
        and not (module == "sft.data.sources.hub" and found.target[:8] == "datasets")
    ]


@pytest.fixture(scope="module")
def modules() -> dict[str, list[Import]]:
    return read_modules(SOURCE)


def test_imports_point_one_way(modules: dict[str, list[Import]]) -> None:
    assert wrong_directions(modules) == []


def test_light_modules_stay_light(modules: dict[str, list[Import]]) -> None:
    assert heavy_imports(modules) == []


def test_every_package_has_a_layer(modules: dict[str, list[Import]]) -> None:
    packages = {name.split(".")[1] for name in modules if "." in name} - {"__main__"}
    assert packages <= set(LEVELS)


def test_patterns_of_light_modules_match_something(modules: dict[str, list[Import]]) -> None:
    assert [pattern for pattern in LIGHT if not any(fnmatch(name, pattern) for name in modules)] == []


def test_every_import_of_ours_exists(modules: dict[str, list[Import]]) -> None:
    ours = [target for imports in modules.values() for target, _ in imports if target.split(".")[0] == "sft"]
    missing = [target for target in ours if target not in modules and target.rpartition(".")[0] not in modules]
    assert missing == []


@pytest.mark.parametrize(
    ("module", "text", "target"),
    [
        ("sft.data.render", "from sft.training.loss import sum_loss", "sft.training.loss.sum_loss"),
        ("sft.data.render", "def f():\n    import sft.cli.main", "sft.cli.main"),
        ("sft.config.load", "if TYPE_CHECKING:\n    from sft.data import types", "sft.data.types"),
        ("sft.config.load", "from ..data.types import Row", "sft.data.types.Row"),
        ("sft.export.save", "from sft.training import run", "sft.training.run"),
        ("sft.evaluation.run", "from sft.training import run", "sft.training.run"),
        ("sft.data.show", "import importlib\nimportlib.import_module('sft.models.load')", "sft.models.load"),
        ("sft.errors", "from sft.config import SFTConfig", "sft.config.SFTConfig"),
        ("sft.training.run", "from sft import SFTConfig", "sft.SFTConfig"),
        ("sft.training.run", "import sft", "sft"),
        ("sft.training.run", "from sft.helpers import join", "sft.helpers.join"),
    ],
)
def test_a_wrong_import_is_found(module: str, text: str, target: str) -> None:
    found = list(find_imports(text, module))
    line = found[-1].line
    assert wrong_directions({module: found}) == [f"{module}, line {line}: imports {target}"]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("sft.training.run", "from sft.evaluation import run\nfrom sft.export.save import save_final"),
        ("sft.cli.train", "from sft.training.run import run_training"),
        ("sft.data.render", "from .types import Row\nfrom ..config import SFTConfig\nfrom . import types"),
        ("sft", "from sft.cli.main import main"),
        ("sft.export.card", "from sft import __version__"),
        ("sft.errors", "import json"),
    ],
)
def test_a_right_import_passes(module: str, text: str) -> None:
    assert wrong_directions({module: list(find_imports(text, module))}) == []


@pytest.mark.parametrize("text", ["import torch", "def f():\n    from transformers import AutoTokenizer"])
def test_a_heavy_import_is_found(text: str) -> None:
    found = list(find_imports(text, "sft.config.load"))
    assert len(heavy_imports({"sft.config.load": found})) == 1
    assert heavy_imports({"sft.training.run": found}) == []


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert [target for target, _ in find_imports("from .load import x", "sft.config", is_package=True)] == [
        "sft.config.load.x"
    ]
    assert [target for target, _ in find_imports("from ..errors import x", "sft.config", is_package=True)] == [
        "sft.errors.x"
    ]


def test_heavy_libraries_are_no_part_of_python() -> None:
    assert not set(HEAVY) & set(sys.stdlib_module_names)
