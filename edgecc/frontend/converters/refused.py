"""Operators that are refused for a reason worth telling."""

from __future__ import annotations

from edgecc.frontend.call import Call
from edgecc.frontend.converters.classical import DOMAIN
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter


@converter("CastMap", "DictVectorizer", "ZipMap", domain=DOMAIN, accepted=False)
def _map(call: Call) -> Item:
    raise Unsupported("maps from keys to values are no tensors", "export the network without maps: with skl2onnx, option zipmap=False")


@converter("SVMClassifier", domain=DOMAIN, accepted=False)
def _votes(call: Call) -> Item:
    raise Unsupported("the votes of support vectors of pairs of classes are not compiled", "use a linear model, trees or a network")
