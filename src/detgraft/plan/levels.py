"""Further levels of the feature pyramid: P2 (stride 4) below P3, P6 (stride 64) above P5.

The neck is extended in the base's own pattern. It is read as steps: from the top down each raises the resolution and
joins a backbone feature, from the bottom up (where the neck goes up again) each halves it and joins the top-down
feature of its level. A new step is a copy of its neighbour with the widths that follow from the base's own.

For YOLOv5, YOLOv8, YOLOv8-Ghost and YOLO26 the outcome is Ultralytics' own ``-p2`` or ``-p6`` model, row for row; what
those have beyond the pattern is :func:`_narrower_p5` and :func:`_as_stock_p6`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from detgraft.plan.compose import CONTEXT, Composition, Node
from detgraft.plan.structure import Base

Source = tuple[Node, int] | None
"""What feeds a row: a row and which of its layers, or the image."""

FIXED_LEVELS = frozenset({"SemanticSegment"})
"""Heads that read a fixed number of levels."""

MASK_HEADS = frozenset({"Segment", "YOLOESegment"})
"""Heads that make the masks' prototypes from their first feature, at twice its size.

Ultralytics compares masks at a quarter of the picture whatever the size of the prototypes, so the first feature stays
P3 and P2 stands last; nothing else in these heads depends on the order of the levels.
"""
ORDERED_MASK_HEADS = frozenset({"Segment26", "YOLOESegment26"})
"""Heads that make them from all features and want the finest first: with P2 no mask of theirs could be compared."""

P2, P3, P4, P5, P6 = 4, 8, 16, 32, 64
"""The levels by their strides."""

# Which of a row's arguments are channel numbers, the output's first; the first argument alone where it is not listed.
_WIDTHS: dict[str, tuple[int, ...]] = {
    "RepNCSPELAN4": (0, 1, 2),
    "ELAN1": (0, 1, 2),
    "SPPELAN": (0, 1),
    "C2fAttn": (0, 1, 2),
    "HGStem": (1, 0),
    "HGBlock": (1, 0),
    "ResNetLayer": (1,),
    "AIFI": (),
    "Concat": (),
    "CBFuse": (),
}
_TORCH_WITH_WIDTH = frozenset({"nn.Conv2d", "nn.ConvTranspose2d"})
_RESNET_EXPANSION = 4
_A2C2F_CHANNELS = 64


def p2(base: Base) -> Composition:
    """Add a level of stride 4 below P3: one step further down, and up again where the neck goes up.

    Args:
        base: A detector whose neck reaches down to stride 8.

    Raises:
        PlanError: It has no such neck, or has the level already.
    """
    neck = _Neck(base)
    neck.require(P2, beside=P3)
    if neck.head.module in ORDERED_MASK_HEADS:
        raise base.refuse(
            "its head makes masks of twice its finest level's size, and Ultralytics compares masks at a quarter of the"
            " picture"
        )
    last, lateral = neck.down[-1], neck.backbone_end(P2)
    share, notes = _share_of_p2(neck, lateral)
    step = last.like(_copied(last.rows, share, lambda s: lateral if neck.stride(s) == P3 else (last.end, 0)))
    low = last.end
    neck.insert(step.rows, behind=last.end)
    if neck.up:
        first = neck.up[0]
        halving = _copied(first.before, 1, _from(step.end))
        for node, old in zip(halving, first.before, strict=True):
            if _width(old) == _width(last.end):
                _set_width(node, _width(step.end))
            else:  # YOLOv9's narrow rows stay in proportion to the feature that they lead to
                _scale(node, Fraction(_width(last.end), _width(first.end)))
        end = halving[-1]
        join = _copied([first.join], 1, lambda s: (end, 0) if s is not None and s[0] in first.before else step.lifted)[
            0
        ]
        shell = _copied(last.shell, 1, _from(join))
        low = shell[-1]
        _reread(first.before, last.end, low)
        neck.insert([*halving, join, *shell], before=first.before[0])
    neck.head_reads(last.end, [step.end, low])
    if neck.head.module in MASK_HEADS:
        neck.head.sources.append(neck.head.sources.pop(neck.head.sources.index((step.end, 0))))
    return base.written(neck.nodes, notes if base.neck_stays else [])


def p6(base: Base) -> Composition:
    """Add a level of stride 64 above P5: a further stage of the backbone, and a step at the top of the neck.

    Args:
        base: A detector whose backbone ends at stride 32 and whose neck begins there.

    Raises:
        PlanError: It has no such backbone or neck, or has the level already.
    """
    neck = _Neck(base)
    neck.require(P6, beside=P5)
    top, lateral = neck.down[0], neck.backbone_end(P5)
    deepest = neck.up[-1].end if neck.up else neck.read_by_head(P5)
    handed_on = neck.read_from(top)
    width_p4, width_p5 = _width(top.end), _width(deepest)
    notes = _add_stage(neck, base)
    if notes and width_p5 == 2 * width_p4:
        width_p5 = width_p5 * 3 // 4
    step = top.like(_copied(top.rows, Fraction(width_p5, width_p4), lambda s: lateral if neck.stride(s) == P4 else s))
    handed_on = step.rows[top.rows.index(handed_on)]
    for node in top.rows:
        node.sources = [
            s if s is None or s[0] in top.rows or neck.stride(s) == P4 else (handed_on, 0) for s in node.sources
        ]
    neck.insert(step.rows, before=top.rows[0])
    if neck.up:
        last = neck.up[-1]
        before = last.before[-1]
        join = _copied([last.join], 1, lambda s: s if s is not None and s[0] in last.before else top.lifted)[0]
        shell = _copied(step.shell, 1, _from(join))
        halving = _copied(last.before, 1, _from(shell[-1]))
        fed_by = last.before[0].sources[0]
        for node, old in zip(halving, last.before, strict=True):
            if fed_by is not None and _width(old) == _width(fed_by[0]):
                _set_width(node, _width(shell[-1]))
        last.join.sources = [
            (halving[-1], 0) if s is not None and s[0] is before else step.lifted for s in last.join.sources
        ]
        neck.insert([join, *shell, *halving], before=last.join)
        neck.head_reads(last.end, [shell[-1], last.end])
    else:
        neck.head_reads(deepest, [step.end, deepest])
    _as_stock_p6(neck)
    return base.written(neck.nodes, notes)


def _share_of_p2(neck: _Neck, lateral: Source) -> tuple[Fraction, list[str]]:
    """How wide P2 is relative to P3: as in the backbone, unless the neck has one width for all levels.

    Returns:
        The factor, and a note where YOLO12's blocks, whose channels are multiples of 64, cannot be that narrow.
    """
    last, above = neck.down[-1], neck.backbone_end(P3)
    if len(neck.down) > 1 and _width(neck.down[-2].end) == _width(last.end):
        return Fraction(1), []
    if lateral is None or above is None or lateral[0] is above[0]:  # a grafted backbone, whose row says no widths
        share = Fraction(1, 2)
    else:
        share = Fraction(_width(lateral[0]), _width(above[0]))
    for node in last.shell:
        narrow = neck.base.plan.scaling.channels(int(_width(node) * share))
        if node.module == "A2C2f" and narrow % _A2C2F_CHANNELS:
            note = f"P2 is as wide as P3: {node.module} needs a multiple of {_A2C2F_CHANNELS} channels, not {narrow}"
            return Fraction(1), [note]
    return share, []


def _add_stage(neck: _Neck, base: Base) -> list[str]:
    """Put a stage of stride 64 behind the backbone's last one, as a copy of it.

    Returns:
        The note on P5's width, where it was changed.
    """
    last = neck.backbone_end(P5)
    end = last[0] if last is not None else neck.nodes[0]
    if end.span > 1:
        raise base.refuse(
            f"its backbone '{end.module}' is one row that ends at stride 32; write the two as terms of a stock base, "
            f"such as yolo11n+{end.module}+{base.term}"
        )
    position = neck.nodes.index(end)
    while position and neck.stride((neck.nodes[position - 1], 0)) == P5:
        position -= 1
    stage = neck.nodes[position : neck.nodes.index(end) + 1]
    before = stage[0].sources[0]
    if len(stage[0].sources) > 1 or before is None or neck.stride(before) != P4:
        raise base.refuse(
            "the backbone goes on with a copy of its last stage, which must begin with a row that halves the "
            f"resolution; here '{stage[0].module}' does not"
        )
    added: list[Node] = []
    for node in stage:
        if len(node.sources) > 1:  # what YOLOv9e's second branch adds has no continuation at stride 64
            continue
        fed_by = added[-1] if added else end
        made = _copied([node], 1, _from(fed_by))[0]
        if node is stage[0] and _width(node) == _width(before[0]):
            _set_width(made, _width(end))
        if made.module == "ResNetLayer":  # the only row that states its input's channels
            made.args[0] = _width(fed_by)
        added.append(made)
    notes = _narrower_p5(stage, before[0])
    _reread([node for node in neck.nodes if node not in stage], end, added[-1])
    neck.insert(added, behind=end)
    return notes


def _narrower_p5(stage: Sequence[Node], before: Node) -> list[str]:
    """Give P5 three times P4's width over two where P6 has four times, as all of Ultralytics' P6 models do."""
    wide = _width(stage[-1])
    if wide != 2 * _width(before) or any(_widths(node) != (0,) for node in stage):
        return []
    for node in stage:
        _scale(node, Fraction(3, 4))
    return [f"P5 has {_width(stage[-1])} channels in place of {wide}, which P6 has, as in Ultralytics' own P6 models"]


def _as_stock_p6(neck: _Neck) -> None:
    """Follow the two things in which stock P6 models differ beyond the pattern.

    YOLOv8's neck has C2 without shortcuts in place of C2f, and YOLO26's SPPF no shortcut.
    """
    shells = [node for step in (*neck.down, *neck.up) for node in step.shell]
    if all(node.module == "C2f" and len(node.args) == 1 for node in shells):
        for node in neck.nodes:
            if node.section == "head" and node.module == "C2f":
                node.module, node.args, node.origin = "C2", [*node.args, False], None
    for node in neck.nodes:
        if node.section == "backbone" and node.module == "SPPF" and node.args[3:] == [True]:
            node.args[3] = False


@dataclass
class _Step:
    """One step of a neck.

    Args:
        rows: Its rows in order.
        join: The row that joins what comes along with another feature.
        lift: The row that raises the resolution, in a step from the top down.
    """

    rows: list[Node]
    join: Node
    lift: Node | None = None

    @property
    def end(self) -> Node:
        """Its last row."""
        return self.rows[-1]

    @property
    def before(self) -> list[Node]:
        """What stands before the join."""
        return self.rows[: self.rows.index(self.join)]

    @property
    def shell(self) -> list[Node]:
        """What stands behind the join."""
        return self.rows[self.rows.index(self.join) + 1 :]

    @property
    def lifted(self) -> Source:
        """What the raising row reads: the feature of the level above that is joined on the way up again."""
        return self.lift.sources[0] if self.lift is not None else None

    def like(self, copies: list[Node]) -> _Step:
        """Return a copy of this step, given the copies of its rows."""
        lift = None if self.lift is None else copies[self.rows.index(self.lift)]
        return _Step(copies, copies[self.rows.index(self.join)], lift)


class _Neck:
    """A base's rows, its neck read as steps.

    Args:
        base: The base.

    Raises:
        PlanError: It has no neck, or one that is not made of steps.
    """

    def __init__(self, base: Base) -> None:
        self.base = base
        self.nodes = base.nodes()
        self.head = self.nodes[-1]
        self.levels = sorted(self.stride(source) for source in self.head.sources)
        self.down, self.up = self._steps()

    def stride(self, source: Source) -> int:
        """Return the stride of a base row's feature; 0 for a new row and for what is no single feature."""
        if source is None:
            return 1
        node, slot = source
        return 0 if node.origin is None else self.base.strides.get(node.origin + slot, 0)

    def require(self, level: int, beside: int) -> None:
        """Raise unless the head's levels end at ``beside``, next to the new one."""
        name = {P2: "P2", P6: "P6"}[level]
        if self.head.module in FIXED_LEVELS:
            raise self.base.refuse(f"its head {self.head.module} reads a fixed number of levels")
        if level in self.levels:
            raise self.base.refuse(f"it has a level of stride {level} ({name}) already")
        end = self.levels[0] if level < beside else self.levels[-1]
        if end != beside:
            raise self.base.refuse(
                f"its head reads strides {', '.join(map(str, self.levels))}, and {name} stands next to stride {beside}"
            )

    def backbone_end(self, stride: int) -> Source:
        """Return the backbone's last feature of a stride, context modules left aside."""
        found = [
            (node, slot)
            for node in self.nodes
            for slot in range(node.span)
            if node.section == "backbone" and node.module not in CONTEXT and self.stride((node, slot)) == stride
        ]
        if not found:
            raise self.base.refuse(f"its backbone has no feature of stride {stride}")
        return found[-1]

    def read_by_head(self, stride: int) -> Node:
        """Return the row of a level that the head reads."""
        return next(s[0] for s in self.head.sources if s is not None and self.stride(s) == stride)

    def read_from(self, step: _Step) -> Node:
        """Return the row of a step that the next one reads; its end, where there is no next one."""
        position = self.down.index(step) + 1
        following = self.down[position].rows if position < len(self.down) else []
        read = [s[0] for node in following for s in node.sources if s is not None and s[0] in step.rows]
        return read[0] if read else step.end

    def insert(self, rows: Sequence[Node], *, behind: Node | None = None, before: Node | None = None) -> None:
        """Put new rows behind or before a row."""
        at = self.nodes.index(before) if before is not None else self.nodes.index(behind or self.head) + 1
        self.nodes[at:at] = rows

    def head_reads(self, node: Node, instead: Sequence[Node]) -> None:
        """Have the head read several rows where it read one."""
        if not any(s is not None and s[0] is node for s in self.head.sources):
            raise self.base.refuse(f"its head does not read the end of its neck ({node.module})")
        sources: list[Source] = []
        for source in self.head.sources:
            sources += [(new, 0) for new in instead] if source is not None and source[0] is node else [source]
        self.head.sources = sources

    def _steps(self) -> tuple[list[_Step], list[_Step]]:
        """Cut the neck where its resolution changes; a 1x1 convolution before the raising belongs to its step."""
        rows = [node for node in self.nodes[:-1] if node.section == "head" and self.stride((node, 0))]
        starts: list[tuple[int, bool]] = []
        for index, node in enumerate(rows):
            own, fed_by = self.stride((node, 0)), self.stride(node.sources[0])
            if len(node.sources) > 1 or own == fed_by:
                continue
            lateral = (
                own < fed_by and index and node.sources[0] == (rows[index - 1], 0) and _is_projection(rows[index - 1])
            )
            starts.append((index - 1 if lateral else index, own < fed_by))
        if not starts:
            raise self.base.refuse("it has no neck that a level could be added to")
        down: list[_Step] = []
        up: list[_Step] = []
        for (start, raises), (stop, _) in zip(starts, [*starts[1:], (len(rows), False)], strict=True):
            members = rows[start:stop]
            joins = [node for node in members if len(node.sources) > 1]
            if len(joins) != 1 or joins[0] is members[-1] or (raises and up):
                raise self.base.refuse("its neck is not a way down, each step joining one feature, and a way up again")
            lift = next((n for n in members if self.stride((n, 0)) < self.stride(n.sources[0])), None)
            (down if raises else up).append(_Step(members, joins[0], lift if raises else None))
        if not down:
            raise self.base.refuse("its neck does not lead down to finer levels")
        return down, up


def _is_projection(node: Node) -> bool:
    return node.module == "Conv" and node.args[1:2] == [1]


def _copied(rows: Sequence[Node], share: Fraction | int, outside: Callable[[Source], Source]) -> list[Node]:
    """Copy rows with their wiring among each other.

    Args:
        rows: The rows.
        share: Factor of their widths.
        outside: What a copy reads in place of a row that is not among them.
    """
    copies = [
        Node(
            node.section,
            node.module,
            copy.deepcopy(node.args),
            node.repeats,
            [],
            node.many,
            node.span,
            graft=node.graft,
        )
        for node in rows
    ]
    made = {id(node): new for node, new in zip(rows, copies, strict=True)}
    for node, new in zip(rows, copies, strict=True):
        new.sources = [
            (made[id(s[0])], s[1]) if s is not None and id(s[0]) in made else outside(s) for s in node.sources
        ]
        _scale(new, share)
    return copies


def _from(node: Node) -> Callable[[Source], Source]:
    return lambda _source: (node, 0)


def _reread(rows: Sequence[Node], old: Node, new: Node) -> None:
    for node in rows:
        node.sources = [(new, 0) if s is not None and s[0] is old else s for s in node.sources]


def _widths(node: Node) -> tuple[int, ...]:
    """Positions of the arguments that are channel numbers, the output's first."""
    if node.graft is not None:
        return (0,) if node.graft.channels in ("scaled", "fixed") else ()
    if node.module.startswith("nn.") and node.module not in _TORCH_WITH_WIDTH:
        return ()
    return _WIDTHS.get(node.module, (0,))


def _width(node: Node) -> int:
    """Output channels of a row as written; a row that says none has its input's."""
    positions = _widths(node)
    source = node.sources[0] if len(node.sources) == 1 else None
    if not positions:
        return _width(source[0]) if source is not None else 1
    value = node.args[positions[0]] if len(node.args) > positions[0] else None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        return 1
    return value * (_RESNET_EXPANSION if node.module == "ResNetLayer" and not node.args[3] else 1)


def _set_width(node: Node, width: int) -> None:
    _scale(node, Fraction(width, _width(node)))


def _scale(node: Node, share: Fraction | int) -> None:
    for position in _widths(node):
        value = node.args[position] if len(node.args) > position else None
        if isinstance(value, int) and not isinstance(value, bool):
            node.args[position] = max(int(value * share), 1)
