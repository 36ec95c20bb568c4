"""Writes constraints.txt: the version of every requirement, direct or not, that the tests ran with.

``python scripts/make_constraints.py [--check]``, in the environment of the tests (``pip install -e ".[dev]"``).
``--check`` changes nothing and exits with 1 where the environment has other versions.
"""

from __future__ import annotations

import importlib.metadata as metadata
import platform
import re
import sys
from pathlib import Path

import tomllib
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"
EXTRAS = ("export", "study", "thesis", "pretrain")
"""What a user installs. Tools of development, Ray and MLflow follow versions of their own."""

BUILDS = re.compile(r"(nvidia|cuda)-|triton$")
"""What torch pins itself, other for each build of it."""


def direct() -> dict[str, Requirement]:
    """Return the requirements of the package and of its extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in EXTRAS for line in extras[extra])]
    return {canonicalize_name(Requirement(line).name): Requirement(line) for line in lines}


def versions() -> dict[str, str]:
    """Return the installed version of everything that the requirements need here, by name.

    Raises:
        importlib.metadata.PackageNotFoundError: A direct requirement is not installed.
    """
    found: dict[str, str] = {}
    open_ends = [(requirement, True) for requirement in direct().values()]
    seen: set[tuple[str, str]] = set()
    while open_ends:
        requirement, needed = open_ends.pop()
        name = canonicalize_name(requirement.name)
        wanted = {"", *requirement.extras}
        if BUILDS.match(name) or {(name, extra) for extra in wanted} <= seen:
            continue
        seen |= {(name, extra) for extra in wanted}
        try:
            installed = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if needed:
                raise
            continue
        found[name] = installed.version.partition("+")[0]
        for line in installed.requires or []:
            further = Requirement(line)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in wanted):
                open_ends.append((further, False))
    return found


def text() -> str:
    """Return the file's text."""
    python = ".".join(platform.python_version_tuple()[:2])
    lines = [
        f"# Made by `python scripts/make_constraints.py` with Python {python} on {platform.system()}; do not edit.",
        "# The versions that the tests ran with. If a newer release of something breaks detgraft:",
        "#     pip install -c constraints.txt .",
        *(f"{name}=={version}" for name, version in sorted(versions().items())),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    made = text()
    if "--check" in sys.argv[1:]:
        sys.exit(int(not FILE.is_file() or FILE.read_text("utf-8") != made))
    FILE.write_text(made, "utf-8")
    print(f"wrote {FILE.name}: {len(made.splitlines()) - 3} packages")
