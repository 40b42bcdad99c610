"""Many networks in one program: their kernels share a file and its helpers, and their runs share another one, so that
headers are parsed once for all and the compiler is started a few times.

For trying out large numbers of small networks, where starting the compiler and reading the headers of intrinsics would
take nearly all of the time. The program's main is edgecc/artifact/batch_runner.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecc.artifact.abi import HEADER, HEADER_NAME, OPEN_HEADER, OPEN_HEADER_NAME
from edgecc.artifact.folder import weights_blob
from edgecc.backends.c.backend import target_isa
from edgecc.backends.c.function import PrintedFunction, new_prelude, print_function
from edgecc.backends.c.includes import includes
from edgecc.backends.c.model import header, source, symbols_of
from edgecc.backends.c.weights import weights_assembly
from edgecc.errors import EdgeccError
from edgecc.loop.module import Module
from edgecc.targets.schema import Target


@dataclass(frozen=True)
class Batch:
    """Sources of a program with several networks.

    Attributes:
        files: content by name.
        sources: those to compile, with EDGECC_NO_GET_MODEL defined.
    """

    files: Mapping[str, bytes]
    sources: tuple[str, ...]


def emit_batch(modules: Sequence[Module], target: Target) -> Batch:
    """The sources of networks with different names, each for one thread, as arrays in this order.

    `edgecc_models` has all of them, `edgecc_open_models` those whose shapes differ from run to run.

    Raises: EdgeccError E900 where two have one name or one runs on threads.
    """
    names = [module.name for module in modules]
    if len(set(names)) != len(names) or any(module.threads > 1 for module in modules):
        raise EdgeccError("E900", "C back end: networks of a batch have names of their own and one thread each")
    isa = target_isa(target)
    prelude = new_prelude(isa)
    printed: list[PrintedFunction] = []
    files: dict[str, str | bytes] = {HEADER_NAME: HEADER, OPEN_HEADER_NAME: OPEN_HEADER}
    assembly: list[str] = []
    apart = [f"{module.name}.c" for module in modules if module.strings is not None]
    sources = ["kernels.c", "models.c", *apart]
    for module in modules:
        symbols = symbols_of(module)
        printed += [print_function(function, prelude, symbols.functions[function.name]) for function in module.functions]
        files[f"{module.name}.h"] = header(module, target, symbols, weights_from_file=False)
        files[f"{module.name}.c"] = source(module, target, symbols, weights_from_file=False)
        if module.weights_bytes:
            files[f"{module.name}.bin"] = weights_blob(module)
            assembly.append(weights_assembly(module.name, module.arena_align, f"{module.name}.bin"))
    prototypes = "".join(f"{function.prototype};\n" for function in printed)
    files["kernels.h"] = f"#ifndef EDGECC_KERNELS_H\n#define EDGECC_KERNELS_H\n#include <stddef.h>\n#include <stdint.h>\n\n{prototypes}#endif\n"
    code = "\n".join([prelude.text, *(f.definition for f in printed)])
    files["kernels.c"] = f'#include "kernels.h"\n{includes(isa, code)}\n{code}'
    files["models.c"] = _models(modules, {module.name: str(files[f"{module.name}.c"]) for module in modules if module.strings is None})
    if assembly:
        files["weights.S"] = "#undef SYMBOL\n".join(assembly)
        sources.append("weights.S")
    return Batch({name: text.encode("ascii") if isinstance(text, str) else text for name, text in files.items()}, tuple(sources))


def _models(modules: Sequence[Module], runs: Mapping[str, str]) -> str:
    """models.c: functions that give the networks, by number, and the files `runs` by the names of their networks."""
    included = "".join(_included(name, text) for name, text in runs.items())
    headers = "".join(f'#include "{module.name}.h"\n' for module in modules if module.name not in runs)
    models, open_models = "const edgecc_model *(*const edgecc_models[])(void)", "const edgecc_open_model *(*const edgecc_open_models[])(void)"
    entries = "".join(f"  {module.name}_get_model,\n" for module in modules)
    open_entries = "".join(f"  {f'{module.name}_get_open_model' if module.is_open else 'NULL'},\n" for module in modules)
    return (f"#include <string.h>\n\n#include \"{OPEN_HEADER_NAME}\"\n#include \"kernels.h\"\n{included}{headers}\n"
            f"extern const unsigned edgecc_model_count;\n"
            f"extern {models};\nextern {open_models};\n\n"
            f"const unsigned edgecc_model_count = {len(modules)};\n"
            f"{models} = {{\n{entries}}};\n{open_models} = {{\n{open_entries}}};\n")


def _included(name: str, text: str) -> str:
    """Includes NAME.c, whose static names are those of other networks as well, with names of its own for them."""
    own = sorted(set(re.findall(r"^static [^=(\[]*?(\w+) ?[=(\[]", text, re.MULTILINE)))
    return (f"\n{''.join(f'#define {word} {name}_own_{word}{chr(10)}' for word in own)}#include \"{name}.c\"\n"
            f"{''.join(f'#undef {word}{chr(10)}' for word in own)}")
