"""Strings taken apart at run time: parts, words, numbers; a text classifier of the form that sklearn-onnx writes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import pytest

import edgecc
from edgecc.api import Options, compile_model
from edgecc.artifact.load import load
from edgecc.errors import EdgeccError
from edgecc.frontend.limits import Limits
from edgecc.ir.strings import string_array
from edgecc.ir.types import Array
from edgecc.loop.interpreter import run_module
from edgecc.reference.executor import execute
from edgecc.targets.schema import load_target

HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 4, "com.microsoft" : 1]>\n'
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wall", "-Wextra", "-Werror")

APART = HEAD + r"""
apart (string[4] x, int64[4] n, bool[4] b, string[2] whole, string[7] fraction)
    => (string[4,w] words, int64[4] counts, string[4,2] fields, string[4,t] tokens, string[4] n_text, string[4] b_text, int16[2] i, double[7] f) {
  words, counts = StringSplit (x)
  fields, pairs = StringSplit <delimiter = ", ", maxsplit = 1> (x)
  tokens = com.microsoft.Tokenizer <mark = 1, mincharnum = 2, pad_value = "#", tokenexp = "[a-z]+|\\pL"> (x)
  n_text = Cast <to = 8> (n)
  b_text = Cast <to = 8> (b)
  i = Cast <to = 5> (whole)
  f = Cast <to = 11> (fraction)
}
"""


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text)


def given(*, whole: str = " -12\n") -> dict[str, Array]:
    return {"x": string_array(["a, bc, \u00e4\u3000d\x85", "", " \t", "\udcffzz, \u732b"]), "n": np.array([0, -1, 2**63 - 1, -2**63]),
            "b": np.array([True, False, True, True]), "whole": string_array([whole, "+0012"]),
            "fraction": string_array(["9007199254740993", "9007199254740993.0000000000000000000001", "2.4703282292062328e-324", "1e400", " -.5 ",
                                      "NaN", "1" + "0" * 900 + "e-905"])}


def assert_equal(got: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    for name, array in wanted.items():
        assert got[name].dtype == array.dtype and got[name].shape == array.shape and str(got[name].tolist()) == str(array.tolist()), name


def test_parts_words_and_numbers_mean_the_same_in_python_and_in_sanitized_c() -> None:
    compiled = compile_model(model(APART), load_target("generic-c"), Options(limits=Limits(string_parts=5)))
    wanted = execute(compiled.graph, given())
    assert wanted["words"].tolist() == [["a,", "bc,", "\u00e4", "d"], [""] * 4, [""] * 4, ["\udcffzz,", "\u732b", "", ""]]
    assert wanted["counts"].tolist() == [4, 0, 0, 2]
    assert wanted["fields"].tolist() == [["a", "bc, \u00e4\u3000d\x85"], ["", ""], [" \t", ""], ["\udcffzz", "\u732b"]]
    assert wanted["tokens"].tolist() == [["\x02", "bc", "\x03"], ["\x02", "\x03", "#"], ["\x02", "\x03", "#"], ["\x02", "zz", "\x03"]]
    assert wanted["n_text"].tolist() == ["0", "-1", "9223372036854775807", "-9223372036854775808"]
    assert wanted["b_text"].tolist() == ["True", "False", "True", "True"] and wanted["i"].tolist() == [-12, 12]
    assert str(wanted["f"].tolist()) == str([2.0**53, 2.0**53 + 2, 5e-324, np.inf, -0.5, np.nan, 1e-5])
    with load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED) as sanitized:
        assert_equal(sanitized.run(given()), wanted)
        assert_equal(sanitized.run(given()), wanted)
        for text in ("", "1.0", "--1", "1_0", "9223372036854775808", "-9223372036854775809", "1 2"):
            with pytest.raises(EdgeccError, match="E408"):
                sanitized.run(given(whole=text))
            with pytest.raises(EdgeccError, match="E408"):
                execute(compiled.graph, given(whole=text))
        with pytest.raises(EdgeccError, match="E407"):
            sanitized.run({**given(), "x": string_array(["a b c d e f"] * 4)})
        with pytest.raises(EdgeccError, match="E407"):
            execute(compiled.graph, {**given(), "x": string_array(["a b c d e f"] * 4)})


def test_the_interpreter_takes_strings_apart_too() -> None:
    text = HEAD + """g (string[2] x, int64[2] n) => (int64[2] counts, double[2] f, string[2] t, string[2,w] parts) {
      parts, counts = StringSplit <delimiter = "/", maxsplit = 0> (x)
      f = Cast <to = 11> (x)
      t = Cast <to = 8> (n)
    }"""
    feeds = {"x": string_array(["1.5", "inf"]), "n": np.array([7, -7])}
    compiled = compile_model(model(text), load_target("generic-c"))
    wanted = execute(compiled.graph, feeds)
    assert wanted["parts"].tolist() == [["1.5"], ["inf"]] and wanted["f"].tolist() == [1.5, np.inf] and wanted["t"].tolist() == ["7", "-7"]
    fixed = compile_model(model(text.replace(", string[2,w] parts)", ")")), load_target("generic-c"))
    assert_equal(run_module(fixed.compiled.module, feeds), execute(fixed.graph, feeds))


CLASSIFIER = HEAD + r"""
texts (string[n,1] text) => (int64[n] label, float[n,2] scores, float[n,3] counts) <int64[1] flat = {-1}> {
  line = Reshape (text, flat)
  lower = StringNormalizer <case_change_action = "LOWER"> (line)
  words = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = "#", SPLIT> (lower)
  rows = Flatten (words)
  counts = TfIdfVectorizer <mode = "TF", min_gram_length = 1, max_gram_length = 2, max_skip_count = 0, ngram_counts = [0, 2],
                            ngram_indexes = [0, 1, 2], pool_strings = ["good", "bad", "not", "good"]> (rows)
  label, scores = ai.onnx.ml.LinearClassifier <classlabels_ints = [0, 1], coefficients = [-1.0, 1.0, 2.0, 1.0, -1.0, -2.0],
                                               intercepts = [0.1, 0.0], post_transform = "SOFTMAX"> (counts)
}
"""


def test_a_text_classifier_of_any_number_of_texts() -> None:
    texts = ["Good, good!", "", "not good.", "Is this bad? Not BAD", "..."]
    counts = [[2, 0, 0], [0, 0, 0], [1, 0, 1], [0, 2, 0], [0, 0, 0]]
    shapes = {"text": (edgecc.Range(1, 5), 1)}
    compiled = compile_model(model(CLASSIFIER.replace("SPLIT", 'tokenexp = "[a-zA-Z0-9_]+"')), load_target("host"), Options(shapes=shapes))
    separated = compile_model(model(CLASSIFIER.replace("SPLIT", 'separators = [" ", "[.]", "\\\\?", ",", "!"]')), load_target("host"), Options(shapes=shapes))
    assert execute(separated.graph, {"text": string_array(texts, (5, 1))})["counts"].tolist() == counts
    with load(compiled.artifact, cc="gcc", isolated=True, flags=SANITIZED) as classifier:
        for first, last in ((0, 1), (1, 2), (0, 5)):
            got = classifier.run({"text": string_array(texts[first:last], (last - first, 1))})
            assert got["counts"].tolist() == counts[first:last]
            assert got["label"].tolist() == [[1, 0, 0, 0, 0][i] for i in range(first, last)]


@pytest.mark.parametrize(("attributes", "reason"), [
    (r'tokenexp = "\\bab"', "looks at what is around a match"), ('separators = ["--"]', "separators of more than one character"),
    ("", "tokenexp or separators is missing"), ('tokenexp = "(a"', "E105")])
def test_words_that_are_not_understood_are_refused(attributes: str, reason: str) -> None:
    text = HEAD + f"g (string[2] x) => (string[2,t] y) {{ y = com.microsoft.Tokenizer <mark = 0, mincharnum = 1, pad_value = \"\"{', ' * bool(attributes)}" \
        f"{attributes}> (x) }}"
    with pytest.raises(EdgeccError) as caught:
        edgecc.compile(model(text))
    assert reason in str(caught.value)


def test_floats_are_not_written_as_text_at_run_time() -> None:
    with pytest.raises(EdgeccError, match="written as text at run time"):
        edgecc.compile(model(HEAD + "g (float[2] x) => (string[2] y) { y = Cast <to = 8> (x) }"))
