"""Every system trains, validates, predicts and resumes; its checkpoint opens anywhere that detgraft is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support import BY_KEY, KEYS, Run, go_on_in_new_process, sizes_seen, tensors_in

from detgraft.upstream.release import capabilities
from detgraft.verify.checks.export import missing_tools

# CI trains two of the six systems; the others cost twice as much again and differ from them in what is built alone.
CYCLES = [pytest.param(key, marks=[] if key in ("carafe", "convnextv2") else pytest.mark.slow) for key in KEYS]

Interrupted = Callable[[str], Run]
Reopened = Callable[[str], tuple[Run, dict[str, Any]]]


def boxes_of(key: str, wanted: int) -> int:
    """Boxes that a prediction at confidence 0 gives: old releases keep all 300 of RT-DETR's."""
    return 300 if key == "rtdetr" and not capabilities.HAS_END2END else wanted


def open_best(run: Run, best: str) -> Any:
    from detgraft import YOLO

    return YOLO(best)


@pytest.mark.parametrize("key", CYCLES)
def test_an_interrupted_training_leaves_a_checkpoint(key: str, interrupted: Interrupted) -> None:
    run = interrupted(key)
    state = torch.load(run.last, map_location="cpu", weights_only=False)
    assert state["epoch"] == 0
    assert state["optimizer"] is not None


@pytest.mark.parametrize("key", CYCLES)
def test_a_process_with_ultralytics_alone_resumes(key: str, reopened: Reopened) -> None:
    run, found = reopened(key)
    assert found["epoch"] == 1, "the second of two epochs"
    assert Path(found["best"]) == run.best
    assert found["detgraft"], "opening the checkpoint imports detgraft"


@pytest.mark.parametrize("key", CYCLES)
def test_a_process_with_ultralytics_alone_predicts_and_validates(key: str, reopened: Reopened) -> None:
    _, found = reopened(key)
    assert [shape[-1] for shape in found["boxes"]] == [6]
    assert found["boxes"][0][0] == boxes_of(key, 5)
    assert 0.0 <= found["map"] <= 1.0


@pytest.mark.parametrize("key", CYCLES)
def test_a_process_with_ultralytics_alone_trains_on_another_set(key: str, reopened: Reopened) -> None:
    _, found = reopened(key)
    assert Path(found["elsewhere"]).is_file()


@pytest.mark.parametrize("key", CYCLES)
def test_exports_compute_what_the_model_computes(key: str, reopened: Reopened) -> None:
    run, found = reopened(key)
    size = BY_KEY[key].imgsz
    x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(2))
    model = open_best(run, found["best"]).model.float().eval()
    with torch.no_grad():
        expected = next(tensors_in(model(x)))
    outputs = {"torchscript": lambda path: next(tensors_in(_run_torchscript(path, x))), "onnx": _run_onnx(x)}
    for form, path in found["exports"].items():
        output = outputs[form](path)
        assert output.shape == expected.shape
        if key == "rtdetr":  # rounding may change the order of its queries
            expected_scores, scores = (value[..., 4:].amax(-1).sort(-1).values for value in (expected, output))
            torch.testing.assert_close(scores, expected_scores, rtol=1e-3, atol=1e-4, msg=form)
        else:
            difference = (output - expected).abs().max() / expected.abs().max()
            assert difference < 1e-4, f"{form}: {difference}"
    if "onnx" not in found["exports"]:
        pytest.skip(f"TorchScript agrees; ONNX: {missing_tools('onnx')}")


def _run_torchscript(path: str, x: torch.Tensor) -> Any:
    return torch.jit.load(path)(x)  # type: ignore[no-untyped-call]


def _run_onnx(x: torch.Tensor) -> Callable[[str], torch.Tensor]:
    def run(path: str) -> torch.Tensor:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])

    return run


@pytest.mark.parametrize("key", CYCLES)
@pytest.mark.parametrize("rect", [True, False])
def test_validation_of_rectangular_and_square_batches(
    key: str, rect: bool, interrupted: Interrupted, wide_set: Path, tmp_path: Path
) -> None:
    model = open_best(interrupted(key), str(interrupted(key).last))
    size = BY_KEY[key].imgsz
    with sizes_seen() as sizes:
        model.add_callback("on_val_start", lambda _: sizes.clear())  # what was seen before is the count of operations
        metrics = model.val(
            data=str(wide_set),
            imgsz=size,
            batch=2,
            rect=rect,
            workers=0,
            plots=False,
            device="cpu",
            verbose=False,
            project=str(tmp_path),
        )
    assert 0.0 <= metrics.results_dict["metrics/mAP50(B)"] <= 1.0
    assert sizes
    if key != "rtdetr":  # its own loader always makes squares
        assert all((height < width) == rect for height, width in sizes), sizes


@pytest.fixture(scope="session")
def wide_set(made_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made set with pictures twice as wide as high, so that rectangular batches differ from square ones."""
    folder = tmp_path_factory.mktemp("wide")
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        for picture in sorted((made_set.parent / "images" / part).iterdir()):
            image = cv2.imread(str(picture))
            cv2.imwrite(str(folder / "images" / part / f"{picture.stem}.png"), cv2.resize(image, (128, 64)))
            label = made_set.parent / "labels" / part / f"{picture.stem}.txt"
            (folder / "labels" / part / label.name).write_bytes(label.read_bytes())
    data = folder / "data.yaml"
    data.write_text("train: images/train\nval: images/val\nnames: [a, b, c]\n", "utf-8")
    return data


@pytest.mark.parametrize("key", CYCLES)
@pytest.mark.parametrize("size", [(352, 640), (320, 416)])
def test_prediction_at_odd_sizes(key: str, size: tuple[int, int], interrupted: Interrupted) -> None:
    model = open_best(interrupted(key), str(interrupted(key).last))
    picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    with sizes_seen() as sizes:
        (result,) = model.predict(picture, imgsz=list(size), conf=0.0, max_det=7, verbose=False, device="cpu")
    assert result.orig_shape == size
    assert tuple(result.boxes.data.shape) == (boxes_of(key, 7), 6)
    assert sizes == {size}
    if key != "rtdetr":  # not every release clips its boxes to the picture
        boxes = result.boxes.xyxy
        assert (boxes[:, 0::2] <= size[1]).all()
        assert (boxes[:, 1::2] <= size[0]).all()


@pytest.mark.skipif(not capabilities.HAS_SAFE_LOAD, reason="HAS_SAFE_LOAD: this release has no restricted loading")
@pytest.mark.parametrize(
    "key",
    [pytest.param(key, marks=[] if key == "carafe" else pytest.mark.slow) for key in KEYS],
)
def test_restricted_loading_after_import_detgraft(
    key: str, interrupted: Interrupted, made_set: Path, other_set: Path
) -> None:
    run = interrupted(key)
    found = go_on_in_new_process(run, made_set, other_set, detgraft_first=True, env={"ULTRALYTICS_SAFE_LOAD": "1"})
    assert found["epoch"] == 1
    assert found["boxes"][0][0] == boxes_of(key, 5)
    assert Path(found["elsewhere"]).is_file()
