"""Networks used as programs use them: many calls in a row, each fed by the one before; many pictures."""

import json

import numpy as np
import pytest

import edgecc
from tests.support.assets import arrays, asset, fixture


@pytest.mark.parametrize("name", ["silero_vad_16k", "silero_vad_16k_static"])
def test_voice_activity_of_a_stream_of_300_frames(name, tmp_path):
    model, inputs, _ = fixture(name)
    stream = arrays("data", "silero_stream.npz")
    edgecc.compile(model, target="host", output=tmp_path / "out", inputs=inputs)
    samples = stream["pcm16"].astype(np.float32) / 32768.0
    frames = samples.reshape(-1, 512)
    context, state = np.zeros((1, 64), np.float32), np.zeros((2, 1, 128), np.float32)
    probabilities = []
    with edgecc.load(tmp_path / "out") as compiled:
        for frame in frames:
            feed = np.concatenate([context, frame[None]], axis=1)
            result = compiled.run({**{k: v for k, v in inputs.items() if k == "sr"}, "input": feed, "state": state})
            state, context = result["stateN"], feed[:, -64:]
            probabilities.append(float(result["output"][0, 0]))
    assert len(probabilities) == 300
    np.testing.assert_allclose(probabilities, stream["prob"].reshape(-1), atol=1e-4)
    np.testing.assert_allclose(state, stream["final_state"], atol=1e-3)


def test_language_model_writes_the_same_120_tokens(tmp_path):
    model, inputs, _ = fixture("stories260k_static")
    greedy = arrays("data", "stories260k_greedy.npz")
    edgecc.compile(model, target="host", output=tmp_path / "out", inputs=inputs)
    prompt = greedy["prompt"].reshape(-1)
    wanted = greedy["greedy"].reshape(-1)[len(prompt):]
    keys, values = np.zeros_like(inputs["k_cache"]), np.zeros_like(inputs["v_cache"])
    tokens, written = list(prompt), []
    with edgecc.load(tmp_path / "out") as compiled:
        for position in range(len(prompt) + len(wanted) - 1):
            result = compiled.run({"input_ids": np.array([[tokens[position]]], np.int64), "position": np.array([position], np.int64),
                                   "k_cache": keys, "v_cache": values})
            keys, values = result["k_cache_out"], result["v_cache_out"]
            if position >= len(prompt) - 1:
                written.append(int(result["logits"].reshape(-1).argmax()))
                tokens.append(written[-1])
    assert len(written) == 120
    assert written == list(wanted)


def test_classes_of_200_pictures(tmp_path):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    model, inputs, _ = fixture("mobilenet_v2_fp32")
    pictures = sorted(asset("data", "imagenet256").glob("*.jp*g"))
    listed = json.loads(asset("data", "ref_mobilenet_v2_fp32.json").read_text(encoding="utf-8"))["top5_class_index_per_image"]
    reference = {name: classes[0] for name, classes in listed}
    edgecc.compile(model, target="host", output=tmp_path / "out", inputs=inputs)
    disagree = []
    with edgecc.load(tmp_path / "out") as compiled:
        for path in pictures:
            picture = image.open(path).convert("RGB")
            left, top = (picture.width - 224) // 2, (picture.height - 224) // 2
            pixels = np.asarray(picture.crop((left, top, left + 224, top + 224)), np.float32)
            x = ((pixels - 127.5) / 127.5).transpose(2, 0, 1)[None]
            scores = compiled.run({"input": np.ascontiguousarray(x)})["output"][0]
            best = np.argsort(-scores, kind="stable")
            tie = scores[best[0]] - scores[best[1]] < 1e-6
            if best[0] - 1 != reference[path.name] and not tie:
                disagree.append((path.name, int(best[0]) - 1, reference[path.name]))
    assert len(pictures) == 200
    assert not disagree
