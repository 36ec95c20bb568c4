"""Rows as public YAMLs write them: channel numbers first, names and arguments of other repositories."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from trust_support import log, with_row, written

import detgraft
from detgraft.catalog.registry import catalogue
from detgraft.errors import ArgumentError, CatalogError, PlanError

pytestmark = pytest.mark.trust


def row(text: str) -> nn.Module:
    return detgraft.build(written(with_row(text))).model[5]


@pytest.mark.parametrize(
    ("source", "name", "public", "options"),
    [
        (4, "SimAM", "[1024]", ""),
        (4, "SimAM", "[1024, 0.001]", "0.001"),
        (2, "CoordAtt", "[256]", ""),
        (2, "CoordAtt", "[256, 256, 16]", "16"),
        (2, "CoordAttention", "[64]", ""),
        (4, "CBAM", "[1024, 7]", "7"),
        (4, "CBAM", "[256]", ""),
        (4, "EMA", "[1024, 8]", "8"),
        (4, "LSKA", "[1024, 7]", "7"),
        (4, "LSKAAttention", "[1024]", ""),
        (4, "CARAFE", "[1024, 3, 5]", "3, 5"),
        (4, "CARAFE_official", "[1024, 2]", "2"),
        (4, "DySample", "[1024, 2, lp]", "2, lp"),
        ("[4, 4]", "WeightedConcat", "[512, 1]", "1"),
    ],
)
def test_the_layers_own_channels_in_front_are_left_out_with_a_note(
    source: object, name: str, public: str, options: str
) -> None:
    torch.manual_seed(0)
    with log() as lines:
        found = row(f"[{source}, 1, {name}, {public}]")
    torch.manual_seed(0)
    expected = row(f"[{source}, 1, {name}, [{options}]]")
    assert repr(found) == repr(expected)
    assert all(
        torch.equal(a, b) for a, b in zip(found.state_dict().values(), expected.state_dict().values(), strict=True)
    )
    number = public.strip("[]").partition(",")[0]
    said = [line for line in lines if "takes its channels from the layer before" in line]
    assert len(said) == 1
    assert "line 11" in said[0]
    assert number in said[0]
    assert f"{name}, [{options}]]" in said[0]


def test_simam_with_channels_in_front_attends() -> None:
    gates = [row(f"[4, 1, SimAM, [{text}]]").eval() for text in ("1024", "")]
    x: Tensor = torch.randn(2, 256, 20, 20, generator=torch.Generator().manual_seed(0)) + 2
    assert torch.equal(gates[0](x), gates[1](x))
    assert float((gates[0](x) / x).std()) > 0.03  # the gate was 0.6225 everywhere


@pytest.mark.parametrize("name", [e.name for e in catalogue if e.channels in ("same", "concat")])
def test_another_number_of_channels_is_refused_with_the_row_to_write(name: str) -> None:
    source = "[4, 4]" if catalogue.get(name).channels == "concat" else "4"
    with pytest.raises(ArgumentError) as caught:
        row(f"[{source}, 1, {name}, [333]]")
    text = str(caught.value)
    assert "line 11" in text
    assert "333" in text
    assert f"[{source}, 1, {name}, []]" in text


def test_a_small_number_stays_the_option_and_is_explained_where_it_could_be_the_channels() -> None:
    with log() as lines:
        assert row("[1, 1, EMA, [32]]").width == 1  # 32 channels in 32 groups
    assert any("'EMA' reads 32 as its option factor" in line and "[1, 1, EMA, []]" in line for line in lines)
    with log() as lines:
        row("[4, 1, CBAM, [7]]")
        row("[2, 1, EMA, [8]]")
    assert not [line for line in lines if "channels" in line and "yolo11n-small" in line]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[4, 1, CARAFE, [1024, 3, 2]]", ("k_enc, k_up, c_mid, scale", "CARAFE, [3, 3, 64, 2]")),
        ("[4, 1, CBAM, [1024, 16]]", ("k, reduction", "CBAM, [7, 16]")),
        ("[4, 1, CBAM, [16]]", ("k, reduction", "CBAM, [7, 16]")),
    ],
)
def test_another_order_of_arguments_is_refused_with_the_order_here(text: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError) as caught:
        row(text)
    assert "line 11" in str(caught.value)
    assert all(words in str(caught.value) for words in said)


class Widening(nn.Module):
    """An own block whose first option is large by itself."""

    def __init__(self, c1: int, hidden: int = 256, slope: float = 0.1) -> None:
        super().__init__()
        self.hidden = hidden
        self.body = nn.Sequential(nn.Conv2d(c1, hidden, 1), nn.LeakyReLU(slope), nn.Conv2d(hidden, c1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return y


class Plain(nn.Module):
    """An own block without options."""

    def __init__(self, c1: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(c1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y


@pytest.fixture
def own_blocks() -> Iterator[None]:
    detgraft.register("trust_widening", channels="same")(Widening)
    detgraft.register("trust_plain", channels="same")(Plain)
    yield
    catalogue.remove("trust_widening")
    catalogue.remove("trust_plain")


@pytest.mark.usefixtures("own_blocks")
def test_own_blocks_follow_the_same_rule() -> None:
    assert row("[2, 1, trust_widening, [128]]").hidden == 128  # an option that is large by itself stays one
    with log() as lines:
        row("[4, 1, trust_plain, [1024]]")
    assert any("trust_plain, []]" in line for line in lines)
    with pytest.raises(ArgumentError, match="trust_plain"):
        row("[4, 1, trust_plain, [48]]")


def test_the_note_is_shown_and_survives_a_copy_and_a_checkpoint(tmp_path: Path) -> None:
    name = written(with_row("[4, 1, CBAM, [1024, 7]]"))
    notes = detgraft.show(name, imgsz=64).notes
    assert len(notes) == 1
    assert "the leading 1024 is left out" in notes[0]
    model = detgraft.YOLO(name)
    assert detgraft.show(copy.deepcopy(model.model), imgsz=64).notes == notes
    model.save(str(tmp_path / "noted.pt"))
    assert detgraft.show(tmp_path / "noted.pt", imgsz=64).notes == notes


def test_an_expression_never_writes_an_option_that_reads_as_channels() -> None:
    with pytest.raises(ArgumentError, match="reduction can be at most 63"):
        detgraft.build("yolo11n+coordatt(reduction=128)")
    blocks = [m for m in detgraft.build("yolo11n+simam(e_lambda=2)").modules() if type(m).__name__ == "SimAM"]
    assert {block.e_lambda for block in blocks} == {2.0}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CA", "CoordAtt"),
        ("Upsample", "nn.Upsample"),
        ("Concat_BiFPN", "WeightedConcat"),
        ("InvolutionStage", "detgraft new block"),
        ("Involution", "plugins="),
    ],
)
def test_a_name_of_another_repository_leads_to_the_right_one(name: str, meant: str) -> None:
    with pytest.raises(PlanError) as caught:
        row(f"[4, 1, {name}, [1024]]")
    text = str(caught.value)
    assert "line 11" in text
    assert meant in text
    assert "CBAM" not in text
    assert "DySample" not in text


def test_the_same_advice_for_an_expression() -> None:
    with pytest.raises(CatalogError, match="'CoordAtt'"):
        detgraft.build("yolo11n+ca")


def test_anchors_of_the_other_format() -> None:
    text = with_row("[4, 1, CARAFE, []]").replace("Detect, [nc]", "Detect, [nc, anchors]")
    with pytest.raises(PlanError) as caught:
        detgraft.build(written("anchors:\n  - [10,13, 16,30, 33,23]\n" + text))
    assert "line 14" in str(caught.value)
    assert "YOLOv5 repository" in str(caught.value)
    assert "[[2, 3, 5], 1, Detect, [nc]]" in str(caught.value)
