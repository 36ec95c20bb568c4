"""One of the processes of the DDP check: ``python -m detgraft.verify.checks.ddp_worker SPEC RANK``.

SPEC is a JSON file written by :mod:`detgraft.verify.checks.ddp`; the answer is written beside it as
``rank<RANK>.json``.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from detgraft.upstream.service.batches import training_batch
from detgraft.upstream.service.losses import loss_in, ready_for_loss
from detgraft.upstream.service.models import build_seeded

WORLD = 2


def fingerprint(model: torch.nn.Module) -> str:
    """Return a hash over all parameters, bit for bit."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def work(spec: dict[str, Any], rank: int) -> dict[str, Any]:
    """Build with a seed of its own, let DDP align the weights, and run the steps.

    Args:
        spec: ``mapping``, ``channels``, ``imgsz``, ``steps``, ``store`` (a file that both processes reach).
        rank: 0 or 1.
    """
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=Path(spec["store"]).as_uri(),
        rank=rank,
        world_size=WORLD,
        timeout=datetime.timedelta(seconds=spec["timeout"]),
    )
    answer: dict[str, Any] = {"losses": [], "unused": [], "error": ""}
    # Another seed per process: the weights can be equal only if they were really broadcast.
    model = ready_for_loss(build_seeded(spec["mapping"], rank, spec["channels"]))
    wrapped = DistributedDataParallel(model, find_unused_parameters=False)
    answer["start"] = fingerprint(model)
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(spec["steps"]):
        batch = training_batch(model, 2, spec["imgsz"], seed=10 * step + rank)
        try:
            loss = loss_in(wrapped, batch)
            answer["losses"].append(float(loss.detach()))
            loss.backward()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            answer["error"] = str(error).strip().splitlines()[0][:300]
            break
        answer["unused"] = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if answer["unused"]:
            break  # the next step would wait for gradients that never come
    answer["end"] = fingerprint(model)
    distributed.barrier()
    distributed.destroy_process_group()
    return answer


def main() -> None:
    """Run one process and write its answer."""
    path, rank = Path(sys.argv[1]), int(sys.argv[2])
    answer = work(json.loads(path.read_text("utf-8")), rank)
    (path.parent / f"rank{rank}.json").write_text(json.dumps(answer), "utf-8")


if __name__ == "__main__":
    main()
