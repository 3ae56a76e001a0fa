"""What the tables share: the registry, Markdown, and the line that says where a figure comes from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TABLES: dict[str, Callable[[], str]] = {}


def table(function: Callable[[], str]) -> Callable[[], str]:
    TABLES[function.__name__] = function
    return function


def markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def source(result: dict[str, Any]) -> str:
    where = result["machine"]
    return f"*`{result['command']}`, {result['date']}, {where['processor']}, torch {where['torch']}.*"
