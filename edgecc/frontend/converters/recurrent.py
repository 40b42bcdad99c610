"""LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Sequence

from edgecc.errors import EdgeccError, printable
from edgecc.frontend.call import Call
from edgecc.frontend.registry import converter
from edgecc.ir.graph import Value
from edgecc.ops.recurrent import ACTIVATION_DEFAULTS, DEFAULT_ACTIVATIONS, Recurrent

_CANONICAL = {name.lower(): name for name in ACTIVATION_DEFAULTS}
_TAKES_ALPHA = frozenset({"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"})
_TAKES_BETA = frozenset({"Affine", "ScaledTanh", "HardSigmoid"})


@converter("LSTM", "GRU", "RNN", since=7)
def _recurrent(call: Call) -> tuple[Value, ...]:
    kind = call.node.op_type.lower()
    others = [call.optional(index) for index in range(3, 8 if kind == "lstm" else 6)]
    return recurrent(call, kind, call.input(0), call.input(1), call.input(2), others)


def recurrent(call: Call, kind: str, x: Value, w: Value, r: Value, others: Sequence[Value | None]) -> tuple[Value, ...]:
    """The results of LSTM, GRU or RNN, by the node's attributes; `others` are the operands from the bias on."""
    operands = [x, w, r, *others]
    direction = call.text("direction", "forward")
    hidden = call.integer("hidden_size", r.type.dims[-1] if r.type.rank else 0)
    names, alphas, betas = _activations(call, kind, 2 if direction == "bidirectional" else 1)
    lengths = operands[4]
    if lengths is not None and lengths.constant is not None and x.type.rank == 3:
        steps = x.type.shape[1 if call.integer("layout", 0) else 0]
        if (lengths.constant == steps).all():
            operands[4] = None
    op = Recurrent(kind, hidden, printable(direction), names, alphas, betas, call.number("clip", 0.0),
                   call.flag("linear_before_reset"), call.flag("input_forget"), call.integer("layout", 0))
    return call.add_all(op, *operands)


def _activations(call: Call, kind: str, directions: int,
                 ) -> tuple[tuple[str, ...], tuple[float, ...], tuple[float, ...]]:
    """Names, alphas and betas, one per activation; the model lists alphas and betas only for those that take one."""
    given = call.strings("activations")
    if given is None and call.floats("activation_alpha") is None and call.floats("activation_beta") is None:
        return (), (), ()
    names = given if given is not None else DEFAULT_ACTIVATIONS[kind] * directions
    unknown = [name for name in names if name.lower() not in _CANONICAL]
    if unknown:
        raise EdgeccError("E102", f"activation '{printable(unknown[0])}' is not known, "
                                  f"wanted one of {', '.join(ACTIVATION_DEFAULTS)}")
    names = tuple(_CANONICAL[name.lower()] for name in names)
    alphas, betas = iter(call.floats("activation_alpha") or ()), iter(call.floats("activation_beta") or ())
    chosen = [(next(alphas, ACTIVATION_DEFAULTS[name][0]) if name in _TAKES_ALPHA else ACTIVATION_DEFAULTS[name][0],
               next(betas, ACTIVATION_DEFAULTS[name][1]) if name in _TAKES_BETA else ACTIVATION_DEFAULTS[name][1])
              for name in names]
    if all(pair == ACTIVATION_DEFAULTS[name] for name, pair in zip(names, chosen, strict=True)):
        return ((), (), ()) if names == DEFAULT_ACTIVATIONS[kind] * directions else (names, (), ())
    return names, tuple(alpha for alpha, _ in chosen), tuple(beta for _, beta in chosen)
