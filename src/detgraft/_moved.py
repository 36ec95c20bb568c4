"""Modules that moved, under their old names: checkpoints written before 0.1.0's rooms name classes in them.

A checkpoint is kept for years, so these names stay. No new name is added here once a release has frozen its class paths
(``tests/golden/checkpoints``): a class that a checkpoint holds does not move any more.
"""

from __future__ import annotations

from detgraft.base.deprecation import MovedModules

CHECKPOINT_MODULES = {
    "detgraft.blocks.arguments": "detgraft.blocks.parts.arguments",
    "detgraft.blocks.conv": "detgraft.blocks.parts.conv",
    "detgraft.blocks.convnext_fast": "detgraft.blocks.backbones.convnext_fast",
    "detgraft.blocks.convnextv2": "detgraft.blocks.backbones.convnextv2",
    "detgraft.blocks.features": "detgraft.blocks.parts.features",
    "detgraft.blocks.fusing": "detgraft.blocks.parts.fusing",
    "detgraft.blocks.repvit": "detgraft.blocks.backbones.repvit",
    "detgraft.blocks.timm_backbone": "detgraft.blocks.backbones.timm_backbone",
}
"""New module by old module, for the classes that checkpoints hold."""


def answer_for_moved() -> None:
    """Let the old names answer; importing detgraft calls it."""
    MovedModules(CHECKPOINT_MODULES, since="0.1.0", gone_in="no version, as checkpoints name it").install()
