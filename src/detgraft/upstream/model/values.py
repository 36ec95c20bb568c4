"""Checks the values of Ultralytics' arguments before anything is built, fetched or written.

Ultralytics finds some of them wrong only after it has made the run's folder and read the pictures, and takes others for
something else without a word (``device=mps`` without Apple's GPU trains on the CPU).
"""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from detgraft.base.sentences import sentence
from detgraft.base.values import is_on, read_size
from detgraft.errors import ArgumentError, Location, WeightsError, nearest

_SWITCHES = ("trust", "download", "freeze_random")
_CACHES = (True, False, "ram", "disk")
_SPLITS = ("train", "val", "test", "minival")


def check_values(mode: str, values: Mapping[str, Any]) -> None:
    """Check the arguments of one of Ultralytics' modes, as far as no model is needed for it.

    Args:
        mode: ``train``, ``val``, ``predict``, ``track``, ``export`` or ``benchmark``.
        values: Arguments by name; detgraft's own are checked, too.

    Raises:
        ArgumentError: The first wrong value, with what it may be.
        WeightsError: ``pretrained=`` or ``resume=`` names a checkpoint that is not there.
    """
    if values.get("mode") not in (None, mode):
        raise ArgumentError(f"mode={values['mode']} is another command; write detgraft {values['mode']} ...")
    for key, value in values.items():
        if key in _SWITCHES and not isinstance(value, bool):
            raise ArgumentError(f"{key} is True or False, found {value!r:.60}")
        if key in _CHECKS and value is not None:
            _CHECKS[key](value)
    refused = _refused(values)
    if refused:
        raise ArgumentError(refused)
    _check_ranges(values)
    if mode in ("val", "predict", "track", "export", "benchmark") and values.get("batch") is not None:
        _check_count("batch", values["batch"], 1)
    if mode == "train":
        for key in ("pretrained", "resume"):
            if isinstance(values.get(key), (str, Path)):
                refuse_absent(str(values[key]))
    if mode in ("predict", "track") and isinstance(values.get("source"), (str, Path)):
        check_source(str(values["source"]))


def _refused(values: Mapping[str, Any]) -> str:
    """Ultralytics' own sentence about the first value whose type or range it refuses."""
    from ultralytics.cfg import DEFAULT_CFG_DICT, check_cfg

    for key, value in values.items():
        if key not in DEFAULT_CFG_DICT or (key == "batch" and isinstance(value, str)):
            continue
        try:
            check_cfg({key: value}, hard=True)
        except (TypeError, ValueError) as error:
            return sentence(error)
    return ""


def check_device(value: Any) -> None:
    """Check that a device is one that this machine has.

    Args:
        value: ``cpu``, ``mps``, a CUDA device's number or several (``0,1``), ``cuda``, ``cuda:1``, -1 (an idle one)...

    Raises:
        ArgumentError: No such device here; says what there is.
    """
    if isinstance(value, torch.device):
        return
    text = _device_text(value)
    if text in ("", "none", "cpu") or text.startswith(("npu", "xpu", "intel", "vulkan", "tpu:")):
        return
    if text.startswith("mps"):
        if not torch.backends.mps.is_available():
            raise ArgumentError(f"device={text}: this machine has no GPU of Apple's; {_devices()}")
        return
    numbers = text.replace("cuda:", "").split(",")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text == "cuda":
        numbers = ["0"]
    if not all(re.fullmatch(r"-?\d+", number) for number in numbers):
        raise ArgumentError(f"device is cpu, mps, or the number of a GPU such as 0 or 0,1; found {value!r:.60}")
    if count == 0 or any(int(number) >= count or int(number) < -1 for number in numbers):
        raise ArgumentError(f"device={text}: {_devices()}")


def several_devices(value: Any) -> bool:
    """Say whether a device names more than one, so that Ultralytics trains in processes of their own."""
    return "," in _device_text(value).strip(",")


def _device_text(value: Any) -> str:
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    return ",".join(str(item) for item in listed).strip().lower().replace(" ", "").strip("[]()'\"")


_LEAST = {"epochs": 1, "max_det": 1, "opset": 1, "vid_stride": 1, "patience": 0, "seed": 0, "close_mosaic": 0}
"""Least value of each whole number whose range older releases (8.3.0) do not check: epochs=-1 "trained" there."""


def _check_ranges(values: Mapping[str, Any]) -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    for key, value in values.items():
        default = DEFAULT_CFG_DICT.get(key)
        if key in _LEAST and not (value is None and default is None):
            _check_count(key, value, _LEAST[key])
        if key == "fraction" and not (isinstance(value, (int, float)) and 0 < value <= 1):
            raise ArgumentError(
                f"fraction is the share of the pictures that is trained on, above 0 and up to 1; found {value!r:.60}"
            )
        if isinstance(default, bool) and isinstance(value, str) and key not in _MORE_THAN_SWITCHES:
            raise ArgumentError(f"{key} is True or False, found {value!r:.60}")


_MORE_THAN_SWITCHES = ("cache", "compile", "pretrained", "resume")


def _devices() -> str:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count:
        return f"torch sees {count} GPU{'s' if count > 1 else ''} here; write device={','.join(map(str, range(count)))}"
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    why = f" (CUDA_VISIBLE_DEVICES={hidden!r})" if hidden is not None else ""
    built = "" if torch.version.cuda else "; this torch was installed without CUDA"
    return f"torch sees no CUDA GPU here{why}{built}; write device=cpu"


def _check_size(value: Any) -> None:
    read_size(value)


def _check_optimizer(value: Any) -> None:
    if not isinstance(value, str):
        raise ArgumentError(f"optimizer is a name (a str) such as SGD, found {value!r:.60}")
    known = optimizers()
    if known and str(value).lower() not in (name.lower() for name in known):
        raise ArgumentError(f"there is no optimizer '{value}'.{nearest(str(value), known)} It is {', '.join(known)}")


@functools.lru_cache(maxsize=1)
def optimizers() -> tuple[str, ...]:
    """The optimizers of the installed release, as its trainer's source lists them; empty where it does not."""
    from ultralytics.engine.trainer import BaseTrainer

    try:
        found = re.search(r"optimizers = \{([^}]*)\}", inspect.getsource(BaseTrainer.build_optimizer))
    except (OSError, TypeError, AttributeError):
        return ()
    return tuple(sorted(re.findall(r"\"(\w+)\"", found.group(1)), key=str.lower)) if found else ()


def _check_cache(value: Any) -> None:
    if not (isinstance(value, bool) or value in _CACHES):
        raise ArgumentError(f"cache is True (or ram), disk or False, found {value!r:.60}")


def _check_split(value: Any) -> None:
    if value not in _SPLITS:
        raise ArgumentError(f"split is train, val or test, found {value!r:.60}.{nearest(str(value), _SPLITS)}")


def _check_classes(value: Any) -> None:
    listed = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in listed):
        raise ArgumentError(f"classes takes the numbers of classes, such as 0 or 0,2; found {value!r:.60}")


def check_task(task: Any, mapping: Mapping[str, Any] | None = None, model: str = "") -> None:
    """Check a task, and that a description has a head for it.

    Args:
        task: The task, or None.
        mapping: The model's description, where it has one.
        model: The model's name, for the message.

    Raises:
        ArgumentError: No such task, or the model has another one's head.
    """
    from ultralytics.cfg import TASKS
    from ultralytics.nn.tasks import guess_model_task

    if task is None:
        return
    if task not in TASKS:
        known = sorted(TASKS)
        raise ArgumentError(f"there is no task '{task}'.{nearest(str(task), known)} Tasks: {', '.join(known)}")
    own = guess_model_task(dict(mapping)) if mapping is not None else task
    if own != task:
        raise ArgumentError(
            f"task={task}: '{model.removesuffix('.yaml')}' has the head of task {own}; leave task= out, or take a "
            f"model of that task, such as yolo11n-{_ENDINGS.get(str(task), 'seg')}"
        )


_ENDINGS = {"segment": "seg", "classify": "cls", "pose": "pose", "obb": "obb"}


def _check_count(key: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ArgumentError(f"{key} is a whole number >= {least}, found {value!r:.60}")


def _check_compile(value: Any) -> None:
    modes = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
    if not isinstance(value, bool) and value not in modes:
        raise ArgumentError(f"compile is True, False or one of {', '.join(modes)}; found {value!r:.60}")


def _check_file(key: str, folder: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        import ultralytics

        shipped = Path(ultralytics.__file__).parent / "cfg" / folder
        if isinstance(value, (str, Path)) and not Path(value).is_file() and not (shipped / str(value)).is_file():
            names = [path.name for path in shipped.glob("*.yaml")]
            raise ArgumentError(f"{key}={value}: there is no such file.{nearest(Path(value).name, names)}")

    return check


def _check_project(value: Any) -> None:
    path = Path(str(value))
    for folder in (path, *path.parents):
        if folder.is_dir():
            if not os.access(folder, os.W_OK):
                raise ArgumentError(f"project={value}: the folder {folder} cannot be written to; write project=FOLDER")
            return
        if folder.exists():
            raise ArgumentError(f"project={value}: {folder} is a file; give a folder")


def _check_name(value: Any) -> None:
    if ".." in str(value).replace("\\", "/").split("/"):
        raise ArgumentError(f"name={value} leads out of the runs' folder; give the folder as project=")


_CHECKS: Mapping[str, Callable[[Any], None]] = {
    "imgsz": _check_size,
    "device": check_device,
    "optimizer": _check_optimizer,
    "cache": _check_cache,
    "split": _check_split,
    "classes": _check_classes,
    "task": check_task,
    "workers": lambda value: _check_count("workers", value, 0),
    "compile": _check_compile,
    "cfg": _check_file("cfg", "."),
    "tracker": _check_file("tracker", "trackers"),
    "project": _check_project,
    "name": _check_name,
}


def check_source(source: str) -> None:
    """Check that there is something to predict on.

    Args:
        source: A picture, a folder, a video, a pattern, a list in a text file, a camera's number, or an address.

    Raises:
        ArgumentError: It names nothing that is here, or nothing that can be read.
    """
    from ultralytics.data.utils import IMG_FORMATS, VID_FORMATS

    if "://" in source or source.isdigit() or source.lower().startswith("screen") or source.endswith(".streams"):
        return
    kinds = {*IMG_FORMATS, *VID_FORMATS}
    path = Path(source)
    if "*" in source:
        if not any(_is_kind(found, kinds) for found in _matches(source)):
            raise ArgumentError(f"source={source}: no picture or video matches")
    elif path.is_dir():
        if not any(_is_kind(found, kinds) for found in path.iterdir()):
            below = next((found.parent for found in sorted(path.rglob("*")) if _is_kind(found, kinds)), None)
            hint = f"; there are some in {below}: write source={below}" if below else ""
            raise ArgumentError(f"source={source}: there is no picture or video in this folder{hint}")
    elif not path.exists():
        siblings = [found.name for found in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ArgumentError(f"source={source}: there is no such file or folder.{nearest(path.name, siblings)}")
    elif not _is_kind(path, kinds) and path.suffix.lower() not in (".txt", ".csv"):
        raise ArgumentError(f"source={source} is no picture or video; the formats are {', '.join(sorted(kinds))}")


def _matches(pattern: str) -> list[Path]:
    import glob

    return [Path(found) for found in glob.glob(pattern, recursive=True)]  # noqa: PTH207 (as Ultralytics finds them)


def _is_kind(path: Path, kinds: set[str]) -> bool:
    return path.suffix[1:].lower() in kinds and path.is_file()


def is_offline() -> bool:
    """Say whether the user has forbidden to ask the network."""
    return is_on(os.environ.get("YOLO_OFFLINE"))


def refuse_absent(checkpoint: str) -> None:
    """Refuse a checkpoint that is not here and that Ultralytics would not, or may not, fetch.

    Args:
        checkpoint: Its name.

    Raises:
        WeightsError: Says where it was looked for, and what is near.
    """
    from ultralytics.utils import SETTINGS
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    path = Path(checkpoint)
    kept = Path(SETTINGS["weights_dir"]) / path  # where Ultralytics looks, too
    if "://" in checkpoint or _is_there(path) or _is_there(kept):
        return
    where = Location(checkpoint)
    if path.name == checkpoint and checkpoint in GITHUB_ASSETS_NAMES:
        if is_offline():
            raise WeightsError(
                f"is not here and YOLO_OFFLINE=1 forbids to fetch it; put the file into {Path.cwd()} or {kept.parent}",
                where,
            )
        return
    folders = [folder for folder in (path.parent, kept.parent) if folder.is_dir()]
    siblings = [found.name for folder in folders for found in folder.glob("*.pt")]
    raise WeightsError(f"there is no such checkpoint.{_near(path.name, siblings)}", where)


def _near(name: str, siblings: list[str]) -> str:
    from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

    published = [name.lower(), re.sub(r"^yolov(?=\d)", "yolo", name.lower()), re.sub(r"^yolo(?=\d)", "yolov", name)]
    match = next((candidate for candidate in published if candidate in GITHUB_ASSETS_NAMES), None)
    return f" Did you mean '{match}'?" if match else nearest(name, siblings)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # longer than a file's name can be
        return False
