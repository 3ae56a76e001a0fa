"""Files to arrays: PNG and JPEG (what Pillow reads), .npy and .npz, in the values that the file holds.

Maps come out as (C, H, W), labels as (H, W). Alpha is dropped where no channels are selected, palettes are resolved in
maps and kept as numbers in labels. Pillow reads 16-bit colour PNGs at 8 bits: the two bytes of each value are decoded
in two passes here, since its "RGB;16B" and "RGB;16L" unpackers take the first and the second byte. It also stretches
grey PNGs of 2 and 4 bits to 0..255, which would renumber a label: undone here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from egformer_fast.errors import DataError

_MAP_MODES = {"1": "L", "P": "RGB", "PA": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
_ALPHA_MODES = ("LA", "La", "RGBA", "RGBa", "RGBX")
_FULL_SCALE = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}


def read_map(path: Path, channels: int, select: Sequence[int] = ()) -> np.ndarray:
    """A sensor's file as (C, H, W) in the file's own dtype; one channel in the file is repeated to three.

    select: take these channels of the file, in this order; alpha is one of them then.

    Raises DataError naming the file: absent, not decodable, of another channel count, or not of real numbers.
    """
    array = _read(path, as_label=False, with_alpha=bool(select))
    if select:
        if max(select) >= array.shape[2]:
            raise DataError(f"{path}: wanted channels {list(select)} (from 0), found {array.shape[2]} channel(s)")
        array = array[..., list(select)]
    if array.dtype.kind not in "buif":
        raise DataError(f"{path}: wanted real numbers, found dtype {array.dtype}")
    found = array.shape[2]
    if found != channels and (found, channels) != (1, 3):
        raise DataError(f"{path}: wanted {channels} channel(s), found an array (H, W, C) of {array.shape}")
    planes = np.ascontiguousarray(array.transpose(2, 0, 1))
    return np.broadcast_to(planes, (channels, *planes.shape[1:]))


def read_label(path: Path, values: Mapping[int, int], channel: int | None = None) -> np.ndarray:
    """A label file as (H, W) uint8 classes, 255 = ignore; `values` maps file values, `channel` picks one of several.

    Raises DataError naming the file: as read_map, or an unknown value (then with the value and where it stands).
    """
    array = _read(path, as_label=True)
    if array.dtype.kind not in "bui":
        raise DataError(f"{path}: wanted whole numbers in a label, found dtype {array.dtype}")
    found = array.shape[2]
    if channel is None and found != 1:
        raise DataError(f"{path}: wanted a label of one channel, found {found} (name one as `channel` of the label)")
    if channel is not None and not 0 <= channel < found:
        raise DataError(f"{path}: wanted channel {channel} of the label, found {found} channel(s)")
    return _classes(array[..., channel or 0], values, path)


def full_scale(dtype: np.dtype) -> float:
    """What values of this dtype are divided by where the description says nothing."""
    return _FULL_SCALE.get(dtype, 1.0)


def _classes(array: np.ndarray, values: Mapping[int, int], path: Path) -> np.ndarray:
    """One look-up in a table over all file values from the lowest to the highest known one, -1 for unknown."""
    low, high = min(values), max(values)
    table = np.full(high - low + 3, -1, np.int16)
    for value, target in values.items():
        table[value - low + 1] = target
    classes = table[np.clip(array.astype(np.int64), low - 1, high + 1) - (low - 1)]
    unknown = classes < 0
    if unknown.any():
        row, column = np.argwhere(unknown)[0]
        found = np.unique(array[unknown])
        shown = ", ".join(map(str, found[:8].tolist())) + (", ..." if len(found) > 8 else "")
        raise DataError(
            f"{path}: label value(s) {shown} in {int(unknown.sum())} pixel(s), first at row {row}, column {column}: "
            f"neither a class nor ignored by the description"
        )
    return classes.astype(np.uint8)


def _read(path: Path, as_label: bool, with_alpha: bool = False) -> np.ndarray:
    """(H, W, C) of a file, in native byte order."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        numpy = path.suffix.lower() in (".npy", ".npz")
        array = _read_numpy(path) if numpy else _read_image(path, as_label, with_alpha)
    except DataError:
        raise
    # On a broken file decoders raise nearly anything, from SyntaxError to struct.error, depending on the byte.
    except Exception as error:
        raise DataError(f"{path}: cannot be decoded: {error}") from error
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"{path}: wanted an array (H, W) or (H, W, C), found {array.shape}")
    # Full scales and tables are looked up by native dtypes.
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _read_numpy(path: Path) -> np.ndarray:
    """The array of a .npy, or the only one of a .npz."""
    content = np.load(path, allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    with content:
        if len(content.files) != 1:
            raise DataError(f"{path}: wanted one array in the file, found {content.files}")
        return content[content.files[0]]


def _read_image(path: Path, as_label: bool, with_alpha: bool) -> np.ndarray:
    depth, colour = _png_depth(path)
    with Image.open(path) as image:
        if depth == 16 and colour:
            return _read_png16(path, with_alpha)
        if as_label and depth in (2, 4) and image.mode == "L":
            return np.asarray(image) // np.uint8(255 // (2**depth - 1))
        if not as_label and image.mode in _MAP_MODES:
            return np.asarray(image.convert(_MAP_MODES[image.mode]))
        drop = image.mode in _ALPHA_MODES and not with_alpha
        array = np.asarray(image)[..., :-1] if drop else np.asarray(image)
        # Older Pillows give 16-bit grey as int32.
        return array.astype(np.uint16) if depth == 16 else array


def _read_png16(path: Path, with_alpha: bool) -> np.ndarray:
    """(H, W, 3) uint16 of a 16-bit colour PNG, (H, W, 4) where it has alpha that is wanted."""
    halves = []
    for unpacker in ("16B", "16L"):
        with Image.open(path) as image:
            if image.tile[0].args != f"{image.mode};16B":
                raise DataError(f"{path}: 16-bit PNGs of grey with alpha are not supported; wanted grey or RGB")
            image.tile = [image.tile[0]._replace(args=f"{image.mode};{unpacker}")]
            halves.append(np.asarray(image)[..., : 4 if with_alpha else 3].astype(np.uint16))
    return halves[0] << 8 | halves[1]


def _png_depth(path: Path) -> tuple[int, bool]:
    """(bits a channel, several channels) from the header of a PNG, (8, False) for any other file."""
    with path.open("rb") as file:
        head = file.read(26)
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 26:
        return 8, False
    return head[24], head[25] in (2, 4, 6)
