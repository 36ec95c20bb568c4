"""What a large study costs: an event of its engine, its report, its status, beside an earlier commit in one run.

    python benchmarks/study_scale.py --against COMMIT --out docs/study-scale.md

The runs are made up: results, curves of 100 epochs and bootstrap draws with their digests, as a run leaves them.
Seconds are those of the processor (user and system), which other programs on the machine change little; memory is the
largest of the process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHAPES = ((20, 5), (500, 10))
"""Arms and seeds of the two studies: 100 and 5,000 runs."""
EPOCHS, EVENTS = 100, 20
AIMS = {"report, s": 40.0, "report, MB": 500.0, "status after a run, s": 2.0, "status after a report, s": 2.0}
STATUS = {
    "first": "status of a copied folder, s",
    "after a run": "status after a run, s",
    "after a report": "status after a report, s",
}


def build(folder: Path, arms: int, seeds: int) -> None:
    """Write a finished study."""
    import numpy as np

    from detgraft.measure.price import Cost
    from detgraft.study.design.config import config_of
    from detgraft.study.design.seal import seal
    from detgraft.study.design.spec import read_spec
    from detgraft.study.judge.result import Result, SplitMetrics
    from detgraft.study.judge.verification import marks_of
    from detgraft.study.run.store import StudyFolder

    variants = "".join(f"  - {{name: variant {k:03d}, graft: 'carafe@head.{k}'}}\n" for k in range(arms - 1))
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(
        f"data: data.yaml\nbase: yolo11n\ncontrols: none\nseeds: {seeds}\n"
        f"train: {{epochs: {EPOCHS}, imgsz: 64, batch: 4}}\n"
        f"metrics: {{bootstrap: 1000}}\nout: {folder / 'out'}\nvariants:\n{variants}",
        encoding="utf-8",
    )
    study = StudyFolder(read_spec(folder / "study.yaml"))
    study.open()
    splits = {split: {"digest": split * 16, "sources": []} for split in ("train", "val", "test")}
    (study.path / "inputs.json").write_text(json.dumps(seal({"format": 1, "splits": splits, "weights": {}})))
    inputs = {split: item["digest"] for split, item in splits.items()}
    random = np.random.default_rng(0)
    losses = [f"{split}/{name}_loss" for split in ("train", "val") for name in ("box", "cls", "dfl")]
    names = [f"metrics/{name}(B)" for name in ("precision", "recall", "mAP50", "mAP50-95")]
    for cell in study.cells():
        cell.folder.mkdir(parents=True, exist_ok=True)
        config = config_of(study.spec, cell.arm, cell.seed, {"inputs": inputs})
        (cell.folder / "cell.json").write_text(json.dumps(config.to_json()))
        figures = random.random((EPOCHS, len(losses) + len(names))).round(6).tolist()
        curve = [
            {"epoch": e, "seconds": 9.0 * e, "fitness": row[0], **dict(zip([*losses, *names], row, strict=True))}
            for e, row in enumerate(figures)
        ]
        (cell.folder / "curve.json").write_text(json.dumps(curve))
        (cell.folder / "progress.json").write_text(json.dumps({"epoch": EPOCHS, "epochs": EPOCHS, "seconds": 900.0}))
        ap = 0.5 + float(random.normal(0, 0.006))
        np.save(cell.folder / "bootstrap_test.npy", ap + random.normal(0, 0.01, 1000))
        coco = {"AP": ap, "AP50": ap + 0.2, "AP75": ap, "AP_small": ap / 2, "AP_medium": ap, "AP_large": None}
        own = {"metrics/mAP50-95(B)": ap, "metrics/mAP50(B)": ap + 0.2}
        metrics = SplitMetrics(72, "truth", coco, {"cell": ap, "leaf": ap}, own)
        result = Result(
            arm=cell.arm.name, role=cell.arm.role, model=config.model, seed=cell.seed,
            metrics={"val": metrics, "test": metrics}, cost=Cost(2_600_000, 6.4, 20.0, None, 64, "cpu"),
            epochs=EPOCHS, best_epoch=EPOCHS, seconds=900.0, resumed_at=(), transferred=None, config=config.digest(),
            study=config.study, versions={"python": "3", "detgraft": "0"},
            hardware={"device": "cpu", "processor": "made up", "cores": 1, "memory_gib": 1, "system": "none"}, git={},
            started="2026-01-01T00:00:00+00:00", finished="2026-01-01T01:00:00+00:00", files=marks_of(cell.folder),
        )  # fmt: skip
        (cell.folder / "result.json").write_text(json.dumps(result.to_json()))
    for arm in study.spec.arms:
        study.arm_file(arm).parent.mkdir(parents=True, exist_ok=True)
        study.arm_file(arm).write_text(json.dumps(seal({"key": "", "error": None, "cost": {}, "data": "data.yaml"})))


def measure(what: str, folder: Path, *size: str) -> dict[str, float]:
    """Measure one thing in this process, with whichever detgraft it imports; ``build`` makes a study of that size."""
    if what == "build":
        build(folder, *map(int, size))
        return {}
    from detgraft.study.api import report, status
    from detgraft.study.design.spec import read_spec
    from detgraft.study.run.executor import Engine
    from detgraft.study.run.store import StudyFolder

    spec = read_spec(folder / "study.yaml")
    begin = time.process_time()
    found: dict[str, float] = {}
    if what == "event":

        class Nothing:
            capacity = 1

            def begin(self, cell: object) -> None: ...
            def ended(self) -> list[object]:
                return []

            def end(self, cell: object) -> None: ...
            def close(self) -> None: ...

        engine = Engine(StudyFolder(spec), Nothing(), lambda event: None)
        engine.run()  # takes the states, trains nothing
        cells = engine.cells[:EVENTS]
        engine._tell("epoch", cells[0])  # whatever is kept between events is there now
        begin = time.process_time()
        for cell in cells:
            engine._tell("epoch", cell)
        found["event, ms"] = 1000 * (time.process_time() - begin) / len(cells)
    elif what in STATUS:
        status(spec)
        found[STATUS[what]] = time.process_time() - begin
    else:
        report(spec)
        found["report, s"] = time.process_time() - begin
        found["report, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return found


def asked(source: Path, what: str, folder: Path, *size: int) -> dict[str, float]:
    """Measure in a process of its own that imports detgraft from ``source``."""
    env = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", what, str(folder), *map(str, size)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def earlier(commit: str, place: Path) -> Path:
    """The source of an earlier commit."""
    raw = subprocess.run(["git", "archive", commit, "src"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        archive.extractall(place, filter="data")
    return place / "src"


def number(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def page(rows: list[tuple[str, int, dict[str, float], dict[str, float]]], commit: str) -> str:
    lines = [
        f"| {n:,} | {name} | {number(old[name])} | {number(new[name])} |" for _, n, old, new in rows for name in new
    ]
    kept = [f"{name} at most {aim:g}" for name, aim in AIMS.items()]
    broken = [name for _, n, _, new in rows if n >= 5000 for name, aim in AIMS.items() if new.get(name, 0) > aim]
    outcome = f"Missed: {', '.join(broken)}." if broken else "All hold."
    return f"""# What a large study costs

Generated by `python benchmarks/study_scale.py --against {commit}`; do not edit by hand. Python
{platform.python_version()} on {platform.system()} {platform.machine()}, a container with {os.cpu_count()} processors;
seconds of the processor.

A finished study of 20 arms x 5 seeds and one of 500 arms x 10 seeds, {EPOCHS} epochs each, with bootstrap draws;
"before" is commit {commit}, measured on the same folders in the same run. An event is what the engine does to tell of
an epoch. A run and a report verify every file of every run and write down which they verified; `status` relies on that
for files whose size and times are the same, and verifies all others itself, as in a folder that was copied.

| runs | what | before | now |
|---|---|---|---|
{chr(10).join(lines)}

Aims for 5,000 runs: {"; ".join(kept)}. {outcome}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--measure", nargs="+")
    parser.add_argument("--against", default="HEAD")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.measure:
        what, folder, *size = given.measure
        print(json.dumps(measure(what, Path(folder), *size)))
        return 0
    rows = []
    with tempfile.TemporaryDirectory() as place:
        before = earlier(given.against, Path(place) / "before")
        for arms, seeds in SHAPES:
            folder = Path(place) / f"study {arms}"
            asked(before, "build", folder, arms, seeds)  # by the earlier one: that is what both can read
            old: dict[str, float] = {}
            new: dict[str, float] = {}
            for what in ("first", "event", "after a run", "report", "after a report"):
                old |= asked(before, what, folder)
                new |= asked(ROOT / "src", what, folder)
                print(arms * seeds, what, old, new, flush=True)
            rows.append((f"{arms} x {seeds}", arms * seeds, old, new))
    text = page(rows, given.against)
    print(text)
    if given.out:
        given.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
