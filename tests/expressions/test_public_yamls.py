"""Rows as public repositories and tutorials write them: read with the author's meaning, or refused with the next step.

The rows are retyped from what such files have in common, one or two per case, around the skeleton of a small detector.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from ultralytics.nn import tasks

from detgraft.catalog.registry import catalogue
from detgraft.errors import DetgraftError
from detgraft.upstream.describe.layers import layers_on_meta
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.describe.plans import refuse_unknown

SKELETON = """
nc: 80
scales:
  n: [0.50, 0.25, 1024]
backbone:
  - [-1, 1, Conv, [64, 3, 2]] # 0
  - [-1, 1, Conv, [128, 3, 2]] # 1
  - {stage} # 2
  - [-1, 1, Conv, [256, 3, 2]] # 3
  - {deep} # 4
head:
  - {up} # 5
  - {join} # 6
  - {last} # 7
  - [[7], 1, Detect, [nc]] # 8
"""
USUAL = {
    "stage": "[-1, 2, C2f, [128, True]]",
    "deep": "[-1, 2, C2f, [256, True]]",
    "up": '[-1, 1, nn.Upsample, [None, 2, "nearest"]]',
    "join": "[[-1, 2], 1, Concat, [1]]",
    "last": "[-1, 1, C2f, [128]]",
}

READ: list[tuple[str, str, str, str]] = [
    # place, row, type of the layer, and a class or attribute path inside it
    ("stage", "[-1, 3, C2f_Faster, [128, True]]", "C2f_Faster", "m.0:FasterBlock"),
    ("stage", "[-1, 3, C3k2_Faster, [128, False, 0.25]]", "C3k2_Faster", "m.0:FasterBlock"),
    ("stage", "[-1, 3, C3_Faster, [128]]", "C3_Faster", "m.0:FasterBlock"),
    ("stage", "[-1, 3, C2f_SE, [128, True]]", "C2f_SE", "m.0.cv2.then:SE"),
    ("stage", "[-1, 3, C3k2-SE, [128, True]]", "C3k2-SE", "m.0.m.0.cv2.then:SE"),
    ("stage", "[-1, 3, C2f_EMA, [128, True]]", "C2f_EMA", "m.0.cv2.then:EMA"),
    ("stage", "[-1, 3, C2f_ODConv, [128, True]]", "C2f_ODConv", "m.0.cv2:ODConvBNAct"),
    ("stage", "[-1, 3, C2f_DCNv2, [128, True]]", "C2f_DCNv2", "m.0.cv2:DeformConvBNAct"),
    ("stage", "[-1, 3, C2f_DCNV2, [128, True]]", "C2f_DCNV2", "m.0.cv2:DeformConvBNAct"),
    ("stage", "[-1, 3, C3k2_RFAConv, [128, False, 0.25]]", "C3k2_RFAConv", "m.0.cv2:RFAConv"),
    ("stage", "[-1, 3, C3k2_CAA, [128]]", "C3k2_CAA", "m.0.cv2.then:CAA"),
    ("stage", "[-1, 2, C3K2, [128, False, 0.25]]", "C3k2", "m.0:Bottleneck"),
    ("deep", "[-1, 2, C2PSA_EMA, [256]]", "C2PSA_EMA", "m.0.attn:EMA"),
    ("deep", "[-1, 2, C2PSA_Faster, [256]]", "C2PSA_Faster", "m.0:FasterBlock"),
    ("deep", "[-1, 1, CBAM, [256, 7]]", "CBAM", ":CBAM"),
    ("deep", "[-1, 1, SEAttention, [256]]", "SEAttention", ":SE"),
    ("deep", "[-1, 1, SimAM, []]", "SimAM", ":SimAM"),
    ("deep", "[-1, 1, EMA, [256]]", "EMA", ":EMA"),
    ("deep", "[-1, 1, SPDConv, [256, 3, 1]]", "SPDConv", ":SPDConv"),
    ("up", '[-1, 1, Upsample, [None, 2, "nearest"]]', "Upsample", ":Upsample"),
    ("up", "[-1, 1, Upsample, [None, 2, 'bilinear']]", "Upsample", ":Upsample"),
    ("up", "[-1, 1, CARAFE, [256, 3, 5]]", "CARAFE", ":CARAFE"),
    ("up", "[-1, 1, DySample, []]", "DySample", ":DySample"),
    ("join", "[[-1, 2], 1, Concat_BiFPN, [1]]", "WeightedConcat", ":WeightedConcat"),
    ("join", "[[-1, 2], 1, BiFPN_Concat2, [1]]", "WeightedConcat", ":WeightedConcat"),
]

REFUSED: list[tuple[str, str, tuple[str, ...]]] = [
    ("stage", "[-1, 1, CA, [128]]", ("Did you mean 'CoordAtt'", "may be written differently", "plugins=")),
    ("stage", "[-1, 3, C2f_CA, [128]]", ("Did you mean 'C2f_CoordAtt'",)),
    ("stage", "[-1, 3, C3SE, [128]]", ("Did you mean 'C3_SE'", "BASE+csp(se)", "plugins=")),
    ("stage", "[-1, 3, C2fEMA, [128]]", ("Did you mean 'C2f_EMA'",)),
    ("stage", "[-1, 3, EMA_C2f, [128]]", ("Did you mean 'C2f_EMA'",)),
    ("stage", "[-1, 3, My_Stage_SE, [128]]", ("Did you mean 'C2f_SE'", "BASE+csp(se)", "plugins=")),
    ("stage", "[-1, 3, C2f_Faster_Block, [128]]", ("Did you mean 'C2f_FasterBlock'",)),
    ("stage", "[-1, 3, C3k2_Nowhere, [128]]", ("C3k2 is a shell for any block that keeps its size", "plugins=")),
    ("stage", "[-1, 3, InvolutionStage, [128]]", ("there is no module", "plugins=")),
    ("deep", "[-1, 1, space_to_depth, [1]]", ("half of SPDConv", "[-1, 1, SPDConv, [CHANNELS, 3, 2]]")),
    ("up", "[-1, 1, Upsample, [256]]", ("Did you mean 'nn.Upsample'",)),
    ("join", "[[-1, 2], 1, BiFPN_Add2, [256, 256]]", ("adds its inputs", "WeightedConcat")),
    ("last", "[-1, 1, Detect_DyHead, [80]]", ("Heads stay Ultralytics' own",)),
    ("stage", "[-1, 3, C2f_CARAFE, [128]]", ("a block inside a shell keeps the size",)),
]


def written(folder: Path, place: str, row: str) -> Path:
    path = folder / "public.yaml"
    path.write_text(textwrap.dedent(SKELETON).format(**{**USUAL, place: row}), encoding="utf-8")
    return path


def made(mapping: dict[str, Any]) -> Any:
    refuse_unknown(mapping)  # as Ultralytics' parser is called, which changes the rows
    return layers_on_meta(mapping, 3)


def line_of(place: str) -> int:
    return next(n for n, text in enumerate(SKELETON.splitlines(), 1) if f"{{{place}}}" in text)


@pytest.mark.parametrize(("place", "row", "kind", "inside"), READ, ids=[case[1] for case in READ])
def test_read_with_the_authors_meaning(place: str, row: str, kind: str, inside: str, tmp_path: Path) -> None:
    layers = made(load_yaml(str(written(tmp_path, place, row))))
    layer = layers[list(USUAL).index(place) + (2 if place == "stage" else 3)]
    assert str(layer.type).rpartition(".")[2] == kind
    path, _, wanted = inside.partition(":")
    assert type(layer.get_submodule(path)).__name__ == wanted


@pytest.mark.parametrize(("place", "row", "words"), REFUSED, ids=[case[1] for case in REFUSED])
def test_refused_with_the_next_step(place: str, row: str, words: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(DetgraftError) as caught:
        made(load_yaml(str(written(tmp_path, place, row))))
    message = str(caught.value)
    assert f"public.yaml, line {line_of(place)}, layer" in message
    assert [word for word in words if word not in message] == [], message


def test_what_a_name_means_already_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, "join", "[[-1, 2], 1, Concat_BiFPN, [1]]")

    def names() -> list[str]:
        mapping = load_yaml(str(path))
        return [row[2] for row in mapping["head"]]

    assert names()[1] == "WeightedConcat"
    monkeypatch.setattr(catalogue, "revision", catalogue.revision + 1)
    monkeypatch.setattr(tasks, "Concat_BiFPN", tasks.Concat, raising=False)
    assert names()[1] == "Concat_BiFPN"


def test_what_is_read_as_another_name_is_said_once_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    path = written(tmp_path, "up", '[-1, 1, Upsample, [None, 2, "nearest"]]')
    monkeypatch.setattr(tasks.LOGGER, "warning", said.append)
    load_yaml(str(path))
    load_yaml(str(path))
    assert said == [f"{path}, line {line_of('up')}: 'Upsample' is read as 'nn.Upsample', which means the same"]
