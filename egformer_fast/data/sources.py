"""Where descriptions come from: files, and those of the field's data sets that come with the package (sets/*.yaml).

`extends: deliver` (a shipped name, or a path relative to the file) starts a description from another one: mappings are
merged, anything else is replaced, and null takes away what the other one has. `name` is never inherited.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from egformer_fast.errors import DataError

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


def read_content(path: Path) -> object:
    """The YAML content of a description, with what it extends merged in.

    Raises FileNotFoundError without the file, DataError for what is not YAML or extends itself.
    """
    return _read(path, ())


def self_contained(source: str | Path) -> str:
    """The text of a description that can be copied anywhere: the file as it is, or the merged content."""
    import yaml

    path = find_description(source)
    text, content = path.read_text(encoding="utf-8"), read_content(path)
    if not isinstance(content, dict) or "extends" not in _loaded(path):
        return text
    return yaml.safe_dump({"name": path.stem, **content}, sort_keys=False, allow_unicode=True)


def _loaded(path: Path) -> Any:
    import yaml

    if not path.is_file():
        raise FileNotFoundError(f"data set description {path} does not exist")
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error


def _read(path: Path, above: tuple[Path, ...]) -> Any:
    content = _loaded(path)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    named = content.pop("extends")
    if not isinstance(named, str):
        raise DataError(f"{path}: extends: wanted the name or the path of a description; found {named!r}")
    try:
        found = find_description(named)
    except DataError as error:
        raise DataError(f"{path}: extends: {error}; {nearest(named, known_sets())}") from error
    base = path.parent / found
    if base.resolve() in (path.resolve(), *above):
        raise DataError(f"{path}: extends: {named} leads back to itself")
    inherited = _read(base, (*above, path.resolve()))
    if not isinstance(inherited, dict):
        raise DataError(f"{base}: wanted a mapping with text keys; found {inherited!r}")
    inherited.pop("name", None)
    if isinstance(inherited.get("root"), str):
        # A relative root is relative to the file that says it.
        inherited["root"] = str((base.parent / inherited["root"]).resolve())
    return _merged(inherited, content)


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
