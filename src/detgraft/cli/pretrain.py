"""``detgraft pretrain``, and ``detgraft train pretrain=FOLDER``: a backbone learns from pictures without labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detgraft.cli.arguments import check_keys, parse_pairs
from detgraft.cli.keys import check_keys as check_own
from detgraft.errors import ArgumentError

_SWITCHES = ("resume", "tensorboard", "verbose")
_PREFIX = "pretrain_"
_SHARED = ("device", "seed")
"""Arguments of a training that its first step takes over, unless it is given its own."""


def command(words: Sequence[str]) -> None:
    """Pretrain; the run itself says where the weights lie and how to use them.

    Raises:
        DetgraftError: Wrong arguments, or no usable pictures; nothing is written then.
    """
    from detgraft.pretraining.api import pretrain

    pairs = parse_pairs(words, _SWITCHES)
    check_own("pretrain", pairs)
    for needed, example in (("model", "convnextv2_atto"), ("data", "pictures/")):
        if needed not in pairs:
            raise ArgumentError(f"pretrain needs {needed}=, such as {needed}={example}")
    pretrain(**{**pairs, "model": str(pairs["model"]), "data": str(pairs["data"])})


def pop_first_step(pairs: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments of the first step, ``pretrain=FOLDER`` and ``pretrain_KEY=...``, from a training's.

    Args:
        pairs: Arguments of ``detgraft train``; those of the first step are removed.

    Returns:
        Arguments for :func:`detgraft.pretrain` without the model; empty without ``pretrain=``.

    Raises:
        ArgumentError: An argument that the first step does not have, or ``pretrain_KEY`` without ``pretrain``.
    """
    given = {key: pairs.pop(key) for key in [*pairs] if key.startswith(_PREFIX)}
    if "pretrain" not in pairs:
        if given:
            raise ArgumentError(f"'{next(iter(given))}' needs pretrain=FOLDER, the pictures to learn from")
        return {}
    known = [f"{_PREFIX}{name}" for name in _names() if name not in ("model", "data", "width")]
    check_keys(given, known)
    shared = {key: pairs[key] for key in _SHARED if pairs.get(key) is not None}
    own = {key.removeprefix(_PREFIX): value for key, value in given.items()}
    return {**shared, **own, "data": str(pairs.pop("pretrain"))}


def pretrain_backbone(model: str, pairs: Mapping[str, Any], first: dict[str, Any]) -> Path:
    """Pretrain the backbone that a model grafts and return the model's YAML with these weights.

    Args:
        model: A graft expression or a model YAML.
        pairs: The training's arguments.
        first: Arguments of the first step, see :func:`pop_first_step`.

    Raises:
        DetgraftError: No grafted backbone, wrong arguments, or no usable pictures; nothing is written then.
    """
    from detgraft.pretraining.api import pretrain
    from detgraft.upstream.model.pretrained import grafted_backbone

    if pairs.get("resume"):
        raise ArgumentError("pretrain= begins a training and resume= goes on with one; give one of them")
    backbone = grafted_backbone(model)
    result = pretrain(backbone.name, width=backbone.width, **first)
    if not result.completed:
        raise ArgumentError(
            f"the pretraining stopped after {result.steps} steps and the training was not begun; go on with "
            f"`pretrain_resume={result.checkpoint}`"
        )
    file = backbone.write(result.weights, result.save_dir)
    print(f"Pretrained '{backbone.name}'; training {file}")
    return file


def _names() -> list[str]:
    import inspect

    from detgraft.pretraining.api import pretrain

    return list(inspect.signature(pretrain).parameters)
