"""``detgraft study init | run | retry | status | report | export | screen``: a fair comparison over several seeds."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from detgraft.cli.arguments import check_keys, parse_pairs
from detgraft.cli.keys import KEYS
from detgraft.errors import ArgumentError, nearest
from detgraft.study import api
from detgraft.study.api import Study
from detgraft.study.design.arguments import DECIDED
from detgraft.study.design.spec import StudySpec
from detgraft.study.screen import screen

ACTIONS = ("init", "run", "retry", "status", "report", "export", "screen")
_OWN = {
    "run": ("retry", "resume", "extend"),
    "retry": ("resume", "extend"),
    "status": (),
    "report": ("to", "claims", "lang"),
    "export": ("to", "lang"),
    "init": ("to", "force"),
    "screen": ("budget", "keep", "short", "retry", "resume"),
}
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
        if isinstance(study, dict):
            raise ArgumentError(
                f"study init takes the file to write, to=FILE or alone; found '{next(iter(study))}='. out= is a"
                " study's folder everywhere, and stands in the study file."
            )
        print(api.init(study or str(own.get("to", "study.yaml")), force=bool(own.get("force"))))
        return 0
    if not study:
        raise ArgumentError(f"study {action} needs a study file, a study's folder, or data=, base= and variants=")
    if action == "screen":
        return _screen(own, study, as_json)
    spec = _opened(study)
    if action == "report":
        claims = own.get("claims")
        to = Path(str(own["to"])) if "to" in own else None
        written = api.report(spec, to, Path(str(claims)) if claims else None, str(own.get("lang", "en")))
        print(json.dumps({"html": str(written.html)}) if as_json else written.html)
        return 0
    if action == "export":
        made = api.export(spec, Path(str(own["to"])) if "to" in own else None, str(own.get("lang", "en")))
        plain = {"folder": str(made.folder), "files": [one.name for one in made.files], "left_out": made.left_out}
        print(json.dumps(plain) if as_json else "\n".join([*map(str, made.files), *filter(None, [made.left_out])]))
        return 0
    if action in ("run", "retry"):
        found = api.run(
            spec,
            retry=action == "retry" or bool(own.get("retry")),
            resume=str(own.get("resume", "continue")),
            extend=bool(own.get("extend")),
            say=(lambda _line: None) if as_json else print,
        )
    else:
        found = api.status(spec)
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        _print(found)
    return 0 if found.complete else 1


def _screen(own: dict[str, Any], study: str | dict[str, str], as_json: bool) -> int:
    """Screen many variants and confirm the survivors."""
    given: Study = _opened(study) if isinstance(study, dict) and "" in study else study
    found = screen(
        given,
        budget=own.get("budget"),
        keep=own.get("keep"),
        short=own.get("short"),
        retry=bool(own.get("retry")),
        resume=str(own.get("resume", "continue")),
        say=(lambda _line: None) if as_json else print,
    )
    folder = shlex.quote(os.path.relpath(found.folder))
    again = " retry=True" if found.status.failed or found.status.damaged else ""
    go_on = found.status.go_on if found.complete else f"detgraft study screen {folder}{again}"
    if as_json:
        plain = {"folder": str(found.folder), "complete": found.complete, "left": found.left, "dropped": found.dropped}
        plain |= {"runs": found.plan.runs, "full": found.plan.full, "go_on": go_on, "status": found.status.to_json()}
        print(json.dumps(plain, ensure_ascii=False))
    else:
        _print(found.status, go_on)
    return 0 if found.complete else 1


def _opened(study: str | dict[str, str]) -> StudySpec:
    """A study; beside a file's name ``out=`` says where its folder is."""
    if isinstance(study, dict) and "" in study:
        file, out = study[""], Path(study["out"])
        if Path(file).is_dir():
            raise ArgumentError(f"out= is the study's folder, and '{file}' is one already; name one of them.")
        return replace(api.open_study(file), out=out)
    return api.open_study(study)


def _split(action: str, words: Sequence[str]) -> tuple[dict[str, object], str | dict[str, str] | None]:
    """Take off the action's own arguments; the rest is a file's name or a study in ``key=value`` form."""
    own_words = [word for word in words if word.partition("=")[0] in _OWN[action]]
    own = parse_pairs(own_words, _SWITCHES)
    check_keys(own, _OWN[action])
    rest = [word for word in words if word not in own_words]
    for key in (word.partition("=")[0] for word in rest if "=" in word or word in _SWITCHES):
        elsewhere = [name for name in ACTIONS if key in _OWN[name]]
        if elsewhere:
            raise ArgumentError(f"{key}= belongs to study {', '.join(elsewhere)}, not to study {action}")
        hint = "" if key in KEYS["study"].keys() | DECIDED else nearest(key, _OWN[action], cutoff=0.75)
        if hint:
            raise ArgumentError(f"study {action} has no argument '{key}'.{hint}")
    if not rest:
        return own, None
    if len(rest) == 1 and "=" not in rest[0]:
        return own, rest[0]
    loose = [word for word in rest if "=" not in word]
    pairs = {key: text for key, _, text in (word.partition("=") for word in rest if "=" in word)}
    if len(loose) == 1 and list(pairs) == ["out"] and pairs["out"]:
        return own, {"": loose[0], **pairs}
    if loose:
        raise ArgumentError(
            f"study {action} takes one study file or folder (with out=FOLDER), or key=value arguments;"
            f" found '{loose[0]}'"
        )
    return own, pairs


def _print(found: api.Status, go_on: str = "") -> None:
    table = Table(title=f"{found.name}: {found.folder}")
    table.add_column("state")
    table.add_column("runs", justify="right")
    for state, count in found.states.items():
        table.add_row(state, str(count))
    console = Console()
    console.print(table)

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    for line in found.warnings:
        say(f"Warning: {line}")
    for label, error in found.failed.items():
        say(f"{label}: {error}")
    for label, reason in found.damaged.items():
        say(f"{label} is damaged: {reason} Train it again with retry.")
    for name, (verdict, reason) in found.verdicts.items():
        say(f"{name}: {verdict}. {reason}")
    if found.report is not None:
        say(found.headline)
        say(f"Report: {found.report}")
    say(f"Go on with: {go_on or found.go_on}")
