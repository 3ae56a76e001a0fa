"""benchmarks/gpu/checks.py over a test file that needs no torch: counts, interruption, compute-sanitizer."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from gpu_parts import part, read

from benchmarks.gpu import checks, summary

TESTS = """
import time, pytest
from pathlib import Path

@pytest.mark.parametrize("device", ["reference-cpu", "cuda-cuda"])
def test_strided_input(device):
    assert device == "reference-cpu", "wrong on a GPU"

def test_slow():
    Path(__file__).with_name("begun").touch()
    time.sleep(600)
"""


@pytest.fixture
def small_tests(tmp_path, monkeypatch):
    """A test file that needs no torch, in place of the op tests."""
    folder = tmp_path / "tests"
    (folder / "ops").mkdir(parents=True)
    (folder / checks.FILES[1]).write_text(TESTS)
    (folder / "ops" / "conftest.py").write_text('from hypothesis import settings\nsettings.register_profile("brief")\n')
    monkeypatch.setattr(checks, "TESTS", folder)
    return checks.FILES[1]


def test_jobs_of_pytest_are_counted(tmp_path, small_tests):
    """One job passes, one fails, one selects nothing."""
    jobs = [checks.Job("any", small_tests, select) for select in ("reference-cpu", "strided_input", "no_such_test")]
    assert checks.finish(part(tmp_path), jobs, 2) == 1
    good, bad, empty = read(tmp_path)["rows"]
    assert (good["passed"], good["failed"], good["problem"]) == (1, 0, None)
    assert (bad["passed"], bad["failed"], bad["problem"]) == (1, 1, "status 1")
    assert (empty["passed"], empty["problem"]) == (0, "status 5")
    errors = [failure["error"] for failure in read(tmp_path)["failures"]]
    assert errors[0].startswith("status 1, 1 failed; test_strided_input[cuda-cuda]: AssertionError: wrong on a GPU")
    assert len(errors) == 2


def test_a_job_that_takes_too_long_keeps_what_it_has_shown(tmp_path, small_tests, monkeypatch):
    """The time is up as soon as the second test has begun: it does not count as passed."""

    class Impatient(subprocess.Popen):
        def communicate(self, input=None, timeout=None):
            while timeout is not None and timeout > 100:
                if (tmp_path / "tests" / "ops" / "begun").exists():
                    raise subprocess.TimeoutExpired(self.args, timeout)
                time.sleep(0.05)
            return super().communicate(input, timeout)

    monkeypatch.setattr(subprocess, "Popen", Impatient)
    assert checks.finish(part(tmp_path), [checks.Job("any", small_tests, "reference-cpu or slow")], 1) == 1
    (row,) = read(tmp_path)["rows"]
    assert (row["passed"], row["failed"], row["problem"]) == (1, 0, "stopped: its time was up")


def test_junit_reports_are_read(tmp_path):
    report = tmp_path / "junit.xml"
    assert checks.read_junit(report, False)["passed"] == 0
    cases = (
        '<testcase name="a"/>',
        '<testcase name="b"><failure message="assert 1&#10;more"/></testcase>',
        '<testcase name="c"><skipped/></testcase>',
        '<testcase name="d"><error message=""/></testcase>',
    )
    report.write_text(f"<testsuites><testsuite>{''.join(cases)}</testsuite></testsuites>")
    counts = checks.read_junit(report, False)
    assert (counts["passed"], counts["failed"], counts["skipped"]) == (1, 2, 1)
    assert counts["failures"] == [{"test": "b", "error": "assert 1"}, {"test": "d", "error": ""}]


@pytest.mark.parametrize("folder", ["bin", "compute-sanitizer"])
def test_the_sanitizer_is_found_in_a_toolkit(tmp_path, monkeypatch, folder):
    """CUDA_HOME's before that of the usual place."""
    for home in ("toolkit", "home"):
        tool = tmp_path / home / folder / "compute-sanitizer"
        tool.parent.mkdir(parents=True)
        tool.touch(0o755)
    monkeypatch.setattr(checks, "TOOLKIT", str(tmp_path / "toolkit"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    assert checks.find_sanitizer() == str(tmp_path / "toolkit" / folder / "compute-sanitizer")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "home"))
    assert checks.find_sanitizer() == str(tool)


def test_the_sanitizer_runs_the_tests_where_it_is(tmp_path, monkeypatch, small_tests):
    monkeypatch.setattr(checks, "TOOLKIT", str(tmp_path / "toolkit"))
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert checks.run_sanitizer(part(tmp_path)) == 0
    assert "not on PATH" in read(tmp_path)["absent"]
    assert ": not run: compute-sanitizer is not on PATH" in summary.report(tmp_path, "cpu")
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "$@" > "$0.words"\nshift 4\nexec "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setattr(checks, "usable_backends", lambda device: ["reference"])
    assert checks.run_sanitizer(part(tmp_path)) == 0
    (row,) = read(tmp_path)["rows"]
    assert row["passed"] == 1 and row["backend"] == "reference, memcheck"
    assert Path(f"{tool}.words").read_text().startswith("--tool memcheck --error-exitcode 99 ")
