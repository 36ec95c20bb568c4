"""Arguments that Ultralytics takes for something else without a word: refused, or said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from trust_support import SMALL, log, written

import detgraft
from detgraft.cli import run
from detgraft.demo.made import make_shapes
from detgraft.errors import ArgumentError, DataError, DetgraftError

pytestmark = pytest.mark.trust

TINY = {"epochs": 1, "imgsz": 64, "batch": 4, "workers": 0, "plots": False, "device": "cpu", "verbose": False}


@pytest.fixture(scope="module")
def made_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_shapes(tmp_path_factory.mktemp("data") / "set", train=4, val=2, imgsz=64, seed=1))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint of the small model."""
    path = tmp_path_factory.mktemp("stock") / "stock.pt"
    source = path.parent / "yolo11n-small.yaml"
    source.write_text(SMALL.replace("CARAFE, []", 'nn.Upsample, [None, 2, "nearest"]'), "utf-8")
    detgraft.YOLO(source).save(str(path))
    return str(path)


def small() -> Any:
    return detgraft.YOLO(written(SMALL))


def test_frozen_layers_without_given_weights_are_named(stock: str, made_set: str) -> None:
    model = detgraft.YOLO(written(SMALL.replace("Conv, [512", "DynamicConv, [512")), transfer=stock)
    with pytest.raises(ArgumentError) as caught:
        model.train(data=made_set, freeze=5, **TINY)
    text = str(caught.value)
    assert "3 (DynamicConv)" in text
    assert "freeze_random=True" in text
    assert "0 (Conv)" not in text
    assert f"{len(model.model.model[3].state_dict())} tensors" in text


def test_every_layer_of_an_untrained_description_is_random(made_set: str) -> None:
    with pytest.raises(ArgumentError, match=r"0 \(Conv\), 1 \(Conv\).* 12 tensors"):
        small().train(data=made_set, freeze=[0, 1], **TINY)


def test_a_frozen_backbone_graft_is_random_unless_its_row_names_weights(stock: str, made_set: str) -> None:
    model = detgraft.YOLO("yolo11n+convnextv2_atto")
    with pytest.raises(ArgumentError, match=r"0 \(convnextv2_atto\).*136 tensors"):
        model.train(data=made_set, freeze=1, **TINY)


def test_given_layers_freeze_and_random_ones_on_request(stock: str, made_set: str, tmp_path: Path) -> None:
    model = detgraft.YOLO(written(SMALL), transfer=stock)
    before = model.model.model[1].conv.weight.clone()
    model.train(data=made_set, freeze=2, project=str(tmp_path), name="given", **TINY)
    assert (model.model.model[1].conv.weight.cpu() - before).abs().max() < 1e-3  # stored in half precision
    small().train(data=made_set, freeze=2, freeze_random=True, project=str(tmp_path), name="random", **TINY)
    assert (tmp_path / "random" / "weights" / "last.pt").is_file()


@pytest.mark.parametrize("freeze", ["backbone", "10", True, -1, 99, [99], ["a"], 1.5])
def test_what_freezes_nothing_is_refused(freeze: Any, made_set: str) -> None:
    with pytest.raises(ArgumentError, match="freeze takes a number of layers"):
        small().train(data=made_set, freeze=freeze, **TINY)


def test_the_backbones_number_of_layers_is_told(made_set: str) -> None:
    with pytest.raises(ArgumentError, match="freeze=5"):
        small().train(data=made_set, freeze="backbone", **TINY)


@pytest.mark.parametrize("batch", [0, -2, True, "8", 2.5])
def test_a_batch_of_no_pictures_is_refused(batch: Any, made_set: str) -> None:
    with pytest.raises(ArgumentError, match="batch must be"):
        small().train(data=made_set, **{**TINY, "batch": batch})


def test_transfer_min_needs_a_transfer() -> None:
    with pytest.raises(ArgumentError, match="transfer_min=0.5 needs transfer="):
        detgraft.YOLO("yolo11n+carafe", transfer_min=0.5)
    with pytest.raises(ArgumentError, match="needs transfer="):
        detgraft.RTDETR("rtdetr-l", transfer_min=0.5)


def test_resume_of_a_description_is_refused(made_set: str) -> None:
    for model in (small(), detgraft.YOLO("yolo11n+carafe")):
        with pytest.raises(ArgumentError, match="resume=True goes on with a training's own checkpoint"):
            model.train(data=made_set, resume=True, **TINY)


def test_resume_with_other_epochs_is_refused(made_set: str, tmp_path: Path) -> None:
    model = small()
    kept: list[Path] = []

    def stop(trainer: Any) -> None:
        if trainer.epoch == 0 and trainer.last.is_file():
            kept.append(Path(trainer.last))
            raise KeyboardInterrupt

    model.add_callback("on_model_save", stop)
    with pytest.raises(KeyboardInterrupt):
        model.train(data=made_set, project=str(tmp_path), name="broken", **{**TINY, "epochs": 2})
    for call in (
        lambda: detgraft.YOLO(kept[0]).train(resume=True, epochs=5),
        lambda: small().train(resume=str(kept[0]), epochs=5),
    ):
        with pytest.raises(ArgumentError, match="epochs=2 that it began with"):
            call()


@pytest.mark.parametrize("name", ["onx", "torchscrip", "safetensor", "nothing"])
def test_an_unknown_export_format_is_refused(name: str) -> None:
    with pytest.raises(ArgumentError, match="there is no export format"):
        small().export(format=name)


def test_random_weights_are_said_before_validating_and_predicting(made_set: str, stock: str) -> None:
    with log() as lines:
        small().val(data=made_set, imgsz=64, batch=2, workers=0, plots=False, device="cpu", verbose=False)
    assert any("val:" in line and "random weights" in line for line in lines)
    import numpy

    picture = numpy.zeros((64, 64, 3), dtype="uint8")
    with log() as lines:
        small().predict(picture, imgsz=64, verbose=False)
    assert any("predict:" in line and "random weights" in line for line in lines)
    with log() as lines:
        detgraft.YOLO(stock).predict(picture, imgsz=64, verbose=False)
        detgraft.YOLO(written(SMALL), transfer=stock).predict(picture, imgsz=64, verbose=False)
    assert not any("random weights" in line for line in lines)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("freeze: 2", "freeze_random=True"),
        ("freeze: backbone", "freeze takes"),
        ("batch: 0", "batch must be"),
        ("data: absent.yaml", "absent.yaml"),
        ("resume: true", "goes on with"),
    ],
)
def test_a_file_of_settings_is_checked_like_arguments(line: str, said: str, made_set: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(line + "\n", "utf-8")
    data = {} if line.startswith("data") else {"data": made_set}
    others = {key: value for key, value in TINY.items() if not line.startswith(key)}
    with pytest.raises(DetgraftError, match=said):
        small().train(cfg=str(settings), project=str(tmp_path), **data, **others)
    assert not list(tmp_path.rglob("args.yaml"))  # no run was begun


def test_a_given_argument_wins_over_the_file_of_settings(made_set: str, tmp_path: Path) -> None:
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"batch: 0\nproject: {tmp_path / 'of-file'}\ndata: {made_set}\n", "utf-8")
    small().train(cfg=str(settings), **{**TINY, "batch": 2, "name": "run"})
    assert (tmp_path / "of-file" / "run" / "weights" / "last.pt").is_file()


def test_no_download_script_of_a_list_of_data_sets_runs(made_set: str, tmp_path: Path) -> None:
    hostile = tmp_path / "hostile.yaml"
    ran = tmp_path / "ran"
    hostile.write_text(
        f"path: {tmp_path}\ntrain: absent\nval: absent\nnames: [a]\ndownload: |\n  open({str(ran)!r}, 'w')\n", "utf-8"
    )
    with pytest.raises(DetgraftError):
        small().train(data=[made_set, str(hostile)], project=str(tmp_path), name="run", **TINY)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("mode", "words", "said"),
    [
        ("train", ["freeze=backbone"], "freeze takes"),
        ("train", ["batch=0"], "batch must be"),
        ("train", ["resume=True"], "goes on with"),
        ("train", ["freeze=2"], "freeze_random=True"),
        ("train", ["transfer_min=0.5"], "needs transfer="),
        ("export", ["format=onx"], "Did you mean 'onnx'"),
    ],
)
def test_the_command_line_refuses_the_same(mode: str, words: list[str], said: str, made_set: str) -> None:
    name = written(SMALL)
    data = [f"data={made_set}", "epochs=1", "imgsz=64", "device=cpu"] if mode == "train" else []
    with pytest.raises(ArgumentError, match=said):
        run.command(mode, [f"model={name}", *data, *words])


def test_an_embedding_of_a_backbones_list_is_refused_and_of_its_features_works() -> None:
    import numpy
    import ultralytics

    picture = numpy.zeros((96, 96, 3), dtype="uint8")
    for model in (detgraft.YOLO("yolov8n+repvit_m0_6"), ultralytics.YOLO("yolov8n+repvit_m0_6.yaml")):
        with pytest.raises(ArgumentError, match=r"layer 0 is the backbone 'repvit_m0_6'.* 4 \(stride 32\)"):
            model.predict(picture, embed=[0], imgsz=96, verbose=False)
        assert model.predict(picture, embed=[4], imgsz=96, verbose=False)[0].ndim == 1
    with pytest.raises(ArgumentError, match="embed takes layer numbers"):
        detgraft.YOLO("yolov8n+repvit_m0_6").predict(picture, embed=[99], imgsz=96, verbose=False)


@pytest.mark.parametrize("text", ["yolov8n-world+carafe", "yolov8s-worldv2+convnextv2_atto", "yoloe-11s-seg+carafe"])
def test_models_that_are_led_by_a_text_take_grafts(text: str) -> None:
    from detgraft.upstream.describe.resolve import locate

    if locate(f"{text.partition('+')[0]}.yaml") is None:
        pytest.skip("this release has no such model")
    model = detgraft.build(text, nc=3).eval()
    with torch.no_grad():
        answer = model(torch.rand(1, 3, 64, 64))
    assert any(type(layer).__module__.startswith("detgraft.") for layer in model.model)
    assert answer[0] is not None


def test_a_text_led_model_is_opened_as_ultralytics_own_class(tmp_path: Path) -> None:
    from detgraft.upstream.describe.resolve import locate

    if locate("yolov8n-world.yaml") is None:
        pytest.skip("this release has no such model")
    assert type(detgraft.YOLO("yolov8n-world+carafe").model).__name__ == "WorldModel"
    (tmp_path / "world.pt").touch()
    with pytest.raises(ArgumentError, match="models led by a text"):
        detgraft.YOLO("yolov8n-world+carafe", transfer=tmp_path / "world.pt")


def _set_with_script(folder: Path, marker: Path) -> Path:
    script = f"from pathlib import Path\nPath({str(marker)!r}).write_text('ran')\n"
    content = {"path": str(folder), "train": "images/train", "val": "images/val", "names": {0: "a"}, "download": script}
    path = folder / "evil.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def test_a_data_sets_script_does_not_run_unless_it_was_asked_for(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = _set_with_script(tmp_path / "set", marker)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: small().train(data=str(path), **TINY),
        lambda: small().val(data=str(path)),
        lambda: small().train(data=str(path.parent), **TINY),
        lambda: run.command("train", [f"model={written(SMALL)}", f"data={path}", "epochs=1"]),
    )
    for call in calls:
        with pytest.raises(DataError, match="download=True"):
            call()
        assert not marker.exists()
    with pytest.raises(Exception):  # noqa: B017 - the script runs and brings no pictures
        small().train(data=str(path), download=True, **TINY)
    assert marker.read_text() == "ran"


def test_a_script_is_taken_out_where_the_pictures_are_there(made_set: str, tmp_path: Path) -> None:
    content = {**yaml.safe_load(Path(made_set).read_text("utf-8")), "download": "raise SystemExit"}
    content["path"] = (
        str(Path(made_set).parent / content.get("path", ".")) if content.get("path") else str(Path(made_set).parent)
    )
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    from detgraft.upstream.model.data import prepare_data

    prepared = yaml.safe_load(Path(prepare_data(str(path), "detect", tmp_path / "runs")).read_text("utf-8"))
    assert "download" not in prepared
    assert prepared["names"] == content["names"]
    kept = yaml.safe_load(Path(prepare_data(str(path), "detect", tmp_path / "runs", download=True)).read_text("utf-8"))
    assert kept["download"] == "raise SystemExit"
    assert yaml.safe_load(path.read_text("utf-8")) == content
