"""Builds egformer_fast/_C.so with CMake; everything else is in pyproject.toml.

    EGFORMER_BUILD=0       install without the C++ library (every op runs on the reference backend)
    EGFORMER_CUDA=auto|1|0 CUDA kernels: where there is an nvcc, always, never
    EGFORMER_CUDA_ARCHS    their architectures, as CMake writes them: "80-real;90-real;90-virtual"; default: those of
                           CMakeLists.txt that the nvcc knows

torch is found by its path in the environment that is installed into, never imported: build isolation hides it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


def refuse(message: str) -> SystemExit:
    return SystemExit(f"\negformer_fast: {message}\n(EGFORMER_BUILD=0 installs without the C++ library.)\n")


def torch_folder() -> Path:
    for scheme in ("platlib", "purelib"):
        folder = Path(sysconfig.get_path(scheme)) / "torch"
        if (folder / "lib").is_dir():
            return folder
    raise refuse("torch is not installed here; run `pip install torch` (2.11 or later) first")


def find_nvcc() -> Path | None:
    """The nvcc of CUDA_HOME, else the one on PATH or in the usual place; a wrapper script is looked through."""
    home = os.environ.get("CUDA_HOME")
    places = f"{home}/bin" if home else os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/cuda/bin"])
    found = shutil.which("nvcc", path=places)
    if found is None:
        return None
    report = subprocess.run(
        [found, "--dryrun", "-E", "-x", "cu", os.devnull], capture_output=True, text=True, check=False
    )
    top = re.search(r"^#\$ TOP=(.+)$", report.stderr, re.MULTILINE)
    return (Path(top[1].strip()) / "bin" / "nvcc").resolve() if top else Path(found)


def cuda_options() -> tuple[list[str], list[str]]:
    """CMake's options for the CUDA kernels, and their architectures; both empty where they are not built."""
    nvcc = None if os.environ.get("EGFORMER_CUDA", "auto") == "0" else find_nvcc()
    if nvcc is None:
        return ["-DEGFORMER_CUDA=OFF"], []
    default = re.search(r'EGFORMER_CUDA_ARCHS "([^"]+)"', (ROOT / "CMakeLists.txt").read_text())
    assert default is not None
    archs = os.environ.get("EGFORMER_CUDA_ARCHS") or known_archs(nvcc, default[1])
    return (
        ["-DEGFORMER_CUDA=ON", f"-DEGFORMER_CUDA_ARCHS={archs}", f"-DCMAKE_CUDA_COMPILER={nvcc}"],
        archs.split(";"),
    )


def known_archs(nvcc: Path, wanted: str) -> str:
    """Those that this toolkit compiles for; an older one does not know the newest GPUs, which then run the PTX."""
    report = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=False)
    known = re.findall(r"compute_(\w+)", report.stdout)
    fitting = [arch for arch in wanted.split(";") if arch.partition("-")[0] in known]
    if not fitting:
        raise refuse(
            f"{nvcc} knows none of the architectures {wanted}; install the CUDA toolkit 12 or later, name others in "
            "EGFORMER_CUDA_ARCHS, or leave the CUDA kernels out with EGFORMER_CUDA=0"
        )
    unknown = [arch for arch in wanted.split(";") if arch not in fitting]
    if unknown:
        print(f"egformer_fast: {nvcc} does not know {', '.join(unknown)}; CUDA kernels for {', '.join(fitting)} alone")
    return ";".join(fitting)


def check_tools() -> None:
    compiler = os.environ.get("CXX", "c++")
    if shutil.which(compiler.split()[0]) is None:
        raise refuse(f"there is no C++ compiler ({compiler}); install g++ 12 or later, or name one in CXX")
    wanted = os.environ.get("EGFORMER_CUDA", "auto")
    if wanted not in ("auto", "0", "1"):
        raise refuse(f"EGFORMER_CUDA must be auto, 1 or 0, got {wanted!r}")
    if wanted == "1" and find_nvcc() is None:
        raise refuse("EGFORMER_CUDA=1, but there is no nvcc; install the CUDA toolkit (CUDA_HOME names its folder)")
    if shutil.which("cmake") is None:
        raise refuse("there is no cmake; run `pip install cmake ninja`")


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        check_tools()
        torch = torch_folder()
        library = Path(self.get_ext_fullpath(ext.name)).resolve()
        work = Path(self.build_temp).resolve()
        work.mkdir(parents=True, exist_ok=True)
        cuda, archs = cuda_options()
        options = [f"-DTORCH_DIR={torch}", f"-DEGFORMER_OUT={library.parent}", *cuda]
        if shutil.which("ninja"):
            options += ["-G", "Ninja"]
        for command in (["cmake", "-S", str(ROOT), "-B", str(work), *options], ["cmake", "--build", str(work)]):
            if subprocess.run(command, check=False).returncode != 0:
                raise refuse("the C++ library does not compile; the compiler's messages are above")
        metadata = [folder.name for folder in torch.parent.glob("torch-*.dist-info")]
        releases = [name.removeprefix("torch-").removesuffix(".dist-info") for name in metadata]
        facts = {"torch": releases[0] if releases else "unknown", "cuda_archs": archs}
        # An editable install copies the library into the source tree, and nothing else.
        folder = ROOT / "egformer_fast" if self.editable_mode else library.parent
        (folder / "_build.json").write_text(json.dumps(facts) + "\n")

    def get_ext_filename(self, ext_name: str) -> str:
        """The stable ABI and no Python symbols: one file for every CPython."""
        return os.path.join(*ext_name.split(".")) + ".so"


class Wheel(bdist_wheel):
    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


built = os.environ.get("EGFORMER_BUILD", "1") != "0"
setup(
    ext_modules=[Extension("egformer_fast._C", [])] if built else [],
    cmdclass={"build_ext": CMakeBuild, "bdist_wheel": Wheel} if built else {},
)
