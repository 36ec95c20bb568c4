"""Every planted defect is found by the check that is made for it, with the layer and the YAML line in its message."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from verify_support import only_failure, run_check

FORMATS_WITH_ONNX = "onnx"


@pytest.mark.parametrize(
    ("block", "name", "words"),
    [
        ("PlantedDeadParameter", "gradients", ["'forgotten'", "receives no gradient"]),
        ("PlantedDeadParameter", "ddp", ["'forgotten'", "unused"]),
        ("PlantedNotPicklable", "portability", ["cannot be pickled"]),
        ("PlantedRandomForward", "seeds", ["draws random numbers in evaluation mode"]),
        ("PlantedHalfOverflow", "gradients", ["beyond half precision", "mul"]),
        ("PlantedBatchDependent", "shapes", ["when others are in its batch"]),
        ("PlantedBadFuse", "fuse", ["answers differently once fused"]),
        ("PlantedUnseeded", "seeds", ["'gain'", "two builds with the same seed"]),
    ],
)
def test_defect_is_named(tiny: Callable[[str], str], block: str, name: str, words: list[str]) -> None:
    reason = only_failure(tiny(f"{block}, [128]"), name)
    for word in [*words, "layer 2", block, "line 7"]:
        assert word in reason, (word, reason)


def test_weights_that_ignore_the_seed_are_named() -> None:
    reason = only_failure("yolo11n+PlantedFixedSeed@backbone.3", "seeds")
    for word in ("'gain'", "the same for every seed", "PlantedFixedSeed"):
        assert word in reason, (word, reason)


def test_wrong_channels_are_named_before_anything_is_built(tiny: Callable[[str], str]) -> None:
    model = tiny("PlantedWrongChannels, [128]")
    report = run_check(model, "shapes", "gradients", "export")
    assert report["shapes"].status == "fail"
    for word in ("layer 2", "PlantedWrongChannels", "line 7", "declares 32 output channels and returns 64"):
        assert word in report["shapes"].reason
    assert [report[name].status for name in ("gradients", "export")] == ["skipped", "skipped"]
    assert not report.passed


def test_an_export_that_differs_is_named(tiny: Callable[[str], str]) -> None:
    reason = only_failure(tiny("PlantedOtherExport, [128]"), "export")
    for word in ("torchscript", "layer 2", "PlantedOtherExport", "line 7", "answers differently"):
        assert word in reason, (word, reason)


def test_a_baked_batch_size_is_named(tiny: Callable[[str], str]) -> None:
    pytest.importorskip("onnxruntime")
    reason = only_failure(tiny("PlantedStaticBatch, [128]"), "export")
    assert "onnx-dynamic" in reason
    assert "torchscript" not in reason
    for word in ("layer 2", "PlantedStaticBatch", "line 7"):
        assert word in reason, (word, reason)


def test_the_same_model_without_a_defect_passes(tiny: Callable[[str], str]) -> None:
    report = run_check(tiny("PlantedSound, [128]"))
    assert report.passed, [(r.name, r.reason) for r in report.results if r.status == "fail"]
    assert [r.name for r in report.results if r.status == "skipped"] == ["losses", "data"]
    assert report["portability"].figures["stock Ultralytics equal"]
    assert report["ddp"].figures["losses"][0] != report["ddp"].figures["losses"][1]
