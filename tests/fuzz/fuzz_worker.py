"""A process that builds what it is sent: one JSON object per line in, one per line out.

A combination of sound terms is trained for a step as well, and answers at an odd size: every parameter learns, and what
comes out is finite.

Memory is bounded to 4 GiB above what the imports need, so that a description which asks for more fails here and not on
the machine. A canary folder and an audit hook show whether anything in a description was executed.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

LIMIT = 4 * 2**30
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "shutil.rmtree", "os.remove")


def learns(model: Any, task: str) -> str:
    """Return what is wrong with a step of a training, or with an answer at an odd size."""
    import torch
    from expression_support import one_step

    size = 2 * int(max(32, *torch.as_tensor(getattr(model, "stride", 32.0)).reshape(-1).tolist()))
    classes = int(model.yaml["nc"])
    without = one_step(model, task, classes, size)
    if without:
        return f"{len(without)} parameters without gradient: {', '.join(without[:3])}"
    found: Any = model.eval()(torch.rand(1, 3, size, size + size // 2))
    while not isinstance(found, torch.Tensor):
        found = found[0]
    return "" if bool(torch.isfinite(found).all()) else "what comes out is not finite"


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    import warnings

    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    sys.path.insert(0, str(Path(__file__).parents[1] / "expressions"))
    import expression_support  # noqa: F401  before the limit and the hook are set

    import detgraft
    from detgraft.errors import DetgraftError
    from detgraft.upstream.release.quiet import quiet

    detgraft.build("yolo11n+carafe")  # imports what a build needs before the limit and the hook are set
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is not None:
        limit = pages * resource.getpagesize() + LIMIT
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    watching = [False]
    executed: list[str] = []

    def audit(event: str, args: tuple[Any, ...]) -> None:
        if watching[0] and event.startswith(FORBIDDEN):
            executed.append(f"{event} {args!r:.200}")

    sys.addaudithook(audit)
    answers.write('{"ready": true}\n')
    answers.flush()
    for line in sys.stdin:
        task = json.loads(line)
        executed.clear()
        start = time.perf_counter()
        answer: dict[str, Any] = {"outcome": "built", "text": ""}
        watching[0] = True
        try:
            with quiet(60):
                model = detgraft.build(task["model"])
                fault = learns(model, task["task"]) if task.get("task") else ""
            answer = {"outcome": fault or "built", "text": fault}
        except DetgraftError as error:
            located = error.location is not None and bool(str(error.location))
            answer = {"outcome": "refused" if located else "without location", "text": str(error)[:500]}
        except BaseException as error:  # what a user would see as a traceback
            answer = {"outcome": "traceback", "text": f"{type(error).__name__}: {error}"[:500]}
        watching[0] = False
        answer["seconds"] = time.perf_counter() - start
        answer["executed"] = list(executed)
        answer["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
