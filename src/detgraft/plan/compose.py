"""Composes a base model's rows and grafts into the rows of a grafted model.

Rows refer to each other as objects while they are moved, so no index can go wrong; numbers are written at the end.
Every graft first says which rows of the *base* it claims; two claims on one row are an error, so the order of the
grafts does not matter. A block without a narrowed site leaves the rows to a backbone that replaces them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from detgraft.catalog.shells import CSP, csp_modules
from detgraft.catalog.spec import Graft
from detgraft.errors import ArgumentError, Location, PlanError
from detgraft.plan.document import SECTIONS
from detgraft.plan.expression import Expression, GraftTerm
from detgraft.plan.leading import LARGEST_OPTION, only_channels
from detgraft.plan.meanings import record_of
from detgraft.plan.rows import PYRAMID_LAYERS, PYRAMID_STRIDES, Plan, Row
from detgraft.plan.shells import in_row
from detgraft.plan.weights_files import INPUT

# Modules at a backbone's end that gather context at its last resolution; a backbone graft leaves them in place.
CONTEXT = frozenset({"SPPF", "SPP", "SPPELAN", "PSA", "C2PSA", "C2fPSA", "AIFI"})
# Of these, the ones that cannot change the channel count, so that they cannot follow a backbone directly.
SAME_CHANNELS = frozenset({"PSA", "C2PSA", "C2fPSA", "AIFI"})

StockParameters = Callable[[str], Sequence[str]]
"""Returns the names of a stock module's row arguments, in order."""


@dataclass(eq=False)
class Node:
    """A row while it is being moved.

    Args:
        section: ``backbone`` or ``head``.
        module: Module name.
        args: Arguments.
        repeats: Repeats as written.
        sources: What feeds it: nodes, or (node, slot) for a backbone's feature; None is the image.
        many: ``from`` is written as a list.
        span: Number of layers that it becomes.
        origin: Layer index in the base model that it stands for, None for a new row.
        touched: A graft changed it.
        graft: The graft that it is, None for a stock module.
    """

    section: str
    module: str
    args: list[Any]
    repeats: int
    sources: list[tuple[Node, int] | None]
    many: bool
    span: int = 1
    origin: int | None = None
    touched: bool = False
    graft: Graft | None = None


@dataclass
class Composition:
    """The outcome: rows for a YAML, and where each layer comes from.

    Args:
        backbone: Rows of the backbone section.
        head: Rows of the head section.
        origins: For every layer of the new model the layer of the base that it continues, or None.
        notes: What was left out, in sentences.
        meanings: Which rows are grafts, see :mod:`detgraft.plan.meanings`.
    """

    backbone: list[list[Any]] = field(default_factory=list)
    head: list[list[Any]] = field(default_factory=list)
    origins: list[int | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    meanings: list[list[str]] = field(default_factory=list)


def compose(
    expression: Expression,
    base: Plan,
    strides: Mapping[int, int],
    entries: Sequence[Graft],
    stock_parameters: StockParameters,
) -> Composition:
    """Put grafts into a base model.

    Args:
        expression: The parsed expression.
        base: The base model's plan.
        strides: Stride of each base layer's output relative to the image, where it is one feature.
        entries: The catalogue entry of each graft, in the expression's order.
        stock_parameters: See :data:`StockParameters`.

    Raises:
        PlanError: Two grafts claim one row, or a graft finds no row to work on.
        ArgumentError: Arguments that the graft does not have.
    """
    return _Composer(expression, base, strides, stock_parameters).run(entries)


class _Composer:
    def __init__(
        self, expression: Expression, base: Plan, strides: Mapping[int, int], stock_parameters: StockParameters
    ) -> None:
        self.expression = expression
        self.where = Location(str(expression))
        self.base = base
        self.strides = strides
        self.stock_parameters = stock_parameters
        self.nodes = nodes_of(base)
        self.pyramid: GraftTerm | None = None
        self.outcome = Composition()

    def run(self, entries: Sequence[Graft]) -> Composition:
        terms = list(zip(self.expression.grafts, entries, strict=True))
        pyramids = [pair for pair in terms if pair[1].channels == "pyramid"]
        if len(pyramids) > 1:
            names = " and ".join(f"'{term.name}'" for term, _ in pyramids)
            raise PlanError(f"{names} both replace the backbone; a model has one", self.where)
        self.pyramid = pyramids[0][0] if pyramids else None
        refiners = [str(term) for term, entry in terms if entry.channels == "refine"]
        if len(refiners) > 1:
            raise PlanError(
                f"{' and '.join(map(repr, refiners))} both stand before the head; a model has one", self.where
            )
        claims: dict[tuple[int, bool], GraftTerm] = {}
        work: list[tuple[GraftTerm, Graft, list[int]]] = []
        for term, entry in sorted(terms, key=lambda pair: pair[1].channels != "pyramid"):
            rows = self._claim(term, entry, claims)
            places = (False, True) if entry.channels == "pyramid" else (entry.site == "stage",)
            claims |= {(row, behind): term for row in rows for behind in places}
            work.append((term, entry, rows))
        for term, entry, rows in work:
            if entry.channels == "pyramid":
                self._replace_backbone(term, entry, rows)
            elif entry.channels == "refine":
                self._refine(term, entry)
            elif entry.site == "stage":
                self._insert(term, entry, rows)
            elif entry.filling is not None and not entry.target:
                self._fill(entry, rows)
            else:
                self._replace_rows(term, entry, rows)
        return self._written()

    def _claim(self, term: GraftTerm, entry: Graft, claims: Mapping[tuple[int, bool], GraftTerm]) -> list[int]:
        """The rows that a graft works on. The row itself and the place behind it can be claimed once each."""
        if entry.channels == "refine":  # it stands between the neck and the head, which both stay
            return []
        rows = self._backbone_rows(term) if entry.channels == "pyramid" else self._block_rows(term, entry)
        free = []
        for row in rows:
            other = claims.get((row, entry.site == "stage"))
            if other is None:
                free.append(row)
            elif term.section is not None or other is not self.pyramid:
                raise PlanError(
                    f"'{other}' and '{term}' both claim layer {row} of {self.expression.base} "
                    f"({self.base.rows[row].module}); narrow one with @backbone.N or @head.N",
                    self.where,
                )
        if not free:
            raise PlanError(self._nothing(term, entry), self.where)
        return free

    def _nothing(self, term: GraftTerm, entry: Graft) -> str:
        wanted = {
            "upsample": "nearest upsampling by 2 (nn.Upsample)",
            "downsample": "strided Conv after the stem",
            "stage": "backbone stage",
            CSP: f"cross-stage block ({', '.join(csp_modules())})",
        }.get(entry.site, entry.site or "row")
        others = "what the other grafts leave of " if len(self.expression.grafts) > 1 else ""
        scope = f"the {term.section} of {self.expression.base}" if term.section else f"{others}{self.expression.base}"
        modules = ", ".join(dict.fromkeys(row.module for row in self.base.rows))
        return f"'{term}' works on every {wanted}, and {scope} has none; its modules are {modules}"

    def _backbone_rows(self, term: GraftTerm) -> list[int]:
        """The rows from the image to the last feature of stride 32, without the context modules behind it."""
        if term.section == "head" or term.number is not None:
            raise PlanError(f"'{term}' replaces the whole backbone; its site cannot be narrowed", self.where)
        count = sum(row.section == "backbone" for row in self.base.rows)
        rows = list(range(count))
        deepest = PYRAMID_STRIDES[-1]
        while rows and (
            self.base.rows[rows[-1]].module in CONTEXT or self.strides.get(self.base.rows[rows[-1]].index, 0) > deepest
        ):
            rows.pop()
        while len(rows) < count and self.base.rows[len(rows)].module in SAME_CHANNELS:
            row = self.base.rows[len(rows)]
            self.outcome.notes.append(
                f"layer {row.index} ({row.module}) goes with the backbone, whose channels it needs"
            )
            rows.append(len(rows))
        return rows

    def _block_rows(self, term: GraftTerm, entry: Graft) -> list[int]:
        rows = list(enumerate(self.base.rows))
        if term.section is not None:
            rows = [(position, row) for position, row in rows if row.section == term.section]
        if term.number is not None:
            if term.number >= len(rows):
                raise PlanError(
                    f"'{term}': the {term.section} of {self.expression.base} has rows 0 to {len(rows) - 1}", self.where
                )
            position, row = rows[term.number]
            if entry.site not in ("stage", "") and not self._site_test(entry)(position, row, True):
                raise PlanError(
                    f"'{term}': row {term.number} of the {term.section} is {row.module} {list(row.args)}, "
                    f"which '{entry.name}' cannot replace (it replaces: {entry.site})",
                    self.where,
                )
            return [position]
        fits = self._site_test(entry)
        return [position for position, row in rows if fits(position, row, False)]

    def _site_test(self, entry: Graft) -> Callable[[int, Row, bool], bool]:
        site = entry.site
        if site == "upsample":
            return lambda _position, row, _named: _is_nearest_upsample(row)
        if site == "downsample":
            return lambda position, row, named: row.module == "Conv" and (named or (position > 0 and _stride(row) == 2))
        if site == "stage":
            ends = self._stage_ends()
            return lambda position, _row, _named: position in ends
        if not site:
            raise PlanError(
                f"'{entry.name}' has no default site; say which row it replaces with @backbone.N or @head.N", self.where
            )
        if site == CSP:
            return lambda _position, row, _named: row.module in csp_modules()
        return lambda _position, row, _named: row.module == site

    def _stage_ends(self) -> set[int]:
        """The last backbone row of each stride 8, 16 and 32, context modules left aside."""
        ends: dict[int, int] = {}
        for position, row in enumerate(self.base.rows):
            if row.section == "backbone" and row.module not in CONTEXT:
                ends[self.strides.get(row.index, 0)] = position
        return {ends[stride] for stride in PYRAMID_STRIDES[1:] if stride in ends}

    def _replace_backbone(self, term: GraftTerm, entry: Graft, rows: list[int]) -> None:
        removed = [self._node_of(row) for row in rows]
        slots = self._slots(rows)
        keywords = dict(term.keywords)
        unknown = set(keywords) - {"width", "weights", "input"}
        if unknown:
            raise ArgumentError(
                f"'{entry.name}' takes width=, weights= and input=, found {', '.join(sorted(unknown))}", self.where
            )
        args = [keywords.get("width", 1.0) if self._has_width(entry) else keywords.get("width")]
        args = [value for value in [*args, keywords.get("weights")] if value is not None]
        args += [f"{INPUT}{keywords['input']}"] if "input" in keywords else []
        backbone = Node("backbone", entry.name, args, 1, [None], False, PYRAMID_LAYERS, None, True, entry)
        kept = [node for node in self.nodes if node not in removed]
        for node in kept:
            for position, source in enumerate(node.sources):
                if source is not None and source[0] in removed:
                    slot = slots.get(id(source[0]))
                    if slot is None:
                        stride = self.strides.get(source[0].origin or 0)
                        raise PlanError(
                            f"'{term}': {node.module} of {self.expression.base} reads a backbone feature of stride "
                            f"{stride}; a grafted backbone has strides 4, 8, 16 and 32",
                            self.where,
                        )
                    node.sources[position] = (backbone, slot)
        self.nodes = [backbone, *kept]

    @staticmethod
    def _has_width(entry: Graft) -> bool:
        return any(parameter.name == "width" for parameter in entry.parameters())

    def _slots(self, rows: list[int]) -> dict[int, int]:
        """The slot that continues each removed node: the selector of the same stride."""
        strides = {row: self.strides.get(self.base.rows[row].index, 0) for row in rows}
        return {
            id(self._node_of(row)): PYRAMID_STRIDES.index(stride) + 1
            for row, stride in strides.items()
            if stride in PYRAMID_STRIDES
        }

    def _refine(self, term: GraftTerm, entry: Graft) -> None:
        """Put a refiner before the head: it takes the head's list of features and hands on one of its own."""
        if term.section is not None:
            raise PlanError(f"'{term}' stands before the head; its site cannot be narrowed", self.where)
        head = self.nodes[-1]
        if not head.many or len(head.sources) < 2:
            raise PlanError(
                f"'{term}' works on the list of features before the head, and {head.module} of {self.expression.base} "
                "reads one",
                self.where,
            )
        count = len(head.sources)
        args = self._arguments(entry, {}, term)
        strides = [self._stride_of(source) for source in head.sources]
        # A refiner takes the finest feature first; a head for masks may read them in another order.
        order = sorted(range(count), key=strides.__getitem__) if all(strides) else list(range(count))
        sources = [head.sources[position] for position in order]
        node = Node("head", entry.name, args, 1, sources, True, 1 + count, touched=True, graft=entry)
        head.sources = [(node, 1 + order.index(position)) for position in range(count)]
        self.nodes.insert(len(self.nodes) - 1, node)

    def _stride_of(self, source: tuple[Node, int] | None) -> int:
        """The stride of a feature, that of the row behind a graft that keeps it; 0 where it is not known."""
        node = source[0] if source is not None else None
        while node is not None and node.origin is None:
            before = node.sources[0] if len(node.sources) == 1 else None
            node = before[0] if before is not None else None
        return 0 if node is None or node.origin is None else self.strides.get(node.origin, 0)

    def _insert(self, term: GraftTerm, entry: Graft, rows: list[int]) -> None:
        """Put a graft behind a row; whatever read the row reads the graft then."""
        for node in [self._node_of(row) for row in rows]:
            graft = Node(
                node.section,
                entry.name,
                self._arguments(entry, {}, term),
                1,
                [(node, 0)],
                False,
                touched=True,
                graft=entry,
            )
            for other in self.nodes:
                other.sources = [(graft, 0) if s is not None and s[0] is node else s for s in other.sources]
            self.nodes.insert(self.nodes.index(node) + 1, graft)

    def _replace_rows(self, term: GraftTerm, entry: Graft, rows: list[int]) -> None:
        replaced = 0
        for row in rows:
            node = self._node_of(row)
            given = self._given(entry, node)
            if isinstance(given, str):
                self.outcome.notes.append(f"layer {row} ({node.module}) stays as it is: {given}")
                continue
            leading = [node.args[0]] if entry.channels in ("scaled", "fixed") else []
            if entry.channels == "fuse":
                width = self._width_behind(node)
                if width is None:
                    self.outcome.notes.append(
                        f"layer {row} ({node.module}) stays as it is: no row behind it says how wide its level is"
                    )
                    continue
                leading = [width]
            node.args = [*leading, *self._arguments(entry, given, term)]
            node.module, node.graft, node.touched = entry.name, entry, True
            node.repeats = node.repeats if entry.repeats is not None else 1
            replaced += 1
        if not replaced:
            raise PlanError(f"'{term}' replaces no row: {'; '.join(self.outcome.notes)}", self.where)

    def _fill(self, entry: Graft, rows: list[int]) -> None:
        """Put a block into stock shells: the rows stay as they are, but for the name."""
        for node in [self._node_of(row) for row in rows]:
            node.graft = in_row(entry, node.module)
            node.module, node.touched = node.graft.name, True

    def _width_behind(self, node: Node) -> int | None:
        """The output channels that the row behind a joining row writes: the width of that level."""
        for reader in self.nodes:
            if not any(source is not None and source[0] is node for source in reader.sources) or not reader.args:
                continue
            first = reader.args[0]
            writes = reader.graft is None and "." not in reader.module
            writes = writes or (reader.graft is not None and reader.graft.channels in ("scaled", "fixed"))
            if writes and not reader.many and isinstance(first, int) and not isinstance(first, bool) and first > 1:
                return first
        return None

    def _node_of(self, row: int) -> Node:
        index = self.base.rows[row].index
        return next(node for node in self.nodes if node.origin == index)

    def _given(self, entry: Graft, node: Node) -> dict[str, Any] | str:
        """The replaced row's arguments under the graft's names, or why they cannot be carried over."""
        known = {parameter.name for parameter in entry.parameters()}
        if entry.channels not in ("scaled", "fixed"):
            return {"dimension": node.args[0]} if "dimension" in known and node.args else {}
        names = list(self.stock_parameters(node.module))
        given: dict[str, Any] = {}
        for name, value in zip(names, node.args[1:], strict=False):
            if name in known:
                given[name] = value
            elif name not in entry.drops and (value not in (False, None, True) or (value is True and name != "act")):
                return f"'{entry.name}' has no argument '{name}' (here {value!r})"
        return given

    def _arguments(self, entry: Graft, given: Mapping[str, Any], term: GraftTerm) -> list[Any]:
        """Positional arguments from the replaced row's and the expression's, up to the last one that is not default."""
        parameters = entry.parameters()
        bound = entry.bind((), {**given, **term.keywords}, self.where)
        last = max((i for i, p in enumerate(parameters) if p.name in bound), default=-1)
        values = [bound.get(p.name, p.default) for p in parameters[: last + 1]]
        if entry.channels in ("same", "concat") and values:
            if parameters[0].annotation is float and isinstance(values[0], int):
                values[0] = float(values[0])
            if only_channels(entry, tuple(values)):  # it was named, but a row has no names
                raise ArgumentError(
                    f"'{term}': {parameters[0].name} can be at most {LARGEST_OPTION}, found {values[0]}; a larger "
                    "number in a row counts channels",
                    self.where,
                )
        return values

    def _written(self) -> Composition:
        return write_rows(self.nodes, self.outcome)


def write_rows(nodes: Sequence[Node], outcome: Composition) -> Composition:
    """Number moved rows and write them down.

    Args:
        nodes: The rows in their new order, backbone first.
        outcome: Filled here, and returned.
    """
    first: dict[int, int] = {}
    index = 0
    for node in nodes:
        first[id(node)] = index
        index += node.span
    for node in nodes:
        here = first[id(node)]
        numbers = []
        for source in node.sources:
            number = -1 if source is None else first[id(source[0])] + source[1]
            # The head's list is absolute, as in stock YAMLs: RT-DETR's own loop looks its numbers up as they are.
            relative = number == here - 1 and not (node.many and node is nodes[-1])
            numbers.append(-1 if relative else number)
        row = [numbers if node.many else numbers[0], node.repeats, node.module, node.args]
        (outcome.backbone if node.section == "backbone" else outcome.head).append(row)
        outcome.origins += [node.origin] + [None] * (node.span - 1)
    ordered = [node for section in SECTIONS for node in nodes if node.section == section]
    outcome.meanings = record_of((node.module, node.graft is not None) for node in ordered)
    return outcome


def nodes_of(plan: Plan) -> list[Node]:
    """Return a plan's rows as objects that can be moved, in order."""
    by_layer: dict[int, tuple[Node, int]] = {}
    nodes: list[Node] = []
    for row in plan.rows:
        sources = [None if source < 0 else by_layer[source] for source in row.sources]
        many = isinstance(row.written_from, tuple)
        args = list(row.args)
        node = Node(row.section, row.module, args, row.repeats, sources, many, row.span, row.index, graft=row.graft)
        nodes.append(node)
        by_layer |= {row.index + slot: (node, slot) for slot in range(row.span)}
    return nodes


def _is_nearest_upsample(row: Row) -> bool:
    args = [value if value != "None" else None for value in row.args]
    return row.module == "nn.Upsample" and args[:2] == [None, 2] and (len(args) < 3 or args[2] == "nearest")


def _stride(row: Row) -> int:
    return row.args[2] if len(row.args) > 2 and isinstance(row.args[2], int) else 1


def sections(composition: Composition) -> dict[str, list[list[Any]]]:
    """Return the composed rows by section, as a YAML has them."""
    return dict(zip(SECTIONS, (composition.backbone, composition.head), strict=True))
