"""Which folder an arm's runs belong to: a matter of its name alone, and of what the files in it say."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from faults import damage
from made_up import SMALL_STUDY, finished_study, make_spec

from detgraft.base.files import read_json, write_json
from detgraft.study.api import export, open_study, report, run, status
from detgraft.study.design.errors import StudyChangedError, StudyError
from detgraft.study.design.terms import slug_of
from detgraft.study.judge.analysis import analyse
from detgraft.study.judge.evidence import State
from detgraft.study.run.store import StudyFolder

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


def slug_before(name: str, taken: set[str]) -> str:
    """How the version before named the folder of an arm: by its order in the file, and shortened."""
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "arm"
    if slug.lower() in taken:
        slug = f"{slug}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
    taken.add(slug.lower())
    return slug


def as_before(study: StudyFolder) -> None:
    """Turn a folder into what the version before would have written: other folders, no checksums, no digests."""
    taken: set[str] = set()
    for arm in study.spec.arms:
        draft = study.path / "cells" / f"draft {slug_before(arm.name, taken)}"
        (study.path / "cells" / arm.slug).rename(draft)
    for draft in (study.path / "cells").iterdir():
        draft.rename(draft.with_name(draft.name.removeprefix("draft ")))
    for path in study.path.rglob("result.json"):
        raw = read_json(path)
        del raw["checksum"], raw["files"]
        shutil.copy(path.with_name("detections_test.npz"), path.with_name("detections_val.npz"))
        path.write_text(json.dumps(raw | {"format": 1}))
        config = read_json(path.with_name("cell.json"))
        path.with_name("cell.json").write_text(
            json.dumps({k: v for k, v in config.items() if k not in ("format", "checksum", "paths", "inputs")})
        )
    raw = read_json(study.path / "study.json")
    del raw["checksum"], raw["digests"]
    write_json(study.path / "study.json", raw | {"format": 1})


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of the version before with two arms whose names look alike as folders."""
    folder = tmp_path_factory.mktemp("before")
    as_before(finished_study(folder, text=SWAPPED))
    return folder


def means(study: StudyFolder) -> dict[str, float]:
    return {arm.name: arm.primary.mean for arm in analyse(study).arms}


def test_a_folder_of_the_version_before_is_told_by_its_files(before: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in (before / "out" / "cells").iterdir())[:1] == ["carafe-head.0"]
    first, second = SWAPPED.strip().splitlines()[-2:]
    swapped = SWAPPED.replace(f"{first}\n{second}", f"{second}\n{first}")
    there = StudyFolder(make_spec(tmp_path / "a", SWAPPED), before / "out")
    back = StudyFolder(make_spec(tmp_path / "b", swapped), before / "out")
    found = means(there)
    assert len(found) == 3
    assert found == means(back)
    for cell in back.cells():
        assert cell.state() is State.DONE
        assert cell.result().arm == cell.arm.name
    assert "12 of 12 results were written by an earlier version" in analyse(there).warnings[0]
    assert status(there.spec).states["done"] == 0  # the study file's own out: is another folder
    before_bytes = {path: path.read_bytes() for path in (before / "out").rglob("*.json")}
    assert all(path.read_bytes() == data for path, data in before_bytes.items())


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("result.json", lambda raw: raw["metrics"]["test"]["coco"].update(AP=0.9), "not the mean of its classes"),
        ("result.json", lambda raw: raw.update(epochs=1, best_epoch=1), "early stopping does not explain"),
        ("result.json", lambda raw: raw.update(config="0"), "made with another configuration"),
        ("cell.json", lambda raw: raw["train"].update(epochs=2), "cell.json is of another run: train was"),
        ("cell.json", lambda raw: raw.update(study="0"), "belongs to another study"),
        ("curve.json", lambda raw: raw.pop(), "curve.json does not hold the 3 epochs"),
        ("detections_test.npz", None, "detections_test.npz is absent or damaged"),
    ],
    ids=["AP", "epochs", "configuration", "budget", "study", "curve", "detections"],
)
def test_what_proves_nothing_in_such_a_folder_is_refused(
    name: str, change: Any, sentence: str, before: Path, tmp_path: Path
) -> None:
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    study = StudyFolder(make_spec(tmp_path, SWAPPED))
    cell = next(cell for cell in study.cells() if (cell.arm.name, cell.seed) == ("carafe@head.0", 2))
    path = cell.folder / name
    if change is None:
        damage(path, "bit")
    else:
        raw = read_json(path)
        change(raw)
        path.write_text(json.dumps(raw))
    found = analyse(study)
    assert list(found.damaged) == [cell.label]
    assert sentence in found.damaged[cell.label]
    assert found.cells["done"] == 11


def test_two_folders_that_claim_one_run_are_refused(before: Path, tmp_path: Path) -> None:
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    study = StudyFolder(make_spec(tmp_path, SWAPPED))
    cell = next(cell for cell in study.cells() if (cell.arm.name, cell.seed) == ("carafe@head.0", 2))
    shutil.copytree(cell.folder, study.path / "cells" / "copy" / "seed_2")
    assert "all say that they are this run" in analyse(study).damaged[cell.label]
    with pytest.raises(StudyError, match="seed_2 all say that they are this run"):
        next(c for c in study.cells() if c == cell or c.label == cell.label).clear()


def test_a_folder_that_another_arm_of_the_version_before_holds_is_left_to_it(tmp_path: Path) -> None:
    """The version before put 'carafe head' into carafe-head, which is the folder of carafe-head now."""
    text = SWAPPED.replace("carafe head.0", "carafe head").replace(
        "  - carafe@head.0", '  - {name: "carafe-head", graft: carafe}'
    )
    study = finished_study(tmp_path, text=text)
    expected = means(study)
    as_before(study)
    assert sorted(path.name for path in (study.path / "cells").iterdir())[0] == "carafe-head"
    again = StudyFolder(make_spec(tmp_path, text))
    assert means(again) == expected
    # With one of them lost, its new run must not go where the other's results lie.
    lost = next(cell for cell in again.cells() if cell.arm.name == "carafe-head")
    shutil.rmtree(lost.folder)
    fresh = next(cell for cell in again.cells() if cell.label == lost.label)
    assert fresh.state() is State.PENDING
    assert "~" in fresh.folder.parent.name
    assert [cell.state() for cell in again.cells()].count(State.DONE) == 11


def test_a_study_is_read_where_its_data_and_weights_are_not(tmp_path: Path) -> None:
    """Trained on a server, copied to where the thesis is written; what is there must still be the same."""
    home = tmp_path / "server"
    home.mkdir()
    (home / "data.yaml").write_text("nc: 1", encoding="utf-8")
    (home / "w.safetensors").write_bytes(b"weights")
    model = "yolo11n+convnextv2_atto(weights='w.safetensors')"
    text = SMALL_STUDY.replace("[carafe]", f'[{{name: own, model: "{model}"}}]').replace(
        "seeds: 2", "seeds: 3\ninit: pretrained\nweights: none"
    )
    here = report(finished_study(home, pictures=False, text=text).path)
    before = json.loads(here.json.read_text("utf-8"))
    (home / "out").rename(tmp_path / "copied")
    shutil.rmtree(home)
    there = report(tmp_path / "copied")
    after = json.loads(there.json.read_text("utf-8"))
    assert before["verdicts"] == after["verdicts"]
    assert before["digest"] == after["digest"]
    line = "Not on this machine, so not compared with what the runs were made from: "
    assert line not in str(here.analysis.warnings)
    (said,) = there.analysis.warnings
    assert str(said).startswith(line)
    assert "data.yaml" in str(said)
    assert "w.safetensors" in str(said)
    assert line in there.markdown.read_text("utf-8")
    assert status(tmp_path / "copied").warnings == (str(said),)
    assert export(tmp_path / "copied").folder.is_dir()
    with pytest.raises(StudyChangedError, match="is absent"):
        run(tmp_path / "copied", retry=True)
    another = Path(open_study(tmp_path / "copied").resolve("data.yaml"))
    another.parent.mkdir(exist_ok=True)
    another.write_text("nc: 2", encoding="utf-8")
    with pytest.raises(StudyChangedError, match="the content of this file is another one"):
        report(tmp_path / "copied")
