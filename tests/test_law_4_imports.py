"""Law 4: imports point down. Reads the imports of every file; a file that breaks the law is named with the reason."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import farthing

# From the ground up; a floor may import every floor below it, and itself. Rooms of one floor don't know each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("root",),
    ("quantization", "hardware"),
    ("kernels", "ops"),
    ("scheduler", "models"),
    ("runtime", "planner", "hub"),
    ("engine",),
    ("server", "client"),
    ("cli",),
)
LEVEL = {folder: level for level, folders in enumerate(FLOORS) for folder in folders}
TORCH_FREE = {"root", "quantization", "hardware", "ops", "scheduler", "models", "planner", "hub", "client"}
# What a torch-free floor and the command line may take from outside the standard library.
OUTSIDE = {
    "hardware": {"platformdirs", "pynvml"},
    "hub": {"huggingface_hub", "httpx2"},
    "cli": {"cyclopts", "rich", "platformdirs", "matplotlib"},
}
# Calls that import, and the two files that load by name ("a file's name is its registration"; `LLM` on first use).
CALLS = {"import_module", "__import__"}
ALLOWED_CALLS = {"farthing.discover": {"import_module"}, "farthing": {"import_module"}}


def module_name(path: Path, source: Path) -> str:
    parts = path.relative_to(source.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def folder_of(module: str) -> str:
    """The floor that a module of farthing belongs to; `__main__` is the command line."""
    parts = module.split(".")
    if len(parts) > 1 and parts[1] == "__main__":
        return "cli"
    return parts[1] if len(parts) > 1 and parts[1] in LEVEL else "root"


def imported(node: ast.Import | ast.ImportFrom, modules: set[str]) -> Iterator[str]:
    """Names of the modules that a statement imports; `from package import module` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif node.level:
        yield "." * node.level
    else:
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in modules else str(node.module)


def violations(source: Path) -> list[str]:
    """Everything in the package folder `source` that breaks the law, one line each."""
    trees = {module_name(path, source): ast.parse(path.read_text()) for path in sorted(source.rglob("*.py"))}
    graph: dict[str, set[str]] = {module: set() for module in trees}
    found = []
    for module, tree in trees.items():
        top_level = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                if id(node) not in top_level:
                    found.append(f"{module}:{node.lineno} imports inside a function or a condition")
                for name in imported(node, set(trees)):
                    found.extend(f"{module}:{node.lineno} {reason}" for reason in reasons_against(module, name))
                    graph[module].add(name)
            elif isinstance(node, ast.Name | ast.Attribute | ast.alias) and _ends(node) == "TYPE_CHECKING":
                found.append(f"{module} uses TYPE_CHECKING")
            elif isinstance(node, ast.Call) and _ends(node.func) in CALLS.difference(ALLOWED_CALLS.get(module, ())):
                found.append(f"{module}:{node.lineno} imports by a call; discover.load does that")
    return found + circles(graph)


def _ends(node: ast.AST) -> str:
    """`b` of the expressions `b` and `a.b`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
            return name
    return ""


def reasons_against(module: str, name: str) -> Iterator[str]:
    """Why `module` may not import `name`."""
    here = folder_of(module)
    package = name.split(".")[0]
    if package == "":
        yield "imports relatively"
    elif package == "farthing":
        there = folder_of(name)
        if here != there and LEVEL[there] >= LEVEL[here]:
            yield f"imports {name}: {here} stands below or beside {there}"
        if there == "kernels" and here in TORCH_FREE:
            yield f"imports {name}: {here} is free of torch"
    elif here in TORCH_FREE | {"cli"} and package not in sys.stdlib_module_names | OUTSIDE.get(here, set()):
        yield f"imports {package}: {here} takes only the standard library and {sorted(OUTSIDE.get(here, ()))}"


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, found by taking away, again and again, those that import no other."""
    remaining = {
        module: {name for name in names if name in graph and name != module} for module, names in graph.items()
    }
    while leaves := {module for module, names in remaining.items() if not names}:
        remaining = {module: names - leaves for module, names in remaining.items() if module not in leaves}
    return [f"circle among {', '.join(sorted(remaining))}"] if remaining else []


def test_every_import_of_the_package_points_down():
    assert violations(Path(farthing.__file__).parent) == []


def test_every_folder_has_its_floor():
    folders = {path.parent.name for path in Path(farthing.__file__).parent.glob("*/__init__.py")}
    assert folders <= set(LEVEL)


@pytest.mark.parametrize(
    ("path", "code", "complaint"),
    [
        ("ops/x.py", "import torch", "imports torch"),
        ("models/families/x.py", "import numpy.linalg", "imports numpy"),
        ("cli/x.py", "from torch import nn", "imports torch"),
        ("errors.py", "import rich", "imports rich"),
        ("planner/x.py", "from farthing.runtime import decoder", "planner stands below or beside runtime"),
        ("runtime/x.py", "import farthing.planner", "runtime stands below or beside planner"),
        ("scheduler/x.py", "from farthing.models.spec import ModelSpec", "scheduler stands below or beside models"),
        ("quantization/x.py", "from farthing.ops.cost import Cost", "quantization stands below or beside ops"),
        ("ops/x.py", "from farthing.kernels import reference", "ops is free of torch"),
        ("models/x.py", "from farthing.kernels.reference import Kernels", "models is free of torch"),
        ("units.py", "from farthing.cli.app import main", "root stands below or beside cli"),
        ("runtime/x.py", "from .decoder import Decoder", "imports relatively"),
        ("engine/x.py", "def f():\n    import json", "inside a function"),
        ("engine/x.py", "try:\n    import json\nexcept ImportError:\n    pass", "inside a function or a condition"),
        ("engine/x.py", "from typing import TYPE_CHECKING", "uses TYPE_CHECKING"),
        ("engine/x.py", "import typing\nif typing.TYPE_CHECKING:\n    A = 1", "uses TYPE_CHECKING"),
        ("models/x.py", "import importlib\nt = importlib.import_module('torch')", "imports by a call"),
        ("models/x.py", "t = __import__('torch')", "imports by a call"),
        ("engine/x.py", "import farthing.engine.y", "circle among farthing.engine.x, farthing.engine.y"),
    ],
)
def test_a_file_that_breaks_the_law_is_found(tmp_path: Path, path: str, code: str, complaint: str):
    source = tmp_path / "farthing"
    for name in (path, "engine/y.py"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
    (source / "engine/y.py").write_text("import farthing.engine.x\n")
    (source / path).write_text(code)
    assert [line for line in violations(source) if complaint in line]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (
            "runtime/x.py",
            "import torch\nfrom farthing.kernels import reference\nfrom farthing.models.spec import ModelSpec",
        ),
        ("planner/x.py", "from farthing.hardware.calibration import Calibration\nfrom farthing.scheduler import loop"),
        (
            "engine/x.py",
            "from farthing.planner.timing.roofline import step_time\nfrom farthing.runtime.loader import load",
        ),
        ("hardware/x.py", "import platformdirs"),
        ("__main__.py", "from farthing.cli.app import main"),
    ],
)
def test_a_file_that_keeps_the_law_is_left_alone(tmp_path: Path, path: str, code: str):
    (tmp_path / "farthing" / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "farthing" / path).write_text(code)
    assert violations(tmp_path / "farthing") == []
