"""Does a graft help, over several seeds? Writes a study file, runs it, and prints where the report is.

python examples/compare.py --data data.yaml --base yolo11n --variants carafe dysample --seeds 8

It may be stopped at any time; the same command goes on. `detgraft study init` writes a file with every key.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import yaml


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--base", default="yolo11n")
    parser.add_argument("--variants", nargs="+", default=["carafe"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--out", type=Path, default=Path("study"))
    options = parser.parse_args()

    study = {
        "data": str(Path(options.data).resolve()),
        "base": options.base,
        "variants": options.variants,
        "seeds": options.seeds,
        "train": {"epochs": options.epochs, "imgsz": options.imgsz, "batch": options.batch},
        "out": str(options.out.resolve()),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "study.yaml"
    file.write_text(yaml.safe_dump(study, sort_keys=False, allow_unicode=True), "utf-8")
    command = [sys.executable, "-m", "detgraft.cli.main", "study"]
    for step in ("run", "report"):
        done = subprocess.run([*command, step, str(file)], check=False)
        if done.returncode:
            return done.returncode
    print(f"The report: {options.out / 'report' / 'report.html'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
