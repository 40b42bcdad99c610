"""Calibration data from files."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from edgecc.errors import EdgeccError
from edgecc.quantization.data import Preprocessing, open_data, parse_preprocessing, picture
from tests.quantization.networks import network


def read(path):
    with np.load(path) as archive:
        return dict(archive)


@pytest.fixture
def image_network():
    return network([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3, 8, 6]}, {"y": [1, 3, 8, 6]}, {})


def test_samples_along_a_first_axis(tmp_path, image_network):
    stacked = np.arange(3 * 144, dtype=np.float32).reshape(3, 3, 8, 6)
    for shape in ((3, 3, 8, 6), (3, 1, 3, 8, 6)):
        np.savez(tmp_path / "a.npz", x=stacked.reshape(shape))
        data = open_data(tmp_path / "a.npz", image_network, Preprocessing(), read)
        assert len(data) == 3 and len(list(data)) == len(list(data)) == 3
        for sample, wanted in zip(data, stacked, strict=True):
            np.testing.assert_array_equal(sample["x"], wanted[np.newaxis])
    assert len(open_data(tmp_path / "a.npz", image_network, Preprocessing(), read, limit=2)) == 2


def test_a_folder_of_files(tmp_path, image_network):
    for index in range(3):
        np.savez(tmp_path / f"{index}.npz", x=np.full((1, 3, 8, 6), index, np.float32))
    data = open_data(tmp_path, image_network, Preprocessing(), read)
    assert [float(sample["x"][0, 0, 0, 0]) for sample in data] == [0, 1, 2]


@pytest.mark.parametrize("arrays", [{"z": np.zeros((1, 3, 8, 6), np.float32)}, {"x": np.zeros((1, 3, 8, 7), np.float32)},
                                    {"x": np.zeros((1, 3, 8, 6), "U4")}, {"x": np.zeros((1, 3, 8, 6), [("a", "<f4"), ("b", "<i8")])}])
def test_arrays_that_do_not_fit(tmp_path, image_network, arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(EdgeccError) as caught:
        open_data(tmp_path / "a.npz", image_network, Preprocessing(), read)
    assert caught.value.code == "E007"


def test_nothing_there(tmp_path, image_network):
    for path in (tmp_path, tmp_path / "missing.npz"):
        with pytest.raises(EdgeccError) as caught:
            open_data(path, image_network, Preprocessing(), read)
        assert caught.value.code == "E007"


def gradient(width, height):
    """Red grows to the right, green downwards, blue is 10."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = np.arange(width), np.arange(height)[:, np.newaxis], 10
    return Image.fromarray(image)


def test_pictures_are_cut_and_scaled(tmp_path, image_network):
    gradient(10, 8).save(tmp_path / "a.png")
    (sample,) = open_data(tmp_path, image_network, Preprocessing(mean=(0.0,), std=(1.0,)), read)
    assert sample["x"].shape == (1, 3, 8, 6) and sample["x"].dtype == np.float32
    np.testing.assert_array_equal(sample["x"][0, 0, 0], np.arange(2, 8))
    np.testing.assert_array_equal(sample["x"][0, 1, :, 0], np.arange(8))


def test_channels_layouts_and_normalisation(tmp_path):
    gradient(6, 8).save(tmp_path / "a.png")
    how = Preprocessing(channels="bgr", mean=(10.0, 0.0, 0.0), std=(2.0, 1.0, 1.0), layout="nhwc")
    array = picture(tmp_path / "a.png", (1, 8, 6, 3), how)
    assert (array[0, ..., 0] == 0).all() and array[0, 0, 5, 2] == 5 and array[0, 7, 0, 1] == 7
    assert picture(tmp_path / "a.png", (1, 1, 4, 4), Preprocessing(channels="gray")).shape == (1, 1, 4, 4)


def test_pictures_that_are_padded_and_stretched(tmp_path):
    Image.new("RGB", (8, 4), (200, 200, 200)).save(tmp_path / "a.png")
    padded = picture(tmp_path / "a.png", (1, 3, 8, 8), Preprocessing(fit="pad", std=(1.0,)))
    assert (padded[0, :, :2] == 114).all() and (padded[0, :, 2:6] == 200).all() and (padded[0, :, 6:] == 114).all()
    assert (picture(tmp_path / "a.png", (1, 3, 8, 8), Preprocessing(fit="stretch", std=(1.0,))) == 200).all()


def test_what_is_no_picture(tmp_path, image_network):
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    data = open_data(tmp_path, image_network, Preprocessing(), read)
    with pytest.raises(EdgeccError) as caught:
        list(data)
    assert caught.value.code == "E007" and "a.jpg" in str(caught.value)


def test_damaged_pictures_and_huge_ones(tmp_path):
    path = tmp_path / "a.png"
    gradient(10, 8).save(path)
    sound = path.read_bytes()
    chunk = sound.index(b"IDAT")
    for data in (sound[:chunk] + b"r\x0f\x0c\x95" + sound[chunk + 4:], sound[:chunk + 9], sound[:20] + b"\0\0\x40\0\0\0\x40\0" + sound[28:]):
        path.write_bytes(data)
        with pytest.raises(EdgeccError) as caught:
            picture(path, (1, 3, 8, 8), Preprocessing())
        assert caught.value.code == "E007"
    Image.new("1", (8200, 8200)).save(path)
    with pytest.raises(EdgeccError, match="pixels"):
        picture(path, (1, 3, 8, 8), Preprocessing())


def test_the_option():
    how = parse_preprocessing("fit=crop, resize=256,mean=1/2/3,std=2,channels=bgr")
    assert how == Preprocessing("crop", 256, "bgr", (1.0, 2.0, 3.0), (2.0,))
    assert parse_preprocessing("") == Preprocessing()
    for wrong in ("fit=zoom", "size=3", "mean=a", "resize=x", "resize=0", "std=0", "mean=1/2", "fit=crop,fit=pad", "layout=cnhw"):
        with pytest.raises(EdgeccError) as caught:
            parse_preprocessing(wrong)
        assert caught.value.code == "E001"
