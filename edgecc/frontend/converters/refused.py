"""Operators that are refused for a reason worth telling."""

from __future__ import annotations

from edgecc.frontend.call import Call
from edgecc.frontend.items import Item
from edgecc.frontend.registry import Unsupported, converter


@converter("ImageDecoder", accepted=False)
def _picture(call: Call) -> Item:
    raise Unsupported("it decodes picture files", "do this step in the program around the model")
