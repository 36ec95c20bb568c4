"""Files without pickle, DDP scripts in a fresh process, and what an unknown Ultralytics release says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import detgraft
from detgraft.demo.made import make_shapes
from detgraft.errors import WeightsError
from detgraft.measure.watch import main_output
from detgraft.upstream.model.safetensors import KEY, read_safetensors, write_safetensors
from detgraft.upstream.service.models import is_rtdetr
from detgraft.verify.subject import wake

TRAINING = {"imgsz": 64, "batch": 2, "workers": 0, "plots": False, "device": "cpu", "verbose": False, "val": False}


@pytest.mark.parametrize("name", ["yolo11n+convnextv2_atto+carafe", "rtdetr-l+carafe", "yolo26n-seg+carafe", "yolo11n"])
def test_a_file_without_pickle_gives_the_same_model(name: str, tmp_path: Path) -> None:
    model = detgraft.build(name, nc=3)
    size = 128 if is_rtdetr(model) else 64
    pictures = torch.rand(1, 3, size, size)
    wake(model, pictures.repeat(2, 1, 1, 1)).eval()
    model.names = {0: "猫", 1: "dog", 2: "bird"}
    path = write_safetensors(model, tmp_path / "model.safetensors")
    state = torch.random.get_rng_state()
    opened = read_safetensors(path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(main_output(opened, pictures), main_output(model, pictures))
    assert opened.names == model.names
    assert list(opened.state_dict()) == list(model.state_dict())
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_fused_model_stays_fused(tmp_path: Path) -> None:
    model = detgraft.build("yolo11n+repvit_m0_6", nc=3).eval().fuse(verbose=False)
    opened = read_safetensors(write_safetensors(model, tmp_path / "fused.safetensors"))
    pictures = torch.rand(1, 3, 64, 64)
    assert torch.equal(main_output(opened, pictures), main_output(model, pictures))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in opened.modules())


def test_export_and_open_by_name_predict_and_train_on(tiny: Callable[[str], str], tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "set", train=2, val=2, imgsz=64, seed=1)
    detgraft.YOLO(tiny("DynamicConv, [128, 3, 2]")).train(
        data=str(data), epochs=1, project=str(tmp_path), name="run", **TRAINING
    )
    best = tmp_path / "run" / "weights" / "last.pt"
    written = Path(detgraft.YOLO(best).export(format="safetensors"))
    assert written == best.with_suffix(".safetensors")
    with safe_open(written, framework="pt") as file:
        record = json.loads(file.metadata()[KEY])
    assert [row[2] for row in record["description"]["backbone"]].count("DynamicConv") == 1
    model = detgraft.YOLO(str(written))
    picture = numpy.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=numpy.uint8)
    answers = [
        m.predict(picture, imgsz=64, conf=0.0, verbose=False)[0].boxes.data for m in (detgraft.YOLO(best), model)
    ]
    assert len(answers[0])
    assert torch.equal(*answers)
    assert model.names == detgraft.YOLO(best).names
    start = {name: value.clone() for name, value in model.model.state_dict().items()}
    model.train(data=str(data), epochs=1, lr0=0.0, lrf=1.0, warmup_epochs=0, optimizer="SGD", project=str(tmp_path),
                name="on", **TRAINING)  # fmt: skip
    after = model.model.state_dict()
    kept = [name for name in start if name.endswith("conv.weight")]
    assert all(torch.allclose(start[name].half().float(), after[name].float(), atol=1e-3) for name in kept)


def test_damaged_and_foreign_files_are_refused(tiny: Callable[[str], str], tmp_path: Path) -> None:
    good = write_safetensors(detgraft.build(tiny()), tmp_path / "good.safetensors")
    with safe_open(good, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(good)
    first = next(name for name in tensors if name.endswith("weight"))
    missing = {name: value for name, value in tensors.items() if name != first}
    for name, content, record, words in (
        ("none", tensors, None, "no model description"),
        ("less", missing, metadata, "do not fit"),
        ("text", tensors, {KEY: "{"}, "damaged"),
        ("list", tensors, {KEY: "[]"}, "damaged"),
        ("keys", tensors, {KEY: '{"description": {}}'}, "damaged"),
    ):
        save_file(content, tmp_path / f"{name}.safetensors", metadata=record)
        with pytest.raises(WeightsError, match=words):
            detgraft.YOLO(str(tmp_path / f"{name}.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        read_safetensors(tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match="no such file"):
        read_safetensors(tmp_path / "absent.safetensors")


def test_a_description_with_an_unknown_block_is_refused_by_name(tiny: Callable[[str], str], tmp_path: Path) -> None:
    path = write_safetensors(detgraft.build(tiny("PlantedSound, [128]")), tmp_path / "own.safetensors")
    code = f"import detgraft; detgraft.YOLO({str(path)!r})"
    process = run(code, env={"DETGRAFT_PLUGINS": ""})
    assert process.returncode
    assert "PlantedSound" in process.stderr.splitlines()[-1]


def run(code: str, *words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(("-c", code) if code else ()), *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **(env or {})},
        capture_output=True, text=True, encoding="utf-8", timeout=600, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("model", ["yolo11n+carafe", "yolo11n-dynamicconv.yaml", "plug-in"])
def test_the_script_for_ddp_workers_runs_unchanged(
    model: str, tiny: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ultralytics' launcher needs CUDA; what it writes for its workers is run here as one fresh CPU process."""
    pytest.importorskip("cloudpickle")
    from ultralytics.engine.trainer import BaseTrainer
    from ultralytics.utils.dist import generate_ddp_file

    data = make_shapes(tmp_path / "set", train=2, val=2, imgsz=64, seed=1)
    wrapper = detgraft.YOLO(tiny("PlantedSound, [128]") if model == "plug-in" else model)
    written: list[Path] = []

    class Stop(Exception):
        pass

    def launch(trainer: BaseTrainer, *_args: object) -> None:  # where the real one starts its processes
        written.append(Path(generate_ddp_file(trainer)))
        raise Stop

    monkeypatch.setattr(BaseTrainer, "_do_train", launch)
    with pytest.raises(Stop):
        wrapper.train(data=str(data), epochs=1, project=str(tmp_path), name="run", exist_ok=True, **TRAINING)
    process = run("", str(written[0]))
    for file in written[0].parent.glob(f"{written[0].stem}.*"):
        file.unlink()
    assert process.returncode == 0, process.stderr[-3000:]
    trained = detgraft.YOLO(tmp_path / "run" / "weights" / "last.pt").model
    assert [str(layer.type) for layer in trained.model] == [str(layer.type) for layer in wrapper.model.model]


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="Ultralytics' own launcher needs two GPUs")
def test_the_launcher_itself_on_two_gpus(tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "set", train=4, val=2, imgsz=64, seed=1)
    words = {**TRAINING, "device": [0, 1], "batch": 4}
    detgraft.YOLO("yolo11n+carafe").train(data=str(data), epochs=1, project=str(tmp_path), name="run", **words)
    assert (tmp_path / "run" / "weights" / "last.pt").is_file()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("del tasks.BaseModel.fuse", "has no BaseModel.fuse"),
        ("del tasks.parse_model", "parse_model"),
        ("del tasks.CBLinear", "CBLinear"),
        ("tasks.parse_model = lambda config, channels, verbose, extra: None", "parser of ultralytics"),
    ],
)
def test_an_unknown_release_is_refused_in_a_sentence(change: str, words: str) -> None:
    """Whatever a later release renames or rewrites ends in one UpstreamError, not in an error from the inside."""
    code = f"""
import ultralytics.nn.tasks as tasks
{change}
try:
    import detgraft
    detgraft.build("yolo11n+carafe")
except Exception as error:
    print(type(error).__name__ + ": " + str(error))
"""
    process = run(code)
    last = process.stdout.strip().splitlines()[-1]
    assert last.startswith("UpstreamError: "), last
    assert words in last
    assert "ultralytics" in last


def test_a_release_whose_parser_became_a_wrapper_still_builds() -> None:
    change = "f = tasks.parse_model; tasks.parse_model = lambda d, ch, verbose=True: f(d, ch, verbose)"
    build = "import detgraft; print(str(detgraft.build('yolo11n+carafe').model[11].type))"
    assert run(f"import ultralytics.nn.tasks as tasks; {change}; {build}").stdout.split()[-1] == "CARAFE"
