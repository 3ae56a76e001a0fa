"""Files to arrays: every format keeps its values, every broken file is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from toy_files import RNG, image, png, png16, save

from egformer_fast.data.reading import read_label, read_map
from egformer_fast.errors import DataError


@pytest.mark.parametrize("line_filter", [0, 1, 2])
@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_16_bit_png_keeps_all_bits(tmp_path: Path, colour_type: int, channels: int, line_filter: int) -> None:
    array = RNG.integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    path = tmp_path / "x.png"
    path.write_bytes(png16(array, colour_type, line_filter))
    found = read_map(path, min(channels, 3))
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, array[..., :3].transpose(2, 0, 1))


def test_16_bit_grey_with_alpha_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png16(np.zeros((2, 2, 2), np.uint16), 4))
    with pytest.raises(DataError, match=r"x\.png: 16-bit PNGs of grey with alpha"):
        read_map(path, 1)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("LA", 1), ("RGB", 3), ("RGBA", 3), ("P", 3), ("1", 1)])
def test_8_bit_modes_and_alpha(tmp_path: Path, mode: str, channels: int) -> None:
    picture = Image.fromarray(image(5, 7, 3)).convert(mode)
    picture.save(tmp_path / "x.png")
    plain = np.asarray(picture.convert("RGB" if channels == 3 else "L"))
    found = read_map(tmp_path / "x.png", channels)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, plain.transpose(2, 0, 1) if channels == 3 else plain[None])


def test_selected_channels_count_alpha(tmp_path: Path) -> None:
    """In 8 and in 16 bits, in any order; without a selection alpha is not there."""
    shallow, deep = image(4, 5, 4), RNG.integers(0, 65536, (4, 5, 4)).astype(np.uint16)
    save(tmp_path / "8.png", shallow)
    (tmp_path / "16.png").write_bytes(png16(deep, 6))
    for name, array in (("8.png", shallow), ("16.png", deep)):
        for select in ((3,), (0, 1, 2), (2, 1, 0, 3)):
            found = read_map(tmp_path / name, len(select), select)
            np.testing.assert_array_equal(found, array[..., list(select)].transpose(2, 0, 1))
        with pytest.raises(DataError, match=rf"{name}: wanted channels \[4\] \(from 0\), found 4 channel"):
            read_map(tmp_path / name, 1, (4,))


def test_jpeg(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", np.full((16, 16, 3), 200, np.uint8))
    assert abs(read_map(path, 3).astype(int) - 200).max() <= 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "float16", "float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("channels", [1, 5])
def test_npy(tmp_path: Path, dtype: str, channels: int) -> None:
    array = RNG.integers(0, 2, (4, 3, channels)).astype(dtype)
    path = save(tmp_path / "x.npy", array[..., 0] if channels == 1 else array)
    found = read_map(path, channels)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, array.transpose(2, 0, 1))


def test_one_channel_fills_three(tmp_path: Path) -> None:
    grey = image(4, 5)
    np.testing.assert_array_equal(read_map(save(tmp_path / "x.png", grey), 3), np.stack([grey] * 3))


@pytest.mark.parametrize(("array", "channels"), [(image(4, 4, 3), 1), (image(4, 4, 3), 4), (image(4, 4), 2)])
def test_channel_mismatch_names_file(tmp_path: Path, array: np.ndarray, channels: int) -> None:
    with pytest.raises(DataError, match=rf"x\.npy: wanted {channels} channel"):
        read_map(save(tmp_path / "x.npy", array), channels)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2), complex), np.zeros((2, 2, 2, 2)), np.zeros(3), np.zeros((0, 3)), np.array("text")]
)
def test_arrays_that_are_no_map(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"x\.npy: wanted"):
        read_map(save(tmp_path / "x.npy", array), 1)


def test_pickled_npy_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"x\.npy: cannot be decoded"):
        read_map(tmp_path / "x.npy", 1)


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.npy"])
@pytest.mark.parametrize("keep", [0.0, 0.02, 0.5, 0.95])
def test_cut_off_files_name_themselves(tmp_path: Path, name: str, keep: float) -> None:
    path = save(tmp_path / name, image(64, 64, 3))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(DataError, match=rf"{name}: cannot be decoded"):
        read_map(path, 3)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_label_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    values = np.arange(2**bits, dtype=np.uint8).repeat(8)[None]
    coded = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(1, -1), axis=1)
    (tmp_path / "x.png").write_bytes(png(values.shape[1], bits, 0, coded))
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", {n: n for n in range(256)}), values)


def test_palette_label_gives_numbers(tmp_path: Path) -> None:
    numbers = image(4, 4) % 3
    picture = Image.fromarray(numbers)
    picture.putpalette([9, 9, 9, 50, 60, 70, 1, 2, 3])
    picture.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_label(tmp_path / "x.png", {0: 0, 1: 1, 2: 2}), numbers)


def test_offset_never_wraps(tmp_path: Path) -> None:
    """DELIVER's void 255 must not become a class, nor 0 become 255 - 1."""
    values = {n: n - 1 for n in range(1, 26)} | {0: 255, 255: 255}
    path = save(tmp_path / "x.png", np.array([[0, 1, 25, 255]], np.uint8))
    np.testing.assert_array_equal(read_label(path, values), [[255, 0, 24, 255]])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int64"])
def test_unknown_label_values_are_named(tmp_path: Path, dtype: str) -> None:
    array = np.zeros((4, 4), dtype)
    array[2, 3], array[3, 1] = 7, 90
    path = save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=r"x\.npy: label value\(s\) 7, 90 in 2 pixel\(s\), first at row 2, column 3"):
        read_label(path, {0: 0, 1: 1, 255: 255})


def test_negative_ignore_value(tmp_path: Path) -> None:
    path = save(tmp_path / "x.npy", np.array([[-1, 0, 1]], np.int64))
    np.testing.assert_array_equal(read_label(path, {-1: 255, 0: 0, 1: 1}), [[255, 0, 1]])
    with pytest.raises(DataError, match="value.s. -2 "):
        read_label(save(tmp_path / "y.npy", np.array([[-2]], np.int64)), {-1: 255, 0: 0})


def test_label_with_channels(tmp_path: Path) -> None:
    path = save(tmp_path / "x.png", np.stack([np.full((2, 2), n, np.uint8) for n in (1, 0, 0)], -1))
    with pytest.raises(DataError, match=r"x\.png: wanted a label of one channel, found 3"):
        read_label(path, {0: 0, 1: 1})
    assert read_label(path, {0: 0, 1: 1}, channel=0).tolist() == [[1, 1], [1, 1]]
    with pytest.raises(DataError, match=r"x\.png: wanted channel 3 of the label"):
        read_label(path, {0: 0, 1: 1}, channel=3)


def test_float_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.npy: wanted whole numbers"):
        read_label(save(tmp_path / "x.npy", np.zeros((2, 2))), {0: 0})
