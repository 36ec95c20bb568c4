"""The runner, the report, and the command."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy
import pytest
import torch
from typer.testing import CliRunner
from verify_support import run_check

from detgraft.errors import ArgumentError, DetgraftError, SizeError
from detgraft.verify.check import CHECKS
from detgraft.verify.result import CheckResult


def test_a_grafted_model_passes_without_new_processes() -> None:
    report = run_check("yolo11n+carafe", "shapes", "gradients", "losses", "seeds", "fuse")
    assert report.passed, [(r.name, r.reason) for r in report.results]
    assert report["fuse"].figures["batch_norms_after"] == 0
    assert report["seeds"].figures["tensors_transferred"] > 80
    assert report["seeds"].figures["tensors_new"] == 4  # two convolutions in each of two CARAFE


@pytest.mark.slow  # three minutes on two cores
def test_an_rtdetr_graft_passes() -> None:
    report = run_check("rtdetr-l+carafe", "shapes", "gradients", imgsz=128)
    assert report.passed, [(r.name, r.reason) for r in report.results]


@pytest.mark.parametrize("model", ["yolo26n", "yolo11n-seg", "yolo11n-pose", "yolo11n-obb", "yolo11n-cls"])
def test_stock_models_of_every_task_pass(model: str) -> None:
    report = run_check(model, "shapes", "gradients", "fuse")
    assert report.passed, [(r.name, r.reason) for r in report.results]


def test_random_numbers_and_the_model_stay_as_they_are(tiny: Callable[[str], str]) -> None:
    from detgraft import YOLO

    model = YOLO(tiny())
    weights = {name: value.clone() for name, value in model.model.state_dict().items()}
    torch.manual_seed(3)
    numpy.random.seed(3)
    before = torch.random.get_rng_state(), numpy.random.get_state()[1].tolist()
    assert run_check(model, "shapes", "gradients", "losses", "seeds", "fuse").passed
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert numpy.random.get_state()[1].tolist() == before[1]
    after = model.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in weights.items())


def test_progress_names_every_check_and_its_result(tiny: Callable[[str], str]) -> None:
    seen: list[tuple[str, str]] = []

    def progress(name: str, text: str, result: CheckResult | None) -> None:
        seen.append((name, result.status if result else text))

    run_check(tiny(), "gradients", "shapes", progress=progress)
    names = list(dict.fromkeys(name for name, _ in seen))
    assert names == ["shapes", "gradients"]  # the order of the checks, not of the words
    assert [entry for entry in seen if entry[1] == "pass"] == [("shapes", "pass"), ("gradients", "pass")]
    assert len(seen) > 4


def test_unknown_checks_models_and_sizes_are_refused(tiny: Callable[[str], str]) -> None:
    with pytest.raises(ArgumentError, match=r"'gradient'.*Did you mean 'gradients'"):
        run_check(tiny(), "gradient")
    with pytest.raises(DetgraftError, match="no such model file"):
        run_check("nowhere.yaml", "shapes")
    with pytest.raises(SizeError, match="64"):
        run_check(tiny(), "shapes", imgsz=65)


def test_command_prints_json_and_exits_with_the_answer(tiny: Callable[[str], str]) -> None:
    from detgraft.cli.main import app

    good = CliRunner().invoke(app, ["check", tiny(), "imgsz=64", "--only", "shapes,data", "--json"])
    assert good.exit_code == 0, good.output
    report = json.loads(good.stdout.strip().splitlines()[-1])
    assert report["passed"]
    assert [(r["name"], r["status"]) for r in report["results"]] == [("shapes", "pass"), ("data", "skipped")]
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0]
    bad = CliRunner().invoke(app, ["check", tiny("PlantedBatchDependent, [128]"), "imgsz=64", "--only", "shapes"])
    assert bad.exit_code == 1
    assert "fail" in bad.output
    assert "layer 2" in " ".join(bad.output.split())


def test_every_check_of_the_list_exists() -> None:
    assert list(CHECKS) == [
        "shapes", "gradients", "losses", "seeds", "fuse", "portability", "ddp", "export", "cost", "data"
    ]  # fmt: skip


def test_the_time_that_is_left_follows_the_pace_and_skipped_checks_do_not_count() -> None:
    from detgraft.cli.check import _SHARES, _Course
    from detgraft.verify.check import CHECKS

    assert set(_SHARES) == set(CHECKS), "a check without a share would be taken for one of 5"
    course = _Course(["shapes", "gradients", "losses", "cost", "data"])
    assert course.left() is None
    assert course.line("shapes", "") == "1 of 5, shapes"
    course.done("shapes", 2.0 * _SHARES["shapes"])
    rest = [_SHARES[name] for name in ("gradients", "losses", "cost", "data")]
    assert course.left() == pytest.approx(2.0 * sum(rest))
    course.done("gradients", 2.0 * _SHARES["gradients"])
    course.done("losses", 0.0, skipped=True)
    assert course.left() == pytest.approx(2.0 * (_SHARES["cost"] + _SHARES["data"]))
    assert course.line("cost", "timing").startswith("4 of 5, cost: timing, about ")
