"""Training starts from exactly the transferred or loaded weights, in the trainer's own model and in every process."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import TINY, differing, run_python, save_checkpoint
from torch import Tensor

from detgraft import YOLO, build
from detgraft.testing.contract import randomise_norms

State = dict[str, Tensor]
CARAFE_LAYERS = ("model.11.", "model.14.")


class Stopped(Exception):
    """Ends a training before its first step."""


def at_step_zero(model: Any, **arguments: Any) -> State:
    """The weights of the trainer's own model when training starts."""
    seen: State = {}

    def look(trainer: Any) -> None:
        seen.update({key: value.clone() for key, value in trainer.model.state_dict().items()})
        assert differing(seen, trainer.ema.ema.state_dict()) == []
        raise Stopped

    model.add_callback("on_train_start", look)
    with pytest.raises(Stopped):
        model.train(**{"epochs": 1, **TINY, **arguments})
    return seen


@pytest.fixture(scope="module")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from detgraft.demo.made import make_shapes

    return make_shapes(tmp_path_factory.mktemp("made") / "set", train=4, val=2, imgsz=64, seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A stock yolo11n for a number of classes whose weights look trained."""

    @functools.cache
    def make(nc: int) -> Path:
        model = YOLO("yolo11n.yaml")
        torch.manual_seed(100)
        model.model = build("yolo11n", nc=nc)
        randomise_norms(model.model)
        return save_checkpoint(model, tmp_path_factory.mktemp("source") / f"stock{nc}.pt")

    return make


def opened(path: Path) -> State:
    state: State = YOLO(str(path)).model.float().state_dict()
    return state


@pytest.mark.parametrize("nc", [3, 80], ids=["equal nc", "other nc"])
def test_training_starts_from_the_transferred_weights(
    nc: int, checkpoint: Callable[[int], Path], made_set: Path, tmp_path: Path
) -> None:
    source = opened(checkpoint(nc))
    seen = {
        seed: at_step_zero(
            YOLO("yolo11n+carafe", transfer=checkpoint(nc)), data=str(made_set), seed=seed, project=str(tmp_path)
        )
        for seed in (0, 1)
    }
    new = {key for key in seen[0] if key.startswith(CARAFE_LAYERS)}
    other = {key for key in source if key.startswith("model.23.cv3.") and source[key].shape != seen[0][key].shape}
    assert bool(other) == (nc == 80)
    for state in seen.values():
        assert state.keys() - new == source.keys()
        kept = {key: value for key, value in state.items() if key not in new | other}
        assert differing(kept, {key: source[key] for key in kept}) == []
    weights = {key for key in new if key.endswith("conv.weight")}
    drawn_differently = set(differing(seen[0], seen[1]))
    assert weights <= drawn_differently
    assert drawn_differently <= new | other


def test_a_seed_repeats_the_start(checkpoint: Callable[[int], Path], made_set: Path, tmp_path: Path) -> None:
    first, second = (
        at_step_zero(YOLO("yolo11n+carafe", transfer=checkpoint(3)), data=str(made_set), seed=7, project=str(tmp_path))
        for _ in range(2)
    )
    assert differing(first, second) == []


def test_after_resume(checkpoint: Callable[[int], Path], made_set: Path, tmp_path: Path) -> None:
    """A resumed training goes on from the checkpoint, not from the transferred weights again."""

    def stop(_trainer: Any) -> None:
        raise Stopped

    model = YOLO("yolo11n+carafe", transfer=checkpoint(3))
    model.add_callback("on_model_save", stop)
    with pytest.raises(Stopped):
        model.train(data=str(made_set), epochs=2, project=str(tmp_path), name="run", **TINY)
    last = tmp_path / "run" / "weights" / "last.pt"
    checkpoint_now = opened(last)
    assert differing(checkpoint_now, opened(checkpoint(3)))
    saved = torch.load(last, map_location="cpu", weights_only=False)
    assert saved["train_args"]["model"] == "yolo11n+carafe.yaml"
    assert saved["ema"].yaml["detgraft"]["expression"] == "yolo11n+carafe"
    assert saved["ema"].yaml["yaml_file"] == "yolo11n+carafe.yaml"
    resumed = at_step_zero(YOLO(str(last)), resume=True, epochs=2)
    assert differing(resumed, checkpoint_now) == []


_WORKER = """
import json, sys, torch
import torch.distributed as dist
words = json.loads(sys.argv[1])
rank = int(words["rank"])
torch.set_num_threads(1)
dist.init_process_group("gloo", init_method=f"file://{words['store']}", rank=rank, world_size=2)
from detgraft.upstream.hooks.trainers import GraftedDetectionTrainer
trainer = GraftedDetectionTrainer(overrides=words["overrides"])
trainer.setup_model()
model = trainer.model.float().train()
def digest(m):
    import hashlib
    return {k: hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest() for k, v in m.state_dict().items()}
before = digest(model)
for name, parameter in model.named_parameters():
    parameter.requires_grad_(".dfl" not in name)
parallel = torch.nn.parallel.DistributedDataParallel(model)
after = digest(model)
output = parallel(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(rank)))
values = output.values() if isinstance(output, dict) else output
sum(v.square().mean() for v in values if isinstance(v, torch.Tensor)).backward()
torch.optim.SGD(model.parameters(), lr=0.01).step()
stepped = {k: v for k, v in digest(model).items() if "running" not in k}
json.dump({"before": before, "after": after, "stepped": stepped}, open(words["out"], "w"))
dist.barrier()
print(json.dumps("done"))
"""


def test_two_processes_hold_the_same_weights(checkpoint: Callable[[int], Path], made_set: Path, tmp_path: Path) -> None:
    import hashlib
    from concurrent.futures import ThreadPoolExecutor

    overrides = {
        **TINY,
        "model": "yolo11n+carafe.yaml",
        "pretrained": str(checkpoint(3)),
        "data": str(made_set),
        "epochs": 1,
        "project": str(tmp_path),
    }

    def work(rank: int) -> dict[str, dict[str, str]]:
        out = tmp_path / f"{rank}.json"
        words = {"rank": rank, "store": str(tmp_path / "store"), "overrides": overrides, "out": str(out)}
        run_python(_WORKER, json.dumps(words), cwd=tmp_path, env={"RANK": str(rank), "OMP_NUM_THREADS": "1"})
        found: dict[str, dict[str, str]] = json.loads(out.read_text(encoding="utf-8"))
        return found

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, (0, 1))
    source = {
        key: hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for key, value in opened(checkpoint(3)).items()
    }
    for found in (first, second):  # each worker loads them itself
        assert {key: found["before"][key] for key in source} == source
        assert {key: found["after"][key] for key in source} == source
    assert first["after"] == second["after"]
    assert first["stepped"] == second["stepped"] != {k: v for k, v in first["after"].items() if "running" not in k}


_FIRST = """
import json, sys
words = json.loads(sys.argv[1])
import torch
torch.set_num_threads(1)
from detgraft import YOLO
model = YOLO(words["model"])
seen = {}
def look(trainer):
    seen.update({k: v.clone() for k, v in trainer.model.state_dict().items()})
def interrupt(trainer):
    if trainer.epoch == 0:
        import shutil
        shutil.copy(trainer.last, words["interrupted"])
model.add_callback("on_train_start", look)
model.add_callback("on_model_save", interrupt)
model.train(data=words["data"], epochs=2, project=words["project"], name="first", **words["tiny"])
torch.save(seen, words["seen"])
print(json.dumps(str(model.trainer.best)))
"""

_LATER = """
import json, sys
words = json.loads(sys.argv[1])
import torch
torch.set_num_threads(1)
from ultralytics import YOLO
import shutil, pathlib
model = YOLO(words["best"])
found = {"file": str(model.model.yaml["backbone"][0])}
found["boxes"] = len(model.predict(torch.zeros(1, 3, 64, 64), conf=0.0, max_det=3, verbose=False)[0].boxes)
model = YOLO(words["best"])
model.train(data=words["data"], epochs=1, project=words["project"], name="elsewhere", **words["tiny"])
found["elsewhere"] = str(model.trainer.best)
last = pathlib.Path(words["project"]) / "first" / "weights" / "last.pt"
shutil.copy(words["interrupted"], last)
model = YOLO(str(last))
model.train(resume=True)
found["epoch"] = model.trainer.epoch
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def backbone_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    from safetensors.torch import save_file

    torch.manual_seed(5)
    model = timm.create_model("test_convnext")
    path = tmp_path_factory.mktemp("weights file") / "backbone weights.safetensors"
    save_file(model.state_dict(), path)
    return path


def test_a_weights_file_is_in_the_trained_model_and_never_needed_again(
    backbone_file: Path, made_set: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    here = tmp_path / backbone_file.name
    here.write_bytes(backbone_file.read_bytes())
    words = {
        "model": f"yolo11n+timm/test_convnext(weights={here})",
        "data": str(made_set),
        "project": str(tmp_path / "runs"),
        "seen": str(tmp_path / "seen.pt"),
        "interrupted": str(tmp_path / "interrupted.pt"),
        "tiny": TINY,
    }
    best = run_python(_FIRST, json.dumps(words), cwd=tmp_path)
    seen, file = torch.load(tmp_path / "seen.pt"), load_file(here)
    backbone = {key.removeprefix("model.0.net."): value for key, value in seen.items() if key.startswith("model.0.")}
    assert len(backbone) > 20
    for key, value in backbone.items():
        assert torch.equal(value, file[key.replace("stem_", "stem.").replace("stages_", "stages.")]), key
    here.unlink()
    found = run_python(_LATER, json.dumps({**words, "best": best}), cwd=tmp_path)
    # The weights are in the checkpoint; what stays in the row is how they want their pixels.
    assert found["file"] == "[-1, 1, 'timm/test_convnext', ['input=0.5 0.5 0.5/0.5 0.5 0.5']]"
    assert found["boxes"] == 3
    assert found["epoch"] == 1
    assert Path(found["elsewhere"]).is_file()


_DDP_PARENT = """
import json, sys
words = json.loads(sys.argv[1])
from detgraft import YOLO
from detgraft.upstream.hooks.trainers import GraftedDetectionTrainer
from ultralytics.utils.dist import generate_ddp_file
model = YOLO(words["model"], transfer=words["transfer"])
own = {"data": words["data"], "epochs": 1, "project": words["project"], "name": "ddp"}
args = {**model.overrides, **words["tiny"], **own}
trainer = model._smart_load("trainer")(overrides=args)
print(json.dumps(str(generate_ddp_file(trainer))))
"""


def test_the_script_of_a_ddp_worker_trains_in_a_fresh_process(
    backbone_file: Path, checkpoint: Callable[[int], Path], made_set: Path, tmp_path: Path
) -> None:
    from ultralytics.utils import dist

    if "cloudpickle" in inspect.getsource(dist) and importlib.util.find_spec("cloudpickle") is None:
        pytest.skip("this release of Ultralytics writes its DDP script with cloudpickle, which is not installed")
    words = {
        "model": f"yolo11n+timm/test_convnext(weights='{backbone_file}')+carafe",
        "transfer": str(checkpoint(80)),
        "data": str(made_set),
        "project": str(tmp_path / "runs"),
        "tiny": TINY,
    }
    script = run_python(_DDP_PARENT, json.dumps(words), cwd=tmp_path)
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__'); print('\"done\"')"
    assert run_python(code, script, cwd=tmp_path) == "done"
    (best,) = (tmp_path / "runs").rglob("best.pt")
    model = YOLO(str(best))
    assert model.model.yaml["backbone"][0] == [-1, 1, "timm/test_convnext", []]
