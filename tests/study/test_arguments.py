"""Training arguments of a study: what acts alike on every arm is admitted, everything else refused with its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detgraft.study.design.errors import StudyError
from detgraft.study.design.fields import check_train_keys
from detgraft.study.design.spec import StudySpec, read_spec
from detgraft.upstream.model.models import argument_names

STUDY = "data: d.yaml\nbase: yolo11n\nvariants: [carafe]\nseeds: 2\ncontrols: none\ntrain:\n  {}\n"
# The arguments of Ultralytics 8.3.0, the oldest release that is admitted.
OLDEST = """
task mode model data epochs time patience batch imgsz save save_period cache device workers project name
exist_ok pretrained optimizer verbose seed deterministic single_cls rect cos_lr close_mosaic resume amp
fraction profile freeze multi_scale overlap_mask mask_ratio dropout val split save_json save_hybrid conf iou
max_det half dnn plots source vid_stride stream_buffer visualize augment agnostic_nms classes retina_masks
embed show save_frames save_txt save_conf save_crop show_labels show_conf show_boxes line_width format keras
optimize int8 dynamic simplify opset workspace nms lr0 lrf momentum weight_decay warmup_epochs warmup_momentum
warmup_bias_lr box cls dfl pose kobj label_smoothing nbs hsv_h hsv_s hsv_v degrees translate scale shear
perspective flipud fliplr bgr mosaic mixup copy_paste copy_paste_mode auto_augment erasing crop_fraction cfg
tracker
"""


def read(tmp_path: Path, train: str) -> StudySpec:
    (tmp_path / "s.yaml").write_text(STUDY.format(train))
    return read_spec(tmp_path / "s.yaml")


@pytest.mark.trust
def test_every_argument_of_the_installed_and_of_the_oldest_release_is_decided() -> None:
    from detgraft.study.design.arguments import ADMITTED, REFUSED

    assert set(argument_names()[1]) | set(OLDEST.split()) <= ADMITTED | set(REFUSED)
    assert not ADMITTED & set(REFUSED)
    assert all((reason and reason[-1] not in ".:") or reason.endswith(":") for reason in REFUSED.values())


REASONS = {
    "freeze: 10": "it counts layers, which are other ones in each arm, and random ones wherever a graft stands",
    "single_cls: true": "write a data YAML with one class",
    "cfg: other.yaml": "would pass by what is checked here",
    "distill_model: yolo11x.pt": "layer by layer",
    "conf: 0.4": "measures every arm in one way of its own",
    "agnostic_nms: true": "measures every arm in one way of its own",
    "format: onnx": "belongs to exports",
    "save_crop: true": "belongs to prediction",
    "crop_fraction: 0.9": "it changes which part of a picture Ultralytics classifies",
}


@pytest.mark.trust
@pytest.mark.parametrize("line", REASONS)
def test_what_does_not_act_alike_is_refused_with_its_reason(line: str, tmp_path: Path) -> None:
    name = line.partition(":")[0]
    with pytest.raises(StudyError, match=rf"s\.yaml, line 7: '{name}' cannot be set here: .*{REASONS[line]}"):
        read(tmp_path, line)


@pytest.mark.trust
def test_an_argument_that_nobody_has_looked_at_is_refused(tmp_path: Path) -> None:
    located = read(tmp_path, "brand_new: 1").located
    with pytest.raises(StudyError, match=r"line 7: 'brand_new' cannot be set here: it is newer than this detgraft"):
        check_train_keys(located, ["epochs", "brand_new"])
    # The nearest name is one that can be set.
    with pytest.raises(StudyError, match=r"no training argument 'brand_new'\.$"):
        check_train_keys(located, ["brand_news"] and ["epochs"])


@pytest.mark.trust
@pytest.mark.parametrize(("written", "value"), [("1e-3", 0.001), ("5E-4", 0.0005), ("0.01", 0.01)])
def test_a_number_without_a_point_is_a_number(written: str, value: float, tmp_path: Path) -> None:
    spec = read(tmp_path, f"lr0: {written}")
    assert spec.train["lr0"] == value
    assert isinstance(spec.train["lr0"], float)


@pytest.mark.parametrize(("written", "value"), [("1", [1]), ("[2, 0]", [0, 2])])
def test_classes_are_a_list(written: str, value: list[int], tmp_path: Path) -> None:
    assert read(tmp_path, f"classes: {written}").train["classes"] == value


@pytest.mark.trust
@pytest.mark.parametrize("written", ["[]", "[1, 1]", "[-1]", "cell", "[true]", "1.5"])
def test_wrong_classes_are_refused(written: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"line 7: classes: expected different class numbers from 0 up"):
        read(tmp_path, f"classes: {written}")


@pytest.mark.trust
@pytest.mark.parametrize(("values", "wrong"), [({"lr0": "much"}, {"lr0"}), ({"mosaic": 3.0, "lrf": 0.1}, {"mosaic"})])
def test_a_value_that_ultralytics_stops_at_is_known_before(values: dict[str, Any], wrong: set[str]) -> None:
    from detgraft.upstream.service.arms import wrong_arguments

    assert set(wrong_arguments(values)) == wrong


def test_weights_of_an_expression_are_read_and_not_searched_for() -> None:
    from detgraft.study.design.terms import asks_for_weights

    assert asks_for_weights("yolo11n+convnextv2_atto( weights = imagenet )")
    assert not asks_for_weights("yolo11n+convnextv2_atto(weights=None)")
    assert not asks_for_weights("my weights=1/mine.yaml")
    assert not asks_for_weights("yolo11n+carafe")
