"""Real networks, from the model file to a shared library on this machine, against what onnxruntime computed."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecc.artifact.load import Model, load
from edgecc.frontend import import_model
from edgecc.loop.module import ArenaBytes
from edgecc.lowering import lower_graph
from edgecc.lowering.options import LoweringOptions
from edgecc.pipeline import CompiledModel, compile_graph, emit_c
from edgecc.reference.compare import compare_outputs
from edgecc.targets.schema import load_target

ASSETS = Path(os.environ.get("EDGECC_SHARED", Path(__file__).parents[2] / "shared")) / "assets"
MODELS = ("kws_dscnn_fp32", "silero_vad_16k", "silero_vad_16k_static", "gtcrn_stream_simple", "stories260k_prefill",
          "stories260k_decode", "stories260k_static", "ultraface_rfb320", "fastestdet", "mobilenet_v2_fp32", "minilm_l6_fp16w")

pytestmark = pytest.mark.skipif(not ASSETS.exists(), reason=f"the shared models are not at {ASSETS}")


def arrays(path: str) -> dict[str, Any]:
    with np.load(ASSETS / path) as file:
        return dict(file)


@functools.cache
def compiled(name: str) -> CompiledModel:
    graph = import_model(ASSETS / "models" / f"{name}.onnx", inputs=arrays(f"fixtures/{name}.in.npz"))
    return compile_graph(graph, load_target("host"), name=name)


@functools.cache
def model(name: str) -> Model:
    return load(emit_c(compiled(name)))


@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_onnxruntime(name: str) -> None:
    results = model(name).run(arrays(f"fixtures/{name}.in.npz"))
    for comparison in compare_outputs(results, arrays(f"fixtures/{name}.out.npz")):
        assert comparison.ok, comparison


@pytest.mark.parametrize("name", MODELS)
def test_memory_is_planned_within_five_percent_of_the_lower_bound(name: str) -> None:
    module = compiled(name).module
    assert module.arena_bytes <= 1.05 * module.arena_lower_bound
    for call in module.all_calls:
        for buffer, argument in zip(module.function(call.function).buffers, call.arguments, strict=True):
            if isinstance(argument, ArenaBytes):
                assert argument.offset + buffer.elements * buffer.dtype.size <= module.arena_bytes


def test_mobilenet_needs_no_copies_and_little_memory() -> None:
    network = compiled("mobilenet_v2_fp32")
    assert not [call for call in network.lowered.calls if call.op in ("reshape", "transpose", "slice", "concat")]
    target = load_target("cortex-a76")
    whole, stripes = (lower_graph(network.graph, target, name="net", options=LoweringOptions(depth_first=on)).plan for on in (False, True))
    assert whole.arena_bytes == 4 * 112 * 112 * (96 + 24)  # an expanded feature map and what the next layer makes of it
    assert stripes.arena_bytes <= 1_500_000


def test_mobilenet_gives_the_same_classes_as_onnxruntime_on_pictures() -> None:
    image_module = pytest.importorskip("PIL.Image")
    reference = json.loads((ASSETS / "data/ref_mobilenet_v2_fp32.json").read_text())
    different = []
    for name, classes in reference["top5_class_index_per_image"]:
        with image_module.open(ASSETS / "data/imagenet256" / name) as file:
            picture = file.convert("RGB")
        left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
        pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
        x = ((pixels - 127.5) / 127.5).transpose(2, 0, 1)[None]
        (scores,) = model("mobilenet_v2_fp32").run({"input": np.ascontiguousarray(x)}).values()
        if int(scores.argmax()) - reference["label_offset"] != classes[0]:
            best, second = np.sort(scores.reshape(-1))[-2:][::-1]
            different.append((name, float(best - second)))
    assert all(margin < 1e-5 for _, margin in different), different


@pytest.mark.parametrize("name", ["silero_vad_16k", "silero_vad_16k_static"])
def test_silero_follows_a_stream(name: str) -> None:
    stream = arrays("data/silero_stream.npz")
    samples = np.concatenate((np.zeros(64), stream["pcm16"] / 32768.0)).astype(np.float32)
    state = np.zeros((2, 1, 128), np.float32)
    rate = {"sr": np.asarray(16000, np.int64)} if name == "silero_vad_16k" else {}
    for frame, wanted in enumerate(stream["prob"]):
        window = samples[512 * frame:512 * frame + 576].reshape(1, 576)
        results = model(name).run({"input": window, "state": state, **rate})
        state = results["stateN"]
        assert abs(float(results["output"][0, 0]) - float(wanted)) <= 1e-4, frame
    assert np.abs(state - stream["final_state"]).max() <= 1e-4 * np.abs(stream["final_state"]).max()


def test_stories_writes_the_same_text() -> None:
    expected = arrays("data/stories260k_greedy.npz")
    tokens = expected["prompt"][0].tolist()
    caches = {name: np.zeros((5, 1, 4, 256, 8), np.float32) for name in ("k_cache", "v_cache")}
    position = 0
    while len(tokens) < expected["greedy"].size:
        results = model("stories260k_static").run({
            "input_ids": np.asarray([[tokens[position]]], np.int64), "position": np.asarray([position], np.int64), **caches})
        caches = {name: results[f"{name}_out"] for name in caches}
        position += 1
        if position == len(tokens):
            tokens.append(int(results["logits"].argmax()))
    assert tokens == expected["greedy"].tolist()
