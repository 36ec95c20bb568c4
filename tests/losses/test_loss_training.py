"""A loss on its way: checkpoints, plain Ultralytics, kill and resume, several processes, distillation, studies, "
"tuning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from loss_support import batch_of, ready
from ultralytics.cfg import DEFAULT_CFG_DICT

from detgraft import YOLO
from detgraft.plan.losses import KEY
from detgraft.upstream.model import criteria
from detgraft.upstream.model.build import build
from detgraft.upstream.release.capabilities import HAS_YOLO26

END_TO_END = "yolo26n" if HAS_YOLO26 else "yolov10n"
SOURCE = Path(__file__).resolve().parents[2] / "src"
# Weights stay as they are and pictures are not changed, so that every epoch sees the same boxes.
STILL = {
    "imgsz": 64, "batch": 4, "optimizer": "SGD", "lr0": 0.0, "lrf": 1.0, "warmup_epochs": 0, "weight_decay": 0.0,
    "mosaic": 0.0, "translate": 0.0, "scale": 0.0, "fliplr": 0.0, "hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0,
    "erasing": 0.0, "rect": True, "workers": 0, "plots": False, "amp": False, "device": "cpu",
    "seed": 0, "verbose": False,
}  # fmt: skip
PLAIN = """
import json, sys
sys.modules["detgraft"] = None
import torch
from ultralytics import YOLO
model = YOLO(sys.argv[1])
modules = sorted({type(m).__module__.split(".")[0] for m in model.model.modules()})
found = model.predict(torch.rand(1, 3, 64, 64), imgsz=64, conf=0.0, verbose=False, device="cpu")
print(json.dumps({"boxes": len(found[0].boxes), "modules": modules, "losses": model.model.yaml["losses"]}))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from detgraft.demo.made import make_shapes

    data: Path = make_shapes(tmp_path_factory.mktemp("losses") / "set", train=4, val=2, imgsz=64, seed=1)
    return data


def in_plain_ultralytics(checkpoint: Path) -> dict[str, Any]:
    """Open a checkpoint and predict with it in a process in which detgraft cannot be imported."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    kept = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and Path(part) != SOURCE]
    environment["PYTHONPATH"] = os.pathsep.join(kept)
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(checkpoint)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_checkpoint_needs_no_detgraft(tmp_path: Path) -> None:
    model = YOLO("yolo11n+wiou(version=3,inner=0.75)+slide")
    criteria.give_means(model.model, {"": 0.25})
    model.model.criterion = None
    file = tmp_path / "loss.pt"
    model.save(str(file))
    assert b"detgraft." not in (file.read_bytes())
    found = in_plain_ultralytics(file)
    assert found["boxes"] > 0
    assert set(found["modules"]) <= {"torch", "ultralytics"}
    assert found["losses"] == ["wiou(version=3,inner=0.75)", "slide"]
    again: Any = YOLO(str(file)).model
    assert again.yaml[KEY] == found["losses"]
    assert getattr(again, criteria.MEANS) == {"": 0.25}


def test_safetensors_keep_the_losses(tmp_path: Path) -> None:
    model = YOLO("yolo11n+mpdiou+focal(gamma=1.5)")
    file = model.export(format="safetensors")
    assert YOLO(file).model.yaml[KEY] == ["mpdiou", "focal(gamma=1.5)"]


class Killed(Exception):
    pass


def train(
    model: Any, data: Path, folder: Path, stop: int = -1, **more: Any
) -> tuple[list[list[float]], list[Any], Any]:
    """Train; the loss of every epoch, the running means after it, and the trainer."""
    found: list[list[float]] = []
    means: list[Any] = []
    trainers: list[Any] = []

    def note(trainer: Any) -> None:
        trainers.append(trainer)
        found.append([float(v) for v in torch.as_tensor(values_of(trainer)).flatten()])
        means.append(criteria.means_of(criteria.unwrapped(trainer.model).criterion))

    def values_of(trainer: Any) -> Any:
        return list(trainer.tloss.values()) if isinstance(trainer.tloss, dict) else trainer.tloss

    def kill(trainer: Any) -> None:
        if trainer.epoch == stop:
            raise Killed

    model.add_callback("on_train_epoch_end", note)
    model.add_callback("on_model_save", kill)
    settings = {"data": str(data), "project": str(folder), "name": "run", "exist_ok": True, **more}
    if stop >= 0:
        with pytest.raises(Killed):
            model.train(**settings)
    else:
        model.train(**settings)
    return found, means, trainers[-1]


def start_from(expression: str, file: Path) -> Path:
    """Save a model whose weights float16 holds, as Ultralytics saves them."""
    model = YOLO(expression)
    torch.manual_seed(0)
    model.model = build(expression, nc=3).half().float()
    model.save(str(file))
    return file


def alike(found: list[list[float]], expected: list[list[float]], share: float = 1e-6) -> bool:
    return torch.allclose(torch.tensor(found), torch.tensor(expected), rtol=share, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("base", ["yolo11n", END_TO_END])
def test_killed_and_resumed_is_as_undisturbed(base: str, pictures: Path, tmp_path: Path) -> None:
    file = start_from(f"{base}+wiou(momentum=0.3)", tmp_path / "start.pt")
    expected, means, whole = train(YOLO(str(file)), pictures, tmp_path / "whole", epochs=4, **STILL)
    before, _, _ = train(YOLO(str(file)), pictures, tmp_path / "killed", stop=1, epochs=4, **STILL)
    assert alike(before, expected[:2])
    last = tmp_path / "killed" / "run" / "weights" / "last.pt"
    kept = last.read_bytes()
    after, resumed, trainer = train(YOLO(str(last)), pictures, tmp_path / "killed", resume=True)
    # The pictures come in another order, and sums round differently.
    assert alike(after, expected[2:])
    assert alike([list(mean.values()) for mean in resumed], [list(mean.values()) for mean in means[2:]])
    assert means[0] != means[1]
    assert set(means[0]) == ({""} if base == "yolo11n" else {"one2many", "one2one"})
    # The averaged model is validated with the mean of the trained one, and keeps it.
    assert criteria.means_of(criteria.unwrapped(trainer.ema.ema).criterion) == means[-1]
    # Without the mean it would not have been so.
    last.write_bytes(kept)
    state = torch.load(last, weights_only=False)
    delattr(state["ema"], criteria.MEANS)
    torch.save(state, last)
    forgotten, _, _ = train(YOLO(str(last)), pictures, tmp_path / "killed", resume=True)
    assert not alike(forgotten, expected[2:], 1e-3)
    for checkpoint in (tmp_path / "whole" / "run" / "weights").glob("*.pt"):
        assert in_plain_ultralytics(checkpoint)["losses"] == ["wiou(momentum=0.3)"]
    assert getattr(YOLO(str(last)).model, criteria.MEANS)
    assert whole.epoch == 3


@pytest.mark.slow
def test_the_stock_loss_by_name_trains_the_same_run(pictures: Path, tmp_path: Path) -> None:
    moving = {**STILL, "lr0": 0.01, "epochs": 2}
    runs = {}
    for name in ("yolo11n", "yolo11n+ciou"):
        _, _, trainer = train(YOLO(f"{name}.yaml"), pictures, tmp_path / name, **moving)
        runs[name] = trainer
    expected = criteria.unwrapped(runs["yolo11n"].model).state_dict()
    found = criteria.unwrapped(runs["yolo11n+ciou"].model).state_dict()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


WORKER = """
import json, sys
import torch
from loss_support import batch_of, ready
from detgraft.upstream.model import criteria
from detgraft.upstream.model.build import build
from detgraft.upstream.service.losses import loss_of
base, rank, world, meeting = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if world > 1:
    torch.distributed.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=world)
model = ready(base)
for module in model.modules():
    if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        module.eval()  # a picture's boxes do not depend on the others of its batch then
found = []
for step in range(3):
    batch = batch_of(model, pictures=4, imgsz=160 if "rtdetr" in base else 64, seed=step)
    if step == 1:  # all objects in the first two pictures: the second process has none
        keep = batch["batch_idx"] < 2
        for key in ("batch_idx", "cls", "bboxes"):
            batch[key] = batch[key][keep]
    if world > 1:
        mine = (batch["batch_idx"] // 2).long() == rank
        batch["img"] = batch["img"][2 * rank : 2 * rank + 2]
        for key in ("batch_idx", "cls", "bboxes"):
            batch[key] = batch[key][mine]
        batch["batch_idx"] = batch["batch_idx"] - 2 * rank
    torch.manual_seed(step)
    loss_of(model, batch).backward()
    found.append(criteria.means_of(model.criterion))
print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("base", ["yolo11n+wiou(momentum=0.3)", "yolov10n+wiou(version=2,momentum=0.3)"])
def test_two_processes_agree_with_one_of_double_batch(base: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }

    def started(rank: int, world: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORKER, base, str(rank), str(world), str(tmp_path / "meeting")]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)

    answers = []
    for processes in ([started(0, 1)], [started(0, 2), started(1, 2)]):
        for process in processes:
            out, err = process.communicate(timeout=500)
            assert process.returncode == 0, err[-2000:]
            answers.append(json.loads(out.splitlines()[-1]))
    alone, first, second = answers
    assert first == second
    for expected, found in zip(alone, first, strict=True):
        assert found == pytest.approx(expected, abs=1e-6)
        assert all(0 < mean < 1 for mean in found.values())
    assert alone[0] != alone[1] != alone[2]


@pytest.mark.slow
@pytest.mark.skipif("distill_model" not in DEFAULT_CFG_DICT, reason="this release of Ultralytics has no distillation")
def test_distillation_of_a_grafted_teacher_into_a_grafted_student(pictures: Path, tmp_path: Path) -> None:
    if not HAS_YOLO26:
        pytest.skip("Ultralytics distils the heads of YOLO26")
    torch.manual_seed(0)
    teacher = YOLO("yolo26n+carafe")
    teacher.save(str(tmp_path / "teacher.pt"))
    moving = {**STILL, "lr0": 0.01, "epochs": 1, "distill_model": str(tmp_path / "teacher.pt")}
    found, means, trainer = train(YOLO("yolo26n+eca+wiou"), pictures, tmp_path, **moving)
    assert set(means[0]) == {"one2many", "one2one"}
    header = (tmp_path / "run" / "results.csv").read_text().splitlines()[0]
    assert "train/dis_loss" in header
    assert all(torch.isfinite(torch.tensor(found)).flatten())
    student = YOLO(str(tmp_path / "run" / "weights" / "best.pt"))
    assert student.model.yaml[KEY] == ["wiou"]
    assert type(student.model).__name__ == "DetectionModel"
    assert any(type(m).__name__ == "ECA" for m in student.model.modules())
    assert trainer.args.distill_model


@pytest.mark.slow
def test_tuning_keeps_the_loss(pictures: Path, tmp_path: Path) -> None:
    model = YOLO("yolo11n+mpdiou")
    settings = {**STILL, "lr0": 0.01, "epochs": 1, "data": str(pictures), "project": str(tmp_path), "name": "tune"}
    model.tune(iterations=1, use_ray=False, val=True, **{k: v for k, v in settings.items() if k != "verbose"})
    checkpoints = list(tmp_path.rglob("*.pt"))
    assert checkpoints
    for checkpoint in checkpoints:
        assert YOLO(str(checkpoint)).model.yaml[KEY] == ["mpdiou"]


def test_a_trainer_that_another_process_can_import() -> None:
    model: Any = YOLO("yolo11n+wiou")
    trainer = model._smart_load("trainer")
    assert trainer.__module__ == "detgraft.upstream.hooks.trainers"
    assert YOLO("yolo11n.yaml")._smart_load("trainer").__module__.startswith("ultralytics.")


def test_a_model_of_the_description_alone_has_the_loss() -> None:
    """A worker, a resumed training and a tuner build from the description."""
    model = ready("yolo11n+wiou(momentum=0.5)")
    from detgraft.upstream.service.losses import loss_of, ready_for_loss

    again = ready_for_loss(build(model.yaml))
    again.load_state_dict(model.state_dict())
    batch = batch_of(model)
    assert float(loss_of(again, batch)) == float(loss_of(model, batch))
    assert criteria.means_of(again.criterion) == criteria.means_of(model.criterion)
