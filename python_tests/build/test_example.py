"""The C++ example: a program without Python loads the library and calls an op through torch's dispatcher."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from egformer_fast import _ext

SOURCE = Path(__file__).parents[2] / "examples" / "cpp"


@pytest.mark.usefixtures("library")
def test_the_example_builds_and_keeps_the_best_modalities(tmp_path: Path) -> None:
    torch_folder = Path(torch.__file__).parent
    configure = ["cmake", "-S", str(SOURCE), "-B", str(tmp_path), f"-DTORCH_DIR={torch_folder}"]
    for command in (configure, ["cmake", "--build", str(tmp_path)]):
        result = subprocess.run(command, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "warning" not in result.stdout + result.stderr
    result = subprocess.run([tmp_path / "example", _ext.LIBRARY], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "frame 0 keeps modalities 0 and 2, fused value 0.500",  # (0.9 * 0 + 0.3 * 2) / 1.2
        "frame 1 keeps modalities 1 and 3, fused value 2.200",  # (0.4 * 1 + 0.6 * 3) / 1.0
    ]
