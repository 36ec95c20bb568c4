"""Reading a backbone's weights from a file in timm's or the official layouts.

Accepted: safetensors, or what ``torch.load(weights_only=True)`` reads, bare or wrapped as ``{"model": ...}``.
Layouts: timm's own; the official ConvNeXt V2 (classification, and FCMAE pre-training with its sparse names); the
official RepViT (plain and distilled). Heads, decoders and final norms are left out.

Key renamings follow facebookresearch/ConvNeXt-V2 ``models/convnextv2.py``, ``models/fcmae.py``, ``utils.py`` and
THU-MIG/RepViT ``model/repvit.py``.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from detgraft.blocks.backbones.timm_backbone import TimmBackbone, full_state_keys
from detgraft.errors import Location, WeightsError
from detgraft.weights.archive import refuse_bomb, refuse_unfit

_WRAPPERS = ("model", "state_dict", "module", "model_state_dict")
_PRETRAINING_ONLY = ("decoder.", "mask_token", "proj.", "pred.")
_MOST_KEYS_IN_A_MESSAGE = 3


def load_backbone_weights(module: TimmBackbone, path: str) -> None:
    """Copy a file's weights into a backbone; either all of it or, after an error, nothing.

    Args:
        module: Unfused backbone. Its dtype and device are kept.
        path: Safetensors file (by its suffix) or PyTorch file.

    Raises:
        WeightsError: for a missing, truncated or foreign file, another architecture, or another width.
    """
    copy_state(module, timm_layout(_strip_prefix(_tensors_in(_read(path), path))), path)


def load_own_weights(module: nn.Module, name: str, path: str) -> None:
    """Copy a file's weights into somebody's own backbone; either all of it or, after an error, nothing.

    Args:
        module: The backbone; its dtype and device are kept.
        name: The graft's name, for messages.
        path: Safetensors file (by its suffix) or PyTorch file whose tensors have the names of the module's own.

    Raises:
        WeightsError: A missing, truncated or foreign file, tensors that are missing or too many, or other shapes.
    """
    state, target = _strip_prefix(_tensors_in(_read(path), path)), module.state_dict()
    missing = [key for key in target if key not in state and not key.endswith("num_batches_tracked")]
    foreign = [key for key in state if key not in target]
    for keys, words in ((missing, "are missing"), (foreign, "are none of its own")):
        if keys:
            raise WeightsError(f"{path} is not for '{name}': {len(keys)} tensors {words}, such as {_some(keys)}")
    other = [key for key, value in state.items() if value.shape != target[key].shape]
    if other:
        raise WeightsError(
            f"{path} does not fit '{name}': {other[0]} expected shape {tuple(target[other[0]].shape)}, found "
            f"{tuple(state[other[0]].shape)} ({len(other)} of {len(target)} tensors differ)"
        )
    refuse_unfit(state, target, Location(path))
    with torch.no_grad():
        for key, value in state.items():
            target[key].copy_(value)


def copy_state(module: TimmBackbone, state: Mapping[str, Tensor], path: str) -> None:
    """Copy a whole model's tensors, in timm's layout, into a backbone; either all of them or, after an error, nothing.

    Args:
        module: Unfused backbone. Its dtype and device are kept.
        state: Tensors by timm's names; those of the classifier are left out.
        path: How to call their source in messages.

    Raises:
        WeightsError: for another architecture, or another width.
    """
    if module.fused:
        raise WeightsError(f"{path}: weights go into timm/{module.name} before it is fused, not after")
    target = module.net.state_dict()
    sources = {key: _source_key(key, state) for key in target}
    _refuse_missing(module, path, [key for key, source in sources.items() if source is None])
    _refuse_foreign(module, path, state, {source for source in sources.values() if source is not None})
    loaded = {key: _same_rank(state[source], target[key]) for key, source in sources.items() if source is not None}
    _refuse_other_shapes(module, path, loaded, target)
    refuse_unfit(loaded, target, Location(path))
    with torch.no_grad():
        for key, value in loaded.items():
            target[key].copy_(value)


def timm_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an official ConvNeXt V2, FCMAE or RepViT state dict to timm's names; others pass unchanged."""
    keys = state.keys()
    if any(re.match(r"(encoder\.)?downsample_layers\.", key) for key in keys):
        return convnextv2_to_timm(state)
    if "features.0.0.c.weight" in keys:
        return repvit_to_timm(state)
    return dict(state)


def convnextv2_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename official ConvNeXt V2 tensors, dense or as FCMAE's sparse encoder stores them, to timm's names.

    Sparse kernels are ``(k * k, in, out)``, or ``(k * k, channels)`` when depthwise, with the position running down the
    columns first; they become ``(out, in, k, k)``.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        if key.startswith(_PRETRAINING_ONLY):
            continue
        name = re.sub(r"\.(ln|linear)\.", ".", key.removeprefix("encoder."))
        if name.endswith(".kernel"):
            name, value = name.removesuffix("kernel") + "weight", _dense_kernel(value)
        elif name.endswith(".bias") or ".grn." in name:
            value = value.reshape(-1)
        name = re.sub(r"^downsample_layers\.0\.", "stem.", name)
        name = re.sub(r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample.", name)
        name = re.sub(r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2.", name)
        name = name.replace(".dwconv.", ".conv_dw.").replace(".pwconv", ".mlp.fc")
        renamed[name.replace(".grn.gamma", ".mlp.grn.weight").replace(".grn.beta", ".mlp.grn.bias")] = value
    return renamed


def repvit_to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename official RepViT tensors to timm's names; classifiers, plain or distilled, are left out.

    The official list of blocks is flat. A block of stride 2 opens a stage, and timm counts the block before it to the
    downsampling unit, too.
    """
    blocks = sorted({int(m[1]) for key in state if (m := re.match(r"features\.(\d+)\.token_mixer\.", key))})
    openers = [block for block in blocks if f"features.{block}.token_mixer.0.c.weight" in state]
    homes = {0: "stem"}
    stage, position = 0, 0
    for block in blocks:
        if block in openers:
            stage, position = stage + 1, 0
            homes[block] = f"stages.{stage}.downsample"
        elif block + 1 in openers:
            homes[block] = f"stages.{stage + 1}.downsample.pre_block"
        else:
            homes[block] = f"stages.{stage}.blocks.{position}"
            position += 1
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        match = re.match(r"features\.(\d+)\.(.+)", key)
        if match is None:
            if not key.startswith("classifier."):
                renamed[key] = value
            continue
        block, rest = int(match[1]), match[2]
        home = homes.get(block, f"features.{block}")
        renamed[f"{home}.{_repvit_part(rest, is_stem=block == 0, opens=block in openers)}"] = value
    return renamed


def _repvit_part(rest: str, is_stem: bool, opens: bool) -> str:
    if is_stem:
        parts = {"0.": "conv1.", "2.": "conv2."}
    elif opens:
        parts = {
            "token_mixer.0.": "spatial_downsample.",
            "token_mixer.2.": "channel_downsample.",
            "channel_mixer.m.0.": "ffn.conv1.",
            "channel_mixer.m.2.": "ffn.conv2.",
        }
    else:
        parts = {
            "token_mixer.0.": "token_mixer.",
            "token_mixer.1.": "se.",
            "channel_mixer.m.0.": "channel_mixer.conv1.",
            "channel_mixer.m.2.": "channel_mixer.conv2.",
        }
    for official, ours in parts.items():
        if rest.startswith(official):
            return ours + rest.removeprefix(official)
    return rest


def _dense_kernel(kernel: Tensor) -> Tensor:
    side = math.isqrt(kernel.shape[0])
    if kernel.dim() not in (2, 3) or side * side != kernel.shape[0]:
        return kernel  # no sparse kernel after all; the comparison of shapes will say so
    if kernel.dim() == 2:
        return kernel.t().reshape(kernel.shape[1], 1, side, side).transpose(2, 3)
    return kernel.permute(2, 1, 0).reshape(kernel.shape[2], kernel.shape[1], side, side).transpose(2, 3)


def _read(path: str) -> Any:
    if not Path(path).is_file():
        raise WeightsError(f"the weights file {path} does not exist")
    try:
        if Path(path).suffix.lower() == ".safetensors":
            return load_file(path, device="cpu")
        refuse_bomb(path)
        with _official_wrapping():
            return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} cannot be read as a weights file (truncated, or another kind): {reason}") from error


@contextmanager
def _official_wrapping() -> Iterator[None]:
    """Let the official trainers' ``args`` through: a Namespace holds values and runs nothing."""
    # torch.serialization.safe_globals would do, but torch 2.4 does not have it.
    before: list[Any] = torch.serialization.get_safe_globals()
    torch.serialization.add_safe_globals([argparse.Namespace])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _tensors_in(content: Any, path: str) -> dict[str, Tensor]:
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds a {type(content).__name__}, expected tensors by name")
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} holds no tensors, only {_some(map(str, content))}")
    return tensors


def _strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop the prefix that a parallel wrapper put before every name."""
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _source_key(key: str, state: Mapping[str, Tensor]) -> str | None:
    """Return the file's name for a tensor of timm's feature extractor, which flattens ``a.b`` to ``a_b`` at the top."""
    top, dot, rest = key.partition(".")
    tops = [top, *(f"{top[:i]}.{top[i + 1 :]}" for i, letter in enumerate(top) if letter == "_")]
    candidates = [f"{name}{dot}{rest}" for name in tops]
    if top in ("model", "body"):  # other extractors keep the whole model under one name
        candidates.append(rest)
    return next((candidate for candidate in candidates if candidate in state), None)


def _same_rank(value: Tensor, like: Tensor) -> Tensor:
    """Turn a linear layer's weight into a 1x1 convolution's or back, which is the same matrix."""
    if value.dim() == 2 and like.dim() == 4:
        return value[:, :, None, None]
    if value.dim() == 4 and like.dim() == 2 and value.shape[2:] == (1, 1):
        return value[:, :, 0, 0]
    return value


def _refuse_missing(module: TimmBackbone, path: str, missing: list[str]) -> None:
    serious = [key for key in missing if not key.endswith("num_batches_tracked")]
    if serious:
        raise WeightsError(
            f"{path} is not for timm/{module.name}: {len(serious)} of {len(module.net.state_dict())} tensors are "
            f"missing, such as {_some(serious)}"
        )


def _refuse_foreign(module: TimmBackbone, path: str, state: Mapping[str, Tensor], used: set[str]) -> None:
    tops = {key.partition(".")[0] for key in used}
    foreign = [key for key in state if key not in used and key.partition(".")[0] in tops]
    if foreign:  # a part that the feature extractor left out is no reason; a part that the model never had is
        foreign = sorted(set(foreign) - full_state_keys(module.name, module.c1, module.model_args))
    if foreign:
        raise WeightsError(
            f"{path} is not for timm/{module.name}: it has {len(foreign)} tensors that this model does not have, "
            f"such as {_some(foreign)}"
        )


def _refuse_other_shapes(
    module: TimmBackbone, path: str, loaded: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> None:
    other = [key for key, value in loaded.items() if value.shape != target[key].shape]
    if other:
        key = other[0]
        widths = f"; the model's channels are {module.channels}" + (
            " because of its width or arguments, and the file was made for others" if module.model_args else ""
        )
        raise WeightsError(
            f"{path} does not fit timm/{module.name}: {key} expected shape {tuple(target[key].shape)}, found "
            f"{tuple(loaded[key].shape)} ({len(other)} of {len(target)} tensors differ{widths})"
        )


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    text = ", ".join(repr(name) for name in listed[:_MOST_KEYS_IN_A_MESSAGE])
    return f"{text} and {len(listed) - _MOST_KEYS_IN_A_MESSAGE} more" if len(listed) > _MOST_KEYS_IN_A_MESSAGE else text
