"""Figures and names as a drawing writes them."""

from __future__ import annotations

from typing import Any

from detgraft.drawing.anatomy import Anatomy, Layer

STATUS = {"kept": "kept", "changed": "changed", "new": "new", "plain": "", "removed": "removed"}


def count(number: int) -> str:
    """Write a number of parameters in short: 74.3 k."""
    if abs(number) < 1000:
        return str(number)
    for limit, unit, digits in ((1e6, "k", 1), (1e9, "M", 2)):
        if abs(number) < limit:
            return f"{number / (limit / 1000):.{digits}f} {unit}"
    return f"{number / 1e9:.2f} G"


def operations(gflops: float) -> str:
    """Write operations in units of 1e9: 0.165 G; what is less than a thousandth as such."""
    if gflops == 0:
        return "0 G"
    return f"{gflops:.3f} G" if abs(gflops) < 10 else f"{gflops:.1f} G"


def signed(text: str, number: float) -> str:
    """Put a sign in front of a written figure."""
    return f"+{text}" if number > 0 else text.replace("-", "\u2212") if number < 0 else f"\u00b1{text}"


def difference(new: Layer, old: Layer | None) -> str:
    """What a layer costs more or less than the one that it continues."""
    params, gflops = new.params - (old.params if old else 0), new.gflops - (old.gflops if old else 0.0)
    if old is not None and not params and abs(gflops) < 5e-7:
        return "other channels" if new.kind == old.kind else "the same cost"
    return f"{signed(count(params), params)} params, {signed(operations(gflops), gflops)}"


def shape(value: list[Any], most: int = 3) -> str:
    """Write an output shape without its batch: 256x40x40; of several the first ones."""
    if not value:
        return "-"
    if all(isinstance(size, int) for size in value):
        return "\u00d7".join(map(str, value))
    flat = _flat(value)
    more = f" and {len(flat) - most} more" if len(flat) > most else ""
    return ", ".join("\u00d7".join(map(str, entry)) for entry in flat[:most]) + more


def _flat(value: list[Any]) -> list[list[int]]:
    if all(isinstance(size, int) for size in value):
        return [value] if value else []
    return [flat for entry in value for flat in _flat(entry)]


def cut(text: str, most: int) -> str:
    """Shorten a name in its middle, so that its ends stay."""
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}\u2026{text[-tail:]}"


def about(layer: Layer, anatomy: Anatomy) -> str:
    """All that is known of a layer, in lines; shown when one points at it."""
    lines = [f"layer {layer.index}: {layer.name}" + (" (graft)" if layer.graft else "")]
    if layer.row:
        lines.append(f"{layer.where}: {layer.row}" if layer.where else layer.row)
    lines += [layer.kind, f"from {', '.join('the image' if s < 0 else str(s) for s in layer.sources)}"]
    lines.append(f"output {shape(layer.shape, 8)}, {layer.params:,} parameters, {layer.gflops:.3f} GFLOPs")
    if anatomy.other is not None:
        old = anatomy.other.layers[layer.origin] if layer.origin is not None else None
        beside = anatomy.other.name
        if old is None:
            lines.append(f"new: {beside} has no such layer; {difference(layer, None)}")
        elif layer.status == "kept":
            lines.append(f"kept: as layer {old.index} of {beside}")
        else:
            lines.append(f"changed: layer {old.index} ({old.name}) of {beside}; {difference(layer, old)}")
    if layer.carried is not None and layer.carried[1]:
        lines.append(f"weights: {layer.carried[0]} of {layer.carried[1]} tensors come with a transfer")
    return "\n".join(lines)


def about_other(layer: Layer, anatomy: Anatomy) -> str:
    """The same for a layer of the other model."""
    lines = [f"layer {layer.index} of {anatomy.other.name if anatomy.other else ''}: {layer.name}"]
    if layer.row:
        lines.append(f"{layer.where}: {layer.row}" if layer.where else layer.row)
    lines += [layer.kind, f"output {shape(layer.shape, 8)}, {layer.params:,} parameters, {layer.gflops:.3f} GFLOPs"]
    here = [entry.index for entry in anatomy.layers if entry.origin == layer.index]
    lines.append(f"continues as layer {', '.join(map(str, here))}" if here else "removed")
    return "\n".join(lines)
