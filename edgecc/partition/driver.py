"""The run of a divided network in C: it calls the CPU's parts, and a function of the user's for each part of the accelerator.

    NAME.h          the interface of the whole network, as that of any artifact of C
    NAME_parts.h    one function for each part of the accelerator, to be written with the vendor's runtime
    NAME.c          the parts in turn
    CMakeLists.txt  a static library of NAME.c and the CPU's parts

A function for the accelerator has the type of `run` in edgecc_abi.h, so that C code of edgecc for the same part can stand in
for it. Values between parts and the scratch memory of each part share one arena.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgecc.artifact.abi import HEADER, HEADER_NAME
from edgecc.artifact.folder import Artifact
from edgecc.backends.c.build import CMAKE_FILE
from edgecc.backends.c.model import argument_checks, banner, generic_interface, header, symbols_of
from edgecc.backends.c.names import comment_text
from edgecc.ir.types import DType
from edgecc.loop.module import Interface, Module
from edgecc.memory.lifetime import Block
from edgecc.memory.offsets import ALIGN, Offsets, assign_offsets
from edgecc.partition.split import Source
from edgecc.targets.schema import Target
from edgecc.version import VERSION


@dataclass(frozen=True)
class DriverPart:
    """A part as the driver sees it: its folder, its artifact, which side runs it, and where its inputs come from."""

    folder: str
    name: str
    artifact: Artifact
    on_npu: bool
    inputs: tuple[Source, ...]


@dataclass(frozen=True)
class Driver:
    """Files by name, and the bytes of the arena that all parts share."""

    files: dict[str, bytes]
    arena_bytes: int


def write_driver(name: str, target: Target, inputs: Sequence[Interface], outputs: Sequence[Interface], parts: Sequence[DriverPart],
                 sources: Sequence[Source]) -> Driver | None:
    """The driver of a divided network; None where strings cross, which have no memory of a known size.

    Args:
        name: a C identifier. target: the CPU with its accelerator.
        inputs, outputs: of the network.
        parts: in the order in which they run.
        sources: where the outputs of the network come from.
    """
    ports = [port for part in parts for port in (*part.artifact.manifest.inputs, *part.artifact.manifest.outputs)]
    if any(port.type.dtype is DType.STRING for port in (*inputs, *outputs, *ports)):
        return None
    memory = _Memory(parts, sources)
    module = Module(name, tuple(inputs), tuple(outputs), (), (), (),
                    sum(part.artifact.weights_bytes for part in parts), memory.offsets.arena_bytes, memory.offsets.lower_bound, ALIGN)
    files = {
        f"{name}.h": header(module, target, symbols_of(module), weights_from_file=False),
        f"{name}_parts.h": _parts_header(module, target, parts),
        f"{name}.c": _source(module, target, parts, sources, memory),
        CMAKE_FILE: _cmake(name, parts),
    }
    return Driver({HEADER_NAME: HEADER, **{file: text.encode("ascii") for file, text in files.items()}}, memory.offsets.arena_bytes)


class _Memory:
    """Where the results of parts lie that are no outputs of the network, and the scratch memory of each part."""

    def __init__(self, parts: Sequence[DriverPart], outputs: Sequence[Source]) -> None:
        self.returned = {}
        for number, source in reversed(list(enumerate(outputs))):
            if source.part is not None:
                self.returned[source] = number
        last = {source: number for number, part in enumerate(parts) for source in part.inputs}
        blocks, keys = [], list[Source | int]()
        for number, part in enumerate(parts):
            blocks.append(Block(part.name, max(1, part.artifact.arena_bytes), number, number))
            keys.append(number)
            for index, port in enumerate(part.artifact.manifest.outputs):
                source = Source(number, index)
                if source not in self.returned:
                    blocks.append(Block(port.name, max(1, port.type.packed_bytes), number, last.get(source, number)))
                    keys.append(source)
        self.offsets: Offsets = assign_offsets(blocks)
        self._places = dict(zip(keys, self.offsets.offsets, strict=True))

    def scratch(self, part: int) -> str:
        """C text of the scratch memory of a part."""
        return _at(self._places[part])

    def value(self, source: Source, inputs: Sequence[str], outputs: Sequence[str]) -> str:
        """C text of the address of an array; `inputs` and `outputs` are the names of the members of the network's structs."""
        if source.part is None:
            return f"in->{inputs[source.index]}"
        if source in self.returned:
            return f"out->{outputs[self.returned[source]]}"
        return _at(self._places[source])


def _at(offset: int) -> str:
    return f"a + {offset}" if offset else "a"


def _parts_header(module: Module, target: Target, parts: Sequence[DriverPart]) -> str:
    guard = f"EDGECC_{module.name.upper()}_PARTS_H"
    hooks = "\n".join(_hook(part) for part in parts if part.on_npu)
    return f"""{banner(module, target, "Parts on the accelerator")}
#ifndef {guard}
#define {guard}

#include "{HEADER_NAME}"

#ifdef __cplusplus
extern "C" {{
#endif

/* These functions are yours: each runs one part with the runtime of the accelerator, and returns 0, or a number above 99 that
 * {module.name}_run then returns. `in` and `out` are arrays of the network, in its types and order of axes: dense, the last axis
 * contiguous, aligned to {ALIGN} bytes unless they are inputs or outputs of the network. What the device wants instead (its
 * quantization, its order of axes) stands in manifest.json of the part's folder, under "report". `arena` is scratch memory that
 * nobody else uses meanwhile. */
{hooks}
#ifdef __cplusplus
}}
#endif
#endif
"""


def _hook(part: DriverPart) -> str:
    manifest = part.artifact.manifest
    lines = [f"Runs {part.folder}/{comment_text(manifest.main)}."]
    for kind, ports in (("in", manifest.inputs), ("out", manifest.outputs)):
        lines += [f"{kind}[{number}]: {comment_text(port.name)}, {comment_text(str(port.type))}, {port.type.packed_bytes} bytes"
                  for number, port in enumerate(ports)]
    macro = f"{part.name.upper()}_INVOKE_ARENA_BYTES"
    return (f"/* {f'{chr(10)} * '.join(lines)} */\n#define {macro} {part.artifact.arena_bytes}\n"
            f"int {part.name}_invoke(const void *const *in, void *const *out, void *arena);\n")


def _source(module: Module, target: Target, parts: Sequence[DriverPart], sources: Sequence[Source], memory: _Memory) -> str:
    name, symbols = module.name, symbols_of(module)
    copies = list(_copies(sources, memory, module, symbols.inputs, symbols.outputs))
    own = "".join(f'#include "{part.folder}/{part.name}.h"\n' for part in parts if not part.on_npu)
    lines = [f"int {name}_run(const {name}_inputs *in, const {name}_outputs *out, void *arena) {{", *argument_checks(module, symbols),
             *(("  unsigned char *const a = (unsigned char *)arena;", "  int status;") if parts else ("  (void)arena;",))]
    for number, part in enumerate(parts):
        lines += _part_lines(number, part, memory, symbols.inputs, symbols.outputs)
    lines += copies
    run = "\n".join([*lines, "  return 0;", "}"])
    string = "#include <string.h>\n\n" if copies else ""
    return (f'{banner(module, target, "The run")}\n{string}#include "{name}.h"\n#include "{name}_parts.h"\n{own}\n{run}\n'
            f"{generic_interface(module, target, symbols, weights_from_file=False)}")


def _part_lines(number: int, part: DriverPart, memory: _Memory, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[str]:
    manifest = part.artifact.manifest
    given = [memory.value(source, inputs, outputs) for source in part.inputs]
    taken = [memory.value(Source(number, index), inputs, outputs) for index in range(len(manifest.outputs))]
    function = f"{part.name}_invoke" if part.on_npu else f"{part.name}_get_model()->run"
    yield f"  {{ /* {part.folder} */"
    yield f"    const void *const from[] = {{{', '.join(given) or 'NULL'}}};"
    yield f"    void *const to[] = {{{', '.join(taken) or 'NULL'}}};"
    yield f"    status = {function}(from, to, {memory.scratch(number)});"
    yield "  }"
    yield "  if (status != 0) return status;"


def _copies(sources: Sequence[Source], memory: _Memory, module: Module, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[str]:
    """Outputs that are inputs, or another output once more."""
    for number, (source, port) in enumerate(zip(sources, module.outputs, strict=True)):
        if memory.returned.get(source) != number and port.type.packed_bytes:
            yield f"  memcpy(out->{outputs[number]}, {memory.value(source, inputs, outputs)}, {port.type.packed_bytes});"


def _cmake(name: str, parts: Sequence[DriverPart]) -> str:
    own = [part for part in parts if not part.on_npu]
    lines = [f"add_subdirectory({part.folder})\ntarget_link_libraries({name} PUBLIC {part.name})\n" for part in own]
    return (f"# Generated by edgecc {VERSION}. Target: {name} (static); what links it defines the functions of {name}_parts.h.\n"
            f"cmake_minimum_required(VERSION 3.15)\nproject({name} C)\n\nset(CMAKE_C_STANDARD 11)\nadd_library({name} STATIC {name}.c)\n"
            f"target_include_directories({name} PUBLIC ${{CMAKE_CURRENT_SOURCE_DIR}})\n{''.join(lines)}")
