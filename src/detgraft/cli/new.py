"""``detgraft new block NAME``, ``detgraft new loss NAME``: something own to begin with, its registration, its test."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from detgraft.base.files import write_atomic
from detgraft.catalog.losses import KINDS as LOSS_KINDS
from detgraft.catalog.losses import losses
from detgraft.catalog.registry import catalogue
from detgraft.cli.arguments import parse_pairs
from detgraft.cli.keys import check_keys
from detgraft.errors import ArgumentError, CatalogError, nearest

RULES = ("scaled", "same", "fixed", "pyramid", "fuse")
KINDS = ("block", "loss")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def command(kind: str, name: str, words: Sequence[str]) -> None:
    """Write the files and say what to do with them.

    Raises:
        DetgraftError: Wrong arguments, a name that cannot be used, or a file that exists; nothing was written then.
    """
    if kind not in KINDS:
        raise ArgumentError(f"`detgraft new` makes a block or a loss: detgraft new block NAME; found '{kind}'")
    pairs = parse_pairs(words)
    check_keys("new", pairs)
    if ("kind" if kind == "block" else "channels") in pairs:
        raise ArgumentError(f"a {kind} has no '{'kind' if kind == 'block' else 'channels'}'")
    folder = Path(str(pairs.get("out", ".")))
    if kind == "block":
        made, test = new_block(name, str(pairs.get("channels", "scaled")), folder)
    else:
        made, test = new_loss(name, str(pairs.get("kind", "box")), folder)
    print(f"Wrote {made} and {test}. Next:")
    print(f"  pytest {test}")
    print(f"  detgraft {'show' if kind == 'block' else 'check'} yolo11n+{name} plugins={made}")


def new_block(name: str, channels: str = "scaled", folder: Path = Path()) -> tuple[Path, Path]:
    """Write a commented block with its registration, and a test that holds it to the contract.

    Args:
        name: The name to register; also the file's name.
        channels: Channel rule: scaled, same, fixed, pyramid or fuse.
        folder: Where to write; made if it does not exist.

    Returns:
        The paths of the block and of its test.

    Raises:
        ArgumentError: An unknown rule, or a file that exists.
        CatalogError: A name that is no Python name, is taken, or would hide a Python module.
    """
    if channels not in RULES:
        raise ArgumentError(
            f"channels must be one of {', '.join(RULES)}, found '{channels}'.{nearest(channels, RULES)}"
        )
    words = {"name": name, "cls": class_name(name), "rule": channels}
    return _written(name, folder, ("block.py.jinja", "test_block.py.jinja"), words)


def new_loss(name: str, kind: str = "box", folder: Path = Path()) -> tuple[Path, Path]:
    """Write a commented loss with its registration, and a test that holds it to the contract.

    Args:
        name: The name to register; also the file's name.
        kind: ``box`` or ``class``.
        folder: Where to write; made if it does not exist.

    Returns:
        The paths of the loss and of its test.

    Raises:
        ArgumentError: An unknown kind, or a file that exists.
        CatalogError: A name that is no Python name, is taken, or would hide a Python module.
    """
    if kind not in LOSS_KINDS:
        raise ArgumentError(f"kind must be one of {', '.join(LOSS_KINDS)}, found '{kind}'.{nearest(kind, LOSS_KINDS)}")
    words = {"name": name, "cls": class_name(name), "kind": kind}
    return _written(name, folder, ("loss.py.jinja", "test_loss.py.jinja"), words)


def _written(name: str, folder: Path, templates: Sequence[str], words: Mapping[str, str]) -> tuple[Path, Path]:
    check_name(name)
    paths = folder / f"{name}.py", folder / f"test_{name}.py"
    for path in paths:
        if path.exists():
            raise ArgumentError(f"{path} exists already; nothing was written. Choose another name or out=FOLDER")
    environment = Environment(
        loader=PackageLoader("detgraft.cli"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    texts = [environment.get_template(template).render(words) for template in templates]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError(f"the folder {folder} cannot be made: {error.strerror or error}") from error
    for path, text in zip(paths, texts, strict=True):
        write_atomic(path, text, new=True)
    return paths


def check_name(name: str) -> None:
    """Raise unless a name can be registered and be a file's name.

    Raises:
        CatalogError: Says why it cannot.
    """
    from detgraft.upstream.release.capabilities import stock_module

    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise CatalogError(f"the name of a block or a loss is a Python name: letters, digits and _; found '{name}'")
    taken = catalogue.find(name) or catalogue.find(name.lower()) or losses.find(name)
    if taken is not None:
        raise CatalogError(f"the name '{name}' is registered already (as '{taken.name}'); choose another")
    if stock_module(name) is not None:
        raise CatalogError(f"'{name}' is the name of a stock Ultralytics module; choose another")
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise CatalogError(f"a file {name}.py would hide the Python module '{name}'; choose another name")


def class_name(name: str) -> str:
    """Turn a name into a class's: my_block becomes MyBlock; a name with capitals stays."""
    if name != name.lower():
        return name
    return "".join(part.capitalize() for part in name.split("_"))
