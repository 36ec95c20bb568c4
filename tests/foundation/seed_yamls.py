"""The six model YAMLs of the five tutorials, taken out of the tutorials' text at test time.

The web pages show them with list numbers and without indentation; both are undone here and nothing else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_NUMBER = re.compile(r"^\s*\d+\. ")
_TOP_LEVEL = re.compile(r"(#|[a-z_]+:)")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@dataclass(frozen=True)
class SeedYaml:
    """Where a YAML stands and what the tutorials call it.

    Args:
        key: The system, as in ``support.SYSTEMS``.
        tutorial: Number of the tutorial.
        position: Which of the tutorial's YAMLs it is.
        file: Name of the YAML file.
        loaded_as: The name with the scale letter that the figures belong to.
        reference: Name of the table in ``reference/models``.
        dead: Parameters of the tutorial's build that never receive a gradient.
    """

    key: str
    tutorial: str
    position: int
    file: str
    loaded_as: str
    reference: str
    dead: int = 0


SEED_YAMLS = (
    SeedYaml(
        "convnextv2",
        "000",
        0,
        "yolo11-ConvNeXtV2.yaml",
        "yolo11n-ConvNeXtV2.yaml",
        "yolo11n-ConvNeXtV2-atto-f0.5-nc5",
        161_320,
    ),
    SeedYaml(
        "rtdetr",
        "001",
        0,
        "rtdetr-l-ConvNeXtV2.yaml",
        "rtdetr-l-ConvNeXtV2.yaml",
        "rtdetr-l-ConvNeXtV2-atto-nc1",
        321_640,
    ),
    SeedYaml(
        "c3k2_dynamicconv",
        "002",
        0,
        "yolo11-C3k2-DynamicConv.yaml",
        "yolo11n-C3k2-DynamicConv.yaml",
        "yolo11n-C3k2-DynamicConv-nc25",
    ),
    SeedYaml(
        "dynamicconv", "002", 1, "yolo11-DynamicConv.yaml", "yolo11n-DynamicConv.yaml", "yolo11n-DynamicConv-nc25"
    ),
    SeedYaml("repvit", "003", 0, "yolo11-RepViT.yaml", "yolo11n-RepViT.yaml", "yolo11n-RepViT-m0_6-f0.5-nc2"),
    SeedYaml("carafe", "004", 0, "yolo11-CARAFE.yaml", "yolo11n-CARAFE.yaml", "yolo11n-CARAFE-nc2"),
)


def yamls_in(text: str) -> list[str]:
    """Return the model YAMLs that a tutorial's text shows, numbers removed and indentation restored."""
    lines = text.splitlines()
    numbered = [_NUMBER.sub("", line).strip() for line in lines]
    found = []
    for start, line in enumerate(numbered):
        if not line.startswith("# Ultralytics"):
            continue
        last = start
        for index in range(start, len(numbered)):
            if numbered[index].startswith("- ["):
                last = index
            elif _ends_yaml(numbered[index]):
                break
        found.append("\n".join(_indented(entry) for entry in numbered[start : last + 1] if entry) + "\n")
    return found


def _ends_yaml(line: str) -> bool:
    return bool(line) and not line.startswith(("#", "- [")) and re.match(r"[a-z_]+: ?", line) is None


def _indented(line: str) -> str:
    is_scale = re.match(r"[nslmx]: \[", line) is not None
    inner_comment = line.startswith(("# [depth", "# [from"))
    return line if _TOP_LEVEL.match(line) and not is_scale and not inner_comment else f"  {line}"


def write_seed_yamls(seeds: Path, folder: Path) -> Path:
    """Write all six YAMLs into ``folder`` as UTF-8 and return it."""
    texts = {path.name[:3]: yamls_in(path.read_text("utf-8")) for path in sorted(seeds.glob("0*.txt"))}
    folder.mkdir(parents=True, exist_ok=True)
    for seed in SEED_YAMLS:
        (folder / seed.file).write_text(texts[seed.tutorial][seed.position], "utf-8")
    return folder


def has_chinese(path: Path) -> bool:
    """Say whether a file's text has Chinese in it."""
    return _CHINESE.search(path.read_text("utf-8")) is not None
