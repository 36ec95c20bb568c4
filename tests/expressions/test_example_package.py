"""The example package of docs/own-blocks.md: installed, listed, built, trained a step, reopened in another process."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from expression_support import beside, run_cli, run_python
from safetensors.torch import save_file

from detgraft.catalog.plugins import ENVIRONMENT
from detgraft.catalog.registry import catalogue, register
from detgraft.errors import ArgumentError, CatalogError

PACKAGE = Path(__file__).parent / "example_package"
NAMES = {"C3k2_Scaled", "Pool3", "Pool7", "MeanFusion", "WindowGate", "tinynet"}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment of a process that finds the package as pip installs it."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE / "src", site, ignore=shutil.ignore_patterns("__pycache__"))
    information = site / "example_blocks-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: example-blocks\nVersion: 1.0\n", "utf-8")
    text = (PACKAGE / "pyproject.toml").read_text("utf-8")
    found = re.search(r'\[project\.entry-points\."(.+)"\]\n(\w+) = "(.+)"', text)
    assert found is not None
    (information / "entry_points.txt").write_text("[{}]\n{} = {}\n".format(*found.groups()), "utf-8")
    # Other tests load plug-ins, which this process hands on to the ones that it starts.
    return {**beside(site), ENVIRONMENT: ""}


def test_it_is_listed(installed: dict[str, str], tmp_path: Path) -> None:
    code = """
import json
from detgraft import list_grafts
entries = {e.name: e for e in list_grafts() if e.origin != "detgraft"}
assert entries["WindowGate"].at == "after"
print(json.dumps({n: [e.channels, e.site, e.like, dict(e.preset), e.takes_weights, e.provenance.licence, e.origin]
                  for n, e in entries.items()}))
"""
    found = run_python(code, cwd=tmp_path, env=installed)
    assert set(found) == NAMES
    origin = "example_blocks.blocks"
    assert found["C3k2_Scaled"] == ["scaled", "C3k2", "C3k2", {}, False, "MIT", origin]
    assert found["Pool7"] == ["scaled", "SPPF", None, {"kernel": 7}, False, "MIT", origin]
    assert found["MeanFusion"] == ["fuse", "Concat", None, {}, False, "MIT", origin]
    assert found["tinynet"] == ["pyramid", "backbone", None, {}, True, "MIT", origin]


BUILT = """
import json, sys, torch
from detgraft import YOLO, build
tiny = build("yolov8n+tinynet").model[0]
weights = {k: torch.full_like(v, 0.5) for k, v in tiny.state_dict().items()}
from safetensors.torch import save_file
save_file(weights, "tiny.safetensors")
model = YOLO("yolo11m+c3k2_scaled+pool7+meanfusion").model
layers = [m for m in model.model if type(m).__module__ == "example_blocks.blocks"]
scaled = [m for m in layers if m.type == "C3k2_Scaled"]
found = {
    "count": len(layers),
    "c3k": [type(m.m[0]).__name__ for m in scaled],
    "pool": [m.pool.kernel_size for m in layers if m.type == "Pool7"],
    "fused": [len(m.project) for m in layers if m.type == "MeanFusion"],
}
loaded = build("yolov8n+tinynet(weights=tiny.safetensors)").model[0]
found["weights"] = float(loaded.stem.conv.weight.mean())
small = YOLO("yolo11n+c3k2_scaled+pool3+meanfusion").model.train()
sum(v.float().square().mean() for v in small(torch.rand(2, 3, 64, 64))["feats"]).backward()
found["silent"] = [n for n, p in small.named_parameters() if p.grad is None and ".23." not in n]
torch.save({"epoch": -1, "model": small.half(), "ema": None, "train_args": {}}, "example.pt")
print(json.dumps(found))
"""


@pytest.mark.slow
def test_all_that_register_knows_works(installed: dict[str, str], tmp_path: Path) -> None:
    found = run_python(BUILT, cwd=tmp_path, env=installed)
    assert found == {
        "count": 8 + 1 + 4,
        "c3k": ["C3k"] * 8,  # the release's own rule for scale m
        "pool": [7],
        "fused": [2] * 4,
        "weights": 0.5,
        "silent": [],
    }
    code = "import json\nfrom ultralytics import YOLO\nprint(json.dumps(len(YOLO('example.pt').model.model)))"
    assert run_python(code, cwd=tmp_path, env=installed) == 24
    save_file({"stem.conv.weight": torch.zeros(1)}, str(tmp_path / "other.safetensors"))
    code = """
import json, sys
from detgraft import build
found = []
for term in ("weights=other.safetensors", "weights=imagenet", "input=unit"):
    try:
        build(f"yolov8n+tinynet({term})")
    except Exception as error:
        found.append(str(error))
print(json.dumps(found))
"""
    words = ("is not for 'tinynet'", "has no weights of timm", "takes no input=")
    for message, expected in zip(run_python(code, cwd=tmp_path, env=installed), words, strict=True):
        assert expected in message


@pytest.mark.slow
def test_pip_installs_it(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--quiet", "--target", str(tmp_path / "site")]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    process = run_cli("list", "pool*", cwd=tmp_path, env=beside(tmp_path / "site"))
    assert process.returncode == 0, process.stderr
    assert "Pool3" in process.stdout
    assert "Pool7" in process.stdout


class Own(torch.nn.Module):
    """A block of these tests."""

    def __init__(self, c1: int, c2: int, k: int = 3, s: int = 1) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(c1, c2, k, s, k // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"channels": "same", "like": "C3k2"}, "goes with channels='scaled'"),
        ({"channels": "scaled", "takes_weights": True}, "goes with channels='pyramid'"),
        ({"channels": "scaled", "preset": {"kk": 3}}, "presets 'kk', which its constructor does not have"),
        ({"channels": "scaled", "preset": {"c2": 3}}, "presets 'c2', which the channel rule 'scaled' passes"),
        ({"channels": "fuse", "preset": {"c1": 3, "c2": 3}}, "presets 'c1', which the channel rule 'fuse' passes"),
        ({"channels": "scaled", "repeats": "inside", "preset": {"k": 3}}, "presets 'k', which the channel"),
        ({"channels": "scaled", "at": "cv3"}, "one of bottleneck, cv1, .* found 'cv3'. Did you mean 'cv2' or 'cv1'"),
        ({"channels": "scaled", "at": "bottlneck"}, "Did you mean 'bottleneck'"),
        ({"channels": "concat", "at": "cv2"}, "'own_refused' cannot go: that takes channels='same'"),
        ({"channels": "scaled", "like": "C3k2", "at": "cv2"}, "where 'own_refused' cannot go"),
    ],
)
def test_what_does_not_go_together_is_refused_when_it_is_registered(keywords: dict[str, object], words: str) -> None:
    with pytest.raises(CatalogError, match=words):
        register("own_refused", **keywords)(Own)  # type: ignore[arg-type]
    assert "own_refused" not in catalogue


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"like": "C3kk2"}, "this Ultralytics has no module of that name. Did you mean 'C3k2'"),
        ({"like": "Conv", "repeats": "inside"}, "which the rule of Conv does not pass"),
    ],
)
def test_a_rule_that_is_none_is_named_and_not_passed_over(keywords: dict[str, str], words: str) -> None:
    from detgraft import build

    class Inside(Own):
        def __init__(self, c1: int, c2: int, n: int, k: int = 3, s: int = 1) -> None:
            super().__init__(c1, c2, k, s)

    register("own_like", channels="scaled", site="Conv", **keywords)(Inside if "repeats" in keywords else Own)  # type: ignore[arg-type]
    try:
        with pytest.raises((CatalogError, ArgumentError)) as caught:
            build("yolo11n+own_like@head")
        assert words in str(caught.value)
    finally:
        catalogue.remove("own_like")
