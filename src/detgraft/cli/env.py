"""``detgraft env``: what a bug report needs, and nothing that names the user or the machine."""

from __future__ import annotations

import json
import os
from importlib.metadata import entry_points
from typing import Any

from detgraft.base.extras import OPTIONAL
from detgraft.base.provenance import EXPORTERS, hardware, version_of, versions
from detgraft.catalog.plugins import GROUP

SWITCHES = ("DETGRAFT_", "YOLO_", "ULTRALYTICS_", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")
"""Beginnings of the environment variables that change what detgraft or Ultralytics do."""


def command(*, as_json: bool) -> None:
    """Print the environment."""
    found = environment()
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return
    for title, entries in found.items():
        print(title)
        width = max(map(len, entries), default=0)
        for name, value in entries.items():
            print(f"  {name:<{width}}  {'none' if value is None else value}")


def environment() -> dict[str, dict[str, Any]]:
    """Versions, hardware, extras, plug-ins and switches; keys and passwords are left out."""
    import torch  # so that the hardware names the GPU

    from detgraft.kernels.policy import kernels_on

    machine = {key: value for key, value in hardware().items() if key != "host"}
    machine |= {"gpus": torch.cuda.device_count(), "torch_built_for_cuda": torch.version.cuda}
    for number in range(torch.cuda.device_count()):
        names = kernels_on(torch.device("cuda", number))
        machine[f"triton_kernels_on_gpu_{number}"] = ", ".join(names) or "off"
    hidden = ("KEY", "TOKEN", "PASSWORD", "SECRET")
    return {
        "versions": dict(versions(*EXPORTERS)),
        "machine": machine,
        "extras": {package: version_of(package) for package, _ in sorted({*OPTIONAL.values()})},
        "plug-ins": {point.name: point.value for point in entry_points(group=GROUP)},
        "switches": {
            name: value
            for name, value in sorted(os.environ.items())
            if name.startswith(SWITCHES) and not any(word in name for word in hidden)
        },
    }
