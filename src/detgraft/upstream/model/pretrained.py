"""Finds the backbone that a model description grafts, and writes the description with weights for it."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.nn import tasks

from detgraft.base.files import write_atomic
from detgraft.errors import ArgumentError, Location
from detgraft.plan.document import SECTIONS
from detgraft.plan.expression import is_expression
from detgraft.plan.weights_files import is_input
from detgraft.upstream.describe.expressions import to_yaml
from detgraft.upstream.describe.plans import plan_of
from detgraft.upstream.model.build import model_file
from detgraft.upstream.model.safetensors import ENDING
from detgraft.upstream.parser.lower import pyramid_arguments
from detgraft.upstream.release.quiet import quiet


@dataclass(frozen=True)
class GraftedBackbone:
    """The backbone of a model description.

    Attributes:
        name: Its name in the catalogue, such as ``convnextv2_atto`` or ``timm/resnet18``.
        width: Factor on its channels.
        model: The model's name, as it was given.
    """

    name: str
    width: float
    model: str
    _mapping: dict[str, Any]
    _site: tuple[str, int]

    def write(self, weights: Path, folder: Path) -> Path:
        """Write the model's YAML with weights for the backbone.

        Args:
            weights: A weights file that fits the backbone.
            folder: Where to write.

        Returns:
            The YAML's path; its name begins like the model's, which is how Ultralytics tells the scale.
        """
        mapping = copy.deepcopy(self._mapping)
        section, number = self._site
        row = mapping[section][number]
        row[3] = [*([self.width] if self.width != 1 else []), str(weights.resolve()), *filter(is_input, row[3])]
        text = self.model if is_expression(self.model) else Path(self.model).name  # timm/NAME has a slash, too
        name = re.sub(r"[^\w.\-]+", "-", text.removesuffix(".yaml")).strip("-")
        path = folder / f"{name}.yaml"
        write_atomic(path, to_yaml(mapping))
        return path


def grafted_backbone(model: str | Path) -> GraftedBackbone:
    """Find the backbone that a model description grafts.

    Args:
        model: A graft expression or a model YAML.

    Raises:
        ArgumentError: It has no grafted backbone that takes weights, or one that already names a weights file.
        DetgraftError: The description is malformed.
    """
    where = Location(str(model))
    name = str(model) if str(model).lower().endswith((".pt", ENDING)) else model_file(model, stock=True)
    if not name.lower().endswith((".yaml", ".yml")):
        raise ArgumentError(
            "a backbone is pretrained before a model is made: give an expression such as "
            "yolo11n+convnextv2_atto, or a YAML",
            where,
        )
    with quiet():
        mapping = tasks.yaml_model_load(name)
        plan = plan_of(mapping)
    numbers = dict.fromkeys(SECTIONS, 0)
    for row in plan.rows:
        number = numbers[row.section]
        numbers[row.section] += 1
        entry = row.graft
        if entry is None or not entry.takes_weights:
            continue
        width, weights = pyramid_arguments(plan, row, entry)
        if weights is not None:
            raise ArgumentError(f"'{row.module}' has weights already: {weights}", row.location)
        return GraftedBackbone(row.module, 1.0 if width is None else width, str(model), mapping, (row.section, number))
    raise ArgumentError("there is no grafted backbone to pretrain; graft one, as in yolo11n+convnextv2_atto", where)
