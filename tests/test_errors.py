"""Errors keep everything they say on the way from one process to another."""

from __future__ import annotations

import pickle

import pytest

from edgecc.errors import CATALOGUE, EdgeccError, _catalogue


def test_errors_can_be_pickled():
    error = EdgeccError("E105", "cannot", where="model.onnx", hint="change it", details=["one", "two"])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is EdgeccError and str(copy) == str(error)
    assert (copy.code, copy.message, copy.where, copy.hint, copy.details) == ("E105", "cannot", "model.onnx", "change it", ("one", "two"))


def test_every_code_means_one_thing():
    assert sorted(CATALOGUE) == list(CATALOGUE)
    kind = CATALOGUE["E105"]
    with pytest.raises(ValueError, match="one code"):
        _catalogue(kind, kind)
