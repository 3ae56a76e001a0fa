"""Reading the YAML that a user wrote: plain data, no key twice, and `extends: other.yaml` for what it starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from egformer_fast.errors import as_yaml

# The error of whoever reads: ConfigError or DataError.
Error = type[ValueError]


def parse_yaml(text: str, where: str, error: Error) -> Any:
    """safe_load that refuses a key given twice instead of silently taking the last; `where` begins every message."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [self.construct_object(key, deep=True) for key, _ in node.value]
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise error(f"{where}: key {twice[0]} is given twice")
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as problem:
        raise error(f"{where}: not valid YAML: {' '.join(str(problem).split())}") from None


def read_yaml(path: Path, what: str, error: Error) -> Any:
    """A file's content; `what` it is, for the FileNotFoundError without it."""
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise error(f"{path}: not a text file in UTF-8: {problem}") from None
    return parse_yaml(text, str(path), error)


def read_layers(path: Path, what: str, error: Error, find: Callable[[Path, str], Path]) -> list[tuple[Path, Any]]:
    """The content of a file and of what it extends, the first of these first, each without the key `extends`.

    Args:
        find: of the file and of the text after its `extends:`, the path that this means, relative to the file's folder.
    """
    content = read_yaml(path, what, error)
    layers, files = [(path, content)], [path.resolve()]
    while isinstance(content, dict) and "extends" in content:
        named = content.pop("extends")
        if not isinstance(named, str):
            raise error(f"{path}: extends: found {as_yaml(named)}, wanted the {what} that it starts from")
        base = path.parent / find(path, named)
        if base.resolve() in files:
            raise error(f"{path}: extends: {named} leads back to itself")
        path, content = base, read_yaml(base, what, error)
        layers.insert(0, (path, content))
        files.append(path.resolve())
    return layers
