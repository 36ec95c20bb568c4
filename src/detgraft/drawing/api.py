"""A model drawn: as a page, a picture, an editable file, or a table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import nn

from detgraft.base.files import write_atomic
from detgraft.base.notebook import html_frame
from detgraft.drawing.anatomy import Anatomy, dissect
from detgraft.drawing.drawio import drawio
from detgraft.drawing.page import page
from detgraft.drawing.svg import draw as svg
from detgraft.drawing.tables import csv, latex

FORMS = {"html": page, "svg": svg, "drawio": drawio, "csv": csv, "latex": latex}
"""How each form is written."""

ENDINGS = {"html": ".html", "svg": ".svg", "drawio": ".drawio", "csv": ".csv", "latex": ".tex"}
"""The ending of a file of each form."""


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A model taken apart, ready to be written.

    Args:
        anatomy: The model, and the one beside it.
    """

    anatomy: Anatomy

    def text(self, form: str) -> str:
        """Return the drawing in one of :data:`FORMS`."""
        return FORMS[form](self.anatomy)

    def write(self, form: str, path: str | Path) -> Path:
        """Write the drawing in one of :data:`FORMS`; the file is whole or not there."""
        write_atomic(Path(path), self.text(form))
        return Path(path)

    def _repr_html_(self) -> str:
        """Show the page in a notebook, in a frame of its own so that its colours stay its own."""
        return html_frame(self.text("html"))


def draw(
    model: str | Path | nn.Module | dict[str, Any],
    beside: str | Path | nn.Module | dict[str, Any] | None = None,
    **options: Any,
) -> Drawing:
    """Draw a model, and the stock base that it stands on, or any other model, beside it.

    Args:
        model: A graft expression, a model YAML, a checkpoint, or a model object.
        beside: What stands beside it; the stock base of a grafted model by default.
        **options: ``imgsz``, ``nc``, ``ch``, ``transfer``, ``trust``; see :func:`detgraft.drawing.anatomy.dissect`.

    Raises:
        DetgraftError: A model cannot be built, or the size does not fit.
    """
    return Drawing(dissect(model, beside, **options))
