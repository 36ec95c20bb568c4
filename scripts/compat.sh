#!/usr/bin/env bash
# Tries detgraft with several Ultralytics releases and writes docs/compatibility.md.
#
#   scripts/compat.sh [VERSION ...]      default: lowest 8.3.0 8.3.100 8.4.0 newest
#
# Each release goes into a temporary folder that comes first on the path, together with the pins that an old release
# needs (numpy < 2, pandas, an OpenCV built for it); the environment itself is not changed. `lowest` is a virtual
# environment of its own with the lowest version of every package that pyproject.toml names.
#   PYTHON          the Python, 3.11 or newer, with detgraft's requirements (default: python)
#   COMPAT_TESTS    what pytest runs (default: the core tests, tests/foundation tests/blocks)
#   COMPAT_CHECKS   which checks run on the two models, with commas between (default: all)
#   COMPAT_OUT      the table (default: docs/compatibility.md)
#   COMPAT_ANSWERS  a folder for what was found; a release that is done there is not tried again (default: none)
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-python}
tests=${COMPAT_TESTS:-tests/foundation tests/blocks}
checks=${COMPAT_CHECKS:-}
out=${COMPAT_OUT:-$root/docs/compatibility.md}
models=(yolo11n+carafe yolo11n+convnextv2_atto)
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(lowest 8.3.0 8.3.100 8.4.0 newest)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export YOLO_OFFLINE=1 YOLO_AUTOINSTALL=0 HF_HUB_OFFLINE=1 MPLBACKEND=Agg YOLO_CONFIG_DIR="$work/settings"
export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-}"
found=${COMPAT_ANSWERS:-$work/answers}
mkdir -p "$work/settings" "$found"

install() { # VERSION FOLDER
    local requirement=ultralytics
    [ "$1" = newest ] || requirement="ultralytics==$1"
    "$python" -m pip install --quiet --no-deps --target "$2" "$requirement" "ultralytics-thop>=2.0.0"
    local metadata=("$2"/ultralytics-*.dist-info/METADATA) numpy
    numpy=$(sed -nE 's/^Requires-Dist: (numpy[^;]*)$/\1/p' "${metadata[0]}" | head -n 1)
    if [[ $numpy == *"<2.0"* ]]; then
        "$python" -m pip install --quiet --target "$2" "$numpy" pandas "opencv-python==4.10.0.84"
    elif [[ $numpy == *"<"* ]]; then
        "$python" -m pip install --quiet --target "$2" "$numpy" pandas
    elif grep -qiE '^Requires-Dist: pandas' "${metadata[0]}" && ! "$python" -c 'import pandas' 2>/dev/null; then
        "$python" -m pip install --quiet --target "$2" pandas
    fi
}

lowest() { # FOLDER
    mkdir -p "$1"
    "$python" - "$root/pyproject.toml" "$1/lowest.txt" <<'PY'
import pathlib
import re
import sys
import tomllib

project = tomllib.loads(pathlib.Path(sys.argv[1]).read_text("utf-8"))["project"]
asked = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
for extra in ("export", "pretrain", "study", "thesis"):
    asked += project["optional-dependencies"][extra]
pins = [re.match(r"([\w.-]+)>=([\w.]+)", text) for text in asked]
pathlib.Path(sys.argv[2]).write_text("".join(f"{pin[1]}=={pin[2]}\n" for pin in pins if pin), "utf-8")
PY
    "$python" -m venv "$1/venv"
    "$1/venv/bin/python" -m pip install --quiet -e "$root[dev]" -c "$1/lowest.txt"
}

for version in "${versions[@]}"; do
    folder="$work/$version" answers="$found/$version"
    [ ! -e "$answers/done" ] || continue
    mkdir -p "$folder" "$answers"
    echo "== ultralytics $version"
    runs=$python path="$folder:$root/src" way=(install "$version" "$folder")
    [ "$version" != lowest ] || runs="$folder/venv/bin/python" path="$root/src" way=(lowest "$folder")
    if ! "${way[@]}" >"$answers/install" 2>&1; then
        echo "   cannot be installed: $(tail -n 1 "$answers/install")"
        continue
    fi
    PYTHONPATH=$path "$runs" - >"$answers/versions" <<'PY'
import cv2, numpy, torch, ultralytics
print(ultralytics.__version__, torch.__version__.partition("+")[0], numpy.__version__, cv2.__version__)
PY
    if [ -n "$tests" ]; then
        # shellcheck disable=SC2086  # several folders
        (cd "$root" && PYTHONPATH=$path "$runs" -m pytest -p no:cacheprovider $tests) >"$answers/tests" 2>&1 || true
        tail -n 1 "$answers/tests"
    fi
    for model in "${models[@]}"; do
        words=(check "$model" imgsz=96 --json)
        [ -z "$checks" ] || words+=(--only "$checks")
        (cd "$work" && PYTHONPATH=$path "$runs" -W ignore -m detgraft.cli.main "${words[@]}") \
            >"$answers/$model.json" 2>"$answers/$model.err" || true
        echo "   check $model: done"
    done
    rm -rf "$folder"
    touch "$answers/done"
done

"$python" - "$found" "$out" "$tests" "${models[@]}" <<'PY'
import datetime
import json
import pathlib
import re
import sys

answers, out, tests, *models = sys.argv[1:]


def tested(path: pathlib.Path) -> str:
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()] if path.exists() else []
    found = re.search(r"((?:\d+ \w+,? ?)+) in [\d.]+s", lines[-1]) if lines else None
    return found.group(1).strip() if found else (lines[-1][:120] if lines else "not run")


def checked(path: pathlib.Path) -> str:
    try:
        report = json.loads(path.read_text().strip().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        errors = path.with_suffix(".err")
        lines = errors.read_text(errors="replace").strip().splitlines() if errors.exists() else []
        return f"no report: {lines[-1][:160]}" if lines else "not run"
    failed = [f"{r['name']}: {r['reason'][:160]}" for r in report["results"] if r["status"] == "fail"]
    passed = [r["name"] for r in report["results"] if r["status"] == "pass"]
    skipped = [f"{r['name']} ({r['reason']})" for r in report["results"] if r["status"] == "skipped"]
    parts = [f"passes {', '.join(passed)}"] if passed else []
    parts += [f"FAILS {'; '.join(failed)}"] if failed else []
    parts += [f"skips {', '.join(skipped)}"] if skipped else []
    return "; ".join(parts).replace("|", "/")


lines = [
    "# Ultralytics releases that were tried",
    "",
    "Generated by `scripts/compat.sh`; do not edit. Each release was installed into a separate folder, first on the path,",
    "with the pins that it needs. The row `lowest` has the lowest version of every package that pyproject.toml names.",
    "",
    f"Tests: `pytest {tests}`. Checks: `detgraft check MODEL imgsz=96`. {datetime.date.today()}.",
    "",
    f"| ultralytics | torch | numpy | OpenCV | tests | {' | '.join(f'check {m}' for m in models)} |",
    "|" + "---|" * (5 + len(models)),
]
order = {"lowest": [0], "newest": [999]}
folders = sorted(pathlib.Path(answers).iterdir(), key=lambda p: order.get(p.name) or [int(n) for n in p.name.split(".")])
for folder in folders:
    versions = ((folder / "versions").read_text().splitlines() or [""])[-1].split() if (folder / "versions").exists() else []
    if len(versions) != 4:
        lines.append(f"| {folder.name} | cannot be installed or imported |" + " |" * (3 + len(models)))
        continue
    if folder.name == "lowest":
        versions[0] = f"lowest: {versions[0]}"
    cells = [*versions, tested(folder / "tests"), *(checked(folder / f"{model}.json") for model in models)]
    lines.append("| " + " | ".join(cells) + " |")
lines += [
    "",
    "A release that lacks something that a graft needs is refused with one sentence (`UpstreamError`); features that an",
    "older release does not have are skipped by name in the checks and tests.",
]
pathlib.Path(out).write_text("\n".join(lines) + "\n", "utf-8")
print(f"wrote {out}")
PY
