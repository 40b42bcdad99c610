"""`edgecc doctor`: which tools are there, and how to get those that are not."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass

import typer
from rich.table import Table
from rich.text import Text

from edgecc.artifact.toolchain import CC_VARIABLE, find_compiler, find_emulator, runs_natively, zig_command
from edgecc.backends.discovery import Found, create_backend, list_backends
from edgecc.backends.requirements import Requirement
from edgecc.cli import flags
from edgecc.cli.output import note, print_json, results, show
from edgecc.errors import EXIT_OK, EXIT_TOOL, EdgeccError, printable
from edgecc.passes.base import ENTRY_POINTS as PASS_PLUGINS
from edgecc.plugins import plugins
from edgecc.targets.schema import list_targets, load_target, target_problems
from edgecc.version import VERSION

app = typer.Typer(add_completion=False)

PACKAGES = ("numpy", "onnx", "networkx", "ml_dtypes", "typer", "rich")


@dataclass(frozen=True)
class Tool:
    """One line of the report. `path` and `version` are "" where it is missing; `hint` says how to get it."""

    name: str
    purpose: str
    path: str
    version: str
    hint: str


@app.command()
def doctor(as_json: flags.AsJson = False) -> int:
    """List the tools and back ends that were found, and how to get what is missing. Exit status 4 if no C compiler for this machine works."""
    tools, usable, backends = _tools(), _targets(), [_report(found) for found in list_backends()]
    broken = _broken_packages()
    ready = usable["host"] == ""
    if as_json:
        print_json({"ok": ready, "edgecc": VERSION, "python": sys.version.split()[0],
                    "packages": {name: _package_version(name) for name in PACKAGES},
                    "tools": [{"name": t.name, "purpose": t.purpose, "found": bool(t.path), "path": t.path,
                               "version": t.version, "hint": "" if t.path else t.hint} for t in tools],
                    "backends": [{"name": b.name, "package": b.package, "summary": b.summary, "forms": b.forms,
                                  "missing": [{"name": r.name, "purpose": r.purpose, "hint": r.install} for r in b.missing],
                                  "problem": b.problem} for b in backends],
                    "plugin_problems": broken,
                    "targets": [{"name": name, "usable": problem == "", "problem": problem}
                                for name, problem in usable.items()]})
        return EXIT_OK if ready else EXIT_TOOL
    console = results()
    packages = ", ".join(f"{name} {_package_version(name) or 'MISSING'}" for name in PACKAGES)
    console.print(f"edgecc {VERSION}, Python {sys.version.split()[0]}\n{packages}\n", soft_wrap=True)
    table = Table("tool", "for", "found", box=None, pad_edge=False)
    for tool in tools:
        found = Text(f"{tool.path}  {tool.version}") if tool.path else Text(f"missing: {tool.hint}", style="yellow")
        table.add_row(tool.name, tool.purpose, found)
    show(table)
    console.print()
    table = Table("back end", "writes", "--emit", "usable", box=None, pad_edge=False)
    for backend in backends:
        table.add_row(printable(backend.name), printable(backend.summary), ", ".join(map(printable, backend.forms)), backend.usable)
    show(table)
    console.print()
    table = Table("target", "can be built and run here", box=None, pad_edge=False)
    for name, problem in usable.items():
        table.add_row(name, Text(f"no: {problem}", style="yellow") if problem else Text("yes", style="green"))
    show(table)
    for problem in broken:
        note(problem)
    return EXIT_OK if ready else EXIT_TOOL


@dataclass(frozen=True)
class BackendReport:
    """A back end: who brings it, what it writes, what it lacks; `problem` says why it cannot be loaded, or is ""."""

    name: str
    package: str
    summary: str = ""
    forms: tuple[str, ...] = ()
    missing: tuple[Requirement, ...] = ()
    problem: str = ""

    @property
    def usable(self) -> Text:
        """A word, or what is missing."""
        if self.problem:
            return Text(f"no: {self.problem}", style="yellow")
        if self.missing:
            return Text("; ".join(f"missing {r.name}: {r.install}" for r in self.missing), style="yellow")
        return Text("yes", style="green")


def _report(found: Found) -> BackendReport:
    try:
        backend = found.load()()
    except EdgeccError as error:
        return BackendReport(found.name, found.package, problem=error.message)
    missing = tuple(r for r in backend.requirements() if not r.is_installed)
    return BackendReport(found.name, found.package, backend.summary, tuple(backend.forms), missing)


def _broken_packages() -> list[str]:
    """What is wrong with passes and targets that packages bring."""
    problems = list(target_problems())
    for plugin in plugins(PASS_PLUGINS):
        try:
            plugin.load()
        except EdgeccError as error:
            problems.append(error)
    return [f"{problem.where}: {problem.message}" for problem in problems]


def _tools() -> list[Tool]:
    """Everything edgecc may call."""
    zig = zig_command()
    looked_up = [
        ("gcc", "C for this machine", "apt-get install gcc"),
        ("clang", "C for this machine", "apt-get install clang"),
        ("zig", "C for every target", "pip install 'edgecc[zig]'"),
        ("aarch64-linux-gnu-gcc", "C for 64-bit Arm", "apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"),
        ("qemu-aarch64", "runs code for 64-bit Arm", "apt-get install qemu-user"),
    ]
    tools = []
    override = os.environ.get(CC_VARIABLE)
    if override:
        looked_up.insert(0, (override, f"C compiler named by {CC_VARIABLE}", f"correct or unset {CC_VARIABLE}"))
    for name, purpose, hint in looked_up:
        path = (zig[0] if zig else None) if name == "zig" else shutil.which(name) or shutil.which(f"{name}-static")
        tools.append(Tool(printable(name), purpose, path or "", _tool_version(path, name) if path else "", hint))
    return tools


def _tool_version(path: str, name: str) -> str:
    try:
        done = subprocess.run([path, "version" if name == "zig" else "--version"], capture_output=True, text=True,
                              errors="replace", timeout=20, stdin=subprocess.DEVNULL, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "(does not run)"
    lines = done.stdout.splitlines()
    return printable(lines[0], 80) if lines and done.returncode == 0 else "(does not run)"


def _targets() -> dict[str, str]:
    """For each target why it, its accelerator included, cannot be built and run here, or ""."""
    problems = {}
    for name in list_targets():
        target = load_target(name)
        problems[name] = ""
        try:
            find_compiler(target)
            if not runs_natively(target):
                find_emulator(target)
            missing = create_backend(target.npu.backend).requirements() if target.npu is not None else ()
            problems[name] = "; ".join(f"its accelerator needs {r.name}: {r.install}" for r in missing if not r.is_installed)
        except EdgeccError as error:
            problems[name] = error.message
    return problems


def _package_version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
