"""Try every model of the installed timm as a detector's backbone and write the outcome as docs/backbones.md.

    python scripts/timm_sweep.py [OUT] [--only PATTERN]

Nothing is downloaded. Each model is built without pretrained weights on the meta device, where shapes are computed and
numbers are not; the few that cannot work there are tried with real numbers at a small size. Takes about half an hour on
one core.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import timm
import torch

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import DetgraftError

SIZE = (64, 96)  # height and width of the backward pass
OUT = Path(__file__).resolve().parents[1] / "docs" / "backbones.md"


@dataclass(frozen=True)
class Outcome:
    """What came of one model.

    Args:
        family: timm's module.
        name: Model name.
        channels: Channels by reduction, empty where it does not work.
        params: Parameters of the backbone.
        reason: Why it does not work, or an empty string.
    """

    family: str
    name: str
    channels: dict[int, int]
    params: int
    reason: str = ""


def try_model(family: str, name: str) -> Outcome:
    """Build one model as a backbone; where it can be built, run it forward and backward."""
    try:
        try:
            with torch.device("meta"):
                backbone = TimmBackbone(3, name)
            dead = without_gradient(backbone, "meta")
        except (RuntimeError, NotImplementedError):
            backbone = TimmBackbone(3, name)
            dead = without_gradient(backbone, "cpu")
    except DetgraftError as error:
        return Outcome(family, name, {}, 0, short_reason(name, str(error)))
    except Exception as error:  # whatever it is, it belongs into the table
        return Outcome(family, name, {}, 0, f"{type(error).__name__}: {error}".splitlines()[0][:160])
    channels = dict(zip(backbone.reductions, backbone.channels, strict=True))
    reason = f"{len(dead)} parameters get no gradient, such as {dead[0]}" if dead else ""
    return Outcome(family, name, channels, sum(p.numel() for p in backbone.parameters()), reason)


def without_gradient(backbone: TimmBackbone, device: str) -> list[str]:
    """Names of the parameters that one backward pass does not reach."""
    features = backbone.train()(torch.zeros(2, 3, *SIZE, device=device))
    torch.stack([feature.float().sum() for feature in features]).sum().backward()
    return [name for name, parameter in backbone.named_parameters() if parameter.grad is None]


def short_reason(name: str, text: str) -> str:
    """Leave out what the table's row says already."""
    text = text.replace(f"timm/{name} cannot serve as a backbone: ", "").splitlines()[0]
    return re.sub(r"\s+", " ", text)[:200]


def models(only: str) -> Iterator[tuple[str, str]]:
    """Every family of timm with every model in it."""
    for family in timm.list_modules():
        for name in timm.list_models(filter=only, module=family):
            yield family, name


def table(outcomes: list[Outcome]) -> str:
    """Write the outcomes as Markdown: one line per family, then one per model."""
    works = [outcome for outcome in outcomes if not outcome.reason]
    families = [(family, list(group)) for family, group in groupby(outcomes, key=lambda outcome: outcome.family)]
    lines = [
        "# timm models as backbones",
        "",
        f"Made by `python scripts/timm_sweep.py` with timm {timm.__version__} and torch {torch.__version__}.",
        "",
        f"{len(works)} of {len(outcomes)} models in {len(families)} families work as `BASE+timm/NAME`. Each was built, "
        "run forward on a picture of 160x224 and backward, without weights. A detector is run at several sizes, so a "
        "model bound to one input size is refused with that reason. Parameters are those of the backbone alone.",
        "",
        "## Families",
        "",
        "| family | models | work | example | why the others do not |",
        "|---|---:|---:|---|---|",
    ]
    for family, group in families:
        good = [outcome for outcome in group if not outcome.reason]
        reasons = dict.fromkeys(generic(outcome.reason) for outcome in group if outcome.reason)
        example = f"`timm/{good[0].name}`" if good else ""
        lines.append(f"| {family} | {len(group)} | {len(good)} | {example} | {cell('; '.join(reasons))} |")
    for heading, works_here in (("Models that work", True), ("Models that do not work", False)):
        lines += ["", f"## {heading}", ""]
        lines.append(
            "| name | family | channels at 4, 8, 16, 32 | parameters |" if works_here else "| name | family | why |"
        )
        lines.append("|---|---|---|---:|" if works_here else "|---|---|---|")
        for outcome in outcomes:
            if works_here and not outcome.reason:
                channels = ", ".join(str(outcome.channels.get(r, "-")) for r in (4, 8, 16, 32))
                lines.append(f"| {outcome.name} | {outcome.family} | {channels} | {outcome.params:,} |")
            elif not works_here and outcome.reason:
                lines.append(f"| {outcome.name} | {outcome.family} | {cell(outcome.reason)} |")
    return "\n".join(lines) + "\n"


def generic(reason: str) -> str:
    """A reason without the figures of one model, so that a family's models share it."""
    if "bound to one input size" in reason:
        return "bound to one input size"
    missing = re.match(r"it has no features at reduction (\d+)", reason)
    if missing:
        return f"no features at reduction {missing[1]}"
    return re.sub(r"[\d(,) ]+of a", " of a", re.sub(r"are \(.*", "have other sizes", reason))


def cell(text: str) -> str:
    """Text that a Markdown table can hold."""
    return text.replace("|", "\\|")


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=OUT)
    parser.add_argument("--only", default="", metavar="PATTERN", help="try only models that match, such as 'convnext*'")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    outcomes, start = [], time.monotonic()
    for family, name in models(arguments.only):
        outcomes.append(try_model(family, name))
        print(f"{time.monotonic() - start:7.1f} s  {outcomes[-1]}", file=sys.stderr, flush=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(table(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main()
