"""What people type wrong: one sentence that says what to type, the right exit status, no traceback, nothing written."""

from __future__ import annotations

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Answer, tree, words_of
from ultralytics.cfg import DEFAULT_CFG_DICT

from detgraft.errors import ArgumentError, DetgraftError, PlanError
from detgraft.upstream.release.capabilities import HAS_YOLO12

Cli = Callable[..., Answer]
T = "train model=yolo11n+carafe data={set} "
P = "predict model={pt} source={pic} "
V = "val model={pt} data={set} "

WRONG = f"""
resume | a run goes on with ; detgraft train resume=runs/detect/train/weights/last.pt ; detgraft study run FOLDER
resume a.pt | detgraft train resume=a.pt
train | model=
train model=yolo11n+carafe | data=
train data=coco8.yaml | model=
train --model yolo11n+carafe data=coco8.yaml | write model=yolo11n+carafe
{T}--epochs 10 | write epochs=10 ; --epochs
{T}--epochs=10 | write epochs=10
{T}--batch-size 4 | batch_size=4
{T}-e 10 | e=10
train yolo11n+carafe data={{set}} | key=value ; model=yolo11n+carafe
train model yolo11n+carafe | key=value ; model=VALUE
train model = yolo11n+carafe data={{set}} | write model=yolo11n+carafe ; space
train model= yolo11n+carafe data={{set}} | write model=yolo11n+carafe ; space
train model =yolo11n+carafe data={{set}} | write model=yolo11n+carafe ; space
train model=yolo11n+carafe, data={{set}} | comma ; write model=yolo11n+carafe
{T}epochs=ten | epochs ; int
{T}epochs=0 | epochs ; >= 1
{T}epochs=-1 | epochs ; >= 1
{T}epochs=1.5 | epochs ; int
{T}epochs=None | epochs ; None
{T}epochs= | needs a key and a value
{T}epochs=3 epochs=4 | 'epochs' ; twice
{T}imgsz=big | imgsz ; 640 ; big
{T}imgsz=0 | imgsz ; 0
{T}imgsz=-64 | imgsz ; -64
{T}imgsz=64x64 | imgsz ; height,width
{T}imgsz=64,64,64 | imgsz ; height,width
{T}imgsz=1.5 | imgsz ; 1.5
{T}imgsz=10000000 | imgsz ; 16384
{T}device=0 | device=0 ; no CUDA GPU ; device=cpu
{T}device=cuda | no CUDA GPU ; device=cpu
{T}device=gpu | device ; cpu ; 'gpu'
{T}device=0,1,2,3 | device=0,1,2,3 ; device=cpu
{T}device=mps | Apple ; device=cpu
{T}device=-1 | device=cpu
{T}device=cuda:9 | cuda:9 ; device=cpu
{T}device=tpu | device ; 'tpu'
{T}workers=many | workers ; many
{T}workers=-3 | workers ; -3
{T}optimizer=AdamX | optimizer ; AdamX ; AdamW ; SGD
{T}optimizer=3 | optimizer ; str
{T}lr0=fast | lr0 ; fast
{T}lr0=7 | lr0 ; between 0.0 and 1.0
{T}amp=perhaps | amp ; perhaps
{T}cache=sometimes | cache ; disk ; sometimes
{T}seed=-1 | seed ; >= 0
{T}patience=-5 | patience
{T}mosaic=2 | mosaic ; between
{T}hsv_h=1,2 | hsv_h
{T}classes=cat | classes ; numbers ; cat
{T}fraction=0 | fraction
{T}save_period=x | save_period ; int
{T}time=long | time ; long
{T}task=detekt | task ; Did you mean 'detect'
{T}task=segment | task=segment ; head of task detect ; yolo11n-seg
{T}resume=nowhere.pt | nowhere.pt ; no such checkpoint
{T}pretrained=nowhere.pt | nowhere.pt ; no such checkpoint
{T}transfer_min=0.9 | transfer_min ; transfer=CHECKPOINT
{T}plugins=nowhere.py | nowhere.py ; plug-in
{T}cfg=nowhere.yaml | cfg=nowhere.yaml ; no such file
{T}project={{pic}} | is a file ; folder
{T}project={{pic}}/sub | is a file ; folder
{T}name=a/../../b | name ; project=
{T}mode=val | mode=val ; detgraft val
{T}tracker=nowhere.yaml | tracker=nowhere.yaml
{T}augmentations=x | augmentations ; augment
{T}compile=hard | compile ; hard
{T}trust=maybe | trust ; True or False
{T}download=2 | download ; True or False
{T}freeze_random=3 | freeze_random ; True or False
{T}val=perhaps | val ; bool
{T}epoch=3 | epoch ; Did you mean 'epochs'
{T}lr=0.1 | lr ; lr0=
{T}batch_size=16 | batch_size ; batch=
{T}img=640 | img ; imgsz=
{T}weights=yolo11n.pt | weights ; model=
{T}gpu=0 | gpu ; device=
{T}split=training | split ; Did you mean 'train'
{T}pretrain=nowhere | no grafted backbone
train resume=nowhere/last.pt | nowhere/last.pt ; no such checkpoint
train model={{set}} data={{set}} | data YAML ; data= ; model=
train model=data.yaml data={{set}} | data.yaml ; data= ; model=
train model={{pic}} data={{set}} | is no model ; .onnx
train model= data={{set}} | 'model='
train model=. data={{set}} | folder ; yolo11n+carafe
train model=nowhere/ data={{set}} | no such model
train model={{trunc}} data={{set}} | truncated ; download it again
train model={{fake}} data={{set}} | fake.pt ; another kind of file
train model={{empty}} data={{set}} | file is empty
train model={{html}} data={{set}} | web page
train model={{lfs}} data={{set}} | Git LFS ; git lfs pull
train model={{tensors}} data={{set}} | tensors.pt ; checkpoint
train model=yolo11n.pt data={{set}} | yolo11n.pt ; YOLO_OFFLINE
train model=yolov11n.pt data={{set}} | yolov11n.pt ; Did you mean 'yolo11n.pt'
train model=yolo11n data={{set}} | yolo11n.pt ; YOLO_OFFLINE
train model=yolo11 data={{set}} | yolo11.yaml
train model=yolov11n data={{set}} | Did you mean 'yolo11n'
train model=yolo13n data={{set}} | 'yolo11n'
train model=efficientnet_b0 data={{set}} | yolo11n+timm/efficientnet_b0
train model=yolo11n.yml data={{set}} | Did you mean 'yolo11n'
train model=YOLO11N data={{set}} | Did you mean 'yolo11n'
train model=foo data={{set}} | foo ; no such model ; yolo11n+carafe
train model=carafe data={{set}} | is a graft ; yolo11n+carafe
train model=3 data={{set}} | no such model
train model=best.onnx data={{set}} | best.onnx ; no such model
train model={{onnx}} data={{set}} | x.onnx
val | model=
{V}split=training | split ; train, val or test
{V}conf=2 | conf ; between
{V}iou=x | iou
{V}device=7 | device=7 ; device=cpu
{V}batch=0 | batch ; 1
{V}imgsz=big | imgsz ; big
{V}half=maybe | half ; quantize
val model={{trunc}} data={{set}} | truncated
val model=foo.engine data={{set}} | foo.engine
val model=best data={{set}} | best ; no such model
predict | model=
predict model={{pt}} | source=
predict model={{pt}} source=nowhere.jpg | nowhere.jpg ; no such file
predict model={{pt}} source=nowhere/ | nowhere/ ; no such file
predict model={{pt}} source={{set}} | no picture or video ; jpg
predict model={{pt}} source={{emptydir}} | no picture or video
predict model={{pt}} source={{above}} | no picture or video ; write source=
predict model={{pt}} source=*.gif | no picture or video matches
{P}conf=high | conf ; high
{P}conf=25 | conf ; between
{P}device=3 | device=3
{P}classes=person | classes ; person
{P}max_det=0 | max_det ; >= 1
{P}line_width=x | line_width
{P}show_labels=perhaps | show_labels ; bool
{P}imgsz=0 | imgsz ; 0
predict model={{trunc}} source={{pic}} | truncated
predict model=yolo11n+carafe {{pic}} | key=value
track model={{pt}} | source=
track model={{pt}} source=nowhere.mp4 | nowhere.mp4
track model={{pt}} source={{pic}} tracker=nowhere.yaml | tracker=nowhere.yaml
export | model=
export model={{pt}} imgsz=big | imgsz ; big
export model={{pt}} device=0 | device=0
export model={{pt}} opset=x | opset
export model={{pt}} quantize=7 | quantize
export model={{pt}} half=True | half ; quantize=16
export model={{pt}} int8=True | int8 ; quantize=8
export model={{pt}} batch=0 | batch
export model={{pt}} workspace=x | workspace
export model={{trunc}} | truncated
export model=nowhere/best.pt | nowhere/best.pt
benchmark | model=
benchmark model=nowhere.pt | nowhere.pt
list nothing* | nothing* ; upsampling
list carrafe | CARAFE
list --jsn | --jsn ; --json
show | MODEL ; missing ; --help
show carafe | is a graft ; yolo11n+carafe
show CARAFE | is a graft ; yolo11n+carafe
show yolov11n | yolo11n
show YOLO11N-SEG | yolo11n-seg
show yolo-11n | yolo11n
show rt-detr-l | rtdetr-l
show yolo11n.yml | yolo11n
show yolo13n | yolo11n ; yolo12n
show yolo13n-seg | yolo11n-seg
show yolo11z | yolo11n
show efficientnet_b0 | yolo11n+timm/efficientnet_b0
show resnet50+carafe | yolo11n+timm/resnet50+carafe
show yolov11n+carafe | yolo11n+carafe
show yolo11n+efficientnet_b0 | timm/efficientnet_b0
show yolo11n+yolov8n | base model
show data.yaml | data=
show {{set}} | data YAML
show yolo11n+carafe,eca | expected '+'
show "yolo11n carafe" | no such model
show yolo11n+ | graft's name
show +carafe | base model
show yolo11n+crafe | crafe ; CARAFE
show "yolo11n+carafe(" | argument
show yolo11n+carafe imgsz=big | imgsz ; big
show yolo11n+carafe imgsz=0 | imgsz
show yolo11n+carafe nc=0 | nc
show yolo11n+carafe nc=many | nc ; many
show yolo11n+carafe ch=x | ch ; x
show yolo11n+carafe --imgsz 640 | write imgsz=640
show yolo11n+carafe --json --yaml | one
show yolo11n+carafe --json --html | one
show yolo11n+carafe --html=folder/ | file's name
show yolo11n yolo12n yolo26n | third ; yolo26n
show yolo11n+carafe plugins=nowhere.py | nowhere.py
show yolo11n+carafe plugins={{pic}} | plug-in
show yolo11n+carafe trust=2 | trust
show {{pic}} | is no model
show {{trunc}} | truncated
show {{empty}} | empty
show "" | empty
show . | folder
show / | folder
check | MODEL ; missing
check carafe | yolo11n+carafe
check yolo11n+carafe --only gradient | gradient ; gradients
check yolo11n+carafe only=gradients,foo | foo ; shapes
check yolo11n+carafe imgsz=big | imgsz
check yolo11n+carafe nc=x | nc
check yolo11n+carafe device=0 | device ; imgsz
check {{trunc}} | truncated
new | missing
new block | missing
new block 3x | 3x
new block carafe | carafe
new block torch | torch
new block MyBlock channels=wide | wide ; scaled
new model Foo | block
pretrain | model=
pretrain model=convnextv2_atto | data=
pretrain model=foo data={{pics}} | foo
pretrain model=convnextv2_atto data={{pics}} epochs=x | epochs
pretrain model=convnextv2_atto data={{pics}} imgsz=33 | imgsz ; 32
study | missing
study runn | runn ; run
study run nowhere.yaml | nowhere.yaml
study run data={{set}} | base
demo epochs=0 | epochs
demo epochs=x | epochs
demo graft=crafe | crafe
demo x | key=value
trian model=x | trian ; train
detect train | model=
segment predict model={{pt}} | source=
train detect data={{set}} | model=
train detect model=yolo11n+carafe data={{set}} epochs=0 | epochs
detect train model=yolo11n-seg+carafe data={{set}} | task=detect ; segment
mode=train model=yolo11n+carafe | data=
model=yolo11n+carafe data={{set}} | a command comes first ; detgraft train
yolo train data=x.yaml | model=
checks | env
--foo | --foo
env x | x
"""
NEWER = {
    "compile=hard": ("compile",),
    "half=maybe": ("quantize",),
    "half=True": ("quantize",),
    "int8=True": ("quantize",),
}
"""Rows about arguments that older releases do not have, or do not read as these do."""
ROWS = [line for line in WRONG.strip().splitlines() if line]


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory, made_set: Path) -> dict[str, Any]:
    """Files as people have them: whole, cut off, empty, fake."""
    import torch

    from detgraft import build
    from detgraft.upstream.service.checkpoints import save_checkpoint

    folder = tmp_path_factory.mktemp("things")
    save_checkpoint(build("yolo11n", nc=3), folder / "tiny.pt")
    whole = (folder / "tiny.pt").read_bytes()
    contents = {
        "trunc": ("trunc.pt", whole[: len(whole) // 2]),
        "fake": ("fake.pt", b"hello"),
        "empty": ("empty.pt", b""),
        "html": ("html.pt", b"<!DOCTYPE html><html></html>"),
        "lfs": ("lfs.pt", b"version https://git-lfs.github.com/spec/v1\n"),
        "onnx": ("x.onnx", b"abc"),
    }
    found: dict[str, Any] = {"pt": folder / "tiny.pt", "set": made_set, "emptydir": folder / "emptydir"}
    for key, (name, content) in contents.items():
        (folder / name).write_bytes(content)
        found[key] = folder / name
    torch.save({"a": torch.zeros(3)}, folder / "tensors.pt")
    found["emptydir"].mkdir()
    found["tensors"] = folder / "tensors.pt"
    found["pics"] = made_set.parent / "images" / "train"
    found["above"] = made_set.parent / "images"
    found["pic"] = min((made_set.parent / "images" / "val").iterdir())
    return found


def test_the_table_is_long_enough() -> None:
    assert len(ROWS) >= 150


@pytest.mark.parametrize("row", ROWS, ids=[row.partition(" | ")[0].replace("{set}", "")[:70] for row in ROWS])
def test_one_sentence_and_status_2(row: str, cli: Cli, things: dict[str, Any], tmp_path: Path) -> None:
    words, _, says = row.partition(" | ")
    for missing in NEWER.get(words.split()[-1], ()):
        if missing not in DEFAULT_CFG_DICT:
            pytest.skip(f"this release has no argument {missing}=")
    if "yolo13" in words and not HAS_YOLO12:
        pytest.skip("this release has no YOLO12, which is near")
    before = tree(tmp_path)
    found = cli(*shlex.split(words.format(**things)))
    errors = [line for line in found.err.splitlines() if line.startswith("detgraft: ") and " is read as " not in line]
    assert found.status == 2, found
    assert len(errors) == 1, found.err
    assert words_of(errors[0], [word.strip() for word in says.split(" ; ")]) == [], errors[0]
    assert "Traceback" not in found.err + found.out
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("yolo11n＋carafe", "yolo11n+carafe"),
        ("yolo11n＋convnextv2_atto（width＝auto，weights＝none）", "yolo11n+convnextv2_atto(width=auto,weights=none)"),
        ("yolo11n+c3k2_dynamicconv＠backbone．2", "yolo11n+c3k2_dynamicconv@backbone.2"),
        ("ｙｏｌｏ１１ｎ＋ｃａｒａｆｅ", "yolo11n+carafe"),
        ("yolo11n\u200b+carafe", "yolo11n+carafe"),
        ("yolo11n+repvit_m0_9(weights=“a.pth”)", 'yolo11n+repvit_m0_9(weights="a.pth")'),
        ("yolo11n+repvit_m0_9(weights='权重（1）.pth')", "yolo11n+repvit_m0_9(weights='权重（1）.pth')"),
    ],
)
def test_an_input_methods_characters_are_read_as_the_plain_ones(typed: str, plain: str) -> None:
    from detgraft.plan.typed import as_typed

    assert as_typed(typed) == plain


def test_the_name_of_a_file_that_exists_stays(tmp_path: Path) -> None:
    from detgraft.plan.typed import as_typed

    (tmp_path / "模型（一）.yaml").write_text("nc: 1\n", "utf-8")
    (tmp_path / "权重（1）.pth").write_bytes(b"x")
    assert as_typed("模型（一）.yaml") == "模型（一）.yaml"
    assert as_typed("模型（一）.yaml＋carafe") == "模型（一）.yaml+carafe"
    wide = "yolo11n＋repvit_m0_9(weights=权重（1）.pth)"
    assert as_typed(wide) == "yolo11n+repvit_m0_9(weights=权重（1）.pth)"


def test_full_width_characters_are_noted(cli: Cli) -> None:
    found = cli("show", "yolo11n＋carafe", "imgsz＝64", "--json")
    assert found.status == 0, found.err
    assert '"yolo11n' in found.out
    assert "'imgsz＝64' is read as 'imgsz=64'" in found.err


def test_in_python_the_same(things: dict[str, Any]) -> None:
    from detgraft import RTDETR, YOLO, check, show

    attempts: list[tuple[Callable[[], Any], type[DetgraftError], str]] = [
        (lambda: YOLO("foo"), PlanError, "no such model"),
        (lambda: YOLO(""), PlanError, "empty"),
        (lambda: YOLO("carafe"), PlanError, r"yolo11n\+carafe"),
        (lambda: YOLO("yolov11n"), PlanError, "yolo11n"),
        (lambda: YOLO(things["fake"]), DetgraftError, "another kind of file"),
        (lambda: YOLO("yolo11n+carafe", task="segment"), ArgumentError, "head of task detect"),
        (lambda: YOLO("yolo11n+carafe", task="detekt"), ArgumentError, "Did you mean 'detect'"),
        (lambda: RTDETR("rtdetr"), PlanError, "rtdetr-l"),
        (lambda: check("yolo11n+carafe", only="gradient"), ArgumentError, "gradients"),
        (lambda: check("yolo11n+carafe", imgsz="big"), ArgumentError, "imgsz"),  # type: ignore[arg-type]
        (lambda: show("yolo11n", imgsz="big"), ArgumentError, "imgsz"),  # type: ignore[arg-type]
        (lambda: show("yolo11n", imgsz=(64, 64, 64)), ArgumentError, "height,width"),  # type: ignore[arg-type]
    ]
    for attempt, kind, says in attempts:
        with pytest.raises(kind, match=says):
            attempt()
    model = YOLO("yolo11n.yaml")
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: model.train(data="x.yaml", epochs="ten"), "epochs"),
        (lambda: model.train(data="x.yaml", device="mps"), "device=cpu"),
        (lambda: model.train(data=3), "data YAML"),
        (lambda: model.train(data=str(things["set"]), classes=[99]), "no class 99"),
        (lambda: model.val(data="x.yaml", split="tset"), "split"),
        (lambda: model.predict("nowhere.jpg"), "nowhere.jpg"),
        (lambda: model.export(format="onnx", opset="x"), "opset"),
    ]
    for call, says in calls:
        with pytest.raises(DetgraftError, match=says):
            call()


def test_only_names_of_checks_as_a_text() -> None:
    from detgraft.verify.check import _chosen

    assert _chosen(["fuse"]) == ["fuse"]


def test_a_published_checkpoint_is_not_asked_for_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """``transfer=`` with YOLO_OFFLINE=1 asks no network: the first socket would be a failure here."""
    import socket

    from detgraft import YOLO
    from detgraft.errors import WeightsError

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(WeightsError, match="YOLO_OFFLINE"):
        YOLO("yolo11n+carafe", transfer="yolo11n.pt")


@pytest.mark.parametrize(
    ("raised", "status", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/best.pt"), 2, "runs/best.pt: No space left ; project="),
        (OSError(errno.EROFS, "Read-only file system", "/data"), 2, "Read-only ; project="),
        (PermissionError(errno.EACCES, "Permission denied", "/root/x"), 2, "Permission denied ; project="),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 2, "closed it"),
        (MemoryError(), 2, "memory ; batch="),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), 2, "out of memory ; batch= ; imgsz="),
        (ModuleNotFoundError("No module named 'lap'", name="lap"), 2, "pip install lap"),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), 2, "ray ; detgraft ; [ray]"),
        (ConnectionError("Download failure for https://x"), 2, "https://x ; bring the file here"),
        (KeyboardInterrupt(), 130, "stopped"),
        (ZeroDivisionError("division by zero"), 2, "ZeroDivisionError ; DETGRAFT_TRACE=1 ; detgraft env"),
        (ArgumentError("what to type"), 2, "what to type"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_whatever_a_command_comes_upon(
    raised: BaseException, status: int, says: str, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    import detgraft.cli.list as command

    def fail(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(command, "command", fail)
    found = cli("list")
    assert found.status == status
    assert words_of(found.err, says.split(" ; ")) == [], found.err
    assert "Traceback" not in found.err
    monkeypatch.setenv("DETGRAFT_TRACE", "1")
    traced = cli("list")
    assert traced.status == status
    assert "Traceback" in traced.err
    assert words_of(traced.err, says.split(" ; ")) == []


def test_what_ultralytics_wraps_is_still_ours() -> None:
    from detgraft.cli.border import answer

    wrapped = RuntimeError("Dataset 'x' error")
    wrapped.__cause__ = PlanError("the real reason")
    assert answer(wrapped) == ("the real reason", 2)


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    code = "from detgraft.cli.main import main\nimport sys\nsys.argv = ['detgraft', 'list', '--json']\nmain()"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read().decode()
    assert process.wait() == 2
    assert "Traceback" not in errors
    assert "closed" in errors


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for a child")
def test_ctrl_c_says_which_command_goes_on(made_set: Path, tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is started with it ignored
import detgraft
from ultralytics.engine.trainer import BaseTrainer
from detgraft.cli.main import main
def stop(trainer):
    if trainer.epoch == 0:
        os.kill(os.getpid(), signal.SIGINT)
from ultralytics.utils.callbacks import default_callbacks
default_callbacks["on_model_save"].append(stop)
sys.argv = ["detgraft", "train", "model=yolo11n+carafe", "data={made_set}", "epochs=3", "imgsz=64", "batch=4",
    "workers=0", "plots=False", "device=cpu", "project={tmp_path}", "name=run"]
main()
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert found.returncode == 130, found.stderr[-2000:]
    assert f"detgraft train resume={tmp_path / 'run' / 'weights' / 'last.pt'}" in found.stderr
    assert "Traceback" not in found.stderr


def test_every_help_lists_its_keys_with_one_line_each(cli: Cli) -> None:
    from detgraft.cli.keys import FILES, KEYS, OF_UPSTREAM, UPSTREAM

    for command, keys in KEYS.items():
        found = cli(command, "--help")
        assert found.status == 0
        assert words_of(found.out, [f"{key}=" for key in keys] + list(FILES.get(command, ()))) == [], command
        assert all(line and "\n" not in line for line in keys.values())
        if command in OF_UPSTREAM:
            assert UPSTREAM in found.out


def test_the_listed_keys_are_those_that_the_functions_take() -> None:
    import inspect

    from detgraft import pretrain
    from detgraft.cli.keys import KEYS

    assert set(KEYS["pretrain"]) == set(inspect.signature(pretrain).parameters)


def test_the_listed_keys_of_a_study_are_those_of_its_file_and_of_its_actions() -> None:
    from detgraft.cli.keys import KEYS
    from detgraft.cli.study import _OWN
    from detgraft.study.design.file import MetricsKeys, StudyKeys

    blocks = {"train", "metrics"}  # their keys stand on their own
    keys = (set(StudyKeys.model_fields) - blocks) | set(MetricsKeys.model_fields)
    assert set(KEYS["study"]) == keys.union(*_OWN.values())


def test_help_and_version_as_other_programs_have_them(cli: Cli) -> None:
    assert "Usage: detgraft show" in cli("help", "show").out
    assert cli("version").out == cli("--version").out


def test_env_prints_what_a_report_needs(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ULTRALYTICS_API_KEY", "secret-value")
    monkeypatch.setenv("DETGRAFT_TRITON", "1")
    found = cli("env")
    assert found.status == 0
    assert words_of(found.out, ["detgraft", "ultralytics", "torch", "cores", "gpus", "onnx", "DETGRAFT_TRITON"]) == []
    assert "secret-value" not in found.out + cli("env", "--json").out


def test_env_says_which_kernels_run_on_each_gpu(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from detgraft.kernels import policy

    monkeypatch.delenv(policy.SWITCH, raising=False)
    monkeypatch.setattr(policy, "_is_measured", lambda device: device.index == 1)
    monkeypatch.setattr(policy, "find_spec", lambda name: name)
    monkeypatch.setattr("detgraft.cli.env.hardware", dict)  # asks the GPUs for their names
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    out = cli("env").out
    assert re.search(r"triton_kernels_on_gpu_0 +off\n", out)
    assert re.search(r"triton_kernels_on_gpu_1 +carafe, convnext\n", out)


def test_list_searches_sites_families_and_chinese_words(cli: Cli) -> None:
    import json

    def names(word: str) -> list[str]:
        return [entry["name"] for entry in json.loads(cli("list", word, "--json").out)]

    assert "CARAFE" in names("上采样")
    assert names("上采样") == names("upsample") == names("upsampling")
    assert "CARAFE" not in names("注意力")
    assert "CBAM" in names("attention")
    assert "convnextv2_atto" in names("主干")
    assert names("carafe") == ["CARAFE"]


def test_completion_proposes_grafts_stock_names_and_keys() -> None:
    from detgraft.cli.complete import complete_graft, complete_model, complete_word, stock_names

    assert "yolo11n+CARAFE" in complete_model("yolo11n+ca")
    assert {"yolo11n", "yolo11x-seg", "rtdetr-l", "yolo11-carafe"} <= set(stock_names())
    assert complete_graft("repvit_m0") == ["repvit_m0_6", "repvit_m0_9"]

    class Context:
        info_name = "train"

    assert "epochs=" in complete_word(Context(), "ep")
    assert "model=yolo11n+CARAFE" in complete_word(Context(), "model=yolo11n+car")
