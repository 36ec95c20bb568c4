"""Checkpoints of a pretraining run, and the encoder's weights as a file for detectors.

Every file is written beside its place and then moved there in one step, so that a reader (or a run that is resumed
after a power cut) finds the old content or the new one, never half of it.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from detgraft._version import __version__
from detgraft.base.files import write_atomic, write_with
from detgraft.base.provenance import versions
from detgraft.blocks.backbones.input_scale import UNIT, as_text
from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import ArgumentError, WeightsError
from detgraft.pretraining.backbones import timm_state_dict
from detgraft.pretraining.settings import Settings
from detgraft.weights.input_scale import IMAGENET_SCALE
from detgraft.weights.input_scale import KEY as INPUT_KEY

LAST = "last.pt"
WEIGHTS = "encoder.safetensors"
_FORMAT = 1
_LICENCE = (
    "Trained from random weights on the user's own images; contains no third-party weights. Its use is bound by the "
    "rights to those images only."
)


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        epoch: Epochs finished.
        batch: Forward passes finished in the current epoch.
        step: Optimizer steps finished.
        loss_sum: Sum of the losses of the current epoch's forward passes.
        seconds: Training time so far.
        history: One entry per finished epoch: epoch, step, loss, lr, seconds.
        broken: Broken image files with the reasons.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    *,
    settings: Settings,
    progress: Progress,
    identity: dict[str, object],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: dict[str, Any] | None,
) -> None:
    """Write everything that continuing needs.

    Args:
        path: File to write.
        settings: The run's settings.
        progress: How far it is.
        identity: What must be the same on resume: fingerprint and number of images, number of processes.
        model: The masked autoencoder.
        optimizer: Its optimizer.
        scaler: State of the fp16 loss scaler, if there is one.
    """
    content = {
        "detgraft_pretrain": _FORMAT,
        "versions": versions(),
        "settings": asdict(settings),
        "progress": asdict(progress),
        "identity": identity,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler,
    }
    write_with(path, lambda part: torch.save(content, part))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU.

    Raises:
        ArgumentError: If there is no such file.
        WeightsError: If it is no checkpoint of a pretraining run.
    """
    if not path.is_file():
        raise ArgumentError(f"there is nothing to resume: '{path}' does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"'{path}' cannot be read as a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("detgraft_pretrain") != _FORMAT:
        raise WeightsError(f"'{path}' is not a checkpoint of detgraft pretrain (format {_FORMAT})")
    return content


def export_encoder(path: Path, backbone: TimmBackbone, settings: Settings, progress: Progress, images: int) -> None:
    """Write the encoder in timm's layout, without head, with a description in the file's metadata.

    Args:
        path: File to write (safetensors).
        backbone: The encoder's backbone.
        settings: The run's settings.
        progress: How far it is.
        images: Number of images of the run.
    """
    metadata = {
        "format": "pt",
        "made_by": f"detgraft {__version__} pretrain (FCMAE)",
        "model": settings.model,
        "timm_model": backbone.name,
        "timm_model_args": json.dumps(backbone.model_args, sort_keys=True),
        "width": str(settings.width),
        "imgsz": str(settings.imgsz),
        "epochs": str(settings.epochs),
        "epochs_done": str(progress.epoch),
        "steps_done": str(progress.step),
        "mask_ratio": str(settings.mask_ratio),
        "normalize": settings.normalize,
        INPUT_KEY: UNIT if settings.normalize == "none" else as_text(IMAGENET_SCALE),
        "input": "RGB, 0..1" if settings.normalize == "none" else "RGB, 0..1, ImageNet mean and deviation",
        "images": str(images),
        "broken_images": str(len(progress.broken)),
        "data": Path(settings.data).name,
        "loss": str(progress.history[-1]["loss"]) if progress.history else "",
        "licence": _LICENCE,
        **{f"version_{name}": version for name, version in versions().items()},
    }
    # Not save_file: that makes files which only their owner may read.
    write_atomic(path, save(timm_state_dict(backbone), metadata))
