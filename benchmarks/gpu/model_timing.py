"""Latency and memory of the whole model: EGFormer-B0, four sensors, 25 classes, fused head, inference.

latency: from the call on an idle device to the result, on the host's clock, the variants taking turns; device_s: what
the device spends on it (DeviceClock). "graph" replays a captured CUDA graph, "compile" is torch.compile (static
shapes) over the backend that is taken first. Every variant's logits are compared with the reference backend's in
float32 on the same device before it is timed: error <= sqrt(eps) * largest logit (half of the dtype's digits, since
roundings add up over the layers) + 2 * error of the reference in the dtype under test. Weights are random: sensor
embeddings and the attention's projections, which start at zero, too, so that scores are far apart and the attention
shows in the logits.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.agree import error_of
from benchmarks.gpu.baselines import compiler, usable_backends
from benchmarks.gpu.device import clock, is_gpu, peak_bytes, synchronize
from benchmarks.gpu.part import OutOfTime, Part
from benchmarks.latency import NAMES
from benchmarks.timing import alternate, wall_clock
from egformer_fast import use_backend
from egformer_fast.models import EGFormer, create_model

CLASSES = 25
KEEPS = ((3, 2, 1, 1), (4, 4, 4, 4))
COMPILE_SECONDS = 60.0  # torch.compile of the whole model is begun only when this much is left


def model_of(dtype: torch.dtype, device: str, fuse: bool = True) -> EGFormer:
    torch.manual_seed(0)
    model = create_model("egformer_b0", CLASSES, NAMES, flow="separate")
    nn.init.normal_(model.inputs.sensor_embedding)
    for fusion in model.fusion:
        nn.init.normal_(fusion.attention.proj.weight, std=fusion.attention.proj.in_features**-0.5)
        nn.init.normal_(fusion.score.fc2.weight, std=2.0)
    model.eval()
    if fuse:
        model.fuse_()
    model.validate = False  # reads a result on the host: no CUDA graph can hold that
    return model.to(device=device, dtype=dtype)


def frame(size: int, batch: int, dtype: torch.dtype, device: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(batch, 3, size, size).to(device=device, dtype=dtype) for name in NAMES}


def places(tiny: bool) -> Iterator[dict[str, Any]]:
    """What is measured, the most wanted first; compiled ones last."""
    sizes, batches, dtypes, keeps = (512, 1024), (1, 8), ("bfloat16", "float32"), KEEPS
    if tiny:
        sizes, batches, dtypes, keeps = (64,), (2,), ("float32",), KEEPS[:1]
    for dtype, keep, batch, size in itertools.product(dtypes, keeps, batches, sizes):
        yield {"dtype": dtype, "keep": list(keep), "batch": batch, "size": size, "modes": "eager, graph"}
    common = {"dtype": dtypes[0], "keep": list(KEEPS[0]), "batch": batches[0]}
    for size in sizes:
        yield {**common, "size": size, "modes": "eager, compile"}


def captured(run: Callable[[], Tensor], device: str) -> Callable[[], Tensor]:
    """The call as a CUDA graph: replays it and returns the tensor that holds its result.

    Raises:
        RuntimeError: the device is no GPU, or the call can't be captured.
    """
    if not is_gpu(device):
        raise RuntimeError("CUDA graphs need a GPU")
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay


def builders(
    model: EGFormer, inputs: dict[str, Tensor], where: dict[str, Any], device: str
) -> dict[str, Callable[[], Callable[[], Tensor]]]:
    """Name -> what makes the variant (captures, compiles); the first one is the reference backend in eager mode."""
    found: dict[str, Callable[[], Callable[[], Tensor]]] = {}
    backends = ["reference", *(name for name in usable_backends(device) if name != "reference")]

    def call(backend: str, run_model: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with use_backend(backend):
                return run_model(inputs, keep=tuple(where["keep"]))

        return run

    for backend in backends:
        run = call(backend, model)
        found[f"{backend} eager"] = lambda run=run: run
        if "graph" in where["modes"]:
            found[f"{backend} graph"] = lambda run=run: captured(run, device)
    if "compile" in where["modes"]:
        run = call("auto", torch.compile(model, dynamic=False, backend=compiler(device)))
        found["compile"] = lambda: run
        found["compile graph"] = lambda: captured(run, device)
    return found


def disagreement(got: Tensor, exact: Tensor, plain: Tensor) -> str | None:
    """What is wrong with the logits, in one sentence; or None."""
    bound = math.sqrt(torch.finfo(got.dtype).eps) * float(exact.abs().max()) + 2 * error_of(plain, exact)
    error = error_of(got, exact)
    if error <= bound < math.inf:
        return None
    return f"disagrees with the reference in its logits: error {error:.3e}, bound {bound:.3e}"


def reference_logits(model: EGFormer, inputs: dict[str, Tensor], where: dict[str, Any]) -> Tensor:
    with use_backend("reference"):
        return model(inputs, keep=tuple(where["keep"]))


def usable(part: Part, where: dict[str, Any], exact: Tensor) -> dict[str, tuple[Callable[[], Tensor], int | None]]:
    """Variants that agree, with the memory that they need at their peak (for a graph: while it is captured)."""
    dtype = getattr(torch, where["dtype"])
    inputs = frame(where["size"], where["batch"], dtype, part.device)
    model = model_of(dtype, part.device)
    plain = reference_logits(model, inputs, where)
    found: dict[str, tuple[Callable[[], Tensor], int | None]] = {}
    for name, build in builders(model, inputs, where, part.device).items():
        if name in part.data["lost"]:
            continue
        ours = name.split()[0] in usable_backends(part.device) and is_gpu(part.device)
        part.begin(where, name, ours)
        made: list[Callable[[], Tensor]] = []
        try:
            building = peak_bytes(lambda build=build, made=made: made.append(build()), part.device)
            if not made:
                made.append(build())
            problem: str | Exception | None = disagreement(made[0](), exact, plain)
            if problem is None:
                peak = building if name.endswith("graph") else peak_bytes(made[0], part.device)
                found[name] = made[0], peak
                continue
        except Exception as error:  # whatever a variant raises, the others go on
            problem = error
        part.fail(where, name, problem, ours)
    return found


def exact_logits(where: dict[str, Any], device: str) -> Tensor:
    """The reference backend's in float32, convolutions without TF32."""
    inputs = frame(where["size"], where["batch"], torch.float32, device)
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        return reference_logits(model_of(torch.float32, device), inputs, where)
    finally:
        torch.backends.cudnn.allow_tf32 = before


def measure(part: Part, where: dict[str, Any]) -> None:
    if "compile" in where["modes"] and not part.tiny and part.left() < COMPILE_SECONDS:
        raise OutOfTime
    part.begin(where)
    variants = usable(part, where, exact_logits(where, part.device))
    part.begin(where)
    runs = {name: run for name, (run, _) in variants.items()}
    rounds, warmup = (3, 1) if part.tiny else (20, 5)

    def latency(run: Callable[[], Any]) -> float:
        synchronize(part.device)
        return wall_clock(lambda: (run(), synchronize(part.device)))

    timings = alternate(runs, rounds, warmup, latency) if runs else {}
    device = alternate(runs, rounds, warmup, clock(part.device)) if runs else {}
    for name, (_, peak) in variants.items():
        timings[name] |= {"device_s": device[name]["median_s"], "peak_bytes": peak}
    part.add([{**where, "timings": timings}])


def run(part: Part) -> int:
    """All places, until the time is up."""
    part.data["cudnn_tf32"] = torch.backends.cudnn.allow_tf32  # of float32 convolutions; torch's default is True
    with torch.inference_mode():
        for where in places(part.tiny):
            part.attempt(where, functools.partial(measure, part, where))
    return part.finish()
