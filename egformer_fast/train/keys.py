"""Configuration keys as data: what a dataclass field allows, the check of a value, and the words for both."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from egformer_fast.errors import ConfigError, as_yaml


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A field with its documentation and limits: low, high (both inclusive), above, choices, length, path."""
    metadata = {"doc": doc, **limits}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Key:
    """One configuration key: its type, whether null is allowed, and the limits given to `option`."""

    name: str
    type: Any
    optional: bool
    limits: Mapping[str, Any]

    def wanted(self) -> str:
        """The allowed values in words, such as `a list of 2 whole numbers >= 32, or null`."""
        names = {int: "whole number", float: "number", str: "string", bool: "true or false"}
        of_list = typing.get_origin(self.type) is list
        base = names[typing.get_args(self.type)[0] if of_list else self.type]
        if self.limits.get("choices"):
            text = "one of " + ", ".join(self.limits["choices"])
        elif of_list:
            count = f"{self.limits['length']} " if "length" in self.limits else ""
            text = f"a list of {count}{base}s"
        else:
            text = base if self.type is bool else f"a {base}"
        bounds = [
            f"{sign} {self.limits[k]}"
            for k, sign in (("low", ">="), ("above", ">"), ("high", "<="))
            if k in self.limits
        ]
        return text + (" " + " and ".join(bounds) if bounds else "") + (", or null" if self.optional else "")

    def convert(self, value: Any) -> Any:
        """`value` as the field's type, or ConfigError."""
        if value is None and self.optional:
            return None
        if typing.get_origin(self.type) is not list:
            return self._scalar(value, self.type, value)
        if not isinstance(value, list) or len(value) != self.limits.get("length", len(value)) or not value:
            raise self.error(value)
        return [self._scalar(entry, typing.get_args(self.type)[0], value) for entry in value]

    def _scalar(self, entry: Any, kind: type, whole: Any) -> Any:
        if kind is float and isinstance(entry, (int, float, str)) and not isinstance(entry, bool):
            # YAML 1.1 reads 1e-3, without a dot, as a string.
            try:
                entry = float(entry)
            except (ValueError, OverflowError):
                raise self.error(whole) from None
        if type(entry) is not kind or (kind is float and not math.isfinite(entry)):
            raise self.error(whole)
        limits = self.limits
        outside = (
            ("low" in limits and entry < limits["low"])
            or ("above" in limits and entry <= limits["above"])
            or ("high" in limits and entry > limits["high"])
        )
        if outside or ("choices" in limits and entry not in limits["choices"]):
            raise self.error(whole)
        return entry

    def error(self, found: Any) -> ConfigError:
        return ConfigError(f"{self.name}: found {as_yaml(found)}, wanted {self.wanted()}")


def keys_of(config: type) -> dict[str, Key]:
    """All keys of a dataclass of dataclasses, by section.name."""
    keys = {}
    for section in dataclasses.fields(config):
        cls = section.default_factory  # type: ignore[assignment]
        hints = typing.get_type_hints(cls)
        for entry in dataclasses.fields(cls):  # type: ignore[arg-type]
            kinds = [hints[entry.name]]
            if isinstance(kinds[0], types.UnionType):
                kinds = [kind for kind in typing.get_args(kinds[0]) if kind is not type(None)]
            name = f"{section.name}.{entry.name}"
            keys[name] = Key(name, kinds[0], hints[entry.name] != kinds[0], entry.metadata)
    return keys
