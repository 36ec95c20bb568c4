"""Sound combinations of grafts, as people try them: a base, and up to four terms of different kinds in any order."""

from __future__ import annotations

from hypothesis import strategies as st

from detgraft.catalog.losses import losses
from detgraft.catalog.registry import catalogue
from detgraft.catalog.shells import SHELLS, goes_inside

BASES = {
    "detect": ("yolo11n", "yolov8n", "yolo26n", "yolo12n", "yolov10n", "yolov9t", "yolov5n", "yolov6n", "yolov8n-p2",
               "yolov8n-p6", "yolov8n-ghost", "yolov3-tiny", "rtdetr-l", "rtdetr-resnet50"),
    "segment": ("yolo11n-seg", "yolov8n-seg", "yolo26n-seg"),
    "pose": ("yolo11n-pose", "yolov8n-pose", "yolo26n-pose"),
    "obb": ("yolo11n-obb", "yolov8n-obb", "yolo26n-obb"),
    "classify": ("yolo11n-cls", "yolov8n-cls"),
}  # fmt: skip
TASKS = {base: task for task, bases in BASES.items() for base in bases}

BACKBONES = ("convnextv2_atto", "repvit_m0_6", "unireplknet_a", "lsknet_t", "pkinet_t", "vanillanet_5", "timm/resnet18")
NECKS = ("bifpn", "bifpn(layers=2)", "afpn", "slimneck", "asf", "hsfpn", "gfpn", "neck(from=yolov8.yaml)",
         "neck(from=yolo11.yaml)", "neck(from=yolov5.yaml)")  # fmt: skip
SITES = ("", "", "@backbone", "@head", "@backbone.4", "@head.0", "@head.3")
PLACES = ("", "", ",at=bottleneck", ",at=cv1", ",at=cv2", ",at=after")


@st.composite
def combinations(draw: st.DrawFn) -> str:
    """An expression in which every term is sound by itself; together they build and learn, or are refused."""
    blocks = [entry.name for entry in catalogue if entry.site in ("upsample", "downsample", "stage", "C3k2", "Concat")]
    inside = [entry.name for entry in catalogue if goes_inside(entry)]
    shells = ["csp", *(shell.alias or shell.name for shell in SHELLS)]
    place = st.sampled_from(SITES)
    kinds = {
        "level": st.sampled_from(("p2", "p6")),
        "backbone": st.sampled_from(BACKBONES),
        "neck": st.sampled_from(NECKS),
        "refiner": st.sampled_from(("dyhead", "asff", "dyhead(blocks=2)")),
        "box": st.sampled_from([entry.name for entry in losses if entry.kind == "box"]),
        "class": st.sampled_from([entry.name for entry in losses if entry.kind == "class"]),
        "block": st.builds(lambda name, site: f"{name.lower()}{site}", st.sampled_from(blocks), place),
        "shell": st.builds(
            lambda shell, site, inner, at: f"{shell.lower()}{site}({inner.lower()}{at})",
            st.sampled_from(shells), place, st.sampled_from(inside), st.sampled_from(PLACES),
        ),
    }  # fmt: skip
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=4, unique=True))
    base = draw(st.one_of(*(st.sampled_from(bases) for bases in BASES.values())))
    return "+".join([base, *(draw(kinds[kind]) for kind in chosen)])
