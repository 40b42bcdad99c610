"""edgecc as a back end of torch.compile: the results of PyTorch, and PyTorch where edgecc has none."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("onnxscript", reason="the extra torch is not installed")

import torch
from torch import nn

from edgecc.errors import EdgeccError, Problem
from edgecc.integrations.torch import Settings, backend, refusals, to_onnx
from edgecc.integrations.torch.exporting import exported_graph
from edgecc.integrations.torch.tensors import in_order, order_of


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


class Recorder:
    """The back end, which keeps what it returned."""

    def __init__(self, **options: object) -> None:
        self.options, self.made = options, []

    def __call__(self, graph, inputs):
        self.made.append(backend(graph, inputs, options=self.options))
        return self.made[-1]

    @property
    def compilations(self) -> list[int]:
        return [made.compilations for made in self.made]

    @property
    def reasons(self) -> list[str | None]:
        return [made.reason for made in self.made]


class Small(nn.Module):
    """A convolution with normalisation, something in place, attention on three axes, dropout, and results of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head, self.drop = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 5), nn.Dropout()

    def forward(self, x):
        y = torch.relu(self.norm(self.conv(x))).flatten(2).transpose(1, 2).clone()
        y.add_(0.5)
        attended = nn.functional.scaled_dot_product_attention(y, y, y)
        return {"scores": self.head(self.drop(attended[:, -1])), "input": x, "turned": attended.transpose(1, 2), "number": 3}


def close(got, want) -> bool:
    return torch.allclose(got, want, rtol=1e-4, atol=1e-5)


def test_results_are_those_of_pytorch():
    model, made = Small().eval(), Recorder(fallback=False)
    compiled = torch.compile(model, backend=made)
    with torch.inference_mode():
        for size in (2, 2, 3, 4):  # the second shape gives a graph of open size
            x = torch.randn(size, 3, 4, 5)
            got, want = compiled(x), model(x)
            assert close(got["scores"], want["scores"]) and close(got["turned"], want["turned"])
            assert got["turned"].stride() == want["turned"].stride() and got["input"] is x and got["number"] == 3
    assert made.compilations == [1, 1]


def test_weights_that_were_written_to_are_compiled_again():
    model, made = nn.Linear(6, 4), Recorder(fallback=False, limit=2)
    compiled, x = torch.compile(model, backend=made), torch.randn(3, 6)
    with torch.no_grad():
        for _ in range(2):
            assert close(compiled(x), model(x)) and close(compiled(x), model(x))
            model.weight.mul_(-2)
        with pytest.raises(EdgeccError, match="2 is the limit"):
            compiled(x)
    assert made.compilations == [2]


@pytest.mark.parametrize(("function", "reason"), [
    (lambda x: nn.functional.dropout(x, 0.5, training=True) + 1, "random numbers"),
    (lambda x: x.mul_(2) + 1, "writes into"),
    (lambda x: (x.view(torch.int32), x + 1), "view of an input"),
    (lambda x: torch.linalg.eigvalsh(x) + 1, "ONNX"),
])
def test_what_edgecc_cannot_compute_runs_in_pytorch(function, reason: str):
    made, x = Recorder(), torch.randn(4, 4)
    with torch.no_grad(), pytest.warns(UserWarning, match=reason):
        torch.manual_seed(1)
        got = torch.compile(function, backend=made)(x.clone())
        torch.manual_seed(1)
        torch.testing.assert_close(got, function(x.clone()))
    assert reason in made.reasons[0]
    torch._dynamo.reset()
    with torch.no_grad(), pytest.raises(Exception, match=reason):
        torch.compile(function, backend=Recorder(fallback=False))(x.clone())


def test_operators_that_edgecc_refuses_run_between_networks():
    weight = nn.Parameter(torch.randn(4, 4))

    def function(x):
        y = torch.relu(x @ weight + 1)
        y.add_(1)  # no other operator sees that in what edgecc is given
        z = torch.special.bessel_j0(nn.functional.dropout(y, 0.5, training=True))
        return (torch.tanh(z * 2) + y).t(), z + x

    made, x = Recorder(), torch.randn(3, 4)
    with torch.inference_mode(), pytest.warns(UserWarning, match=r"leaves operators.*networks \(2\).*random numbers"):
        compiled = torch.compile(function, backend=made)
        for seed in (1, 2):
            torch.manual_seed(seed)
            got = compiled(x)
            torch.manual_seed(seed)
            for result, wanted in zip(got, function(x), strict=True):
                torch.testing.assert_close(result, wanted)
                assert result.stride() == wanted.stride()
    assert made.reasons == [None] and made.compilations == [1]
    left = sorted(made.made[0].left)
    assert len(left) == 2 and "dropout" in left[0] and "bessel_j0" in left[1]


def test_refused_operators_are_found_without_search(monkeypatch: pytest.MonkeyPatch):
    exported = []
    monkeypatch.setattr(refusals, "to_onnx", lambda *given, **options: exported.append(given) or to_onnx(*given, **options))

    def function(x):
        y = nn.functional.layer_norm(x.sin() + x.cos() * x.exp(), [6]).sigmoid() * x.abs().sqrt().log1p()
        z = torch.linalg.inv(torch.special.bessel_j0(y) + torch.lgamma(y.abs() + 1) + 9 * torch.eye(6))
        return (z @ x).tanh().softmax(1).cumsum(0) + x.amax(1, keepdim=True).floor().clamp(0, 1)

    made, x = Recorder(), torch.randn(6, 6)
    with torch.inference_mode(), pytest.warns(UserWarning, match="inv"):
        assert close(torch.compile(function, backend=made)(x), function(x))
    assert len(made.made[0].left) == 3
    assert len(exported) == 3  # the two that may be taken apart (inv, eye) by themselves, and everything that is known


def test_operators_that_the_import_refuses_are_named_at_once(monkeypatch: pytest.MonkeyPatch):
    exported = []
    monkeypatch.setattr(refusals, "to_onnx", lambda *given, **options: exported.append(given) or to_onnx(*given, **options))
    graph = torch.fx.symbolic_trace(lambda x: torch.tanh(torch.relu(x) + 1) * 2)
    whole = exported_graph(graph, [torch.randn(3)])
    nodes = {node.name: node for node in whole.graph.nodes if node.op == "call_function"}
    real = refusals.import_model

    def refusing(model):
        problems = [Problem("E105", f"model: {node.name} ({node.op_type})", "not here", "") for node in model.graph.node if node.op_type in ("Tanh", "Mul")]
        if problems:
            raise EdgeccError("E105", "refused", problems=tuple(problems))
        return real(model)

    monkeypatch.setattr(refusals, "import_model", refusing)
    assert refusals.refusals(whole, nodes) == {"tanh": "not here", "mul": "not here"}
    assert len(exported) == 1


def test_training_runs_in_pytorch():
    model, x = nn.Linear(3, 2), torch.randn(5, 3)
    with pytest.warns(UserWarning, match="inference_mode"):
        torch.compile(model, backend=backend)(x).sum().backward()
    assert model.weight.grad is not None
    torch._dynamo.reset()
    with pytest.raises(Exception, match="no gradients"):
        torch.compile(model, backend=backend, options={"fallback": False})(x)


def test_python_between_graphs_stays_python():
    seen = []

    def function(x):
        y = torch.tanh(x)
        seen.append(float(y.sum()))  # breaks the graph
        return y * 2 if seen[-1] > 0 else y - 1

    made, x = Recorder(fallback=False), torch.ones(3, 4)
    with torch.no_grad():
        compiled = torch.compile(function, backend=made)
        assert close(compiled(x), torch.tanh(x) * 2) and close(compiled(-x), torch.tanh(-x) - 1)
    assert len(seen) == 2 and len(made.made) >= 2


def test_compiled_networks_are_kept_in_a_folder(tmp_path: Path):
    model, x = nn.Linear(6, 4), torch.randn(2, 6)
    for _ in range(2):
        torch._dynamo.reset()
        with torch.no_grad():
            assert close(torch.compile(model, backend=backend, options={"cache": tmp_path, "fallback": False})(x), model(x))
    (folder,) = tmp_path.iterdir()
    assert (folder / "manifest.json").is_file()


def test_types_and_orders_of_elements():
    types = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
    given = [torch.tensor([[0, 1, 3], [2, 5, 7]]).to(dtype).t() for dtype in types]
    given += [torch._neg_view(torch.ones(2, 2)), torch.ones(3).expand(2, 3), torch.arange(12.0)[3::2], torch.zeros(0, 2), torch.tensor(2.0)]
    compiled = torch.compile(lambda *tensors: [torch.where(tensor == 1, tensor, tensor).clone() for tensor in tensors],
                             backend=backend, options={"fallback": False})
    with torch.inference_mode():
        for result, tensor in zip(compiled(*given), given, strict=True):
            torch.testing.assert_close(result, tensor.clone(), rtol=0, atol=0)
    last = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    turned = in_order(last.contiguous(), order_of(last.stride()))
    assert torch.equal(turned, last) and turned.stride() == last.stride()
    assert order_of((12, 4, 1)) is None


def test_onnx_of_a_graph_has_no_traces_of_python():
    graph = torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    model = to_onnx(graph, [torch.randn(2, 4)])
    assert [i.name for i in model.graph.input] == ["in0"] and [o.name for o in model.graph.output] == ["out0"]
    assert b"forward" not in model.SerializeToString()


def test_views_of_arguments_are_views():
    x = torch.randn(5, 4)[1:]  # not at the beginning of its memory
    made = Recorder(fallback=False)
    with torch.inference_mode():
        turned, part, computed = torch.compile(lambda x: (x.t(), x[1:, ::2], x + 1), backend=made)(x)
        x.mul_(2)
        assert torch.equal(turned, x.t()) and torch.equal(part, x[1:, ::2]) and turned.stride() == x.t().stride()
    assert made.compilations == [1] and not torch.equal(computed, x + 1)


class Tokens(nn.Module):
    """Embeddings, attention and sizes that are computed with."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer = nn.Embedding(50, 16), nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x):
        hidden = self.layer(self.embedding(x))
        return hidden.reshape(x.shape[0], -1), (hidden + torch.arange(x.shape[1])[:, None]).mean(1)


def test_one_network_serves_sizes_between_bounds():
    model, made = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval(), Recorder(fallback=False)
    compiled = torch.compile(model, backend=made)
    with torch.inference_mode():
        for size in (3, 2, 33, 64):
            x = torch.randn(size, 8)
            torch._dynamo.mark_dynamic(x, 0, min=2, max=64)
            assert close(compiled(x), model(x))
    assert made.compilations == [1]


def test_open_sizes_without_bounds_are_compiled_for_a_few_times():
    model, made = Tokens().eval(), Recorder(fallback=False)
    compiled = torch.compile(model, backend=made, dynamic=True)
    with torch.inference_mode():
        for size in (5, 3, 16, 9, 17, 31):
            x = torch.randint(0, 50, (2, size))
            for result, wanted in zip(compiled(x), model(x), strict=True):
                assert close(result, wanted)
    assert made.compilations == [2]  # up to 16, up to 32


@pytest.mark.parametrize("norm_first", [False, True])
def test_fused_layers_of_transformers(norm_first: bool):
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=norm_first, activation="gelu").eval()
    model, made = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), Recorder(fallback=False)
    causal = torch.nn.Transformer.generate_square_subsequent_mask(5).isinf()
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    x = torch.randn(2, 5, 16)
    with torch.inference_mode():
        for options in ({}, {"mask": causal}, {"src_key_padding_mask": padding}):
            torch._dynamo.reset()
            assert close(torch.compile(model, backend=made)(x, **options), model(x, **options))
        torch._dynamo.reset()
        attention = nn.MultiheadAttention(16, 2, batch_first=True).eval()
        for result, wanted in zip(torch.compile(attention, backend=made)(x, x, x), attention(x, x, x), strict=True):
            assert close(result, wanted)
    assert len(made.made) >= 3 and set(made.reasons) == {None}


def test_graphs_that_are_divided_are_compiled_for_each_size():
    made = Recorder()
    compiled = torch.compile(lambda x: torch.special.bessel_j0(torch.relu(x) * 2 + 1).exp() - 1, backend=made, dynamic=True)
    with torch.inference_mode(), pytest.warns(UserWarning, match="bessel"):
        for size in (3, 4, 3):
            x = torch.rand(size, 4)
            assert close(compiled(x), torch.special.bessel_j0(torch.relu(x) * 2 + 1).exp() - 1)
    assert made.compilations == [2]


def test_wrong_options_are_named():
    with pytest.raises(EdgeccError, match="did you mean threads"):
        Settings.of({"thread": 2})
    with pytest.raises(EdgeccError, match="no mode"):
        backend(torch.fx.symbolic_trace(nn.ReLU()), [], mode="max-autotune")
