"""The generic C interface (ABI 1) as seen from Python: the header's text and its structures for ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path

ABI_VERSION = 1
HEADER_NAME = "edgecc_abi.h"
HEADER = (Path(__file__).parent / HEADER_NAME).read_bytes()
"""edgecc_abi.h, which is part of every artifact."""


OPEN_HEADER_NAME = "edgecc_open.h"
OPEN_HEADER = (Path(__file__).parent / OPEN_HEADER_NAME).read_bytes()
"""edgecc_open.h, which is part of artifacts whose shapes differ from run to run."""


class TensorStruct(ctypes.Structure):
    """`edgecc_tensor` of edgecc_abi.h."""

    _fields_ = (
        ("name", ctypes.c_char_p), ("dtype", ctypes.c_int32), ("rank", ctypes.c_int32),
        ("dims", ctypes.POINTER(ctypes.c_int64)), ("bytes", ctypes.c_size_t),
    )


InitFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
RunFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_void_p),
                               ctypes.c_void_p)


class ModelStruct(ctypes.Structure):
    """`edgecc_model` of edgecc_abi.h."""

    _fields_ = (
        ("abi", ctypes.c_uint32), ("name", ctypes.c_char_p), ("target", ctypes.c_char_p),
        ("n_inputs", ctypes.c_int32), ("n_outputs", ctypes.c_int32),
        ("inputs", ctypes.POINTER(TensorStruct)), ("outputs", ctypes.POINTER(TensorStruct)),
        ("arena_bytes", ctypes.c_size_t), ("arena_align", ctypes.c_size_t), ("weights_bytes", ctypes.c_size_t),
        ("init", InitFunction), ("run", RunFunction),
    )


Dims = ctypes.POINTER(ctypes.c_int64)
OpenRunFunction = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(Dims),
                                   ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(Dims), ctypes.c_void_p)


class OpenModelStruct(ctypes.Structure):
    """`edgecc_open_model` of edgecc_open.h."""

    _fields_ = (("model", ctypes.POINTER(ModelStruct)), ("least", ctypes.POINTER(Dims)), ("run", OpenRunFunction))
