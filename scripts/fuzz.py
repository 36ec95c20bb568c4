"""Builds thousands of mutated model descriptions and records what happened: ``python scripts/fuzz.py [--runs 5000]``.

Each must build or be refused with the package's own error and a location, within 10 seconds and 4 GiB, and run no code.
What fails is kept in ``tests/fuzz/regressions`` and becomes a test; the outcome is written to ``docs/fuzzing.md``.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "fuzz"))
for name, value in (("YOLO_OFFLINE", "1"), ("YOLO_AUTOINSTALL", "0"), ("HF_HUB_OFFLINE", "1")):
    os.environ[name] = value
os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp(prefix="detgraft-fuzz-"))

from combinations import combinations  # noqa: E402
from fuzzing import SECONDS, Worker, expressions, necks, problem, yamls  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402

ENDINGS = {"yaml": ".yaml", "expression": ".txt", "neck": ".neck.yaml", "combination": ".combination.txt"}
"""What a kind's failures are kept as."""


class Record:
    """Counts outcomes and keeps what failed.

    Args:
        kept: Folder for the descriptions that failed.
        total: Number of runs that are planned.
        patience: Multiplies the time limit, for a machine that is shared.
    """

    def __init__(self, kept: Path, total: int, patience: float) -> None:
        self.kept, self.total, self.patience = kept, total, patience
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.slowest = 0.0
        self.start = time.monotonic()

    def run(self, worker: Worker, kind: str, text: str) -> None:
        before = time.monotonic()
        found, outcome = problem(worker, kind, text, self.patience)
        self.slowest = max(self.slowest, time.monotonic() - before)
        self.outcomes[kind, "failed" if found else outcome] += 1
        if found:
            raw = text.encode("utf-8", errors="surrogatepass")
            path = self.kept / f"{hashlib.sha256(raw).hexdigest()[:12]}{ENDINGS[kind]}"
            self.kept.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
            self.failures.append((path.name, found))
            print(f"FAILED {path.name}: {found}", flush=True)
        done = self.outcomes.total()
        if done % 100 == 0:
            rate = done / (time.monotonic() - self.start)
            print(f"{done}/{self.total} runs, {len(self.failures)} failed, {rate:.1f} a second", flush=True)


def main() -> int:
    """Run, write the outcome, and return 1 when anything failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5000, help="number of descriptions (default 5000)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the mutations")
    parser.add_argument("--patience", type=float, default=1.0, help="multiply the limit of 10 s on a shared machine")
    parser.add_argument("--keep", type=Path, default=ROOT / "tests" / "fuzz" / "regressions", help="where failures go")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "fuzzing.md", help="where the outcome goes")
    words = parser.parse_args()
    record = Record(words.keep, words.runs, words.patience)
    with tempfile.TemporaryDirectory(prefix="detgraft-fuzz-") as folder:
        worker = Worker(Path(folder))
        try:
            for number, (kind, strategy, share) in enumerate(
                (
                    ("yaml", yamls(), 0.5),
                    ("expression", expressions(), 0.25),
                    ("neck", necks(), 0.15),
                    ("combination", combinations(), 0.1),
                )
            ):
                explore(record, worker, kind, strategy, round(words.runs * share), words.seed * 10 + number)
        finally:
            worker.stop()
    words.out.write_text(outcome(record, words.seed), "utf-8")
    print(f"wrote {words.out}")
    return 1 if record.failures else 0


def explore(record: Record, worker: Worker, kind: str, strategy: object, runs: int, start: int) -> None:
    """Try ``runs`` descriptions of one kind; hypothesis only draws, it neither shrinks nor stops at a failure."""
    quiet = settings(
        max_examples=runs,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @seed(start)
    @quiet
    @given(text=strategy)  # type: ignore[arg-type]
    def body(text: str) -> None:
        record.run(worker, kind, text)

    body()


def outcome(record: Record, start: int) -> str:
    """Return the text of ``docs/fuzzing.md``."""
    lines = [
        "# Fuzzing of model descriptions",
        "",
        "Generated by `python scripts/fuzz.py`; do not edit. Mutated YAMLs (types, indices, depths, huge numbers,",
        "unicode, anchors and tags, nesting), graft expressions (shells, necks, levels, refiners, losses) and",
        "fragments of necks are built in a process with 4 GiB of memory above what its imports need.",
        "Combinations are of sound terms (every kind of graft, in any order, on models of every task); what builds is",
        "trained for a step, every parameter must get a gradient, and answers at an odd size.",
        f"Each must build, or be refused by a `DetgraftError` with a location, within "
        f"{SECONDS * record.patience:g} seconds (combinations {3 * SECONDS * record.patience:g});",
        "a canary file and an audit hook (processes, removal of files) show that nothing in a description is executed.",
        "",
        "| kind | built | refused | failed |",
        "|---|---:|---:|---:|",
    ]
    for kind in ENDINGS:
        counts = [record.outcomes[kind, name] for name in ("built", "refused", "failed")]
        lines.append(f"| {kind} | {counts[0]} | {counts[1]} | {counts[2]} |")
    minutes = (time.monotonic() - record.start) / 60
    packages = ", ".join(f"{name} {version(name)}" for name in ("ultralytics", "torch", "hypothesis"))
    today = datetime.datetime.now(datetime.timezone.utc).date()
    lines += [
        "",
        f"{record.outcomes.total()} runs with seed {start} on {today}: {minutes:.0f} minutes, slowest run "
        f"{record.slowest:.1f} s (start of the process included). Python {platform.python_version()}, {packages}.",
        "",
        "What ever failed is kept in `tests/fuzz/regressions` and built again by `tests/fuzz/test_fuzz.py`, which also",
        "runs a sample of each kind.",
    ]
    if record.failures:
        lines += ["", "Failures of this run:", "", *(f"- `{name}`: {text[:200]}" for name, text in record.failures)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
