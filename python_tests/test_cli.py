"""The command line's door, and the report of python -m egformer_fast.info."""

from __future__ import annotations

import subprocess
import sys

import pytest

import egformer_fast
from egformer_fast import cli, info, use_backend
from egformer_fast.ops import _backend


def test_usage_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(name in usage for name in cli.COMMANDS)


def test_unknown_command_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["trian"]) == 2
    assert "unknown command 'trian'" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert f"egformer-fast {name}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == egformer_fast.__version__


def test_info_says_which_backend_each_op_takes_and_what_the_others_lack() -> None:
    report = info.report()
    for op in _backend.OPS:
        for device_type in ("cpu", "cuda"):
            (line,) = [line for line in report.splitlines() if line.startswith(op) and f" on {device_type}" in line]
            chosen, refusals = _backend.choose(device_type)
            assert f"-> {chosen}" in line
            assert all(f"not {name}: {reason}" in line for name, reason in refusals.items())
    with use_backend("triton"):
        assert "-> none: backend 'triton' is forced" in info.report()


def test_info_runs_as_a_module() -> None:
    result = subprocess.run([sys.executable, "-m", "egformer_fast.info"], capture_output=True, text=True, check=True)
    assert result.stdout.startswith(f"egformer_fast  {egformer_fast.__version__}")
