"""The study file: what is read, and that everything wrong names its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from detgraft.study.api import init
from detgraft.study.design.config import config_of
from detgraft.study.design.errors import StudyError
from detgraft.study.design.fields import check_train_keys
from detgraft.study.design.spec import changes, only_adds, read_spec, spec_from_arguments
from detgraft.study.design.template import TEMPLATE
from detgraft.study.design.terms import next_scale

GOOD = """data: data.yaml
base: yolo11n
variants:
  - carafe
  - yolo11n+dynamicconv
  - {name: mine, graft: repvit_m0_9(width=auto)}
  - {model: other.yaml}
seeds: [3, 1]
train:
  epochs: 7
  lr0: 0.02
metrics:
  margin: 0.02
"""


def read(tmp_path: Path, text: str) -> object:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    return read_spec(tmp_path / "s.yaml")


def test_a_file_becomes_arms(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    spec = read_spec(tmp_path / "s.yaml")
    assert [(a.name, a.model, a.role) for a in spec.arms] == [
        ("yolo11n", "yolo11n", "base"),
        ("carafe", "yolo11n+carafe", "variant"),
        ("dynamicconv", "yolo11n+dynamicconv", "variant"),
        ("mine", "yolo11n+repvit_m0_9(width=auto)", "variant"),
        ("other.yaml", "other.yaml", "variant"),
        ("scale: yolo11s", "yolo11s", "control"),
    ]
    assert spec.seeds == (3, 1)
    assert spec.train == {"epochs": 7, "lr0": 0.02, "batch": 16, "imgsz": 640}
    assert spec.metrics.margin == 0.02
    assert len({a.slug for a in spec.arms}) == 6


def test_the_one_liner_says_the_same(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD.replace("  - {name: mine", "  - {name: repvit_m0_9(width=auto)"))
    file = read_spec(tmp_path / "s.yaml")
    line = spec_from_arguments(
        {
            "data": "data.yaml",
            "base": "yolo11n",
            "variants": "carafe,dynamicconv,repvit_m0_9(width=auto),other.yaml",
            "seeds": "3,1",
            "epochs": "7",
            "lr0": "0.02",
            "margin": "0.02",
        }
    )
    assert line.identity() == file.identity()
    assert line.digest() == file.digest()


@pytest.mark.parametrize(
    ("wrong", "right"), [("varients", "variants"), ("sedes", "seeds"), ("margn", "margin"), ("epoch", "epochs")]
)
def test_a_misspelt_key_is_named_before_the_key_that_is_missing_for_it(wrong: str, right: str) -> None:
    words = {"data": "data.yaml", "base": "yolo11n", "variants": "carafe", "seeds": "3"}
    words[wrong] = words.pop(right, "1")
    with pytest.raises(StudyError, match=rf"'{wrong}' is no key of a study .*Did you mean '{right}'"):
        spec_from_arguments(words)


def test_the_template_is_a_valid_study(tmp_path: Path) -> None:
    path = init(tmp_path / "study.yaml")
    spec = read_spec(path)
    assert [a.name for a in spec.variants] == ["carafe", "convnextv2_atto"]
    with pytest.raises(StudyError, match="exists already"):
        init(path)
    uncommented = TEMPLATE.replace("# weights:", "weights:").replace("init: scratch", "init: transfer")
    uncommented = uncommented.replace("# transfer_min:", "transfer_min:").replace("# out:", "out:")
    (tmp_path / "more.yaml").write_text(uncommented)
    assert read_spec(tmp_path / "more.yaml").weights == "yolo11n.pt"


WRONG = [
    ("seeds: [3, 1]", "seed: 3", 8, r"unknown key 'seed'.*Did you mean 'seeds'"),
    ("  margin: 0.02", "  margn: 0.02", 13, r"unknown key of metrics 'margn'.*'margin'"),
    ("  margin: 0.02", "  margin: much", 13, "expected a number"),
    ("  margin: 0.02", "  primary: AP60", 13, "expected one of AP, AP50, AP75"),
    ("seeds: [3, 1]", "seeds: 0", 8, "seeds: expected how many"),
    ("seeds: [3, 1]", "seeds: [1, 1]", 8, "different whole numbers"),
    ("seeds: [3, 1]", "seeds: true", 8, "seeds: expected"),
    ("  lr0: 0.02", "  seed: 4", 11, "'seed' cannot be set here"),
    ("  lr0: 0.02", "  time: 4", 11, "different numbers of epochs"),
    ("  lr0: 0.02", "  batch: -1", 11, "automatic batches would differ"),
    ("  epochs: 7", "  epochs: 7\n  epochs: 8", 11, "written twice, first in line 10"),
    ("  - carafe", "  - carafe\n  - carafe", 5, "used twice"),
    ("  - {model: other.yaml}", "  - {model: best.pt}", 7, "is a checkpoint"),
    ("  - carafe", "  - convnextv2_atto(weights=imagenet)", 4, "'init: scratch' holds for every arm"),
    ("  - {model: other.yaml}", "  - {modle: other.yaml}", 7, "Did you mean 'model'"),
    ("  - {model: other.yaml}", "  - {model: a.yaml, graft: carafe}", 7, "either graft:"),
    ("  - {model: other.yaml}", "  - 17", 7, "expected a graft"),
    ("base: yolo11n", "base: mine.yaml", 2, "no larger stock scale|names|is already"),
    ("base: yolo11n", "base: [yolo11n]", 2, "base: expected a text"),
    ("seeds: [3, 1]", "seeds: 3\ninit: transfr", 9, "Did you mean 'transfer'"),
    ("seeds: [3, 1]", "seeds: 3\nweights: a.pt", 9, "belongs to 'init: transfer'"),
    ("seeds: [3, 1]", "seeds: 3\ninit: transfer\nweights: none", 10, "belongs to 'init: pretrained'"),
    ("seeds: [3, 1]", "seeds: 3\nexecutor: slurm", 9, "expected one of local, ray"),
    ("seeds: [3, 1]", "seeds: 3\naddress: auto", 9, "belongs to 'executor: ray'"),
    ("seeds: [3, 1]", "seeds: 3\nworkers: 0", 9, "workers: expected"),
    ("seeds: [3, 1]", "seeds: 3\ntrack: [mlfow]", 9, "Did you mean 'mlflow'"),
    ("seeds: [3, 1]", "seeds: 3\ncontrols: [scales]", 9, "Did you mean 'scale'"),
    ("seeds: [3, 1]", "seeds: 3\n  indented: wrong", 9, "is not valid YAML"),
    ("seeds: [3, 1]", "seeds: 3\nmargin: 0.02", 9, "'margin' belongs under 'metrics:'"),
    ("seeds: [3, 1]", "seeds: 3\nlr0: 0.02", 9, "'lr0' belongs under 'train:'"),
    ("seeds: [3, 1]", "seeds: !!python/object/apply:os.getcwd []", 8, "is not valid YAML"),
]


@pytest.mark.parametrize(("old", "new", "line", "message"), WRONG, ids=[new.strip()[:40] for _, new, _, _ in WRONG])
def test_wrong_files_name_their_line(tmp_path: Path, old: str, new: str, line: int, message: str) -> None:
    assert old in GOOD
    text = GOOD.replace(old, new)
    if "mine.yaml" in new:
        line = None  # the missing control is a default; it has no line of its own
    with pytest.raises(StudyError, match=message) as caught:
        read(tmp_path, text)
    assert caught.value.location is not None
    assert caught.value.location.line == line
    assert list(tmp_path.iterdir()) == [tmp_path / "s.yaml"]


@pytest.mark.parametrize("missing", ["data", "base", "variants", "seeds"])
def test_missing_keys(tmp_path: Path, missing: str) -> None:
    text = "\n".join(
        line for line in ("data: d", "base: yolo11n", "variants: [carafe]", "seeds: 2") if missing not in line
    )
    with pytest.raises(StudyError, match=missing):
        read(tmp_path, text)


@pytest.mark.parametrize("text", ["", "- a\n- b", "17", "\x00"])
def test_files_that_are_no_study(tmp_path: Path, text: str) -> None:
    with pytest.raises(StudyError):
        read(tmp_path, text)
    with pytest.raises(StudyError, match="cannot be read"):
        read_spec(tmp_path / "absent.yaml")


def test_training_arguments_are_checked_against_ultralytics(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    located = read_spec(tmp_path / "s.yaml").located
    check_train_keys(located, ["epochs", "lr0"])
    with pytest.raises(StudyError, match=r"line 11: .*no training argument 'lr0'.*'lr_0'"):
        check_train_keys(located, ["epochs", "lr_0"])


@pytest.mark.parametrize(
    ("base", "larger"),
    [
        ("yolo11n", "yolo11s"),
        ("yolov8m.yaml", "yolov8l"),
        ("yolov9t", "yolov9s"),
        ("yolov10m", "yolov10b"),
        ("yolo26l-seg", "yolo26x-seg"),
        ("yolo12n", "yolo12s"),
        ("rtdetr-l", "rtdetr-x"),
        ("yolo11x", None),
        ("mine.yaml", None),
        ("yolo11n+carafe", None),
    ],
)
def test_next_scale(base: str, larger: str | None) -> None:
    assert next_scale(base) == larger


def test_changes_are_told_and_only_additions_count_as_such(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD)
    (tmp_path / "data.yaml").write_text("nc: 1")
    old = read_spec(tmp_path / "s.yaml").identity()
    (tmp_path / "s.yaml").write_text(GOOD.replace("epochs: 7", "epochs: 8"))
    (tmp_path / "data.yaml").write_text("nc: 2")
    new = read_spec(tmp_path / "s.yaml").identity()
    assert changes(old, new) == [
        "data.yaml: the content of this file is another one",
        "train.epochs: was 7, is 8",
    ]
    assert not only_adds(old, new)
    more = {**old, "seeds": [3, 1, 9], "variants": {**old["variants"], "new": "yolo11n+new"}}
    assert only_adds(old, more)
    assert not only_adds(more, old)


def test_a_runs_configuration_counts_files_by_content(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "s.yaml").write_text(GOOD)
        (folder / "data.yaml").write_text("nc: 1")
        spec = read_spec(folder / "s.yaml")
        config = config_of(spec, spec.base, 3)
        assert config.model == "yolo11n.yaml"
        assert config.data == str(folder / "data.yaml")
        digests.append(config.digest())
    assert digests[0] == digests[1]
    (tmp_path / "two" / "data.yaml").write_text("nc: 2")
    assert config_of(read_spec(tmp_path / "two" / "s.yaml"), spec.base, 3).digest() != digests[0]
    assert dataclasses.replace(config, seed=4).digest() != config.digest()


@pytest.mark.parametrize(
    "model",
    [
        "yolo11n+convnextv2_atto(width=0.5,weights=enc.v2.safetensors)",
        "yolo11n+convnextv2_atto(weights='my folder/enc.safetensors')",
        "mine.yaml",
    ],
)
def test_a_weights_file_inside_a_model_counts_by_content(model: str, tmp_path: Path) -> None:
    (tmp_path / "my folder").mkdir()
    files = [tmp_path / "enc.v2.safetensors", tmp_path / "my folder" / "enc.safetensors"]
    (tmp_path / "mine.yaml").write_text("backbone:\n  - [-1, 1, convnextv2_atto, [0.5, enc.v2.safetensors]]\n")
    text = GOOD.replace("{model: other.yaml}", f'{{name: own, model: "{model}"}}')
    text = text.replace("train:", "init: pretrained\nweights: none\ntrain:")
    digests = []
    for content in (b"1", b"2"):
        for file in files:
            file.write_bytes(content)
        spec = read(tmp_path, text)
        digests.append({arm.name: config_of(spec, arm, 3).digest() for arm in spec.arms})
    changed = {name for name, digest in digests[0].items() if digests[1][name] != digest}
    assert changed == {"own"}


def test_the_control_starts_from_its_own_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(GOOD.replace("seeds: [3, 1]", "seeds: 2\ninit: transfer"))
    spec = read_spec(tmp_path / "s.yaml")
    weights = {arm.role: config_of(spec, arm, 0).weights for arm in spec.arms}
    assert weights == {"base": "yolo11n.pt", "variant": "yolo11n.pt", "control": "yolo11s.pt"}
