"""Back ends are found by name and by form, those of installed packages too; a broken one harms nobody else."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from edgecc.backends import discovery
from edgecc.backends.base import API
from edgecc.backends.c.backend import CBackend
from edgecc.backends.discovery import BUILT_IN, create_backend, list_backends, select_backend
from edgecc.backends.onnx.backend import OnnxBackend
from edgecc.backends.requirements import Requirement, check_requirements
from edgecc.errors import EdgeccError
from edgecc.ir.parser import parse
from edgecc.targets.schema import load_target

COUNTS = '''
"""Counts nodes."""
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from edgecc.artifact.folder import make_export
from edgecc.backends.base import GraphBackend
from edgecc.options import spelled


@dataclass(frozen=True)
class Counts(GraphBackend):
    api: ClassVar[int] = 1
    name: ClassVar[str] = "counts"
    summary: ClassVar[str] = "the number of nodes"
    forms: ClassVar = MappingProxyType({"count": "a number", "tally": "strokes"})
    base: int = 10
    refuse: str = ""

    def supports(self, node, target):
        return "it was refused" if node.op.name == self.refuse else None

    def accepts(self, target):
        return "it is too small" if target.name == "generic-c" else None

    def emit(self, graph, name, target, form):
        text = "/" * len(graph) if form == "tally" else format(len(graph), "b" if self.base == 2 else "d")
        return make_export(spelled(self.name, self), graph, name, target, {f"{name}.txt": text.encode()}, f"{name}.txt",
                           report={"nodes": len(graph)})
'''
GROUP = "edgecc.backends"
DIGITS = "examples/digits/digits.onnx"


@pytest.fixture
def counts(package):
    package("counting", {GROUP: {"counts": "counting:Counts"}}, {"counting.py": COUNTS})


def failure(call, *arguments):
    with pytest.raises(EdgeccError) as caught:
        call(*arguments)
    return caught.value


def test_built_in_back_ends():
    assert isinstance(create_backend("c"), CBackend) and isinstance(create_backend("onnx"), OnnxBackend)
    assert create_backend("onnx{opset=17}") == OnnxBackend(opset=17)
    assert [found.name for found in list_backends()][:len(BUILT_IN)] == list(BUILT_IN)
    forms = [form for name in BUILT_IN for form in create_backend(name).forms]
    assert len(forms) == len(set(forms))
    for name in BUILT_IN:
        backend = create_backend(name)
        assert backend.name == name and backend.api == API and backend.summary


@pytest.mark.parametrize(("backend", "form", "want"), [
    (None, None, ("c", "c")), (None, "exe", ("c", "exe")), (None, "onnx", ("onnx", "onnx")), ("c", "lib", ("c", "lib")), ("onnx{opset=18}", None, ("onnx", "onnx"))])
def test_selection(backend, form, want):
    chosen, got = select_backend(backend, form)
    assert (chosen.name, got) == want


@pytest.mark.parametrize(("backend", "form", "code", "words"), [
    ("cc", None, "E009", "did you mean c?"), ("onnx{opst=17}", None, "E009", "did you mean opset?"), ("onnx{opset=a}", None, "E009", "not an integer"),
    ("c onnx", None, "E009", "one back end"), ("c", "onnx", "E001", "no form 'onnx'"), (None, "onxn", "E001", "did you mean onnx?"),
    ("\x1b[31m", None, "E009", "there is no back end")])
def test_mistakes_say_what_was_meant(backend, form, code, words):
    error = failure(select_backend, backend, form)
    assert error.code == code and words in str(error) and "\x1b" not in str(error)


@pytest.mark.usefixtures("counts")
def test_a_back_end_of_a_package(cli, tmp_path):
    assert list_backends()[-1].package == "counting"
    assert select_backend(None, "tally")[1] == "tally" and select_backend(None, "counts")[1] == "count"
    arguments = ("compile", DIGITS, "--shape", "image=1x1x8x8", "-o", tmp_path / "out")
    done = cli(*arguments, "--backend", "counts{refuse=conv}")
    assert done.status == 3 and "[E115] back end counts does not support 5 nodes of 15" in done.err and done.err.count("(conv): it was refused") == 5
    done = cli(*arguments, "--backend", "counts", "--target", "generic-c")
    assert done.status == 3 and "it is too small" in done.err and not (tmp_path / "out").exists()


@pytest.mark.usefixtures("counts")
def test_its_artifacts(cli, tmp_path):
    out = tmp_path / "out"
    arguments = ("compile", DIGITS, "--shape", "image=1x1x8x8", "-o", out)
    table = cli(*arguments, "--emit", "tally", "--json").json()
    assert table["backend"] == "counts" and table["report"]["nodes"] > 5 and table["files"] == ["digits.txt"]
    assert (out / "digits.txt").read_text() == "/" * table["report"]["nodes"]
    assert json.loads((out / "manifest.json").read_text())["main"] == "digits.txt"
    assert "nodes" in cli(*arguments, "--backend", "counts{base=2}").out  # the folder is replaced
    assert int((out / "digits.txt").read_text(), 2) == table["report"]["nodes"]
    np.savez(tmp_path / "inputs.npz", image=np.zeros((1, 1, 8, 8), np.float32))
    refused = cli("run", out, "--inputs", tmp_path / "inputs.npz")
    assert refused.status == 4 and "[E405]" in refused.err
    refused = cli("verify", DIGITS, "--shape", "image=1x1x8x8", "--emit", "count")
    assert refused.status == 4 and "[E405]" in refused.err
    refused = cli(*arguments, "--emit", "count", "--threads", "2")
    assert refused.status == 2 and "threads is for back ends that take loop programs" in refused.err
    refused = cli("compile", DIGITS, "--shape", "batch=1..4", "--emit", "count", "-o", out)
    assert refused.status in (2, 3) and "Traceback" not in refused.err


BROKEN = {
    "raises": "raise RuntimeError('no licence')",
    "exits": "raise SystemExit(3)",
    "newer": COUNTS.replace("api: ClassVar[int] = 1", "api: ClassVar[int] = 99").replace('"counts"', '"newer"').replace("class Counts", "class Made"),
    "lacking": "class Made:\n    api = 1\n    name = 'lacking'\n",
    "other": COUNTS.replace("class Counts", "class Made"),
    "instance": "Made = 3",
}
REASONS = {"raises": "RuntimeError: no licence", "exits": "SystemExit: 3", "newer": "version 99 of the interface", "lacking": "it lacks summary",
           "other": "calls itself counts", "instance": "is no class, but int"}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.usefixtures("counts")
def test_a_broken_one_is_named_and_harms_nobody(name, package, cli):
    package(f"pack-{name}", {GROUP: {name: f"pack_{name}:Made"}}, {f"pack_{name}.py": BROKEN[name]})
    error = failure(create_backend, name)
    assert error.code == "E404" and error.exit_status == 4 and REASONS[name] in error.message and f"pip uninstall pack-{name}" in error.hint
    assert select_backend(None, "tally")[0].name == "counts"
    assert REASONS[name] in str(failure(select_backend, None, "no-such-form"))
    listed = {entry["name"]: entry for entry in cli("doctor", "--json").json()["backends"]}
    assert REASONS[name] in listed[name]["problem"] and listed["counts"]["problem"] == "" and listed["c"]["problem"] == ""


def test_names_of_edgecc_are_taken(package, cli):
    package("thief", {GROUP: {"c": "thief:Made"}}, {"thief.py": "raise RuntimeError"})
    assert isinstance(create_backend("c"), CBackend)
    problems = [entry["problem"] for entry in cli("doctor", "--json").json()["backends"] if entry["name"] == "c"]
    assert problems[0] == "" and "has the name of a back end of edgecc" in problems[1]


@pytest.mark.usefixtures("counts")
def test_two_packages_with_one_name(package):
    package("again", {GROUP: {"counts": "again:Counts"}}, {"again.py": COUNTS})
    assert "several packages" in failure(create_backend, "counts").message


def test_listing_imports_nothing(package):
    package("heavy", {GROUP: {"heavy": "heavy_package:Made"}}, {"heavy_package.py": "raise RuntimeError"})
    assert "heavy" in [found.name for found in discovery.list_backends()] and "heavy_package" not in sys.modules


def test_targets_and_passes_of_packages(package, cli):
    package("board", {"edgecc.targets": {"board": "board_targets"}, "edgecc.passes": {"board": "board_passes"}}, {
        "board_targets/__init__.py": "", "board_targets/my-board.toml":
            'schema = 1\ninherits = "generic-c"\nname = "my-board"\ndescription = "a board"\n',
        "board_targets/derived.toml": 'schema = 1\ninherits = "my-board"\nname = "derived"\ndescription = "another board"\n',
        "board_passes.py": "from typing import ClassVar\nfrom edgecc.passes.base import NodePass\n\nclass P(NodePass):\n"
                           '    """Nothing at all."""\n    name: ClassVar[str] = "board.nothing"\n\n    def rewrite(self, graph, node):\n        return False\n'})
    assert "my-board" in cli("targets").out and "another board" in cli("targets", "derived").out
    shown = cli("passes", "board.nothing")
    assert shown.status == 0 and "Nothing at all." in shown.out
    done = cli("opt", DIGITS, "--shape", "image=1x1x8x8", "--passes", "board.nothing")
    assert done.status == 0 and "board.nothing" in done.out


@pytest.mark.parametrize(("files", "words"), [
    ({"bad_targets.py": "raise RuntimeError('oops')"}, "RuntimeError: oops"),
    ({"bad_targets.py": ""}, "no module with TOML files beside it"),
    ({"bad_targets/__init__.py": "", "bad_targets/rpi5.toml": 'schema = 1\ninherits = "generic-c"\nname = "rpi5"\n'}, "brings a target rpi5, a name that is taken"),
])
def test_broken_targets_of_packages(files, words, package, cli, tmp_path):
    folder = tmp_path / "deep"
    package("bad", {"edgecc.targets": {"bad": "bad_targets"}}, files)
    assert cli("targets").status == 0 and "cortex-a76" in cli("targets", "rpi5", "--json").out
    outcome = cli("targets", "no-such-target")
    assert outcome.status == 2 and words in outcome.err
    assert any(words in problem for problem in cli("doctor", "--json").json()["plugin_problems"])
    assert not folder.exists()


def test_what_loop_back_ends_support_is_what_kernels_cover():
    graph = parse('''graph "g" (%x: f32[1,2,3,3] "x", %w: f32[2,2,1,1] "w") {
      %a = conv_transpose(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1, output_padding=(0,0)} : f32[1,2,3,3] loc("A")
      %b = conv(%x, %w) {strides=(1,1), pads=(0,0,0,0), dilations=(1,1), group=1} : f32[1,2,3,3] loc("B")
      return %a "a", %b "b"
    }''')
    reasons = [CBackend().supports(node, load_target("generic-c")) for node in graph.nodes]
    assert reasons[1] is None and reasons[0] is not None and "weights that are not constant" in reasons[0]


def test_what_is_not_installed_is_an_error_of_its_own():
    needs = [Requirement("no_such_module", "counts", "pip install it"), Requirement("no-such-program", "sings", "apt-get install it", "program"),
             Requirement("numpy", "adds", "pip install numpy")]
    error = failure(check_requirements, needs, "back end x")
    assert (error.code, error.exit_status) == ("E400", 4)
    assert "no_such_module, no-such-program" in error.message and error.hint == "pip install it; apt-get install it"
    assert needs[2].found() and Requirement("sh", "", "", "program").found().endswith("sh")
