"""Parsing, versions and external data: what is no model is refused before anything is made of it."""

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgecc.errors import EdgeccError
from edgecc.frontend import Limits, import_model
from edgecc.reference.executor import execute


@pytest.fixture
def relu(make, op):
    return make([op("Relu", "x", "y", name="r")], {"x": [1, 4]})


def refused(code, *arguments, **keywords):
    with pytest.raises(EdgeccError) as caught:
        import_model(*arguments, **keywords)
    assert caught.value.code == code, caught.value
    return caught.value


@pytest.mark.parametrize(("data", "said"), [
    (b"", "empty"), (b"\x89PNG\r\n\x1a\n" + bytes(20), "PNG"), (b"PK\x03\x04" + bytes(20), "zip"),
    (b"hello, this is not a model at all", "text"), (b"\x00\x01\x02\x03garbage\xff\xfe", "damaged"),
    (b"\x18\x00\x00\x00TFL3" + bytes(20), "TensorFlow Lite"),
])
def test_other_formats_are_named(data, said):
    error = refused("E100", data)
    assert said in error.message
    assert error.exit_status == 3


def test_a_truncated_model_is_refused(relu):
    data = relu.SerializeToString()
    refused("E100", data[:-3])


def test_text_that_is_no_utf8_is_refused(relu):
    data = relu.SerializeToString().replace(b"\x01x", b"\x01\xff")
    assert "UTF-8" in refused("E100", data).message


def test_paths_texts_bytes_and_protos_are_taken(relu, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(relu.SerializeToString())
    for source in (path, str(path), path.read_bytes(), relu):
        assert import_model(source).input_names == ["x"]


def test_missing_files_and_folders(tmp_path):
    assert "No such file" in refused("E007", tmp_path / "none.onnx").message
    refused("E007", tmp_path)
    refused("E007", "a\0b.onnx")


def test_file_size_is_checked_before_reading(relu, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(relu.SerializeToString())
    refused("E101", path, limits=Limits(file_bytes=20))


@pytest.mark.parametrize(("opset", "code"), [(0, "E106"), (1, None), (6, None), (7, None), (onnx.defs.onnx_opset_version(), None),
                                             (onnx.defs.onnx_opset_version() + 1, "E106"), (2**40, "E106")])
def test_opsets(make, op, opset, code):
    model = make([op("Relu", "x", "y")], {"x": [1, 4]}, opset=opset)
    if code is None:
        assert len(import_model(model)) == 1
    else:
        refused(code, model)


def test_a_missing_opset_is_an_error(relu):
    del relu.opset_import[:]
    assert "opset" in refused("E102", relu).message


def test_two_versions_of_a_domain_are_an_error(relu):
    relu.opset_import.append(helper.make_opsetid("ai.onnx", 12))
    refused("E102", relu)


def test_a_newer_format_is_an_error_with_a_hint(relu):
    relu.ir_version = 999
    assert "upgrade" in refused("E102", relu).hint


# -- external data ----------------------------------------------------------------------------


def external(make, op, location="w.bin", count=4, **entries):
    """y = x + w with w in another file."""
    w = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[count], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        w.external_data.add(key=key, value=str(value))
    return make([op("Add", "x w", "y")], {"x": [count]}, constants={"w": w})


@pytest.fixture
def folder(tmp_path):
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    np.arange(8, dtype=np.float32).tofile(inside / "w.bin")
    np.arange(8, dtype=np.float32).tofile(inside / "sub" / "w.bin")
    np.arange(8, dtype=np.float32).tofile(tmp_path / "outside.bin")
    return inside


def saved(folder, model):
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(("location", "entries", "first"), [
    ("w.bin", {}, 0), ("w.bin", {"offset": 8}, 2), ("w.bin", {"offset": 4, "length": 16}, 1), ("sub/w.bin", {}, 0),
    ("./w.bin", {}, 0), ("w.bin", {"checksum": "ignored", "__class__": "ignored"}, 0)])
def test_external_data_is_read(make, op, folder, location, entries, first):
    graph = import_model(saved(folder, external(make, op, location, **entries)))
    y = execute(graph, {"x": np.zeros(4, np.float32)})["y"]
    np.testing.assert_array_equal(y, np.arange(first, first + 4))


@pytest.mark.parametrize(("location", "entries"), [
    ("../outside.bin", {}), ("sub/../../outside.bin", {}), ("/etc/passwd", {}), ("..\\outside.bin", {}), ("C:w.bin", {}),
    ("none.bin", {}), ("sub", {}), ("", {}), ("w.bin\0", {}), ("w.bin", {"offset": -4}), ("w.bin", {"offset": "1e3"}),
    ("w.bin", {"offset": 20}), ("w.bin", {"length": 12}), ("w.bin", {"length": 10**30}), ("w.bin", {"offset": "²"})])
def test_external_data_that_is_refused(make, op, folder, location, entries):
    refused("E103", saved(folder, external(make, op, location, **entries)))


def test_links_are_refused(make, op, folder):
    (folder / "soft.bin").symlink_to(folder.parent / "outside.bin")
    (folder / "door").symlink_to(folder.parent)
    os.link(folder.parent / "outside.bin", folder / "hard.bin")
    for location in ("soft.bin", "door/outside.bin", "hard.bin"):
        refused("E103", saved(folder, external(make, op, location)))


def test_tensors_that_share_external_data_are_counted(make, op, folder):
    """Many tensors over the same few bytes are a small model that takes much memory."""
    model = external(make, op)
    for number in range(9):
        model.graph.initializer.add().CopyFrom(model.graph.initializer[0])
        model.graph.initializer[-1].name = f"w{number}"
    read = saved(folder, model)
    held = (folder / "w.bin").stat().st_size
    over = 10 * model.graph.initializer[0].dims[0] * 4 - held
    assert over > 0
    import_model(read, limits=Limits(made_bytes=over))
    assert "made_bytes" in refused("E101", read, limits=Limits(made_bytes=over - 1)).hint


def test_external_data_needs_the_path_of_the_model(make, op):
    model = external(make, op)
    assert "path" in refused("E103", model).hint
    assert model.graph.initializer[0].data_location == TensorProto.EXTERNAL, "the caller's model was changed"


# -- tensors ----------------------------------------------------------------------------------


def raw(dims, data, data_type=TensorProto.FLOAT):
    return TensorProto(name="w", data_type=data_type, dims=dims, raw_data=data)


@pytest.mark.parametrize(("tensor", "code"), [
    (raw([2], bytes(4)), "E102"), (raw([2], bytes(12)), "E102"), (raw([-1], bytes(4)), "E102"),
    (TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], float_data=[1.0]), "E102"),
    (raw([2**40], b""), "E101"), (raw([2**32, 2**32], b""), "E101"), (raw([0, 2**62], b""), "E101"),
    (raw([1] * 17, bytes(4)), "E101"), (raw([2], bytes(8), 0), "E102"), (raw([2], bytes(8), 77), "E102"),
    *((TensorProto(name="w", data_type=TensorProto.STRING, dims=[2], string_data=strings), code) for strings, code in (
        ([b"a", b"b"], "E110"), ([b"a"], "E102"), ([b"a", b"b\xff"], "E102"), ([b"a", b"b\0"], "E102"))),
    (raw([2], bytes(16), TensorProto.COMPLEX64), "E105")])
def test_bad_tensors(make, op, tensor, code):
    refused(code, make([op("Add", "x w", "y")], {"x": [2]}, constants={"w": tensor}))


def test_stored_bools_are_truth_values(make, op, check):
    model = make([op("Not", "w", "n"), op("And", "n x", "y")], {"x": np.ones(3, bool)},
                 constants={"w": raw([3], b"\x00\x02\x01", TensorProto.BOOL)})
    check(model, {"x": np.ones(3, bool)}, by=[np.array([True, False, False])])


def test_constants_are_bounded_together(make, op):
    model = make([op("Add", "x w", "a"), op("Add", "a v", "y")], {"x": [64]},
                 constants={"w": np.zeros(64, np.float32), "v": np.zeros(64, np.float32)})
    refused("E101", model, limits=Limits(constant_bytes=300))


def test_sparse_initializers(make, op, check, random):
    model = make([op("Add", "x w", "y")], {"x": [2, 3]})
    values, indices = np.array([5.0, 7.0], np.float32), np.array([1, 4], np.int64)
    sparse = helper.make_sparse_tensor(onnx.numpy_helper.from_array(values, "w"), onnx.numpy_helper.from_array(indices, "i"), [2, 3])
    model.graph.sparse_initializer.append(sparse)
    x = random(2, 3)
    check(model, {"x": x}, by=[x + np.array([[0, 5, 0], [0, 7, 0]], np.float32)])
    sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.array([1, 6], np.int64), "i"))
    del model.graph.sparse_initializer[:]
    model.graph.sparse_initializer.append(sparse)
    refused("E102", model)
