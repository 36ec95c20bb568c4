"""Which of Ultralytics' training arguments a study takes: those that act alike on every arm.

The lists hold every argument of the releases 8.3.0 to 8.4.190; a test holds them against the installed one.
"""

from __future__ import annotations

ADMITTED = frozenset(
    (
        # how long and in which steps; early stopping follows the same rule in every arm
        *("epochs", "patience", "batch", "imgsz", "nbs", "fraction", "rect", "multi_scale", "close_mosaic"),
        # the optimiser
        *("optimizer", "lr0", "lrf", "cos_lr", "momentum", "weight_decay"),
        *("warmup_epochs", "warmup_momentum", "warmup_bias_lr"),
        # weights of the losses, by name and not by layer
        *("box", "cls", "cls_pw", "dfl", "pose", "kobj", "rle", "overlap_mask", "mask_ratio"),
        # pictures
        *("hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr"),
        *("bgr", "mosaic", "mixup", "cutmix", "copy_paste", "copy_paste_mode"),
        # how it is computed, and what is written beside
        *("amp", "deterministic", "workers", "cache", "compile", "channels_last"),
        *("verbose", "plots", "save_period"),
        # which rows of a stock head a checkpoint fills, by the classes' names
        "cls_remap",
        # measured as trained
        "classes",
        # of one task; refused before the training where the arms are for another
        *("dropout", "auto_augment", "erasing", "angle"),
    )
)
"""They act alike on every arm; ``classes`` because the same classes are then measured."""

OF_TASK = {"classify": ("dropout", "auto_augment", "erasing"), "obb": ("angle",)}
"""Arguments that only one task reads."""

_OWNED = "the study sets it for every run"
_MEASURED = "it changes what Ultralytics measures, while a study measures every arm in one way of its own"
_PREDICTION = "it belongs to prediction and would have no effect on a training"
_EXPORT = "it belongs to exports and would have no effect on a training"

REFUSED = {
    "model": "write it under base: or variants:",
    "data": "write it as the study's own data:",
    "seed": "write it as the study's own seeds:",
    "device": "write it as the study's own device:, which holds for every arm",
    "pretrained": "write it as the study's init:",
    "transfer": "write it as the study's init:",
    "transfer_min": "write it as the study's own transfer_min:",
    "plugins": "write it as the study's own plugins:",
    "time": "a limit in hours gives arms different numbers of epochs; set epochs",
    **dict.fromkeys(
        ("mode", "task", "project", "name", "exist_ok", "resume", "save", "save_dir", "val", "split"), _OWNED
    ),
    "cfg": "a file of further arguments would pass by what is checked here; write its arguments themselves",
    "freeze": "it counts layers, which are other ones in each arm, and random ones wherever a graft stands",
    "single_cls": "it trains all classes as one, but the labels are measured by their own names;"
    " write a data YAML with one class",
    "quantize": "it trains with 8-bit numbers where a layer allows it, which is not the same in each arm",
    **dict.fromkeys(
        ("distill_model", "dis"), "a teacher is matched layer by layer, and a graft changes which layers there are"
    ),
    **dict.fromkeys(("conf", "iou", "max_det", "agnostic_nms", "augment", "nms", "half", "dnn"), _MEASURED),
    **dict.fromkeys(("save_json", "save_hybrid"), "the study keeps the detections of every run itself"),
    **dict.fromkeys(
        (
            *("source", "vid_stride", "stream_buffer", "visualize", "retina_masks", "embed", "tracker", "line_width"),
            *("show", "show_labels", "show_conf", "show_boxes", "save_frames", "save_txt", "save_conf", "save_crop"),
        ),
        _PREDICTION,
    ),
    **dict.fromkeys(("format", "keras", "optimize", "int8", "dynamic", "simplify", "opset", "workspace"), _EXPORT),
    "crop_fraction": "it changes which part of a picture Ultralytics classifies, and newer releases do not read it",
    **dict.fromkeys(("dlog", "dgrad", "dlam"), "it weighs the loss of depth, which a study does not measure"),
    "label_smoothing": "Ultralytics' detection losses do not read it",
    "profile": "it times exports during the training; the study measures each arm's latency itself",
}
"""Each other argument with the reason."""

DECIDED = ADMITTED | REFUSED.keys()
"""Every argument of the releases that are known here; what is none of them is misspelt, or newer."""


def reason_against(name: str) -> str:
    """Say why a training argument cannot be set for a study; empty where it can.

    Args:
        name: One of Ultralytics' arguments.
    """
    if name in ADMITTED:
        return ""
    return REFUSED.get(name, "it is newer than this detgraft, which cannot say whether it acts alike on every arm")
