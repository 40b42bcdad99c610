"""The tests of the kit, as methods of a class to derive from. Plain Python: pytest finds them by their names."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecc import api
from edgecc.artifact.folder import Artifact
from edgecc.backends.base import API
from edgecc.backends.discovery import create_backend, list_backends
from edgecc.backends.op_table import OpCase, op_table
from edgecc.backends.testing.digest import digest
from edgecc.backends.testing.subject import Subject, joined
from edgecc.errors import EdgeccError
from edgecc.ir.text import to_text
from edgecc.ir.types import Array
from edgecc.ir.verify import verify
from edgecc.pipeline import prepare_graph
from edgecc.reference.compare import RELATIVE_TOLERANCE, compare_outputs
from edgecc.reference.executor import execute, sample_inputs

HOSTILE_NAMES = ("../../etc/passwd", 'a"; system("reboot"); //', "line\nend", "\x1b[31mred", "int", "naïve ✓", "%s%n", "*/ #error", "x" * 300)
"""Names that a model may give its inputs, outputs and nodes, and that must neither reach code nor paths raw."""

ARTIFACT_NAMES = ("net", "x_1", "a" * 60)
"""Names of artifacts."""


def expect(condition: bool, message: str) -> None:
    """Fails the test with a message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


class BackendTests:
    """Derive from it, set `backend`, and pytest runs everything below.

    Class variables:
        backend: the name, with options if need be; the package that brings it is installed.
        target: what is compiled for.
        form: one of its forms; None: the first one.
        runs: whether artifacts can be run here. Tests that need it are then skipped if the tool is missing (E400).
        batch: how many cases of the table are put into one graph to be run. More is quicker where each run calls tools.
        exact: whether integers are the reference's bit by bit; otherwise they may differ by one step.
        least: how many cases must be supported, so that losing some is noticed.
        models: pairs of an ONNX file and the sizes of its inputs, which are compiled and compared as a whole.
    """

    backend: ClassVar[str] = ""
    target: ClassVar[str] = "host"
    form: ClassVar[str | None] = None
    runs: ClassVar[bool] = True
    batch: ClassVar[int] = 1
    exact: ClassVar[bool] = True
    least: ClassVar[int] = 1
    models: ClassVar[tuple[tuple[str, dict[str, tuple[int, ...]]], ...]] = ()

    @classmethod
    def subject(cls) -> Subject:
        """The back end under test."""
        return Subject.of(cls.backend, cls.target, cls.form)

    @classmethod
    def supported(cls) -> list[OpCase]:
        """The cases it supports."""
        return [case for case, reason in _reasons(cls.subject()).items() if reason is None]

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Makes a test of every case and every model."""
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", op_table(), ids=str)
        if "model" in metafunc.fixturenames:
            metafunc.parametrize("model", self.models, ids=[Path(path).stem for path, _ in self.models])

    # -- what it says of itself ---------------------------------------------------------------

    def test_it_is_found(self) -> None:
        """By its name, among others; every form has a few words; options have defaults."""
        name = self.backend.partition("{")[0]
        found = [each for each in list_backends() if each.name == name]
        expect(len(found) == 1, f"{len(found)} back ends are called {name!r}")
        made = create_backend(name)
        expect(made.api == API and made.name == name, f"it says api {made.api} and name {made.name!r}")
        expect(bool(made.summary) and bool(made.forms) and all(made.forms.values()), "the summary, the forms or their words are empty")
        expect(all(re.fullmatch(r"[a-z0-9][a-z0-9-]*", form) is not None for form in made.forms), f"forms are words of a-z, 0-9 and -: {list(made.forms)}")
        others = {form: each.name for each in list_backends() if each.name != name and _loads(each.name) for form in create_backend(each.name).forms}
        shared = {form: others[form] for form in made.forms if form in others}
        expect(not shared, f"forms of other back ends: {shared}; --emit could mean either")
        expect(all(r.install and r.purpose for r in made.requirements()), "a requirement does not say how to install it, or what for")

    def test_an_unknown_option_is_an_error(self) -> None:
        """Of the command line, not of Python."""
        error = _error(lambda: create_backend(self.backend.partition("{")[0] + "{no_such_option=1}"))
        expect(error.code == "E009", f"got {error}")

    # -- operators ----------------------------------------------------------------------------

    def test_support(self, case: OpCase) -> None:
        """A case is supported, or there is a reason for people, and compiling it ends with an error that says so."""
        subject = self.subject()
        reason = _reasons(subject)[case]
        if reason is None:
            return
        expect(isinstance(reason, str) and bool(reason.strip()) and reason.isprintable(), f"no reason for people: {reason!r}")
        error = _error(lambda: subject.emit(case.build()))
        expect(error.code in ("E112", "E114", "E115"), f"supports() says {reason!r}, but compiling ends with {error}")

    def test_enough_is_supported(self) -> None:
        """At least `least` cases."""
        count = len(self.supported())
        expect(count >= self.least, f"{count} cases are supported, {self.least} were expected")

    def test_everything_unsupported_is_named_at_once(self) -> None:
        """Two nodes that cannot be written are both in the error; what is printed of loop programs may refuse a network as a whole."""
        subject = self.subject()
        refused = [case for case, reason in _reasons(subject).items() if reason is not None][:2]
        if len(refused) < 2:
            raise unittest.SkipTest("the back end supports everything")
        error = _error(lambda: subject.emit(joined(refused)))
        whole = subject.backend.takes == "loops" and error.code == "E115"
        for number in range(2):
            expect(whole or f"case {number}" in str(error), f"a node is missing in:\n{error}")

    def test_results(self) -> None:
        """Every supported case compiles and computes what the reference computes."""
        subject, cases = self.subject(), self.supported()
        wrong: list[str] = []
        for start in range(0, len(cases), self.batch):
            wrong += self._wrong(subject, cases[start:start + self.batch])
        expect(not wrong, "\n".join(wrong))

    def _wrong(self, subject: Subject, cases: list[OpCase]) -> list[str]:
        """What is wrong with cases, compiled as one graph; each alone where that fails."""
        graph = joined(cases)
        before, inputs = to_text(graph), sample_inputs(graph, seed=1)
        try:
            artifact = subject.emit(graph)
            expect(to_text(graph) == before, "compiling changed the graph it was given")
            if not self.runs:
                return []
            found = _differences(self._run(subject, artifact, inputs), execute(graph, inputs), self.exact)
        except EdgeccError as error:
            return [f"{cases[0]}: {error}"] if len(cases) == 1 else [line for case in cases for line in self._wrong(subject, [case])]
        return [f"{cases[int(name.split()[1])]}: {what}" for name, what in found.items()]

    def test_models(self, model: tuple[str, dict[str, tuple[int, ...]]]) -> None:
        """A whole network computes what the reference computes."""
        self._require_running()
        path, shapes = model
        outcome = api.verify(path, target=self.target, backend=self.backend, emit=self.form, shapes=shapes)
        expect(outcome.ok, "; ".join(f"{o.name}: largest error {o.max_abs_err:.3g}, tolerance {o.tolerance:.3g}" for o in outcome.outputs))

    # -- artifacts ----------------------------------------------------------------------------

    def test_equal_arguments_give_equal_bytes(self) -> None:
        """In one process, and in others with different hash seeds and working folders."""
        subject = self.subject()
        here = [digest(subject) for _ in range(2)]
        expect(here[0] == here[1], "two calls in one process wrote different files")
        command = [sys.executable, "-m", "edgecc.backends.testing.digest", self.backend, self.target, subject.form]
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        expect(done.returncode == 0, done.stderr)
        expect(done.stdout.strip() == here[0], "another process, with another hash seed and folder, wrote different files")

    def test_artifact(self) -> None:
        """The folder can be written, read back and replaced; it names its back end and the file for other tools."""
        subject = self.subject()
        for name in ARTIFACT_NAMES:
            artifact = subject.emit(joined(self.supported()[:1]), name)
            manifest = artifact.manifest
            expect(manifest.name == name, f"{name!r} became {manifest.name!r}")
            if subject.backend.takes == "graph":
                expect(manifest.main in artifact.files and manifest.backend.partition("{")[0] == subject.backend.name,
                       f"the manifest says backend {manifest.backend!r}, main {manifest.main!r}")
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(2):
                    artifact.write(Path(folder) / "out")
                expect(Artifact.read(Path(folder) / "out") == artifact, "the folder read back is not what was written")

    def test_no_trace_of_this_machine(self) -> None:
        """No path of the working folder, the home folder or the temporary folder stands in a file."""
        artifact = self.subject().emit(joined(self.supported()[:3]))
        for path in {str(Path.cwd()), str(Path.home()), tempfile.gettempdir()} - {"/"}:
            found = [name for name, content in artifact.files.items() if f"{path}/".encode() in content]
            expect(not found, f"{path} stands in {', '.join(found)}")

    def test_hostile_names(self) -> None:
        """Whatever a model calls its inputs, outputs and nodes: it compiles, keeps the names of the interface, and runs."""
        subject = self.subject()
        graph = joined(self.supported()[:3])
        inputs, outputs = len(graph.inputs), len(graph.outputs)
        names = [HOSTILE_NAMES[i % len(HOSTILE_NAMES)] + (str(i) if i >= len(HOSTILE_NAMES) else "") for i in range(inputs + outputs)]
        graph.input_names, graph.output_names = names[:inputs], names[inputs:]
        for node, name in zip(graph.nodes, ("", *HOSTILE_NAMES), strict=False):
            node.loc = (name,)
        artifact = subject.emit(graph)
        expect([p.name for p in (*artifact.manifest.inputs, *artifact.manifest.outputs)] == names, "the interface lost its names")
        if self.runs:
            arrays = sample_inputs(graph, seed=2)
            wrong = _differences(self._run(subject, artifact, arrays), execute(graph, arrays), self.exact)
            expect(not wrong, f"with hostile names: {wrong}")

    def test_passes_keep_the_graph_valid(self) -> None:
        """The passes it asks for exist, and leave valid graphs with the same interface and meaning."""
        graph = joined(self.supported()[:self.batch if self.batch > 1 else 5])
        inputs = sample_inputs(graph)
        want = execute(graph, inputs)
        subject = self.subject()
        if subject.backend.takes == "graph":
            prepared = prepare_graph(graph, subject.target, subject.backend, verify_each=inputs).graph
            verify(prepared)
            expect(not _differences(execute(prepared, inputs), want, True), "the passes changed the results")

    # -- help ---------------------------------------------------------------------------------

    def _require_running(self) -> None:
        if not self.runs:
            raise unittest.SkipTest("nothing runs the artifacts of this back end")

    def _run(self, subject: Subject, artifact: Artifact, inputs: dict[str, Array]) -> dict[str, Array]:
        try:
            return subject.run(artifact, inputs)
        except EdgeccError as error:
            if error.code == "E400":
                raise unittest.SkipTest(f"{error.message}: {error.hint}") from error
            raise


@functools.cache
def _reasons(subject: Subject) -> dict[OpCase, str | None]:
    """Why the back end does not support each case; None where it does."""
    return {case: subject.reason(case) for case in op_table()}


def _loads(name: str) -> bool:
    try:
        create_backend(name)
    except EdgeccError:
        return False
    return True


def _error(call: Any) -> EdgeccError:
    """The EdgeccError that a call raises; anything else, and nothing, fails the test."""
    try:
        call()
    except EdgeccError as error:
        return error
    raise AssertionError("an EdgeccError was expected")


def _differences(got: dict[str, Array], want: dict[str, Array], exact: bool) -> dict[str, str]:
    """What differs, by output."""
    expect(set(got) == set(want), f"the outputs are {sorted(got)}, wanted {sorted(want)}")
    return dict(_each(got, want, exact))


def _each(got: dict[str, Array], want: dict[str, Array], exact: bool) -> Iterator[tuple[str, str]]:
    for name, wanted in want.items():
        result = got[name]
        if result.shape != wanted.shape or result.dtype != wanted.dtype:
            yield name, f"{result.dtype}{list(result.shape)} instead of {wanted.dtype}{list(wanted.shape)}"
        elif wanted.dtype.kind in "iu" and not exact:
            step = int(np.max(np.abs(result.astype(np.int64) - wanted.astype(np.int64)), initial=0))
            if step > 1:
                yield name, f"integers differ by {step}"
        else:
            roundoff = 16 * float(np.finfo(np.float16).eps) if wanted.dtype.itemsize == 2 and wanted.dtype.kind not in "iub" else 0.0
            (outcome,) = compare_outputs({name: result}, {name: wanted}, relative=max(RELATIVE_TOLERANCE, roundoff))
            if not outcome.ok:
                yield name, f"largest error {outcome.max_abs_err:.3g}, tolerance {outcome.tolerance:.3g}"
