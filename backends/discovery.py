"""Which back ends there are: those of edgecc, and those that installed packages bring.

A package brings one with an entry point of the group "edgecc.backends" whose value is the class. What is wrong with one of
them is kept beside it and raised when it is asked for; the others work all the same. Listing imports none of the packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

from edgecc.backends.base import API, AnyBackend
from edgecc.errors import EdgeccError, printable
from edgecc.options import construct, nearest, split_names
from edgecc.plugins import Plugin, plugins

GROUP = "edgecc.backends"

BUILT_IN: Mapping[str, str] = MappingProxyType({
    "c": "edgecc.backends.c.backend:CBackend",
    "llvm": "edgecc.backends.llvm.backend:LlvmBackend",
    "onnx": "edgecc.backends.onnx.backend:OnnxBackend",
    "tflite": "edgecc.backends.tflite.backend:TfliteBackend",
    "ethosu": "edgecc.backends.ethosu.backend:EthosuBackend",
    "tosa": "edgecc.backends.tosa.backend:TosaBackend",
    "rknn": "edgecc.backends.rknn.backend:RknnBackend",
    "qnn": "edgecc.backends.qnn.backend:QnnBackend",
    "tvm": "edgecc.backends.tvm.backend:TvmBackend",
})
"""The back ends of edgecc and their classes. A table, because metadata of packages may be stale; in this order forms are looked up."""


@dataclass(frozen=True)
class Found:
    """A back end that exists, loaded or not.

    Attributes:
        name: by which it is chosen.
        value: the class, as "module:class".
        package: the package it comes from.
        plugin: its entry point; None for those of edgecc.
    """

    name: str
    value: str
    package: str
    plugin: Plugin | None

    def load(self) -> type[AnyBackend]:
        """The class.

        Raises: EdgeccError E404 where it cannot be imported, or is no back end of this interface.
        """
        if self.plugin is None:
            module, _, attribute = self.value.partition(":")
            return cast(type[AnyBackend], getattr(importlib.import_module(module), attribute))
        if self.name in BUILT_IN:
            raise self.plugin.problem("has the name of a back end of edgecc")
        cls = self.plugin.load()
        if not isinstance(cls, type):
            raise self.plugin.problem(f"is no class, but {type(cls).__name__}")
        missing = [name for name in ("api", "name", "summary", "forms", "takes", "supports", "emit") if not hasattr(cls, name)]
        if missing:
            raise self.plugin.problem(f"is no back end: it lacks {', '.join(missing)}")
        found = cast(type[AnyBackend], cls)
        if found.api != API:
            raise self.plugin.problem(f"was written for version {found.api} of the interface; this edgecc has {API}")
        if found.name != self.name:
            raise self.plugin.problem(f"calls itself {printable(str(found.name))}; the entry point must have the same name")
        if found.takes not in ("loops", "graph") or not found.forms:
            raise self.plugin.problem("takes neither loops nor graph" if found.forms else "has no forms")
        return found


def list_backends() -> tuple[Found, ...]:
    """Every back end: those of edgecc, then those of packages by name. Imports none."""
    return (*(Found(name, value, "edgecc", None) for name, value in BUILT_IN.items()),
            *(Found(plugin.name, plugin.value, plugin.package, plugin) for plugin in plugins(GROUP)))


def create_backend(spec: str) -> AnyBackend:
    """A back end by name, with options in braces: `onnx{opset=17}`.

    Raises: EdgeccError E009 for an unknown name or option, E404 where the package that brings it is broken.
    """
    names = split_names(spec, "back end", "E009")
    if len(names) != 1:
        raise EdgeccError("E009", f"one back end was expected, got {printable(spec)!r}", hint="the syntax is name{option=value,option=value}")
    name, options = names[0]
    value = BUILT_IN.get(name)
    found = [Found(name, value, "edgecc", None)] if value is not None else [each for each in list_backends() if each.name == name]
    if not found:
        known = [each.name for each in list_backends()]
        raise EdgeccError("E009", f"there is no back end {printable(name)!r}", hint=nearest(name, known) or f"there are {', '.join(known)}")
    if len(found) > 1:
        raise EdgeccError("E404", f"several packages bring a back end {printable(name)}: {', '.join(printable(each.package) for each in found)}",
                          where=GROUP, hint="remove all but one of them")
    return construct(found[0].load(), options, f"back end {name}", "E009")


def select_backend(backend: str | None, form: str | None) -> tuple[AnyBackend, str]:
    """The back end and the form that are asked for.

    Args:
        backend: a back end as `create_backend` takes it; None: the one that has the form.
        form: one of its forms, or the name of a back end, which stands for its first form; None: the first one.
    Raises: EdgeccError E001 for a form that the back end, or every one, lacks; what `create_backend` raises.
    """
    if backend is not None:
        chosen = create_backend(backend)
        if form is not None and form not in chosen.forms:
            raise EdgeccError("E001", f"back end {chosen.name} has no form {printable(form)!r}",
                              hint=nearest(form, tuple(chosen.forms)) or f"it has {', '.join(chosen.forms)}")
        return chosen, form or next(iter(chosen.forms))
    if form is None:
        return select_backend(next(iter(BUILT_IN)), None)
    if form in BUILT_IN:
        chosen = create_backend(form)
        return chosen, form if form in chosen.forms else next(iter(chosen.forms))
    broken: list[EdgeccError] = []
    known: list[str] = []
    for found in list_backends():
        try:
            cls = found.load()
        except EdgeccError as error:
            broken.append(error)
            continue
        known += cls.forms
        if form in cls.forms or form == found.name:
            return create_backend(found.name), form if form in cls.forms else next(iter(cls.forms))
    raise EdgeccError("E001", f"no back end emits {printable(form)!r}", hint=nearest(form, known) or f"there are {', '.join(dict.fromkeys(known))}",
                      details=[str(error) for error in broken])
