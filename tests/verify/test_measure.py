"""One loop times everything, beside what else kept the machine busy; a study's price is that of the trained model."""

from __future__ import annotations

import ast
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

import detgraft
from detgraft import build, show
from detgraft.measure.load import OtherLoad
from detgraft.measure.price import measure
from detgraft.measure.timing import in_turns, latencies_of, latency_of
from detgraft.upstream.service.arms import built_arm

Times = namedtuple("Times", ("user", "system", "idle", "iowait", "guest"))


def test_pieces_of_work_take_turns_and_stop_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], []

    def work(name: str, seconds: float) -> Any:
        def run() -> None:
            order.append(name)
            now[0] += seconds

        return run

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    works = {"a": work("a", 1.0), "b": work("b", 2.0)}
    times = in_turns(works, 100, seconds=10.0, clock=lambda: now[0])
    assert times == {"a": [1.0] * 4, "b": [2.0] * 4}  # the fourth round begins after 9 s, the fifth would after 12
    assert "".join(order) == "baabbaab"
    assert len(in_turns(works, 100, seconds=0.0, least=3)["a"]) == 3


def test_a_slow_warm_up_leaves_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    found = latency_of(lambda: now.__setitem__(0, now[0] + 6.0), warm_up=5, passes=20, seconds=10.0)
    assert (found.median_ms, found.passes, found.steady, now[0]) == (6000.0, 1, None, 18.0)


@pytest.mark.trust
@pytest.mark.parametrize(
    ("durations", "median_ms", "steady", "calls"),
    [
        ([0.011] * 12 + [0.005] * 100, 5.0, True, 2 + 2 * 20),  # an idle GPU's clock goes up after the tenth pass
        ([0.005, 0.011] * 100, 8.0, True, 2 + 20),  # scatter alone is no drift
        ([0.01 * 0.9**i for i in range(200)], 10 * 0.9**91.5, False, 2 + 5 * 20),  # never settles
    ],
    ids=["settles", "scatters", "drifts"],
)
def test_a_duration_that_changes_is_measured_again(
    durations: list[float], median_ms: float, steady: bool, calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an H100 the same network took 11 ms as the first of a study's arms and 5 ms as its last."""
    now, made = [0.0], [0]

    def run() -> None:
        now[0] += durations[made[0]]
        made[0] += 1

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    found = latency_of(run, warm_up=2, passes=20)
    assert (found.steady, made[0]) == (steady, calls)
    assert found.median_ms == pytest.approx(median_ms, rel=0.06)


@pytest.mark.trust
def test_work_in_turns_is_measured_again_where_one_of_them_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slow = [0.0], [12]

    def work(seconds: float) -> None:
        now[0] += seconds

    def settling() -> None:
        slow[0] -= 1
        work(0.011 if slow[0] >= 0 else 0.005)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    found = latencies_of({"settling": settling, "even": lambda: work(0.003)}, warm_up=2, passes=20)
    assert {name: (each.median_ms, each.steady) for name, each in found.items()} == {
        "settling": (pytest.approx(5.0), True),
        "even": (pytest.approx(3.0), True),
    }
    slow[0] = 12
    now[0] = 0.0
    found = latencies_of({"settling": settling, "even": lambda: work(3.0)}, warm_up=2, passes=20)
    assert {name: each.steady for name, each in found.items()} == {"settling": False, "even": True}  # out of patience


@pytest.mark.trust
def test_a_gpu_is_warmed_up_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waits = [0.0], []

    def run() -> None:
        now[0] += 0.011 if now[0] < 0.9 else 0.005

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    found = latency_of(run, warm_up=5, passes=20, device="cuda:0")
    assert (found.median_ms, found.steady, found.passes) == (pytest.approx(5.0), True, 20)
    assert set(waits) == {"cuda:0"}
    assert len(waits) > 100, "each warm-up call is waited for, or the second would only fill the queue"


@pytest.mark.parametrize(
    ("busy", "own", "expected"),
    [(8.0, 2.0, 0.75), (2.0, 2.0, 0.0), (1.9, 2.0, 0.0), (8.0, 0.0, 1.0), (0.0, 0.0, 0.0)],
)
def test_load_is_what_others_used(monkeypatch: pytest.MonkeyPatch, busy: float, own: float, expected: float) -> None:
    """Two processors over four seconds: eight seconds in all."""
    readings = [Times(100.0, 50.0, 30.0, 5.0, 7.0), Times(100.0 + busy, 50.0, 38.0 - busy, 5.0, 9.0)]
    clocks = [3.0, 3.0 + own]
    monkeypatch.setattr(psutil, "cpu_times", lambda: readings.pop(0))
    monkeypatch.setattr(time, "process_time", lambda: clocks.pop(0))
    assert OtherLoad().share() == expected


def test_load_is_unknown_where_the_counters_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_times", lambda: Times(1.0, 1.0, 1.0, 0.0, 0.0))
    assert OtherLoad().share() is None


def test_a_price_counts_as_show_counts() -> None:
    model = build("yolo11n+carafe", nc=3)
    shown, price = show(model, imgsz=64), measure(model, 64, "cpu")
    assert (price.params, price.gflops, price.imgsz, price.device) == (shown.params, shown.gflops, 64, "cpu")
    assert price.latency_ms is not None
    assert price.latency_ms > 0
    assert price.load is None or 0 <= price.load <= 1


def test_an_arm_is_built_once_and_as_it_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some releases give a head the width of the checkpoint's, so that its weights fit; that is what it costs, too."""
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    detgraft.YOLO("yolo11n.yaml").save(tmp_path / "yolo11n.pt")
    trainer: Any = object.__new__(DetectionTrainer)
    names = {0: "cell", 1: "person", 2: "leaf"}  # one of them is a class of the checkpoint, too
    trainer.data, trainer.args = {"nc": 3, "channels": 3, "names": names}, SimpleNamespace()
    source = detgraft.YOLO(tmp_path / "yolo11n.pt").model
    trained = trainer.get_model(cfg="yolo11n.yaml", weights=source, verbose=False)
    built = []
    init = DetectionModel.__init__

    def count(self: Any, *args: Any, **kwargs: Any) -> None:
        built.append(args)
        init(self, *args, **kwargs)

    monkeypatch.setattr(DetectionModel, "__init__", count)
    arm = built_arm("yolo11n.yaml", names, 64, str(tmp_path / "yolo11n.pt"), minimum=0.5)
    assert len(built) == 1
    expected = {name: tuple(value.shape) for name, value in trained.state_dict().items()}
    person = "model.23.cv3.0.2.bias"
    assert torch.equal(arm.state_dict()[person][1], trained.state_dict()[person][1])
    assert {name: tuple(value.shape) for name, value in arm.state_dict().items()} == expected
    assert measure(arm, 64, "cpu").params == sum(p.numel() for p in trained.parameters())


def test_one_counter_of_operations() -> None:
    """``upstream/describe/bounds.py`` stands below ``measure/`` and only estimates what is too large to be counted."""
    package = Path(detgraft.__file__).parent
    users = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "torch.utils.flop_counter"
    ]
    assert set(users) <= {"measure/flops.py", "upstream/describe/bounds.py"}
