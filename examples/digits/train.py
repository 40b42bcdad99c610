"""Trains the digit classifier of this folder and writes digits.onnx and digits_test.npz.

    pip install torch==2.13.0 scikit-learn onnx onnxruntime
    python examples/digits/train.py

The data are the 1,797 handwritten 8x8 digits that ship with scikit-learn (UCI "Optical Recognition
of Handwritten Digits"). A quarter of them, drawn with a fixed seed and balanced over the classes, is
the test split: it is looked at once, after the last epoch, and takes no part in any choice.

The graph is written node by node rather than exported: convolutions and batch normalisations stay
separate nodes and each has a name, as in the models that trainers deliver, so a compiler has the
fusing to do. digits_test.npz holds the test images, their labels and what onnxruntime computes for
them; neither scikit-learn nor torch is needed to use the two files.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

FOLDER = Path(__file__).resolve().parent
SEED = 7
TEST_SHARE = 0.25
EPOCHS = 120
BATCH = 64
LEARNING_RATE = 1e-2
WEIGHT_DECAY = 1e-3
GREY_LEVELS = 16  # pixels are counts 0..16; the network sees them divided by this
OPSET = 17
IR_VERSION = 8  # the file format that goes with opset 17


class Digits(nn.Module):
    """Stem, one residual and one strided depthwise-separable block, global pooling, a linear classifier."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = _convolution(1, width, 3)
        self.residual_depthwise = _convolution(width, width, 3, groups=width)
        self.residual_pointwise = _convolution(width, width, 1)
        self.strided_depthwise = _convolution(width, width, 3, groups=width, stride=2)
        self.strided_pointwise = _convolution(width, 2 * width, 1)
        self.classifier = nn.Linear(2 * width, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Logits [N,10] of images [N,1,8,8] with values in 0..1."""
        x = torch.relu(self.stem(image))
        branch = self.residual_pointwise(nn.functional.relu6(self.residual_depthwise(x)))
        x = torch.relu(x + branch)
        x = nn.functional.relu6(self.strided_depthwise(x))
        x = nn.functional.relu6(self.strided_pointwise(x))
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits


def _convolution(inputs: int, outputs: int, kernel: int, *, groups: int = 1, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training images, training labels, test images and test labels; images are u8[N,1,8,8] with values 0..16."""
    digits = load_digits()
    images = digits.images.astype(np.uint8)[:, None]
    labels = digits.target.astype(np.uint8)
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=TEST_SHARE, random_state=SEED, stratify=labels)
    return train_images, train_labels, test_images, test_labels


def augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image rotated by up to 12 degrees, scaled by up to 10 % and shifted by up to 0.6 pixels."""
    count = len(images)
    draw = torch.rand((4, count), generator=generator) * 2 - 1
    angle, scale = draw[0] * (12 * torch.pi / 180), 1 + draw[1] * 0.1
    shift = draw[2:] * (0.6 * 2 / images.shape[-1])
    cosine, sine = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([torch.stack([cosine, -sine, shift[0]], 1), torch.stack([sine, cosine, shift[1]], 1)], 1)
    grid = nn.functional.affine_grid(rows, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, align_corners=False)


def train(images: np.ndarray, labels: np.ndarray) -> Digits:
    """Trains for a fixed number of epochs with AdamW and a one-cycle learning rate; nothing is selected by a score."""
    torch.manual_seed(SEED)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of sums, and with it the weights, depends on the number of threads
    generator = torch.Generator().manual_seed(SEED)
    inputs = torch.from_numpy(images.astype(np.float32) / GREY_LEVELS)
    targets = torch.from_numpy(labels.astype(np.int64))
    model = Digits()
    steps = EPOCHS * ((len(inputs) + BATCH - 1) // BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(inputs), generator=generator).split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(augmented(inputs[chosen], generator)), targets[chosen],
                                               label_smoothing=0.05)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1:3}: loss {total / len(inputs):.4f}")
    return model.eval()


class GraphWriter:
    """Collects the nodes and weights of an ONNX graph whose values are named after the nodes that make them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op_type: str, name: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Appends a node and returns the name of its result."""
        result = output or f"{name}_output"
        self.nodes.append(helper.make_node(op_type, list(inputs), [result], name=name, **attributes))
        return result

    def weight(self, name: str, data: Tensor) -> str:
        """Appends an initializer and returns its name."""
        self.weights.append(numpy_helper.from_array(np.array(data.detach().numpy(), np.float32, order="C"), name))
        return name

    def convolution(self, name: str, x: str, block: nn.Sequential) -> str:
        """Appends Conv and BatchNormalization with the weights of `block`."""
        conv, norm = block[0], block[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None and norm.running_var is not None
        (pad, _), (stride, _), (kernel, _) = conv.padding, conv.stride, conv.kernel_size
        y = self.node("Conv", f"{name}_conv", x, self.weight(f"{name}_weight", conv.weight),
                      kernel_shape=[kernel, kernel], strides=[stride, stride], pads=[int(pad)] * 4, group=conv.groups)
        statistics = [self.weight(f"{name}_{key}", value) for key, value in (
            ("scale", norm.weight), ("shift", norm.bias), ("mean", norm.running_mean), ("variance", norm.running_var))]
        return self.node("BatchNormalization", f"{name}_norm", y, *statistics, epsilon=norm.eps)


def to_onnx(model: Digits) -> onnx.ModelProto:
    """The trained network as ONNX: `image` f32[batch,1,8,8] in 0..1 -> `probabilities` f32[batch,10]."""
    graph = GraphWriter()
    zero = graph.weight("zero", torch.tensor(0.0))
    six = graph.weight("six", torch.tensor(6.0))
    stem = graph.node("Relu", "stem_relu", graph.convolution("stem", "image", model.stem))
    x = graph.convolution("residual_depthwise", stem, model.residual_depthwise)
    x = graph.node("Clip", "residual_relu6", x, zero, six)
    x = graph.convolution("residual_pointwise", x, model.residual_pointwise)
    x = graph.node("Relu", "residual_relu", graph.node("Add", "residual_add", stem, x))
    x = graph.convolution("strided_depthwise", x, model.strided_depthwise)
    x = graph.node("Clip", "strided_depthwise_relu6", x, zero, six)
    x = graph.convolution("strided_pointwise", x, model.strided_pointwise)
    x = graph.node("Clip", "strided_pointwise_relu6", x, zero, six)
    x = graph.node("Flatten", "flatten", graph.node("GlobalAveragePool", "pool", x), axis=1)
    x = graph.node("Gemm", "classifier", x, graph.weight("classifier_weight", model.classifier.weight),
                   graph.weight("classifier_bias", model.classifier.bias), transB=1)
    graph.node("Softmax", "softmax", x, output="probabilities", axis=1)
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes, "digits",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
            graph.weights),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="examples/digits/train.py")
    onnx.checker.check_model(proto, full_check=True)
    return proto


def main() -> None:
    """Trains, writes both files and prints the accuracy on the test split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder the two files go to")
    output: Path = parser.parse_args().output
    train_images, train_labels, test_images, test_labels = load_split()
    model = train(train_images, train_labels)
    proto = to_onnx(model)
    output.mkdir(parents=True, exist_ok=True)
    (output / "digits.onnx").write_bytes(proto.SerializeToString(deterministic=True))

    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    image = test_images.astype(np.float32) / GREY_LEVELS
    (probabilities,) = session.run(None, {"image": image})
    with torch.no_grad():
        own = torch.softmax(model(torch.from_numpy(image)), 1).numpy()
    print(f"largest difference between torch and onnxruntime: {np.abs(own - probabilities).max():.1e}")
    np.savez_compressed(output / "digits_test.npz", image=test_images, label=test_labels, probabilities=probabilities)
    right = int((probabilities.argmax(1) == test_labels).sum())
    print(f"test accuracy: {right} of {len(test_labels)} ({right / len(test_labels):.2%})")
    print(f"parameters: {sum(p.numel() for p in model.parameters())}, "
          f"digits.onnx: {(output / 'digits.onnx').stat().st_size} bytes")


if __name__ == "__main__":
    main()
