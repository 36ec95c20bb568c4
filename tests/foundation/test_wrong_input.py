"""Wrong input: one clear error that names file and line, expected and found, the nearest name; nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Answer, Wrong, spoiled, tree, words_of

from detgraft import YOLO, build
from detgraft.errors import ArgumentError, CatalogError, DetgraftError, PlanError
from detgraft.upstream.describe.resolve import ZOO

Cli = Callable[..., Answer]


WRONG = {
    # unknown names
    "graft": Wrong("yolo11-carafe.yaml", "CARAFE, []] # 11", "CARAFFE, []] # 11", PlanError, ("CARAFFE", "'CARAFE'")),
    "backbone": Wrong(
        "yolo11-convnextv2.yaml",
        "convnextv2_atto, [auto]",
        "convnextv2_ato, [auto]",
        PlanError,
        ("convnextv2_ato", "convnextv2_atto"),
    ),
    "stock module": Wrong("yolo11-carafe.yaml", "SPPF", "SPFF", PlanError, ("SPFF", "'SPPF'")),
    "stock module of a stock YAML": Wrong("yolo11.yaml", "C2PSA", "C2PSAA", PlanError, ("C2PSAA", "'C2PSA'")),
    "torch module": Wrong("yolo11-dynamicconv.yaml", "nn.Upsample", "nn.Upsampel", PlanError, ("nn.Upsampel",)),
    "case": Wrong("yolo11.yaml", "SPPF", "sppf", PlanError, ("sppf", "'SPPF'")),
    "module is a function": Wrong("yolo11.yaml", "SPPF", "torch_safe_load", PlanError, ("torch_safe_load",)),
    "module is code": Wrong(
        "yolo11.yaml", "SPPF", "\"__import__('os').system\"", PlanError, ("__import__('os').system",)
    ),
    "timm model": Wrong(
        "yolo11-convnextv2.yaml", "convnextv2_atto, [auto]", "timm/resnet1, []", CatalogError, ("resnet1", "resnet18")
    ),
    # argument count
    "too many": Wrong(
        "yolo11-carafe.yaml",
        "CARAFE, []] # 11",
        "CARAFE, [3, 5, 64, 2, 1]] # 11",
        ArgumentError,
        ("CARAFE", "at most 4", "k_enc", "found 5"),
    ),
    "too many for a scaled row": Wrong(
        "yolo11-dynamicconv.yaml",
        "[128, 3, 2]",
        "[128, 3, 2, 1, 1, 1, False, 4, 9]",
        ArgumentError,
        ("DynamicConv", "found 8"),
    ),
    "no channels": Wrong(
        "yolo11-dynamicconv.yaml",
        "DynamicConv, [128, 3, 2]",
        "DynamicConv, []",
        ArgumentError,
        ("DynamicConv", "output channels", "none"),
    ),
    "two factors": Wrong("yolo11-repvit.yaml", "[auto]", "[0.5, 0.5]", ArgumentError, ("repvit_m0_6", "[0.5, 0.5]")),
    "too many for a stock row": Wrong(
        "yolo11-carafe.yaml", "SPPF, [1024, 5]", "SPPF, [1024, 5, 3, True, 9]", PlanError, ("SPPF",)
    ),
    # argument type
    "type": Wrong(
        "yolo11-carafe.yaml", "CARAFE, []] # 11", "CARAFE, [big]] # 11", ArgumentError, ("k_enc", "int", "'big'")
    ),
    "float for int": Wrong(
        "yolo11-dynamicconv.yaml", "[128, 3, 2]", "[128, 3.5, 2]", ArgumentError, ("DynamicConv", "int", "3.5")
    ),
    "bool for int": Wrong("yolo11-dynamicconv.yaml", "[128, 3, 2]", "[128, True, 2]", ArgumentError, ("int", "True")),
    "channels no number": Wrong(
        "yolo11-dynamicconv.yaml", "[128, 3, 2]", "[wide, 3, 2]", ArgumentError, ("output channels", "'wide'")
    ),
    "int for bool": Wrong(
        "yolo11-c3k2-dynamicconv.yaml", "[256, False, 0.25]", "[256, 3, 0.25]", ArgumentError, ("c3k", "bool", "3")
    ),
    "even kernel": Wrong(
        "yolo11-carafe.yaml", "CARAFE, []] # 11", "CARAFE, [3, 4]] # 11", ArgumentError, ("k_up", "odd", "4")
    ),
    "groups": Wrong("yolo11-dynamicconv.yaml", "[128, 3, 2]", "[128, 3, 2, 1, 1, 7]", ArgumentError, ("groups", "7")),
    "a list as factor": Wrong("yolo11-repvit.yaml", "[auto]", "[[0.5]]", ArgumentError, ("width factor", "[[0.5]]")),
    "module no text": Wrong("yolo11-carafe.yaml", "SPPF", "7", PlanError, ("module name", "7")),
    "arguments no list": Wrong("yolo11-carafe.yaml", "SPPF, [1024, 5]", "SPPF, 1024", PlanError, ("list", "1024")),
    "row too short": Wrong(
        "yolo11-carafe.yaml", "- [-1, 1, SPPF, [1024, 5]]", "- [-1, 1, SPPF]", PlanError, ("4 entries", "3 entries")
    ),
    "row no list": Wrong("yolo11-carafe.yaml", "- [-1, 1, SPPF, [1024, 5]]", "- SPPF", PlanError, ("row", "str")),
    "repeats no number": Wrong("yolo11-carafe.yaml", "[-1, 1, SPPF", "[-1, one, SPPF", PlanError, ("repeats", "'one'")),
    "repeats zero": Wrong("yolo11-carafe.yaml", "[-1, 1, SPPF", "[-1, 0, SPPF", PlanError, ("repeats", "0")),
    "repeated upsampler": Wrong(
        "yolo11-carafe.yaml",
        "[-1, 1, CARAFE, []] # 11",
        "[-1, 4, CARAFE, []] # 11",
        PlanError,
        ("CARAFE", "repeat", "4"),
    ),
    "repeated backbone": Wrong("yolo11-repvit.yaml", "[-1, 1, repvit", "[-1, 2, repvit", PlanError, ("repeat", "2")),
    # rows that refer to a later layer
    "later layer": Wrong(
        "yolo11-carafe.yaml", "[[-1, 6], 1, Concat", "[[-1, 16], 1, Concat", PlanError, ("layer 16", "layer 12")
    ),
    "itself": Wrong("yolo11-carafe.yaml", "[[-1, 6], 1, Concat", "[[-1, 12], 1, Concat", PlanError, ("layer 12",)),
    "later layer in a stock YAML": Wrong(
        "yolo11.yaml", "[[-1, 6], 1, Concat", "[[-1, 16], 1, Concat", PlanError, ("layer 16",)
    ),
    "head reads a later layer": Wrong(
        "yolo11-carafe.yaml", "[[16, 19, 22], 1, Detect", "[[16, 19, 99], 1, Detect", PlanError, ("layer 99",)
    ),
    "before the first": Wrong(
        "yolo11-carafe.yaml", "[[-1, 6], 1, Concat", "[[-1, -40], 1, Concat", PlanError, ("40 layers back",)
    ),
    "the list row": Wrong(
        "yolo11-convnextv2.yaml", "[[-1, 3], 1, Concat", "[[-1, 0], 1, Concat", PlanError, ("layer 0", "stride 16")
    ),
    "from no number": Wrong(
        "yolo11-carafe.yaml", "[[-1, 6], 1, Concat", "[[-1, six], 1, Concat", PlanError, ("from", "six")
    ),
    "two inputs for one": Wrong(
        "yolo11-carafe.yaml",
        "[-1, 1, CARAFE, []] # 11",
        "[[-1, 6], 1, CARAFE, []] # 11",
        PlanError,
        ("CARAFE", "one input"),
    ),
    # widths that leave nothing
    "width": Wrong("yolo11-convnextv2.yaml", "[auto]", "[0.01]", ArgumentError, ("0.01", "channels", "0.025")),
    "width zero": Wrong("yolo11-repvit.yaml", "[auto]", "[0]", ArgumentError, ("width", "0")),
    "width negative": Wrong("yolo11-repvit.yaml", "[auto]", "[-0.5]", ArgumentError, ("width", "-0.5")),
    "width endless": Wrong("yolo11-repvit.yaml", "[auto]", "[.inf]", DetgraftError, ("repvit_m0_6", "inf")),
    "width not a number": Wrong("yolo11-repvit.yaml", "[auto]", "[.nan]", DetgraftError, ("repvit_m0_6", "nan")),
    "no output channels": Wrong(
        "yolo11-dynamicconv.yaml", "[128, 3, 2]", "[0, 3, 2]", ArgumentError, ("channels", "0")
    ),
    "absurd channels": Wrong(
        "yolo11-dynamicconv.yaml", "[128, 3, 2]", "[99999999, 3, 2]", DetgraftError, ("65536", "99999999")
    ),
    # the rest of the file
    "scales no mapping": Wrong(
        "yolo11-carafe.yaml", "n: [0.50, 0.25, 1024]", "n: [0.50, 0.25]", PlanError, ("scale 'n'", "[0.5, 0.25]"), 1
    ),
    "scale negative": Wrong(
        "yolo11-carafe.yaml", "n: [0.50, 0.25, 1024]", "n: [0.50, -0.25, 1024]", PlanError, ("scales", "-0.25"), 1
    ),
    "classes": Wrong("yolo11-carafe.yaml", "nc: 80", "nc: many", PlanError, ("nc", "many")),
    "weights file": Wrong("yolo11-convnextv2.yaml", "[auto]", "[missing.pth]", DetgraftError, ("missing.pth",)),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_clear_error(name: str, tmp_path: Path) -> None:
    wrong = WRONG[name]
    path, line = spoiled(wrong, tmp_path)
    before = tree(tmp_path)
    with pytest.raises(wrong.error) as caught:
        build(path)
    message = str(caught.value)
    assert message.startswith(f"{path}, line {line}"), message
    assert words_of(message, wrong.says) == [], message
    assert "\n" not in message.strip()
    assert message.count(path.name) == 1, f"the place is named once: {message}"
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", ["graft", "too many", "later layer", "width", "stock module of a stock YAML"])
def test_the_stock_class_gives_the_same_error(name: str, tmp_path: Path) -> None:
    import ultralytics

    wrong = WRONG[name]
    path, line = spoiled(wrong, tmp_path)
    with pytest.raises(wrong.error, match=f"line {line}"):
        ultralytics.YOLO(str(path))
    with pytest.raises(wrong.error, match=f"line {line}"):
        YOLO(path)


@pytest.mark.parametrize("command", ["show", "train", "val", "predict", "export"])
@pytest.mark.parametrize("name", ["graft", "type", "later layer", "width"])
def test_the_command_line_exits_with_2_and_writes_nothing(
    command: str, name: str, cli: Cli, made_set: Path, tmp_path: Path
) -> None:
    wrong = WRONG[name]
    path, line = spoiled(wrong, tmp_path)
    words = {
        "show": (str(path),),
        "train": (f"model={path}", f"data={made_set}", "epochs=1", f"project={tmp_path / 'runs'}"),
        "val": (f"model={path}", f"data={made_set}", f"project={tmp_path / 'runs'}"),
        "predict": (f"model={path}", f"source={made_set.parent / 'images' / 'val'}", f"project={tmp_path / 'runs'}"),
        "export": (f"model={path}", "format=torchscript"),
    }[command]
    before = tree(tmp_path), tree(made_set.parent)
    found = cli(command, *words)
    assert found.status == 2
    errors = [entry for entry in found.err.splitlines() if entry]
    assert len([entry for entry in errors if entry.startswith("detgraft: ")]) == 1, found.err
    assert words_of(found.err, (f"line {line}", *wrong.says)) == []
    assert "Traceback" not in found.err + found.out
    assert (tree(tmp_path), tree(made_set.parent)) == before


UNREADABLE = {
    "broken": ("nc: 80\nbackbone:\n  - [-1, 1, Conv, [64, 3, 2]\nhead: []\n", ("line", "valid YAML")),
    "tab": ("nc: 80\nbackbone:\n\t- [-1, 1, Conv, [64, 3, 2]]\n", ("line 3", "valid YAML")),
    "tag": ("nc: !!python/object/apply:pathlib.Path.touch [canary]\nbackbone: []\n", ("line 1", "valid YAML")),
    "empty": ("", ("mapping", "nothing")),
    "list": ("- [-1, 1, Conv, [64, 3, 2]]\n", ("mapping", "list")),
    "text": ("yolo11n\n", ("mapping", "str")),
    "no head": ("nc: 80\nbackbone:\n  - [-1, 1, CARAFE, []]\n", ("head",)),
    "no backbone": ("nc: 80\nhead:\n  - [-1, 1, CARAFE, []]\n", ("backbone", "nothing")),
    "backbone no list": ("nc: 80\nbackbone: CARAFE\nhead:\n  - [-1, 1, Detect, [nc]]\n", ("backbone", "line 2", "str")),
    "deep": ("nc: " + "[" * 200 + "]" * 200 + "\nbackbone: []\nhead: []\n", ("deep",)),
    "bomb": (
        "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
        + "backbone: *i\nhead: []\n",
        ("values",),
    ),
    "huge": ("#" + "x" * 1_100_000 + "\nnc: 80\n", ("bytes",)),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_and_foreign_yamls(kind: str, cli: Cli, tmp_path: Path) -> None:
    text, says = UNREADABLE[kind]
    path = tmp_path / "模型.yaml"
    path.write_text(text, "utf-8")
    before = tree(tmp_path)
    with pytest.raises(PlanError) as caught:
        build(path)
    assert str(caught.value).startswith(str(path))
    assert words_of(str(caught.value), says) == [], str(caught.value)
    assert cli("show", str(path)).status == 2
    assert tree(tmp_path) == before


def test_a_binary_file_and_a_folder_are_no_models(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(os.urandom(4096))
    (tmp_path / "folder.yaml").mkdir()
    for name in ("binary.yaml", "folder.yaml"):
        with pytest.raises(PlanError, match=name):
            build(tmp_path / name)
        assert cli("show", str(tmp_path / name)).status == 2


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text("nc: 80\n", "utf-8")
    path.chmod(0)
    with pytest.raises(PlanError, match=r"secret\.yaml"):
        build(path)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("yolo11n-crafe.yaml", "yolo11-carafe"),
        ("yolo11n-convnetv2.yaml", "yolo11-convnextv2"),
        ("yolo111n.yaml", "yolo11"),
        ("nowhere/yolo11n-carafe.yaml", ""),
    ],
)
def test_a_model_file_that_does_not_exist(name: str, nearest: str, cli: Cli) -> None:
    with pytest.raises(PlanError) as caught:
        build(name)
    assert name in str(caught.value)
    assert nearest in str(caught.value)
    assert cli("show", name).status == 2


def test_the_neighbours_of_a_missing_file_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "my-detector.yaml").write_text("nc: 1\n", "utf-8")
    with pytest.raises(PlanError, match="my-detector"):
        build(tmp_path / "my-detecter.yaml")


@pytest.mark.parametrize("scale", ["z", "nn"])
def test_a_scale_that_does_not_exist(scale: str, tmp_path: Path) -> None:
    mapping = {"scale": scale, "yaml_file": "yolo11-carafe.yaml", **_mapping("yolo11-carafe.yaml")}
    with pytest.raises(PlanError, match=rf"no scale '{scale}'"):
        build({**mapping, "scale": scale})


def _mapping(name: str) -> dict[str, Any]:
    import yaml

    mapping: dict[str, Any] = yaml.safe_load((ZOO / name).read_text("utf-8"))
    return mapping
