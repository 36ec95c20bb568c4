"""Hostile files: how each is made, what opens it, and the sentence that it must end in.

`CASES` is plain data beside the functions that write the files, so that a document can list what was tried; the tests
in `test_hostile.py` run every one. Payloads only ever make the folder ``ran`` beside the file, which must not appear.
"""

from __future__ import annotations

import builtins
import functools
import io
import json
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor
from trust_support import SMALL, with_row

KEY = "detgraft"


@dataclass(frozen=True)
class Case:
    """One hostile file.

    Args:
        name: Short name.
        kind: ``checkpoint``, ``weights``, ``safetensors``, ``model YAML``, ``data set`` or ``plug-in``.
        tried: What the file does, in words.
        opened_by: What opens it; see ``test_hostile.OPENERS``.
        write: Writes the file into a folder and returns its path.
        outcome: Words of the error.
    """

    name: str
    kind: str
    tried: str
    opened_by: str
    write: Callable[[Path], Path]
    outcome: str


class Call:
    """Unpickles into a call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.what = (function, args)

    def __reduce__(self) -> Any:
        return self.what


def _saved(content: Callable[[Path], Any], name: str = "evil.pt", **how: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(content(folder), folder / name, **how)
        return folder / name

    return write


def _bytes(content: bytes | Callable[[Path], bytes], name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content(folder))
        return folder / name

    return write


def _text(content: str | Callable[[Path], str], name: str) -> Callable[[Path], Path]:
    def encoded(folder: Path) -> bytes:
        return (content if isinstance(content, str) else content(folder)).encode()

    return _bytes(encoded, name)


def _ran(folder: Path) -> str:
    return str(folder / "ran")


def _code(folder: Path) -> str:
    return f"import os; os.mkdir({_ran(folder)!r})"


def _zip(
    entries: dict[str, bytes], name: str = "evil.pt", compress: int = zipfile.ZIP_STORED
) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / name, "w", compress) as archive:
            for entry, content in entries.items():
                archive.writestr(entry, content)
        return folder / name

    return write


def _cut(folder: Path) -> bytes:
    whole = io.BytesIO()
    torch.save({"model": torch.zeros(10_000)}, whole)
    return whole.getvalue()[:20_000]


def _missing_module(folder: Path) -> bytes:
    return b"\x80\x02cnot_installed_anywhere\nEvil\n)\x81."


BOMB = {"archive/data.pkl": pickle.dumps({}), "archive/data/0": bytes(100_000_000)}


@functools.cache
def _small_model() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record and the tensors of a good file."""
    import tempfile

    from safetensors import safe_open

    import detgraft
    from detgraft.upstream.model.safetensors import write_safetensors

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "yolo11n-small.yaml"
        source.write_text(SMALL, "utf-8")
        path = write_safetensors(detgraft.YOLO(source).model, Path(folder) / "good.safetensors")
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()[KEY])
            return record, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118


def _model(
    record: Callable[[dict[str, Any]], Any] = lambda _record: None,
    tensors: Callable[[dict[str, Tensor]], Any] = lambda _tensors: None,
) -> Callable[[Path], Path]:
    """A model file with changes to what it says and to what it holds."""

    def write(folder: Path) -> Path:
        told, held = _small_model()
        told, held = json.loads(json.dumps(told)), dict(held)
        record(told)
        tensors(held)
        save_file(held, folder / "evil.safetensors", metadata={KEY: json.dumps(told)})
        return folder / "evil.safetensors"

    return write


def _described(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save_file({"a": torch.zeros(1)}, folder / "evil.safetensors", metadata={KEY: text})
        return folder / "evil.safetensors"

    return write


def _header(header: bytes, length: int | None = None, body: bytes = b"") -> Callable[[Path], Path]:
    size = len(header) if length is None else length
    return _bytes(size.to_bytes(8, "little") + header + body, "evil.safetensors")


def _put(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record.__setitem__(key, value)


def _in_description(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda record: record["description"].__setitem__(key, value)


def _row(position: int, row: list[Any], claims: str = "") -> Callable[[dict[str, Any]], Any]:
    def change(record: dict[str, Any]) -> None:
        record["description"]["backbone"][position] = row
        if claims:
            record["description"]["yaml_file"] = claims

    return change


def _first(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], Any]:
    name = "model.0.conv.weight"
    return lambda tensors: tensors.__setitem__(name, change(tensors[name]))


def _yaml(change: Callable[[str], str]) -> Callable[[Path], Path]:
    return _text(change(SMALL), "yolo11n-evil.yaml")


def _aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def _data(extra: str | Callable[[Path], str], **content: Any) -> Callable[[Path], Path]:
    plain = {"path": "pictures", "train": "images/train", "val": "images/val", "names": ["a"], **content}
    kept = {key: value for key, value in plain.items() if value is not None}

    def text(folder: Path) -> str:
        return yaml.safe_dump(kept) + (extra if isinstance(extra, str) else extra(folder))

    return _text(text, "evil-data.yaml")


def _labels(row: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        for split in ("train", "val"):
            for part in ("images", "labels"):
                (folder / "set" / part / split).mkdir(parents=True)
            (folder / "set" / "images" / split / "p.png").write_bytes(b"")
            (folder / "set" / "labels" / split / "p.txt").write_text(row + "\n", "utf-8")
        return folder / "set"

    return write


_REDUCE = "opening it would run code: it needs "
_BLOCK = """
import torch
from detgraft import register
class Block(torch.nn.Module):
    def __init__(self, c1: int) -> None:
        super().__init__()
"""

CASES: tuple[Case, ...] = (
    # checkpoints
    Case(
        "os-mkdir",
        "checkpoint",
        "a pickle that calls os.mkdir",
        "show",
        _saved(lambda f: {"model": Call(os.mkdir, _ran(f))}),
        _REDUCE + "posix.mkdir",
    ),
    Case(
        "os-system",
        "checkpoint",
        "a pickle that calls os.system",
        "YOLO",
        _saved(lambda f: {"model": Call(os.system, f"mkdir {_ran(f)}")}),
        _REDUCE + "posix.system",
    ),
    Case(
        "exec",
        "checkpoint",
        "a pickle that calls exec",
        "YOLO",
        _saved(lambda f: {"model": Call(exec, _code(f))}),
        _REDUCE + "builtins.exec",
    ),
    Case(
        "eval",
        "checkpoint",
        "a pickle that calls eval",
        "check",
        _saved(lambda f: {"model": Call(eval, f"__import__('os').mkdir({_ran(f)!r})")}),
        _REDUCE + "builtins.eval",
    ),
    Case(
        "popen",
        "checkpoint",
        "a pickle that starts a process",
        "show",
        _saved(lambda f: {"model": Call(subprocess.Popen, ["mkdir", _ran(f)])}),
        _REDUCE,
    ),
    Case(
        "partial",
        "checkpoint",
        "a pickle that hides a call in functools.partial",
        "show",
        _saved(lambda f: {"model": functools.partial(os.mkdir, _ran(f))}),
        _REDUCE + "functools.partial",
    ),
    Case(
        "getattr",
        "checkpoint",
        "a pickle that reaches a function through getattr",
        "show",
        _saved(lambda f: {"model": Call(Call, Call(builtins.getattr, Call(__import__, "os"), "mkdir"))}),
        _REDUCE,
    ),
    Case(
        "train-args",
        "checkpoint",
        "a call among the training arguments",
        "YOLO",
        _saved(lambda f: {"model": None, "train_args": {"data": Call(os.mkdir, _ran(f))}}),
        _REDUCE + "posix.mkdir",
    ),
    Case(
        "optimizer",
        "checkpoint",
        "a call in the optimiser's state",
        "YOLO",
        _saved(lambda f: {"model": None, "optimizer": [Call(os.mkdir, _ran(f))]}),
        _REDUCE + "posix.mkdir",
    ),
    Case(
        "legacy",
        "checkpoint",
        "a call in torch's old file format",
        "YOLO",
        _saved(lambda f: {"model": Call(os.mkdir, _ran(f))}, _use_new_zipfile_serialization=False),
        "cannot be opened",
    ),
    Case(
        "bare-pickle",
        "checkpoint",
        "a bare pickle that calls os.mkdir",
        "YOLO",
        _bytes(lambda f: pickle.dumps(Call(os.mkdir, _ran(f))), "evil.pt"),
        "cannot be opened",
    ),
    Case(
        "missing-module",
        "checkpoint",
        "a class of a package that is not installed",
        "YOLO",
        _zip({"archive/data.pkl": b"\x80\x02cnot_installed_anywhere\nEvil\n)\x81.", "archive/version": b"3\n"}),
        "not_installed_anywhere",
    ),
    Case("empty", "checkpoint", "an empty file", "YOLO", _bytes(b"", "evil.pt"), "cannot be opened"),
    Case("cut", "checkpoint", "half a checkpoint", "show", _bytes(_cut, "evil.pt"), "cannot be opened"),
    Case("noise", "checkpoint", "random bytes", "show", _bytes(bytes(range(256)) * 40, "evil.pt"), "cannot be opened"),
    Case(
        "picture",
        "checkpoint",
        "a PNG that is called .pt",
        "YOLO",
        _bytes(b"\x89PNG\r\n\x1a\n" + bytes(500), "evil.pt"),
        "cannot be opened",
    ),
    Case(
        "no-model",
        "checkpoint",
        "a dictionary without a model",
        "YOLO",
        _saved(lambda f: {"model": None, "epoch": 3}),
        "cannot be opened",
    ),
    Case(
        "text-model",
        "checkpoint",
        "a text in the place of the model",
        "show",
        _saved(lambda f: {"model": "yolo11n.yaml"}),
        "cannot be opened",
    ),
    Case(
        "bomb",
        "checkpoint",
        "a zip bomb: 100 kB that unpack to 100 MB",
        "YOLO",
        _zip(BOMB, compress=zipfile.ZIP_DEFLATED),
        "would unpack to",
    ),
    Case(
        "traversal",
        "checkpoint",
        "an archive with entries outside of its folder",
        "YOLO",
        _zip({"../../ran": b"x", "archive/data.pkl": pickle.dumps({})}),
        "cannot be opened",
    ),
    Case(
        "transfer",
        "checkpoint",
        "transfer= of a pickle that calls os.mkdir",
        "transfer",
        _saved(lambda f: {"model": Call(os.mkdir, _ran(f))}),
        _REDUCE + "posix.mkdir",
    ),
    Case(
        "pretrained",
        "checkpoint",
        "pretrained= of a pickle that calls os.mkdir",
        "pretrained",
        _saved(lambda f: {"model": Call(os.mkdir, _ran(f))}),
        _REDUCE + "posix.mkdir",
    ),
    Case(
        "resume",
        "checkpoint",
        "resume= of a pickle that calls os.mkdir",
        "resume",
        _saved(lambda f: {"model": Call(os.mkdir, _ran(f))}),
        _REDUCE + "posix.mkdir",
    ),
    # weights of a backbone
    Case(
        "weights-call",
        "weights",
        "weights= of a pickle that calls os.mkdir",
        "weights",
        _saved(lambda f: {"model": Call(os.mkdir, _ran(f))}, "evil.pth"),
        "cannot be read as a weights file",
    ),
    Case("weights-cut", "weights", "half a weights file", "weights", _bytes(_cut, "evil.pth"), "cannot be read"),
    Case(
        "weights-bomb",
        "weights",
        "a zip bomb",
        "weights",
        _zip(BOMB, "evil.pth", zipfile.ZIP_DEFLATED),
        "would unpack to",
    ),
    Case(
        "weights-nothing",
        "weights",
        "a list in the place of tensors",
        "weights",
        _saved(lambda f: [1, 2, 3], "evil.pth"),
        "expected tensors by name",
    ),
    Case(
        "weights-foreign",
        "weights",
        "tensors of another model",
        "weights",
        _saved(lambda f: {"a.weight": torch.zeros(3)}, "evil.pth"),
        "is not for timm/",
    ),
    Case(
        "weights-header",
        "weights",
        "a safetensors header longer than the file",
        "weights",
        _header(b"{}", length=1 << 40),
        "cannot be read",
    ),
    # models without pickle
    Case(
        "long-header",
        "safetensors",
        "a header longer than the file",
        "YOLO",
        _header(b"{}", length=1 << 50),
        "not a safetensors file",
    ),
    Case("no-json", "safetensors", "a header that is no JSON", "YOLO", _header(b"{{{{{{{{"), "not a safetensors file"),
    Case(
        "offsets",
        "safetensors",
        "a tensor that ends behind the file",
        "YOLO",
        _header(b'{"a":{"dtype":"F32","shape":[99999999],"data_offsets":[0,399999996]}}', body=b"1234"),
        "not a safetensors file",
    ),
    Case(
        "shape-lie",
        "safetensors",
        "a shape that does not fit its bytes",
        "YOLO",
        _header(b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}}', body=b"1234"),
        "not a safetensors file",
    ),
    Case(
        "no-description",
        "safetensors",
        "tensors without a description",
        "YOLO",
        lambda f: (save_file({"a": torch.zeros(1)}, f / "evil.safetensors"), f / "evil.safetensors")[1],
        "no model description",
    ),
    Case("description-cut", "safetensors", "half a description", "YOLO", _described('{"description": {'), "is damaged"),
    Case(
        "description-list",
        "safetensors",
        "a list in the place of the description",
        "YOLO",
        _described('{"description": [1]}'),
        "is damaged",
    ),
    Case(
        "description-deep",
        "safetensors",
        "a description nested 100,000 deep",
        "YOLO",
        _described("[" * 100_000),
        "is damaged",
    ),
    Case(
        "nan",
        "safetensors",
        "a weight that is NaN",
        "YOLO",
        _model(tensors=_first(lambda t: t.index_fill(0, torch.tensor([0]), float("nan")))),
        "not finite",
    ),
    Case(
        "inf",
        "safetensors",
        "a weight that is infinite",
        "show",
        _model(tensors=_first(lambda t: t * float("inf"))),
        "not finite",
    ),
    Case(
        "whole-numbers",
        "safetensors",
        "weights as 8-bit whole numbers",
        "YOLO",
        _model(tensors=_first(lambda t: (t * 100).to(torch.int8))),
        "is int8, expected float32",
    ),
    Case(
        "other-shape",
        "safetensors",
        "a weight of another shape",
        "YOLO",
        _model(tensors=_first(lambda t: t[:4])),
        "do not fit its description",
    ),
    Case(
        "tensor-missing",
        "safetensors",
        "a weight that is missing",
        "YOLO",
        _model(tensors=lambda t: t.pop("model.0.conv.weight")),
        "do not fit its description",
    ),
    Case(
        "tensor-extra",
        "safetensors",
        "a weight that the model does not have",
        "YOLO",
        _model(tensors=lambda t: t.__setitem__("model.99.x", torch.zeros(1))),
        "do not fit its description",
    ),
    Case(
        "stride",
        "safetensors",
        "other strides than the model's",
        "YOLO",
        _model(_put("stride", [1.0, 2.0, 4.0])),
        "says that its strides are",
    ),
    Case(
        "stride-kind",
        "safetensors",
        "strides that are no numbers",
        "YOLO",
        _model(_put("stride", {"a": "b"})),
        "is damaged",
    ),
    Case(
        "args-kind",
        "safetensors",
        "a list among the training arguments",
        "YOLO",
        _model(_put("args", {"data": ["a", {"b": 1}]})),
        "is damaged",
    ),
    Case(
        "args-value",
        "safetensors",
        "a training argument of a wrong kind",
        "YOLO",
        _model(_put("args", {"epochs": "many"})),
        "is damaged",
    ),
    Case(
        "names",
        "safetensors",
        "fewer class names than classes",
        "YOLO",
        _model(_put("names", [[0, "a"]])),
        "class names",
    ),
    Case(
        "names-numbers",
        "safetensors",
        "class names that are not numbered from 0",
        "YOLO",
        _model(_put("names", [[7, "a"], [9, "b"], [11, "c"]])),
        "is damaged",
    ),
    Case(
        "claims-stock",
        "safetensors",
        "a row of 4e12 parameters under the name yolo11n.yaml",
        "YOLO",
        _model(_row(1, [-1, 1, "Conv", [65_536, 63, 2]], "yolo11n.yaml")),
        "at most",
    ),
    Case(
        "downloads-torchvision",
        "safetensors",
        "a TorchVision row, which would fetch weights",
        "YOLO",
        _model(_row(1, [-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True, 2]])),
        "",
    ),
    Case(
        "downloads-timm",
        "safetensors",
        "a backbone row that asks for imagenet",
        "YOLO",
        _model(_row(0, [-1, 1, "convnextv2_atto", [1.0, "imagenet"]])),
        "",
    ),
    Case(
        "reads-file",
        "safetensors",
        "a backbone row that names a file of this machine",
        "YOLO",
        _model(_row(0, [-1, 1, "convnextv2_atto", [1.0, "/etc/passwd"]])),
        "",
    ),
    Case(
        "activation-code",
        "safetensors",
        "code in the place of the activation",
        "YOLO",
        _model(_in_description("activation", "__import__('os').mkdir('ran')")),
        "must be a torch.nn activation",
    ),
    Case(
        "module-code",
        "safetensors",
        "a module called os.system",
        "YOLO",
        _model(_row(1, [-1, 1, "os.system", ["mkdir ran"]])),
        "there is no module 'os.system'",
    ),
    Case(
        "classes",
        "safetensors",
        "a thousand million classes",
        "YOLO",
        _model(_in_description("nc", 10**9)),
        "number of classes",
    ),
    Case(
        "channels",
        "safetensors",
        "a thousand million image channels",
        "YOLO",
        _model(_in_description("channels", 10**9)),
        "image channels",
    ),
    # model YAMLs
    Case(
        "tag",
        "model YAML",
        "a tag that calls os.system",
        "show",
        _yaml(lambda s: s.replace("nc: 3", "nc: !!python/object/apply:os.system ['mkdir ran']")),
        "is not valid YAML",
    ),
    Case(
        "yaml-activation",
        "model YAML",
        "code in the place of the activation",
        "show",
        _yaml(lambda s: "activation: __import__('os').mkdir('ran')\n" + s),
        "must be a torch.nn activation",
    ),
    Case(
        "argument-code",
        "model YAML",
        "code among a row's arguments",
        "show",
        _text(with_row("[4, 1, CARAFE, [\"__import__('os').mkdir('ran')\"]]"), "yolo11n-evil.yaml"),
        "k_enc",
    ),
    Case(
        "module-import",
        "model YAML",
        "a module called __import__",
        "show",
        _text(with_row("[4, 1, __import__, [os]]"), "yolo11n-evil.yaml"),
        "there is no module",
    ),
    Case(
        "alias-bomb",
        "model YAML",
        "aliases that stand for 10,000 million values",
        "show",
        _yaml(lambda s: _aliases(10) + s),
        "more than",
    ),
    Case(
        "alias-loop",
        "model YAML",
        "a list that holds itself",
        "show",
        _yaml(lambda s: "loop: &a [*a]\n" + s),
        "has no end",
    ),
    Case(
        "deep",
        "model YAML",
        "nested 5,000 deep",
        "show",
        _yaml(lambda s: "deep: " + "[" * 5000 + "]" * 5000 + "\n" + s),
        "nested more than",
    ),
    Case(
        "long-number",
        "model YAML",
        "a number of 10,000 digits",
        "show",
        _yaml(lambda s: s.replace("nc: 3", "nc: " + "9" * 10_000)),
        "is not valid YAML",
    ),
    Case(
        "many-classes",
        "model YAML",
        "10^30 classes",
        "show",
        _yaml(lambda s: s.replace("nc: 3", "nc: 1" + "0" * 30)),
        "number of classes",
    ),
    Case("large", "model YAML", "a file of 3 MB", "show", _yaml(lambda s: s + "# " + "x" * 3_000_000), "bytes"),
    Case(
        "binary",
        "model YAML",
        "bytes that are no text",
        "show",
        _bytes(bytes(range(256)) * 10, "yolo11n-evil.yaml"),
        "",
    ),
    Case(
        "list",
        "model YAML",
        "a list in the place of a mapping",
        "show",
        _text("- a\n- b\n", "yolo11n-evil.yaml"),
        "expected a mapping",
    ),
    Case(
        "repeats",
        "model YAML",
        "a row that repeats a thousand million times",
        "show",
        _yaml(lambda s: s.replace("[-1, 1, Conv, [128", "[-1, 1000000000, Conv, [128")),
        "repeats must be",
    ),
    Case(
        "infinite",
        "model YAML",
        "infinitely many channels",
        "show",
        _yaml(lambda s: s.replace("Conv, [128", "Conv, [.inf")),
        "numbers up to",
    ),
    Case(
        "wide",
        "model YAML",
        "a row of 10^12 parameters",
        "show",
        _yaml(lambda s: s.replace("Conv, [128, 3", "Conv, [65536, 63").replace("0.25, 1024", "1.0, 65536")),
        "at most",
    ),
    # data sets
    Case(
        "data-tag",
        "data set",
        "a tag that calls os.system",
        "data",
        _data("x: !!python/object/apply:os.system ['mkdir ran']\n"),
        "not readable as YAML",
    ),
    Case(
        "script",
        "data set",
        "a download script and no pictures",
        "data",
        _data(lambda f: yaml.safe_dump({"download": _code(f)})),
        "download=True",
    ),
    Case(
        "shell",
        "data set",
        "a download command for the shell and no pictures",
        "data",
        _data("download: bash -c 'mkdir ran'\n"),
        "run a shell command",
    ),
    Case(
        "fetch",
        "data set",
        "an address to fetch pictures from",
        "data",
        _data("download: https://invalid.invalid/x.zip\n"),
        "would fetch",
    ),
    Case(
        "data-bomb",
        "data set",
        "aliases that stand for 10,000 million values",
        "data",
        _data(_aliases(10)),
        "more than",
    ),
    Case(
        "data-loop",
        "data set",
        "names that hold themselves",
        "data",
        _data("names: &a [*a]\n", names=None),
        "has no end",
    ),
    Case(
        "data-number",
        "data set",
        "a number of 10,000 digits",
        "data",
        _data("nc: " + "9" * 10_000 + "\n", names=None),
        "not readable as YAML",
    ),
    Case(
        "data-classes",
        "data set",
        "a class number of 10^30",
        "data",
        _data("names: {1" + "0" * 30 + ": a}\n", names=None),
        "indices 0 to 0",
    ),
    Case(
        "data-outside",
        "data set",
        "pictures that lead out of the folder",
        "data",
        _data("", train="../../../../../nowhere/a", val="../../../../../nowhere/b"),
        "does not exist",
    ),
    Case("data-points", "data set", "10^9 key points", "data", _data("kpt_shape: [1000000000, 3]\n"), "kpt_shape"),
    Case("label-nan", "data set", "a box of NaN", "data", _labels("0 nan 0.5 0.1 0.1"), "expected numbers only"),
    Case(
        "label-infinite", "data set", "an infinite box", "data", _labels("0 0.5 0.5 inf 0.1"), "expected numbers only"
    ),
    Case(
        "label-polygon",
        "data set",
        "a polygon outside of the picture",
        "data",
        _labels("0 0.1 0.1 1.7 0.1 0.5 0.5"),
        "outside of the picture",
    ),
    Case("label-flat", "data set", "a box of no width", "data", _labels("0 0.5 0.5 0 0.1"), "is empty"),
    Case(
        "label-negative", "data set", "a box of negative size", "data", _labels("0 0.5 0.5 -0.2 0.1"), "expected a box"
    ),
    Case("label-class", "data set", "a negative class", "data", _labels("-1 0.5 0.5 0.1 0.1"), "class index"),
    Case("label-short", "data set", "a row of three numbers", "data", _labels("0 0.5 0.5"), "at least 5 numbers"),
    Case(
        "label-code",
        "data set",
        "code in a label",
        "data",
        _labels("0 0.5 0.5 0.1 __import__('os').mkdir('ran')"),
        "expected numbers only",
    ),
    # plug-ins
    Case(
        "plugin-fails",
        "plug-in",
        "a plug-in that fails",
        "plugin",
        _text("raise RuntimeError('no')\n", "evil.py"),
        "the plug-in fails",
    ),
    Case(
        "plugin-syntax",
        "plug-in",
        "a plug-in that is no Python",
        "plugin",
        _text("def (:\n", "evil.py"),
        "the plug-in fails",
    ),
    Case(
        "plugin-exits",
        "plug-in",
        "a plug-in that ends the process",
        "plugin",
        _text("import sys\nsys.exit(0)\n", "evil.py"),
        "ends the process",
    ),
    Case(
        "plugin-taken",
        "plug-in",
        "a plug-in that takes the name of a block",
        "plugin",
        _text(_BLOCK + "register('CARAFE', channels='same')(Block)\n", "evil.py"),
        "already registered",
    ),
    Case(
        "plugin-stock",
        "plug-in",
        "a plug-in that takes the name of a stock module",
        "plugin",
        _text(_BLOCK + "register('Conv', channels='same')(Block)\n", "evil.py"),
        "stock Ultralytics module",
    ),
    Case(
        "plugin-name",
        "plug-in",
        "a name that no expression can hold",
        "plugin",
        _text(_BLOCK + "register('a+b@c', channels='same')(Block)\n", "evil.py"),
        "cannot hold the name",
    ),
    Case(
        "plugin-alias",
        "plug-in",
        "an alias that reads as a file",
        "plugin",
        _text(_BLOCK + "register('evil_block', channels='same', aliases=('evil.yaml',))(Block)\n", "evil.py"),
        "would be read as a file",
    ),
    Case(
        "plugin-half",
        "plug-in",
        "a plug-in that registers a block and then fails",
        "plugin",
        _text(_BLOCK + "register('evil_half', channels='same')(Block)\nraise RuntimeError('no')\n", "evil.py"),
        "the plug-in fails",
    ),
    Case(
        "plugin-text",
        "plug-in",
        "a plug-in that is no Python file",
        "plugin",
        _text("hello\n", "evil.txt"),
        "must be a Python file",
    ),
)
