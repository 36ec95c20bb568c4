"""``detgraft study init | run | status | report``: a fair comparison over several seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from detgraft.cli.arguments import check_keys, parse_pairs
from detgraft.errors import ArgumentError, nearest
from detgraft.study import api

ACTIONS = ("init", "run", "status", "report")
_OWN = {"run": ("retry", "resume", "extend"), "status": (), "report": ("out", "claims"), "init": ("out", "force")}
_SWITCHES = ("retry", "extend", "force")


def command(action: str, words: Sequence[str], *, as_json: bool) -> int:
    """Carry out one action; return the exit status: 0 complete, 1 not complete.

    Raises:
        DetgraftError: Wrong arguments, or a study that cannot be carried out.
    """
    if action not in ACTIONS:
        raise ArgumentError(f"study has {', '.join(ACTIONS)}; found '{action}'.{nearest(action, ACTIONS)}")
    own, study = _split(action, words)
    if action == "init":
        print(api.init(str(study or own.get("out", "study.yaml")), force=bool(own.get("force"))))
        return 0
    if not study:
        raise ArgumentError(f"study {action} needs a study file, or data=, base= and variants= in its place")
    if action == "report":
        claims = own.get("claims")
        written = api.report(
            study, Path(str(own["out"])) if "out" in own else None, Path(str(claims)) if claims else None
        )
        print(json.dumps({"html": str(written.html)}) if as_json else written.html)
        return 0
    if action == "run":
        found = api.run(
            study,
            retry=bool(own.get("retry")),
            resume=str(own.get("resume", "continue")),
            extend=bool(own.get("extend")),
            say=(lambda _line: None) if as_json else print,
        )
    else:
        found = api.status(study)
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _print(found)
    return 0 if found.complete else 1


def _split(action: str, words: Sequence[str]) -> tuple[dict[str, object], str | dict[str, str] | None]:
    """Take off the action's own arguments; the rest is a file's name or a study in ``key=value`` form."""
    own_words = [word for word in words if word.partition("=")[0] in _OWN[action]]
    own = parse_pairs(own_words, _SWITCHES)
    check_keys(own, _OWN[action])
    rest = [word for word in words if word not in own_words]
    if not rest:
        return own, None
    if len(rest) == 1 and "=" not in rest[0]:
        return own, rest[0]
    loose = [word for word in rest if "=" not in word]
    if loose:
        raise ArgumentError(f"study {action} takes one study file, or key=value arguments; found '{loose[0]}'")
    pairs = [word.partition("=") for word in rest]
    return own, {key: text for key, _, text in pairs}


def _print(found: api.Status) -> None:
    table = Table(title=f"{found.name}: {found.folder}")
    table.add_column("state")
    table.add_column("runs", justify="right")
    for state, count in found.states.items():
        table.add_row(state, str(count))
    console = Console()
    console.print(table)
    for line in found.warnings:
        console.print(f"Warning: {line}", highlight=False, soft_wrap=True)
    for label, error in found.failed.items():
        console.print(f"{label}: {error}", highlight=False, soft_wrap=True)
    for label, reason in found.damaged.items():
        console.print(f"{label} is damaged: {reason} Train it again with retry.", highlight=False, soft_wrap=True)
