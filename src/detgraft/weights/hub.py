"""timm's published weights, through the Hugging Face hub: only when a graft asks for ``weights=imagenet``.

The local cache of huggingface_hub is looked at first. Otherwise the file is downloaded once; whether the hub answers is
asked with a short timeout and without retries, so that a machine without network hears so within seconds.
``HF_HUB_OFFLINE=1`` and ``YOLO_OFFLINE=1`` keep it from trying.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError

from detgraft.base.values import is_on
from detgraft.blocks.backbones.timm_backbone import TimmBackbone, published_state
from detgraft.errors import WeightsError
from detgraft.weights.backbone_files import copy_state

TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""

_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"


def load_default_weights(module: TimmBackbone) -> str:
    """Copy timm's default weights into a backbone; either all of them or, after an error, nothing.

    Args:
        module: Unfused backbone of any number of input channels. Its dtype and device are kept.

    Returns:
        A sentence for the log: which weights, from where, under which licence.

    Raises:
        WeightsError: timm publishes none for this model, they cannot be had offline, or they do not fit its width.
    """
    if module.fused:
        raise WeightsError(f"weights go into timm/{module.name} before it is fused, not after")
    config = timm.get_pretrained_cfg(module.name, allow_unregistered=True)
    if config is None or not config.hf_hub_id:
        raise WeightsError(
            f"timm {timm.__version__} publishes no weights for {module.name}; give a file with weights=FILE"
        )
    _refuse_other_width(module)
    repository = str(config.hf_hub_id)
    path = _file_of(repository, str(config.hf_hub_filename or ""), module.name)
    try:
        state = published_state(module, path)
    except Exception as error:  # timm's loaders raise whatever the file makes them raise
        text = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"timm's weights for {module.name} ({path}) cannot be used: {text:.300}") from error
    copy_state(module, state, str(path))
    return (
        f"timm/{module.name}: weights {repository} from the Hugging Face hub, "
        f"licence {config.license or 'not stated by timm; see the model card'}"
    )


def _refuse_other_width(module: TimmBackbone) -> None:
    """Say so before anything is downloaded."""
    with torch.device("meta"):
        published = TimmBackbone(module.c1, module.name, reductions=module.reductions)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (module.net, published.net)]
    if shapes[0] != shapes[1]:
        raise WeightsError(
            f"timm's weights are for {module.name} as published, with channels {published.channels}; this model has "
            f"channels {module.channels} and the arguments {module.model_args}. Leave width= out, or set it to 1"
        )


def _file_of(repository: str, filename: str, name: str) -> Path:
    """Return the weights file in the local cache, downloaded if need be."""
    names = [filename] if filename else [_SAFE, _PICKLED]
    for candidate in names:
        cached = _attempt(_from_cache, repository, candidate)
        if isinstance(cached, Path):
            return cached
    switches = [key for key in ("HF_HUB_OFFLINE", "YOLO_OFFLINE") if is_on(os.environ.get(key))]
    reason: object = f"{' and '.join(switches)} {'forbid' if len(switches) > 1 else 'forbids'} it"
    for candidate in () if switches else names:
        found = _attempt(_download, repository, candidate)
        if isinstance(found, Path):
            return found
        reason = found
        if not isinstance(found, EntryNotFoundError):
            break
    text = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    raise WeightsError(
        f"timm's weights for {name} ({repository}) are not in the local cache of huggingface_hub and cannot be "
        f"downloaded: {text:.300}. With a copy of the file at hand, give weights=FILE"
    )


def _from_cache(repository: str, filename: str) -> str:
    return str(huggingface_hub.hf_hub_download(repository, filename, local_files_only=True))


def _download(repository: str, filename: str) -> str:
    # Asked once by hand: hf_hub_download itself may repeat a failing request with growing pauses.
    huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repository, filename), timeout=TIMEOUT)
    return str(huggingface_hub.hf_hub_download(repository, filename, etag_timeout=TIMEOUT))


def _attempt(action: Callable[[str, str], str], repository: str, filename: str) -> Path | Exception:
    """Run one request; each way in which it can fail (network, proxy, gate, absence) is an answer."""
    try:
        return Path(action(repository, filename))
    except Exception as error:
        return error
