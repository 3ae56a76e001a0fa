"""The Triton backend: one file an op, kernels first, then the launchers that `ops/_register.py` puts behind the op's
name. Imported at the first launch, never by `import egformer_fast`.

A launcher takes the arguments of its op's schema, already checked, and returns its outputs. No launcher reads a tensor
on the host, so every op can be captured in a CUDA graph. Pointers that may be None are specialised away.
"""
