"""Errors keep everything they say on the way from one process to another."""

from __future__ import annotations

import pickle

from edgecc.errors import EdgeccError


def test_errors_can_be_pickled():
    error = EdgeccError("E105", "cannot", where="model.onnx", hint="change it", details=["one", "two"])
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is EdgeccError and str(copy) == str(error)
    assert (copy.code, copy.message, copy.where, copy.hint, copy.details) == ("E105", "cannot", "model.onnx", "change it", ("one", "two"))
