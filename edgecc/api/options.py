"""What can be said about a compilation, and what it compiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from edgecc.frontend.bind import GivenDim
from edgecc.frontend.interface import Given
from edgecc.frontend.limits import DEFAULT_LIMITS, Limits
from edgecc.ir.types import Array
from edgecc.kernels.request import CHECKS
from edgecc.targets.precision import FP32

ModelSource = str | Path | bytes | onnx.ModelProto
"""A model: a path, the bytes of a file, or a parsed model."""

DEPTH_FIRST = ("auto", "off")
"""Whether chains of layers run stripe by stripe."""
FOR_LOOPS = ("threads", "depth_first", "precision", "keep_fp32", "tuning", "self_test", "winograd", "checks", "integers")
"""Options of a compilation that are about loop programs; back ends that take graphs have no use for them."""
WINOGRAD = ("auto", "off")
"""Whether Winograd's algorithm is used for convolutions: where it is modelled to be faster; never."""
INTEGER_SUMS = ("auto", "always")
"""Whether quantized layers are summed in integers: unless floats give the same numbers and are modelled to be faster; always."""
CHOICES = (("depth_first", DEPTH_FIRST), ("winograd", WINOGRAD), ("integers", INTEGER_SUMS), ("checks", CHECKS))
"""Options that name one of a few ways."""


@dataclass(frozen=True)
class Options:
    """How to compile.

    Attributes:
        shapes: sizes of dynamic dimensions, by input or by the name of a dimension; a `Range` leaves one open between bounds.
        inputs: arrays whose shapes bind dynamic dimensions; lists of arrays for sequences, None for empty optionals.
        bind_values: inputs that must be known for the model to be compiled, such as shapes, become constants of the values
            that `inputs` gives them; the report of the import names them.
        constants: values of inputs that are the same in every run: they are compiled in, and are no inputs any more.
        threads: the number of threads a run uses.
        depth_first: "auto" runs chains of layers stripe by stripe where that saves memory or time; "off" never does.
            With several threads nothing runs in stripes, since the threads divide whole layers.
        precision: "fp32", "fp16" or "bf16": what weights and activations are stored and, where it is accurate enough,
            computed in; inputs and outputs keep their types.
        keep_fp32: names of nodes of the model that keep fp32 all the same.
        tuning: names of candidates by signature of the kernel (edgecc/tuning); others are chosen by the cost model.
        passes: the pipeline of graph passes instead of the default one, as `--passes` takes it.
        verify_each: execute the graph before and after each pass and compare, on `inputs` or random ones.
        self_test: put results of the reference into selftest.c, which then checks against them.
        winograd: "auto" or "off": whether convolutions may use Winograd's algorithm, which is faster, takes more memory
            for weights and rounds less exactly (edgecc/kernels/winograd.py has the bounds).
        integers: "auto" or "always": whether convolutions and products of quantized layers may be summed in float where that gives
            the same numbers and the cost model expects it to be faster (edgecc/lowering/precision.py).
        checks: what becomes of indices that are computed at run time and lie outside of their axis: "trap", the run ends with
            status 5; "clamp", they are moved to its nearest end; "off", they are trusted not to occur.
        name: prefix of everything in the generated code; by default the name of the model file.
        limits: bounds on what an untrusted model may ask for.
    """

    shapes: Mapping[str, Sequence[GivenDim]] | None = None
    inputs: Mapping[str, Given] | None = None
    bind_values: bool = False
    constants: Mapping[str, Array] | None = None
    threads: int = 1
    depth_first: str = "auto"
    precision: str = FP32
    keep_fp32: Sequence[str] = ()
    tuning: Mapping[str, str] | None = None
    passes: str | None = None
    verify_each: bool = False
    self_test: bool = False
    winograd: str = "auto"
    integers: str = "auto"
    checks: str = "trap"
    name: str | None = None
    limits: Limits = DEFAULT_LIMITS


DEFAULT_OPTIONS = Options()
