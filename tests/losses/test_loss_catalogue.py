"""What a loss term means: the catalogue, the grammar around it, descriptions, own losses, the command line."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detgraft
from detgraft.catalog.losses import MODIFIERS, Loss, list_losses, losses, register_loss
from detgraft.catalog.registry import register
from detgraft.cli.new import command as new
from detgraft.errors import CatalogError, DetgraftError
from detgraft.losses.terms import BOX_CONTEXT, CLASS_CONTEXT
from detgraft.upstream.describe.expressions import compose_mapping, to_yaml
from detgraft.upstream.model.build import build
from detgraft.upstream.model.models import YOLO
from detgraft.upstream.parser.names import names_grafts


@pytest.mark.parametrize("entry", list(losses), ids=lambda entry: entry.name)
def test_every_entry_is_what_its_function_takes(entry: Loss) -> None:
    parameters = list(inspect.signature(entry.load()).parameters.values())
    context = BOX_CONTEXT if entry.kind == "box" else CLASS_CONTEXT
    options = {p.name: p.default for p in parameters[2:] if p.name not in context}
    known = {name: option.default for name, option in entry.options.items() if name != "momentum"}
    assert options == known
    assert entry.provenance.paper
    assert entry.formula
    assert entry.summary
    assert not entry.check({name: option.default for name, option in entry.options.items()})
    if entry.reduces is not None:
        entry.check(entry.reduces)


def test_what_the_issue_lists_is_there() -> None:
    box = {entry.name for entry in losses if entry.kind == "box"}
    assert box == {
        "giou", "diou", "ciou", "siou", "eiou", "wiou", "mpdiou", "shape_iou", "piou", "nwd", "alpha_iou"
    }  # fmt: skip
    assert {entry.name for entry in losses if entry.kind == "class"} == {"focal", "varifocal", "quality_focal", "slide"}
    assert set(MODIFIERS) == {"inner", "focaler", "assigner"}
    assert [entry.name for entry in list_losses("W*")] == ["wiou"]


def test_an_expression_writes_its_losses_into_the_description() -> None:
    base = compose_mapping("yolo11n+carafe")
    mapping = compose_mapping("yolo11n+carafe+WIoU(inner=0.75,version=3)+varifocal")
    assert mapping["losses"] == ["WIoU(inner=0.75,version=3)", "varifocal"]
    assert (mapping["backbone"], mapping["head"]) == (base["backbone"], base["head"])
    alone = compose_mapping("yolo11n+shape_iou(focaler=(0.0,0.95))")
    stock = detgraft.build("yolo11n").yaml
    assert alone["losses"] == ["shape_iou(focaler=(0.0,0.95))"]
    assert (alone["backbone"], alone["head"], alone["scales"]) == (stock["backbone"], stock["head"], stock["scales"])
    assert not names_grafts(alone)
    assert "losses" not in base


def test_the_order_of_the_terms_does_not_matter() -> None:
    one, other = compose_mapping("yolo11n+wiou+carafe+slide"), compose_mapping("yolo11n+slide+carafe+wiou")
    for key in ("backbone", "head", "losses"):
        assert one[key] == other[key]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("yolo11n+wiou+mpdiou", "'wiou' and 'mpdiou' are both box losses; a model has one"),
        ("yolo11n+focal+slide", "'focal' and 'slide' are both class losses"),
        ("yolo11n+wiou@head", "'wiou@head' is a loss and has no site"),
        ("yolo11n+wiou(carafe)", "no graft goes inside it"),
        ("yolo11n+wiou(versoin=3)", "the loss 'wiou' has no option 'versoin'.* Did you mean 'version'"),
        ("yolo11n+wiou(version=4)", "version must be one of 1, 2, 3, found 4"),
        ("yolo11n+wiou(version=True)", "version must be one of 1, 2, 3, found True"),
        ("yolo11n+wiou(inner=0)", "inner must be a number above 0 up to 4, found 0"),
        ("yolo11n+wiou(inner=wide)", "inner must be a number, found 'wide'"),
        ("yolo11n+ciou(focaler=0.5)", "focaler must be two numbers"),
        ("yolo11n+ciou(focaler=(0.9,0.1))", "two numbers .d,u. with 0 <= d < u <= 1, found .0.9, 0.1."),
        ("yolo11n+nwd(ratio=1.5)", "ratio must be a number from 0 up to 1, found 1.5"),
        ("yolo11n+nwd(ratio=nan)", "ratio must be a number, found 'nan'"),
        ("yolo11n+ciou(assigner=1)", "assigner must be True or False, found 1"),
        ("yolo11n+wiuo", "there is no graft 'wiuo'. Did you mean 'wiou'"),
        ("yolo11n+focal(inner=0.7)", "the loss 'focal' has no option 'inner'"),
    ],
)
def test_wrong_terms(model: str, words: str) -> None:
    with pytest.raises(DetgraftError, match=words) as caught:
        compose_mapping(model)
    assert model in str(caught.value)


def test_a_yaml_may_hold_losses(tmp_path: Path) -> None:
    file = tmp_path / "yolo11n-own.yaml"
    text = to_yaml(compose_mapping("yolo11n+wiou+slide"))
    assert "losses: [wiou, slide]\n" in text
    file.write_text(text, "utf-8")
    assert build(file).yaml["losses"] == ["wiou", "slide"]
    assert compose_mapping(f"{file}+carafe")["losses"] == ["wiou", "slide"]
    with pytest.raises(DetgraftError, match="'wiou' and 'siou' are both box losses"):
        compose_mapping(f"{file}+siou")
    lines = text.splitlines()
    line = lines.index("losses: [wiou, slide]") + 1
    for wrong, words in (
        ("losses: [wiou, siou]", "both box losses"),
        ("losses: {box: wiou}", "takes a loss, or a list of a box and a class loss"),
        ("losses: [carafe]", "there is no loss 'carafe'"),
        ("losses: ['wiou(']", "expected an argument's name"),
        ("loss: wiou", "there is no key 'loss:'.*Did you mean 'losses'"),
    ):
        file.write_text("\n".join([*lines[: line - 1], wrong, *lines[line:]]), "utf-8")
        with pytest.raises(DetgraftError, match=words) as caught:
            build(file)
        assert f"{file}, line {line}: " in str(caught.value)


def test_show_and_the_build_log_name_the_losses(caplog: pytest.LogCaptureFixture) -> None:
    notes = detgraft.show("yolo11n+wiou(version=2)+focal", imgsz=64).notes
    assert notes[:2] == [
        "box loss: wiou(version=2), Wise-IoU: attention by distance and a weight by outlier degree",
        "class loss: focal, focal loss",
    ]
    from ultralytics.utils import LOGGER

    seen: list[str] = []
    handler = __import__("logging").Handler()
    handler.emit = lambda record: seen.append(record.getMessage())
    LOGGER.addHandler(handler)
    try:
        build("yolo11n+mpdiou", verbose=True)
    finally:
        LOGGER.removeHandler(handler)
    assert any(line.startswith("box loss: mpdiou") for line in seen)


def test_own_losses() -> None:
    @register_loss("own_test_loss", kind="box", aliases=("own_test",))
    def own(pred: Tensor, target: Tensor, *, overlap: Tensor, weight: float = 2.0) -> Tensor:
        """Half of what is missing."""
        return weight * (1 - overlap)

    try:
        mapping = compose_mapping("yolo11n+Own_Test(weight=3.0,inner=0.8)")
        assert mapping["losses"] == ["Own_Test(weight=3.0,inner=0.8)"]
        entry = losses.get("own_test")
        assert entry.summary == "Half of what is missing."
        term: Any = entry.term({"weight": 3.0})
        pair = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 5, 10, 15]])
        torch.testing.assert_close(term(*pair), torch.tensor([2.0]))
        with pytest.raises(DetgraftError, match="weight must be a number"):
            compose_mapping("yolo11n+own_test(weight=heavy)")
        with pytest.raises(CatalogError, match="already registered"):
            register_loss("own_test", kind="box")(own)
        with pytest.raises(CatalogError, match="is the name of a loss"):

            @register("own_test", channels="same")
            class _Block(torch.nn.Module):
                def __init__(self, c1: int) -> None:
                    super().__init__()
    finally:
        losses.remove("own_test_loss")
    with pytest.raises(CatalogError, match="already registered"):
        register_loss("carafe", kind="box")(own)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: None, "takes predicted and target boxes first"),
        (lambda pred, target, extra: None, "behind its two tensors stand"),
        (lambda pred, target, *, extra: None, "its options with their defaults; found 'extra'"),
        (lambda pred, target, *, extra=(): None, "the default of an option is a number"),
        (lambda pred, target, *, inner=1.0: None, "'inner' is an option of every box loss"),
    ],
)
def test_functions_that_are_no_loss(function: Any, words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        register_loss("not_a_loss", kind="box")(function)
    assert losses.find("not_a_loss") is None
    with pytest.raises(CatalogError, match="kind must be 'box' or 'class'"):
        register_loss("not_a_loss", kind="mask")  # type: ignore[arg-type]


def test_a_plugin_that_fails_leaves_no_loss(tmp_path: Path) -> None:
    file = tmp_path / "failing_losses.py"
    file.write_text(
        "from detgraft import register_loss\n"
        "@register_loss('left_over', kind='class')\ndef f(logits, targets): return logits\n"
        "raise RuntimeError('later')\n",
        "utf-8",
    )
    with pytest.raises(CatalogError, match="later"):
        YOLO("yolo11n+left_over", plugins=file)
    assert losses.find("left_over") is None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["box", "class"])
def test_what_new_loss_writes_passes_as_written(kind: str, tmp_path: Path) -> None:
    new("loss", "my_loss", [f"kind={kind}", f"out={tmp_path}"])
    test = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_loss.py"]
    done = subprocess.run(test, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "6 passed" in done.stdout
    ruff = [sys.executable, "-m", "ruff", "check", "--line-length", "120", str(tmp_path)]
    assert subprocess.run(ruff, capture_output=True, timeout=60).returncode == 0


def test_the_command_line_lists_losses(capsys: pytest.CaptureFixture[str]) -> None:
    from detgraft.cli.list import command

    command("losses", as_json=True)
    found = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(found) == {entry.name for entry in losses}
    assert found["wiou"]["options"]["version"] == 3
    assert found["nwd"]["rotated"] is True
    command("*", as_json=True)
    assert "wiou" not in {entry["name"] for entry in json.loads(capsys.readouterr().out)}
    command("mpd*", as_json=False)
    assert "mpdiou" in capsys.readouterr().out
