"""What a run reads is what was announced before the first one: every change is refused with its name."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from faults import CHANGES, DAMAGES, Fault, damage
from made_up import cost_of, make_spec, stand_in_evaluator, stand_in_trainer

from detgraft.base.files import read_json, write_json
from detgraft.study.design.config import CellConfig
from detgraft.study.design.errors import InputsChangedError, StudyError
from detgraft.study.design.seal import seal
from detgraft.study.judge.evidence import State
from detgraft.study.judge.result import SplitMetrics
from detgraft.study.judge.verification import file_digest
from detgraft.study.run import cell as cells
from detgraft.study.run import executor, inputs
from detgraft.study.run.cell import run_cell
from detgraft.study.run.executor import Engine
from detgraft.study.run.inputs import Digests, announce, forget_replaced_weights, read_split
from detgraft.study.run.store import Cell, StudyFolder
from detgraft.upstream.service.arms import data_sources

pytestmark = pytest.mark.trust
TEXT = """
data: data.yaml
base: yolo11n
variants: [carafe, other.yaml, "convnextv2_atto(weights='own.safetensors')"]
seeds: 1
train: {epochs: 2, imgsz: 64, batch: 4}
metrics: {bootstrap: 0}
controls: none
init: pretrained
weights: start.pt
plugins: [plug.py]
"""


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here runs in another process or outlives it, so there is nothing to wait for."""
    monkeypatch.setattr(executor, "POLL", 0.0)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(cells, "versions", lambda: {"python": "3"})


def lay_out(folder: Path) -> Path:
    """A data set of files that only look like pictures, and everything else that a study can name."""
    for split, letter, count in (("train", "p", 8), ("val", "v", 2), ("test", "t", 2)):
        for kind in ("images", "labels"):
            (folder / "set" / kind / split).mkdir(parents=True)
        for i in range(count):
            (folder / "set" / "images" / split / f"{letter}{i}.jpg").write_bytes(f"picture {split} {i}".encode())
            if (split, i) != ("train", 7):
                (folder / "set" / "labels" / split / f"{letter}{i}.txt").write_text(f"{i % 2} 0.5 0.5 0.{i + 1} 0.1\n")
    names = "path: set\ntrain: images/train\nval: images/val\ntest: images/test\nnames: [a, b]\n"
    (folder / "data.yaml").write_text(names.replace("path: set", f"path: {folder / 'set'}"))
    for name in ("plug.py", "other.yaml", "own.safetensors", "start.pt"):
        (folder / name).write_text(f"# {name}\n")
    return folder


def preflight_of(study: StudyFolder) -> None:
    """What the preflight would have found, for the arms that it would look at."""
    start = Path(study.spec.resolve("start.pt"))
    for arm in study.spec.arms:
        target = study.arm_file(arm)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            content = {
                "key": "",
                "error": None,
                "cost": vars(cost_of(arm.name)),
                "data": study.spec.resolve("data.yaml"),
                "sources": data_sources(study.spec.resolve("data.yaml")),
                "weights": {"name": "start.pt", "path": str(start), "digest": file_digest(start)},
            }
            write_json(target, seal(content))


def sit_down(folder: Path, said: list[str] | None = None) -> StudyFolder:
    """Everything that ``run`` does before the first training."""
    study = StudyFolder(make_spec(folder, TEXT))
    study.open()
    forget_replaced_weights(study)
    preflight_of(study)
    announce(study, (said if said is not None else []).append)
    return study


class NoPool:
    """Runs cells here and now."""

    capacity = 1

    def __init__(self, evaluator: Any = stand_in_evaluator, most: int = 99) -> None:
        self.evaluator, self.left, self.over = evaluator, most, []

    def begin(self, cell: Cell) -> None:
        self.left -= 1
        self.over.append((cell, run_cell(cell.folder, stand_in_trainer, self.evaluator)))

    def ended(self) -> list[tuple[Cell, int]]:
        if self.left <= 0:
            raise KeyboardInterrupt
        over, self.over = self.over, []
        return over

    def close(self) -> None:
        pass


def work(study: StudyFolder, retry: bool = False, **how: Any) -> None:
    try:
        Engine(study, NoPool(**how), lambda event: None).run(retry)
    except KeyboardInterrupt:
        return


def change(folder: Path, key: str) -> None:
    train = folder / "set" / "labels" / "train"
    pictures = folder / "set" / "images" / "train"
    if key in ("label", "label times"):
        path = train / "p0.txt"
        stat = path.stat()
        path.write_text(path.read_text().replace("0 ", "1 ", 1))
        assert path.stat().st_size == stat.st_size
        if key == "label times":
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif key == "label gone":
        (train / "p1.txt").unlink()
    elif key == "label new":
        (train / "p7.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    elif key == "picture":
        (pictures / "p2.jpg").write_bytes(b"picture train X")
    elif key == "picture new":
        (pictures / "p8.jpg").write_bytes(b"one more")
    elif key == "picture gone":
        (pictures / "p7.jpg").unlink()
    elif key == "renamed":
        (pictures / "p3.jpg").rename(pictures / "q.jpg")
        (train / "p3.txt").rename(train / "q.txt")
    elif key == "many":
        for path in train.iterdir():
            path.write_text("")
    elif key == "val":
        (folder / "set" / "labels" / "val" / "v0.txt").write_text("")
    elif key == "test":
        (folder / "set" / "images" / "test" / "t0.jpg").write_bytes(b"another")
    elif key == "no test":
        for path in sorted((folder / "set" / "images" / "test").iterdir()):
            path.unlink()
        (folder / "set" / "images" / "test").rmdir()
    else:
        names = {"data": "data.yaml", "plugin": "plug.py", "model": "other.yaml", "own": "own.safetensors"}
        with (folder / names.get(key, "start.pt")).open("a") as file:
            file.write("# changed\n")


@pytest.mark.parametrize("fault", CHANGES, ids=str)
def test_a_changed_input_is_refused_with_its_name(fault: Fault, tmp_path: Path) -> None:
    folder = lay_out(tmp_path)
    study = sit_down(folder)
    work(study, most=2)
    before = [cell.state() for cell in study.cells()]
    assert before.count(State.DONE) >= 1
    kept = {path: path.read_bytes() for path in study.path.rglob("result.json")}
    change(folder, fault.key[0])
    # The runs that are still to come see it themselves, and one of them says it.
    broken = [cell for cell in study.cells() if cell.state() is State.PENDING]
    work(study)
    sentences = [cell.error() for cell in broken if cell.error()]
    assert sentences
    assert re.search(fault.sentence, sentences[0]), sentences[0]
    assert "what this run reads was changed after it was announced" in sentences[0]
    assert str(sentences[0]).count("\n") == 0
    # The next sitting does not even begin.
    with pytest.raises(StudyError) as caught:
        sit_down(folder)
    assert re.search(fault.sentence, str(caught.value)), caught.value
    assert "out=" in str(caught.value)
    assert {path: path.read_bytes() for path in kept} == kept


def test_the_same_files_pass_again_and_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lay_out(tmp_path)
    for path in folder.rglob("*"):
        os.utime(path, (1e9, 1e9))
    monkeypatch.setattr(inputs, "RACY_NS", 0)
    study = sit_down(folder)
    work(study, most=2)
    read: list[Path] = []

    def digest(path: Path) -> str:
        read.append(path)
        return file_digest(path)

    monkeypatch.setattr(inputs, "file_digest", digest)
    again = sit_down(folder)
    work(again)
    assert {cell.state() for cell in again.cells()} == {State.DONE}
    assert not [path for path in read if "set" in path.parts]
    config = CellConfig.read(next(again.cells()).folder / "cell.json")
    assert sorted(config.inputs) == ["test", "train", "val"]
    assert again.announced() == config.inputs


def test_a_change_while_a_run_is_at_work_makes_no_result(tmp_path: Path) -> None:
    folder = lay_out(tmp_path)
    study = sit_down(folder)

    def evaluator(config: CellConfig, where: Path) -> dict[str, SplitMetrics]:
        change(folder, "label")
        return stand_in_evaluator(config, where)

    work(study, evaluator=evaluator, most=1)
    cell = next(study.cells())
    assert cell.state() is State.FAILED
    assert "was changed while the run was at work: train: 1 changed: p0.jpg (label)" in cell.error()
    assert not (cell.folder / "result.json").exists()
    # Put back, it goes on.
    (folder / "set" / "labels" / "train" / "p0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    work(sit_down(folder), retry=True)
    assert {each.state() for each in study.cells()} == {State.DONE}


def test_before_the_first_run_everything_may_change(tmp_path: Path) -> None:
    folder = lay_out(tmp_path)
    first = sit_down(folder).announced()
    for key in ("label", "picture new", "start"):
        change(folder, key)
    study = sit_down(folder)
    assert study.announced()["train"] != first["train"]
    assert study.announced()["val"] == first["val"]
    work(study)
    assert {cell.state() for cell in study.cells()} == {State.DONE}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("inputs.json", kind) for kind in (*DAMAGES, "absent")),
        *((name, "half") for name in ("inputs/train.json", "inputs/digests.json", "arms/carafe.json")),
        ("inputs/train.json", "absent"),
    ],
)
def test_a_damaged_announcement_does_not_switch_the_guard_off(name: str, kind: str, tmp_path: Path) -> None:
    folder = lay_out(tmp_path)
    study = sit_down(folder)
    work(study, most=2)
    before = study.announced()
    damage(study.path / name, kind) if (study.path / name).exists() else None
    assert next(study.cells()).state() is State.DONE
    if name.startswith("arms"):
        study.arm_file(study.spec.variants[0]).unlink(missing_ok=True)  # as the preflight does with a broken one
    change(folder, "label")
    with pytest.raises(InputsChangedError, match="train: (1 changed: p0|its pictures or labels have changed)"):
        sit_down(folder)
    (folder / "set" / "labels" / "train" / "p0.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    said: list[str] = []
    again = sit_down(folder, said)
    assert again.announced() == before
    assert bool(said) == (name == "inputs.json")
    work(again, retry=True)
    assert {cell.state() for cell in again.cells()} == {State.DONE}


def test_the_price_of_an_arm_is_not_believed_when_it_was_changed(tmp_path: Path) -> None:
    study = sit_down(lay_out(tmp_path))
    path = study.arm_file(study.spec.base)
    path.write_text(path.read_text().replace('"params": 2600000', '"params": 1600000'))
    work(study, most=1)
    events: list[Any] = []
    Engine(study, NoPool(), events.append).run()
    failed = [event.message for event in events if event.kind == "failed"]
    assert failed
    assert "yolo11n.json: does not agree with its own checksum" in failed[0]


def test_a_list_of_pictures_and_a_data_set_elsewhere(tmp_path: Path) -> None:
    folder = lay_out(tmp_path / "one")
    pictures = sorted((folder / "set" / "images" / "train").iterdir())
    listing = folder / "set" / "images" / "list.txt"
    listing.write_text("".join(f"./train/{path.name}\n" for path in pictures[:3]))
    digests = Digests(tmp_path / "digests.json")
    listed = read_split([str(listing)], digests)
    assert len(listed.entries) == 1 + 3 + 3
    whole = read_split([str(folder / "set" / "images" / "train")], digests)
    assert len(whole.entries) == 8 + 7
    moved = read_split([str(lay_out(tmp_path / "two") / "set" / "images" / "train")], digests)
    assert moved.digest == whole.digest
    assert moved.digest != listed.digest


def test_a_label_cache_that_is_older_than_its_labels_is_removed(tmp_path: Path) -> None:
    folder = lay_out(tmp_path)
    caches = [folder / "set" / "labels" / f"{split}.cache" for split in ("train", "val")]
    for cache in caches:
        cache.write_text("as Ultralytics writes it")
    os.utime(caches[0], (1e9, 1e9))
    said: list[str] = []
    sit_down(folder, said)
    assert [cache.exists() for cache in caches] == [False, True]
    assert len(said) == 1
    assert str(caches[0]) in said[0]
    assert read_json(folder / "out" / "inputs.json")["splits"].keys() == {"train", "val", "test"}
