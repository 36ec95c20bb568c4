"""What can be grafted: the catalogue with everything that plug-ins add to it."""

from __future__ import annotations

from detgraft.catalog.plugins import expect_plugins
from detgraft.catalog.registry import Grafts, catalogue
from detgraft.catalog.spec import Graft


def list_grafts(pattern: str = "*") -> list[Graft]:
    """List the grafts that are available, those of installed packages and of inherited plug-in files included.

    Args:
        pattern: A name or a wildcard pattern such as ``convnext*``.

    Raises:
        CatalogError: An installed or inherited plug-in fails.
    """
    expect_plugins()
    return Grafts(catalogue.match(pattern))
