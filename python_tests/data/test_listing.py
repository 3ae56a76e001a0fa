"""Which frames a split has: folders, conditions, list files, seeded shares, and what is said where there are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_files import describe, image, save, toy

from egformer_fast.data import FolderDataset
from egformer_fast.data.listing import seeded_share
from egformer_fast.errors import DataError


def test_conditions_and_nested_ids(tmp_path: Path) -> None:
    """DELIVER's folders; "rain" is also in "train"."""
    frames = (("rain", "train", "M_1/train/0"), ("sun", "train", "M_1/0"), ("rain", "val", "M_2/5"))
    for condition, split, name in frames:
        save(tmp_path / f"img/{condition}/{split}/{name}_rgb.png", image(4, 4))
        save(tmp_path / f"sem/{condition}/{split}/{name}_sem.png", image(4, 4) % 2)
    path = describe(
        tmp_path,
        modalities={"a": {"path": "img/{condition}/{split}/{id}_rgb.png"}},
        label={"path": "sem/{condition}/{split}/{id}_sem.png"},
        splits={"train": None, "val": None},
    )
    train = FolderDataset(path)
    assert train.names == ["rain/M_1/train/0", "sun/M_1/0"]
    assert [train[i]["condition"] for i in range(2)] == ["rain", "sun"]
    assert FolderDataset(path, split="val").names == ["rain/M_2/5"]


def test_list_files(tmp_path: Path) -> None:
    toy(tmp_path, ("1", "2", "3"))
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/some.txt").write_text("# chosen by hand\n3\n\n 1 \n")
    (tmp_path / "lists/twice.txt").write_text("3\n3\n")
    (tmp_path / "lists/empty.txt").write_text("\n")
    splits = {name: {"folder": "train", "list": f"lists/{name}.txt"} for name in ("some", "twice", "empty", "none")}
    path = describe(tmp_path, splits=splits)
    dataset = FolderDataset(path, split="some")
    assert dataset.names == ["1", "3"]
    assert dataset[1]["name"] == "3"
    for split, part in (("twice", "names '3' twice"), ("empty", "names no frame"), ("none", "cannot be read")):
        with pytest.raises(DataError, match=rf"split '{split}' .*{split}\.txt {part}"):
            FolderDataset(path, split=split)


def test_list_files_of_paths(tmp_path: Path) -> None:
    """Lines may hold paths of a frame's files, one or several, with conditions too."""
    toy(tmp_path, ("1", "2", "3"))
    (tmp_path / "some.txt").write_text("a/train/3.png label/train/3.png\nlabel/train/1.png\n2\n")
    path = describe(tmp_path, splits={"some": {"folder": "train", "list": "some.txt"}})
    assert FolderDataset(path, split="some").names == ["1", "2", "3"]
    save(tmp_path / "b/rain/5.png", image(4, 4))
    save(tmp_path / "c/rain/5.png", image(4, 4) % 2)
    (tmp_path / "more.txt").write_text("b/rain/5.png\n")
    modalities = {"b": {"path": "b/{condition}/{id}.png"}}
    path = describe(
        tmp_path, modalities=modalities, label={"path": "c/{condition}/{id}.png"}, splits={"more": {"list": "more.txt"}}
    )
    assert FolderDataset(path, split="more").names == ["rain/5"]


def test_labels_of_an_unlabelled_split_are_not_read(tmp_path: Path) -> None:
    toy(tmp_path, ("1", "2"))
    (tmp_path / "label/train/2.png").unlink()
    parts = {"all": {"folder": "train", "unlabelled": True}, "some": {"of": "all", "share": 0.5}}
    path = describe(tmp_path, splits={"train": None, **parts})
    assert FolderDataset(path).names == ["1"]
    hidden = FolderDataset(path, split="all")
    assert hidden.names == ["1", "2"]
    assert list(hidden.files(0)) == ["a"]
    assert hidden[0]["label"].unique().tolist() == [255]
    assert list(FolderDataset(path, split="some").files(0)) == ["a"]


def test_shares_are_complementary_and_stable(tmp_path: Path) -> None:
    names = tuple(f"{n:03}" for n in range(40))
    toy(tmp_path, names, (2, 2))
    part = {"of": "all", "share": 0.15, "seed": 0}
    splits = {"all": "train", "val": part, "train": {"of": "all", "without": "val"}, "other": part | {"seed": 1}}
    path = describe(tmp_path, splits=splits)
    val, train, other = (FolderDataset(path, split=split).names for split in ("val", "train", "other"))
    assert len(val) == 6
    assert sorted(val + train) == list(names)
    assert other != val
    # Written down: another machine, version or file order must give the same frames.
    assert val == ["005", "011", "016", "023", "024", "031"]


@given(st.sets(st.text(min_size=1), max_size=30), st.floats(0.01, 0.99), st.integers(0, 5), st.randoms())
def test_seeded_share_ignores_order(names: set[str], share: float, seed: int, random: Any) -> None:
    shuffled = sorted(names)
    random.shuffle(shuffled)
    found = seeded_share(shuffled, share, seed)
    assert found == seeded_share(sorted(names), share, seed)
    assert len(found) == round(share * len(names))
    assert set(found) <= names


def test_a_share_of_nothing_is_said(tmp_path: Path) -> None:
    toy(tmp_path)
    path = describe(tmp_path, splits={"train": None, "val": {"of": "train", "share": 0.1}})
    with pytest.raises(DataError, match="split 'val' .*: 'train' has 2 frames, and a share of 0.1 leaves none"):
        FolderDataset(path, split="val")


def test_empty_and_unknown_splits_are_explained(tmp_path: Path) -> None:
    toy(tmp_path)
    path = describe(tmp_path, splits={"train": None, "test": None})
    with pytest.raises(DataError) as caught:
        FolderDataset(path, split="test")
    wanted = f"'label/test/{{id}}.png' matches no file in {tmp_path}/label/test, which does not exist"
    assert wanted in str(caught.value)
    (tmp_path / "label/test").mkdir()
    (tmp_path / "label/test/.hidden.png").touch()
    with pytest.raises(DataError, match=r"matches no file in .*label/test$"):
        FolderDataset(path, split="test")
    with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
        FolderDataset(path, split="tset")


def test_links_are_followed_once(tmp_path: Path) -> None:
    path = toy(tmp_path)
    (tmp_path / "label/train").rename(tmp_path / "elsewhere")
    (tmp_path / "label/train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "label")
    assert FolderDataset(path).names == ["1", "2"]


def test_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, name in (("argument", "1"), ("env", "2"), ("key", "3"), ("", "4")):
        toy(tmp_path / folder, (name,))
    path = describe(tmp_path, root_env="TOY_ROOT", root="key")
    monkeypatch.setenv("TOY_ROOT", str(tmp_path / "env"))
    assert FolderDataset(path, root=tmp_path / "argument").names == ["1"]
    assert FolderDataset(path).names == ["2"]
    monkeypatch.delenv("TOY_ROOT")
    assert FolderDataset(path).names == ["3"]
    assert FolderDataset(describe(tmp_path, root_env="TOY_ROOT")).names == ["4"]
    with pytest.raises(DataError, match=r"nowhere of data set 'toy' does not exist \(given as root\)"):
        FolderDataset(path, root=tmp_path / "nowhere")


def test_unset_root_variable_is_hinted_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_ROOT", raising=False)
    with pytest.raises(DataError, match="TOY_ROOT is not set and no root was given"):
        FolderDataset(describe(tmp_path, root_env="TOY_ROOT"))
