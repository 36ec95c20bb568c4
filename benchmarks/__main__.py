"""All speed benchmarks: ours and its rivals in turns, after their results were compared.

    python -m benchmarks                                   everything, a table at the end
    python -m benchmarks --only carafe,repvit --json       some, as JSON
    python -m benchmarks --only carafe/4x128               the cases whose name begins so
    python -m benchmarks --threads 1 --clock cpu           processor time, for a machine that others use too
    python -m benchmarks --write                           also put the figures into benchmarks/RESULTS.md
    python -m benchmarks --only cuda --write               what a GPU is needed for; left out where there is none
    python -m benchmarks --readme benchmarks/RESULTS.md wall-2   copy the rows with a target; measures nothing

Run from the repository's root. `fcmae.py` and `study_simulation.py` in this folder are scripts of their own.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("YOLO_OFFLINE", "1")
os.environ.setdefault("YOLO_AUTOINSTALL", "0")

import torch

from benchmarks import report
from benchmarks.measure import Case, Outcome, run, weigh
from detgraft.base.processors import available_cpus


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"beginnings of case names; benchmarks: {', '.join(report.ORDER)}")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: time of this process and its children"
    )
    parser.add_argument("--write", action="store_true", help="rewrite the tables of benchmarks/RESULTS.md")
    parser.add_argument("--weigh", nargs=2, metavar=("CASE", "FORM"), help=argparse.SUPPRESS)
    parser.add_argument(
        "--readme", nargs=2, metavar=("FILE", "TABLE"), help="copy a table, e.g. benchmarks/RESULTS.md wall-2"
    )
    args = parser.parse_args()
    if args.readme:
        report.write_readme(Path(args.readme[0]), args.readme[1])
        return 0
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    if args.weigh:
        case = next(case for case in all_cases([args.weigh[0].split("/")[0]]) if case.name == args.weigh[0])
        print(json.dumps(weigh(case, args.weigh[1])))
        return 0
    wanted = [word for word in args.only.split(",") if word]
    names = [name for name in report.ORDER if not wanted or any(word.split("/")[0] == name for word in wanted)]
    if not names:
        parser.error(f"no benchmark is called {args.only!r}; there are {', '.join(report.ORDER)}")
    clock = time.perf_counter if args.clock == "wall" else lambda: sum(os.times()[:4])
    if wanted and "cuda" in names and not torch.cuda.is_available():
        parser.error("the benchmark cuda needs a CUDA device; PyTorch sees none")
    outcomes: list[Outcome] = []
    cases = [case for case in all_cases(names) if not wanted or any(case.name.startswith(word) for word in wanted)]
    if args.write:
        for device in {case.device for case in cases}:
            report.place_of(report.marker_of(device, args.clock, args.threads))
    for case in cases:
        for outcome in run(case, clock):
            outcomes.append(outcome)
            if not args.json:
                print(report.line(outcome), flush=True)
    about = environment(args.threads, args.clock)
    if args.json:
        print(json.dumps({**about, "results": [dataclasses.asdict(outcome) for outcome in outcomes]}, indent=2))
    if args.write:
        report.write(outcomes, about)
    return int(any(report.missed(outcome) for outcome in outcomes))


def all_cases(names: list[str]) -> list[Case]:
    found: list[Case] = []
    for name in names:
        found += importlib.import_module(f"benchmarks.cases.{name}").cases()
    return found


def environment(threads: int, clock: str) -> dict[str, object]:
    import timm
    import ultralytics

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "command": f"python -m benchmarks {' '.join(sys.argv[1:])}",
        "machine": f"{available_cpus()} CPU cores ({torch.backends.cpu.get_cpu_capability()}), {gpu}",
        "threads": threads,
        "clock": clock,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "ultralytics": ultralytics.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
