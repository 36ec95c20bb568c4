"""``detgraft compare``: two trained models beside the truth, where they differ most."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from detgraft.base.values import read_size
from detgraft.catalog.plugins import load_plugins
from detgraft.cli.arguments import flag, parse_pairs
from detgraft.cli.keys import check_keys
from detgraft.cli.tables import Column, print_prose, print_table
from detgraft.errors import ArgumentError


def command(first: str, second: str, words: Sequence[str], *, as_json: bool) -> None:
    """Compare two checkpoints and write the picture.

    Raises:
        DetgraftError: Wrong arguments, no such checkpoint, or no pictures.
    """
    pairs = parse_pairs(words, ("trust",))
    check_keys("compare", pairs)
    for model in (first, second):
        if "=" in model or not model.lower().endswith((".pt", ".safetensors")):
            raise ArgumentError(
                f"compare takes two checkpoints: detgraft compare A.pt B.pt source=FOLDER; found '{model}'. "
                "`detgraft show A B` compares two models that are not trained"
            )
    if pairs.get("source") is None:
        raise ArgumentError("compare needs source=: a picture, a folder of pictures, or a data YAML")
    size = None if pairs.get("imgsz") is None else read_size(pairs["imgsz"])
    count = pairs.get("count", 6)
    if size is not None and not isinstance(size, int):
        raise ArgumentError("imgsz is one number here, such as 640")
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 50:
        raise ArgumentError(f"count is a number of pictures from 1 to 50, found {count!r:.40}")
    out = Path(str(pairs.get("out", "compare.png")))
    if out.suffix.lower() != ".png" or out.is_dir():
        raise ArgumentError(f"out is a PNG's name such as compare.png, found '{out}'")
    from detgraft.study.report.compare import compare
    from detgraft.upstream.model.values import check_device, refuse_absent

    device = pairs.get("device")
    if device is not None:
        check_device(device)
    for model in (first, second):
        refuse_absent(model)
    load_plugins(str(pairs.get("plugins", "")))
    trust = flag(pairs, "trust")
    place = None if device is None else str(device)
    found = compare(first, second, str(pairs["source"]), out, imgsz=size, count=count, device=place, trust=trust)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), ensure_ascii=False, default=str))
        return
    console = Console()
    looked, there = found.pictures
    columns = [Column("model"), *(Column(heading, right=True) for heading in ("right", "false", "missed"))]
    rows = []
    for i, model in enumerate(found.models):
        wrong = (str(found.false[i]), str(found.missed[i])) if found.labelled else ("-", "-")
        rows.append((model, str(found.right[i]), *wrong))
    several = f"{looked} pictures" + ("" if looked == there else f" of {there}, at even distances")
    sides = " and ".join(str(side) for side in dict.fromkeys(found.imgsz))
    print_table(
        console, f"{several} at {sides} pixels, {found.labelled} with labels; score 0.25, IoU 0.5", columns, rows
    )
    if found.picture is None:
        print_prose(console, "They differ on none of them.")
        return
    print_prose(console, f"They differ on {len(found.differing)}; the largest differences: {found.picture}")
    if not found.labelled:
        print_prose(console, "No labels were found beside the pictures, so there is no truth to show.")
