"""Models on strings from file to result: what generated C makes of them, on the host and under an emulator, and its limits."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

import edgecc
from edgecc.api import Options, compile_model
from edgecc.artifact.load import Model, load
from edgecc.errors import EdgeccError
from edgecc.frontend.limits import Limits
from edgecc.ir.equal import structurally_equal
from edgecc.ir.strings import string_array
from edgecc.ir.text import parse, to_text
from edgecc.ir.types import Array
from edgecc.loop.interpreter import run_module
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target

HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 4]>\n'
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")

PIPELINE = HEAD + r"""
strings (string[2,3] x, string[3] y, int64[2] rows) => (string[3,2] joined, bool[2,3] same, bool[3,2] mail, int64[2,3] label, string[2,3] back)
<string[1] dash = {"-"}> {
  xy = StringConcat (x, dash)
  xyz = StringConcat (xy, y)
  lower = StringNormalizer <case_change_action = "LOWER"> (y)
  same = Equal (x, y)
  picked = Gather <axis = 0> (xyz, rows)
  joined = Transpose <perm = [1, 0]> (picked)
  mail = RegexFullMatch <pattern = "(\\pL|[0-9])+-.*"> (joined)
  label = ai.onnx.ml.LabelEncoder <keys_strings = ["ab", "c", "\"\\??/*"], values_int64s = [1, 2, 3], default_int64 = 9> (x)
  chosen = Where (same, x, lower)
  back = ai.onnx.ml.LabelEncoder <keys_strings = ["ab", "\u00e4"], values_strings = ["AB", "<\n\t>"], default_string = "?"> (chosen)
}
""".replace(r"\u00e4", "ä").replace(r"<\n\t>", "<\n\t>")


def feeds() -> dict[str, Array]:
    return {"x": string_array(["ab", "", "Straße", "c", '"\\??/*', "猫\x01"], (2, 3)), "y": string_array(["ab", "Ä", "ΣCOPE"]),
            "rows": np.array([1, 0])}


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def assert_equal(got: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    assert list(got) == list(wanted)
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype and got[name].tolist() == array.tolist(), name


def built(text: str, target: str = "host", **options: object) -> Model:
    compiled = compile_model(model(text), load_target(target), Options(**options))  # type: ignore[arg-type]
    return load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED)


def test_a_model_of_strings_means_the_same_in_python_in_the_interpreter_and_in_sanitized_c() -> None:
    compiled = compile_model(model(PIPELINE), load_target("generic-c"), Options(self_test=True, verify_each=True, inputs=feeds()))
    wanted = execute(compiled.graph, feeds())
    assert wanted["joined"].tolist() == [["c-ab", "ab-ab"], ['"\\??/*-Ä', "-Ä"], ["猫\x01-ΣCOPE", "Straße-ΣCOPE"]]
    assert wanted["label"].tolist() == [[1, 9, 9], [2, 3, 9]]
    assert wanted["back"].tolist() == [["AB", "<\n\t>", "?"], ["AB", "<\n\t>", "?"]]
    assert wanted["mail"].tolist() == [[True, True], [False, False], [False, True]]
    assert_equal(run_module(compiled.compiled.module, feeds()), wanted)
    with load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED) as sanitized:
        assert_equal(sanitized.run(feeds()), wanted)
        assert_equal(sanitized.run(feeds()), wanted)
    with load(compiled.artifact, cc="gcc") as called:
        assert_equal(called.run(feeds()), wanted)
        assert called.benchmark(2, feeds()).minimum_ns > 0
    text = to_text(compiled.graph)
    assert structurally_equal(parse(text), compiled.graph) and to_text(parse(text)) == text


def test_strings_under_an_emulator() -> None:
    cross = "aarch64-linux-gnu-gcc"
    if os.uname().machine != "aarch64" and not (shutil.which("qemu-aarch64") and shutil.which(cross)):
        pytest.skip("no cross compiler or no emulator")
    compiled = compile_model(model(PIPELINE), load_target("cortex-a76"))
    with load(compiled.artifact, cc=cross if os.uname().machine != "aarch64" else None) as emulated:
        assert_equal(emulated.run(feeds()), execute(compiled.graph, feeds()))


def test_the_self_test_compares_strings(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    compile_model(model(PIPELINE), load_target("generic-c"), Options(self_test=True)).artifact.write(folder)
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    subprocess.run(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", "-I", str(folder), *sources, "-lm", "-o", str(folder / "test")], check=True)
    ran = subprocess.run([str(folder / "test")], capture_output=True, text=True, check=False)
    assert ran.returncode == 0 and "joined: 6 strings\n" in ran.stdout and ran.stdout.endswith("ok\n")
    text = (folder / "selftest.c").read_text().replace('expected_joined[6] = {"', 'expected_joined[6] = {"x')
    (folder / "selftest.c").write_text(text)
    subprocess.run(["gcc", "-O1", "-I", str(folder), *sources, "-lm", "-o", str(folder / "test")], check=True)
    assert subprocess.run([str(folder / "test")], capture_output=True, check=False).returncode == 1


def test_strings_that_no_one_expects() -> None:
    text = HEAD + """
    odd (string[n] x) => (string[n] upper, bool[n] any) {
      upper = StringNormalizer <case_change_action = "UPPER"> (x)
      any = RegexFullMatch <pattern = "(?s).*"> (x)
    }"""
    odd = string_array(["\udcff\udcfe", "\udce2\udc82a", "ÿaß\U00010428", "İı", "ǆ\udc80", "a" * 300])
    with built(text, inputs={"x": odd}) as odd_model:
        got = odd_model.run({"x": odd})
        assert got["upper"].tolist() == ["\udcff\udcfe", "\udce2\udc82A", "ŸAß\U00010400", "İI", "Ǆ\udc80", "A" * 300]
        assert got["any"].tolist() == [False, False, True, True, False, True]
        with pytest.raises(EdgeccError, match="the character NUL"):
            odd_model.run({"x": string_array(["a\0b"] * 6)})
        with pytest.raises(EdgeccError, match="no text"):
            odd_model.run({"x": np.array([1, 2, 3, 4, 5, 6], dtype=object)})


def test_strings_that_need_more_memory_than_there_is_end_the_run() -> None:
    text = HEAD + "grow (string[2] x) => (string[2] y) { y = StringConcat (x, x) }"
    with built(text, limits=Limits(string_bytes=16)) as small:
        assert small.run({"x": string_array(["abc", "abcd"])})["y"].tolist() == ["abcabc", "abcdabcd"]
        assert small.run({"x": string_array(["aaa", "aaa"])})["y"].tolist() == ["aaaaaa"] * 2
        for words in (["abc", "abcde"], ["abcdefgh", ""]):
            with pytest.raises(EdgeccError, match="E407"):
                small.run({"x": string_array(words)})


def test_stop_words_leave_as_many_strings_as_there_are() -> None:
    text = HEAD + """
    normal (string[1,4] x, float[2] u) => (string[1,n] left, bool[1,n] one, float[2] v, string[1,4] same) <string[1] word = {"b"}> {
      left = StringNormalizer <case_change_action = "LOWER", stopwords = ["THE", "of"]> (x)
      one = Equal (left, word)
      v = Abs (u)
      same = Identity (x)
    }"""
    compiled = compile_model(model(text), load_target("generic-c"), Options(self_test=True))
    with load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED) as sanitized, load(compiled.artifact, cc="gcc") as called:
        for words in (["The", "B", "oF", "a"], ["Of", "the", "THE", "of"], ["a", "b", "c", "\u00c4"]):
            given = {"x": string_array(words, (1, 4)), "u": np.array([-1.0, 2.0], np.float32)}
            wanted = [word.lower() for word in words if word.lower() not in ("the", "of")] or [""]
            for ready in (sanitized, called):
                got = ready.run(given)
                assert got["left"].tolist() == [wanted] and got["one"].tolist() == [[word == "b" for word in wanted]]
                assert got["v"].tolist() == [1.0, 2.0] and got["same"].tolist() == [words]
    sensitive = text.replace('case_change_action = "LOWER"', 'case_change_action = "UPPER", is_case_sensitive = 1')
    graph = compile_model(model(sensitive), load_target("generic-c")).graph
    given = {"x": string_array(["THE", "the", "OF", "of"], (1, 4)), "u": np.zeros(2, np.float32)}
    assert execute(graph, given)["left"].tolist() == [["THE", "OF"]]


def test_strings_of_open_shapes() -> None:
    text = HEAD + "open (string[n] x, string[1] y) => (string[n] z) { z = StringConcat (x, y) }"
    with built(text, shapes={"x": (edgecc.Range(1, 5),)}) as pairs:
        for count in (1, 3, 5):
            words = ["ab" * number for number in range(count)]
            assert pairs.run({"x": string_array(words), "y": string_array(["-"])})["z"].tolist() == [f"{word}-" for word in words]
    with built(text.replace("string[n]", "string[2,n]"), shapes={"x": (2, edgecc.Range(1, 5))}) as rows:
        for count in (1, 4, 5):
            words = string_array(["ab" * number for number in range(2 * count)], (2, count))
            assert rows.run({"x": words, "y": string_array(["-"])})["z"].tolist() == [[f"{word}-" for word in row] for row in words]


def test_strings_in_branches_and_loops() -> None:
    text = HEAD + """
    control (string[2] x, bool flag, int64 count) => (string[2] y, string[k,2] rows) <bool yes = {1}, string[1] a = {"a"}> {
      start = If (flag) <then_branch = yes_graph () => (string[2] one) { one = StringConcat (x, a) },
                         else_branch = no_graph () => (string[2] other) { other = Identity (x) }>
      y, rows = Loop (count, yes, start) <body = body (int64 i, bool go, string[2] s) => (bool again, string[2] next, string[2] row) {
        again = Identity (go)
        next = StringConcat (s, x)
        row = Identity (s)
      }>
    }"""
    given = {"x": string_array(["u", "vw"]), "flag": np.array(True), "count": np.array(3)}
    compiled = compile_model(model(text), load_target("generic-c"), Options(limits=Limits(collected_rows=3)))
    wanted = execute(compiled.graph, given)
    assert wanted["y"].tolist() == ["uauuu", "vwavwvwvw"]
    with load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED) as sanitized:
        assert_equal(sanitized.run(given), wanted)
        assert_equal(sanitized.run({**given, "flag": np.array(False)}), execute(compiled.graph, {**given, "flag": np.array(False)}))


def test_a_pointer_to_nothing_is_an_error() -> None:
    compiled = compile_model(model(HEAD + "id (string[2] x) => (string[2] y) { y = Identity (x) }"), load_target("host"))
    with load(compiled.artifact, cc="gcc") as same:
        assert same.run({"x": string_array(["", "b"])})["y"].tolist() == ["", "b"]
        library = same._executor
        sources = (ctypes.c_void_p * 2)(None, None)
        inputs, outputs = ((ctypes.c_void_p * 1)(ctypes.addressof(memory)) for memory in (sources, (ctypes.c_void_p * 2)()))
        assert library.model.run(inputs, outputs, library.arena.ctypes.data) == 2  # type: ignore[attr-defined]


def test_what_is_no_operation_on_strings_is_refused() -> None:
    with pytest.raises(EdgeccError, match="ReduceSum takes no string"):
        edgecc.compile(model(HEAD + "bad (string[2] x) => (string[n] y) { y = ReduceSum <keepdims = 0> (x) }"))
