"""What a study asks before it trains: argument names, the data, the initial checkpoint, and each arm's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.utils import SETTINGS

from detgraft.catalog.plugins import load_plugins
from detgraft.datasets.folder import load_data_yaml
from detgraft.upstream.model.build import build
from detgraft.upstream.model.data import DATASETS_FOLDER, prepare_data
from detgraft.upstream.model.models import YOLO, argument_names
from detgraft.upstream.model.sizes import check_size, largest_stride
from detgraft.upstream.model.transfer import open_checkpoint, report_of, report_on


def training_arguments() -> list[str]:
    """Return the names of Ultralytics' training arguments."""
    return argument_names()[1]


def prepared_data(data: str, folder: str) -> str:
    """Check a data set and return the YAML that is trained on; see :func:`detgraft.upstream.model.data.prepare_data`.

    Args:
        data: Path of the data YAML or folder, or a name that Ultralytics knows.
        folder: Where a YAML that is derived from a folder is written.

    Raises:
        DataError: The data set is missing or not laid out as a detector needs it.
    """
    return str(prepare_data(data, "detect", folder))


def data_sources(data: str) -> dict[str, list[str]]:
    """The folders and lists of pictures that Ultralytics reads for each split.

    Args:
        data: A data YAML, by path or by a name that Ultralytics brings.

    Returns:
        Absolute paths for ``train``, ``val`` and ``test``, as far as the YAML names them; empty for other formats.

    Raises:
        DataError: It is no data YAML.
    """
    path = Path(data) if Path(data).is_file() else DATASETS_FOLDER / data
    if path.suffix.lower() not in (".yaml", ".yml"):
        return {}
    found = load_data_yaml(path, needed=(), datasets_dir=Path(SETTINGS["datasets_dir"]))
    named = {split: found[split] for split in ("train", "val", "test") if found.get(split)}
    return {split: list(value) if isinstance(value, list) else [value] for split, value in named.items()}


def class_names(data: str) -> dict[int, str]:
    """Return the class names of a data YAML, given by path or by a name that Ultralytics knows."""
    path = Path(data) if Path(data).is_file() else DATASETS_FOLDER / data
    return dict(load_data_yaml(path, needed=())["names"])


def fetched(weights: str) -> Path:
    """Bring a checkpoint onto this machine, where Ultralytics publishes one of that name, and return its file."""
    return Path(str(YOLO(weights).ckpt_path)).resolve()


def built_arm(
    model: str,
    names: Mapping[int, str],
    imgsz: int,
    weights: str | None = None,
    minimum: float = 0.0,
    plugins: Sequence[str] = (),
) -> Any:
    """Build an arm's model once, as it will be trained: with the data's own classes and its initial weights.

    Weights come before a price: newer releases give a head the width of the checkpoint's, so that its weights fit.

    Args:
        model: A graft expression or a YAML.
        names: The data's class names by index.
        imgsz: Side of the pictures in pixels.
        weights: The checkpoint that it starts from; None from scratch.
        minimum: Smallest acceptable share of tensors that arrive, 0 to 1.
        plugins: Python files with own blocks.

    Returns:
        The model object.

    Raises:
        DetgraftError: It does not build, the size is no multiple of its stride, or less than ``minimum`` arrived.
    """
    load_plugins(plugins)
    built: Any = build(model, nc=len(names))
    check_size((imgsz,), largest_stride(built))
    if weights is not None:
        source = open_checkpoint(weights)
        built.names = dict(names)  # newer releases carry the class scores over by name, as the trainer has them do
        built.load(source, verbose=False)
        (report_of(built) or report_on(source, built)).require(minimum)
    return built
