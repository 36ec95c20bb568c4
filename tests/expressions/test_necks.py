"""Necks as terms: what stays, what the head reads, widths and scales, composition, fragments that are wrong."""

from __future__ import annotations

import copy
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from expression_support import needs_base, one_step, run_python

from detgraft import build
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, CatalogError, DetgraftError, PlanError
from detgraft.plan.fragments import MAX_PASSES, parse_neck
from detgraft.upstream.describe.expressions import compose_mapping
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.describe.necks import FOLDER, fragments
from detgraft.upstream.parser.names import meaning

ROOT = Path(__file__).resolve().parents[2]
NECKS = ("bifpn", "afpn", "slimneck", "asf", "hsfpn", "gfpn")
BASES = ("yolov8n", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "rtdetr-l")
SUFFIXES = {"": "detect", "-seg": "segment", "-pose": "pose", "-obb": "obb"}


def rows(mapping: dict[str, Any]) -> list[list[Any]]:
    return [*mapping["backbone"], *mapping["head"]]


def test_every_fragment_is_a_term_and_every_term_a_fragment() -> None:
    terms = {entry.name for entry in catalogue if entry.site == "neck"} - {"neck"}
    assert terms == set(fragments()) == set(NECKS)


OWN = {
    "yolov8n": "yolov8",
    "yolo11n": "yolo11",
    "yolov9c": "yolov9c",
    "yolov10n": "yolov10n",
    "yolo26n-seg": "yolo26-seg",
    "rtdetr-l": "rtdetr-l",
}


@pytest.mark.parametrize(("base", "name"), OWN.items())
def test_a_models_own_neck_gives_that_model(base: str, name: str) -> None:
    """Taken out and put back: the same rows, so the same model."""
    needs_base(base)
    stock, found = load_yaml(f"{base}.yaml"), compose_mapping(f"{base}+neck(from={name}.yaml)")
    same = [(a[1:], b[1:]) for a, b in zip(rows(stock), rows(found), strict=True)]
    assert all(a == b for a, b in same)
    assert found["detgraft"]["origins"][: len(stock["backbone"])] == list(range(len(stock["backbone"])))


def test_another_models_neck_has_its_rows_and_the_bases_widths() -> None:
    stock, found = load_yaml("yolo11n.yaml"), compose_mapping("yolov8n+neck(from=yolo11.yaml)")
    assert [row[1:] for row in found["head"][:-1]] == [row[1:] for row in stock["head"][:-1]]
    assert len(found["backbone"]) == 10  # yolov8's, with SPPF and without yolo11's C2PSA
    assert found["head"][-1] == [[15, 18, 21], 1, "Detect", ["nc"]]


def test_context_modules_stay_wherever_they_stand() -> None:
    """RT-DETR's AIFI, with the row in front of it, belongs to what a neck reads."""
    found = compose_mapping("rtdetr-l+slimneck")
    modules = [row[2] for row in found["head"]]
    assert modules[:3] == ["Conv", "AIFI", "GSConv"]
    assert modules[-1] == "RTDETRDecoder"
    assert "C2PSA" in [row[2] for row in compose_mapping("yolo11n+gfpn")["backbone"]]


def test_the_bifpn_of_the_paper() -> None:
    """Formula and figure: each layer sums up, down, and down again with the edge from the input."""
    head = compose_mapping("yolov8n+bifpn(layers=2,width=128)")["head"]
    sums = [row for row in head if row[2] == "BiFPNAdd"]
    assert [len(row[0]) for row in sums] == [2, 2, 3, 2] * 2
    assert {tuple(row[3]) for row in sums} == {(128,)}
    assert [row[2] for row in head].count("nn.Upsample") == 4
    assert [row[2] for row in head].count("nn.MaxPool2d") == 4
    model: Any = build("yolov8n+bifpn(layers=1)")
    assert {layer.point.conv.out_channels for layer in model.model if layer.type == "BiFPNConv"} == {64}


def test_widths_follow_the_scale_and_its_bound() -> None:
    outs = {}
    for scale in ("n", "x"):
        model: Any = build(f"yolov8{scale}+slimneck")
        outs[scale] = [model.model[index].cv3.conv.out_channels for index in model.model[-1].f]
    assert outs == {"n": [64, 128, 256], "x": [320, 640, 640]}  # max_channels is 512 at x


def test_it_composes_with_blocks_backbones_and_levels() -> None:
    found = compose_mapping("yolov8n+carafe+bifpn(layers=1)")
    assert [row[2] for row in found["head"]].count("CARAFE") == 2
    found = compose_mapping("yolov8n+asf+convnextv2_atto")
    assert [row[2] for row in found["backbone"]] == ["convnextv2_atto", "SPPF"]
    zoom = [row for row in found["head"] if row[2] == "Zoom_cat"]
    reads = [row[0] for row in found["head"] if row[2] == "Conv"]
    assert [row[0][1] for row in zoom] == [3, 2]  # P4 and P3 are selectors of the grafted backbone
    assert 1 in reads  # and so is P2


@pytest.mark.parametrize(("base", "level"), [("yolov8n", "p2"), ("yolov8n", "p6"), ("yolo26n", "p2")])
def test_a_models_neck_at_further_levels_is_that_of_the_stock_model(base: str, level: str) -> None:
    """YOLOv8's neck put into yolov8n+p2 is Ultralytics' own yolov8-p2, row for row."""
    needs_base(base)
    stock, found = load_yaml(f"{base}-{level}.yaml"), compose_mapping(f"{base}+{level}+neck(from={base[:-1]}.yaml)")
    assert [row[1:] for row in rows(found)] == [row[1:] for row in rows(stock)]
    assert found["head"][-1][0] == stock["head"][-1][0]


def test_the_bifpn_at_the_papers_five_levels() -> None:
    """EfficientDet has five levels: per layer four sums down, then three of three inputs and one of two up."""
    head = compose_mapping("yolov8n+bifpn(layers=2)+p2+p6")["head"]
    sums = [len(row[0]) for row in head if row[2] == "BiFPNAdd"]
    assert sums == [2, 2, 2, 2, 3, 3, 3, 2] * 2
    assert [row[2] for row in head].count("BiFPNConv") == len(sums)
    assert len(head[-1][0]) == 5


def test_the_slim_neck_one_level_lower() -> None:
    """The step from P4 to P3, once more from P3 to P2, at half the width."""
    usual, low = compose_mapping("yolov8n+slimneck"), compose_mapping("yolov8n+slimneck+p2")
    step = [("GSConv", [128, 1, 1]), ("nn.Upsample", ["None", 2, "nearest"]), ("Concat", [1]), ("VoVGSCSP", [128])]
    up = [("GSConv", [128, 3, 2]), ("Concat", [1]), ("VoVGSCSP", [256])]
    plain = [(row[2], row[3]) for row in usual["head"]]
    assert [(row[2], row[3]) for row in low["head"]] == [*plain[:8], *step, *up, *plain[8:]]
    assert low["head"][10][0] == [-1, 2]  # what it joins is the backbone's P2


def test_the_notes_of_a_level_say_nothing_of_a_neck_that_went() -> None:
    needs_base("yolo12n")
    assert "P2 is as wide as P3" in compose_mapping("yolo12n+p2")["detgraft"]["notes"][0]
    assert compose_mapping("yolo12n+p2+gfpn")["detgraft"]["notes"] == []


def test_what_stays_is_carried() -> None:
    found = compose_mapping("yolo11n+hsfpn")["detgraft"]["origins"]
    count = len(load_yaml("yolo11n.yaml")["backbone"])
    assert found[:count] == list(range(count))
    assert set(found[count:-1]) == {None}
    assert found[-1] == 23


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("rtdetr-l+p2+asf", r"the neck of asf\.yaml reads P1 \(stride 2\), and the backbone gives P2, P3, P4, P5"),
        ("yolov8n+p2+asf+repvit_m0_6", "reads a backbone feature of stride 2; a grafted backbone has strides 4, 8, 16"),
        ("yolov8n-cls+bifpn", "its head Classify reads no pyramid"),
        ("yolov8n+bifpn+gfpn", "'bifpn' and 'gfpn' both replace the neck"),
        ("yolov8n+bifpn@head", "its site cannot be narrowed"),
        ("yolov8n+bifpn(widht=64)", "has no argument 'widht'.*Did you mean 'width'"),
        ("yolov8n+bifpn(layers=99)", f"from 1 to {MAX_PASSES}"),
        ("yolov8n+neck", "needs the argument"),
        ("yolov8n+neck(from=yolo11x9.yaml)", "there is no file 'yolo11x9.yaml' to take a neck from"),
        ("yolov8n+neck(from=yolov8-cls.yaml)", "its head Classify reads no pyramid"),
        ("yolov8n+neck(from=yolov8-p2.yaml)", "and the neck of yolov8-p2.yaml gives P2, P3, P4, P5"),
    ],
)
def test_what_does_not_fit_is_one_sentence(expression: str, words: str) -> None:
    with pytest.raises(DetgraftError, match=words):
        compose_mapping(expression)


GOOD = """\
inputs: [P3, P4, P5]
outputs: {P3: fine, P4: middle, P5: P5}
options: {width: 64, times: 2}
rows:
  - [P5, 1, nn.Upsample, [None, 2, nearest]]
  - [[-1, P4], 1, BiFPNAdd, [width]]
  - middle: [-1, times, C2f, [width]]
  - repeat: times
    over: {P3: fine}
    rows:
      - fine: [P3, 1, Conv, [width, 3, 1]]
"""


def test_an_own_fragment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD, "utf-8")
    monkeypatch.chdir(tmp_path)
    found = compose_mapping("yolov8n+neck(from=mine.yaml)")
    assert found["head"] == [
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 6], 1, "BiFPNAdd", [64]],
        [-1, 2, "C2f", [64]],
        [4, 1, "Conv", [64, 3, 1]],
        [-1, 1, "Conv", [64, 3, 1]],
        [[14, 12, 9], 1, "Detect", ["nc"]],
    ]
    (tmp_path / "mine.yaml").unlink()
    model: Any = build(copy.deepcopy(found))  # the rows are in the description; the file is not needed again
    assert model.model[-1].f == [14, 12, 9]


WRONG = {
    "unknown": (("[-1, P4]", "[-1, P44]"), "there is no row or input 'P44'", 6),
    "unlisted": (("[-1, P4]", "[-1, P2]"), "reads P2, which 'inputs:' does not list", 6),
    "cycle": (("[-1, P4]", "[-1, middle]"), "reads 'middle', a row that does not come before it", 6),
    "itself": (("[P3, 1, Conv", "[fine, 1, Conv"), "reads 'fine', a row that does not come before it", 11),
    "first": (("- [P5, 1, nn", "- [-1, 1, nn"), "refers 1 rows back, but only 0 come before it", 5),
    "absolute": (("[-1, P4]", "[-1, 6]"), "'from' is a name, or -1 for the row before", 6),
    "unused row": (("[-1, P4]", "[P5, P4]"), r"nothing reads the row nn\.Upsample", 5),
    "unused input": (("inputs: [P3", "inputs: [P2, P3"), "nothing reads the input P2", 1),
    "no output": (("P4: middle", "P4: centre"), "there is no row or input 'centre'", 2),
    "levels": (("P4: middle", "P9: middle"), "an output is one of P2, P3, P4, P5, P6, found 'P9'", 2),
    "missing": (("outputs: {P3: fine, P4: middle, P5: P5}\n", ""), "has 'outputs:', which is missing", None),
    "key": (("options:", "optoins:"), "unknown key 'optoins'.*Did you mean 'options'", 3),
    "module": (("BiFPNAdd", "BiFPNAd"), "there is no module 'BiFPNAd'.*Did you mean 'BiFPNAdd'", 6),
    "backbone": (("nn.Upsample, [None, 2, nearest]", "convnextv2_atto, []"), "is a backbone", 5),
    "entries": (("1, nn.Upsample, [None, 2, nearest]", "1, nn.Upsample"), r"\(4 entries\), found 3 entries", 5),
    "repeats": (("-1, times", "-1, often"), "repeats must be a whole number", 7),
    "twice": (("- fine: [P3", "- middle: [P3"), "the name 'middle' is given twice", 11),
    "name": (("- middle:", "- P4:"), "'P4' is the name of a feature", 7),
    "over": (("over: {P3: fine}", "over: {P3: middle}"), "'over' leads to 'middle', which is no row of this part", 9),
    "group": (("    over: {P3: fine}\n", ""), "a repeated part is", 8),
    "passes": (("repeat: times", "repeat: 0"), "repeat must be a whole number from 1 to", 8),
    "no name": (("P4: middle", "P4: [middle]"), "expected the name of a row or of an input", 2),
    "no level": (("inputs: [P3", "inputs: [[P3]"), "an input is one of", 1),
    "over what": (("over: {P3: fine}", "over: {P3: {}}"), "expected the name of a row or of an input", 9),
    "duplicate": (("options:", "inputs: [P3]\noptions:"), "'inputs' is written twice", 3),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_fragment_is_named_with_its_line(case: str) -> None:
    (old, new), words, line = WRONG[case]
    assert old in GOOD
    with pytest.raises((PlanError, CatalogError), match=words) as caught:
        parse_neck(GOOD.replace(old, new), "mine.yaml", meaning)
    assert caught.value.location is not None
    assert caught.value.location.source == "mine.yaml"
    assert caught.value.location.line == line


PATTERN = """\
levels: [P2, P3, P4, P5]
inputs: [P(low..high)]
outputs: {P(low..high): out(low..high)}
options: {w2: 16, w3: 32, w4: 64, w5: 128}
rows:
  - out(high): [P(high), 1, Conv, [w(high), 1, 1]]
  - down: {k: [high-1, low]}
    rows:
      - [out(k+1), 1, nn.Upsample, [None, 2, nearest]]
      - [[-1, P(k)], 1, Concat, [1]]
      - out(k): [-1, 1, Conv, [w(k), 3, 1, None, 1, 1, nn.ELU(1)]]
"""


def test_a_fragment_for_any_levels() -> None:
    usual = parse_neck(PATTERN, "mine.yaml", meaning)
    assert usual.outputs == {"P3": 6, "P4": 3, "P5": 0}
    assert [row.args[0] for row in usual.rows if row.module == "Conv"] == [128, 64, 32]
    assert usual.rows[-1].args[-1] == "nn.ELU(1)"
    low = parse_neck(PATTERN, "mine.yaml", meaning, levels=("P2", "P3"))
    assert [(row.sources, row.name) for row in low.rows if row.name] == [(("P3",), "out3"), ((2,), "out2")]


WRONG_PATTERN = {
    "levels": (("levels: [P2, P3, P4, P5]", "levels: 3"), "'levels:' lists those that it can be written for", 1),
    "other levels": (("levels: [P2, P3, P4, P5]", "levels: [P4, P5]"), "for P4, P5, and the head reads P3, P4, P5", 1),
    "variable": (("P(low..high)]", "P(lo..high)]"), "'lo' in .* Did you mean 'low'", 2),
    "empty": (("[P(low..high)]", "[P(high..low)]"), r"\(high\.\.low\) goes from 5 to 3", 2),
    "pairs": (("out(low..high)}", "out(low..high-1)}"), "stands for 3 names, and 'out.low..high-1.' for 2", 3),
    "option": (("Conv, [w(high)", "Conv, [w(high+1)"), "there is no option 'w6'", 6),
    "one name": (("out(high): [P(high)", "out(high): [P(low..high)"), "stands for P3, P4, P5, and one name", 6),
    "no rows": (("    rows:\n", "    row:\n"), "unknown key of a part that goes down 'row'", 8),
    "ends": (("{k: [high-1, low]}", "{k: high}"), "a part that goes down is", 7),
    "end": (("{k: [high-1, low]}", "{k: [high-1, 0.5]}"), "an end is a level's number", 7),
    "taken": (("{k: [high-1, low]}", "{low: [high-1, low]}"), "has a value here already", 7),
    "endless": (("{k: [high-1, low]}", "{k: [999, 0]}"), "reads 'out1000'", 9),
    "later": (("[out(k+1), 1", "[out(k-1), 1"), "reads 'out3', a row that does not come before it", 9),
}


@pytest.mark.parametrize("name", WRONG_PATTERN)
def test_a_fragment_for_any_levels_that_is_wrong(name: str) -> None:
    (old, new), words, line = WRONG_PATTERN[name]
    with pytest.raises(PlanError, match=words) as caught:
        parse_neck(PATTERN.replace(old, new, 1), "mine.yaml", meaning)
    assert f"mine.yaml, line {line}" in str(caught.value)


def test_parts_that_go_through_levels_end() -> None:
    inner = "{a: [1, 900]}\n    rows:\n      - up: {b: [2, 1]}\n        rows: [[P5, 1, Conv, [8, 1, 1]]]\n"
    text = f"inputs: [P5]\noutputs: {{P5: P5}}\nrows:\n  - up: {inner}  - up: {inner}"
    with pytest.raises(PlanError, match="more than 1000 steps"):
        parse_neck(text, "mine.yaml", meaning)


def test_options_of_a_fragment() -> None:
    found = parse_neck(GOOD, "mine.yaml", meaning, {"width": 32, "times": 3})
    assert [row.args for row in found.rows[1:3]] == [(32,), (32,)]
    assert (found.rows[2].repeats, len(found.rows)) == (3, 6)
    with pytest.raises(ArgumentError, match="has no option 'widht'; it has width, times. Did you mean 'width'"):
        parse_neck(GOOD, "mine.yaml", meaning, {"widht": 32})


def test_fragments_are_packaged() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [f"{name}.yaml" for name in fragments()]
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8")
        assert all(word in text for word in ("# Paper: ", " Source: ", "# Differences: ")), path.name


@pytest.mark.parametrize("name", NECKS)
def test_a_fragments_header_and_its_entry_agree(name: str) -> None:
    header = (FOLDER / f"{name}.yaml").read_text("utf-8").partition("inputs:")[0].lower()
    provenance = catalogue.get(name).provenance
    assert provenance.source.lower() in header
    assert provenance.licence.lower().replace("none stated", "no licence") in header


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("make_necks", ROOT / "scripts" / "make_necks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_pictures_and_rows_in_the_documentation_are_those_of_the_fragments() -> None:
    script = _script()
    pictures = {path.stem: path.read_text("utf-8") for path in (ROOT / "docs" / "necks").iterdir()}
    assert pictures == script.pictures()
    assert "\n".join(script.sections()) in (ROOT / "docs" / "necks.md").read_text("utf-8")


@pytest.mark.slow
def test_the_costs_in_the_documentation_are_those_of_the_necks() -> None:
    assert "\n".join(_script().costs()) in (ROOT / "docs" / "necks.md").read_text("utf-8")


def _written_in_the_documentation(heading: str, path: Path) -> None:
    page = (ROOT / "docs" / "necks.md").read_text("utf-8")
    path.write_text(page.partition(heading)[2].partition("```yaml\n")[2].partition("```")[0], "utf-8")


def test_the_fragment_for_any_levels_in_the_documentation_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _written_in_the_documentation("### For any levels", tmp_path / "any_neck.yaml")
    monkeypatch.chdir(tmp_path)
    for levels, count in (("", 3), ("+p2", 4), ("+p2+p6", 5)):
        head = compose_mapping(f"yolo11n{levels}+neck(from=any_neck.yaml)")["head"]
        assert [row[2] for row in head].count("BiFPNAdd") == count - 1
        assert len(head[-1][0]) == count


def test_the_fragment_in_the_documentation_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _written_in_the_documentation("## Your own neck", tmp_path / "my_neck.yaml")
    monkeypatch.chdir(tmp_path)
    model: Any = build("yolo11n+neck(from=my_neck.yaml)+dysample")
    assert [layer.type for layer in model.model].count("DySample") == 2
    assert model.model[-1].f == [17, 14, 11]
    assert model.model[11].conv.out_channels == 64


COMBINED = "yolo11n+convnextv2_atto+c3(faster)+asf"


def _worked_example() -> str:
    page = (ROOT / "docs" / "necks.md").read_text("utf-8")
    return page.partition("## A tutorial's three improvements in one line\n")[2].partition("\n## ")[0]


def test_the_rows_of_the_worked_example_are_those_composed() -> None:
    shown = yaml.safe_load(_worked_example().partition("```yaml\n")[2].partition("```")[0])
    found = compose_mapping(COMBINED)
    assert {section: found[section] for section in ("backbone", "head")} == shown


@pytest.mark.slow
def test_the_costs_of_the_worked_example_are_those_of_the_models() -> None:
    from detgraft import show

    lines = re.findall(r"\| `(yolo11n.*?)` \| ([\d,]+) \| ([\d.]+) \|", _worked_example())
    assert [name for name, _, _ in lines][-1] == COMBINED
    for name, params, gflops in lines:
        found: Any = show(name)
        assert (f"{found.params:,}", f"{found.gflops:.1f}") == (params, gflops), name


def _check(expression: str, task: str) -> None:
    model: Any = build(expression, nc=3)
    assert one_step(model, task, 3, 128 if "rtdetr" in expression else 64) == []
    model.eval()
    x = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        before, after = model(x), copy.deepcopy(model).fuse(verbose=False)(x)
    a, b = (found[0] if isinstance(found, (list, tuple)) else found for found in (before, after))
    a, b = (found[0] if isinstance(found, (list, tuple)) else found for found in (a, b))
    assert a.shape == b.shape
    assert torch.isfinite(a).all()
    if "26" not in expression and "v10" not in expression and "rtdetr" not in expression:  # these pick the best boxes
        assert float((a - b).abs().max()) <= 1e-3 * float(a.abs().max())


@pytest.mark.parametrize(("base", "neck"), [("yolo11n", "bifpn"), ("yolov8n", "asf")])
def test_learns_and_folds(base: str, neck: str) -> None:
    _check(f"{base}+{neck}", "detect")


@pytest.mark.slow
@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize(
    ("base", "suffix"), [(base, suffix) for base in BASES for suffix in SUFFIXES if suffix == "" or "yolo" in base]
)
def test_every_neck_on_every_base_and_head(base: str, suffix: str, neck: str) -> None:
    needs_base(base)
    if base == "yolov10n" and suffix:
        pytest.skip("YOLOv10 has a detector only")
    _check(f"{base}{suffix}+{neck}", SUFFIXES[suffix])


@pytest.mark.slow
@pytest.mark.parametrize("neck", [*NECKS, "neck(from=yolo11.yaml)"])
@pytest.mark.parametrize("level", ["p2", "p6", "p2+p6", "p2+repvit_m0_6", "p6+repvit_m0_6"])
@pytest.mark.parametrize("base", ["yolov8n", "yolo11n", "yolo26n", "rtdetr-l", "yolov8n-seg", "yolo11n-pose"])
def test_every_neck_at_further_levels(base: str, level: str, neck: str) -> None:
    needs_base(base)
    if neck == "asf" and level.startswith("p2") and ("rtdetr" in base or "repvit" in level):
        pytest.skip("no feature of stride 2")
    model: Any = build(f"{base}+{level}+{neck}", nc=3)
    suffix = base.removeprefix("rtdetr-l").partition("-")[2]
    assert one_step(model, SUFFIXES[f"-{suffix}" if suffix else ""], 3, 256 if "rtdetr" in base else 128) == []
    assert len(model.model[-1].f) == 3 + level.count("p2") + level.count("p6")


EXPORT = """
import json, sys
import numpy, onnxruntime, torch
from detgraft import YOLO, RTDETR
from detgraft.testing.contract import randomise_norms
expression, suffix = sys.argv[1], sys.argv[2]
torch.manual_seed(0)
wrapper = (RTDETR if "rtdetr" in expression else YOLO)(expression)
randomise_norms(wrapper.model)
path = wrapper.export(format="onnx", imgsz=[96, 160], simplify=False, dynamic=False)
model = wrapper.model.float().eval().fuse(verbose=False)
head = model.model[-1]
x = torch.rand(1, 3, 96, 160)
features = {}
head.register_forward_pre_hook(lambda module, given: features.update(given=given[0]))
with torch.no_grad():
    expected = model(x)
while not torch.is_tensor(expected):
    expected = expected[0]
session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
found = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
expected = expected.numpy()
scores, other = numpy.sort(expected[..., 4].ravel()), numpy.sort(found[..., 4].ravel())
same = expected.shape == found.shape
print(json.dumps([same, float(abs(expected - found).max() / abs(expected).max()), float(abs(scores - other).max())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("neck", NECKS)
@pytest.mark.parametrize("base", ["yolov8n", "yolov8n-seg", "yolov8n-pose", "yolov8n-obb", "yolo11n"])
def test_onnx_agrees(base: str, neck: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    shape, difference, _scores = run_python(EXPORT, f"{base}+{neck}", "", cwd=tmp_path)
    assert shape
    assert difference <= 1e-3
