"""Contract tests for authors of own blocks and losses: ``from detgraft.testing import BlockContract, LossContract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detgraft.testing.contract import BlockContract
    from detgraft.testing.loss_contract import LossContract

__all__ = ["BlockContract", "LossContract"]


def __getattr__(name: str) -> Any:
    """Import the contract, and with it pytest, on first use (PEP 562)."""
    if name == "BlockContract":
        from detgraft.testing.contract import BlockContract

        return BlockContract
    if name == "LossContract":
        from detgraft.testing.loss_contract import LossContract

        return LossContract
    raise AttributeError(f"module 'detgraft.testing' has no attribute {name!r}")
