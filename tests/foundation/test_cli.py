"""The command line: Ultralytics' key=value habit, tables and JSON, exit statuses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import BY_KEY, KEYS, NC, TINY, Answer, run_python, tree

from detgraft import build, list_grafts

Cli = Callable[..., Answer]

WORDS = [f"{key}={value}" for key, value in TINY.items()]


@pytest.mark.parametrize("key", KEYS)
def test_show_json(key: str, cli: Cli) -> None:
    found = cli("show", BY_KEY[key].zoo, "imgsz=128", f"nc={NC}", "--json")
    assert found.status == 0, found.err
    shown = json.loads(found.out)
    model: Any = build(BY_KEY[key].zoo, nc=NC)
    assert {"params", "gflops", "gflops_thop", "stride", "layers"} <= shown.keys()
    assert shown["params"] == sum(p.numel() for p in model.parameters())
    # Ultralytics keeps 32 alone for RT-DETR; the head reads three levels.
    assert shown["stride"] == ([8, 16, 32] if "rtdetr" in key else [int(s) for s in model.stride.tolist()])
    assert isinstance(shown["gflops"], float)
    assert shown["gflops_thop"] is None or isinstance(shown["gflops_thop"], float)
    assert [layer["index"] for layer in shown["layers"]] == list(range(len(model.model)))
    for layer, module in zip(shown["layers"], model.model, strict=True):
        assert layer.keys() >= {"index", "from", "module", "params", "shape", "gflops"}
        assert layer["from"] == (module.f if isinstance(module.f, int) else list(module.f))
        assert layer["module"] == module.type
        assert layer["params"] == sum(p.numel() for p in module.parameters())
        assert isinstance(layer["shape"], list)
        assert layer["gflops"] >= 0
    assert sum(layer["params"] for layer in shown["layers"]) == shown["params"]
    assert sum(layer["gflops"] for layer in shown["layers"]) == pytest.approx(shown["gflops"], rel=1e-9)


def test_show_json_prints_nothing_but_the_answer(cli: Cli) -> None:
    out = cli("show", "rtdetr-l-convnextv2.yaml", "imgsz=128", "nc=3", "--json").out
    assert out.count("\n") == len(out.strip().splitlines())
    json.loads(out)


def test_show_prints_a_table_with_totals(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    found = cli("show", "yolo11n-carafe.yaml", "imgsz=128", "nc=2")
    assert found.status == 0
    for word in ("layer", "from", "module", "output shape", "parameters", "GFLOPs", "FlopCounterMode", "thop"):
        assert word in found.out
    for value in ("2,730,662", "74,312", "66,120", "1x256x8x8", "8, 16, 32"):
        assert value in found.out


def test_show_counts_what_thop_does_not_see(cli: Cli) -> None:
    """The tutorials' saving of DynamicConv is a gap in the counting."""
    shown = json.loads(cli("show", "yolo11n-dynamicconv.yaml", "--json").out)
    assert shown["gflops"] == pytest.approx(6.548, abs=1e-3)
    assert shown["gflops_thop"] != pytest.approx(shown["gflops"], rel=0.02)


@pytest.mark.parametrize(
    ("words", "gflops"),
    [(("yolo11n.yaml",), 6.542), (("yolo11n-c3k2-dynamicconv.yaml",), 6.544), (("yolo11n-carafe.yaml",), 6.87)],
)
def test_reference_operations_at_80_classes(words: tuple[str, ...], gflops: float, cli: Cli) -> None:
    assert json.loads(cli("show", *words, "--json").out)["gflops"] == pytest.approx(gflops, abs=6e-3)


def test_list_json(cli: Cli) -> None:
    found = cli("list", "--json")
    assert found.status == 0
    entries = {entry["name"]: entry for entry in json.loads(found.out)}
    assert set(entries) == {graft.name for graft in list_grafts()}
    assert entries["CARAFE"]["channels"] == "same"
    assert entries["convnextv2_pico"]["aliases"] == ["convnext_pico"]
    assert entries["convnextv2_atto"]["weights_licence"] == "CC-BY-NC-4.0"


def test_list_takes_a_pattern(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [entry["name"] for entry in json.loads(cli("list", "RepViT_*", "--json").out)]
    assert names == [f"repvit_{size}" for size in ("m0_6", "m0_9", "m1_0", "m1_1", "m1_5", "m2_3")]
    monkeypatch.setenv("COLUMNS", "200")
    assert "convnextv2_atto" in cli("list", "convnext*").out
    nothing = cli("list", "convnextv3*")
    assert nothing.status == 2
    assert "convnextv2" in nothing.err


def test_list_by_family_in_80_columns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = cli("list").out.splitlines()
    assert max(map(len, lines)) <= 80
    graft = next(line for line in lines if line.split()[:1] == ["CARAFE"])
    assert graft.split() == ["CARAFE", "upsample", "74.3", "k", "Apache-2.0"]
    title = max(i for i, line in enumerate(lines[: lines.index(graft)]) if line and not line.startswith(" "))
    assert "upsampling" in lines[title]
    entries = json.loads(cli("list", "CARAFE*", "--json").out)
    assert [(e["name"], e["parameters"]) for e in entries] == [("CARAFE", 74_312), ("CARAFE_official", 74_148)]
    assert {e["family"] for e in entries} == {lines[title]}


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("train", "--help"), ("show", "--help"), ("--version",)])
def test_help_answers(words: tuple[str, ...], cli: Cli) -> None:
    found = cli(*words)
    assert found.status == 0
    assert "detgraft" in found.out


def test_help_is_light() -> None:
    code = """
import sys
sys.argv = ["detgraft", "--help"]
from detgraft.cli.main import main
try:
    main()
finally:
    assert not {"torch", "ultralytics"} & set(sys.modules)
"""
    found = run_python(code)
    assert found.returncode == 0, found.stderr
    for command in ("train", "val", "predict", "track", "export", "benchmark", "list", "show"):
        assert command in found.stdout


@pytest.mark.parametrize(
    ("words", "hints"),
    [
        (("train", "model=yolo11n-carafe.yaml"), ["data="]),
        (("train", "data=coco8.yaml"), ["model="]),
        (("predict", "model=yolo11n-carafe.yaml"), ["source="]),
        (("train", "model=yolo11n-carafe.yaml", "data=x.yaml", "epoch=3"), ["epoch", "epochs"]),
        (("train", "model=yolo11n-carafe.yaml", "data=x.yaml", "epochs"), ["key=value", "epochs"]),
        (("train", "model=yolo11n-carafe.yaml", "data=x.yaml", "epochs=1", "epochs=2"), ["twice"]),
        (("train", "model=yolo11n-carafe.yaml", "data=", "epochs=1"), ["data="]),
        (("show", "yolo11n-carafe.yaml", "imgz=64"), ["imgz", "imgsz"]),
        (("show", "yolo11n-carafe.yaml", "imgsz=big"), ["imgsz", "big"]),
        (("show", "yolo11n-caraf.yaml"), ["yolo11n-caraf.yaml", "yolo11-carafe"]),
        (("export", "model=nowhere/best.pt"), ["nowhere/best.pt"]),
        (("val", "model=yolo11n-carafe.yaml", "data=nowhere.yaml"), ["nowhere.yaml"]),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    words: tuple[str, ...], hints: list[str], cli: Cli, tmp_path: Path
) -> None:
    before = tree(tmp_path)
    found = cli(*words)
    assert found.status == 2
    errors = [line for line in found.err.splitlines() if line.startswith("detgraft: ")]
    assert len(errors) == 1, found.err
    assert all(hint in errors[0] for hint in hints), errors[0]
    assert "Traceback" not in found.err
    assert tree(tmp_path) == before


def test_an_unknown_command_is_status_2(cli: Cli) -> None:
    assert cli("trian", "model=x").status == 2


def test_the_installed_command_works(tmp_path: Path) -> None:
    import subprocess

    script = Path(sys.executable).parent / "detgraft"
    found = subprocess.run(
        [str(script), "show", "no-such.yaml"], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert found.returncode == 2
    assert "no-such.yaml" in found.stderr


def test_train_val_predict_export_hand_everything_through(cli: Cli, made_set: Path, tmp_path: Path) -> None:
    words = [*WORDS, f"data={made_set}", "imgsz=64", f"project={tmp_path}"]
    trained = cli("train", "model=yolo11n-carafe.yaml", "epochs=1", "name=run", "--json", *words)
    assert trained.status == 0, trained.err
    metrics = json.loads(trained.out.strip().splitlines()[-1])
    assert 0 <= metrics["metrics/mAP50(B)"] <= 1
    best = tmp_path / "run" / "weights" / "best.pt"
    assert best.is_file()

    validated = cli("val", f"model={best}", "name=val", "--json", *words)
    assert validated.status == 0, validated.err
    assert "metrics/mAP50(B)" in json.loads(validated.out.strip().splitlines()[-1])

    source = made_set.parent / "images" / "val"
    predicted = cli(
        "predict", f"model={best}", f"source={source}", "imgsz=64", "conf=0.01", f"project={tmp_path}", "name=seen"
    )
    assert predicted.status == 0, predicted.err
    assert len(list((tmp_path / "seen").glob("*.jpg"))) == len(list(source.iterdir()))

    exported = cli("export", f"model={best}", "format=torchscript", "imgsz=64")
    assert exported.status == 0, exported.err
    assert (best.parent / "best.torchscript").is_file()


@pytest.mark.parametrize("columns", [40, 80, 145, 220])
def test_list_breaks_no_name_and_loses_no_figure(columns: int, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from detgraft import list_losses
    from detgraft.catalog.shells import SHELLS
    from detgraft.cli.list import parameters_of, short

    monkeypatch.setenv("COLUMNS", str(columns))
    for word in ("*", "attention", "shells", "losses"):
        out = cli("list", word).out
        assert "\u2026" not in out
        assert max(map(len, out.splitlines())) <= columns
        words = set(re.split(r"[\s\u2502\u2503]+", out))
        if word == "*":
            assert {entry.name for entry in list_grafts()} <= words
            for entry in list_grafts():
                assert short(parameters_of(entry)) in out
        if word in ("*", "shells"):
            assert {f"{shell.name}(X)" for shell in SHELLS} | {"csp(X)"} <= words
        if word in ("*", "losses"):
            assert {entry.name for entry in list_losses()} <= words


def test_list_finds_shells_and_losses_by_word(cli: Cli) -> None:
    def names(word: str) -> list[str]:
        return [entry["name"] for entry in json.loads(cli("list", word, "--json").out)]

    assert names("\u635f\u5931\u51fd\u6570") == names("losses") == names("loss")
    assert "C3k2(X)" in names("shells")
    assert names("elan") == ["RepNCSPELAN4(X)"]
    assert {"C3k2(X)", "C3k2_Faster"} <= set(names("c3k2"))
    assert names("class") == ["focal", "varifocal", "quality_focal", "slide"]
    assert "1 loss" in cli("list", "wiou").out.splitlines()


@pytest.mark.parametrize("columns", [40, 80])
def test_show_breaks_no_name_and_loses_no_figure(columns: int, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "yolo11n+c3k2(pinwheelconv(k=5))"
    summary = json.loads(cli("show", name, "imgsz=64", "--json").out)
    shown, beside = cli("show", name, "imgsz=64").out, cli("show", name, "yolo11n", "imgsz=64").out
    for out in (shown, beside):
        assert "\u2026" not in out
        assert "C3k2(PinwheelConv(k=5))" in out
        for layer in summary["layers"]:
            assert f"{layer['params']:,}" in out
            assert f"{layer['gflops']:.3f}" in out
        long = [line for line in out.splitlines() if len(line) > columns]
        assert all(len(line.split()) == 1 or name in line or "(k=5)" in line for line in long), long
    assert "\n1x" not in shown, "shapes of several outputs are indented as the rest"
    assert "changed" in beside
    assert f"{summary['params']:,} parameters" in beside


def test_a_name_with_dots_of_its_own_stays_whole() -> None:
    from detgraft.measure.layers import short_name

    assert short_name("ultralytics.nn.modules.conv.Conv") == "Conv"
    assert short_name("timm/resnet18.a1_in1k") == "timm/resnet18.a1_in1k"
    assert short_name("C3k2(CAA(p=0.5))") == "C3k2(CAA(p=0.5))"
