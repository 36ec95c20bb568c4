"""Whole necks; terms of an expression only, since they are many rows. Their rows stand in ``zoo/necks``."""

from __future__ import annotations

from detgraft.catalog.spec import Graft, Provenance


def _neck(name: str, summary: str, paper: str, source: str, licence: str, *aliases: str) -> Graft:
    return Graft(
        name=name,
        target=f"detgraft.upstream.describe.necks:{name}",
        channels="structure",
        aliases=aliases,
        site="neck",
        summary=summary,
        provenance=Provenance(paper=paper, source=source, licence=licence),
    )


GRAFTS: tuple[Graft, ...] = (
    _neck(
        "bifpn",
        "bidirectional pyramid of weighted sums, several layers",
        "EfficientDet: Scalable and Efficient Object Detection, CVPR 2020",
        "github.com/google/automl",
        "Apache-2.0",
    ),
    _neck(
        "afpn",
        "asymptotic pyramid: low levels first, each pixel decides whose value counts",
        "AFPN: Asymptotic Feature Pyramid Network for Object Detection, IEEE SMC 2023",
        "github.com/gyyang23/AFPN",
        "none stated",
    ),
    _neck(
        "slimneck",
        "pyramid of GSConv and VoVGSCSP",
        "Slim-neck by GSConv, Journal of Real-Time Image Processing 2024",
        "github.com/AlanLi1997/slim-neck-by-gsconv",
        "GPL-3.0",
        "slim-neck",
    ),
    _neck(
        "asf",
        "three sizes joined at each step, all scales as a sequence, attention over both",
        "ASF-YOLO: attentional scale sequence fusion for cell instance segmentation, Image and Vision Computing 2024",
        "github.com/mkang315/ASF-YOLO",
        "AGPL-3.0",
    ),
    _neck(
        "hsfpn",
        "channels chosen by attention, low levels filtered by the highest one",
        "Accurate leukocyte detection (MFDS-DETR), Computers in Biology and Medicine 2024",
        "github.com/JustlfC03/MFDS-DETR",
        "none stated",
        "hs-fpn",
    ),
    _neck(
        "gfpn",
        "RepGFPN: levels joined across, by CSPStage",
        "DAMO-YOLO: A Report on Real-Time Object Detection Design, arXiv 2211.15444",
        "github.com/tinyvision/DAMO-YOLO",
        "Apache-2.0",
        "repgfpn",
    ),
    Graft(
        name="neck",
        target="detgraft.upstream.describe.necks:neck",
        channels="structure",
        site="neck",
        summary="the neck of a file, neck(from=FILE): any model YAML, or a fragment of rows with named inputs",
    ),
)
