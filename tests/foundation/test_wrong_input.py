"""Wrong input: one clear error that names file and line, expected and found, the nearest name; nothing is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Answer, changed_row, tree, words_of

from detgraft import YOLO, build, show
from detgraft.errors import ArgumentError, CatalogError, DataError, DetgraftError, PlanError, SizeError
from detgraft.upstream.capabilities import stock_yamls
from detgraft.upstream.resolve import ZOO

Cli = Callable[..., Answer]


@dataclass(frozen=True)
class Wrong:
    """One mistake in a row.

    Args:
        base: The YAML of the zoo, or of stock Ultralytics, that is spoiled.
        old: What stands in the row.
        new: What is written instead.
        error: The error that must come.
        says: Words that its message must have, besides file and line.
    """

    base: str
    old: str
    new: str
    error: type[DetgraftError]
    says: tuple[str, ...]
    above: int = 0  # lines between the named key and the mistake


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


def spoiled(wrong: Wrong, folder: Path) -> tuple[Path, int]:
    """Write the spoiled YAML; return the name to load it by and the line of the mistake."""
    source = ZOO / wrong.base
    source = source if source.is_file() else stock_yamls()[wrong.base]
    text, line = changed_row(source.read_text("utf-8"), wrong.old, wrong.new)
    (folder / "yolo11-错 误.yaml").write_text(text, "utf-8")
    return folder / "yolo11n-错 误.yaml", line - wrong.above


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
    "backbone no list": ("nc: 80\nbackbone: CARAFE\nhead: []\n", ("backbone", "line 2", "str")),
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


# Sizes


@pytest.mark.parametrize("size", [(100, 100), (64, 100), (31, 64)])
def test_a_size_that_the_strides_do_not_divide(size: tuple[int, int], cli: Cli) -> None:
    bad = next(value for value in size if value % 32)
    model: Any = build("yolo11n-carafe.yaml", nc=2).eval()
    attempts: list[Callable[[], Any]] = [lambda: model(torch.zeros(1, 3, *size)), lambda: show(model, imgsz=size)]
    for attempt in attempts:
        with pytest.raises(SizeError) as caught:
            attempt()
        near = {bad // 32 * 32 or 32, bad // 32 * 32 + 32}
        assert words_of(str(caught.value), [str(bad), "32", *map(str, near)]) == []
    found = cli("show", "yolo11n-carafe.yaml", f"imgsz={size[0]},{size[1]}")
    assert found.status == 2
    assert str(bad) in found.err


@pytest.mark.parametrize("command", ["train", "val", "predict", "export"])
def test_a_size_that_does_not_fit_stops_every_command(command: str, cli: Cli, made_set: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    words = {"predict": f"source={made_set.parent / 'images' / 'val'}", "export": "format=torchscript"}
    found = cli(
        command,
        "model=yolo11n-carafe.yaml",
        words.get(command, f"data={made_set}"),
        "imgsz=100",
        f"project={tmp_path / 'runs'}",
    )
    assert found.status == 2
    assert words_of(found.err, ["100", "32", "96", "128"]) == []
    assert tree(tmp_path) == before


# Data


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("missing.yaml", ("missing.yaml",)),
        ("coco12.yaml", ("coco12.yaml", "coco128.yaml")),
        ("无 数据", ("无 数据",)),
        ("empty", ("train/images",)),
        ("only-train", ("val/images",)),
        ("no-labels", ("label",)),
        ("bad-label", ("line 2", "bad.txt")),
        ("wrong-class", ("line 1", "bad.txt")),
        ("lost.yaml", ("line 1", "train", "nowhere")),
        ("no-names.yaml", ("names",)),
        ("typo.yaml", ("train", "'trian'")),
        ("broken.yaml", ("line 3", "YAML")),  # the bracket opened in line 2 is missed in the next line
        ("list.yaml", ("mapping", "list")),
    ],
)
@pytest.mark.parametrize("way", ["python", "command line"])
def test_data_sets_that_are_missing_or_laid_out_otherwise(
    data: str, says: tuple[str, ...], way: str, cli: Cli, made_set: Path, tmp_path: Path
) -> None:
    _spoil_data(tmp_path, made_set)
    before = tree(tmp_path)
    if way == "python":
        with pytest.raises(DataError) as caught:
            YOLO("yolo11n-carafe.yaml").train(data=data, epochs=1, project=str(tmp_path / "runs"))
        message = str(caught.value)
    else:
        found = cli("train", "model=yolo11n-carafe.yaml", f"data={data}", "epochs=1", f"project={tmp_path / 'runs'}")
        assert found.status == 2
        message = found.err
        assert "Traceback" not in message
    assert words_of(message, says) == [], message
    assert tree(tmp_path) == before


def _spoil_data(folder: Path, made_set: Path) -> None:
    picture = next((made_set.parent / "images" / "val").iterdir()).read_bytes()
    (folder / "empty").mkdir()
    for name, label in (
        ("only-train", "0 .5 .5 .2 .2"),
        ("no-labels", None),
        ("bad-label", "0 .5 .5 .2 .2\n0 .5"),
        ("wrong-class", "7 .5 .5 .2 .2"),
    ):
        for part in ("train",) if name == "only-train" else ("train", "val"):
            for kind in ("images", "labels"):
                (folder / name / part / kind).mkdir(parents=True)
            (folder / name / part / "images" / "bad.jpg").write_bytes(picture)
            if label is not None:
                (folder / name / part / "labels" / "bad.txt").write_text(label + "\n", "utf-8")
        if name == "wrong-class":
            (folder / name / "train" / "labels" / "classes.txt").write_text("a\nb\n", "utf-8")
    good = made_set.parent.as_posix()
    for name, text in (
        ("lost", f"train: {good}/nowhere\nval: {good}/images/val\nnames: [a, b, c]\n"),
        ("no-names", f"train: {good}/images/train\nval: {good}/images/val\n"),
        ("typo", f"trian: {good}/images/train\nval: {good}/images/val\nnames: [a, b, c]\n"),
        ("broken", "train: a\nval: [b\nnames: [c]\n"),
        ("list", "- train\n- val\n"),
    ):
        (folder / f"{name}.yaml").write_text(text, "utf-8")


# No code from a YAML

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

    source = ZOO / base if (ZOO / base).is_file() else stock_yamls()[base]
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
    source = ZOO / base if (ZOO / base).is_file() else stock_yamls()[base]
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
