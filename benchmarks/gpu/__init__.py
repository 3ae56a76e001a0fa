"""Measurements on a GPU: what `benchmarks/gpu_day.sh` runs, one part after the other.

    device.py       what the device is, its clock, its measured ceilings of copying and of matrix products
    agree.py        the rule by which an implementation equals the reference, before it is timed
    baselines.py    the implementations of an op: eager, torch.compile, SDPA, FlexAttention, our backends
    op_timing.py    the three ops at the stage shapes of EGFormer-B0 on DELIVER
    model_timing.py latency and memory of the whole model, with and without CUDA graphs
    checks.py       the op tests on the device, and under compute-sanitizer
    part.py         a result file that grows row by row; a part in processes of its own, restarted after a crash

Every part takes the device as an argument. On the CPU the same code runs with tiny shapes and the host's clock: that
is the rehearsal, whose figures mean nothing and are never committed. `python -m benchmarks.gpu PART` runs one part.
"""
