"""Calibration data from files."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from PIL import Image

from edgecc.errors import EdgeccError
from edgecc.quantization.data import open_data
from edgecc.quantization.pictures import Preprocessing, parse_preprocessing, picture
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
                                    {"x": np.full((2, 3, 8, 6), np.nan, np.float32)}, {"x": np.full((1, 3, 8, 6), 1e300)},
                                    {"x": np.full((1, 3, 8, 6), np.inf, np.float16)}, {"x": np.zeros((1, 3, 8, 6), "U4")}, {"x": np.zeros((1, 3, 8, 6), [("a", "<f4"), ("b", "<i8")])}])
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
    assert caught.value.code == "E007" and str(caught.value).endswith("a.jpg: holds no picture of a format that Pillow reads")


def test_pictures_of_16_bits_keep_their_shades(tmp_path):
    values = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21
    Image.fromarray(values).save(tmp_path / "a.png")
    for channels, count in (("rgb", 3), ("gray", 1)):
        array = picture(tmp_path / "a.png", (1, count, 48, 64), Preprocessing(std=(1.0,), channels=channels))
        np.testing.assert_array_equal(array[0, 0], values >> 8)
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(EdgeccError, match="floats"):
        picture(tmp_path / "a.tif", (1, 3, 8, 8), Preprocessing())


def test_odd_pictures(tmp_path):
    for number, mode in enumerate(("RGBA", "LA", "CMYK", "P", "1", "L", "YCbCr")):
        path = tmp_path / f"{number}.tif"
        Image.new("RGB", (5, 9), (90, 90, 90)).convert(mode).save(path)
        array = picture(path, (1, 3, 8, 8), Preprocessing(std=(1.0,)))
        assert array.shape == (1, 3, 8, 8) and array.max() <= 255
        assert mode in ("1", "P") or abs(array - 90).max() <= 12
    turned = gradient(6, 12)
    turned.getexif()[0x0112] = 6  # lies on its side
    turned.save(tmp_path / "turned.png", exif=turned.getexif())
    np.testing.assert_array_equal(picture(tmp_path / "turned.png", (1, 3, 6, 12), Preprocessing(std=(1.0,)))[0, 0, :, 0], np.arange(6))


def test_pictures_much_narrower_than_the_input(tmp_path):
    gradient(20, 10).save(tmp_path / "a.png")
    small = picture(tmp_path / "a.png", (1, 3, 16, 12), Preprocessing(resize=8, std=(1.0,)))
    assert 6 <= small[0, 0, 0, -1] - small[0, 0, 0, 0] <= 8, "the picture covers the input without being distorted"
    strip = Image.fromarray(np.arange(60000, dtype=np.uint16).reshape(-1, 1).astype(np.uint8))
    strip.save(tmp_path / "strip.png")
    array = picture(tmp_path / "strip.png", (1, 3, 64, 64), Preprocessing(resize=72, std=(1.0,)))
    assert array.shape == (1, 3, 64, 64) and np.ptp(array) <= 2, "scaled as a whole it would have 300 million pixels"


def test_folders_with_other_files(tmp_path, image_network):
    (tmp_path / "cats" / ".cache").mkdir(parents=True)
    for name in ("cats/b.PNG", "cats/._b.png", "cats/.cache/c.png", "notes.txt"):
        gradient(8, 8).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(tmp_path / name)
    np.savez(tmp_path / "cats/d.npz", x=np.zeros((1, 3, 8, 6), np.float32))
    assert [file.name for file in open_data(tmp_path, image_network, Preprocessing(), read).files] == ["b.PNG"]
    two = network([helper.make_node("Add", ["x", "z"], ["y"])], {"x": [1, 3, 8, 6], "z": [1, 3, 8, 6]}, {"y": [1, 3, 8, 6]}, {})
    with pytest.raises(EdgeccError, match=r"no array called 'z'.*\n.*holds x"):
        open_data(tmp_path, two, Preprocessing(), read)


def test_batches_are_filled(tmp_path):
    four = network([helper.make_node("Relu", ["x"], ["y"])], {"x": [2, 3, 8, 6]}, {"y": [2, 3, 8, 6]}, {})
    stacked = np.arange(6 * 144, dtype=np.float32).reshape(6, 3, 8, 6)
    np.savez(tmp_path / "a.npz", x=stacked)
    np.testing.assert_array_equal([sample["x"] for sample in open_data(tmp_path, four, Preprocessing(), read)], stacked.reshape(3, 2, 3, 8, 6))
    for number in range(5):
        Image.new("RGB", (6, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    data = open_data(tmp_path, four, Preprocessing(std=(1.0,)), read)
    assert len(data) == 2 and [sample["x"][:, 0, 0, 0].tolist() for sample in data] == [[0, 1], [2, 3]]
    assert len(open_data(tmp_path, four, Preprocessing(), read, limit=1).files) == 2
    many = network([helper.make_node("Relu", ["x"], ["y"])], {"x": [6, 3, 8, 6]}, {"y": [6, 3, 8, 6]}, {})
    with pytest.raises(EdgeccError, match="holds 5 pictures, and the model takes 6 at a time"):
        open_data(tmp_path, many, Preprocessing(), read)
    np.savez(tmp_path / "a.npz", x=stacked[:5])
    with pytest.raises(EdgeccError, match="--shape"):
        open_data(tmp_path / "a.npz", four, Preprocessing(), read)


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
