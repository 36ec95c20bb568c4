"""A model's drawing: every layer is in it, what is beside it is right, and nothing lies on anything else."""

from __future__ import annotations

import csv as csv_reader
import io
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from detgraft import show
from detgraft.drawing.anatomy import Anatomy, Layer, dissect
from detgraft.drawing.api import Drawing, draw
from detgraft.drawing.layout import lay_out, lines_of
from detgraft.drawing.tables import tex
from detgraft.measure.cost import Summary

SVG = "{http://www.w3.org/2000/svg}"
MODELS = ["yolo11n+convnextv2_atto+carafe", "yolov8n+carafe", "yolo11n"]


@pytest.fixture(scope="module")
def drawn() -> Callable[[str], Drawing]:
    """Draws a model once."""
    made: dict[str, Drawing] = {}

    def get(name: str) -> Drawing:
        if name not in made:
            made[name] = draw(name, imgsz=320)
        return made[name]

    return get


def made_up(count: int, seed: int = 0) -> Anatomy:
    """A model of many layers with random strides and far connections; nothing is built."""
    dice = random.Random(seed)
    layers = []
    for index in range(count):
        stride = dice.choice((2, 4, 8, 16, 32, 64))
        sources = {index - 1, *(dice.randrange(index) for _ in range(dice.choice((0, 0, 0, 1, 3))) if index)}
        layers.append(
            Layer(
                index,
                tuple(sorted(sources)),
                f"Block{index}",
                "x.Block",
                [8, 640 // stride, 640 // stride],
                (stride,),
                index,
                0.1,
                "[-1, 1, Block, []]",
                "x.yaml, line 3",
                index % 7 == 0,
            )
        )
    layers.append(Layer(count, (count - 3, count - 2, count - 1), "Detect", "x.D", [], (), 1, 0.1, "", "", False))
    return Anatomy("made up", Summary("made up", (640, 640), 1, 1.0, None, [8], []), tuple(layers))


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_of_show_is_in_every_form(name: str, drawn: Callable[[str], Drawing]) -> None:
    drawing, summary = drawn(name), show(name, imgsz=320)
    wanted = [layer.index for layer in summary.layers]
    assert [layer.index for layer in drawing.anatomy.layers] == wanted
    for layer, cost in zip(drawing.anatomy.layers, summary.layers, strict=True):
        assert (layer.params, layer.gflops) == (cost.params, cost.gflops)
    root = ElementTree.fromstring(drawing.text("svg"))
    groups = [group for group in root.iter(f"{SVG}g") if "data-layer" in group.attrib]
    assert [int(group.attrib["data-layer"]) for group in groups] == wanted
    assert re.findall(r'data-layer="(\d+)"', drawing.text("html")) == [str(index) for index in wanted]
    sources = [(s, layer.index) for layer in drawing.anatomy.layers for s in dict.fromkeys(layer.sources) if s >= 0]
    edges = [(int(e.attrib["data-from"]), int(e.attrib["data-to"])) for e in root.iter() if "data-from" in e.attrib]
    assert sorted(edges) == sorted(sources)
    rows = list(csv_reader.DictReader(io.StringIO(drawing.text("csv"))))
    assert [int(row["layer"]) for row in rows if row["layer"]] == wanted
    assert sum(int(row["parameters"]) for row in rows if row["layer"]) == summary.params
    for index in wanted:
        assert re.search(rf"^{index} & ", drawing.text("latex"), re.M)


def test_the_page_needs_nothing_from_elsewhere(drawn: Callable[[str], Drawing]) -> None:
    page = drawn(MODELS[0]).text("html").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "http" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_pointing_at_a_box_shows_its_row_and_class(drawn: Callable[[str], Drawing]) -> None:
    root = ElementTree.fromstring(drawn(MODELS[0]).text("svg"))
    titles = {g.attrib["data-layer"]: g.findtext(f"{SVG}title") or "" for g in root.iter() if "data-layer" in g.attrib}
    assert "[-1, 1, CARAFE, []]" in titles["7"]
    assert "detgraft.blocks.carafe.CARAFE" in titles["7"]
    assert "yolo11n+convnextv2_atto+carafe" in titles["7"]
    assert "changed: layer 11 (nn.Upsample) of yolo11n; +74.3 k params" in titles["7"]
    assert "weights: 0 of 12 tensors come with a transfer" in titles["7"]
    assert "ultralytics.nn.modules.head.Detect" in titles["19"]


def test_the_stock_base_stands_beside_with_what_was_kept_changed_new_and_removed(
    drawn: Callable[[str], Drawing],
) -> None:
    anatomy = drawn(MODELS[0]).anatomy
    assert anatomy.other is not None
    assert anatomy.other.name == "yolo11n"
    by_status = {s: [la.index for la in anatomy.layers if la.status == s] for s in ("kept", "changed", "new")}
    assert by_status["new"] == [0, 1, 2, 3, 4]
    assert {7, 10} <= set(by_status["changed"])
    assert 19 in by_status["kept"]
    assert [layer.index for layer in anatomy.removed] == list(range(9))
    for layer in anatomy.layers:
        if layer.status == "kept":
            assert layer.origin is not None
            assert layer.params == anatomy.other.layers[layer.origin].params
    beside = [old.index for _, old in lines_of(anatomy) if old is not None]
    assert beside == list(range(len(anatomy.other.layers))), "every layer of the base stands beside, once, in order"
    assert drawn("yolo11n").anatomy.other is None
    assert {layer.status for layer in drawn("yolo11n").anatomy.layers} == {"plain"}


def test_the_share_of_weights_is_that_of_a_real_transfer(drawn: Callable[[str], Drawing], tmp_path: Path) -> None:
    from detgraft import YOLO, build
    from detgraft.upstream.service.checkpoints import save_checkpoint

    save_checkpoint(build("yolo11n"), tmp_path / "base.pt")
    report = YOLO(MODELS[0], transfer=tmp_path / "base.pt").transferred
    transfer = drawn(MODELS[0]).anatomy.transfer
    assert report is not None
    assert transfer is not None
    assert transfer.tensors == (report.transferred, report.total)
    followed = dissect(MODELS[0], imgsz=320, transfer=tmp_path / "base.pt")
    assert followed.transfer is not None
    assert followed.transfer.tensors == transfer.tensors
    assert f"{transfer.tensors[0]} of {transfer.tensors[1]}" in drawn(MODELS[0]).text("html")


def test_any_two_models_stand_beside_each_other() -> None:
    anatomy = dissect("yolo11n+carafe", "yolo12n", imgsz=320)
    assert anatomy.other is not None
    assert anatomy.other.name == "yolo12n"
    assert len({layer.origin for layer in anatomy.layers if layer.origin is not None}) > 10
    assert len(anatomy.removed) + len({la.origin for la in anatomy.layers} - {None}) == len(anatomy.other.layers)


@pytest.mark.parametrize("name", [*MODELS, "made up 60", "made up 400"])
def test_nothing_lies_on_anything_else(name: str, drawn: Callable[[str], Drawing]) -> None:
    anatomy = made_up(int(name.split()[-1])) if name.startswith("made") else drawn(name).anatomy
    layout = lay_out(anatomy)
    boxes = [*layout.boxes, *layout.aside]
    for one, other in zip(
        sorted(boxes, key=lambda b: (b.y, b.x)), sorted(boxes, key=lambda b: (b.y, b.x))[1:], strict=False
    ):
        assert one.y + one.height <= other.y or one.x + one.width <= other.x
    assert all(
        box.x >= 0 and box.x + box.width <= layout.width and box.y + box.height <= layout.height for box in boxes
    )
    upright: dict[float, list[tuple[float, float, int]]] = {}
    for edge in layout.edges:
        assert edge.points[0][1] == layout.boxes[edge.source].y + layout.boxes[edge.source].height
        assert edge.points[-1][1] == layout.boxes[edge.target].y
        target = layout.boxes[edge.target]
        assert target.x <= edge.points[-1][0] <= target.x + target.width
        for (x1, y1), (x2, y2) in zip(edge.points, edge.points[1:], strict=False):
            assert x1 == x2 or y1 == y2, "lines run straight"
            top, bottom = min(y1, y2), max(y1, y2)
            for box in layout.boxes:
                inside = box.x < max(x1, x2) and min(x1, x2) < box.x + box.width
                assert not (inside and top < box.y + box.height - 0.1 and bottom > box.y + 0.1), (edge, box.layer.index)
            if x1 == x2 and bottom - top > 60:
                upright.setdefault(round(x1, 1), []).append((top, bottom, edge.source))
    for pieces in upright.values():
        for a, b, source in pieces:
            assert all(s == source or b <= c or d <= a for c, d, s in pieces), "two sources share a line"


@pytest.mark.parametrize("name", [*MODELS, "made up 60", "made up 400", "side by side"])
def test_lines_of_two_layers_never_run_in_each_other(name: str, drawn: Callable[[str], Drawing]) -> None:
    """Where one line goes on in another, the drawing says that a layer feeds another one that it does not feed."""
    anatomy = made_up(int(name.split()[-1])) if name.startswith("made") else None
    if name == "side by side":  # rtdetr-l+repvit_m0_9: 8 leaves for 10, and 3 arrives at 9, in the gap between 8 and 9
        strides, sources = (4, 8, 4, 4, 4), ((-1,), (0,), (1,), (0,), (3, 2))
        anatomy = Anatomy(
            name,
            Summary(name, (640, 640), 1, 1.0, None, [8], []),
            tuple(
                Layer(i, sources[i], f"B{i}", "x.B", [8, 8, 8], (strides[i],), 1, 0.1, "", "", False) for i in range(5)
            ),
        )
    layout = lay_out(anatomy or drawn(name).anatomy)
    pieces: dict[tuple[str, float], list[tuple[float, float, int]]] = {}
    for edge in layout.edges:
        for (x1, y1), (x2, y2) in zip(edge.points, edge.points[1:], strict=False):
            start, end = sorted((y1, y2) if x1 == x2 else (x1, x2))
            where = ("x", round(x1, 1)) if x1 == x2 else ("y", round(y1, 1))
            pieces.setdefault(where, []).append((start, end, edge.source))
    for where, found in pieces.items():
        for number, (a, b, source) in enumerate(found):
            for c, d, other in found[number + 1 :]:
                assert source == other or a == b or c == d or min(b, d) < max(a, c) - 0.5, (where, source, other)


def test_four_hundred_rows_stay_readable() -> None:
    layout = lay_out(made_up(400))
    assert min(box.height for box in layout.boxes) == 50
    assert layout.width < 3000
    text = Drawing(made_up(400)).text("html")
    assert text.count("data-layer=") == 401
    assert len(text) < 2_000_000


def test_draw_io_lines_are_connected_to_boxes(drawn: Callable[[str], Drawing]) -> None:
    root = ElementTree.fromstring(drawn(MODELS[0]).text("drawio"))
    names = {entry.attrib["id"] for entry in root.iter() if "id" in entry.attrib}
    edges = [cell for cell in root.iter("mxCell") if cell.attrib.get("edge")]
    assert len(edges) == sum(len(layer.sources) for layer in drawn(MODELS[0]).anatomy.layers) - 1
    assert all({edge.attrib["source"], edge.attrib["target"]} <= names for edge in edges)
    assert len(names) == len({entry.attrib["id"] for entry in root.iter() if "id" in entry.attrib})
    for edge in edges:  # both ends are fixed, at the lower and at the upper side of a box
        style = dict(part.split("=") for part in edge.attrib["style"].strip(";").split(";"))
        assert (style["exitY"], style["entryY"]) == ("1", "0")
        assert 0 < float(style["exitX"]) < 1
        assert 0 < float(style["entryX"]) < 1
    assert "yolo11n (beside)" in {cell.attrib.get("value") for cell in root.iter("mxCell")}


def test_the_legend_explains_what_occurs_and_nothing_else(drawn: Callable[[str], Drawing]) -> None:
    def legend(name: str) -> list[str]:
        found = re.search(r'<div class="legend">(.*?)</div>', drawn(name).text("html"))
        assert found is not None
        return re.findall(r"</i>(\w+)<", found.group(1))

    assert legend("yolo11n") == []
    assert legend("yolov8n+carafe") == ["graft", "changed"]
    assert legend(MODELS[0]) == ["graft", "changed", "removed"]


def test_strides_are_those_of_the_features_that_the_head_reads() -> None:
    from detgraft.measure.layers import LayerCost, strides_read

    def layer(index: int, sources: Any, *shape: int) -> LayerCost:
        return LayerCost(index, sources, "x", 0, list(shape), 0.0)

    layers = [layer(0, -1, 1, 8, 80, 80), layer(1, -1, 1, 8, 40, 40), layer(2, [0, -1], 1, 300, 6)]
    assert strides_read(layers, (640, 640)) == [8, 16]
    assert strides_read([*layers, layer(3, -1, 1, 5)], (640, 640)) == [], "the last layer reads no feature maps"


def test_latex_is_escaped(drawn: Callable[[str], Drawing]) -> None:
    assert tex("a_b & 50% {x}^2") == r"a\_b \& 50\% \{x\}\textasciicircum{}2"
    text = drawn(MODELS[0]).text("latex")
    assert r"convnextv2\_atto" in text
    assert text.count("\\begin{longtable}") == text.count("\\end{longtable}") == 1


def test_a_name_from_a_yaml_cannot_write_into_the_page(tmp_path: Path) -> None:
    anatomy = made_up(3)
    evil = "</title><script>alert(1)</script>"
    layers = tuple(Layer(**{**layer.__dict__, "name": evil, "row": evil}) for layer in anatomy.layers)
    drawing = Drawing(Anatomy(evil, anatomy.summary, layers))
    assert "<script>alert" not in drawing.text("html")
    for form in ("svg", "drawio"):
        ElementTree.fromstring(drawing.text(form))
    for cell in ElementTree.fromstring(drawing.text("drawio")).iter("UserObject"):  # draw.io reads labels as HTML
        assert "<script" not in cell.attrib["label"]


def test_the_command_writes_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from detgraft.cli.main import main

    words = [
        "show",
        "yolo11n+carafe",
        "imgsz=320",
        "--html",
        "--svg",
        "mine.svg",
        "--csv=table.csv",
        "--latex",
        "--drawio",
    ]
    monkeypatch.setattr("sys.argv", ["detgraft", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 0
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["mine.svg", "table.csv", "yolo11n+carafe.drawio", "yolo11n+carafe.html", "yolo11n+carafe.tex"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--latex", "table.latex"), "ends with .tex, found 'table.latex'"),
        (("--html=page.png",), "such as model.html, found 'page.png'"),
    ],
)
def test_a_file_with_another_ending_is_refused(
    words: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from detgraft.cli.main import main

    monkeypatch.setattr("sys.argv", ["detgraft", "show", "yolo11n+carafe", *words])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_notebooks_show_tables_and_pages(drawn: Callable[[str], Drawing]) -> None:
    from detgraft import list_grafts
    from detgraft.verify.result import CheckResult, Report

    grafts: Any = list_grafts("carafe*")
    assert "CARAFE_official" in grafts._repr_html_()
    summary = show("yolo11n+carafe", imgsz=320)._repr_html_()
    assert summary.count("<tr>") == 25
    assert "CARAFE" in summary
    figures = {"parameters_before": 2764512, "ms_before": 86.26904600168928, "sizes": {"square": "64x64"}}
    report = Report("m<b>", (64, 64), (CheckResult("shapes", "fail", "why", figures),), {})
    assert "parameters before: 2,764,512<br>ms before: 86.27<br>sizes: square 64x64" in report._repr_html_()
    assert "m&lt;b&gt;" in report._repr_html_()
    assert "a check failed" in report._repr_html_()
    assert "<iframe srcdoc=" in drawn("yolo11n")._repr_html_()


def browser() -> str | None:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        found = shutil.which(name)
        if found:
            return found
    return None


@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
@pytest.mark.parametrize("width", [420, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_opens_the_page_without_errors(
    width: int, dark: bool, drawn: Callable[[str], Drawing], tmp_path: Path
) -> None:
    summary = show(MODELS[0], imgsz=320)
    open_in_browser(drawn(MODELS[0]), [layer.index for layer in summary.layers], width, dark, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(browser() is None, reason="no Chromium is installed")
@pytest.mark.parametrize(
    ("name", "beside", "strides"),
    [
        ("rtdetr-l+repvit_m0_9", None, [8, 16, 32]),
        ("yolo26x-seg", None, [8, 16, 32]),
        ("yolo11n", "yolo26n", [8, 16, 32]),
        ("yolo11n+p2+c3k2(DCNv3)", "yolo11n", [4, 8, 16, 32]),
    ],
)
def test_pages_of_other_models_show_every_layer(
    name: str, beside: str | None, strides: list[int], tmp_path: Path
) -> None:
    drawing, answer = draw(name, beside), show(name).to_dict()
    assert answer["stride"] == strides
    for width, dark in ((420, False), (1400, True)):
        open_in_browser(drawing, [layer["index"] for layer in answer["layers"]], width, dark, tmp_path)


def open_in_browser(drawing: Drawing, layers: list[int], width: int, dark: bool, tmp_path: Path) -> None:
    """The page has every layer, writes nothing to the console, and does not scroll sideways."""
    page = drawing.write("html", tmp_path / "page.html")
    check = "<script>document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth])</script>"
    page.write_text(page.read_text("utf-8").replace("</body>", f"{check}</body>"), "utf-8")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--hide-scrollbars"]
    options += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    options += ["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []
    found = subprocess.run(
        [str(browser()), *options, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert "CONSOLE" not in found.stderr, found.stderr[-2000:]
    shown = re.findall(r'data-layer="(\d+)"', found.stdout)
    assert shown == [str(index) for index in layers]
    title = re.search(r"<title>(\[.*?\])</title>", found.stdout)
    assert title is not None
    inner, needed = json.loads(title.group(1))
    assert needed <= inner, "the page itself does not scroll sideways"
