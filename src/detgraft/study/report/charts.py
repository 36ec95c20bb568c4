"""The charts of a report as plotly figures, and plotly's own script packed for one file."""

from __future__ import annotations

import base64
import gzip
import html
import json
import math
from typing import Any, NamedTuple

from detgraft.base.extras import require
from detgraft.study.judge.analysis import AXES, Analysis, ArmSummary, ultralytics_of
from detgraft.study.report.languages import Words

# Okabe and Ito's colours, which colour-blind readers can tell apart (2008); the base is dark grey, the control grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6A3D9A", "#B15928")
BASE, CONTROL, MARGIN = "#222222", "#8A8A8A", "rgba(0,0,0,0.06)"
MOST_CLASSES = 20
_FONT = {"family": "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", "size": 13, "color": "#333"}
_UNITS = {"latency_ms": "latency of one picture (ms)", "params": "parameters (millions)", "gflops": "GFLOPs"}

Chart = dict[str, Any]


class Form(NamedTuple):
    """How an arm is told apart where colours are not.

    Attributes:
        symbol: Plotly's name of its mark.
        sign: The mark as a letter, for the legend.
        dash: Plotly's name of its line.
    """

    symbol: str
    sign: str
    dash: str


FORMS = (
    Form("circle", "●", "solid"),
    Form("triangle-up", "▲", "dash"),
    Form("star", "★", "dot"),
    Form("triangle-down", "▼", "dashdot"),
    Form("hexagon", "⬢", "longdash"),
    Form("cross", "✚", "longdashdot"),
    Form("x", "✖", "solid"),
)
BASE_FORM, CONTROL_FORM = Form("square", "■", "solid"), Form("diamond", "◆", "dash")


def packed_plotly() -> str:
    """Plotly's script, compressed and in base64: a third of its size, so that a report stays easy to send.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    offline = require("plotly.offline")
    script = str(offline.get_plotlyjs())
    return base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()


def charts(found: Analysis, words: Words) -> dict[str, Chart]:
    """Every chart of the report by the id of its place, each as plain ``data`` and ``layout``.

    Args:
        found: The study.
        words: The language of titles and labels.

    Raises:
        MissingExtraError: plotly is not installed.
    """
    result = {"differences": _differences(found, words)}
    for key in AXES:
        if all(getattr(arm.cost, key) is not None for arm in found.arms):
            result[f"pareto-{key}"] = _pareto(found, key, words)
    if any(found.curves.values()):
        result["curves"] = _curves(found, words)
    if any(item.per_class for item in found.judged):
        result["classes"] = _classes(found, words)
    return result


def _plain(data: list[Any], layout: dict[str, Any]) -> Chart:
    """Check a figure with plotly and give it back as plain JSON values."""
    graphs = require("plotly.graph_objects")
    common = {
        "font": _FONT,
        "margin": {"l": 48, "r": 12, "t": 16, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"font": _FONT},
        "showlegend": False,  # one legend in the page's own HTML serves all charts and never lies over one
    }
    figure = graphs.Figure(data=data, layout={**common, **layout, "template": None})
    figure.update_xaxes(gridcolor="#e6e6e6", zerolinecolor="#bbb", automargin=True)
    figure.update_yaxes(gridcolor="#e6e6e6", zerolinecolor="#bbb", automargin=True)
    plain: Chart = json.loads(figure.to_json())
    return {"data": plain["data"], "layout": plain["layout"]}


def colour_of(found: Analysis, arm: ArmSummary) -> str:
    """The colour that an arm has in every chart."""
    if arm.role != "variant":
        return BASE if arm.role == "base" else CONTROL
    variants = [a.name for a in found.arms if a.role == "variant"]
    return COLOURS[variants.index(arm.name) % len(COLOURS)]


def form_of(found: Analysis, arm: ArmSummary) -> Form:
    """The mark and the line that an arm has in every chart; no two of the first seven variants share one."""
    if arm.role != "variant":
        return BASE_FORM if arm.role == "base" else CONTROL_FORM
    variants = [a.name for a in found.arms if a.role == "variant"]
    return FORMS[variants.index(arm.name) % len(FORMS)]


def _percent(value: float) -> float | None:
    return None if not math.isfinite(value) else round(100 * value, 4)


def _bars(mean: float, low: float, high: float) -> tuple[float, float]:
    """Lengths of an error bar to both sides, 0 where the interval is unknown."""
    return (
        0.0 if not math.isfinite(high) else 100 * (high - mean),
        0.0 if not math.isfinite(low) else 100 * (mean - low),
    )


def _differences(found: Analysis, words: Words) -> Chart:
    """Each variant's difference to the base with its interval, over the band that counts as no difference."""
    rows = [item.comparison for item in found.judged] + ([found.control] if found.control else [])
    by_name = {arm.name: arm for arm in found.arms}
    data = []
    names = []
    for row in reversed(rows):
        # The name stands above its interval: beside it, it would take half of a narrow screen.
        names.append(
            {
                "xref": "paper",
                "x": 0,
                "y": html.escape(row.variant),
                "text": html.escape(row.variant),
                "xanchor": "left",
                "yanchor": "bottom",
                "yshift": 6,
                "showarrow": False,
            }
        )
        plus, minus = _bars(row.difference, row.low, row.high)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [_percent(row.difference)],
                "y": [html.escape(row.variant)],
                "error_x": {"type": "data", "symmetric": False, "array": [plus], "arrayminus": [minus], "thickness": 2},
                "marker": {
                    "size": 11,
                    "color": colour_of(found, by_name[row.variant]),
                    "symbol": form_of(found, by_name[row.variant]).symbol,
                },
                "hovertemplate": "%{y}: %{x:+.2f}<extra></extra>",
            }
        )
    margin = 100 * found.margin
    shapes = [
        {
            "type": "rect",
            "x0": -margin,
            "x1": margin,
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "fillcolor": MARGIN,
            "line": {"width": 0},
            "layer": "below",
        },
        {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": BASE, "width": 1.5}},
    ]
    layout = {
        "shapes": shapes,
        "annotations": names,
        "xaxis": {"title": {"text": words("{figure} points", figure=found.primary)}},
        "yaxis": {"showticklabels": False},
        "margin": {"l": 16, "r": 16, "t": 24, "b": 48},
        "height": 110 + 46 * len(rows),
    }
    return _plain(data, layout)


def _pareto(found: Analysis, axis: str, words: Words) -> Chart:
    """Accuracy against one kind of cost; the line joins what nothing beats in both.

    Marks of latencies that are in doubt are hollow, and the line leaves them out.
    """
    factor = 1e-6 if axis == "params" else 1.0
    doubtful = {arm.name for arm in found.arms if axis == "latency_ms" and arm.cost.doubtful}
    points = [(factor * float(getattr(arm.cost, axis)), arm) for arm in found.arms]
    data: list[Any] = []
    front: list[tuple[float, ArmSummary]] = []
    for cost, arm in sorted(points, key=lambda item: (item[0], -item[1].primary.mean)):
        if arm.name in doubtful:
            continue
        if not front or arm.primary.mean > front[-1][1].primary.mean:
            front.append((cost, arm))
    data.append(
        {
            "type": "scatter",
            "mode": "lines",
            "x": [cost for cost, _ in front],
            "y": [_percent(arm.primary.mean) for _, arm in front],
            "line": {"color": "#c8c8c8", "dash": "dot", "width": 2},
            "hoverinfo": "skip",
        }
    )
    for cost, arm in points:
        plus, minus = _bars(arm.primary.mean, arm.primary.low, arm.primary.high)
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [cost],
                "y": [_percent(arm.primary.mean)],
                "error_y": {"type": "data", "symmetric": False, "array": [plus], "arrayminus": [minus]},
                "marker": {
                    "size": 12,
                    "color": colour_of(found, arm),
                    "symbol": form_of(found, arm).symbol + ("-open" if arm.name in doubtful else ""),
                },
                "hovertemplate": f"{html.escape(arm.name)}<br>%{{x:.3g}}, {found.primary} %{{y:.2f}}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": words(_UNITS[axis])}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": f"{found.primary} ({found.split})"}},
        "height": 400,
    }
    return _plain(data, layout)


def _curves(found: Analysis, words: Words) -> Chart:
    """mAP50-95 on val by epoch: the mean over seeds, and a band from the lowest to the highest run."""
    data: list[Any] = []
    for arm in found.arms:
        rows = found.curves.get(arm.name, ())
        if not rows:
            continue
        colour = colour_of(found, arm)
        epochs = [row[0] for row in rows]
        low, mean, high = ([round(100 * row[k], 3) for row in rows] for k in (1, 2, 3))
        red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": epochs + epochs[::-1],
                "y": high + low[::-1],
                "fill": "toself",
                "fillcolor": f"rgba({red},{green},{blue},0.13)",
                "line": {"width": 0},
                "hoverinfo": "skip",
            }
        )
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": epochs,
                "y": mean,
                "line": {"color": colour, "width": 2.2, "dash": form_of(found, arm).dash},
                "hovertemplate": f"{html.escape(arm.name)}, {words('epoch')} %{{x}}: %{{y:.2f}}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": words("epoch")}, "dtick": max(1, _longest(found) // 10)},
        "yaxis": {
            "title": {"text": words("{figure} on val (Ultralytics)", figure=next(iter(ultralytics_of(found.task))))}
        },
        "height": 440,
    }
    return _plain(data, layout)


def _longest(found: Analysis) -> int:
    """Number of epochs of the longest curve."""
    return max(rows[-1][0] for rows in found.curves.values() if rows)


def shown_classes(found: Analysis) -> list[str]:
    """The classes of the chart: all, or the 20 on which some variant differs most."""
    names = list(dict.fromkeys(name for item in found.judged for name in item.per_class))
    most = {n: max(abs(i.per_class[n].mean) for i in found.judged if n in i.per_class) for n in names}
    return names if len(names) <= MOST_CLASSES else sorted(names, key=lambda n: -most[n])[:MOST_CLASSES]


def _classes(found: Analysis, words: Words) -> Chart:
    """Difference of every variant in every class, with intervals."""
    by_name = {arm.name: arm for arm in found.arms}
    names = shown_classes(found)
    data = []
    for item in found.judged:
        rows = [(name, item.per_class[name]) for name in names if name in item.per_class]
        ends = [_bars(value.mean, value.low, value.high) for _, value in rows]
        data.append(
            {
                "type": "bar",
                "x": [html.escape(name) for name, _ in rows],
                "y": [_percent(value.mean) for _, value in rows],
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [plus for plus, _ in ends],
                    "arrayminus": [minus for _, minus in ends],
                    "thickness": 1.2,
                    "width": 3,
                },
                "marker": {"color": colour_of(found, by_name[item.comparison.variant]), "opacity": 0.85},
                "hovertemplate": f"{html.escape(item.comparison.variant)}, %{{x}}: %{{y:+.2f}}<extra></extra>",
            }
        )
    layout = {
        "barmode": "group",
        "yaxis": {"title": {"text": words("difference of AP to {base} (points)", base=html.escape(found.base.name))}},
        "height": 420,
    }
    return _plain(data, layout)
