"""Operators that are refused for a reason worth telling."""

from __future__ import annotations

from edgecc.frontend.call import Call
from edgecc.frontend.converters.classical import DOMAIN
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter


@converter("CastMap", "DictVectorizer", domain=DOMAIN, accepted=False)
def _map(call: Call) -> Item:
    raise Unsupported("an input that maps keys to values is no tensor", "put the values in the order of the keys in the program, and export what follows")
