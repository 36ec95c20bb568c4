"""``import detgraft`` costs nothing and works before, after and beside every way of importing Ultralytics."""

from __future__ import annotations

import pytest
from support import answer, run_python

_LIGHT = """
import json, sys
import detgraft
from detgraft import list_grafts
names = [graft.name for graft in list_grafts("convnext*")]
heavy = [name for name in ("torch", "timm", "ultralytics", "numpy", "cv2") if name in sys.modules]
print(json.dumps({"heavy": heavy, "names": names, "dir": [n for n in detgraft.__all__ if n not in dir(detgraft)]}))
"""


def test_import_detgraft_is_light() -> None:
    found = answer(run_python(_LIGHT))
    assert found["heavy"] == []
    assert found["dir"] == []
    assert "convnextv2_atto" in found["names"]


_LOADED = """
import json, sys
{first}
from ultralytics import YOLO
imported = set(sys.modules)
YOLO("yolo11n.yaml")
names = ("timm", "huggingface_hub", "torchvision", "triton", "torch._dynamo", "torch.utils.flop_counter", "safetensors")
print(json.dumps([sorted(set(names) & imported), sorted(set(names) & set(sys.modules))]))
"""


def test_a_stock_model_loads_what_it_loads_without_detgraft() -> None:
    with_detgraft, alone = (answer(run_python(_LOADED.format(first=first))) for first in ("import detgraft", ""))
    assert with_detgraft == alone


def test_a_grafted_yaml_needs_no_timm_unless_it_names_a_backbone_of_timm() -> None:
    code = """
import json, sys
import detgraft
from ultralytics import YOLO
YOLO("yolo11n-carafe.yaml")
first = "timm" in sys.modules
YOLO("yolo11n-convnextv2.yaml")
print(json.dumps([first, "timm" in sys.modules]))
"""
    assert answer(run_python(code)) == [False, True]


def test_hooks_come_again_after_a_reload() -> None:
    code = """
import importlib, json
import detgraft
from ultralytics.nn import tasks
importlib.reload(tasks)
from ultralytics import YOLO
layer = YOLO("yolo11n-carafe.yaml").model.model[11]
print(json.dumps([hasattr(tasks.parse_model, "__detgraft_original__"), layer.type]))
"""
    assert answer(run_python(code)) == [True, "CARAFE"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    import detgraft

    with pytest.raises(AttributeError, match="nothing_like_it"):
        getattr(detgraft, "nothing_like_it")  # noqa: B009


_USE = """
import json
model = YOLO("yolo11n-carafe.yaml")
print(json.dumps({
    "type": model.model.model[11].type,
    "trainer": model._smart_load("trainer").__name__,
    "hooked": hasattr(type(model)._smart_load, "__detgraft_original__"),
    "once": not hasattr(type(model)._smart_load.__detgraft_original__, "__detgraft_original__"),
}))
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import detgraft; from ultralytics import YOLO",
        "from ultralytics import YOLO; import detgraft",
        pytest.param(
            "import detgraft; from ultralytics.engine.model import Model; from ultralytics import YOLO",
            marks=pytest.mark.slow,
        ),
        pytest.param("import detgraft; from ultralytics import RTDETR, YOLO", marks=pytest.mark.slow),
        pytest.param("import ultralytics, detgraft; from ultralytics import YOLO", marks=pytest.mark.slow),
        pytest.param("from detgraft import build; from ultralytics import YOLO", marks=pytest.mark.slow),
        pytest.param("import ultralytics.nn.tasks, detgraft; from ultralytics import YOLO", marks=pytest.mark.slow),
        pytest.param("import detgraft.blocks.carafe; from ultralytics import YOLO", marks=pytest.mark.slow),
        "from detgraft.upstream.release.capabilities import stock_yamls; from ultralytics import YOLO",
        pytest.param(
            "from detgraft.upstream.hooks.trainers import GraftedDetectionTrainer; from ultralytics import YOLO",
            marks=pytest.mark.slow,
        ),
        pytest.param("import detgraft.upstream.parser.parse; from ultralytics import YOLO", marks=pytest.mark.slow),
        pytest.param("import detgraft.upstream.hooks.tasks; from ultralytics import YOLO", marks=pytest.mark.slow),
        pytest.param("from detgraft import YOLO as Ours; from ultralytics import YOLO", marks=pytest.mark.slow),
    ],
)
def test_stock_yolo_understands_grafts_whatever_the_order_of_imports(imports: str) -> None:
    found = answer(run_python(f"{imports}\n{_USE}"))
    assert found == {"type": "CARAFE", "trainer": "GraftedDetectionTrainer", "hooked": True, "once": True}


def test_stock_models_keep_their_own_trainer() -> None:
    from ultralytics import YOLO

    assert YOLO("yolo11n.yaml")._smart_load("trainer").__module__.startswith("ultralytics.")
    assert YOLO("yolo11n-carafe.yaml")._smart_load("trainer").__module__ == "detgraft.upstream.hooks.trainers"
