"""Searching the catalogue by what a graft is for: family, default site, summary, in English or Chinese."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch

from detgraft.catalog.listing import list_grafts
from detgraft.catalog.losses import KINDS, Loss, list_losses
from detgraft.catalog.registry import FAMILIES
from detgraft.catalog.shells import SHELLS, Shell
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
    "shells": "shell csp 二次创新 嵌套",
}
"""Further words for a family, by the name of its file; for losses and shells, which are no grafts, by their own."""

SITE_WORDS: Mapping[str, str] = {
    "backbone": "主干",
    "upsample": "上采样",
    "downsample": "下采样",
    "stage": "阶段",
    "Concat": "拼接 融合",
    "C3k2": "C3k2 C2f 模块",
}
"""Chinese words for a default site."""


@dataclass(frozen=True)
class Found:
    """What a word means.

    Args:
        grafts: Entries of the catalogue.
        shells: Stock modules that other blocks can be put into.
        losses: Losses.
    """

    grafts: list[Graft]
    shells: list[Shell]
    losses: list[Loss]


def search_all(word: str) -> Found:
    """Return everything that a word means: by name or pattern, family, site or kind; else by what it is in words.

    Args:
        word: A name, a wildcard pattern, or a word such as ``upsample``, ``losses``, ``shells``, ``注意力``.
    """
    wanted = word.strip().lower()
    shells = [shell for shell in SHELLS if any(fnmatch(name.lower(), wanted) for name in (shell.name, shell.alias))]
    losses = list_losses(word)
    if _names(wanted, "shells"):
        shells = list(SHELLS)
    if _names(wanted, "losses"):
        losses = list_losses()
    elif not losses and wanted in KINDS:
        losses = [loss for loss in list_losses() if loss.kind == wanted]
    # A loss or a shell that is meant by name is no reason to look for the word in what grafts are.
    grafts = [] if _names(wanted, "shells") or _names(wanted, "losses") else search(word, deep=not (shells or losses))
    if not (grafts or shells or losses) and wanted and not {"*", "?"} & set(wanted):
        losses = [loss for loss in list_losses() if wanted in loss.summary.lower()]
    return Found(grafts, shells, losses)


def _names(wanted: str, kind: str) -> bool:
    return wanted in (kind, *_words(FAMILY_WORDS[kind].lower().split()))


def _words(words: Iterable[str]) -> list[str]:
    return [form for word in words for form in (word, f"{word}s")]


def search(word: str, deep: bool = True) -> list[Graft]:
    """Return the grafts that a word means: those whose name matches, else those of a family, site or purpose.

    Args:
        word: A name, a wildcard pattern, or a word such as ``upsample``, ``attention``, ``上采样``.
        deep: Look into what the grafts are, too, where nothing else is found.
    """
    named = list_grafts(word)
    if named or "*" in word or "?" in word:
        return named
    wanted = word.strip().lower()
    if not wanted:
        return []
    family = {entry: name for name, grafts in FAMILIES.items() for entry in grafts}
    found = [entry for entry in list_grafts() if _is_of(entry, family.get(entry, ""), wanted)]
    return found or [entry for entry in list_grafts() if deep and wanted in entry.summary.lower()]


def _is_of(entry: Graft, family: str, wanted: str) -> bool:
    words = f"{family} {FAMILY_WORDS.get(family, '')} {entry.site} {SITE_WORDS.get(entry.site, '')}".lower().split()
    return any(wanted == word or wanted.rstrip("s") == word or (len(wanted) > 1 and wanted in word) for word in words)
