"""The build log that Ultralytics prints names every graft by its own name, with arguments and parameters."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from seed_yamls import SEED_YAMLS, SeedYaml
from support import ultralytics_log

from detgraft import build

# index, from, n, parameters, module, arguments
_LINE = re.compile(r"^\s*(\d+)\s+(-?\d+|\[[^\]]*\])\s+(\d+)\s+(\d+)  (\S+)\s+(.*?)\s*$")


def logged(path: Path, nc: int) -> tuple[Any, dict[int, tuple[str, int, int, str, str]]]:
    with ultralytics_log() as lines:
        model = build(path, nc=nc, verbose=True)
    rows = {}
    for line in lines:
        if found := _LINE.match(line):
            index, source, n, params, module, arguments = found.groups()
            assert int(index) not in rows, "a probe must not print"
            rows[int(index)] = (source, int(n), int(params), module, arguments)
    return model, rows


@pytest.mark.parametrize("seed", SEED_YAMLS, ids=[seed.key for seed in SEED_YAMLS])
def test_every_layer_is_printed_once_with_its_parameters(seed: SeedYaml, seeds: Path) -> None:
    model, rows = logged(seeds / seed.loaded_as, 3)
    assert list(rows) == list(range(len(model.model)))
    for index, layer in enumerate(model.model):
        source, _, params, module, _ = rows[index]
        assert params == sum(p.numel() for p in layer.parameters())
        assert source == str(layer.f)
        assert module == layer.type


@pytest.mark.parametrize(
    ("file", "index", "module", "arguments"),
    [
        ("yolo11n-ConvNeXtV2.yaml", 0, "convnextv2_atto", "[0.5]"),
        ("rtdetr-l-ConvNeXtV2.yaml", 0, "convnextv2_atto", "[]"),
        ("yolo11n-RepViT.yaml", 0, "repvit_m0_6", "[0.5]"),
        ("yolo11n-CARAFE.yaml", 11, "CARAFE", "[256]"),
        ("yolo11n-CARAFE.yaml", 14, "CARAFE", "[128]"),
        ("yolo11n-DynamicConv.yaml", 1, "DynamicConv", "[16, 32, 3, 2]"),
        ("yolo11n-C3k2-DynamicConv.yaml", 2, "C3k2_DynamicConv", "[32, 64, 1, False, 0.25]"),
        ("yolo11n-C3k2-DynamicConv.yaml", 6, "C3k2_DynamicConv", "[128, 128, 1, True]"),
    ],
)
def test_a_graft_appears_under_its_own_name(file: str, index: int, module: str, arguments: str, seeds: Path) -> None:
    _, rows = logged(seeds / file, 3)
    assert rows[index][3:] == (module, arguments)


def test_stock_rows_are_printed_as_stock_prints_them(seeds: Path) -> None:
    _, ours = logged(seeds / "yolo11n-CARAFE.yaml", 3)
    with ultralytics_log() as lines:
        build("yolo11n.yaml", nc=3, verbose=True)
    stock = {int(found[1]): found.groups()[1:] for line in lines if (found := _LINE.match(line))}
    grafts = {11, 14}
    assert set(ours) == set(stock)
    for index in set(stock) - grafts:
        source, n, params, module, arguments = ours[index]
        assert (source, str(n), str(params), module, arguments) == stock[index]


def test_a_repeated_block_counts_its_repeats(tmp_path: Path, seeds: Path) -> None:
    text = (seeds / "yolo11-DynamicConv.yaml").read_text("utf-8")
    text = text.replace("- [-1, 1, DynamicConv, [128, 3, 2]]", "- [-1, 4, DynamicConv, [128, 3, 2]]")
    (tmp_path / "yolo11-twice.yaml").write_text(text, "utf-8")
    model, rows = logged(tmp_path / "yolo11n-twice.yaml", 3)
    assert rows[1][1] == 2, "four repeats at depth 0.5"
    assert len(model.model[1]) == 2
    assert model.stride.tolist() == [8, 16, 32], "the second copy keeps the resolution"


def test_quiet_builds_print_no_layers() -> None:
    with ultralytics_log() as lines:
        build("yolo11n-carafe.yaml", nc=3)
    assert [line for line in lines if _LINE.match(line)] == []
