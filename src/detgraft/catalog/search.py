"""Searching the catalogue by what a graft is for: family, default site, summary, in English or Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from detgraft.catalog.listing import list_grafts
from detgraft.catalog.registry import FAMILIES
from detgraft.catalog.spec import Graft

FAMILY_WORDS: Mapping[str, str] = {
    "backbones": "backbone 主干 主干网络 骨干 骨干网络 替换主干 特征提取",
    "dynamic": "dynamic convolution 动态卷积 动态",
    "upsampling": "upsample upsampler upsampling 上采样 上采样算子",
    "attention": "attention 注意力 注意力机制",
    "downsampling": "downsample downsampling 下采样",
    "stages": "stage block C3k2 C2f 改进模块 模块",
    "fusion": "fusion fuse concat 特征融合 融合 加权融合",
    "necks": "neck 颈部 特征金字塔 颈部网络",
    "losses": "loss iou 损失 损失函数 回归损失",
    "refining": "refiner head 检测头 动态头",
    "levels": "level layer 小目标 小目标检测层 检测层",
    "shells": "shell inner 二次创新 嵌套",
}
"""Further words for a family, by the name of its file; those of families to come are harmless."""

SITE_WORDS: Mapping[str, str] = {
    "backbone": "主干",
    "upsample": "上采样",
    "downsample": "下采样",
    "stage": "阶段",
    "Concat": "拼接 融合",
    "C3k2": "C3k2 C2f 模块",
}
"""Chinese words for a default site."""


def search(word: str) -> list[Graft]:
    """Return the grafts that a word means: those whose name matches, else those of a family, site or purpose.

    Args:
        word: A name, a wildcard pattern, or a word such as ``upsample``, ``attention``, ``上采样``.
    """
    named = list_grafts(word)
    if named or "*" in word or "?" in word:
        return named
    wanted = word.strip().lower()
    if not wanted:
        return []
    family = {entry: name for name, grafts in FAMILIES.items() for entry in grafts}
    found = [entry for entry in list_grafts() if _is_of(entry, family.get(entry, ""), wanted)]
    return found or [entry for entry in list_grafts() if wanted in entry.summary.lower()]


def _is_of(entry: Graft, family: str, wanted: str) -> bool:
    words = f"{family} {FAMILY_WORDS.get(family, '')} {entry.site} {SITE_WORDS.get(entry.site, '')}".lower().split()
    return any(wanted == word or wanted.rstrip("s") == word or (len(wanted) > 1 and wanted in word) for word in words)
