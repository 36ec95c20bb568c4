"""Names that went answer for a while, and say what to use."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

from detgraft._moved import CHECKPOINT_MODULES
from detgraft.base.deprecation import MovedModules, deprecated


@deprecated(since="0.2.0", gone_in="0.4.0", use="`new`")
def old(x: int) -> int:
    """Double a number."""
    return 2 * x


@deprecated(since="0.2.0", gone_in="0.4.0", use="`New`")
class Old:
    """Holds a number."""

    def __init__(self, x: int) -> None:
        self.x = x


class Heir(Old):
    """Has another name."""


def test_a_function_warns_at_the_caller_and_still_works() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"old is deprecated since detgraft 0\.2\.0 and goes in 0\.4\.0; use `new`"
    ) as seen:
        assert old(3) == 6
    assert seen[0].filename == __file__
    assert str(old.__doc__).startswith("Deprecated: old is deprecated")
    assert "Double a number." in str(old.__doc__)
    assert old.__name__ == "old"


def test_a_class_warns_and_its_subclasses_do_not(recwarn: pytest.WarningsRecorder) -> None:
    assert Heir(1).x == 1
    assert len(recwarn) == 0
    with pytest.warns(DeprecationWarning, match="use `New`"):
        assert Old(2).x == 2
    assert isinstance(Heir(1), Old)


def test_a_moved_module_answers_and_forgets_what_never_was() -> None:
    finder = MovedModules({"detgraft.former_room": "detgraft.base.files"}, since="0.2.0", gone_in="0.4.0")
    sys.meta_path.append(finder)
    try:
        former = importlib.import_module("detgraft.former_room")
        with pytest.warns(
            DeprecationWarning, match=r"detgraft\.former_room is deprecated .* use detgraft\.base\.files"
        ):
            found = former.write_json
        assert found is importlib.import_module("detgraft.base.files").write_json
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = former.no_such_name
    finally:
        sys.meta_path.remove(finder)
        sys.modules.pop("detgraft.former_room", None)


@pytest.mark.parametrize("name", sorted(CHECKPOINT_MODULES))
def test_names_that_checkpoints_hold_answer_in_a_fresh_process(name: str) -> None:
    code = f"import importlib, detgraft; print(importlib.import_module({name!r}).__doc__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert CHECKPOINT_MODULES[name] in done.stdout, done.stderr
