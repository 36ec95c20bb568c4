"""No code is executed from a YAML: neither `activation:` nor arguments, in grafted and in stock models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Answer, Wrong, spoiled, tree, words_of, yaml_of

from detgraft import build
from detgraft.errors import DetgraftError, PlanError

Cli = Callable[..., Answer]


HOSTILE = [
    "__import__('pathlib').Path('canary').touch()",
    "nn.SiLU(inplace=__import__('pathlib').Path('canary').touch())",
    "nn.SiLU(*[__import__('pathlib').Path('canary').touch()])",
    "nn.SiLU(**{'inplace': __import__('pathlib').Path('canary').touch()})",
    "[nn.SiLU(), __import__('pathlib').Path('canary').touch()][0]",
    "(lambda: __import__('pathlib').Path('canary').touch() or nn.SiLU())()",
    "nn.SiLU() if __import__('pathlib').Path('canary').touch() is None else 0",
    "nn.Module.__subclasses__()",
    "nn.modules.activation.SiLU()",
    "nn.Sequential()",
    "nn.Linear(3, 3)",
    "torch.load('canary')",
    "torch.nn.functional.relu(1)",
    "nn.SiLU",
    "SiLU()",
    "nn.SiLUU()",
    "nn.SiLU().forward",
    "nn.SiLU(); __import__('pathlib').Path('canary').touch()",
    "\n__import__('pathlib').Path('canary').touch()",
    "f\"{__import__('pathlib').Path('canary').touch()}\"",
    "(" * 5000,
    7,
    ["nn.SiLU()"],
    {"nn": "SiLU"},
]


@pytest.mark.parametrize("text", HOSTILE, ids=[str(text)[:40] for text in HOSTILE])
@pytest.mark.parametrize("base", ["yolo11-carafe.yaml", "yolo11.yaml"])
def test_a_hostile_activation_runs_nothing(text: Any, base: str, cli: Cli, tmp_path: Path) -> None:
    import yaml
    from ultralytics.nn import tasks

    source = yaml_of(base)
    mapping = {**yaml.safe_load(source.read_text("utf-8")), "activation": text}
    path = tmp_path / "yolo11-hostile.yaml"
    path.write_text(yaml.safe_dump(mapping, allow_unicode=True, sort_keys=False), "utf-8")
    line = next(n for n, row in enumerate(path.read_text("utf-8").splitlines(), 1) if row.startswith("activation"))
    before, activation = tree(tmp_path), tasks.Conv.default_act
    with pytest.raises(PlanError) as caught:
        build(tmp_path / "yolo11n-hostile.yaml")
    assert words_of(str(caught.value), [f"line {line}", "activation", "nn.SiLU()"]) == [], str(caught.value)
    with pytest.raises(PlanError):
        build({**mapping, "scale": "n"})
    assert cli("show", str(tmp_path / "yolo11n-hostile.yaml")).status == 2
    assert tree(tmp_path) == before, "no canary"
    assert tasks.Conv.default_act is activation


@pytest.mark.parametrize("base", ["yolo11-carafe.yaml", "yolo11.yaml"])
@pytest.mark.parametrize(
    ("text", "kind"), [("nn.ReLU()", torch.nn.ReLU), ("torch.nn.LeakyReLU(0.1, inplace=True)", torch.nn.LeakyReLU)]
)
def test_a_real_activation_is_used(
    text: str, kind: type, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.nn import tasks

    # Ultralytics 8.3.0 leaves a stock YAML's activation behind in the class; that stays its own business.
    monkeypatch.setattr(tasks.Conv, "default_act", tasks.Conv.default_act)
    source = yaml_of(base)
    (tmp_path / "yolo11-own.yaml").write_text(f"activation: {text}\n" + source.read_text("utf-8"), "utf-8")
    model: Any = build(tmp_path / "yolo11n-own.yaml", nc=2)
    assert type(model.model[0].act) is kind
    if base == "yolo11-carafe.yaml":
        stock: Any = build("yolo11n.yaml", nc=2)
        assert type(stock.model[0].act) is torch.nn.SiLU


@pytest.mark.parametrize(
    "argument", ["\"__import__('pathlib').Path('canary').touch()\"", '"().__class__"', '"locals()"', '"d"', '"self"']
)
def test_texts_among_the_arguments_run_nothing(argument: str, tmp_path: Path) -> None:
    for base, old, new in (
        ("yolo11-carafe.yaml", "CARAFE, []] # 11", f"CARAFE, [{argument}]] # 11"),
        ("yolo11-dynamicconv.yaml", "[128, 3, 2]", f"[128, {argument}, 2]"),
        ("yolo11-c3k2-dynamicconv.yaml", "[256, False, 0.25]", f"[256, {argument}, 0.25]"),
        ("yolo11-repvit.yaml", "[auto]", f"[{argument}]"),
    ):
        path, line = spoiled(Wrong(base, old, new, DetgraftError, ()), tmp_path)
        before = tree(tmp_path)
        with pytest.raises(DetgraftError, match=f"line {line}"):
            build(path)
        assert tree(tmp_path) == before


def test_the_listed_activations_are_torchs() -> None:
    from detgraft.plan.activation import ACTIVATIONS

    assert all(issubclass(getattr(torch.nn, name), torch.nn.Module) for name in ACTIVATIONS)
    own = {name for name in torch.nn.modules.activation.__all__ if name != "MultiheadAttention"}
    assert own <= ACTIVATIONS
