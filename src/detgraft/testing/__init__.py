"""Contract tests for authors of own blocks: ``from detgraft.testing import BlockContract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detgraft.testing.contract import BlockContract

__all__ = ["BlockContract"]


def __getattr__(name: str) -> Any:
    """Import the contract, and with it pytest, on first use (PEP 562)."""
    if name == "BlockContract":
        from detgraft.testing.contract import BlockContract

        return BlockContract
    raise AttributeError(f"module 'detgraft.testing' has no attribute {name!r}")
