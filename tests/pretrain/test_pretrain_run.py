from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from pretrain_support import SMALL, image_folder, small_run
from safetensors import safe_open
from safetensors.torch import load_file

from detgraft.errors import ArgumentError, CatalogError, DataError, DetgraftError, SizeError, WeightsError
from detgraft.pretraining.api import PretrainResult, pretrain
from detgraft.pretraining.backbones import build_backbone
from detgraft.pretraining.checkpoint import load_checkpoint
from detgraft.pretraining.report import Screen
from detgraft.pretraining.settings import Settings
from detgraft.weights.backbone_files import load_backbone_weights


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folder(tmp_path_factory.mktemp("pictures"), 16)


@pytest.fixture(scope="module")
def straight(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainResult:
    """A run that nothing interrupts: 3 epochs of 2 steps, 2 forward passes each."""
    return small_run(pictures, tmp_path_factory.mktemp("straight") / "run", accumulate=2)


def assert_same(result: PretrainResult, expected: PretrainResult) -> None:
    assert result.losses == expected.losses
    assert result.steps == expected.steps
    ours, theirs = load_checkpoint(result.checkpoint), load_checkpoint(expected.checkpoint)
    for key, value in theirs["model"].items():
        assert torch.equal(ours["model"][key], value), key
    for key, state in theirs["optimizer"]["state"].items():
        for name, value in state.items():
            assert torch.equal(ours["optimizer"]["state"][key][name], value), (key, name)
    assert result.weights.read_bytes()[-10_000:] == expected.weights.read_bytes()[-10_000:]


def test_a_run_leaves_everything(straight: PretrainResult, pictures: Path) -> None:
    assert straight.completed
    assert (straight.epochs, straight.steps, straight.images) == (3, 6, 16)
    with straight.table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == list(straight.losses)
    assert [int(float(row["epoch"])) for row in rows] == [1, 2, 3]
    assert straight.curve is not None
    assert Image.open(straight.curve).size[0] > 300
    with safe_open(straight.weights, "pt") as file:
        facts = file.metadata()
    assert facts["model"] == facts["timm_model"] == "convnextv2_atto"
    assert json.loads(facts["timm_model_args"]) == {"dims": [8, 16, 32, 64]}
    assert (facts["epochs_done"], facts["images"], facts["mask_ratio"]) == ("3", "16", "0.6")
    assert facts["data"] == pictures.name
    assert "no third-party weights" in facts["licence"]
    assert not list(straight.save_dir.rglob("*.part"))


def test_weights_fit_timm_and_a_graft(straight: PretrainResult) -> None:
    import timm

    state = load_file(straight.weights)
    model = timm.create_model("convnextv2_atto", dims=[8, 16, 32, 64], num_classes=7)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert missing
    assert all(key.startswith("head.") for key in missing)
    backbone = build_backbone("convnextv2_atto", 0.2)
    load_backbone_weights(backbone, str(straight.weights))
    images = torch.rand(1, 3, 64, 64)
    trained = load_checkpoint(straight.checkpoint)["model"]
    for key, value in backbone.net.state_dict().items():
        assert torch.equal(value, trained[f"encoder.backbone.net.{key}"]), key
    assert torch.allclose(model.eval().forward_features(images), backbone.eval()(images)[-1], atol=1e-5)


def test_stopping_between_and_inside_epochs_changes_nothing(
    pictures: Path, straight: PretrainResult, tmp_path: Path
) -> None:
    for steps in (1, 2, 5):  # inside the first epoch, at its end, inside the last one
        part = small_run(pictures, tmp_path / "run", accumulate=2, max_steps=steps, resume=steps > 1)
        assert not part.completed
        assert part.steps == steps
    assert_same(small_run(pictures, tmp_path / "run", resume=True, workers=2), straight)


def test_ctrl_c_saves_and_resumes(
    pictures: Path, straight: PretrainResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    original = Screen.step

    def press(self: Screen, step: int, *rest: Any) -> None:
        original(self, step, *rest)
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Screen, "step", press)
        with pytest.raises(KeyboardInterrupt):
            small_run(pictures, tmp_path / "run", accumulate=2)
    assert signal.getsignal(signal.SIGINT) is handler
    assert load_checkpoint(tmp_path / "run" / "last.pt")["progress"]["step"] == 3
    assert_same(small_run(pictures, tmp_path / "run", resume=True), straight)


def test_a_killed_run_resumes(pictures: Path, straight: PretrainResult, tmp_path: Path) -> None:
    """SIGKILL in the middle of the work, in a process of its own."""
    program = (
        "import sys, time; from detgraft.pretraining import report, api; step = report.Screen.step\n"
        "def slow(self, number, *rest):\n"
        "    step(self, number, *rest)\n"
        "    if number == 3: print('three', flush=True); time.sleep(60)\n"
        "report.Screen.step = slow\n"
        f"api.pretrain('convnextv2_atto', sys.argv[1], save_dir=sys.argv[2], accumulate=2, **{SMALL!r})\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(pictures), str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"three"
        process.kill()
    assert load_checkpoint(tmp_path / "run" / "last.pt")["progress"]["step"] == 2
    assert_same(small_run(pictures, tmp_path / "run", resume=True), straight)


def test_batch_norms_resume_too(pictures: Path, tmp_path: Path) -> None:
    changes = {"model": "repvit_m0_6", "epochs": 2, "batch": 8}
    whole = small_run(pictures, tmp_path / "whole", **changes)
    small_run(pictures, tmp_path / "run", **changes, max_steps=3)
    assert_same(small_run(pictures, tmp_path / "run", **changes, resume=True), whole)
    state = load_file(whole.weights)
    assert float(state["stem.conv1.bn.num_batches_tracked"]) == 4
    assert float(state["stem.conv1.bn.running_mean"].abs().max()) > 0


def test_two_processes_equal_one(pictures: Path, tmp_path: Path) -> None:
    """Under torchrun with gloo: the same encoder in both, and the losses of one process with the whole batch."""
    program = tmp_path / "two.py"
    program.write_text(
        "import os, sys, torch\n"
        "from detgraft.pretraining import api, loop\n"
        "fit = loop.Trainer.fit\n"
        "def keep(self):\n"
        "    outcome = fit(self)\n"
        "    torch.save(self.model.encoder.state_dict(), f'{sys.argv[2]}.{os.environ[\"RANK\"]}.pt')\n"
        "    return outcome\n"
        "loop.Trainer.fit = keep\n"
        f"small = {SMALL!r} | dict(batch=4, epochs=2)\n"
        "api.pretrain('repvit_m0_6', sys.argv[1], save_dir=sys.argv[2], **small)\n"
    )
    place = tmp_path / "pair"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(program), str(pictures), str(place)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(f"{place}.{rank}.pt", weights_only=True) for rank in range(2))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    alone = small_run(pictures, tmp_path / "alone", model="repvit_m0_6", batch=8, epochs=2)
    losses = [entry["loss"] for entry in load_checkpoint(place / "last.pt")["progress"]["history"]]
    assert losses == pytest.approx(alone.losses, rel=1e-4)
    with pytest.raises(ArgumentError, match="began with 2 process"):
        small_run(pictures, place, model="repvit_m0_6", epochs=2, resume=True)


def test_accumulating_equals_one_large_batch(pictures: Path, tmp_path: Path) -> None:
    once = small_run(pictures, tmp_path / "once", batch=8)
    twice = small_run(pictures, tmp_path / "twice", batch=4, accumulate=2)
    assert twice.steps == once.steps
    assert twice.losses == pytest.approx(once.losses, rel=1e-4)


def test_half_precision_pictures_tensorboard_and_imagenet_scale(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    result = small_run(
        pictures,
        tmp_path / "run",
        precision="bf16",
        epochs=2,
        picture_every=1,
        tensorboard=True,
        normalize="imagenet",
    )
    assert all(math.isfinite(loss) for loss in result.losses)
    assert [path.name for path in result.pictures] == ["epoch_0001.png", "epoch_0002.png"]
    assert Image.open(result.pictures[-1]).size == (3 * 96 + 12, 18 + 8 * 102 - 6)
    assert list((result.save_dir / "tensorboard").iterdir())
    assert all(value.dtype == torch.float32 for value in load_file(result.weights).values())


def test_broken_pictures_are_listed_not_fatal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = image_folder(tmp_path / "set", 8)
    (folder / "picture_03.png").write_bytes(b"broken")
    result = small_run(folder, tmp_path / "run", epochs=1, batch=8, verbose=True)
    assert [path.name for path in result.broken] == ["picture_03.png"]
    listing = (tmp_path / "run" / "broken.txt").read_text(encoding="utf-8")
    name, _, reason = listing.rstrip("\n").partition("\t")
    assert name == str(folder / "picture_03.png")
    assert reason.endswith("is no picture that OpenCV can read")
    printed = capsys.readouterr().out
    assert "1 image(s) could not be read" in printed
    assert "epoch 1/1  loss" in printed
    assert f'YOLO("yolo11n+convnextv2_atto(width=0.2,weights={result.weights})")' in printed


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"model": "convnextv2_ato"}, CatalogError, "Did you mean"),
        ({"model": "timm/poolformer_s12", "width": 1.0}, CatalogError, "statistics over all positions"),
        ({"imgsz": 100}, SizeError, "multiple of 32"),
        ({"imgsz": 32}, ArgumentError, "leaves 0 of 1"),
        ({"mask_ratio": 1.2}, ArgumentError, "between 0 and 1"),
        ({"epochs": 0}, ArgumentError, "epochs must be a whole number"),
        ({"batch": 2.5}, ArgumentError, "batch must be a whole number"),
        ({"lr": -1.0}, ArgumentError, "lr must be a positive number"),
        ({"normalize": "imagnet"}, ArgumentError, "Did you mean 'imagenet'"),
        ({"precision": "fp8"}, ArgumentError, "precision must be one of"),
        ({"precision": "fp16"}, ArgumentError, "fp16 needs a CUDA device"),
        ({"device": "gpu"}, ArgumentError, "device must be"),
        ({"device": "97"}, ArgumentError, "there is no GPU number 97"),
        ({"resume": True}, ArgumentError, "nothing to resume"),
        ({"name": "x"}, ArgumentError, "either save_dir or project"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_one_error_and_writes_nothing(
    pictures: Path, tmp_path: Path, changes: dict[str, Any], error: type[DetgraftError], words: str
) -> None:
    with pytest.raises(error, match=words):
        small_run(pictures, tmp_path / "run", **changes)
    assert not list(tmp_path.iterdir())


def test_unusable_data_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="no image found"):
        small_run(tmp_path / "set", tmp_path / "run")
    (tmp_path / "set" / "a.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"none of the 1 images .* can be read; the first: .*a\.jpg"):
        small_run(tmp_path / "set", tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_resumed_run_must_be_the_same_run(pictures: Path, straight: PretrainResult, tmp_path: Path) -> None:
    place = straight.save_dir
    with pytest.raises(ArgumentError, match="already holds a run"):
        small_run(pictures, place)
    with pytest.raises(ArgumentError, match=r"batch=5 was asked for, but the run .* has batch=4"):
        small_run(pictures, place, batch=5, resume=True)
    with pytest.raises(ArgumentError, match="model='convnextv2_pico'"):
        small_run(pictures, place, model="convnextv2_pico", resume=True)
    with pytest.raises(DataError, match="16 images then, 5 now"):
        small_run(image_folder(tmp_path / "other", 5), place, resume=place)
    (tmp_path / "last.pt").write_bytes(straight.checkpoint.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        small_run(pictures, tmp_path, resume=True)
    torch.save({"model": {}}, tmp_path / "last.pt")
    with pytest.raises(WeightsError, match="not a checkpoint of detgraft pretrain"):
        small_run(pictures, tmp_path, resume=True)
    again = small_run(pictures, place, resume=True)
    assert again.completed
    assert again.losses == straight.losses


def test_runs_of_a_project_get_numbers(pictures: Path, tmp_path: Path) -> None:
    small = {**SMALL, "epochs": 1, "batch": 16}
    first, second = (pretrain("convnextv2_atto", pictures, project=tmp_path / "p", **small) for _ in range(2))
    assert first.save_dir.name == "convnextv2_atto"
    assert second.save_dir.name == "convnextv2_atto2"
    newest = pretrain("convnextv2_atto", pictures, project=tmp_path / "p", resume=True, **small)
    assert newest.save_dir == second.save_dir


def test_an_exploding_loss_is_reported_and_the_checkpoint_kept(pictures: Path, tmp_path: Path) -> None:
    small_run(pictures, tmp_path / "run", lr=1e18, max_steps=1)
    before = (tmp_path / "run" / "last.pt").read_bytes()
    with pytest.raises(DetgraftError, match=r"the loss became .* lr=1e\+18; use a smaller lr"):
        small_run(pictures, tmp_path / "run", lr=1e18, resume=True)
    assert (tmp_path / "run" / "last.pt").read_bytes() == before


def test_settings_are_plain_values() -> None:
    with pytest.raises(ArgumentError, match="seed must be a whole number"):
        Settings("convnextv2_atto", "x", seed=-1)
    with pytest.raises(ArgumentError, match="weight_decay"):
        Settings("convnextv2_atto", "x", weight_decay=float("nan"))


def test_the_extra_is_named_when_it_is_missing() -> None:
    program = (
        "import sys; sys.modules['lightning_fabric'] = None\n"
        "from detgraft.errors import MissingExtraError\n"
        "try: import detgraft.pretraining.api\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert 'pip install "detgraft[pretrain]"' in done.stdout


def test_ultralytics_is_not_needed() -> None:
    program = "import sys; sys.modules['ultralytics'] = None; import detgraft.pretraining.api; print('fine')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fine"


def test_the_global_random_state_is_left_alone(pictures: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = torch.get_rng_state()
    small_run(pictures, tmp_path / "run", epochs=1)
    assert torch.equal(state, torch.get_rng_state())
