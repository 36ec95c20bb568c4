"""``factors:`` of a study file: grafts that are trained in all combinations, or alone and in pairs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from detgraft.base.located import Located

MOST_FULL, MOST_PAIRS = 4, 8
"""Most factors of a study that trains all combinations, and of one that trains pairs; 16 and 37 arms."""


@dataclass(frozen=True)
class Factors:
    """What a factorial study varies.

    Args:
        names: The factors as written, in their order.
        order: Most factors of one arm and of one effect.
    """

    names: tuple[str, ...]
    order: int

    def arms(self) -> dict[str, frozenset[str]]:
        """The factors of every variant by its name; the base, which has none, is left out."""
        chosen = [c for size in range(1, self.order + 1) for c in itertools.combinations(self.names, size)]
        return {"+".join(names): frozenset(names) for names in chosen}


def expand(located: Located) -> tuple[Located, Factors | None]:
    """Write the combinations of ``factors:`` out as ``variants:``.

    Args:
        located: The values of a study file and their lines.

    Returns:
        The values with variants in place of factors, and the factors; None where the file has none.

    Raises:
        StudyError: The factors are no list of different grafts, are too few or too many, or cannot go with other keys.
    """
    if "factors" not in located.values:
        return located, None
    value = located.values["factors"]
    pairs = isinstance(value, dict) and list(value) == ["pairs"]
    names = value["pairs"] if pairs else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise located.fail(
            f"factors: expected a list of grafts, or {{pairs: [...]}} with one, found {value!r:.200}.", "factors"
        )
    names = [name.strip() for name in names]
    most = MOST_PAIRS if pairs else MOST_FULL
    if not 2 <= len(names) <= most:
        more = "" if pairs else f"; {{pairs: [...]}} takes up to {MOST_PAIRS}, alone and in pairs"
        raise located.fail(f"factors: expected 2 to {most} grafts, found {len(names)}{more}.", "factors")
    for index, name in enumerate(names):
        if name in names[:index]:
            raise located.fail(f"factors: {name!r} is written twice.", "factors", index)
    if "variants" in located.values:
        raise located.fail("factors: stands in place of variants: and not beside it.", "factors")
    if located.values.get("stop") not in (None, "never"):
        raise located.fail(
            "factors: every effect needs all arms with all seeds, so that a factorial study cannot be sequential.",
            "factors",
        )
    found = Factors(tuple(names), 2 if pairs else len(names))
    values = {key: given for key, given in located.values.items() if key != "factors"} | {
        "variants": list(found.arms())
    }
    line = located.at("factors").line
    lines = located.lines if line is None else {**located.lines, ("variants",): line}
    return Located(located.source, values, lines, located.error), found
