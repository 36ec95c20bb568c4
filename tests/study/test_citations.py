"""Citations: every paper that the catalogue names has its authors, and every graft of a study is cited once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_up import make_spec

from detgraft.catalog.losses import losses
from detgraft.catalog.papers import PAPERS
from detgraft.catalog.registry import catalogue
from detgraft.study.report.export import bibliography, grafts_of

OWN_MODELS = "Ultralytics' own models"


def named() -> set[str]:
    """Papers that entries of detgraft itself name."""
    grafts = [entry for entry in map(catalogue.get, catalogue.names()) if entry.origin == "detgraft"]
    entries = [*grafts, *(entry for entry in losses.match("*") if entry.origin == "detgraft")]
    return {entry.provenance.paper for entry in entries if entry.provenance.paper}


def test_every_paper_of_the_catalogue_has_its_authors() -> None:
    papers = {paper for paper in named() if not paper.startswith(OWN_MODELS)}
    assert papers - set(PAPERS) == set(), "catalog/papers.py lacks it"
    assert set(PAPERS) - papers == set(), "no entry names it any more"
    for text, paper in PAPERS.items():
        assert paper.authors
        assert all(re.fullmatch(r"[\w.'-]+( [\w.'-]+)+", name) for name in paper.authors), paper.authors
        year = re.search(r"\b((?:19|20)\d\d)$", text)
        assert year is None or int(year[1]) == paper.year
        assert bool(paper.venue) != bool(paper.eprint), text
    keys = [paper.key for paper in PAPERS.values()]
    assert len(set(keys)) == len(keys)


def test_every_graft_is_cited_once_with_inner_blocks_and_losses(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "nc: 2\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\n  - [-1, 1, 'C3k2(PinwheelConv(k=5),at=cv1)', [32]]\n"
        "head:\n  - [-1, 1, CBAM, []]\nlosses: [mpdiou]\n"
    )
    text = (
        "data: data.yaml\nbase: yolo11n\nseeds: 2\ncontrols: none\ntrain: {epochs: 4}\nvariants:\n"
        "  - 'csp(wtconv)+bifpn+wiou'\n  - carafe\n  - carafe_official\n  - timm/efficientnet_b0\n  - p2\n"
        "  - {name: own, model: own.yaml}\n"
    )
    spec = make_spec(tmp_path, text)
    assert {"WTConv", "bifpn", "wiou", "CARAFE", "PinwheelConv", "CBAM", "mpdiou"} <= set(grafts_of(spec))
    made = bibliography(spec)
    entries = re.findall(r"^@(\w+)\{(\w+),$", made, re.MULTILINE)
    assert len(entries) == len(set(entries)) == 8
    assert made.count("  author = {") == 8
    for line in (
        "author = {Jiaqi Wang and Kai Chen and Rui Xu and Ziwei Liu and Chen Change Loy and Dahua Lin}",
        "booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)}",
        "eprint = {2301.10051}",
        "% p2: Ultralytics' own models",
        "% timm/efficientnet_b0:",
        "author = {Ross Wightman}",
    ):
        assert line in made
    assert made.count("{") == made.count("}")


@pytest.mark.parametrize("text", ["CARAFE: Content-Aware ReAssembly of FEatures, ICCV 2019"])
def test_an_entry_reads_as_bibtex(text: str) -> None:
    assert PAPERS[text].bibtex("github.com/open-mmlab/mmcv (ops/carafe.py)").splitlines() == [
        "@inproceedings{wang2019carafe,",
        "  author = {Jiaqi Wang and Kai Chen and Rui Xu and Ziwei Liu and Chen Change Loy and Dahua Lin},",
        "  title = {{CARAFE: Content-Aware ReAssembly of FEatures}},",
        "  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},",
        "  year = {2019},",
        "  note = {Code: \\url{https://github.com/open-mmlab/mmcv}}",
        "}",
    ]
