"""Stock shells with other blocks inside: what is the stock module's stays, what is named goes in, everywhere alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import needs_base, one_step, run_python, save_checkpoint
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import C2f, C3k2
from ultralytics.nn.modules.block import Bottleneck, PSABlock
from ultralytics.utils.torch_utils import initialize_weights

from detgraft import YOLO, build
from detgraft.blocks.c3k2_dynamicconv import C3k2_DynamicConv, C3k2_DynamicConvBNAct
from detgraft.blocks.dynamic_conv import DynamicConv
from detgraft.blocks.faster_block import C3k2_Faster, FasterBlock
from detgraft.blocks.parts.followed import FollowedConv
from detgraft.blocks.se import SE
from detgraft.catalog.registry import catalogue, register
from detgraft.catalog.shells import PLACES, SHELLS, UNITS, goes_inside, place_of
from detgraft.errors import ArgumentError, CatalogError, DetgraftError, PlanError
from detgraft.upstream.describe.expressions import compose_mapping, to_yaml
from detgraft.upstream.describe.layers import layers_on_meta
from detgraft.upstream.describe.load import load_yaml
from detgraft.upstream.parser.carriers import Held, Withheld

PRESETS = {
    "c3k2(faster)": C3k2_Faster,
    "c3k2(dynamicconv)": C3k2_DynamicConv,
    "c3k2(dynamicconv_official)": C3k2_DynamicConvBNAct,
}

DEFAULT_PLACES = {
    **dict.fromkeys(("FasterBlock", "StarBlock", "iRMB", "DWR", "UniRepLKBlock", "InceptionNeXtBlock"), "bottleneck"),
    **dict.fromkeys(("ConvNeXtV2Block", "RepViTBlock"), "bottleneck"),
    **dict.fromkeys(("SCConv", "WTConv", "DiverseBranchConv", "LDConv", "DySnakeConv", "DCNv3", "FDConv"), "cv2"),
    **dict.fromkeys(("SCSA", "BiLevelRouting", "GAM", "DAttention", "MSDA", "FocalModulation", "LSKBlock"), "after"),
    **dict.fromkeys(("DynamicConv", "DynamicConv_official", "GSConv", "ODConv", "DeformConv", "PinwheelConv"), "cv2"),
    **dict.fromkeys(("RFAConv", "ContextGuidedDown", "SPDConv"), "cv2"),
    **dict.fromkeys(("EMA", "CBAM", "CoordAtt", "SimAM", "LSKA", "LSKAAttention", "SE", "ECA", "MLCA"), "after"),
    **dict.fromkeys(("TripletAttention", "ShuffleAttention", "CAA"), "after"),
}


def meta(expression: str) -> nn.Sequential:
    layers: nn.Sequential = layers_on_meta(compose_mapping(expression), 3)
    return layers


def stock(base: str) -> nn.Sequential:
    layers: nn.Sequential = layers_on_meta(load_yaml(f"{base}.yaml"), 3)
    return layers


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def names(expression: str) -> list[str]:
    mapping = compose_mapping(expression)
    return [row[2] for row in (*mapping["backbone"], *mapping["head"])]


def model_of(*rows: list[Any], scale: str = "n", **keys: Any) -> dict[str, Any]:
    """A whole description around rows; its head reads the last one."""
    scales = {"n": [0.5, 0.25, 1024], "m": [0.5, 0.25, 512], "l": [1.0, 0.25, 512]}
    backbone = [[-1, 1, "Conv", [64, 3, 2]], [-1, 1, "Conv", [256, 3, 2]], *rows]
    head = [[[len(backbone) - 1], 1, "Detect", ["nc"]]]
    return {"nc": 3, "scales": scales, "scale": scale, "backbone": backbone, "head": head, **keys}


@pytest.mark.parametrize("base", ["yolo11n", pytest.param("yolo11m", marks=pytest.mark.slow)])
@pytest.mark.parametrize("inside", PRESETS)
def test_the_families_of_before_are_shells(base: str, inside: str) -> None:
    """The rule, the name of before and the class that old checkpoints hold: the same tensors under the same names."""
    needs_base(base)
    old = f"c3k2_{inside.removeprefix('c3k2(').rstrip(')')}"
    assert shapes(meta(f"{base}+{inside}")) == shapes(meta(f"{base}+{old}"))
    for row in [[256, False, 0.25], [256, True], [128]]:
        name = catalogue.get(old).name
        built: Any = build(model_of([-1, 2, name, row]), nc=3).model[2].eval()
        held = PRESETS[inside](64, built.cv2.conv.out_channels, len(built.m), *row[1:]).eval()
        assert type(built) is C3k2
        held.load_state_dict(built.state_dict())
        initialize_weights(held)  # the epsilon of Ultralytics' batch norms
        x = torch.randn(1, 64, 9, 7)
        with torch.no_grad():
            torch.testing.assert_close(built(x), held(x))


@pytest.mark.parametrize(
    ("base", "inside"),
    [
        ("yolo11n", "c3k2(dynamicconv)"),
        ("yolo26m", "c3k2(dynamicconv)"),
        ("yolo12n", "a2c2f(dynamicconv)@head"),
        *[
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                *((f"yolo11{scale}", "c3k2(dynamicconv)") for scale in "mlx"),
                ("yolo26n", "c3k2(dynamicconv)"),
                ("yolov8n", "c2f(dynamicconv)"),
                ("yolov5n", "c3(dynamicconv)"),
                ("yolo12l", "a2c2f(dynamicconv)@head"),
                ("yolov9t", "elan(dynamicconv)"),
            )
        ],
    ],
)
def test_all_but_the_place_is_the_stock_modules(base: str, inside: str) -> None:
    """Without the second convolution of each bottleneck the names and shapes are stock's, for scales m, l, x too."""
    needs_base(base)
    term, _, site = inside.partition("@")
    name, _, rest = term.partition("(")
    found = meta(f"{base}+{name}{'@' + site if site else ''}({rest}")
    expected = stock(base)
    shelled = [layer for layer in found if "(" in layer.type]
    assert shelled
    for ours, theirs in zip(found, expected, strict=True):
        assert type(ours) is type(theirs)
        if "(" not in ours.type:
            assert shapes(ours) == shapes(theirs)
            continue
        replaced = tuple(f"{n}.cv2." for n, m in theirs.named_modules() if isinstance(m, Bottleneck))
        assert replaced
        kept = {n: s for n, s in shapes(theirs).items() if not n.startswith(replaced)}
        assert {n: s for n, s in shapes(ours).items() if not n.startswith(replaced)} == kept
        assert sum(isinstance(m, DynamicConv) for m in ours.modules()) == len(replaced)


@pytest.mark.parametrize(("scale", "deep"), [("n", False), ("m", True), ("l", True)])
def test_scales_decide_over_c3k_also_where_the_row_is_silent(scale: str, deep: bool) -> None:
    for row in ([256], [256, False], [256, False, 0.5]):
        pair = [build(model_of([-1, 2, name, row], scale=scale)).model[2] for name in ("C3k2(SE)", "C3k2")]
        ours, theirs = ({n for n in shapes(module) if ".then." not in n} for module in pair)
        assert ours == theirs
        assert any(n.startswith("m.0.m.") for n in ours) == deep


def test_places() -> None:
    def unit(text: str) -> Any:
        return build(model_of([-1, 1, text, [256]])).model[2].m[0]

    assert type(unit("C3k2(Faster)")) is FasterBlock
    assert type(unit("C3k2(SE)").cv2) is FollowedConv
    assert type(unit("C3k2(SE,at=after)").cv2.then) is SE
    assert type(unit("C3k2(DynamicConv)").cv2) is DynamicConv
    first = unit("C3k2(DynamicConv,at=cv1)")
    assert type(first.cv1) is DynamicConv
    assert first.cv1.k == first.cv2.conv.kernel_size[0] == 3
    # A block that keeps its channels stands on the narrow side of a 1x1 convolution where they change.
    widening = unit("C3k2(SE,at=cv2)").cv2
    assert [type(m).__name__ for m in widening] == ["SE", "Conv"]
    assert [type(m).__name__ for m in unit("C3k2(SE,at=cv1)").cv1] == ["Conv", "SE"]
    assert type(unit("C2f(SE,at=cv2)").cv2) is SE
    psa = unit("C2PSA(EMA)")
    assert (type(psa), type(psa.attn).__name__) == (PSABlock, "EMA")
    assert type(unit("C2PSA(Faster)")) is FasterBlock
    assert type(unit("C2PSA(SE,at=ffn)").ffn) is SE


def test_numbers_of_the_unit_reach_the_block() -> None:
    built = build(model_of([-1, 1, "C2f(Faster)", [256]], [-1, 1, "C2f(Faster)", [256, True, 2]]))
    plain, grouped = built.model[2].m[0], built.model[3].m[0]
    assert (plain.shortcut, plain.spatial_mixing.conv.groups) == (False, 1)
    assert (grouped.shortcut, grouped.spatial_mixing.conv.groups) == (True, 2)
    own = build(model_of([-1, 1, "C2f(Faster(g=4,shortcut=True))", [256]])).model[2].m[0]
    assert (own.shortcut, own.spatial_mixing.conv.groups) == (True, 4)


def test_the_default_places_never_change() -> None:
    """Checkpoints rely on them: a row says where its block goes only where that is unusual."""
    found = {entry.name: place_of(entry) for entry in catalogue if goes_inside(entry)}
    assert {name: found[name] for name in DEFAULT_PLACES} == DEFAULT_PLACES
    assert set(found.values()) <= set(PLACES)
    assert {name for shell in SHELLS for name in shell.units} == set(UNITS)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("yolo11n+c3k2(faster)", ["C3k2(FasterBlock)"] * 8),
        ("yolo11n+C3K2@head(Faster,at=bottleneck)", ["C3k2(FasterBlock)"] * 4),
        ("yolo11n+c3k2@backbone.2(pinwheelconv(k=5),at=cv1)", ["C3k2(PinwheelConv(k=5),at=cv1)"]),
        ("yolo11n+c3k2_se@head", ["C3k2(SE)"] * 4),
        ("yolo12n+csp(eca)@backbone", None),
        ("yolo12n+csp@backbone(eca)", ["C3k2(ECA)", "C3k2(ECA)", "A2C2f(ECA)", "A2C2f(ECA)"]),
        ("yolov9t+elan(gsconv)", ["RepNCSPELAN4(GSConv)"] * 7),
        ("rtdetr-l+csp(faster)", ["RepC3(FasterBlock)"] * 4),
        ("yolov8n+csp(se)+carafe+simam", ["C2f(SE)"] * 8),
        ("yolo11n+convnextv2_atto+c3k2(faster)+c2psa(ema)", ["C2PSA(EMA)", *["C3k2(FasterBlock)"] * 4]),
    ],
)
def test_rows_of_an_expression(expression: str, expected: list[str] | None) -> None:
    needs_base(expression.partition("+")[0])
    if expected is None:
        with pytest.raises(PlanError, match=r"expected '\+' and another graft"):
            compose_mapping(expression)
        return
    assert [name for name in names(expression) if "(" in name] == expected
    mapping = compose_mapping(expression)
    base = load_yaml(f"{expression.partition('+')[0]}.yaml")
    if "convnext" not in expression and "simam" not in expression:
        args = [row[3] for row in (*mapping["backbone"], *mapping["head"])]
        assert args == [row[3] for row in (*base["backbone"], *base["head"])]
    (again,) = {str(row) for row in mapping["detgraft_rows"] if row[0] == expected[0]}
    assert again == str([expected[0], "graft"])


@pytest.mark.parametrize(
    ("expression", "error", "words"),
    [
        ("yolo11n+c3k2", PlanError, "'c3k2' is a shell; say in parentheses which block goes inside"),
        ("yolo11n+csp", PlanError, "as in csp(faster)"),
        ("yolo11n+c2f(se)", PlanError, "works on every C2f, and yolo11n has none"),
        ("yolov3+csp(se)", PlanError, "works on every cross-stage block (C3k2, C2f,"),
        ("yolo11n+c3k2(fastr)", CatalogError, "Did you mean 'Faster'"),
        ("yolo11n+c3k2_sse", CatalogError, "Did you mean 'c3k2_SE'"),
        ("yolo11n+c3k2(carafe)", ArgumentError, "keeps the size of its map, but 'CARAFE' makes"),
        ("yolo11n+c3k2(hwd)", ArgumentError, "'HWD' cannot be made here with 8, 16, s=1"),
        ("yolo11n+c3k2(repvit_m0_6)", CatalogError, "'repvit_m0_6' cannot go inside a shell (a backbone)"),
        ("yolo11n+c3k2(weightedconcat)", CatalogError, "cannot go inside a shell (it joins several inputs)"),
        ("yolo11n+c3k2(c3k2_faster)", CatalogError, "cannot go inside a shell (a shell itself)"),
        ("yolo11n+c3k2(se(eca))", PlanError, "'SE' takes no graft inside it"),
        ("yolo11n+c3k2(c2f(eca))", CatalogError, "there is no graft 'c2f'"),
        ("yolo11n+c3k2(se,at=cv3)", ArgumentError, "at= is one of bottleneck, cv1, cv2, after here, found 'cv3'"),
        ("yolo11n+c3k2(se,k=3)", ArgumentError, "stand behind its own name: c3k2(SE(k=...))"),
        ("yolo11n+c3k2(se(k=3))", ArgumentError, "'SE' has no argument 'k'"),
        ("yolo11n+c3k2(se(reduction=no))", ArgumentError, "argument 'reduction' of 'SE' must be int"),
        ("yolo12n+a2c2f(se,at=cv2)", ArgumentError, "made of ABlock, whose places are bottleneck, attn, ffn"),
        ("yolo11n+c3k2(se)+c3k2_faster", PlanError, "both claim layer 2"),
        ("yolo11n+c3k2(cbam(k=65535))", PlanError, "parameters; at most"),
        ("yolo11n+c3k2(cbam(k=4))", ArgumentError, "k must be odd"),
    ],
)
def test_what_is_refused(expression: str, error: type[DetgraftError], words: str) -> None:
    needs_base(expression.partition("+")[0])
    with pytest.raises(error) as caught:
        build(expression)
    assert words in str(caught.value)
    assert expression.partition("+")[0] in str(caught.value), "the place is named"


@pytest.mark.parametrize(
    "name", ["C3k2_SE", "C3k2-SE", "c3k2_se", "C3k2(SE)", "c3k2( SEAttention )", "C3k2(SE,at=after)"]
)
def test_names_in_a_yaml(name: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(to_yaml(model_of([-1, 2, name, [256, True]])), encoding="utf-8")
    model: Any = build(str(path))
    assert shapes(model) == shapes(build(model_of([-1, 2, "C3k2(SE)", [256, True]])))
    assert model.model[2].type == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("C3k2_SSE", "Did you mean 'C3k2_SE'"),
        ("C2f_CA", "Did you mean 'C2f_CoordAtt'"),
        ("C3k2-Fastr", "Did you mean 'C3k2-Faster'"),
        ("C2f_CARAFE", "keeps the size of its map, but 'CARAFE' makes"),
        ("C2f_WeightedConcat", "C2f is a shell for any block that keeps its size"),
        ("C3k2(SSE)", "there is no graft 'SSE'"),
        ("C3k2(SE", "the module name cannot be read: C3k2(SE: expected '=' and a value after 'SE', or ')'"),
        ("C3k2@head(SE)", "there is no module 'C3k2@head(SE)'"),
        ("C3k2(SE) + 1", "expected the end"),
        ("nn.Sequential(*[nn.ReLU()])", "there is no module"),
        ("CARAFE(SE)", "there is no module 'CARAFE(SE)'"),
    ],
)
def test_wrong_names_in_a_yaml(name: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    rows = model_of([-1, 2, "Conv", [256, 3]])
    text = to_yaml(rows).replace("- [-1, 2, Conv, [256, 3]]", f"- [-1, 2, '{name}', [256]]")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DetgraftError) as caught:
        build(str(path))
    line = next(i for i, row in enumerate(text.splitlines(), 1) if name in row)
    assert words in str(caught.value)
    assert f"own.yaml, line {line}, layer 2" in str(caught.value)


@pytest.fixture
def own() -> Iterator[None]:
    @register("OwnUnit", channels="same")
    class OwnUnit(nn.Module):
        def __init__(self, c1: int, gain: float = 2.0) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((c1, 1, 1), gain))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    @register("C3k2_OwnUnit", channels="scaled", site="C3k2")
    class Named(nn.Module):
        def __init__(self, c1: int, c2: int) -> None:
            super().__init__()
            self.only = nn.Conv2d(c1, c2, 1)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.only(x)
            return found

    yield
    for name in ("OwnUnit", "C3k2_OwnUnit"):
        catalogue.remove(name)


def test_own_blocks_go_inside_and_a_registered_name_wins(own: None) -> None:
    assert names("yolov8n+c2f(ownunit(gain=0.5))").count("C2f(OwnUnit(gain=0.5))") == 8
    model = build(model_of([-1, 1, "C2f_OwnUnit", [256]], [-1, 1, "C3k2_OwnUnit", [256]]))
    assert type(model.model[2].m[0]).__name__ == "OwnUnit"
    assert type(model.model[3]).__name__ == "Named"


@pytest.mark.parametrize("at", ["cv1", "cv2", "after", "bottleneck"])
def test_an_own_blocks_default_place_is_honoured(at: str) -> None:
    @register("OwnPlaced", channels="same", at=at)
    class OwnPlaced(nn.Module):
        def __init__(self, c1: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(c1, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    try:
        layers = build(model_of([-1, 1, "C2f_OwnPlaced", [256, True]], [-1, 1, "C2f(OwnPlaced,at=cv2)", [256]])).model
    finally:
        catalogue.remove("OwnPlaced")
    inside = {"cv1": "m.0.cv1", "cv2": "m.0.cv2", "after": "m.0.cv2.then", "bottleneck": "m.0"}
    assert type(layers[2].get_submodule(inside[at])).__name__ == "OwnPlaced"
    assert type(layers[3].m[0].cv2).__name__ == "OwnPlaced"  # what a row says comes first
    assert [type(m).__name__ for m in layers[2].modules()].count("OwnPlaced") == 1


def test_a_stock_module_of_the_name_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    class C3k2_SE(C3k2):  # type: ignore[misc]
        pass

    monkeypatch.setattr(tasks, "C3k2_SE", C3k2_SE, raising=False)
    assert names("yolo11n+c3k2_se").count("C3k2(SE)") == 8
    from detgraft.upstream.parser.names import graft_of

    assert graft_of("C3k2_SE", None) is None
    assert graft_of("C3k2_SE", True) is not None


def test_a_shell_that_the_parser_repeats_itself() -> None:
    model: Any = build(model_of([-1, 2, "RepNCSPELAN4(SE)", [256, 32, 16, 1]], scale="l"))
    assert [type(child).__name__ for child in model.model[2]] == ["RepNCSPELAN4"] * 2
    assert (model.model[2].type, model.model[2].np) == (
        "RepNCSPELAN4(SE)",
        sum(p.numel() for p in model.model[2].parameters()),
    )
    assert not [m for m in model.modules() if isinstance(m, (Held, Withheld))]


def test_stock_modules_are_whole_outside_of_a_build() -> None:
    with pytest.raises(ArgumentError):
        build("yolo11n+c3k2(hwd)")
    assert not [m for m in build("yolov8n+c2f@backbone.2(se)").modules() if isinstance(m, (Held, Withheld))]
    assert type(C2f(8, 8).m[0]) is Bottleneck
    assert type(C3k2(8, 8).m[0]) is Bottleneck


def test_the_build_log_and_show_name_shell_and_block() -> None:
    from detgraft import show
    from detgraft.upstream.release.quiet import quiet

    model: Any = build("yolo11n+c3k2@backbone.2(faster)")
    with quiet():
        layer = show("yolo11n+c3k2@backbone.2(faster)", imgsz=64).layers[2]
    assert (layer.module, layer.params) == ("C3k2(FasterBlock)", sum(p.numel() for p in model.model[2].parameters()))


def test_weights_of_the_base_follow(tmp_path: Path) -> None:
    """Behind a convolution nothing is renamed: every tensor of the stock model arrives."""
    torch.manual_seed(1)
    source = save_checkpoint(YOLO("yolo11n.yaml"), tmp_path / "stock.pt")
    report = YOLO("yolo11n+c3k2@head(se)", transfer=str(source)).transfer(str(source))
    shelled = [layer for layer in report.layers if "(" in layer.module]
    assert len(shelled) == 4
    for layer in shelled:
        module = build("yolo11n+c3k2@head(se)").model[layer.index]
        assert layer.total - layer.transferred == sum(".then." in name for name in module.state_dict())


_OPEN = """
import json, sys, torch
import detgraft
from ultralytics import YOLO
model = YOLO(sys.argv[1])
x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
with torch.no_grad():
    y = model.model.float().eval()(x)
while not isinstance(y, torch.Tensor):
    y = y[0]
found = {"sum": float(y.double().sum()), "types": [layer.type for layer in model.model.model]}
if len(sys.argv) > 2:
    words = {"batch": 4, "workers": 0, "plots": False, "device": "cpu", "verbose": False, "imgsz": 64, "epochs": 1}
    model.train(data=sys.argv[2], project=sys.argv[3], **words)
    found["trained"] = [layer.type for layer in YOLO(str(model.trainer.best)).model.model]
print()
print(json.dumps(found))
"""

SHELLED = "yolo11n+c3k2@backbone.2(faster)+c3k2@head(se)+c2psa(ema)"


def test_a_checkpoint_opens_in_another_process(tmp_path: Path) -> None:
    model = YOLO(SHELLED)
    path = save_checkpoint(model, tmp_path / "m.pt")
    found = run_python(_OPEN, str(path), cwd=tmp_path, env={"ULTRALYTICS_SAFE_LOAD": "1"})
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y: Any = model.model.half().float().eval()(x)
    while not isinstance(y, Tensor):
        y = y[0]
    assert found["sum"] == pytest.approx(float(y.double().sum()), rel=1e-5)
    assert found["types"] == [layer.type for layer in model.model.model]


@pytest.fixture(scope="module")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from detgraft.demo.made import make_shapes

    return make_shapes(tmp_path_factory.mktemp("made") / "set", train=4, val=2, imgsz=64, seed=1)


@pytest.mark.slow
def test_a_checkpoint_trains_on_in_another_process(made_set: Path, tmp_path: Path) -> None:
    path = save_checkpoint(YOLO(SHELLED), tmp_path / "m.pt")
    words = (str(path), str(made_set), str(tmp_path))
    found = run_python(_OPEN, *words, cwd=tmp_path, env={"ULTRALYTICS_SAFE_LOAD": "1"})
    assert found["trained"] == found["types"]


REAL = {
    "C3k2": "yolo11n+c3k2",
    "C2f": "yolov8n+c2f",
    "C3": "yolov5n+c3",
    "A2C2f": "yolo12n+a2c2f",
    "C2fCIB": "yolov10s+c2fcib",
    "RepNCSPELAN4": "yolov9t+elan",
    "RepC3": "rtdetr-l+repc3",
    "C2PSA": "yolo11n+c2psa",
}
INNER = [entry.name for entry in catalogue if goes_inside(entry)]
RESIZES = ("CARAFE", "CARAFE_official", "DySample", "EUCB", "HWD", "ADown")
KEEPS = [name for name in INNER if name not in RESIZES]


def compared(model: Any, size: tuple[int, int]) -> None:
    """A fused copy answers as the model does, at an odd size."""
    from detgraft.verify.subject import wake

    x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(4))
    model = wake(copy.deepcopy(model), torch.rand(8, 3, 128, 128, generator=torch.Generator().manual_seed(5))).eval()
    with torch.no_grad():
        before: Any = model(x)
        after: Any = copy.deepcopy(model).fuse(verbose=False)(x)
    while not isinstance(before, Tensor):
        before, after = before[0], after[0]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=2e-3)


def swept(shell: str, block: str) -> Any:
    """A small whole model with two such rows."""
    args = {"RepNCSPELAN4": [256, 128, 64, 1]}.get(shell, [256])
    second = {"A2C2f": [256, False]}.get(shell, args)
    rows = [[-1, 2, f"{shell}({block})", args], [-1, 1, f"{shell}({block})", second]]
    return build(model_of(*rows), nc=3)


@pytest.mark.parametrize(("shell", "block"), [("C3k2", "PinwheelConv"), ("C2PSA", "CAA"), ("A2C2f", "FasterBlock")])
def test_a_shelled_model_learns_and_fuses(shell: str, block: str) -> None:
    model = swept(shell, block)
    assert one_step(copy.deepcopy(model), "detect", 3, 64) == []
    compared(model, (96, 160))


@pytest.mark.slow
@pytest.mark.parametrize("block", KEEPS)
@pytest.mark.parametrize("shell", [shell.name for shell in SHELLS])
def test_every_block_in_every_shell(shell: str, block: str, tmp_path: Path) -> None:
    model = swept(shell, block)
    assert one_step(copy.deepcopy(model), "detect", 3, 64) == []
    compared(model, (96, 160))
    onnxruntime, onnx = pytest.importorskip("onnxruntime"), pytest.importorskip("onnx")
    assert onnx
    layer = nn.Sequential(*list(model.model)[2:4]).eval()
    x = torch.randn(1, 64, 20, 12, generator=torch.Generator().manual_seed(6))
    torch.onnx.export(layer, (x,), str(tmp_path / "m.onnx"), opset_version=17, dynamo=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(found), layer(x), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("block", ["faster", "pinwheelconv", "se"])
@pytest.mark.parametrize("base", REAL.values())
def test_every_shell_on_a_base(base: str, block: str) -> None:
    needs_base(base.partition("+")[0])
    model = build(f"{base}({block})", nc=3)
    assert one_step(copy.deepcopy(model), "detect", 3, 128) == []
    if not base.startswith("rtdetr"):  # its queries change places where rounding lets them
        compared(model, (96, 160))
