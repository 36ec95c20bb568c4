"""Sites, order, claims, notes; expressions that equal the zoo; the YAML that builds the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import files_below, needs_base, run_cli, save_checkpoint, shapes

from detgraft import YOLO, build
from detgraft.catalog.families import attention, downsampling, fusion, stages, upsampling
from detgraft.errors import ArgumentError, CatalogError, DetgraftError, PlanError
from detgraft.upstream.describe.expressions import compose_mapping, to_yaml
from detgraft.upstream.model.models import describe

ZOO = {
    "yolo11n+convnextv2_atto(width=auto)": "yolo11n-convnextv2.yaml",
    "yolo11s+repvit_m0_6(width=auto)": "yolo11s-repvit.yaml",
    "yolo11n+dynamicconv": "yolo11n-dynamicconv.yaml",
    "yolo11m+c3k2_dynamicconv": "yolo11m-c3k2-dynamicconv.yaml",
    "yolo11n+carafe": "yolo11n-carafe.yaml",
    "rtdetr-l+convnextv2_atto(width=auto)": "rtdetr-l-convnextv2.yaml",
}

BLOCKS = [
    entry
    for family in (upsampling, attention, downsampling, stages, fusion)
    for entry in family.GRAFTS
    if entry.site and not entry.name.startswith("CARAFE")  # without a default site: parts of necks, in test_necks.py
]


def rows(expression: str) -> list[list[Any]]:
    mapping = compose_mapping(expression)
    return [*mapping["backbone"], *mapping["head"]]


def layers_with(expression: str, module: str) -> list[int]:
    """Layer numbers of a graft; none of the expressions below has a row of several layers."""
    return [index for index, row in enumerate(rows(expression)) if row[2] == module]


@pytest.mark.parametrize("expression", ZOO)
def test_an_expression_equals_the_zoo(expression: str) -> None:
    """The same parameters under the same state-dict keys."""
    found, expected = build(expression), build(ZOO[expression])
    assert shapes(found) == shapes(expected)
    assert [layer.type.lower() for layer in found.model] == [layer.type.lower() for layer in expected.model]


@pytest.mark.parametrize(
    ("expression", "module", "expected"),
    [
        ("yolo11n+carafe", "CARAFE", [11, 14]),
        ("yolo11n+carafe@head", "CARAFE", [11, 14]),
        ("yolo11n+carafe@head.3", "CARAFE", [14]),
        ("yolo11n+dynamicconv", "DynamicConv", [1, 3, 5, 7, 17, 20]),
        ("yolo11n+dynamicconv@backbone", "DynamicConv", [1, 3, 5, 7]),
        ("yolo11n+dynamicconv@backbone.0", "DynamicConv", [0]),
        ("yolo11n+c3k2_dynamicconv@head", "C3k2_DynamicConv", [13, 16, 19, 22]),
        ("yolo11n+c3k2_dynamicconv@backbone.2+c3k2_dynamicconv@head.11", "C3k2_DynamicConv", [2, 22]),
        ("yolo11n+cbam", "CBAM", [5, 8, 11]),
        ("yolo11n+cbam@backbone.9", "CBAM", [10]),
        ("yolo11n+cbam@head.5", "CBAM", [17]),
        ("yolo11n+weightedconcat@head", "WeightedConcat", [12, 15, 18, 21]),
        ("yolo11n+CARAFE_official@head.0", "CARAFE_official", [11]),
    ],
)
def test_sites(expression: str, module: str, expected: list[int]) -> None:
    assert layers_with(expression, module) == expected


def test_arguments_of_the_replaced_row_are_kept_and_the_expressions_added() -> None:
    assert rows("yolo11n+c3k2_dynamicconv")[2] == [-1, 2, "C3k2_DynamicConv", [256, False, 0.25]]
    assert rows("yolo11n+dynamicconv(num_experts=2)")[1] == [-1, 1, "DynamicConv", [128, 3, 2, None, 1, 1, False, 2]]
    assert rows("yolo11n+carafe(k_up=7)")[11] == [-1, 1, "CARAFE", [3, 7]]


def test_a_backbone_takes_the_place_of_the_stock_pyramid() -> None:
    found = compose_mapping("yolo11n+convnextv2_atto")
    assert found["backbone"] == [
        [-1, 1, "convnextv2_atto", [1.0]],
        [-1, 1, "SPPF", [1024, 5]],
        [-1, 2, "C2PSA", [1024]],
    ]
    assert [row[0] for row in found["head"] if row[2] == "Concat"] == [[-1, 3], [-1, 2], [-1, 9], [-1, 6]]
    assert found["detgraft"]["origins"] == [None] * 5 + list(range(9, 24))


def test_something_inserted_is_read_by_all_that_read_the_row_before() -> None:
    found = rows("yolo11n+cbam")
    assert [found[i][0] for i in (5, 8, 11)] == [-1, -1, -1]
    concats = [row[0] for row in found if row[2] == "Concat"]
    assert concats == [[-1, 8], [-1, 5], [-1, 16], [-1, 13]]


@pytest.mark.parametrize(
    "parts",
    [
        ("convnextv2_atto", "carafe", "c3k2_dynamicconv"),
        ("carafe", "c3k2_dynamicconv@backbone", "dynamicconv@head"),
        ("cbam", "c3k2_dynamicconv", "dysample"),
    ],
)
def test_order_does_not_matter(parts: tuple[str, str, str]) -> None:
    a, b, c = parts
    expected = rows(f"yolo11n+{a}+{b}+{c}")
    for order in ((b, a, c), (c, b, a), (c, a, b)):
        assert rows("+".join(("yolo11n", *order))) == expected


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("yolo11n+carafe+dysample", "both claim layer 11 of yolo11n (nn.Upsample); narrow one with @backbone.N"),
        ("yolo11n+carafe+carafe@head.0", "'carafe' and 'carafe@head.0' both claim layer 11"),
        ("yolo11n+cbam+ema", "both claim layer 4"),
        ("yolo11n+convnextv2_atto+repvit_m0_9", "both replace the backbone; a model has one"),
        ("yolo11n+convnextv2_atto+dynamicconv@backbone", "both claim layer 1"),
        ("yolo11n+convnextv2_atto+cbam@backbone.4", "both claim layer 4"),
        ("yolo11n+convnextv2_atto@head", "its site cannot be narrowed"),
        ("yolo11n+convnextv2_atto@backbone.3", "its site cannot be narrowed"),
        ("yolo11n+carafe@backbone", "the backbone of yolo11n has none; its modules are Conv, C3k2"),
        ("yolo11n+carafe@head.1", "row 1 of the head is Concat [1], which 'CARAFE' cannot replace"),
        ("yolo11n+carafe@head.99", "the head of yolo11n has rows 0 to 12"),
        ("yolo11n+convnextv2_atto+cbam", "what the other grafts leave of yolo11n has none"),
    ],
)
def test_what_does_not_fit_together(expression: str, words: str) -> None:
    with pytest.raises(PlanError) as caught:
        compose_mapping(expression)
    assert str(caught.value).startswith(f"{expression}: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("expression", "error", "words"),
    [
        ("yolo11n+caraf", CatalogError, "there is no graft 'caraf'. Did you mean 'CARAFE'"),
        ("yolo11m5+carafe", PlanError, "there is no base model 'yolo11m5'. Did you mean"),
        ("nosuchfolder/own.yaml+carafe", PlanError, "there is no base model 'nosuchfolder/own.yaml'"),
        ("yolo11n+timm/resnet81", CatalogError, "timm 1"),
        ("yolo11n+timm/efficientformerv2_s0", CatalogError, "bound to one input size"),
        ("yolo11n+timm/vit_tiny_patch16_224", CatalogError, "no features at reduction 8"),
        ("yolo11n+carafe(kup=3)", ArgumentError, "has no argument 'kup'; it has k_enc, k_up"),
        ("yolo11n+carafe(k_up=big)", ArgumentError, "argument 'k_up' of 'CARAFE' must be int, found 'big' (str)"),
        ("yolo11n+carafe(k_up=4)", ArgumentError, "CARAFE"),
        ("yolo11n+convnextv2_atto(size=tiny)", ArgumentError, "takes width=, weights= and input=, found size"),
        ("yolo11n+convnextv2_atto(width=0)", ArgumentError, "width factor"),
        ("yolo11n+convnextv2_atto(width=-1)", ArgumentError, "width factor"),
        ("yolo11n+convnextv2_atto(width=0.001)", ArgumentError, "leaves the first stage without channels"),
        ("yolo11n+convnextv2_atto(width=wide)", DetgraftError, "wide"),
        ("yolo11n+timm/resnet18(width=0.5)", ArgumentError, "'timm/resnet18' has no argument 'width'"),
        ("yolo11n+cbam(k=4)", ArgumentError, "k must be odd"),
    ],
)
def test_wrong_names_and_arguments(expression: str, error: type[Exception], words: str) -> None:
    before = files_below(Path())
    with pytest.raises(error) as caught:
        build(expression)
    assert words in str(caught.value)
    assert expression.removeprefix("yolo11n+").partition("(")[0].partition("/")[2] in str(caught.value)
    assert files_below(Path()) == before


def test_a_stock_row_with_something_the_graft_lacks_stays_and_is_noted() -> None:
    needs_base("yolo26n")
    found = compose_mapping("yolo26n+c3k2_dynamicconv")
    assert found["detgraft"]["notes"] == [
        "layer 22 (C3k2) stays as it is: 'C3k2_DynamicConv' has no argument 'attn' (here True)"
    ]
    assert found["head"][11][2] == "C3k2"
    assert f"# {found['detgraft']['notes'][0]}" in to_yaml(found)


def test_a_base_given_as_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "我的 模型"
    folder.mkdir()
    own = folder / "own11n.yaml"
    own.write_text(describe("yolo11n"), encoding="utf-8")
    assert rows(f"{own}+carafe") == rows("yolo11n+carafe")
    assert shapes(build(f"{own}+carafe")) == shapes(build("yolo11n+carafe"))
    own.write_text("backbone: [[-1, 1, Conv, [16, 3, 2]]]\nhead: [[9, 1, Detect, [nc]]]\n", encoding="utf-8")
    with pytest.raises(PlanError, match=r"own11n\.yaml, line 2, layer 1: refers to layer 9"):
        build(f"{own}+carafe")


@pytest.mark.parametrize("entry", BLOCKS, ids=lambda entry: entry.name)
def test_every_further_block_at_its_default_site(entry: Any) -> None:
    torch.manual_seed(0)
    model: Any = build(f"yolo11n+{entry.name}", nc=3).train()
    added = [layer for layer in model.model if layer.type == entry.name]
    assert added
    outputs = model(torch.rand(2, 3, 64, 64))
    values = outputs.values() if isinstance(outputs, dict) else outputs
    sum(value.square().mean() for value in values if isinstance(value, torch.Tensor)).backward()
    for layer in added:
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in layer.parameters())


@pytest.mark.parametrize(
    "expression",
    [
        "yolo11s+repvit_m0_6(width=auto)+carafe",
        "yolo11n-seg+cbam+weightedconcat",
        "rtdetr-l+timm/mobilenetv4_conv_small",
        "yolo26n+c3k2_dynamicconv",
        "yolov8n-p6+dynamicconv(num_experts=2)",
        "yolov8s",
    ],
)
def test_the_yaml_of_a_model_builds_the_same_model(expression: str, tmp_path: Path) -> None:
    needs_base(expression.partition("+")[0])
    path = tmp_path / "any name.yaml"
    path.write_text(describe(expression, nc=7), encoding="utf-8")
    expected, found = build(expression, nc=7), build(str(path))
    assert shapes(found) == shapes(expected)
    assert type(found) is type(expected)
    assert [layer.type for layer in found.model] == [layer.type for layer in expected.model]
    assert [layer.f for layer in found.model] == [layer.f for layer in expected.model]


def test_the_yaml_of_a_checkpoint(tmp_path: Path) -> None:
    model = YOLO("yolo11n+carafe@head.0")
    save_checkpoint(model, tmp_path / "m.pt")
    (tmp_path / "again.yaml").write_text(describe(str(tmp_path / "m.pt")), encoding="utf-8")
    assert shapes(build(str(tmp_path / "again.yaml"))) == shapes(model.model)


def test_the_yaml_on_the_command_line(tmp_path: Path) -> None:
    needs_base("yolo26n")
    process = run_cli("show", "yolo26n+c3k2_dynamicconv", "--yaml", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("# yolo26n+c3k2_dynamicconv\n# layer 22 (C3k2) stays as it is")
    assert "  - [-1, 2, C3k2_DynamicConv, [512, true]] # 6\n" in process.stdout
    assert process.stdout == describe("yolo26n+c3k2_dynamicconv")
    both = run_cli("show", "yolo11n+carafe", "--yaml", "--json", cwd=tmp_path)
    assert (both.returncode, both.stdout) == (2, "")
    assert "ask for one" in both.stderr
    assert files_below(tmp_path) == set()
