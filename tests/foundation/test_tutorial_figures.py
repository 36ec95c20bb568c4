"""The tutorials' own YAML files build unchanged and give the figures of a correct build, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from seed_yamls import SEED_YAMLS, SeedYaml, has_chinese
from support import BY_KEY, main_output, tensors_in

from detgraft import RTDETR, YOLO, build, show
from detgraft.catalog.registry import catalogue

Reference = Callable[[str], dict[str, Any]]

# REFERENCE section 1, column "correct build", and the number of classes that each figure belongs to.
CORRECT = {
    "convnextv2": (5, 2_436_067),
    "rtdetr": (1, 21_867_371),
    "c3k2_dynamicconv": (25, 3_234_759),
    "dynamicconv": (25, 4_599_987),
    "repvit": (2, 2_117_530),
    "carafe": (2, 2_730_662),
}

seed_yamls = pytest.mark.parametrize("seed", SEED_YAMLS, ids=[seed.key for seed in SEED_YAMLS])


@cache
def summary(path: str, nc: int) -> Any:
    return show(path, imgsz=640, nc=nc)


@seed_yamls
def test_parameters_of_a_correct_build(seed: SeedYaml, seeds: Path, reference: Reference) -> None:
    nc, correct = CORRECT[seed.key]
    model = build(seeds / seed.loaded_as, nc=nc)
    assert sum(p.numel() for p in model.parameters()) == correct
    assert reference(seed.reference)["params"] - seed.dead == correct


def is_backbone(seed: SeedYaml) -> bool:
    return bool(catalogue.get(BY_KEY[seed.key].graft).channels == "pyramid")


@seed_yamls
def test_every_layer_equals_the_reference_table(seed: SeedYaml, seeds: Path, reference: Reference) -> None:
    nc, _ = CORRECT[seed.key]
    layers = {layer.index: layer for layer in summary(str(seeds / seed.loaded_as), nc).layers}
    table = reference(seed.reference)["table"]
    assert list(layers) == list(range(table[-1]["i"] + 1)), "module index and layer index agree"
    for row in table:
        name = row["type"].rpartition(".")[2]
        shape = row["out_shape_640"]
        if is_backbone(seed) and row["n"] == 0:
            assert layers[0].module == name
            assert layers[0].params == row["params"] - seed.dead
            assert layers[0].shape == shape
            for layer in range(1, 5):
                assert layers[layer].shape == shape[layer - 1]
                assert (layers[layer].from_, layers[layer].params) == (0, 0)
            continue
        layer = layers[row["i"]]
        assert layer.module.rpartition(".")[2] == name
        assert layer.params == row["params"], f"layer {layer.index}"
        assert layer.from_ == row["f"]
        if row is not table[-1]:  # the form of a head's output depends on the release
            assert layer.shape == shape, f"layer {layer.index}"


@seed_yamls
def test_predictions_have_the_reference_shape(seed: SeedYaml, seeds: Path, reference: Reference) -> None:
    nc, _ = CORRECT[seed.key]
    head = summary(str(seeds / seed.loaded_as), nc).layers[-1]
    first = head.shape
    while isinstance(first[0], list):
        first = first[0]
    expected = reference(seed.reference)["output_shapes_640"][0]
    # Newer releases decode RT-DETR's class and score into two columns; its 300 queries stay.
    assert first[:2] == expected[:2] if seed.key == "rtdetr" else first == expected


@seed_yamls
def test_strides_and_kept_layers(seed: SeedYaml, seeds: Path, reference: Reference) -> None:
    nc, _ = CORRECT[seed.key]
    model: Any = build(seeds / seed.loaded_as, nc=nc)
    table = reference(seed.reference)
    assert model.stride.tolist() == table["stride"]
    # The list row is kept, too, for the four selectors that read it.
    assert sorted(set(model.save) - ({0} if is_backbone(seed) else set())) == table["save"]


@seed_yamls
def test_operations_counted_by_torch(seed: SeedYaml, seeds: Path, reference: Reference) -> None:
    nc, _ = CORRECT[seed.key]
    counted = summary(str(seeds / seed.loaded_as), nc)
    assert counted.gflops == pytest.approx(reference(seed.reference)["gflops_torch_FlopCounterMode"], rel=1e-3)
    assert sum(layer.gflops for layer in counted.layers) == pytest.approx(counted.gflops, rel=1e-9)


@seed_yamls
def test_opens_with_the_model_classes(seed: SeedYaml, seeds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ultralytics

    monkeypatch.chdir(seeds)  # as the tutorials do: a bare file name
    opened = YOLO(seed.loaded_as)
    stock = (ultralytics.RTDETR if seed.key == "rtdetr" else ultralytics.YOLO)(seed.loaded_as)
    assert isinstance(opened, RTDETR) == (seed.key == "rtdetr")
    assert [k for k, _ in opened.model.named_parameters()] == [k for k, _ in stock.model.named_parameters()]
    assert main_output(opened.model.eval(), torch.zeros(1, 3, 128, 128)).isfinite().all()


def test_the_files_hold_the_tutorials_chinese_comments(seeds: Path) -> None:
    chinese = [seed.file for seed in SEED_YAMLS if has_chinese(seeds / seed.file)]
    assert chinese == ["yolo11-ConvNeXtV2.yaml", "yolo11-RepViT.yaml"]


@pytest.mark.parametrize("name", ["convnext_pico", "convnextv2_pico"])
def test_both_names_of_the_pico_size(name: str, seeds: Path, tmp_path: Path) -> None:
    text = (
        (seeds / "yolo11-ConvNeXtV2.yaml").read_text("utf-8").replace("- [-1, 1, convnextv2_atto", f"- [-1, 1, {name}")
    )
    (tmp_path / "yolo11-pico.yaml").write_text(text, "utf-8")
    model: Any = build(tmp_path / "yolo11n-pico.yaml")
    assert model.model[0].type == name
    assert tuple(model.model[0].channels) == (32, 64, 128, 256)


@pytest.mark.parametrize("scale", ["n", "s", "x"])
def test_the_tutorials_own_factor_does_not_follow_the_scale(scale: str, seeds: Path) -> None:
    model: Any = build(seeds / f"yolo11{scale}-ConvNeXtV2.yaml")
    assert tuple(model.model[0].channels) == (20, 40, 80, 160)


def test_a_scale_letter_in_a_folders_name_is_not_the_models(seeds: Path, tmp_path: Path) -> None:
    folder = tmp_path / "exp11s"
    folder.mkdir()
    (folder / "yolo11-CARAFE.yaml").write_bytes((seeds / "yolo11-CARAFE.yaml").read_bytes())
    model = build(folder / "yolo11n-CARAFE.yaml", nc=2)
    assert sum(p.numel() for p in model.parameters()) == CORRECT["carafe"][1]


def test_carafe_rows_have_the_reference_parameters(seeds: Path) -> None:
    layers = summary(str(seeds / "yolo11n-CARAFE.yaml"), 2).layers
    assert [layer.params for layer in layers if layer.module == "CARAFE"] == [74_312, 66_120]


@pytest.mark.parametrize(
    ("scale", "params"),
    [
        ("n", 3_264_124),
        ("s", 12_017_516),
        ("m", 25_039_296),
        ("l", 35_221_376),
        pytest.param("x", 79_121_952, marks=pytest.mark.slow),
    ],
)
def test_c3k2_dynamicconv_follows_c3k2s_rule_for_large_scales(scale: str, params: int, seeds: Path) -> None:
    model = build(seeds / f"yolo11{scale}-C3k2-DynamicConv.yaml", nc=80)
    assert sum(p.numel() for p in model.parameters()) == params


def test_outputs_of_all_systems_are_finite(seeds: Path) -> None:
    for seed in SEED_YAMLS:
        model = build(seeds / seed.loaded_as, nc=3).eval()
        with torch.no_grad():
            output = model(torch.rand(2, 3, 128, 160))
        assert all(value.isfinite().all() for value in tensors_in(output)), seed.key
