"""Fragments: necks as YAML, rows that call each other, and the features that they read and give, by name.

::

    inputs: [P3, P4, P5]                 # features of the backbone: P3 has stride 8, P4 16, P5 32
    outputs: {P3: fine, P4: coarse, P5: P5}
    options: {width: 256}                # what rows may name; +NECK(width=...) changes it
    rows:
      - lifted: [P5, 1, nn.Upsample, [None, 2, nearest]]
      - [[lifted, P4], 1, Concat, [1]]   # a row that only the next one reads needs no name
      - coarse: [-1, 3, C2f, [width]]
      ...

``repeat`` builds rows several times over, each time from what the time before gave::

      - repeat: layers                   # a number or an option
        over: {P3: fine, P4: coarse}     # the second time P3 is what the first time called fine
        rows: [...]

With ``levels`` a fragment is written once for whatever levels the head reads (``+p2``, ``+p6``). ``low`` and ``high``
are the numbers of the lowest and the highest one; names hold numbers in parentheses, ``P(high-1)``, and a range stands
for as many names, ``P(low..high)``. ``up`` and ``down`` go through levels::

    levels: [P2, P3, P4, P5, P6]         # what it can be written for
    inputs: [P(low..high)]
    outputs: {P(low..high): out(low..high)}
    options: {w2: 128, w3: 256, w4: 512, w5: 1024, w6: 1024}
    rows:
      - out(high): [P(high), 1, Conv, [w(high), 1, 1]]
      - down: {k: [high-1, low]}
        rows:
          - [out(k+1), 1, nn.Upsample, [None, 2, nearest]]
          - [[-1, P(k)], 1, Concat, [1]]
          - out(k): [-1, 3, C2f, [w(k)]]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detgraft.base.located import Kind, Located, parse_located, read_bytes
from detgraft.catalog.spec import Graft
from detgraft.errors import ArgumentError, Location, PlanError, nearest
from detgraft.plan.necks import LEVELS, Neck, NeckRow
from detgraft.plan.rows import LISTS, MAX_REPEATS, MAX_ROWS

KIND = Kind("neck", "a mapping with 'inputs', 'outputs' and 'rows'", unique=True)
OUTPUTS = tuple(LEVELS)[1:]
"""What a head can read: no stock one reads stride 2."""

USUAL = ("P3", "P4", "P5")
"""The levels that most heads read."""

MAX_PASSES = 20
_MOST_STEPS = 1000
_KEYS = ("levels", "inputs", "outputs", "options", "rows")
_NAME = re.compile(r"[A-Za-z_]\w*")
_SUM = r"\w{1,20}(?:[+-]\w{1,20}){0,4}"
_NUMBER = re.compile(rf"\(({_SUM})(?:\.\.({_SUM}))?\)")
_NUMBERED = re.compile(rf"[A-Za-z_]\w*(?:\({_SUM}(?:\.\.{_SUM})?\)\w*)+")
_TERM = re.compile(r"([+-]?)(\w+)")

Meaning = Callable[[str, bool | None, Location], Graft | None]
"""Returns the graft that a module name means, None for a stock module; raises for a name that nobody has."""


def read_neck(
    path: str | Path,
    source: str,
    meaning: Meaning,
    options: Mapping[str, Any] | None = None,
    levels: Sequence[str] = USUAL,
) -> Neck:
    """Read a neck from a file.

    Args:
        path: The file.
        source: How to call it in messages.
        meaning: See :data:`Meaning`.
        options: Values in place of the file's own.
        levels: The levels that the head reads, for a file with ``levels``.

    Raises:
        PlanError: Missing, unreadable, not a neck, or not for these levels: names the line, what was expected and the
            nearest name.
        ArgumentError: An option that it does not have.
    """
    text = read_bytes(path, source, PlanError, KIND).decode("utf-8", errors="replace")
    return parse_neck(text, source, meaning, options, levels)


def parse_neck(
    text: str,
    source: str,
    meaning: Meaning,
    options: Mapping[str, Any] | None = None,
    levels: Sequence[str] = USUAL,
) -> Neck:
    """Parse the text of a neck, see :func:`read_neck`."""
    return _Reader(parse_located(text, source, PlanError, KIND), meaning, options or {}, levels).neck()


@dataclass
class _Reader:
    """Reads a fragment row by row; what a name means is known as soon as its row is read.

    Args:
        document: The parsed file.
        meaning: See :data:`Meaning`.
        changed: Options of the expression.
        levels: The levels that the head reads.
    """

    document: Located
    meaning: Meaning
    changed: Mapping[str, Any]
    levels: Sequence[str]
    rows: list[NeckRow] = field(default_factory=list)
    known: dict[str, str | int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    steps: int = 0

    def neck(self) -> Neck:
        values, at = self.document.values, self.document
        at.check_keys(values, _KEYS, "key")
        for key in ("inputs", "outputs", "rows"):
            if key not in values:
                raise at.fail(f"a neck has '{key}:', which is missing; its keys are {', '.join(_KEYS)}")
        self._read_levels()
        self._read_options()
        self._read_inputs()
        entries = values["rows"]
        if not isinstance(entries, list) or not entries:
            raise at.fail(
                f"'rows:' must be a list of rows [from, repeats, module, args], found {entries!r:.80}", "rows"
            )
        self._read_rows(entries, ("rows",))
        outputs = self._read_outputs()
        self._refuse_unused(outputs)
        return Neck(self.document.source, tuple(self.rows), outputs)

    def _read_levels(self) -> None:
        """Set ``low`` and ``high``, where the file is written for other levels, too."""
        if "levels" not in self.document.values:
            return
        known = self.document.values["levels"]
        if not isinstance(known, list) or not known or not all(isinstance(n, str) and n in LEVELS for n in known):
            words = f"'levels:' lists those that it can be written for, such as [P3, P4, P5], found {known!r:.80}"
            raise self.document.fail(words, "levels")
        found = [int(name[1:]) for name in self.levels]
        wanted = ", ".join(self.levels)
        unknown = [name for name in self.levels if name not in known]
        if unknown:
            raise self.document.fail(f"it is for {', '.join(known)}, and the head reads {wanted}", "levels")
        if len(found) < 2 or found != list(range(found[0], found[-1] + 1)):
            raise self.document.fail(f"it is for levels that follow each other, and the head reads {wanted}", "levels")
        self.numbers = {"low": found[0], "high": found[-1]}

    def _read_inputs(self) -> None:
        inputs = self.document.values["inputs"]
        if not isinstance(inputs, list) or not inputs:
            raise self.document.fail(f"'inputs:' lists features, such as [P3, P4, P5], found {inputs!r:.80}", "inputs")
        for position, written in enumerate(inputs):
            here = ("inputs", position)
            for name in self._texts(written, here) if isinstance(written, str) else [written]:
                if not isinstance(name, str) or name not in LEVELS:
                    raise self.document.fail(f"an input is one of {', '.join(LEVELS)}, found {name!r:.40}", *here)
                if name in self.known:
                    raise self.document.fail(f"the input {name} is listed twice", *here)
                self.known[name] = name
                self.inputs.append(name)

    def _number(self, text: str, here: tuple[str | int, ...]) -> int:
        """Work out ``low+1``."""
        total = 0
        for sign, term in _TERM.findall(text):
            if term.isdecimal() and len(term) <= 3:
                value = int(term)
            elif term in self.numbers:
                value = self.numbers[term]
            else:
                words = f"'{term}' in ({text}) is no number; there are {', '.join(self.numbers)}"
                raise self.document.fail(f"{words}.{nearest(term, self.numbers)}", *here)
            total += -value if sign == "-" else value
        return total

    def _texts(self, text: str, here: tuple[str | int, ...]) -> list[str]:
        """Write out a name with numbers in parentheses; a range gives several names."""
        if not self.numbers or not _NUMBERED.fullmatch(text):
            return [text]
        found = [""]
        end = 0
        for match in _NUMBER.finditer(text):
            first = self._number(match[1], here)
            last = first if match[2] is None else self._number(match[2], here)
            if not 0 <= last - first < MAX_PASSES:
                raise self.document.fail(f"({match[0].strip('()')}) goes from {first} to {last}", *here)
            found = [f"{before}{text[end : match.start()]}{n}" for before in found for n in range(first, last + 1)]
            if len(found) > MAX_PASSES:
                raise self.document.fail(f"'{text}' stands for more than {MAX_PASSES} names", *here)
            end = match.end()
        return [before + text[end:] for before in found]

    def _text(self, text: str, here: tuple[str | int, ...]) -> str:
        """Write out a name that is one."""
        found = self._texts(text, here)
        if len(found) > 1:
            raise self.document.fail(f"'{text}' stands for {', '.join(found)}, and one name is expected", *here)
        return found[0]

    def _pairs(self, written: Mapping[Any, Any], here: tuple[str | int, ...]) -> dict[Any, Any]:
        """Write out a mapping of names to names; a range on both sides gives as many pairs."""
        found: dict[Any, Any] = {}
        for key, value in written.items():
            keys = self._texts(key, (*here, key)) if isinstance(key, str) else [key]
            values = self._texts(value, (*here, key)) if isinstance(value, str) else [value]
            if len(keys) != len(values):
                words = f"'{key}' stands for {len(keys)} names, and '{value}' for {len(values)}"
                raise self.document.fail(words, *here, key)
            for name in keys:
                if name in found:
                    raise self.document.fail(f"{name!r:.40} is written twice", *here, key)
            found |= zip(keys, values, strict=True)
        return found

    def _read_options(self) -> None:
        found = self.document.values.get("options") or {}
        if not isinstance(found, dict):
            raise self.document.fail(f"'options:' maps names to values, found {found!r:.80}", "options")
        for name in found:
            if not isinstance(name, str) or not _NAME.fullmatch(name) or name in LEVELS:
                raise self.document.fail(f"an option's name is letters, digits and _, found {name!r:.40}", "options")
        for name in self.changed:
            if name not in found:
                raise ArgumentError(
                    f"the neck {self.document.source} has no option '{name}'; it has "
                    f"{', '.join(found) or 'none'}.{nearest(name, found)}"
                )
        self.options = {**found, **self.changed}

    def _read_rows(self, entries: Sequence[Any], path: tuple[str | int, ...]) -> None:
        for number, entry in enumerate(entries):
            here = (*path, number)
            if isinstance(entry, dict) and "repeat" in entry:
                self._read_group(entry, here)
            elif isinstance(entry, dict) and _direction(entry):
                self._read_loop(entry, _direction(entry), here)
            elif isinstance(entry, dict):
                if len(entry) != 1:
                    raise self.document.fail(
                        f"a named row is 'name: [from, repeats, module, args]', found {list(entry)!r:.80}", *here
                    )
                name, row = next(iter(entry.items()))
                self._read_row(row, self._new_name(name, here), here)
            else:
                self._read_row(entry, "", here)

    def _read_loop(self, entry: Mapping[Any, Any], way: str, here: tuple[str | int, ...]) -> None:
        """Read rows once for every number from one to another."""
        self.document.check_keys(entry, (way, "rows"), f"key of a part that goes {way}", *here)
        bounds, rows = entry[way], entry.get("rows")
        ends = next(iter(bounds.values())) if isinstance(bounds, dict) and len(bounds) == 1 else None
        if not isinstance(ends, list) or len(ends) != 2 or not isinstance(rows, list) or not rows:
            example = "{k: [low+1, high]}" if way == "up" else "{k: [high-1, low]}"
            raise self.document.fail(f"a part that goes {way} is '{way}: {example}' and 'rows: [...]'", *here)
        name = next(iter(bounds))
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name in self.numbers or name in self.options:
            taken = "" if name not in self.numbers else ", which has a value here already"
            raise self.document.fail(f"'{way}' names a number with letters, found {name!r:.40}{taken}", *here, way)
        first, last = (self._bound(end, (*here, way, name)) for end in ends)
        sense = 1 if way == "up" else -1
        for number in range(first, last + sense, sense):
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise self.document.fail(f"its parts that go up and down have more than {_MOST_STEPS} steps", *here)
            self.numbers[name] = number
            self._read_rows(rows, (*here, "rows"))
        self.numbers.pop(name, None)

    def _bound(self, end: Any, here: tuple[str | int, ...]) -> int:
        text = str(end) if isinstance(end, int) and not isinstance(end, bool) else end
        if not isinstance(text, str) or not re.fullmatch(_SUM, text):
            raise self.document.fail(f"an end is a level's number, such as low+1, found {end!r:.40}", *here)
        return self._number(text, here)

    def _new_name(self, name: Any, here: tuple[str | int, ...]) -> str:
        name = self._text(name, here) if isinstance(name, str) else name
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self.document.fail(f"a row's name is letters, digits and _, found {name!r:.40}", *here)
        if name in LEVELS or name in self.options:
            raise self.document.fail(f"'{name}' is the name of {'a feature' if name in LEVELS else 'an option'}", *here)
        if name in self.known:
            raise self.document.fail(f"the name '{name}' is given twice", *here)
        return name

    def _read_group(self, entry: Mapping[Any, Any], here: tuple[str | int, ...]) -> None:
        self.document.check_keys(entry, ("repeat", "over", "rows"), "key of a repeated part", *here)
        passes = self._whole(entry["repeat"], "repeat", MAX_PASSES, (*here, "repeat"))
        over, rows = entry.get("over"), entry.get("rows")
        if not isinstance(over, dict) or not isinstance(rows, list) or not rows:
            raise self.document.fail(
                "a repeated part is 'repeat: NUMBER', 'over: {name: name of a row below}' and 'rows: [...]'", *here
            )
        over = self._pairs(over, (*here, "over"))
        for name in over:
            self._find(name, (*here, "over", name))
        inside: set[str] = set()
        for _ in range(passes):
            for name in inside:
                del self.known[name]
            before = set(self.known)
            self._read_rows(rows, (*here, "rows"))
            inside = set(self.known) - before
            given = {name: self._find(row, (*here, "over", name)) for name, row in over.items()}
            for name, row in over.items():
                if row not in inside:
                    words = f"'over' leads to '{row}', which is no row of this part"
                    raise self.document.fail(words, *here, "over", name)
            self.known |= given

    def _read_row(self, entry: Any, name: str, here: tuple[str | int, ...]) -> None:
        where = self.document.at(*here)
        if not isinstance(entry, list) or len(entry) != 4:
            count = f"{len(entry)} entries" if isinstance(entry, list) else type(entry).__name__
            raise PlanError(f"a row is [from, repeats, module, args] (4 entries), found {count}: {entry!r:.80}", where)
        written, repeats, module, args = entry
        if not isinstance(module, str) or not module:
            raise PlanError(f"the third entry must be a module name, found {module!r:.80}", where)
        if not isinstance(args, list):
            raise PlanError(f"arguments must be a list, found {args!r:.80}", where)
        many = isinstance(written, list)
        if many and not written:
            raise PlanError("'from' names nothing", where)
        named = [name for value in (written if many else [written]) for name in self._sources(value, many, here)]
        sources = tuple(self._source(value, here) for value in named)
        repeats = self._whole(repeats, "repeats", MAX_REPEATS, here)
        graft = self.meaning(module, None, where)
        if graft is not None and graft.channels in LISTS:
            what = "is a backbone" if graft.channels == "pyramid" else "stands before the head"
            raise PlanError(f"'{module}' {what} and is no row of a neck; +{module} puts it there", where)
        values = tuple(self._value(value, here) for value in args)
        self.rows.append(NeckRow(sources, many, repeats, module, values, graft, where, name))
        if len(self.rows) > MAX_ROWS:
            raise PlanError(f"more than {MAX_ROWS} rows", where)
        if name:
            self.known[name] = len(self.rows) - 1

    def _whole(self, value: Any, what: str, most: int, here: tuple[str | int, ...]) -> int:
        found = self._value(value, here)
        if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= most:
            words = f"{what} must be a whole number from 1 to {most}, or the name of such an option"
            raise self.document.fail(f"{words}, found {found!r:.40}", *here)
        return found

    def _value(self, value: Any, here: tuple[str | int, ...]) -> Any:
        """Return what stands for an argument: an option's value by its name, all else as it is."""
        if not isinstance(value, str):
            return value
        name = self._text(value, here)
        if name != value and name not in self.options:
            raise self.document.fail(f"there is no option '{name}'.{nearest(name, self.options)}", *here)
        return self.options.get(name, value)

    def _sources(self, value: Any, many: bool, here: tuple[str | int, ...]) -> list[Any]:
        if not isinstance(value, str):
            return [value]
        return self._texts(value, here) if many else [self._text(value, here)]

    def _source(self, value: Any, here: tuple[str | int, ...]) -> str | int:
        if isinstance(value, str):
            return self._find(value, here)
        if isinstance(value, bool) or not isinstance(value, int) or value >= 0:
            raise self.document.fail(
                f"'from' is a name, or -1 for the row before, -2 and so on; found {value!r:.40}", *here
            )
        if len(self.rows) + value < 0:
            raise self.document.fail(f"refers {-value} rows back, but only {len(self.rows)} come before it", *here)
        return len(self.rows) + value

    def _find(self, name: Any, here: tuple[str | int, ...]) -> str | int:
        if not isinstance(name, str):
            raise self.document.fail(f"expected the name of a row or of an input, found {name!r:.40}", *here)
        if name in self.known:
            return self.known[name]
        if name in LEVELS:
            raise self.document.fail(f"reads {name}, which 'inputs:' does not list", *here)
        if any(_could_be(name, written) for written in _names_in(self.document.values.get("rows"))):
            raise self.document.fail(f"reads '{name}', a row that does not come before it: a neck has no cycles", *here)
        raise self.document.fail(f"there is no row or input '{name}'.{nearest(name, self.known)}", *here)

    def _read_outputs(self) -> dict[str, str | int]:
        found = self.document.values["outputs"]
        if not isinstance(found, dict) or not found:
            raise self.document.fail(
                f"'outputs:' maps levels to rows, such as {{P3: fine}}, found {found!r:.80}", "outputs"
            )
        found = self._pairs(found, ("outputs",))
        for level in found:
            if level not in OUTPUTS:
                raise self.document.fail(
                    f"an output is one of {', '.join(OUTPUTS)}, found {level!r:.40}", "outputs", level
                )
        return {level: self._find(row, ("outputs", level)) for level, row in sorted(found.items())}

    def _refuse_unused(self, outputs: Mapping[str, str | int]) -> None:
        read: set[str | int] = set(outputs.values())
        for position in range(len(self.rows) - 1, -1, -1):
            if position not in read:
                row = self.rows[position]
                called = f"'{row.name}' ({row.module})" if row.name else row.module
                raise PlanError(f"nothing reads the row {called}; it would be trained by no loss", row.location)
            read.update(self.rows[position].sources)
        for name in self.inputs:
            if name not in read:
                raise self.document.fail(f"nothing reads the input {name}", "inputs")


def _direction(entry: Mapping[Any, Any]) -> str:
    """Return ``up`` or ``down`` for a part that goes through levels, an empty text for anything else."""
    return next((way for way in ("up", "down") if way in entry and not isinstance(entry[way], list)), "")


def _could_be(name: str, written: str) -> bool:
    """Say whether a row's name as written, with numbers in parentheses, can stand for a name."""
    parts = _NUMBER.split(written)[::3]
    return re.fullmatch(r"-?\d+".join(map(re.escape, parts)), name) is not None


def _names_in(rows: Any) -> set[str]:
    """The names that rows anywhere below are given, as written."""
    found: set[str] = set()
    for entry in rows if isinstance(rows, list) else []:
        if isinstance(entry, dict) and ("repeat" in entry or _direction(entry)):
            found |= _names_in(entry.get("rows"))
        elif isinstance(entry, dict):
            found |= {name for name in entry if isinstance(name, str)}
    return found
