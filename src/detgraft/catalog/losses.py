"""The catalogue of losses: what a loss term of an expression means, its options, where it comes from.

No torch at import: functions are named as text and imported when a term is resolved.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from detgraft.catalog.registry import catalogue, refuse_unwritable
from detgraft.catalog.spec import Provenance
from detgraft.errors import ArgumentError, CatalogError, Location, nearest

if TYPE_CHECKING:
    from detgraft.losses.terms import BoxTerm, ClassTerm

Kind = Literal["box", "class"]
KINDS: tuple[Kind, ...] = ("box", "class")


@dataclass(frozen=True)
class Option:
    """An option of a loss.

    Args:
        default: Its default; its type says which values it takes.
        text: What it does, for the documentation.
        low: Least value.
        high: Largest value.
        open_low: ``low`` itself is not allowed.
        choices: The only values, where they can be counted.
    """

    default: Any
    text: str = ""
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    choices: tuple[Any, ...] = ()

    def refusal(self, value: Any) -> str:
        """Say what was expected instead of a value, or nothing where it fits."""
        if self.choices:
            fits = any(value == choice and type(value) is type(choice) for choice in self.choices)
            return "" if fits else f"one of {', '.join(map(str, self.choices))}"
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else "True or False"
        whole = isinstance(self.default, int)
        kinds = int if whole else (int, float)
        if isinstance(self.default, (int, float)) and (isinstance(value, bool) or not isinstance(value, kinds)):
            return f"a {'whole ' if whole else ''}number"
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            inside = math.isfinite(value) and self.low <= value <= self.high
            if not inside or (self.open_low and value == self.low):
                return self.bounds()
        return "" if isinstance(self.default, (int, float)) or isinstance(value, str) else "a text"

    def bounds(self) -> str:
        """Return the allowed numbers in words."""
        low = "" if self.low == -math.inf else f"{'above' if self.open_low else 'from'} {self.low:g}"
        high = "" if self.high == math.inf else f"up to {self.high:g}"
        return f"a number {' '.join(filter(None, (low, high)))}".strip()


@dataclass(frozen=True, eq=False)
class Loss:
    """One entry.

    Args:
        name: The name in expressions, without regard to case.
        kind: ``box`` or ``class``.
        target: The function, or ``"module:function"`` imported on first use; see :mod:`detgraft.losses.terms`.
        options: Its options by name.
        aliases: Other names with the same meaning.
        rotated: The function for rotated boxes; empty where the formula has no meaning for them.
        formula: The formula in one line, for the documentation.
        summary: One line for ``detgraft list``.
        provenance: Paper, source and licence.
        origin: ``detgraft``, or the plug-in that registered it.
        momentum: It keeps a running mean, and the option ``momentum`` says a step's share.
        hard: A class loss about right and wrong, see :class:`detgraft.losses.terms.ClassTerm`.
        stock_of: Kinds of heads whose stock loss it is: ``yolo``, ``rtdetr``.
        reduces: Options with which it is what YOLO heads have: CIoU of a box loss, cross-entropy of a class loss.
    """

    name: str
    kind: Kind
    target: str | Callable[..., Any]
    options: Mapping[str, Option] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    rotated: str | Callable[..., Any] = ""
    formula: str = ""
    summary: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    origin: str = "detgraft"
    momentum: bool = False
    hard: bool = False
    stock_of: tuple[str, ...] = ()
    reduces: Mapping[str, Any] | None = None

    def load(self) -> Callable[..., Any]:
        """Import and return the function.

        Raises:
            CatalogError: The entry names something that cannot be imported.
        """
        return _loaded(self.target, self.name)

    def takes_overlap(self) -> bool:
        """Whether the formula takes an overlap that a modifier may change."""
        return "overlap" in inspect.signature(self.load()).parameters

    def all_options(self) -> dict[str, Option]:
        """Return its own options and, of a box loss, those that every box loss has."""
        return {**self.options, **(MODIFIERS if self.kind == "box" else {})}

    def check(self, keywords: Mapping[str, Any], where: Location | None = None) -> None:
        """Check what is given for its options.

        Args:
            keywords: Options by name.
            where: Where they are written.

        Raises:
            ArgumentError: No such option, or a value that it does not take.
        """
        known = self.all_options()
        for key, value in keywords.items():
            if key not in known:
                listed = f"its options are {', '.join(known)}" if known else "it has no options"
                raise ArgumentError(
                    f"the loss '{self.name}' has no option '{key}'; {listed}.{nearest(key, known)}", where
                )
            expected = _bounds_refusal(value) if key == "focaler" else known[key].refusal(value)
            if expected:
                raise ArgumentError(f"'{self.name}': {key} must be {expected}, found {value!r:.60}", where)
        for key in ("inner", "focaler"):
            if key in keywords and not self.takes_overlap():
                raise ArgumentError(
                    f"'{self.name}' takes no overlap=, so there is nothing for {key}= to work on", where
                )

    def term(self, keywords: Mapping[str, Any], where: Location | None = None) -> BoxTerm | ClassTerm:
        """Return the loss with its options, ready to be called.

        Args:
            keywords: Options by name; the others have their defaults.
            where: Where they are written.

        Raises:
            ArgumentError: See :meth:`check`.
        """
        from detgraft.losses.terms import BoxTerm, ClassTerm

        self.check(keywords, where)
        own = {name: keywords.get(name, option.default) for name, option in self.options.items()}
        momentum = own.pop("momentum") if self.momentum else None
        if self.kind == "class":
            return ClassTerm(self.load(), own, self.hard)
        bounds = keywords.get("focaler")
        plain = not own and not keywords.keys() & {"inner", "focaler"}
        keeps = momentum is not None and own.get("version") != 1
        return BoxTerm(
            function=self.load(),
            options=own,
            rotated=_loaded(self.rotated, self.name) if self.rotated else None,
            inner=keywords.get("inner"),
            focaler=None if bounds is None else (float(bounds[0]), float(bounds[1])),
            momentum=momentum if keeps else None,
            assigner=keywords.get("assigner", False),
            stock=",".join(self.stock_of) if plain else "",
        )


MODIFIERS: Mapping[str, Option] = {
    "inner": Option(1.0, "Inner-IoU: overlap of boxes with their sides times this ratio", 0.0, 4.0, open_low=True),
    "focaler": Option((0.0, 1.0), "Focaler-IoU: overlap stretched from (d, u) to (0, 1)"),
    "assigner": Option(False, "the task-aligned assigner judges boxes by this loss, too"),
}
"""Options of every box loss."""


def _bounds_refusal(value: Any) -> str:
    numbers = isinstance(value, (tuple, list)) and len(value) == 2
    numbers = numbers and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return "" if numbers and 0 <= value[0] < value[1] <= 1 else "two numbers (d,u) with 0 <= d < u <= 1"


def _loaded(target: str | Callable[..., Any], name: str) -> Callable[..., Any]:
    if not isinstance(target, str):
        return target
    module, _, attribute = target.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CatalogError(f"the loss '{name}' cannot be loaded from {target}: {error}") from error
    return found


class LossCatalogue:
    """Losses by name. Collisions raise, with each other and with grafts; nothing is ever replaced silently."""

    def __init__(self, entries: tuple[Loss, ...] = ()) -> None:
        self._by_name: dict[str, Loss] = {}
        for entry in entries:
            self.add(entry)
        catalogue.shared_with(self.names)

    def add(self, entry: Loss) -> None:
        """Add an entry under its name and its aliases, without regard to case.

        Raises:
            CatalogError: A name that is taken, or that no expression can hold.
        """
        names = dict.fromkeys(name.lower() for name in (entry.name, *entry.aliases))
        for name in (entry.name, *entry.aliases):
            refuse_unwritable(name)
        for name in names:
            taken: Any = self._by_name.get(name)
            taken = taken if taken is not None or entry.origin == "detgraft" else catalogue.find(name)
            if taken is not None:
                raise CatalogError(f"the name '{name}' is already registered (by {taken.origin}); choose another")
        self._by_name |= dict.fromkeys(names, entry)

    def remove(self, name: str) -> None:
        """Take an entry out again, with all its names."""
        entry = self.get(name)
        self._by_name = {key: value for key, value in self._by_name.items() if value is not entry}

    def find(self, name: str) -> Loss | None:
        """Return the loss of that name, without regard to case, or None."""
        found = self._by_name.get(name.lower())
        if found is None:
            catalogue.complete()  # a plug-in of the parent process may have it
            found = self._by_name.get(name.lower())
        return found

    def get(self, name: str, where: Location | None = None) -> Loss:
        """Return the loss of that name.

        Raises:
            CatalogError: There is none; names the nearest.
        """
        found = self.find(name)
        if found is None:
            raise CatalogError(f"there is no loss '{name}'.{nearest(name, self._by_name)}", where)
        return found

    def __iter__(self) -> Iterator[Loss]:
        """Go through the entries, each once, in the order of registration."""
        return iter(dict.fromkeys(self._by_name.values()))

    def names(self) -> list[str]:
        """Return every accepted name, aliases included."""
        return sorted(self._by_name)

    def match(self, pattern: str = "*") -> list[Loss]:
        """Return the entries whose name or alias matches a wildcard pattern, without regard to case."""
        return [
            entry
            for entry in self
            if any(fnmatch.fnmatchcase(name.lower(), pattern.lower()) for name in (entry.name, *entry.aliases))
        ]


_OVERLAP = "detgraft.losses.overlap"
_CLASSES = "detgraft.losses.classes"
_MOMENTUM = Option(0.01, "share of a step in the running mean of 1 - IoU", 0.0, 1.0, open_low=True)

_BOX = (
    Loss(
        name="ciou",
        kind="box",
        target=f"{_OVERLAP}:ciou",
        summary="complete IoU, Ultralytics' own",
        formula="1 - IoU + d²/c² + a v",
        provenance=Provenance("Distance-IoU Loss, AAAI 2020", "https://github.com/Zzh-tju/DIoU-SSD-pytorch", "GPL-3.0"),
        stock_of=("yolo",),
        reduces={},
    ),
    Loss(
        name="giou",
        kind="box",
        target=f"{_OVERLAP}:giou",
        summary="generalised IoU, RT-DETR's own",
        formula="1 - IoU + (C - U)/C",
        provenance=Provenance(
            "Generalized Intersection over Union, CVPR 2019",
            "https://github.com/generalized-iou/g-darknet",
            "none stated",
        ),
        stock_of=("rtdetr",),
    ),
    Loss(
        name="diou",
        kind="box",
        target=f"{_OVERLAP}:diou",
        summary="distance IoU",
        formula="1 - IoU + d²/c²",
        provenance=Provenance("Distance-IoU Loss, AAAI 2020", "https://github.com/Zzh-tju/DIoU-SSD-pytorch", "GPL-3.0"),
    ),
    Loss(
        name="siou",
        kind="box",
        target="detgraft.losses.siou:siou",
        options={"theta": Option(4.0, "power of the shape cost", 0.0, 10.0, open_low=True)},
        summary="overlap, angle, distance and shape",
        formula="1 - IoU + (distance + shape)/2",
        provenance=Provenance("SIoU Loss, arXiv 2205.12740, 2022", "https://github.com/meituan/YOLOv6", "GPL-3.0"),
    ),
    Loss(
        name="eiou",
        kind="box",
        target=f"{_OVERLAP}:eiou",
        summary="distance IoU with the sides' differences",
        formula="1 - IoU + d²/c² + Δw²/cw² + Δh²/ch²",
        provenance=Provenance("Focal and Efficient IOU Loss for Accurate Bounding Box Regression, Neurocomputing 2022"),
    ),
    Loss(
        name="wiou",
        kind="box",
        target="detgraft.losses.wiou:wiou",
        options={
            "version": Option(
                3, "1: attention by distance; 2: hard boxes count more; 3: neither extreme", choices=(1, 2, 3)
            ),
            "alpha": Option(1.9, "version 3: how fast the weight falls for outliers", 1.0, 10.0, open_low=True),
            "delta": Option(3.0, "version 3: outlier degree of weight 1", 0.0, 20.0, open_low=True),
            "gamma": Option(0.5, "version 2: power of the weight", 0.0, 10.0),
            "momentum": _MOMENTUM,
        },
        aliases=("wise_iou",),
        summary="Wise-IoU: attention by distance and a weight by outlier degree",
        formula="r exp(d²/c²*) (1 - IoU), r = β/(δ α^(β-δ)), β = (1 - IoU)*/mean",
        provenance=Provenance("Wise-IoU, arXiv 2301.10051, 2023", "https://github.com/Instinct323/wiou", "none stated"),
        momentum=True,
    ),
    Loss(
        name="mpdiou",
        kind="box",
        target="detgraft.losses.mpdiou:mpdiou",
        summary="overlap with the distances of two corners",
        formula="1 - IoU + (d1² + d2²)/(H² + W²)",
        provenance=Provenance("MPDIoU, arXiv 2307.07662, 2023", "", ""),
    ),
    Loss(
        name="shape_iou",
        kind="box",
        target="detgraft.losses.shape_iou:shape_iou",
        options={
            "scale": Option(0.0, "power by which a target's shape weighs the axes", 0.0, 10.0),
            "theta": Option(4.0, "power of the shape cost", 0.0, 10.0, open_low=True),
        },
        aliases=("shapeiou",),
        summary="distance and shape, weighed by the target's own shape",
        formula="1 - IoU + (hh Δx² + ww Δy²)/c² + shape/2",
        provenance=Provenance(
            "Shape-IoU, arXiv 2312.17663, 2023", "https://github.com/malagoutou/Shape-IoU", "none stated"
        ),
    ),
    Loss(
        name="piou",
        kind="box",
        target="detgraft.losses.piou:piou",
        options={
            "version": Option(2, "2 weighs by quality, 1 does not", choices=(1, 2)),
            "lam": Option(1.3, "version 2: where the weight is largest", 0.0, 10.0, open_low=True),
        },
        summary="Powerful-IoU: edges' distances as shares of the target",
        formula="1 - IoU + 1 - exp(-P²); v2: times 3x exp(-x²), x = λ exp(-P)",
        provenance=Provenance("Powerful-IoU, Neural Networks 170, 2024", "", ""),
    ),
    Loss(
        name="nwd",
        kind="box",
        target="detgraft.losses.nwd:nwd",
        rotated="detgraft.losses.nwd:rotated_nwd",
        options={
            "ratio": Option(0.5, "share of NWD; 0 is CIoU, 1 is NWD alone", 0.0, 1.0),
            "constant": Option(
                12.8, "mean size of the data's objects in pixels of the input", 0.0, 10000.0, open_low=True
            ),
        },
        reduces={"ratio": 0.0},
        summary="distance of normal distributions, mixed with CIoU; for tiny objects",
        formula="ratio (1 - exp(-W/constant)) + (1 - ratio) CIoU loss",
        provenance=Provenance(
            "A Normalized Gaussian Wasserstein Distance, arXiv 2110.13389, 2021",
            "https://github.com/jwwangchn/NWD",
            "Apache-2.0",
        ),
    ),
    Loss(
        name="alpha_iou",
        kind="box",
        target=f"{_OVERLAP}:alpha_iou",
        rotated=f"{_OVERLAP}:rotated_alpha_iou",
        options={
            "alpha": Option(3.0, "the power", 0.0, 10.0, open_low=True),
            "form": Option(
                "ciou", "which loss is raised; rotated heads have iou only", choices=("iou", "giou", "diou", "ciou")
            ),
        },
        aliases=("alphaiou",),
        reduces={"alpha": 1.0, "form": "ciou"},
        summary="powers of an IoU loss",
        formula="1 - IoU^α + P^α",
        provenance=Provenance("Alpha-IoU, NeurIPS 2021", "https://github.com/Jacobi93/Alpha-IoU", "GPL-3.0"),
    ),
)

_CLASS = (
    Loss(
        name="focal",
        kind="class",
        target=f"{_CLASSES}:focal",
        options={
            "gamma": Option(2.0, "how much easy scores are held down", 0.0, 10.0),
            "alpha": Option(0.25, "weight of the positives; negative for none", -1.0, 1.0),
        },
        aliases=("focal_loss",),
        reduces={"gamma": 0.0, "alpha": -1.0},
        summary="focal loss",
        formula="a (1 - p)^γ CE",
        provenance=Provenance(
            "Focal Loss for Dense Object Detection, ICCV 2017",
            "https://github.com/facebookresearch/Detectron",
            "Apache-2.0",
        ),
        hard=True,
    ),
    Loss(
        name="varifocal",
        kind="class",
        target=f"{_CLASSES}:varifocal",
        options={
            "gamma": Option(2.0, "how much easy negatives are held down", 0.0, 10.0),
            "alpha": Option(0.75, "weight of the negatives", 0.0, 10.0),
        },
        aliases=("vfl",),
        summary="varifocal loss",
        formula="q CE where q > 0, else α p^γ CE",
        provenance=Provenance("VarifocalNet, CVPR 2021", "https://github.com/hyz-xmaster/VarifocalNet", "Apache-2.0"),
    ),
    Loss(
        name="quality_focal",
        kind="class",
        target=f"{_CLASSES}:quality_focal",
        options={"beta": Option(2.0, "how much scores near their target are held down", 0.0, 10.0)},
        aliases=("qfl", "qualityfocal"),
        reduces={"beta": 0.0},
        summary="quality focal loss",
        formula="|y - p|^β CE",
        provenance=Provenance("Generalized Focal Loss, NeurIPS 2020", "https://github.com/implus/GFocal", "Apache-2.0"),
    ),
    Loss(
        name="slide",
        kind="class",
        target=f"{_CLASSES}:slide",
        aliases=("slide_loss",),
        summary="slide loss: boxes just below the mean overlap count most",
        formula="f(IoU) CE, f = 1, exp(1 - m), exp(1 - IoU)",
        provenance=Provenance(
            "YOLO-FaceV2, arXiv 2208.02019, 2022", "https://github.com/Krasjet-Yu/YOLO-FaceV2", "none stated"
        ),
        hard=True,
    ),
)

losses = LossCatalogue((*_BOX, *_CLASS))


def list_losses(pattern: str = "*") -> list[Loss]:
    """List the losses that are available.

    Args:
        pattern: A name or a wildcard pattern such as ``*iou``.
    """
    return losses.match(pattern)


def register_loss(
    name: str,
    *,
    kind: Kind,
    aliases: tuple[str, ...] = (),
    rotated: Callable[..., Any] | None = None,
    summary: str = "",
) -> Callable[[Any], Any]:
    """Register an own loss under a name that expressions can use.

    A box loss takes predicted and target boxes (left, top, right, bottom in pixels of the network's input, shape
    (N, 4)) and returns a loss for each pair, shape (N,). A class loss takes logits and targets (same shape) and returns
    one for each score. By name it may ask for what :mod:`detgraft.losses.terms` lists, such as ``overlap``, and then
    has ``inner=`` and ``focaler=``. What else it takes by name, with a default, are its options.

    Args:
        name: The new name.
        kind: ``box`` or ``class``.
        aliases: Other names.
        rotated: The form of a box loss for rotated boxes: centre, width, height, angle, shape (N, 5), and ``overlap=``.
        summary: One line for ``detgraft list``; the docstring's first by default.

    Raises:
        CatalogError: An unknown kind, a name that is taken, or a function that does not fit.
    """
    if kind not in KINDS:
        raise CatalogError(f"kind must be 'box' or 'class', found {kind!r:.60}")

    def decorate(target: Any) -> Any:
        options = _options_of(target, name, kind)
        entry = Loss(
            name=name,
            kind=kind,
            target=target,
            options=options,
            aliases=aliases,
            rotated=rotated or "",
            summary=summary or (target.__doc__ or "").strip().partition("\n")[0],
            origin=str(target.__module__),
        )
        losses.add(entry)
        return target

    return decorate


def _options_of(target: Any, name: str, kind: Kind) -> dict[str, Option]:
    from detgraft.losses.terms import BOX_CONTEXT, CLASS_CONTEXT

    context = [word for word in (BOX_CONTEXT if kind == "box" else CLASS_CONTEXT) if word != "mean" or kind == "class"]
    try:
        first, second, *others = inspect.signature(target).parameters.values()
    except (TypeError, ValueError) as error:
        what = "predicted and target boxes" if kind == "box" else "logits and targets"
        raise CatalogError(f"the loss '{name}' must be a function that takes {what} first") from error
    options: dict[str, Option] = {}
    for parameter in (first, second):
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            raise CatalogError(f"the loss '{name}' must take its two tensors by position, found '{parameter}'")
    for parameter in others:
        if parameter.name in context:
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise CatalogError(
                f"the loss '{name}': behind its two tensors stand, after a *, what it asks for "
                f"({', '.join(context)}) and "
                f"its options with their defaults; found '{parameter}'"
            )
        if not isinstance(parameter.default, (bool, int, float, str)):
            raise CatalogError(
                f"the loss '{name}': the default of an option is a number, a text, True or False: '{parameter}'"
            )
        if parameter.name in MODIFIERS:
            raise CatalogError(
                f"the loss '{name}': '{parameter.name}' is an option of every box loss; take overlap= instead"
            )
        options[parameter.name] = Option(parameter.default)
    return options
