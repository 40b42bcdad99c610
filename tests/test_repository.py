"""Rules of the repository as a whole: direction of imports, packaging, file sizes, words that must not stay."""

from __future__ import annotations

import ast
import functools
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "version"), ("options", "plugins", "files"), ("ir",), ("ops",), ("reference",), ("targets",), ("frontend", "loop"), ("kernels",), ("memory",), ("artifact",),
    ("passes",), ("lowering",), ("backends",), ("pipeline",), ("partition",), ("api",), ("float_layers",), ("bench", "tuning", "choices", "checking", "quantization", "onnx_backend", "integrations", "support"), ("backends.testing",), ("",), ("cli",), ("__main__",),
)
"""What each part of edgecc may import: the parts before it. Parts in one row know nothing of each other.

The empty name is edgecc/__init__.py, the public functions.
"""

COMES_WITH = {"google": "onnx"}
"""Packages of other names that a declared dependency brings: onnx models are messages of google.protobuf."""

OPTIONAL_PACKAGES = frozenset({"ziglang", "onnxruntime", "openvino", "ncnn", "pnnx", "MNN", "tvm", "torch", "iree", "PIL"})
"""Packages that are imported where they are used, because edgecc works without them."""

LAZY_PARTS = frozenset({"", "cli"})
"""Parts that load others inside functions, so that `import edgecc` and `--help` stay quick."""

LONGEST_FILE = 500
LONG_FILES: dict[str, str] = {}
"""Files that may be longer than `LONGEST_FILE` lines, with the reason."""

TOP_LEVEL = {
    "pyproject.toml", "README.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "Makefile", ".gitignore", ".ci",
    "edgecc", "passes", "backends", "targets", "tests", "benches", "docs", "examples",
}


@dataclass(frozen=True)
class Import:
    """One imported module, as the importing file `path` writes it at `line`."""

    module: str
    path: Path
    line: int
    in_function: bool
    for_types_only: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.module}"


def repository_files() -> list[Path]:
    """Every file of the repository, links, environments, caches and build folders left out."""
    skipped = {".git", ".venv", "build", "dist", "out", "__pycache__", ".hypothesis"}
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if f not in skipped and not f.endswith((".egg-info", "_cache"))
                            and not Path(folder, f).is_symlink())
        found += [Path(folder, name) for name in sorted(names)
                  if name not in skipped and not Path(folder, name).is_symlink()]
    return found


def modules() -> dict[str, Path]:
    """Module name -> file, of everything that is imported as edgecc.*."""
    found = {}
    for top, package in (("edgecc", "edgecc"), ("passes", "edgecc.passes"), ("backends", "edgecc.backends"),
                         ("targets", "edgecc.targets")):
        for path in repository_files():
            if path.suffix == ".py" and path.is_relative_to(ROOT / top):
                parts = path.relative_to(ROOT / top).with_suffix("").parts
                found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


MODULES = modules()


@functools.cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """Every import statement of a file, at any depth."""
    return tuple(_imports(ast.parse(path.read_text(encoding="utf-8")), path, in_function=False, for_types_only=False))


def _imports(node: ast.AST, path: Path, *, in_function: bool, for_types_only: bool) -> Iterator[Import]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        in_function = True
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        for_types_only = True
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        # `from package import module` names the module; `from module import name` names the module before it.
        names = sorted({f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names})
        assert node.level == 0, f"{path}:{node.lineno}: write imports from the root: edgecc.{base}"
    for name in names:
        yield Import(name, path, node.lineno, in_function, for_types_only)
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, path, in_function=in_function, for_types_only=for_types_only)


def part_of(module: str) -> str:
    """The part a module belongs to: "edgecc.ir.graph" -> "ir"; "" for edgecc itself."""
    if module.startswith("edgecc.backends.testing"):
        return "backends.testing"  # stands with the back ends, for their authors; tests them by way of the whole compiler
    return [*module.split("."), ""][1]


def layer_of(module: str) -> int:
    """Position of a module's part in `LAYERS`."""
    for position, parts in enumerate(LAYERS):
        if part_of(module) in parts:
            return position
    raise AssertionError(f"{module} belongs to no layer: add its part to LAYERS or move it")


def test_every_module_belongs_to_a_layer():
    for module in MODULES:
        layer_of(module)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_downwards(module: str):
    wrong = [str(found) for found in imports_of(MODULES[module])
             if found.module.split(".")[0] == "edgecc" and part_of(found.module) != part_of(module)
             and layer_of(found.module) >= layer_of(module)]
    assert not wrong, f"{part_of(module)} may only import what stands before it in LAYERS"


def test_no_import_cycles():
    graph = nx.DiGraph()
    for module, path in MODULES.items():
        for found in imports_of(path):
            if found.module in MODULES and not found.for_types_only and not found.in_function:
                graph.add_edge(module, found.module)
    assert list(nx.simple_cycles(graph)) == []


def test_imports_stand_at_the_top_of_the_file():
    wrong = [str(found) for module, path in MODULES.items() for found in imports_of(path)
             if found.in_function and part_of(module) not in LAZY_PARTS
             and found.module.split(".")[0] not in OPTIONAL_PACKAGES]
    assert not wrong


def test_dependencies_are_declared_and_used():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {_import_name(re.split(r"[<>=\[ ]", spec)[0]) for spec in project["dependencies"]}
    used = {COMES_WITH.get(top, top) for path in MODULES.values() for top in _top_level_imports(path)}
    third_party = used - set(sys.stdlib_module_names) - {"edgecc", "__future__"} - OPTIONAL_PACKAGES
    assert third_party == declared


def _top_level_imports(path: Path) -> set[str]:
    return {found.module.split(".")[0] for found in imports_of(path)}


def _import_name(distribution: str) -> str:
    return distribution.replace("-", "_")


def test_packages_are_the_folders_with_an_init_file():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    assert sorted(setuptools["packages"]) == sorted(folders)
    assert {path.parent for path in MODULES.values()} == {MODULES[folder].parent for folder in folders}


def test_every_data_file_is_packed():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert setuptools["include-package-data"] is False
    packed = set()
    for package, patterns in setuptools["package-data"].items():
        for pattern in patterns:
            files = set(MODULES[package].parent.glob(pattern))
            assert files, f"package-data of {package}: {pattern} matches no file"
            packed |= files
    data = {path for path in repository_files() if path.suffix != ".py"
            and any(path.is_relative_to(ROOT / top) for top in ("edgecc", "passes", "backends", "targets"))}
    assert data == packed


def test_links_let_tools_see_one_package():
    for name in ("passes", "backends", "targets"):
        link = ROOT / "edgecc" / name
        assert link.is_symlink() and os.readlink(link) == f"../{name}"


def test_folders_refuse_to_be_imported_by_their_top_level_path():
    for name in ("passes", "backends", "targets"):
        text = (ROOT / name / "__init__.py").read_text()
        with pytest.raises(ImportError, match=rf"import edgecc\.{name}"):
            exec(compile(text, name, "exec"), {"__name__": name})


def test_top_level_is_the_documented_one():
    unknown = {path.relative_to(ROOT).parts[0] for path in repository_files()} - TOP_LEVEL
    assert not unknown


def test_long_files_have_a_reason():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
               for path in repository_files() if path.suffix in (".py", ".c", ".h")}
    assert {name: count for name, count in lengths.items() if count > LONGEST_FILE and name not in LONG_FILES} == {}
    assert [name for name in LONG_FILES if lengths.get(name, 0) <= LONGEST_FILE] == [], "no longer needed"


FORBIDDEN = {
    "unfinished work": re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b"),
    "a path of one machine": re.compile(r"(?<![\w.])/(work|root|home/\w+)/"),
    "a merge conflict": re.compile(r"^(<{7} |>{7} )", re.MULTILINE),
}


@pytest.mark.parametrize("what", sorted(FORBIDDEN))
def test_files_are_free_of(what: str):
    found = []
    for path in repository_files():
        if path.suffix in (".onnx", ".npz", ".png"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if FORBIDDEN[what].search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


def test_asserts_do_not_check_users_input_in_the_product():
    # An assert vanishes under -O; whatever a file or an option can cause is raised as EdgeccError instead.
    found = [f"{path.relative_to(ROOT)}:{node.lineno}" for path in MODULES.values()
             for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Assert)]
    assert not found


def test_the_licence_is_the_declared_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
