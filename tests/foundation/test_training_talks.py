"""A training says which weights are random, and where the data YAML lies that was written for a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from detgraft import build
from detgraft.demo.made import make_shapes
from detgraft.upstream.model.arguments import random_text


def test_which_weights_are_random_is_counted_by_layer() -> None:
    model = build("yolo11n+carafe", nc=3)
    every = {number: len(layer.state_dict()) for number, layer in enumerate(model.model)}
    total = sum(every.values())
    assert "all are random" in random_text(model, {})
    assert random_text(model, every) == f"weights: all {total} tensors are given"
    carafe = [number for number, layer in enumerate(model.model) if type(layer).__name__ == "CARAFE"]
    lacking = {number: count for number, count in every.items() if number not in carafe}
    names = ", ".join(f"{number} CARAFE" for number in carafe)
    arrived = total - sum(every[number] for number in carafe)
    text = f"weights: {arrived} of {total} tensors are given; random, in whole or part, are layers {names}"
    assert random_text(model, lacking) == text
    partly = {**every, carafe[0]: 1}
    assert f"are layers {carafe[0]} CARAFE" in random_text(model, partly)


@pytest.mark.slow
def test_a_training_from_a_folder_says_what_it_reads_and_begins_with(tmp_path: Path) -> None:
    made = make_shapes(tmp_path / "made", train=4, val=2, imgsz=64)
    root = made.parent if made.is_file() else made
    (root / "data.yaml").unlink(missing_ok=True)
    (root / "classes.txt").write_text("\n".join(f"kind{n}" for n in range(10)) + "\n", "utf-8")
    words = ["model=yolo11n+carafe", f"data={root}", "epochs=1", "imgsz=64", "batch=2", "device=cpu", "workers=0"]
    found = subprocess.run(
        [sys.executable, "-m", "detgraft.cli.main", "train", *words, "plots=False", f"project={tmp_path / 'runs'}"],
        cwd=tmp_path,
        env={**os.environ, "YOLO_CONFIG_DIR": str(tmp_path / "config")},
        capture_output=True,
        text=True,
        check=False,
    )
    said = found.stdout + found.stderr
    assert found.returncode == 0, said[-3000:]
    assert "weights: all are random; transfer=CHECKPOINT takes those of the base model over" in said
    written = re.search(r"read through (\S+), which was written for it", said)
    assert written is not None, said[:3000]
    assert Path(written[1]).is_file()
    assert tmp_path / "runs" in Path(written[1]).parents
