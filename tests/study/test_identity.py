"""Which folder an arm's runs belong to: a matter of its name alone, and of what the files in it say."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up import make_spec

from detgraft.study.design.terms import slug_of

pytestmark = pytest.mark.trust

SWAPPED = """
name: slugx
data: data.yaml
base: yolo11n
controls: none
seeds: 4
train: {epochs: 3, batch: 4, imgsz: 64}
metrics: {bootstrap: 0}
variants:
  - {name: "carafe head.0", graft: "carafe@head.1"}
  - carafe@head.0
"""
LONG = "a" * 60


def test_a_folder_name_comes_from_the_whole_name_alone() -> None:
    names = ["carafe", "Carafe", "CARAFE", "carafe@head.0", "carafe head.0", "carafe-head.0", "carafe-head.0."]
    names += [
        "con",
        "con.txt",
        "..",
        ".",
        "-x",
        "a/b",
        "a\\b",
        "名",
        "名字",
        f"{LONG}1",
        f"{LONG}2",
        LONG,
        "scale: yolo11s",
    ]
    slugs = [slug_of(name) for name in names]
    assert len({slug.lower() for slug in slugs}) == len(names)
    assert slugs == [slug_of(name) for name in reversed(names)][::-1]
    for slug in slugs:
        assert len(slug) < 70
        assert not set(slug) & set('/\\:*?"<>| @'), slug
        assert slug.split(".")[0].lower() not in ("", "con")
        assert slug[-1] not in ".- "
    # What a folder can be called as it stands keeps its name, and with it its results.
    assert [slug_of(name) for name in ("yolo11n", "carafe", "convnextv2_atto", "carafe-head.0")] == [
        "yolo11n",
        "carafe",
        "convnextv2_atto",
        "carafe-head.0",
    ]


def test_two_lines_swapped_move_no_folder(tmp_path: Path) -> None:
    first, second = SWAPPED.strip().splitlines()[-2:]
    there = make_spec(tmp_path / "there", SWAPPED)
    back = make_spec(tmp_path / "back", SWAPPED.replace(f"{first}\n{second}", f"{second}\n{first}"))
    assert [arm.name for arm in there.arms] != [arm.name for arm in back.arms]
    assert {arm.name: arm.slug for arm in there.arms} == {arm.name: arm.slug for arm in back.arms}
    assert len({arm.slug for arm in there.arms}) == 3
