"""EGFORMER_AUTOTUNE: off by default; on, what a fake timer finds fastest is kept in a file for later processes."""

from __future__ import annotations

import errno
import json
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from triton.runtime.errors import OutOfResources  # noqa: E402

from egformer_fast.triton import _attention_configs, _autotune, _common  # noqa: E402

TABLE = (128, 64, 8, 2)  # of float16, D = 32, on sm_90
FASTEST = (64, 32, 8, 2)


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """A GPU that is not there: its name, its table, and a timer that finds FASTEST fastest. Yields what was timed."""
    timed = []

    def milliseconds(run):
        timed.append(run())
        return 1.0 if timed[-1] == FASTEST else 2.0

    monkeypatch.setattr(_common, "INTERPRETED", False)
    monkeypatch.setattr(_attention_configs, "architecture", lambda: "sm_90")
    monkeypatch.setattr(_autotune, "_gpu", lambda q: "some GPU")
    monkeypatch.setattr(_autotune, "_milliseconds", milliseconds)
    monkeypatch.setattr(_autotune, "_loaded", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setenv("EGFORMER_AUTOTUNE", "1")
    monkeypatch.setenv("EGFORMER_AUTOTUNE_CACHE", str(tmp_path / "folder" / "cache.json"))
    return timed


def chosen(queries: int = 1000, slots: int = 3, kernel: str = "forward"):
    q, k = torch.empty(1, 2, queries, 32, dtype=torch.float16), torch.empty(1, 3, 2, 64, 32, dtype=torch.float16)
    return _autotune.blocks(kernel, q, k, slots, 32, "ieee", lambda choice: choice)


@pytest.mark.parametrize("value", [None, "", "0"])
def test_the_table_is_the_default(gpu, monkeypatch, value):
    if value is None:
        monkeypatch.delenv("EGFORMER_AUTOTUNE")
    else:
        monkeypatch.setenv("EGFORMER_AUTOTUNE", value)
    assert chosen() == TABLE and not gpu and not _autotune.path().exists()


def test_other_values_are_refused(gpu, monkeypatch):
    monkeypatch.setenv("EGFORMER_AUTOTUNE", "yes")
    with pytest.raises(ValueError, match="EGFORMER_AUTOTUNE: got 'yes', wanted 0 or 1"):
        chosen()


def test_the_fastest_candidate_is_kept_on_disk(gpu, monkeypatch):
    assert chosen() == FASTEST
    assert gpu[0] == TABLE and gpu == _attention_configs.candidates("forward", 2, 32) and len(set(gpu)) == len(gpu)
    (key,) = json.loads(_autotune.path().read_text())
    for part in ("some GPU", "triton 3.", "forward", "float16", "ieee", "D 32", "B H 2", "Nq 1024", "K 4", "Nk 64"):
        assert part in key
    gpu.clear()
    assert chosen() == FASTEST and chosen(1024, 4) == FASTEST and not gpu  # the same class of shapes
    monkeypatch.setattr(_autotune, "_loaded", {})  # another process
    assert chosen() == FASTEST and not gpu
    assert chosen(1025) == FASTEST and gpu
    assert [p.name for p in _autotune.path().parent.iterdir()] == ["cache.json"]


@pytest.mark.parametrize("change", ["gpu", "triton", "kernel"])
def test_another_gpu_triton_or_kernel_is_timed_again(gpu, monkeypatch, change):
    chosen()
    gpu.clear()
    if change == "gpu":
        monkeypatch.setattr(_autotune, "_gpu", lambda q: "another GPU")
    if change == "triton":
        monkeypatch.setattr(_autotune.triton, "__version__", "9.9")
    chosen(kernel="backward" if change == "kernel" else "forward")
    assert gpu and len(json.loads(_autotune.path().read_text())) == 2


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"a": [1, 2, 3]}', '{"a": [1, 2, 3, -4]}', '{"a": [1, 2, 3, "4"]}', b"\xff"]
)
def test_a_corrupt_file_is_one_warning_and_a_fresh_start(gpu, content):
    file = _autotune.path()
    file.parent.mkdir()
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.warns(UserWarning, match=r"cache.json: not a cache of EGFORMER_AUTOTUNE, starting afresh") as caught:
        assert chosen() == FASTEST and chosen(5000) == FASTEST
    assert len(caught) == 1 and len(json.loads(file.read_text())) == 2


def test_a_stored_choice_that_is_no_candidate_is_timed_again(gpu, monkeypatch):
    chosen()
    (key,) = json.loads(_autotune.path().read_text())
    _autotune.path().write_text(json.dumps({key: [1024, 1024, 8, 2]}))
    monkeypatch.setattr(_autotune, "_loaded", {})
    assert chosen() == FASTEST


def test_other_processes_choices_are_kept(gpu):
    chosen()
    content = json.loads(_autotune.path().read_text())
    _autotune.path().write_text(json.dumps({**content, "from elsewhere": [16, 16, 4, 1]}))
    chosen(5000)
    assert len(json.loads(_autotune.path().read_text())) == 3


def test_a_full_disk_is_a_warning_and_leaves_no_half_file(gpu, monkeypatch):
    def full(self, content):
        self.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    chosen()
    before = _autotune.path().read_text()
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.warns(UserWarning, match="cannot keep its choices .*No space left"):
        assert chosen(5000) == FASTEST
    assert [p.name for p in _autotune.path().parent.iterdir()] == ["cache.json"]
    assert _autotune.path().read_text() == before


def test_what_the_gpu_has_no_resources_for_is_passed_over(gpu, monkeypatch):
    def milliseconds(run):
        raise OutOfResources(2, 1, "shared memory")

    monkeypatch.setattr(_autotune, "_milliseconds", milliseconds)
    assert chosen() == TABLE and not _autotune.path().exists()


def test_timing_is_done_on_the_gpu_of_the_tensors(gpu, monkeypatch):
    """They need not be on the current one, whose events would time nothing."""
    current = []

    @contextmanager
    def device_of(tensor):
        current.append(tensor)
        yield
        current.pop()

    def milliseconds(run):
        assert [tuple(t.shape) for t in current] == [(1, 2, 1000, 32)]
        return 1.0 if run() == FASTEST else 2.0

    monkeypatch.setattr(torch.cuda, "device_of", device_of)
    monkeypatch.setattr(_autotune, "_milliseconds", milliseconds)
    assert chosen() == FASTEST and not current


def test_nothing_is_timed_while_a_graph_is_captured(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert chosen() == TABLE and not gpu


def test_a_folder_that_cannot_be_written_is_a_warning(gpu, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EGFORMER_AUTOTUNE_CACHE", str(tmp_path / "file" / "cache.json"))
    with pytest.warns(UserWarning, match="cannot keep its choices"):
        assert chosen() == FASTEST
    gpu.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen() == FASTEST and not gpu  # but remembered
