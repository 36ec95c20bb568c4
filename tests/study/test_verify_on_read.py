"""Nothing in a study's folder is believed: what is not the run's own, whole and unchanged, is named, not judged."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from faults import CLAIMS, RUN_FILES, STUDY_FILE, Fault, damage
from made_up import finish, finished_study, make_spec, metrics_of, write_preflight
from test_engine import STAND_IN

from detgraft.base.files import read_json, write_json
from detgraft.study.api import report, status
from detgraft.study.design.errors import StudyChangedError, StudyError
from detgraft.study.design.seal import is_sealed, seal
from detgraft.study.judge.analysis import analyse
from detgraft.study.judge.evidence import State
from detgraft.study.judge.result import Result
from detgraft.study.judge.verification import marks_of
from detgraft.study.run.executor import Engine, Event, LocalPool
from detgraft.study.run.launch import Slot
from detgraft.study.run.store import Cell, StudyFolder

pytestmark = pytest.mark.trust
TEXT = """
data: data.yaml
base: yolo11n
variants: [carafe, convnextv2_atto]
seeds: 3
train: {epochs: 4, imgsz: 64, batch: 4}
metrics: {bootstrap: 60}
controls: none
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study; each test damages a copy."""
    folder = tmp_path_factory.mktemp("made")
    finished_study(folder, text=TEXT)
    return folder


def copy(made: Path, to: Path, text: str = TEXT) -> StudyFolder:
    shutil.copytree(made, to, dirs_exist_ok=True)
    return StudyFolder(make_spec(to, text))


def cell_of(study: StudyFolder, arm: str = "carafe", seed: int = 0) -> Cell:
    return next(cell for cell in study.cells() if (cell.arm.name, cell.seed) == (arm, seed))


def work(study: StudyFolder, retry: bool = False) -> list[Event]:
    events: list[Event] = []
    write_preflight(study)
    Engine(study, LocalPool([Slot(None, 1)] * 2, STAND_IN), events.append).run(retry)
    return events


def check_not_judged(study: StudyFolder, sentence: str) -> None:
    """One run is shown as damaged with a fitting sentence, everywhere, and the others are judged without it."""
    shown = status(study.spec)
    assert shown.states["damaged"] == 1
    assert shown.states["done"] == 8
    assert not shown.complete
    (label,) = shown.damaged
    assert label == "carafe, seed 0"
    assert re.search(sentence, shown.damaged[label]), shown.damaged[label]
    assert str(study.path) not in shown.damaged[label]
    found = analyse(study)
    assert found.damaged == shown.damaged
    assert [arm.seeds for arm in found.arms if arm.name == "carafe"] == [(1, 2)]
    assert found.cells["damaged"] == 1
    (event,) = work(study)
    assert (event.kind, event.cell.label) == ("damaged", label)
    assert shown.damaged[label] in event.message
    assert "retry" in event.message


@pytest.mark.parametrize("fault", RUN_FILES, ids=str)
def test_a_damaged_file_of_a_run(fault: Fault, made: Path, tmp_path: Path) -> None:
    study = copy(made, tmp_path)
    name, kind = fault.key
    damage(cell_of(study).folder / name, kind, cell_of(study, "yolo11n", 1).folder / name)
    if not fault.sentence:
        assert cell_of(study).state() is State.BROKEN_OFF
        assert analyse(study).arms[1].seeds == (1, 2)
        return
    check_not_judged(study, fault.sentence)


def claim(result: Result, key: str) -> Result:
    """A result that says something else."""

    def ap(value: float) -> dict[str, Any]:
        metrics = metrics_of(0.5)
        return {"metrics": {"test": dataclasses.replace(metrics, coco={**metrics.coco, "AP": value})}}

    metrics = metrics_of(0.5)
    changed: dict[str, dict[str, Any]] = {
        "arm": {"arm": "convnextv2_atto"},
        "seed": {"seed": 1},
        "config": {"config": "0" * 64},
        "study": {"study": "0" * 64},
        "epochs": {"epochs": 1, "best_epoch": 1, "resumed_at": ()},
        "more epochs": {"epochs": 9},
        "best_epoch": {"best_epoch": 7},
        "high": ap(9e9),
        "negative": ap(-0.1),
        "nan": ap(math.nan),
        "class": {"metrics": {"test": dataclasses.replace(metrics, per_class={"cell": 0.5, "leaf": 1.5})}},
        "seconds": {"seconds": -3},
        "transferred": {"transferred": 2.0},
        "params": {"cost": dataclasses.replace(result.cost, params=0)},
        "nothing": {"metrics": {}},
        "format": {"format": 3},
    }
    return dataclasses.replace(result, **changed[key])


@pytest.mark.parametrize("fault", CLAIMS, ids=str)
def test_a_result_that_is_not_the_runs(fault: Fault, made: Path, tmp_path: Path) -> None:
    study = copy(made, tmp_path)
    path = cell_of(study).folder / "result.json"
    values = dataclasses.asdict(claim(Result.read(path), fault.key[0]))
    sealed = seal(values)
    if fault.key[0] == "nan":  # what a hand may write and JSON readers take, though JSON has no such word
        values["metrics"]["test"]["coco"]["AP"] = math.nan
        sealed = {**values, "checksum": seal(values)["checksum"]}
        sealed = {**sealed, "checksum": _checksum(sealed)}
    path.write_text(json.dumps(sealed), encoding="utf-8")
    check_not_judged(study, fault.sentence)


def _checksum(values: dict[str, Any]) -> str:
    from detgraft.study.design.spec import digest_of

    plain = json.loads(json.dumps({key: value for key, value in values.items() if key != "checksum"}))
    return digest_of(plain)


def test_whole_folders_in_the_wrong_place(made: Path, tmp_path: Path) -> None:
    study = copy(made, tmp_path)
    for other, sentence in (
        (cell_of(study, "yolo11n", 0), "result of another run: yolo11n, seed 0"),
        (cell_of(study, "carafe", 2), "result of another run: carafe, seed 2"),
    ):
        shutil.rmtree(cell_of(study).folder)
        shutil.copytree(other.folder, cell_of(study).folder)
        check_not_judged(study, sentence)
    # Of another study with the same arm and seed, which trained for less.
    short = TEXT.replace("epochs: 4", "epochs: 2")
    stranger = finished_study(tmp_path / "stranger", text=short)
    shutil.rmtree(cell_of(study).folder)
    shutil.copytree(cell_of(stranger).folder, cell_of(study).folder)
    check_not_judged(study, r"cell\.json is of another run: train was .*'epochs': 2")
    # Of one that differs only in its other arms.
    other = finished_study(tmp_path / "other", text=TEXT.replace(", convnextv2_atto", ""))
    shutil.rmtree(cell_of(study).folder)
    shutil.copytree(cell_of(other).folder, cell_of(study).folder)
    check_not_judged(study, r"cell\.json belongs to another study")


def test_no_flipped_bit_in_a_result_is_believed(made: Path, tmp_path: Path) -> None:
    study = copy(made, tmp_path)
    path = cell_of(study).folder / "result.json"
    data, before = path.read_bytes(), Result.read(path)
    believed = []
    for at in range(0, len(data), 7):
        spoilt = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        path.write_bytes(spoilt)
        try:
            if Result.read(path) != before:
                believed.append(at)
        except StudyError:
            continue
    assert len(data) // 7 > 300
    assert not believed


def test_early_stopping_is_no_damage(tmp_path: Path) -> None:
    text = TEXT.replace("epochs: 4", "epochs: 40, patience: 3")
    study = StudyFolder(make_spec(tmp_path, text))
    study.open()
    cell = cell_of(study)
    finish(study, cell, 0.5)
    write_json(cell.folder / "curve.json", read_json(cell.folder / "curve.json")[:9])
    result = Result.read(cell.folder / "result.json")
    stopped = dataclasses.replace(result, epochs=9, best_epoch=6, files=marks_of(cell.folder))
    stopped.write(cell.folder / "result.json")
    assert cell.state() is State.DONE
    dataclasses.replace(stopped, epochs=3, best_epoch=3).write(cell.folder / "result.json")
    assert cell.state() is State.DAMAGED


def test_retry_takes_up_what_is_damaged_and_deletes_nothing(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "{}")
    study = copy(made, tmp_path)
    cell = cell_of(study)
    spoilt = (cell.folder / "result.json").read_bytes()[:100]
    (cell.folder / "result.json").write_bytes(spoilt)
    assert work(study)[0].kind == "damaged"
    assert [event.kind for event in work(study, retry=True) if event.kind in ("started", "done")] == ["started", "done"]
    assert cell_of(study).state() is State.DONE
    assert [path.read_bytes() for path in (study.path / "damaged").rglob("result.json")] == [spoilt]
    assert status(study.spec).complete


def test_the_report_names_what_it_does_not_judge_and_mixed_versions(made: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="the extra study is not installed")
    study = copy(made, tmp_path)
    clean = report(study.spec)
    assert clean.analysis.warnings == ()
    (cell_of(study, "carafe", 2).folder / "bootstrap_test.npy").write_bytes(b"")
    path = cell_of(study, "convnextv2_atto", 1).folder / "result.json"
    dataclasses.replace(Result.read(path), versions={"python": "3", "detgraft": "0.0.1"}).write(path)
    written = report(study.spec)
    warning = "different versions: detgraft 0 (7 runs) and 0.0.1 (1 runs)"
    assert any(warning in line for line in written.analysis.warnings)
    assert status(study.spec).warnings == written.analysis.warnings
    for text in (written.html.read_text(encoding="utf-8"), written.markdown.read_text(encoding="utf-8")):
        assert warning in text
        assert text.index(warning) < text.index("<h2>Verdicts" if "<html" in text else "## Verdicts")
        assert "is damaged and not judged: bootstrap_test.npy has 0 bytes" in text


@pytest.mark.parametrize("fault", STUDY_FILE, ids=str)
def test_a_lost_study_file_does_not_switch_the_guard_off(fault: Fault, made: Path, tmp_path: Path) -> None:
    study = copy(made, tmp_path)
    before = read_json(study.path / "study.json")
    damage(study.path / "study.json", fault.key[1])
    changed = StudyFolder(make_spec(tmp_path / "x", TEXT.replace("epochs: 4", "epochs: 9")), study.path)
    for _ in range(2):
        with pytest.raises(StudyChangedError, match=fault.sentence) as caught:
            changed.open(extend=True)
        assert "epochs': 4" in str(caught.value)
        assert "Restore study.json" in str(caught.value)
    # Nothing was written, and the study itself goes on.
    assert not (study.path / "study.json").is_file() or read_json(study.path / "study.json") != before
    study.open()
    after = read_json(study.path / "study.json")
    assert is_sealed(after)
    assert after["identity"] == before["identity"]
    assert analyse(study).cells["done"] == 9
    assert study.extended() == []


def test_an_extended_study_whose_file_is_lost_says_so(made: Path, tmp_path: Path) -> None:
    copy(made, tmp_path)
    more = StudyFolder(make_spec(tmp_path, TEXT.replace("seeds: 3", "seeds: 4")))
    (more.path / "study.json").unlink()
    with pytest.raises(StudyChangedError, match=r"9 of its runs were made when the study had other arms or seeds"):
        more.open()
    more.open(extend=True)
    assert "study.json is absent" in more.extended()[0]["changes"][0]
    assert more.digests() is not None
    assert {cell.state() for cell in more.cells()} == {State.DONE, State.PENDING}
    # A flipped bit in the history is seen too.
    text = (more.path / "study.json").read_text()
    (more.path / "study.json").write_text(text.replace("study.json is absent", "study.json is present"))
    with pytest.raises(StudyChangedError, match="does not agree with its own checksum"):
        more.check_unchanged()


def test_results_without_their_started_file_still_guard(made: Path, tmp_path: Path) -> None:
    study = copy(made, tmp_path)
    for path in study.path.rglob("started.json"):
        path.unlink()
    changed = StudyFolder(make_spec(tmp_path / "x", TEXT.replace("epochs: 4", "epochs: 9")), study.path)
    with pytest.raises(StudyChangedError, match=r"train\.epochs: was 4, is 9"):
        changed.open()


@pytest.mark.parametrize("name", ["started.json", "progress.json", "error.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"epoch": "x", "epochs": 3, "seconds": []}', '{"message": 7}'])
def test_small_files_may_hold_anything(name: str, content: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("STAND_IN", "{}")
    study = StudyFolder(make_spec(tmp_path, TEXT.replace("[carafe, convnextv2_atto]", "[carafe]").replace("3", "1")))
    study.open()
    cell = cell_of(study)
    finish(study, cell, 0.5)
    (cell.folder / "result.json").unlink()
    (cell.folder / name).write_text(content, encoding="utf-8")
    shown = status(study.spec)
    if name == "error.json":
        assert "error.json is damaged" in shown.failed[cell.label]
    else:
        assert shown.states["broken off"] == 1
    json.dumps(shown.to_json())
    work(study, retry=True)
    assert status(study.spec).complete
