"""README.md: its Python examples run as they stand. Its tables, and those of docs/, are the committed results'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from benchmarks import tables
from egformer_fast.data.description import parse_description

README = Path(__file__).parent.parent / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), flags=re.S)


@pytest.mark.parametrize("code", blocks("python"), ids=range(len(blocks("python"))))
def test_python_examples_run(code):
    # Names such as feature_map are for the reader; that the block runs through is the test.
    exec(compile(code, str(README), "exec"), {})


def test_dataset_example_is_a_valid_description():
    (example,) = blocks("yaml")
    description = parse_description(yaml.safe_load(example), README)
    assert description.modalities["thermal"].optional


@pytest.mark.parametrize("page", tables.PAGES, ids=lambda page: page.name)
def test_tables_are_up_to_date(page):
    assert tables.rendered(page.read_text()) == page.read_text()
