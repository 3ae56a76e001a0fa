"""Benchmarks: `python -m benchmarks.run [case ...]` writes benchmarks/results/<case>.json, and
`python -m benchmarks.tables` turns the result files into the tables of README.md."""
