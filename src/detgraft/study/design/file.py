"""The keys of a study file and the type of each, as pydantic models; what they mean together is checked afterwards."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StringConstraints, ValidationError

from detgraft.base.checked import Expected, expected_at
from detgraft.base.located import Located
from detgraft.errors import nearest
from detgraft.study.design import terms

MOST_SEEDS = 1000
MOST_WORKERS = 10_000
MOST_STALL = 1e6


def _any_of(choices: tuple[str, ...]) -> Any:
    return Field(pattern=f"^({'|'.join(choices)})$")


def _one_of(choices: tuple[str, ...]) -> Expected:
    return Expected(f"one of {', '.join(choices)}", choices)


def _seeds(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_SEEDS:
        return tuple(range(value))
    if isinstance(value, list) and value and len(value) <= MOST_SEEDS:
        good = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31 for seed in value)
        if good and len(set(value)) == len(value):
            return tuple(value)
    raise ValueError


def _workers(value: Any) -> int | None:
    if value == "auto":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_WORKERS:
        raise ValueError
    return value


def _stall(value: Any) -> float | None:
    if value == "none":
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 2 <= value <= MOST_STALL:
        raise ValueError
    return float(value)


def _devices(value: Any) -> tuple[str, ...]:
    """``cpu``, one GPU's number, or several: as a list, or as in ``0,1``."""
    if value == "cpu":
        return ("cpu",)
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    numbers = [str(part).strip().removeprefix("cuda:") for part in parts if not isinstance(part, bool)]
    if len(numbers) != len(parts) or not parts or len(set(numbers)) != len(numbers):
        raise ValueError
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise ValueError
    return tuple(str(int(number)) for number in numbers)


def _listed(value: Any) -> Any:
    """One text stands for a list of one, and nothing for an empty list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _mapped(value: Any) -> Any:
    return {} if value is None else value


_MARGIN = f"a number from 1e-06 to {terms.MOST_MARGIN:g}"
_LINES = Expected("'key: value' lines")
_TEXT = Expected("a text")
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), _TEXT]
Seeds = Annotated[
    tuple[int, ...],
    PlainValidator(_seeds),
    Expected(f"how many (1 to {MOST_SEEDS}) or a list of different whole numbers from 0 up"),
]
Workers = Annotated[int | None, PlainValidator(_workers), Expected("'auto' or how many runs at once")]
Stall = Annotated[float | None, PlainValidator(_stall), Expected(f"a number from 2 to {MOST_STALL:g}, or none")]
Devices = Annotated[
    tuple[str, ...],
    PlainValidator(_devices),
    Expected("cpu, or the numbers of the GPUs over which the runs are spread, such as 0 or [0, 1]"),
]
Trackers = Annotated[
    list[Annotated[str, _any_of((*terms.TRACKERS, "none"))]],
    BeforeValidator(_listed),
    Expected(f"{', '.join(terms.TRACKERS)} or none", terms.TRACKERS),
]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class MetricsKeys(_Strict):
    """The keys of ``metrics:``; see :class:`detgraft.study.design.terms.Metrics`."""

    primary: Annotated[str, _any_of(terms.PRIMARY), _one_of(terms.PRIMARY)] = terms.Metrics.primary
    split: Annotated[str, _any_of(terms.SPLITS), _one_of(terms.SPLITS)] = terms.Metrics.split
    margin: Annotated[float, Field(ge=1e-6, le=terms.MOST_MARGIN), Expected(_MARGIN)] = terms.Metrics.margin
    alpha: Annotated[float, Field(ge=1e-6, le=0.5), Expected("a number from 1e-06 to 0.5")] = terms.Metrics.alpha
    bootstrap: Annotated[int, Field(ge=0, le=100_000), Expected("a whole number to 100000")] = terms.Metrics.bootstrap


class StudyKeys(_Strict):
    """The keys of a study file; the template says what each means."""

    name: Text = ""
    data: Text
    base: Text
    variants: Annotated[list[Any], Field(min_length=1), Expected("a list with at least one graft or model")]
    factors: Any = None
    seeds: Seeds = ()
    stop: Any = None
    train: Annotated[dict[Any, Any], BeforeValidator(_mapped), _LINES] = {}
    init: Annotated[str, _any_of(terms.INITS), _one_of(terms.INITS)] = "scratch"
    weights: Text = ""
    transfer_min: Annotated[float, Field(ge=0, le=1), Expected("a number from 0 to 1")] = 0.0
    controls: Any = "scale"
    metrics: Annotated[MetricsKeys, BeforeValidator(_mapped), _LINES] = MetricsKeys()
    plugins: Annotated[list[Text], BeforeValidator(_listed), _TEXT] = []
    device: Devices = ()
    executor: Annotated[str, _any_of(terms.EXECUTORS), _one_of(terms.EXECUTORS)] = "local"
    address: Text = ""
    workers: Workers = None
    stall: Stall = terms.STALL
    track: Trackers = []
    out: Text = ""


def read_keys(located: Located) -> StudyKeys:
    """Check each key by itself.

    Args:
        located: The values and their lines.

    Raises:
        StudyError: The first thing that is wrong, with its line: an unknown key before all others.
    """
    try:
        return StudyKeys.model_validate(located.values)
    except ValidationError as raised:
        problems = sorted(raised.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    place, given = problems[0]["loc"], problems[0]["input"]
    key = next(part for part in reversed(place) if isinstance(part, str))
    if problems[0]["type"] == "extra_forbidden":
        known = MetricsKeys.model_fields if place[0] == "metrics" else StudyKeys.model_fields
        what = "key of metrics" if place[0] == "metrics" else "key"
        raise located.fail(f"unknown {what} {key!r}; known are {', '.join(known)}.{nearest(key, known)}", *place)
    if problems[0]["type"] == "missing":
        raise located.fail(f"the key '{key}:' is missing.")
    if place == ("metrics", "margin") and isinstance(given, (int, float)) and given > terms.MOST_MARGIN:
        raise located.fail(
            f"margin: {given:g} is {100 * given:g} points; write {given / 100:g} for {given:g} of them.", *place
        )
    expected = expected_at(StudyKeys, place)
    raise located.fail(
        f"{key}: expected {expected.text}, found {given!r:.200}.{nearest(str(given), expected.choices)}", *place
    )
