"""Own blocks: from a file, from an installed package; what goes wrong; checkpoints with and without the plug-in."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from expression_support import TINY, beside, files_below, run_cli, run_python, save_checkpoint

from detgraft import YOLO, build
from detgraft.catalog.plugins import ENVIRONMENT, load_plugins
from detgraft.catalog.registry import Catalogue, catalogue, register
from detgraft.catalog.spec import Graft
from detgraft.errors import CatalogError
from detgraft.upstream.release import capabilities

BLOCK = '''
from torch import nn

from detgraft import register


@register("{name}", channels="same", site="stage")
class Gate(nn.Module):
    """A gate."""

    def __init__(self, c1: int) -> None:
        super().__init__()
        self.conv = Inner(c1, c1, 1)

    def forward(self, x):
        return x * self.conv(x).sigmoid()


class Inner(nn.Conv2d):
    """A class that restricted loading must know, too."""
'''


def write(folder: Path, name: str, text: str = BLOCK) -> Path:
    path = folder / f"{name}.py"
    # Unlike the same file of another test, whose module this process has loaded already.
    path.write_text(f"{text.replace('{name}', name)}\n# {folder.name}\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take out again what a test registers."""
    monkeypatch.setenv(ENVIRONMENT, "")
    known = set(catalogue)
    yield
    for entry in list(catalogue):
        if entry not in known:
            catalogue.remove(entry.name)


def test_a_block_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path, "gate_a")
    model = YOLO("yolo11n+gate_a", plugins=path)
    gates = [layer for layer in model.model.model if layer.type == "gate_a"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert len(gates) == 3
    assert type(gates[0]).__module__ == f"detgraft.plugins.gate_a__{digest}"
    assert catalogue.get("gate_a").summary == "A gate."
    load_plugins([path, path])  # a second time changes nothing
    assert os.environ[ENVIRONMENT] == str(path.resolve())


def test_a_yaml_cannot_name_a_plug_in(tmp_path: Path) -> None:
    write(tmp_path, "gate_b", "raise SystemExit('run')")
    (tmp_path / "m.yaml").write_text(
        "plugins: gate_b.py\nnc: 1\nbackbone:\n  - [-1, 1, gate_b, []]\nhead:\n  - [[0], 1, Detect, [nc]]\n", "utf-8"
    )
    with pytest.raises(ValueError, match="there is no module 'gate_b'"):
        build("m.yaml")


FAILING = {
    "raises": ("1 / 0\n", "the plug-in fails: ZeroDivisionError: division by zero"),
    "syntax": ("def f(:\n", "the plug-in fails: SyntaxError"),
    "imports": ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "late": (BLOCK + "\nraise KeyError('x')\n", "the plug-in fails: KeyError"),
    "graft": (BLOCK.replace("{name}", "carafe"), "the name 'carafe' is already registered (by detgraft as 'CARAFE')"),
    "stock": (BLOCK.replace("{name}", "C3k2"), "'C3k2' is the name of a stock Ultralytics module"),
    "rule": (
        BLOCK.replace('"same"', '"sane"'),
        "channels must be one of scaled, same, fixed, pyramid, concat, fuse, refine",
    ),
    "few": (BLOCK.replace("c1: int", "").replace("Inner(c1, c1, 1)", "None"), "must take input channels first"),
}


@pytest.mark.parametrize("case", FAILING)
def test_a_failing_file_registers_nothing(case: str, tmp_path: Path) -> None:
    text, words = FAILING[case]
    path = write(tmp_path, f"fail_{case}", text)
    before = set(catalogue)
    with pytest.raises(CatalogError) as caught:
        YOLO("yolo11n+carafe", plugins=str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert set(catalogue) == before
    assert os.environ[ENVIRONMENT] == ""
    assert files_below(tmp_path) - {"__pycache__"} == {path.name}


def test_a_missing_file_and_one_that_is_not_python(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="the plug-in file cannot be read: No such file"):
        YOLO("yolo11n+carafe", plugins=tmp_path / "missing.py")
    (tmp_path / "block.txt").write_text("x", encoding="utf-8")
    with pytest.raises(CatalogError, match="must be a Python file"):
        load_plugins(tmp_path / "block.txt")
    process = run_cli("train", "model=yolo11n+mine", "plugins=missing.py", "data=d.yaml", cwd=tmp_path)
    assert process.returncode == 2
    assert process.stderr.strip() == "detgraft: missing.py: the plug-in file cannot be read: No such file or directory"
    assert files_below(tmp_path) == {"block.txt"}


def test_a_name_cannot_be_taken_twice() -> None:
    def block() -> Any:
        return type("Own", (torch.nn.Identity,), {"__init__": lambda self, c1: torch.nn.Identity.__init__(self)})

    register("own_twice", channels="same")(block())
    with pytest.raises(CatalogError, match="'own_twice' is already registered"):
        register("own_twice", channels="same")(block())
    with pytest.raises(CatalogError, match="'own_twice' is already registered"):
        register("another", channels="same", aliases=("OWN_TWICE",))(block())
    assert "another" not in catalogue


def test_a_stock_name_registered_before_ultralytics_is_imported_is_refused_then() -> None:
    early = Catalogue((Graft("Conv", torch.nn.Identity, "same", origin="somebody's script"),))
    with pytest.raises(CatalogError, match="'Conv' is the name of a stock Ultralytics module"):
        early.reserve(lambda name: name == "Conv")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder as pip installs a package with an entry point."""
    folder = tmp_path / "site"
    information = folder / "fake_blocks-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: fake-blocks\nVersion: 1.0\n", "utf-8")
    (information / "entry_points.txt").write_text("[detgraft.blocks]\nfake = fake_blocks\n", "utf-8")
    (folder / "fake_blocks.py").write_text(BLOCK.replace("{name}", "packaged_gate"), "utf-8")
    return folder


def test_an_installed_package(package: Path, tmp_path: Path) -> None:
    code = """
import json, detgraft, torch
model = detgraft.YOLO("yolo11n+packaged_gate")
torch.save({"epoch": -1, "model": model.model, "ema": None, "train_args": {}}, "packaged.pt")
print(json.dumps(sorted({type(m).__module__ for m in model.model.modules() if "fake" in type(m).__module__})))
"""
    assert run_python(code, cwd=tmp_path, env=beside(package)) == ["fake_blocks"]
    code = "import json\nfrom ultralytics import YOLO\nprint(json.dumps(len(YOLO('packaged.pt').model.model)))"
    safe = {**beside(package), "ULTRALYTICS_SAFE_LOAD": "1"}
    assert run_python(code, cwd=tmp_path, env=beside(package)) == 27
    assert run_python(f"import detgraft\n{code}", cwd=tmp_path, env=safe) == 27


def test_an_installed_package_that_fails_is_named_each_time(package: Path, tmp_path: Path) -> None:
    (package / "fake_blocks.py").write_text("raise ImportError('lacks something')", "utf-8")
    code = """
import json
found = []
for _ in range(2):
    try:
        import detgraft
        detgraft.build("yolo11n+carafe")
        found.append("built")
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""
    found = run_python(code, cwd=tmp_path, env=beside(package))
    words = "CatalogError: the installed plug-in 'fake = fake_blocks' fails: ImportError: lacks something"
    assert found == [words, words]


def test_a_failing_installed_package_is_told_when_grafts_are_wanted(package: Path, tmp_path: Path) -> None:
    (package / "fake_blocks.py").write_text("raise ImportError('lacks something')", "utf-8")
    code = """
import json, sys
import detgraft
from ultralytics import YOLO
found = [len(YOLO("yolo11n.yaml").model.model), "fake_blocks" in sys.modules]
for _ in range(2):
    try:
        YOLO("yolo11n-carafe.yaml")
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
print(json.dumps(found))
"""
    found = run_python(code, cwd=tmp_path, env=beside(package))
    words = "CatalogError: the installed plug-in 'fake = fake_blocks' fails: ImportError: lacks something"
    assert found == [24, False, words, words]


@pytest.mark.skipif(not capabilities.HAS_SAFE_LOAD, reason="HAS_SAFE_LOAD: this release has no restricted loading")
def test_restricted_loading_allows_the_classes_that_a_checkpoint_names(tmp_path: Path) -> None:
    save_checkpoint(YOLO("yolo11n+carafe"), tmp_path / "carafe.pt")
    code = """
import json, sys
import torch
import detgraft
from ultralytics import YOLO
before = [str(entry) for entry in torch.serialization.get_safe_globals() if "detgraft" in str(entry)]
model = YOLO("carafe.pt")
after = {str(entry) for entry in torch.serialization.get_safe_globals() if "detgraft" in str(entry)}
print(json.dumps([before, any("carafe" in entry for entry in after), any("lska" in entry for entry in after),
                  "timm" in sys.modules, model.model.model[11].type]))
"""
    found = run_python(code, cwd=tmp_path, env={"ULTRALYTICS_SAFE_LOAD": "1"})
    assert found == [[], True, False, False, "CARAFE"]


OPEN = """
import json, sys
words = json.loads(sys.argv[1])
if words["detgraft"]:
    import detgraft
if words["plugins"]:
    from detgraft.catalog.plugins import load_plugins
    load_plugins(words["plugins"])
from ultralytics import YOLO
try:
    model = YOLO(words["model"])
    found = sum(p.numel() for p in model.model.parameters())
    if words["data"]:
        model.train(data=words["data"], epochs=1, project=words["project"], **words["tiny"])
except Exception as error:
    found = f"{type(error).__name__}: {error}"
print()
print(json.dumps(found))
"""


@pytest.fixture
def opened(tmp_path: Path) -> Any:
    path = write(tmp_path, "gate_c")
    model = YOLO("yolo11n+gate_c", plugins=path)
    save_checkpoint(model, tmp_path / "gate.pt")
    count = sum(p.numel() for p in model.model.parameters())

    def run(*, detgraft: bool = False, plugins: str = "", data: str = "", **env: str) -> Any:
        words = {
            "model": str(tmp_path / "gate.pt"),
            "detgraft": detgraft,
            "plugins": plugins,
            "data": data,
            "tiny": TINY,
            "project": str(tmp_path / "runs"),
        }
        return run_python(OPEN, json.dumps(words), cwd=tmp_path, env={ENVIRONMENT: "", **env})

    return run, path, count


def test_a_checkpoint_without_its_plug_in_names_it(opened: Any) -> None:
    run, path, _ = opened
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = run(YOLO_AUTOINSTALL="1")
    assert "plug-in file 'gate_c.py'" in found
    assert f"(SHA-256 begins with {digest[:16]})" in found
    assert "plugins=gate_c.py" in found
    assert "pip install" not in found
    assert run(detgraft=True) == found
    path.write_text(path.read_text("utf-8") + "\n# changed\n", "utf-8")
    assert digest[:16] in run(plugins=str(path)), "a file with other content is another plug-in"


def test_a_checkpoint_with_its_plug_in_opens(opened: Any, tmp_path: Path) -> None:
    run, path, count = opened
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    path = path.rename(moved / path.name)  # the file's name and content count, not its folder
    assert run(plugins=str(path)) == count
    assert run(**{ENVIRONMENT: str(path)}) == count, "a child process knows what its parent loaded"


@pytest.mark.skipif(not capabilities.HAS_SAFE_LOAD, reason="HAS_SAFE_LOAD: this release has no restricted loading")
def test_restricted_loading_with_a_plug_in(opened: Any) -> None:
    run, path, count = opened
    assert run(plugins=str(path), ULTRALYTICS_SAFE_LOAD="1") == count
    assert run(**{ENVIRONMENT: str(path), "ULTRALYTICS_SAFE_LOAD": "1", "detgraft": True}) == count
    assert "CatalogError: this model uses own blocks of the plug-in file 'gate_c.py'" in run(
        detgraft=True, ULTRALYTICS_SAFE_LOAD="1"
    )


@pytest.mark.slow
def test_a_model_with_a_plug_in_trains_on_in_a_fresh_process(opened: Any, tmp_path: Path) -> None:
    from detgraft.demo.made import make_shapes

    run, path, count = opened
    data = make_shapes(tmp_path / "set", train=4, val=2, imgsz=64, seed=1)
    assert run(plugins=str(path), data=str(data)) == count
    assert list((tmp_path / "runs").rglob("best.pt"))
