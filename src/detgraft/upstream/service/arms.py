"""What a study asks before it trains: argument names, the data, the initial checkpoint, and each arm's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks
from ultralytics.utils import SETTINGS

from detgraft.catalog.plugins import load_plugins
from detgraft.catalog.registry import catalogue
from detgraft.datasets.class_folders import classified
from detgraft.datasets.folder import check_measured, load_data_yaml
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.model.build import build
from detgraft.upstream.model.data import DATASETS_FOLDER, prepare_data
from detgraft.upstream.model.models import YOLO, argument_names
from detgraft.upstream.model.sizes import check_size, largest_stride
from detgraft.upstream.model.transfer import open_checkpoint, report_of, report_on
from detgraft.upstream.parser.lower import pyramid_arguments
from detgraft.upstream.service.descriptions import description_of


def training_arguments() -> list[str]:
    """Return the names of Ultralytics' training arguments."""
    return argument_names()[1]


def wrong_arguments(values: Mapping[str, Any]) -> dict[str, str]:
    """Say which training arguments Ultralytics would stop at, with its sentence for each.

    Args:
        values: Arguments by name.
    """
    from ultralytics.cfg import check_cfg

    found: dict[str, str] = {}
    for key, value in values.items():
        try:
            check_cfg({key: value}, hard=True)
        except (TypeError, ValueError) as error:
            found[key] = str(error).splitlines()[0]
    return found


def prepared_data(data: str, folder: str, task: str = "detect") -> str:
    """Check a data set and return the YAML that is trained on; see :func:`detgraft.upstream.model.data.prepare_data`.

    Args:
        data: Path of the data YAML or folder, or a name that Ultralytics knows.
        folder: Where a YAML that is derived from a folder is written.
        task: What the model is for; classification has a folder with a folder for each class in place of a YAML.

    Raises:
        DataError: The data set is missing or not laid out as the task needs it.
    """
    if task == "classify":
        classified(Path(data))
        return str(Path(data).resolve())
    return str(prepare_data(data, task, folder))


def data_sources(data: str) -> dict[str, list[str]]:
    """The folders and lists of pictures that Ultralytics reads for each split.

    Args:
        data: A data YAML, by path or by a name that Ultralytics brings.

    Returns:
        Absolute paths for ``train``, ``val`` and ``test``, as far as the YAML names them; empty for other formats.

    Raises:
        DataError: It is no data YAML.
    """
    if Path(data).is_dir():
        return {split: [str(folder)] for split, folder in classified(Path(data)).splits.items()}
    path = Path(data) if Path(data).is_file() else DATASETS_FOLDER / data
    if path.suffix.lower() not in (".yaml", ".yml"):
        return {}
    found = load_data_yaml(path, needed=(), datasets_dir=Path(SETTINGS["datasets_dir"]))
    named = {split: found[split] for split in ("train", "val", "test") if found.get(split)}
    return {split: list(value) if isinstance(value, list) else [value] for split, value in named.items()}


def class_names(data: str) -> dict[int, str]:
    """Return the class names of a data YAML, given by path or by a name that Ultralytics knows, or of class folders."""
    if Path(data).is_dir():
        return classified(Path(data)).names
    path = Path(data) if Path(data).is_file() else DATASETS_FOLDER / data
    return dict(load_data_yaml(path, needed=())["names"])


def check_splits(data: str, split: str) -> None:
    """Refuse data on whose splits nothing can be measured; see :func:`detgraft.datasets.folder.check_measured`.

    Args:
        data: Path of the data YAML, or a name that Ultralytics knows and may still have to fetch.
        split: ``auto``, ``val`` or ``test``.

    Raises:
        DataError: Says what is missing.
    """
    if Path(data).is_dir():
        classified(Path(data)).check(split)
        return
    here = Path(data).is_file()
    path = Path(data) if here else DATASETS_FOLDER / data
    check_measured(path, split, datasets_dir=Path(SETTINGS["datasets_dir"]), here=here)


def own_weights(model: str, plugins: Sequence[str] = ()) -> list[str]:
    """Say which rows of an arm load weights of their own; nothing is built or fetched.

    Args:
        model: A graft expression or a YAML.
        plugins: Python files with own blocks.

    Returns:
        One text for each row: where it is written, its module and its weights.

    Raises:
        DetgraftError: The description is malformed.
    """
    load_plugins(plugins)
    plan = plan_of(description_of(model))
    found = []
    for row in plan.rows:
        entry = catalogue.find(row.module)
        weights: Any = None
        if entry is not None and entry.takes_weights:
            weights = pyramid_arguments(plan, row, entry)[1]
        elif row.module.rpartition(".")[2] == "TorchVision":
            # Its weights stand behind the channels and the model's name; without a word it takes the published ones.
            weights = row.args[2] if len(row.args) > 2 else "DEFAULT"
        if weights not in (None, "", "None", False):
            found.append(f"{row.location}: {row.module} with {weights}")
    return found


def task_named(model: str, plugins: Sequence[str] = ()) -> str:
    """Return what an arm is for, as its last row says; nothing is built.

    Args:
        model: A graft expression or a YAML.
        plugins: Python files with own blocks.

    Raises:
        DetgraftError: The description is malformed.
    """
    load_plugins(plugins)
    return str(tasks.guess_model_task(description_of(model)) or "detect")


def task_of(built: Any) -> str:
    """Return what a built model is for: ``detect``, ``segment``, ``pose``, ``obb``, ``classify``..."""
    return str(tasks.guess_model_task(built))


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
