"""The benchmarks' own machinery, and what of the GPU's cases runs without one."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(ROOT))

    def found(name: str) -> ModuleType:
        return importlib.import_module(f"benchmarks.{name}")

    return found


def test_forms_that_differ_are_not_timed(load) -> None:  # type: ignore[no-untyped-def]
    measure = load("measure")
    timed: list[str] = []

    def wrong() -> list[torch.Tensor]:
        timed.append("wrong")
        return [torch.tensor([1.0, 2.1])]

    case = measure.Case("some/work", lambda: {"ours": lambda: [torch.tensor([1.0, 2.0])], "rival": wrong})
    with pytest.raises(SystemExit, match=r"some/work: ours and rival differ by 4\.76e-02 of the largest value"):
        measure.run(case, iter(range(100)).__next__)
    assert timed == ["wrong"]


def test_a_ratio_is_the_median_of_rounds_in_turns(load) -> None:  # type: ignore[no-untyped-def]
    measure, report = load("measure"), load("report")
    now, order = [0.0], []

    def work(name: str, seconds: float) -> object:
        def run() -> None:
            order.append(name)
            now[0] += seconds

        return run

    forms = {"ours": work("a", 1.0), "rival": work("b", 3.0)}
    case = measure.Case("some/work", lambda: forms, targets={"rival": 4.0}, rounds=5, seconds=1e9)
    (found,) = measure.run(case, lambda: now[0])
    assert (found.ratio, found.low, found.high, found.rounds) == (3.0, 3.0, 3.0, 5)
    assert "".join(order[-10:]) == "baabbaabba"  # after the comparison, which also warms up
    assert report.missed(found)
    assert "**missed**" in report.line(found)


def test_rows_go_to_their_devices_table(load, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    measure, report = load("measure"), load("report")
    page = tmp_path / "RESULTS.md"
    page.write_text("".join(f"<!-- results:{m} -->\nold\n<!-- /results:{m} -->\n" for m in ("wall-2", "cuda")))
    monkeypatch.setattr(report, "RESULTS", page)
    rows = [
        measure.Outcome(name, "rival", 2.0, 1.0, 3.0, 1.0, 2.0, 5, None, None, device=device)
        for name, device in (("carafe/x", "cpu"), ("cuda/carafe", "cuda"))
    ]
    report.write(rows, {"clock": "wall", "threads": 2, "command": "c"})
    first, second = page.read_text().split("<!-- results:cuda -->")
    assert "carafe/x" in first
    assert "cuda/carafe" not in first
    assert "cuda/carafe" in second
    assert "carafe/x" not in second


@pytest.mark.filterwarnings("ignore")
def test_the_gpu_cases_agree_on_the_cpu(load) -> None:  # type: ignore[no-untyped-def]
    """Small, in bf16: what the GPU's benchmark compares before it times."""
    measure, cuda = load("measure"), load("cases.cuda")
    forms = [
        (cuda.carafe_forms((1, 8, 6, 6), True, "cpu"), 2e-2, {"ours", "unfold", "gathered", cuda.FLOOR}),
        (cuda.convnext_forms("atto", 1, 64, "cpu"), 0.1, {"ours", "switch off", "tutorial", "timm"}),
        (cuda.model_forms("carafe", 1, 64, "cpu"), 2e-2, {"ours", "channels-last"}),
    ]
    for found, tolerance, names in forms:
        found = {name: work for name, work in found.items() if name != "torch.compile"}  # minutes of compiling
        assert found.keys() >= names
        case = measure.Case("cuda/x", lambda found=found: found, tolerance=tolerance)
        assert measure.agree(case, found, "ours").keys() == found.keys() - {"ours", cuda.FLOOR}


def test_the_floor_moves_each_tensor_once(load, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    cuda = load("cases.cuda")
    moved: list[int] = []
    original = cuda.copying
    monkeypatch.setattr(cuda, "copying", lambda size, device: moved.append(size) or original(size, device))
    for backward in (False, True):
        cuda.carafe_forms((2, 8, 3, 5), backward, "cpu", torch.float32)
    x, mask, y = (4 * 2 * n for n in (8 * 15, 25 * 60, 8 * 60))
    assert moved == [x + mask + y, x + mask + y + (y + x + mask) + (x + mask)]
