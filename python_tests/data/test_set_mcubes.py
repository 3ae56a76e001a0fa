"""MCubeS through its shipped descriptions: 16 bits, angles in two files, the cut, and whose list is which split."""

from __future__ import annotations

from pathlib import Path

import miniature_mcubes as miniature
import numpy as np
import pytest
import yaml
from miniature_mcubes import HEIGHT, LISTS, WIDTH
from toy_files import png16, save

from egformer_fast.data import FolderDataset
from egformer_fast.data.check import check_dataset
from egformer_fast.errors import DataError
from egformer_fast.train.input_files import InputFrames

TRAIN, VAL, TEST = LISTS["train"], LISTS["val"][0], LISTS["test"][0]


def angles(content: dict[tuple[str, str], np.ndarray], name: str) -> np.ndarray:
    doubled = 2 * content["angle", name]
    return np.stack([np.sin(doubled), np.cos(doubled)])


def test_values_and_the_cut(tmp_path: Path) -> None:
    content = miniature.write(tmp_path)
    dataset = FolderDataset("mcubes", tmp_path, "train")
    assert dataset.modalities == {"rgb": 3, "aolp": 2, "dolp": 1, "nir": 1}
    assert (dataset.names, len(dataset.classes)) == (TRAIN, 20)
    sample, name = dataset[1], TRAIN[1]
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).reshape(2, 3, 1, 1)
    wanted = {
        "rgb": (content["polL_color", name].transpose(2, 0, 1) / 255 - mean) / std,
        "aolp": angles(content, name),
        "dolp": content["polL_dolp", name][None],
        "nir": content["NIR_warped", name][None] / 65535,
    }
    for sensor, value in wanted.items():
        assert sample["inputs"][sensor].shape[1:] == (HEIGHT, WIDTH - 192)
        np.testing.assert_allclose(sample["inputs"][sensor], value[..., 192:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(sample["label"], content["GT", name][:, 192:])


def test_whole_frames(tmp_path: Path) -> None:
    content = miniature.write(tmp_path)
    dataset = FolderDataset("mcubes_full", tmp_path, "val")
    np.testing.assert_array_equal(dataset[0]["label"], content["GT", VAL])
    np.testing.assert_allclose(dataset[0]["inputs"]["aolp"], angles(content, VAL), atol=1e-6)


def test_splits_are_the_lists_of_their_names(tmp_path: Path) -> None:
    """Published scores "on val" are on test.txt."""
    miniature.write(tmp_path)
    assert FolderDataset("mcubes", tmp_path, "val").names == [VAL]
    assert FolderDataset("mcubes", tmp_path, "test").names == [TEST]


def test_files_of_twice_the_angle(tmp_path: Path) -> None:
    """Either coding gives the same input; the wrong one is refused, not read."""
    content = miniature.write(tmp_path, twice=True)
    found = FolderDataset("mcubes_twice", tmp_path, "test")[0]["inputs"]["aolp"]
    np.testing.assert_allclose(found, angles(content, TEST)[..., 192:], atol=1e-6)
    with pytest.raises(DataError, match=r"polL_aolp_\{part\}/inscene3_7\.npy: .* say `angle: twice`"):
        FolderDataset("mcubes", tmp_path, "test")[0]


def test_16_bit_rgb(tmp_path: Path) -> None:
    """The authors' code reads RGB of 8 or 16 bits."""
    miniature.write(tmp_path)
    deep = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 3)).astype(np.uint16)
    (tmp_path / f"polL_color/{TEST}.png").write_bytes(png16(deep, 2))
    found = FolderDataset("mcubes", tmp_path, "test").frame(0).maps["rgb"]
    np.testing.assert_allclose(found, deep.transpose(2, 0, 1)[..., 192:] / 65535, rtol=1e-6)


def test_absent_and_broken_parts_are_named(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    cosine = tmp_path / f"polL_aolp_cos/{TRAIN[0]}.npy"
    save(cosine, np.zeros((HEIGHT, WIDTH - 1), np.float32))
    with pytest.raises(DataError, match=rf"{cosine}: 6x199 pixels .*polL_aolp_sin/{TRAIN[0]}\.npy has 6x200"):
        FolderDataset("mcubes", tmp_path)[0]
    cosine.unlink()
    with pytest.raises(DataError, match=rf"{cosine}: no such file"):
        FolderDataset("mcubes", tmp_path)[0]
    problems = check_dataset(FolderDataset("mcubes", tmp_path), progress=False).problems
    assert problems == ["split 'train' has 2 frames here, the published one 302", f"{cosine}: no such file"]
    (tmp_path / "optional.yaml").write_text("extends: mcubes\nmodalities: {aolp: {optional: true}}\n")
    dataset = FolderDataset(tmp_path / "optional.yaml", tmp_path)
    assert [dataset[i]["present"].tolist() for i in range(2)] == [[True, False, True, True], [True] * 4]


def test_angles_outside_the_range_are_refused(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    save(tmp_path / f"polL_aolp_sin/{TEST}.npy", np.full((HEIGHT, WIDTH), 127, np.float32))
    with pytest.raises(DataError, match="sine or cosine of an angle is outside -1 to 1"):
        FolderDataset("mcubes", tmp_path, "test")[0]


def test_a_cut_that_leaves_nothing(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    (tmp_path / "narrow.yaml").write_text("extends: mcubes\ncut: {right: 8}\n")
    with pytest.raises(DataError, match=r"GT/inscene3_7\.png: 6x200 pixels .* `cut` of \(192, 8, 0, 0\)"):
        FolderDataset(tmp_path / "narrow.yaml", tmp_path, "test")[0]


def test_angles_are_not_given_as_single_files(tmp_path: Path) -> None:
    miniature.write(tmp_path)
    description = FolderDataset("mcubes", tmp_path).description
    with pytest.raises(DataError, match="input aolp: each frame has sin, cos in files of their own"):
        InputFrames(description, ["rgb", "aolp"], {"aolp": tmp_path / "polL_aolp_sin"})
    frames = InputFrames(description, ["rgb", "aolp"], {"rgb": tmp_path / "polL_color"})
    assert frames[0]["present"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"angle": None}, "modalities.aolp.angle is missing; wanted one of once, twice"),
        ({"angle": "thrice"}, "modalities.aolp.angle: unknown value 'thrice'"),
        ({"parts": None}, "modalities.aolp.path: wanted {part} in it where `parts` are given, and nowhere else"),
        ({"parts": ["sin"]}, "modalities.aolp.parts: wanted 2, one a channel"),
        ({"channels": 3}, "modalities.aolp.channels: wanted 3 for kind rgb, 2 for aolp"),
        ({"mean": 0.5, "std": 1}, "modalities.aolp.mean: wanted 0 for kind aolp"),
        ({"kind": "other"}, "modalities.aolp.angle: goes with kind aolp"),
    ],
)
def test_mistakes_in_a_description(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"extends": "mcubes", "modalities": {"aolp": changes}}))
    with pytest.raises(DataError) as caught:
        FolderDataset(path, tmp_path)
    assert message in str(caught.value)
