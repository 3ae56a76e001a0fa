"""The committed reports on the CUDA kernels, besides nvcc's: counters at the stages' shapes, seeded faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutations import MUTATIONS, OPS, Mutation

from benchmarks.cuda_sources import digest, simt_build
from benchmarks.registry import read_result

COUNTERS = read_result("cuda_counters")


def test_counters_are_of_these_sources() -> None:
    how = "python -m benchmarks.run cuda_counters"
    assert COUNTERS["sources"] == digest(), f"the kernels have changed since the report was written; run `{how}`"


def test_memory_is_requested_as_the_floor_has_it() -> None:
    """At most 5 % more than what must move, and no further passes over the banks of shared memory. Pool reads x once;
    the sums that it writes, which stay in the L2 cache, are 12.5 % of a small map: small pieces of it wait less."""
    rows = COUNTERS["rows"]
    assert {row["op"] for row in rows} == set(OPS) and {row["stage"] for row in rows} == {1, 2, 3, 4}
    for row in rows:
        assert row["bank_conflicts"] == 0, row
        if row["floor"] is not None:
            pool = row["kernel"] == "modality_score: pool"
            assert not pool or row["load_sectors"] == row["floor"], row
            more = 1.125 if pool else 1.05
            assert row["floor"] <= row["load_sectors"] + row["store_sectors"] <= more * row["floor"], row


def test_16_bit_attention_multiplies_on_tensor_cores() -> None:
    main = ("modality_attention", "modality_attention_d_queries", "modality_attention_d_keys")
    for row in COUNTERS["rows"]:
        assert (row["matrix_products"] > 0) == (row["kernel"] in main and row["dtype"] == "bfloat16"), row


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{Path(m.file).stem}: {' '.join(m.old.split())}")
def test_every_fault_can_still_be_seeded(mutation: Mutation) -> None:
    assert (simt_build.CSRC / mutation.file).read_text().count(mutation.old) == 1


def test_every_seeded_fault_was_caught() -> None:
    rows = read_result("cuda_mutations")["rows"]
    assert [(row["file"], row["old"], row["new"]) for row in rows] == [mutation.key for mutation in MUTATIONS]
    assert [row for row in rows if row["outcome"] != "caught" or not row["by"]] == []
