"""One mapping of a YAML file, read key by key with types checked.

Every error is a DataError that names the file, the dotted key, what was found and what is wanted; a key that is not
known is refused with the nearest valid one.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

from egformer_fast.errors import DataError, as_yaml

Default = TypeVar("Default")
_REQUIRED: Any = object()


class Section:
    """`raw` is the mapping at the dotted key `where` of the file `source`; `known` lists its keys (None: any)."""

    def __init__(self, raw: object, source: str, where: str, known: Sequence[str] | None = None) -> None:
        self.source, self.where = source, where
        if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
            raise self._problem(where or "the file", "wanted a mapping with text keys", raw)
        self.raw: dict[str, Any] = raw
        for key in raw:
            if known is not None and key not in known:
                raise DataError(f"{self.source}: unknown key '{self._dotted(key)}'; {nearest(key, known)}")

    def _dotted(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def _problem(self, dotted: str, wanted: str, found: object) -> DataError:
        return DataError(f"{self.source}: {dotted}: {wanted}; found {as_yaml(found)}")

    def error(self, key: str, wanted: str, found: object) -> DataError:
        return self._problem(self._dotted(key), wanted, found)

    def has(self, key: str) -> bool:
        return self.raw.get(key) is not None

    def _get(self, key: str, default: Any, wanted: str, good: type | tuple[type, ...]) -> Any:
        value = self.raw.get(key)
        if value is None:
            if default is _REQUIRED:
                raise DataError(f"{self.source}: {self._dotted(key)} is missing; {wanted}")
            return default
        # True is an int for Python and 1.0 a float: neither is a count in a YAML file.
        if not isinstance(value, good) or (isinstance(value, bool) and good is not bool):
            raise self.error(key, wanted, value)
        return value

    def sub(self, key: str, known: Sequence[str] | None = None) -> Section:
        return Section(self._get(key, _REQUIRED, "wanted a mapping", dict), self.source, self._dotted(key), known)

    def names(self, key: str) -> list[str]:
        """The keys of a mapping that must have at least one."""
        names = list(self.sub(key).raw)
        if not names:
            raise self.error(key, "wanted at least one entry", {})
        return names

    def text(self, key: str, default: Default = _REQUIRED) -> str | Default:
        return self._get(key, default, "wanted text", str)

    def flag(self, key: str, default: bool) -> bool:
        return self._get(key, default, "wanted true or false", bool)

    def integer(self, key: str, default: Default = _REQUIRED) -> int | Default:
        return self._get(key, default, "wanted a whole number", int)

    def number(self, key: str, default: Default = _REQUIRED) -> float | Default:
        value = self._get(key, default, "wanted a number", (int, float))
        if isinstance(value, (int, float)) and not math.isfinite(value):
            raise self.error(key, "wanted a finite number", value)
        return value

    def texts(self, key: str, default: Default = _REQUIRED) -> list[str]:
        values = self._get(key, default, "wanted a list of names", (list, tuple))
        if not all(isinstance(value, str) for value in values):
            raise self.error(key, "wanted a list of names (quote yes, no, on, off)", values)
        return values

    def integers(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        values = self._get(key, default, "wanted a list of whole numbers", (list, tuple))
        if not all(type(value) is int for value in values):
            raise self.error(key, "wanted a list of whole numbers", values)
        return tuple(values)

    def integer_map(self, key: str) -> dict[int, int]:
        values = self._get(key, _REQUIRED, "wanted a mapping of whole numbers", dict)
        if not all(type(number) is int for pair in values.items() for number in pair):
            raise self.error(key, "wanted a mapping of whole numbers", values)
        return dict(values)

    def numbers(self, key: str, count: int, default: tuple[float, ...]) -> tuple[float, ...]:
        """`count` finite numbers; one number stands for all of them."""
        wanted = f"wanted {count} finite numbers, one a channel"
        values = self._get(key, default, wanted, (list, tuple, int, float))
        values = list(values) if isinstance(values, (list, tuple)) else [values] * count
        if len(values) != count or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
            raise self.error(key, wanted, values)
        return tuple(float(value) for value in values)

    def choice(self, key: str, options: Sequence[str], default: Default = _REQUIRED) -> str | Default:
        value = self._get(key, default, f"wanted one of {', '.join(options)}", str)
        if isinstance(value, str):
            self.check_name(key, value, options, "value")
        return value

    def check_name(self, key: str, value: str, options: Sequence[str], noun: str) -> None:
        if value not in options:
            raise DataError(f"{self.source}: {self._dotted(key)}: unknown {noun} '{value}'; {nearest(value, options)}")


def nearest(name: str, options: Sequence[str]) -> str:
    """A hint for a message: the nearest of the valid names, or all of them where none is near."""
    close = difflib.get_close_matches(name, options, n=1)
    return f"did you mean '{close[0]}'?" if close else f"valid: {', '.join(options) or 'none'}"
