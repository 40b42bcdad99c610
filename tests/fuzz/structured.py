"""A long run of random models: nothing may crash, hang, take memory without bound, or compute something else.

    python tests/fuzz/structured.py [--seconds 3600] [--seed 0] [--run-every 10] [--out findings]

Each model is examined in a process of its own with bounds on time and memory. A third of the models is made from the operator schemas, a
third by damaging a sound model of each operator (those of runs beyond a minute also the models of the onnx package's own node tests), and a third
is sound (tests/support/sound.py): networks with branches, loops, open dimensions and quantized layers, all of them compared with onnxruntime, and
what is built of these also run with sanitizers and with indices out of range. Findings are kept as NAME.onnx beside NAME.txt; the last line says how
many models were tried and what became of them.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support import agreement, fuzz, malformed, sound

SECONDS, MEMORY_BYTES = 20, 3 << 29
CRASHES = (signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, signal.SIGBUS)
"""After a model was examined, only onnxruntime can end so."""


def node_tests() -> list[onnx.ModelProto]:
    """The models of the onnx package's node tests that have one node, their small operands stored in them."""
    from onnx.backend.test.case.node import collect_testcases

    found = []
    for case in collect_testcases(None):
        if case.model is None or len(case.model.graph.node) != 1 or not case.data_sets or case.model.ByteSize() > 20_000:
            continue
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        inputs = list(model.graph.input)
        for position, (value, array) in enumerate(zip(inputs, case.data_sets[0][0], strict=False)):
            if position and isinstance(array, np.ndarray) and array.dtype.kind in "iub" and array.size <= 64:
                model.graph.input.remove(value)
                model.graph.initializer.append(numpy_helper.from_array(array, value.name))
        found.append(model)
    return found


def damaged(model: onnx.ModelProto, source: random.Random) -> onnx.ModelProto:
    """A copy with one to three changes to attributes, operands, types, dims or data."""
    out = onnx.ModelProto()
    out.CopyFrom(model)
    node = out.graph.node[0]
    for _ in range(source.choice((1, 1, 2, 3))):
        change = source.randrange(6)
        if change == 0 and node.attribute:
            attribute = source.choice(node.attribute)
            for values, pool in ((attribute.ints, fuzz.INTEGERS), (attribute.floats, fuzz.FLOATS)):
                if values:
                    values[source.randrange(len(values))] = source.choice(pool)
            attribute.i, attribute.f = source.choice(fuzz.INTEGERS), source.choice(fuzz.FLOATS)
        elif change == 1 and node.attribute:
            del node.attribute[source.randrange(len(node.attribute))]
        elif change == 2 and node.input:
            node.input[source.randrange(len(node.input))] = source.choice([*node.input, "", "ghost"])
        elif change == 3 and out.graph.input:
            tensor = source.choice(out.graph.input).type.tensor_type
            if tensor.shape.dim and source.randrange(3):
                source.choice(tensor.shape.dim).dim_value = source.choice((0, 1, 2, 3, 5, 17, 100, 2**31, 2**62, -1))
            elif source.randrange(2):
                tensor.elem_type = source.choice(list(fuzz.ELEMENT_TYPES.values()))
            else:
                tensor.shape.dim.add().dim_value = source.choice((0, 1, 2))
        elif change == 4 and out.graph.initializer:
            stored = source.choice(out.graph.initializer)
            array = numpy_helper.to_array(stored).copy()
            if array.size and array.dtype.kind in "iu":
                limits = np.iinfo(array.dtype)
                array.flat[source.randrange(array.size)] = min(max(source.choice(fuzz.INTEGERS), int(limits.min)), int(limits.max))
            stored.CopyFrom(numpy_helper.from_array(array, stored.name))
        elif change == 5 and out.graph.initializer:
            stored = source.choice(out.graph.initializer)
            array = numpy_helper.to_array(stored)
            flat = array.reshape(-1)
            array = source.choice((flat, array.reshape((*array.shape, 1)), flat[:0], flat[:1].reshape(()) if array.size else array))
            stored.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), stored.name))
    return out


def examined(seeds: Sequence[onnx.ModelProto], source: random.Random, number: int, run: bool) -> Iterator[bytes]:
    """Makes a model and examines it: the bytes of the model, then verdicts, one JSON a line; the last one that is told counts."""
    if number % 3 == 2:
        made = sound.sound_model(source)
        yield made.model.SerializeToString()
        found = agreement.examine(made, number, run=run)
        told = fuzz.Verdict(found.outcome, f"{found.problem}\n{agreement.as_text(made)}" if found.problem else "")
    else:
        model = damaged(source.choice(seeds), source) if number % 3 else fuzz.Generator(source).model()
        yield model.SerializeToString()
        told = fuzz.examine(model, run=run)
        if not told.problem and told.outcome == "ok":
            yield json.dumps(vars(fuzz.Verdict("ok, onnxruntime crashes"))).encode() + b"\n"
            told = fuzz.Verdict(told.outcome, fuzz.differs_from_onnxruntime(model))
    yield json.dumps(vars(told)).encode() + b"\n"


def in_a_child(parts: Iterator[bytes]) -> tuple[bytes, fuzz.Verdict]:
    """A model and its verdict from a fork with bounds; a crash or a hang is a problem like any other."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        verdict, told = {"outcome": "crash", "problem": "ended without an answer"}, False
        try:
            os.close(reading)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
            signal.alarm(10 * SECONDS)
            model = next(parts)
            _send(writing, len(model).to_bytes(8) + model)
            told = True
            for line in parts:
                _send(writing, line)
            verdict = {}
        except MemoryError:
            verdict = {"outcome": "MemoryError", "problem": "takes more memory than is allowed"}
        except BaseException as error:
            verdict = {"outcome": type(error).__name__, "problem": "".join(traceback.format_exception(error))[-2500:]}
        finally:
            if not told:  # what went wrong is the making of the model
                _send(writing, bytes(8))
            _send(writing, json.dumps(verdict).encode() + b"\n" if verdict else b"")
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        model = answer.read(int.from_bytes(answer.read(8)))
        data = answer.read()
    _, status = os.waitpid(child, 0)
    verdicts = [fuzz.Verdict(**json.loads(line)) for line in data.splitlines() if line]
    code = os.waitstatus_to_exitcode(status)
    if verdicts and (code == 0 or -code in CRASHES):
        return model, verdicts[-1]
    if not model and -code in CRASHES:  # sound models are run while they grow
        return model, fuzz.Verdict("onnxruntime crashes")
    return model, fuzz.Verdict("killed", f"ended by signal {-code}: out of time, or a crash")


def _send(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data):]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--run-every", type=int, default=10, help="every which model of each kind is built and run")
    parser.add_argument("--out", type=Path, default=Path("findings"))
    options = parser.parse_args()
    seeds = [malformed.model_of(sound, sound.graph) for sound in malformed.sound_models()]
    if options.seconds > 60:
        with np.errstate(all="ignore"):
            seeds += node_tests()
    fuzz.examine(seeds[0], run=True)  # imports what the children then have
    fuzz.differs_from_onnxruntime(seeds[0])
    agreement.examine(sound.sound_model(random.Random(0)), 0, run=False)
    begin = time.monotonic()
    counts: collections.Counter[str] = collections.Counter()
    kinds: set[str] = set()
    tried = 0
    while time.monotonic() - begin < options.seconds:
        source = random.Random(options.seed * 1_000_003 + tried)
        model, verdict = in_a_child(examined(seeds, source, tried, tried // 3 % options.run_every == 0))
        tried += 1
        counts[verdict.outcome if not verdict.problem else f"FINDING {verdict.outcome}"] += 1
        if verdict.problem:
            ops = "_".join(node.op_type for node in onnx.load_from_string(model).graph.node)[:60]
            last = verdict.problem.strip().splitlines()[-1 if "Traceback" in verdict.problem else 0][:120]
            if f"{ops} {last}" not in kinds:
                kinds.add(f"{ops} {last}")
                options.out.mkdir(parents=True, exist_ok=True)
                name = f"{options.seed}_{tried - 1}_{ops}"
                (options.out / f"{name}.onnx").write_bytes(model)
                (options.out / f"{name}.txt").write_text(verdict.problem, encoding="utf-8")
                print(f"{name}: {verdict.outcome}: {last}", flush=True)
        if tried % 500 == 0:
            print(f"{tried} models in {time.monotonic() - begin:.0f} s: {dict(counts)}", flush=True)
    print(f"{tried} models in {time.monotonic() - begin:.0f} s: {dict(counts)}")
    if kinds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
