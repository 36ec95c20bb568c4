"""A release whose parser works in another way is named as the cause, before any row of a user is blamed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import ultralytics
from doctored import imported, installed, parser_text
from support import answer, run_python
from torch import nn
from ultralytics.nn import tasks

from detgraft import build
from detgraft._version import __version__
from detgraft.errors import UpstreamError
from detgraft.upstream.release.capabilities import TRIED, ULTRALYTICS_VERSION

# What the release does differently: a pattern of the source, what stands there then, and what the error says of it.
CHANGED = {
    "no input channels": (
        r"(m is CBLinear:\s+c2 = args\[0\]\s+c1 = ch\[f\]\s+args = )\[c1, c2, \*args\[1:\]\]",
        r"\1[c2, *args[1:]]",
        "CBLinear is given the input channels",
    ),
    "scaled channels": (
        r"(m is CBLinear:\s+c2 = args\[0\])",
        r"\1 * 2",
        "the channels as written: (3, 8)",
    ),
    "first channels only": (r"sum\(\(?ch\[x\] for x in f\)?\)", "ch[f[0]]", "sum of the joined channels"),
    "an argument behind": (r"m\(\*args\)", "m(*args, None)", "it was given (3, 8, None)"),
    "repeats behind": (r"args\.insert\(2, n\)", "args.append(n)", "it was given (8, 32, False, 0.25, 2)"),
    "no repeats": (r"args\.insert\(2, n\)", "args.insert(2, 1)", "the scaled repeats"),
    "a shell": (r"(m_ = )(torch|nn)(.*)\n", r"\1torch.nn.Sequential(m(*args))\n", "becomes the layer"),
    "another answer": (r"return \(?(torch\.)?nn\.Sequential\(.*", "return layers", "one per row"),
    "no sources": (r"m_\.i, m_\.f, m_\.type = \(?i, f, t\)?", "m_.i, m_.type = (i, t)", "its sources as 'i' and 'f'"),
    "a failure": (r"(m is Concat:\s+)", r"\1raise KeyError('axis')\n            ", "KeyError: 'axis'"),
}


def changed(name: str, text: str) -> str:
    pattern, new, _ = CHANGED[name]
    found, count = re.subn(pattern, new, text)
    assert count, "the installed parser is written in another way"
    return found


@pytest.mark.parametrize("name", list(CHANGED))
def test_what_a_release_does_differently_is_said(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, imported(tmp_path, changed(name, parser_text())))
    with pytest.raises(UpstreamError) as caught:
        build("yolo11n+carafe", nc=3)
    message = str(caught.value)
    words = (CHANGED[name][2], f"ultralytics {ULTRALYTICS_VERSION}", f"detgraft {__version__}", TRIED[0], TRIED[-1])
    assert [word for word in words if word not in message] == [], message


def test_the_installed_release_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begins = "layers, save, c2 = ("
    assert parser_text().count(begins) == 1
    noted = parser_text().replace(begins, f"RUNS.append(len(d['head'])); {begins}")
    parser = imported(tmp_path, "RUNS = []\n" + noted)
    installed(monkeypatch, parser)
    for _ in range(2):
        layers = tasks.parse_model(tasks.yaml_model_load("yolo11n+dynamicconv@backbone.yaml"), 3, verbose=False)[0]
    assert isinstance(layers, nn.Sequential)
    assert parser.__globals__["RUNS"] == [3, 13, 13], (
        "the canary's three rows behind its backbone, then the model twice"
    )


def test_the_releases_that_were_tried_are_the_documented_ones() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "compatibility.md").read_text("utf-8")
    assert tuple(re.findall(r"^\| (8[\d.]+) \|", text, re.MULTILINE)) == TRIED


_DOCTORED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import ultralytics
assert ultralytics.__file__.startswith(sys.argv[1])
from detgraft import YOLO
found = {"version": ultralytics.__version__, "stock": len(ultralytics.YOLO("yolo11n.yaml").model.model)}
try:
    YOLO("yolo11n+carafe")
except Exception as error:
    found["error"] = [type(error).__name__, str(error)]
print(json.dumps(found))
"""


def test_a_doctored_release_is_named(tmp_path: Path) -> None:
    """A whole copy of the package with another version and another rule; stock models still build there."""
    copy = tmp_path / "site" / "ultralytics"
    package = Path(ultralytics.__file__).parent
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "assets"))
    (copy / "assets").mkdir()
    init = copy / "__init__.py"
    init.write_text(init.read_text("utf-8").replace(f'"{ULTRALYTICS_VERSION}"', '"9.9.9"', 1), "utf-8")
    path = copy / "nn" / "tasks.py"
    path.write_text(changed("no input channels", path.read_text("utf-8")), "utf-8")
    found: Any = answer(run_python(_DOCTORED, str(tmp_path / "site")))
    assert (found["version"], found["stock"]) == ("9.9.9", 24)
    kind, message = found["error"]
    assert kind == "UpstreamError"
    words = ("ultralytics 9.9.9", f"detgraft {__version__}", TRIED[-1], "CBLinear is given the input channels")
    assert [word for word in words if word not in message] == [], message


_RELOADED = """
import importlib, json, sys
if sys.argv[1] == "detgraft first":
    import detgraft, ultralytics
else:
    import ultralytics, ultralytics.engine.model, detgraft
from ultralytics.nn import tasks
before = detgraft.build("yolo11n+carafe")
for _ in range(2):
    importlib.reload(tasks)
models = (
    detgraft.YOLO("yolo11n+carafe").model,
    ultralytics.YOLO("yolo11n-carafe.yaml").model,
    tasks.DetectionModel("yolo11n-carafe.yaml", verbose=False),
)
found = [[type(model.model[11]).__name__, hasattr(model, "detgraft_version")] for model in models]
found.append(type(tasks.DetectionModel("yolo11n.yaml", verbose=False).model[11]).__name__)
print(json.dumps(found))
"""


@pytest.mark.parametrize("order", ["detgraft first", "ultralytics first"])
def test_grafts_work_after_a_reload(order: str) -> None:
    assert answer(run_python(_RELOADED, order)) == [["CARAFE", True]] * 3 + ["Upsample"]
