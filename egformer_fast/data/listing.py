"""Which frames a split has, and where their files lie.

A frame's name is its {id}, or "{condition}/{id}" where the templates have conditions; it is unique in a split. Names
are read off the files that match the label's template (of all templates where there is no label, or an optional one),
or come from a list file. A seeded share takes the names that sort first by sha256("seed:name"): it depends on the seed
and the names alone, not on their order, the file system or a library's generator.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from egformer_fast.errors import DataError

from .description import Description, Split
from .section import nearest
from .sources import SETS


def find_root(description: Description, root: str | Path | None = None) -> Path:
    """Where the data lie (see FolderDataset). Raises DataError where that folder does not exist."""
    env = description.root_env
    if root is not None:
        path, origin = Path(root), "given as root"
    elif env and os.environ.get(env):
        path, origin = Path(os.environ[env]), f"from the environment variable {env}"
    elif description.root is None and description.source.parent == SETS:
        wanted = "give it as root (--root, data.root)" + (f", or set {env}" if env else "")
        raise DataError(f"data set '{description.name}' lies in a folder that is not known: {wanted}")
    else:
        path, origin = description.source.parent / (description.root or ""), f"from {description.source}"
        origin += f"; {env} is not set" if env else ""
    if not path.expanduser().is_dir():
        raise DataError(f"root folder {path} of data set '{description.name}' does not exist ({origin})")
    return path.expanduser()


def list_names(description: Description, root: Path, split: str) -> list[str]:
    """Sorted frame names of a split.

    Raises DataError: unknown split, empty split (naming template and folder), a list file that is absent, empty or
    names a frame twice.
    """
    if split not in description.splits:
        hint = nearest(split, list(description.splits))
        raise DataError(f"data set '{description.name}' has no split '{split}'; {hint}")
    chosen = description.splits[split]
    if chosen.of is None:
        return _from_list(description, root, chosen) if chosen.list_file else _from_files(description, root, chosen)
    names = list_names(description, root, chosen.of)
    if chosen.without is not None:
        taken = set(list_names(description, root, chosen.without))
        part, reason = [name for name in names if name not in taken], f"without '{chosen.without}'"
    else:
        share = chosen.share or 0.0
        part, reason = seeded_share(names, share, chosen.seed), f"a share of {share}"
    if not part:
        raise DataError(
            f"split '{split}' of data set '{description.name}' is empty: "
            f"'{chosen.of}' has {len(names)} frames, and {reason} leaves none"
        )
    return part


def seeded_share(names: list[str], share: float, seed: int) -> list[str]:
    """Sorted round(share · count) of the names, drawn by hash (see the head of this file)."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return sorted(order[: round(share * len(names))])


def base_split(description: Description, split: str) -> Split:
    """The split with a folder or a list that this one is a part of, or the split itself."""
    chosen = description.splits[split]
    return base_split(description, chosen.of) if chosen.of is not None else chosen


def place(template: str, folder: str, name: str, conditions: bool) -> str:
    """Path of a frame's file relative to the root; `conditions`: the name starts with one. {part} stays."""
    condition, identity = name.split("/", 1) if conditions else ("", name)
    parts = {"split": folder, "condition": condition, "id": identity, "part": "{part}"}
    return re.sub(r"{(\w+)}", lambda match: parts[match[1]], template)


def _listed(line: str, patterns: list[re.Pattern[str]], conditions: bool) -> str:
    """The name that a line of a list file means: it says it, or a path (of several) that one of the templates gives."""
    for word in line.split():
        for pattern in patterns:
            match = pattern.fullmatch(word)
            if match and (not conditions or "condition" in pattern.groupindex):
                return _name(match, conditions)
    return line


def _name(match: re.Match[str], conditions: bool) -> str:
    return f"{match['condition']}/{match['id']}" if conditions else match["id"]


def matching_names(template: str, root: Path, folder: str, conditions: bool) -> set[str]:
    """Names of all frames that have a file of this template under the root."""
    template = template.replace("{split}", folder)
    pattern = re.compile(_pattern(template))
    names = set()
    for path in _walk(root, _fixed_folder(template)):
        if match := pattern.fullmatch(path):
            names.add(_name(match, conditions))
    return names


def _pattern(template: str) -> str:
    """A regular expression with the groups condition and id; a placeholder that comes again must match the same."""
    seen: set[str] = set()

    def group(part: str) -> str:
        if part not in ("{id}", "{condition}"):
            return re.escape(part)
        name = part[1:-1]
        if name in seen:
            return f"(?P={name})"
        seen.add(name)
        return f"(?P<{name}>.+)" if name == "id" else f"(?P<{name}>[^/]+)"

    return "".join(group(part) for part in re.split(r"({\w+})", template))


def _fixed_folder(template: str) -> str:
    """The folders of a template before its first placeholder."""
    return template.split("{", 1)[0].rpartition("/")[0]


def _walk(root: Path, folder: str) -> Iterator[str]:
    """Paths relative to the root, with forward slashes, of the files below root/folder; hidden ones are left out."""
    visited = set()
    for here, folders, files in os.walk(root / folder, followlinks=True):
        # A link may lead back up: each real folder is entered once.
        real = os.path.realpath(here)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(here).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        yield from (prefix + name for name in files if not name.startswith("."))


def _from_files(description: Description, root: Path, split: Split) -> list[str]:
    label, folder = description.label, split.folder or ""
    templates = [sensor.first_path for sensor in description.modalities.values()]
    if label and not split.unlabelled:
        templates = [*templates, label.path] if label.optional else [label.path]
    names: set[str] = set()
    for template in templates:
        names |= matching_names(template, root, folder, description.has_conditions)
    if not names:
        searched = [template.replace("{split}", folder) for template in templates]
        places = [root / _fixed_folder(template) for template in searched]
        raise DataError(
            f"split '{split.name}' of data set '{description.name}' is empty: "
            + "; ".join(
                f"'{template}' matches no file in {where}{'' if where.is_dir() else ', which does not exist'}"
                for template, where in zip(searched, places, strict=True)
            )
            + _root_hint(description, root)
        )
    return sorted(names)


def _root_hint(description: Description, root: Path) -> str:
    """The usual reason for an empty split: nobody said where the data are."""
    env = description.root_env
    unset = env and not os.environ.get(env) and root == description.source.parent
    return f" ({env} is not set and no root was given, so the description's own folder was searched)" if unset else ""


def _from_list(description: Description, root: Path, split: Split) -> list[str]:
    path = root / str(split.list_file)
    where = f"split '{split.name}' of data set '{description.name}'"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: list file {path} cannot be read: {error}{_root_hint(description, root)}") from error
    patterns = [
        re.compile(_pattern(template.replace("{split}", split.folder or "")))
        for template in description.templates().values()
    ]
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    names = [
        _listed(entry, patterns, description.has_conditions)
        for entry in entries
        if not (split.skip and entry.endswith(split.skip))
    ]
    if not names:
        raise DataError(f"{where}: list file {path} names no frame")
    for name in names:
        if description.has_conditions and "/" not in name:
            raise DataError(f"{where}: list file {path}: wanted condition/id, found '{name}'")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where}: list file {path} names '{twice}' twice")
    return sorted(names)
