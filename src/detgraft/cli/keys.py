"""The keys of every command, with one line each: what ``--help`` lists and what a command accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from typer.core import TyperCommand

from detgraft.cli.arguments import check_keys as _check_keys

UPSTREAM = "https://docs.ultralytics.com/usage/cfg/"
"""Where Ultralytics lists its own arguments."""

_MODEL = "an expression (yolo11n+carafe), a YAML, or a checkpoint"
_PLUGINS = "Python file with own blocks; several with commas"
_TRUST = "let a checkpoint run the code that it holds"
_DATA = "a data YAML, or a folder with train/images, train/labels, val/..."
_OPENING = {"plugins": _PLUGINS, "trust": _TRUST}
_TRANSFER = {
    "transfer": "checkpoint of the base; every layer that the grafts left alone gets its weights",
    "transfer_min": "smallest share of tensors that must arrive, 0 to 1",
}

KEYS: Mapping[str, Mapping[str, str]] = {
    "train": {
        "model": _MODEL,
        "data": _DATA,
        "epochs": "passes over the training pictures; 100",
        "imgsz": "side of the pictures in pixels; 640",
        "batch": "pictures in a step; -1 lets Ultralytics choose",
        "device": "cpu, the number of a GPU, or several: 0,1",
        "resume": "last.pt of a training that was broken off",
        **_TRANSFER,
        "freeze_random": "freeze layers, too, that no checkpoint gave",
        "download": "let the data YAML fetch its pictures or run its download script",
        "pretrain": "folder of pictures without labels that the backbone learns from first",
        "pretrain_KEY": "an argument of that first step, such as pretrain_epochs=200",
        **_OPENING,
    },
    "val": {
        "model": _MODEL,
        "data": _DATA,
        "split": "val, test or train; val",
        "download": "let the data YAML fetch its pictures or run its download script",
        **_TRANSFER,
        **_OPENING,
    },
    "predict": {
        "model": _MODEL,
        "source": "a picture, a folder, a video, a pattern, an address or a camera's number",
        "conf": "smallest confidence that is shown, 0 to 1; 0.25",
        "visualize": "write a heat map beside every picture: what in it speaks for the detections",
        **_TRANSFER,
        **_OPENING,
    },
    "track": {
        "model": _MODEL,
        "source": "a video, a folder of pictures, an address or a camera's number",
        "tracker": "botsort.yaml or bytetrack.yaml",
        **_TRANSFER,
        **_OPENING,
    },
    "export": {
        "model": _MODEL,
        "format": "onnx, torchscript, engine, openvino... or safetensors (weights without pickle); torchscript",
        "imgsz": "side of the pictures in pixels",
        **_TRANSFER,
        **_OPENING,
    },
    "benchmark": {
        "model": _MODEL,
        "data": _DATA,
        "format": "one export format; all by default",
        **_TRANSFER,
        **_OPENING,
    },
    "show": {
        "imgsz": "pixels: 640, or height,width; 640",
        "nc": "number of classes; what the description says",
        "ch": "number of image channels; 3",
        "transfer": "checkpoint whose weights the drawing follows; otherwise what fits the stock base",
        **_OPENING,
    },
    "check": {
        "data": "a data YAML or folder, to check it too",
        "imgsz": "pixels: 640, or height,width; 640",
        "nc": "number of classes; what the description says",
        "only": "names of checks with commas between; all by default",
        **_OPENING,
    },
    "compare": {
        "source": "a picture, a folder of pictures, or a data YAML (its val split)",
        "out": "the picture that is written; compare.png",
        "count": "how many pictures are drawn; 6",
        "imgsz": "side of the pictures in pixels; what each model was trained with",
        "device": "cpu, or the number of a GPU",
        **_OPENING,
    },
    "new": {
        "channels": "of a block: scaled (default), same, fixed or pyramid, how its channels follow",
        "kind": "of a loss: what it is a loss of; box by default",
        "out": "folder for the two files; here by default",
    },
    "pretrain": {
        "model": "a backbone of the catalogue, such as convnextv2_atto",
        "data": "folder of pictures; labels are not needed",
        "epochs": "passes over the pictures",
        "imgsz": "side of the pictures in pixels",
        "batch": "pictures in a step",
        "accumulate": "steps whose gradients are added up before one update",
        "lr": "learning rate; follows the batch by default",
        "weight_decay": "of the optimiser; 0.05",
        "width": "factor on the backbone's channels; 1",
        "mask_ratio": "share of a picture that is hidden; 0.6",
        "normalize": "none, or patch: targets are brought to one scale in every patch",
        "seed": "of the random numbers; 0",
        "device": "cpu, or the number of a GPU",
        "workers": "processes that read pictures",
        "precision": "32-true, bf16-mixed...; follows the device by default",
        "project": "folder of the runs",
        "name": "name of the run",
        "save_dir": "folder of this run, in place of project= and name=",
        "resume": "go on with the checkpoint in the run's folder, or with this file",
        "picture_every": "epochs between two pictures of what is learnt",
        "save_every": "epochs between two checkpoints; 1",
        "max_steps": "stop after so many steps",
        "tensorboard": "write events for TensorBoard",
        "verbose": "print the progress; True",
    },
    "study": {
        "data": _DATA,
        "base": "the stock model that is compared with, such as yolo11n",
        "variants": "grafts with commas between: carafe,convnextv2_atto; screen: also @all, a text file, *.yaml",
        "factors": "in place of variants: two to four grafts of which every combination is trained",
        "seeds": "number of runs of every model, or the seeds with commas between",
        "stop": "sequential: look after 5, 6, 7, ... seeds and end an arm as soon as its verdict is clear",
        "init": "where every arm starts: scratch (default), transfer or pretrained",
        "weights": "checkpoint for transfer and pretrained; pretrained: also none",
        "transfer_min": "smallest share of tensors that must arrive, 0 to 1; 0",
        "controls": "scale (default) adds the next larger stock model; none",
        "primary": "figure that decides: AP, AP50, AP75; top1 for classification",
        "split": "auto (default: test where the data has it, otherwise val), test or val",
        "margin": "differences up to this size count as none; 0.01 is one AP point",
        "alpha": "share of studies that may say helps or hurts where nothing differs; 0.05",
        "bootstrap": "resamplings of the test pictures; 1000",
        "plugins": _PLUGINS,
        "device": "cpu, the number of a GPU, or several over which the runs are spread: 0,1",
        "executor": "local (default) or ray",
        "address": "ray: of a running cluster, or auto",
        "workers": "runs at once; auto (default) is one for each GPU",
        "stall": "a run without an epoch for so many times the slowest one so far is ended; 10, or none",
        "track": "mlflow, tensorboard, or both with a comma between",
        "name": "name of the study",
        "out": "folder of the study; runs/study/NAME",
        "budget": "screen: the most that everything may cost, in whole runs",
        "keep": "screen: variants that are confirmed; one in thirteen, at least two",
        "short": "screen: epochs of its runs; as many as of the confirmation",
        "retry": "run, screen: take up failed or damaged runs again",
        "resume": "run, retry, screen: continue (default) or restart broken-off runs",
        "extend": "run, retry: accept a study with more seeds or arms",
        "to": "report, export, init: where to write",
        "claims": "report: a Markdown file with what others published",
        "lang": "report, export: en (default) or zh",
        "force": "init: write over what is there",
    },
    "demo": {
        "out": "folder for the results; detgraft-demo",
        "graft": "the grafted model; yolo11n+carafe",
        "epochs": "passes over the pictures; 30",
    },
    "list": {},
    "env": {},
}
"""Description by key, by command."""

OF_UPSTREAM = ("train", "val", "predict", "track", "export", "benchmark")
"""Commands that hand every argument of Ultralytics through."""

FILES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "show": {
        "--html": (".html", ".htm"),
        "--svg": (".svg",),
        "--drawio": (".drawio", ".xml"),
        "--csv": (".csv",),
        "--latex": (".tex",),
    }
}
"""Options that may be followed by a file's name, with the endings that such a name has."""

_FILES_HELP = {
    "--html": "page with the model's drawing and its stock base beside it",
    "--svg": "the drawing alone, for a paper",
    "--drawio": "the drawing as an editable file",
    "--csv": "the table of layers, for a spreadsheet",
    "--latex": "the table of layers, for a paper",
}


def check_keys(command: str, given: Iterable[str], more: Iterable[str] = ()) -> None:
    """Raise for a key that a command does not have.

    Args:
        command: The command.
        given: Keys as given.
        more: Keys that it has beside its own.

    Raises:
        ArgumentError: Names the nearest key, and all of them where they are few.
    """
    _check_keys(given, [*(key for key in KEYS[command] if key != "pretrain_KEY"), *more])


class KeyedCommand(TyperCommand):
    """A command whose help lists its keys."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help, then the keys."""
        super().format_help(ctx, formatter)
        name = str(ctx.info_name)
        rows = [(f"{key}=", line) for key, line in KEYS.get(name, {}).items()]
        rows += [(f"{option} [FILE]", _FILES_HELP[option]) for option in FILES.get(name, {})]
        if rows:
            with formatter.section("Keys"):
                formatter.write_dl(rows)
        if name in OF_UPSTREAM:
            formatter.write(f"\n  Every argument of Ultralytics, too: {UPSTREAM}\n")
        if name == "study":
            formatter.write(f"\n  Training arguments that act alike on every arm, too (epochs=100): {UPSTREAM}\n")
