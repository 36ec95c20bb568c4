"""Settings that are checked when they are made, with one sentence for what is wrong; the types are pydantic's."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from detgraft.errors import DetgraftError, nearest

Kind = TypeVar("Kind", bound=type)

STRICT = ConfigDict(strict=True)
"""Nothing is converted: neither "3" nor True is a whole number."""


@dataclass(frozen=True)
class Expected:
    """Stands in a field's annotation and says what it takes, for the sentence.

    Args:
        text: For example "a whole number of at least 1".
        choices: The values that there are, of which the nearest is proposed.
    """

    text: str
    choices: tuple[str, ...] = ()


_ANY = Expected("a whole number of at least 0")
_ONE = Expected("a whole number of at least 1")
FromZero = Annotated[int, Field(ge=0), _ANY]
FromOne = Annotated[int, Field(ge=1), _ONE]
FromZeroOrNone = Annotated[int | None, Field(ge=0), _ANY]
FromOneOrNone = Annotated[int | None, Field(ge=1), _ONE]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), Expected("a positive number")]
PositiveOrNone = Annotated[float | None, Field(gt=0, allow_inf_nan=False), Expected("a positive number")]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), Expected("a number of at least 0")]


def speaking(error: type[DetgraftError]) -> Callable[[Kind], Kind]:
    """Decorate a pydantic dataclass: the first thing that is wrong becomes one sentence.

    Args:
        error: Class of what is raised. An error of detgraft that a validator raises passes as it is.
    """

    def decorate(kind: Kind) -> Kind:
        made = kind.__init__  # type: ignore[misc]

        @functools.wraps(made)
        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            # By name: pydantic would call a wrong value by its position.
            given = inspect.signature(kind).bind(*args, **kwargs).arguments
            try:
                made(self, **given)
            except ValidationError as raised:
                raise _told(kind, raised, error) from None

        kind.__init__ = init  # type: ignore[misc]
        return kind

    return decorate


def _told(kind: Any, raised: ValidationError, error: type[DetgraftError]) -> DetgraftError:
    first = raised.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, DetgraftError):
        return cause
    name, given = str(first["loc"][0]), first["input"]
    expected = expected_at(kind, first["loc"])
    if not expected.text:
        return error(f"{name} is wrong: {first['msg']}, found {given!r:.120}")
    hint = nearest(str(given), expected.choices)
    return error(f"{name} must be {expected.text}, found {given!r:.120}" + (f".{hint}" if hint else ""))


def expected_at(kind: Any, place: tuple[str | int, ...]) -> Expected:
    """Return what the innermost field on the way to a place says that it takes; an empty text where none does.

    Args:
        kind: A pydantic model or dataclass.
        place: Keys and list positions, as pydantic reports them.
    """
    found = Expected("")
    for part in place:
        field = getattr(kind, "__pydantic_fields__", {}).get(part)
        if field is not None:
            found = next((item for item in field.metadata if isinstance(item, Expected)), found)
            kind = field.annotation
    return found
