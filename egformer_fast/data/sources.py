"""Where descriptions come from: files, and those of the field's data sets that come with the package (sets/*.yaml).

`extends: deliver` (a shipped name, or a path relative to the file) starts a description from another one: mappings are
merged, anything else is replaced, and null takes away what the other one has; with a modality or case go the entries
of `failing` that name it. `name` is never inherited.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egformer_fast.errors import DataError, as_yaml
from egformer_fast.yaml_file import read_layers

from .section import nearest

SETS = Path(__file__).parent / "sets"
_SUFFIXES = (".yaml", ".yml")


def known_sets() -> list[str]:
    """Names of the shipped descriptions."""
    return sorted(path.stem for path in SETS.glob("*.yaml"))


def is_name(source: str | Path) -> bool:
    """Whether this means a shipped description: a word without folder and suffix does, anything else is a path."""
    path = Path(source)
    return path.suffix not in _SUFFIXES and len(path.parts) == 1


def find_description(source: str | Path) -> Path:
    """The file that a name or a path means (see is_name).

    Raises DataError for an unknown name, with the known ones. Whether a path exists is not looked at.
    """
    if not is_name(source):
        return Path(source)
    if str(source) not in known_sets():
        known = ", ".join(known_sets())
        raise DataError(f"no data set '{source}' comes with the package: wanted the path of a dataset.yaml, or {known}")
    return SETS / f"{source}.yaml"


def read_content(path: Path) -> Any:
    """The YAML content of a description, with what it extends merged in.

    Raises FileNotFoundError without the file, DataError for what is not YAML, has a key twice or extends itself.
    """
    return _folded(_layers(path))


def _folded(layers: list[tuple[Path, Any]]) -> Any:
    """The content of the last file, each merged into the one before it."""
    (base, merged), *above = layers
    for file, content in above:
        if not isinstance(merged, dict):
            raise DataError(f"{base}: wanted a mapping with text keys; found {as_yaml(merged)}")
        merged.pop("name", None)
        if isinstance(merged.get("root"), str):
            # A relative root is relative to the file that says it.
            merged["root"] = str((base.parent / merged["root"]).resolve())
        base, merged = file, _failing_kept(merged, _merged(merged, content))
    return merged


def _failing_kept(base: dict[Any, Any], merged: dict[Any, Any]) -> dict[Any, Any]:
    """`merged` without failures of what `base` has and `merged` has not: a name neither has is left, to be refused."""
    gone = {key: _names(base, key) - _names(merged, key) for key in ("cases", "modalities")}
    if not isinstance(merged.get("failing"), dict):
        return merged
    kept = {c: m for c, m in merged["failing"].items() if c not in gone["cases"] and m not in gone["modalities"]}
    return {**merged, "failing": kept}


def _names(content: dict[Any, Any], key: str) -> set[str]:
    """The text entries of a mapping or list, of content that nobody has checked yet."""
    value = content.get(key)
    return {name for name in value if isinstance(name, str)} if isinstance(value, (dict, list)) else set()


def self_contained(source: str | Path) -> str:
    """The text of a description that can be copied anywhere: the file as it is, or the merged content."""
    import yaml

    path = find_description(source)
    layers = _layers(path)
    if len(layers) == 1:
        return path.read_text(encoding="utf-8")
    return yaml.safe_dump({"name": path.stem, **_folded(layers)}, sort_keys=False, allow_unicode=True)


def _layers(path: Path) -> list[tuple[Path, Any]]:
    return read_layers(path, "data set description", DataError, _extended)


def _extended(path: Path, named: str) -> Path:
    try:
        return find_description(named)
    except DataError as error:
        raise DataError(f"{path}: extends: {error}; {nearest(named, known_sets())}") from error


def _merged(base: dict[Any, Any], changes: dict[Any, Any]) -> dict[Any, Any]:
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            result[key] = _merged(base[key], value)
        elif value is None and key in base:
            del result[key]
        else:
            result[key] = value
    return result
