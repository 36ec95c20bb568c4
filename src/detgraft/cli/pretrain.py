"""``detgraft pretrain``: a backbone learns from pictures without labels (FCMAE)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from detgraft.cli.arguments import check_keys, parse_pairs
from detgraft.errors import ArgumentError
from detgraft.pretrain.api import pretrain

_SWITCHES = ("resume", "tensorboard", "verbose")


def command(words: Sequence[str]) -> None:
    """Pretrain and print where the weights lie and how to use them.

    Raises:
        DetgraftError: Wrong arguments, or no usable pictures; nothing is written then.
    """
    pairs = parse_pairs(words, _SWITCHES)
    check_keys(pairs, inspect.signature(pretrain).parameters)
    for needed, example in (("model", "convnextv2_atto"), ("data", "pictures/")):
        if needed not in pairs:
            raise ArgumentError(f"pretrain needs {needed}=, such as {needed}={example}")
    result = pretrain(**{**pairs, "model": str(pairs["model"]), "data": str(pairs["data"])})
    print(f"Weights: {result.weights}")
    print(f"Use them: detgraft train \"model=yolo11n+{pairs['model']}(weights='{result.weights}')\" data=...")
