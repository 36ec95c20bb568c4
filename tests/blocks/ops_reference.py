"""Reading and comparing the numeric triples of ``shared/reference/ops``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

RELATIVE = 1e-5


def read_triple(shared: Path, name: str) -> dict[str, Tensor]:
    with np.load(shared / "reference" / "ops" / f"{name}.npz") as file:
        return {key: torch.from_numpy(np.array(file[key])) for key in file.files}


def weights_of(triple: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("w/"): value for key, value in triple.items() if key.startswith("w/")}


def load_exactly(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load every tensor; only the counters, which the files leave out, may be missing."""
    result = module.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    assert all(key.endswith("num_batches_tracked") for key in result.missing_keys)


def assert_close(found: Tensor, expected: Tensor, relative: float = RELATIVE) -> None:
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).abs().max().item()
    assert difference <= relative * expected.abs().max().item(), difference


def randomise_norms(module: nn.Module, seed: int = 0) -> None:
    """Give every batch norm statistics and parameters as after training, so that folding has something to do."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor, low, high in (
                (norm.weight, 0.5, 1.5),
                (norm.bias, -0.5, 0.5),
                (norm.running_mean, -0.5, 0.5),
                (norm.running_var, 0.5, 2.0),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def without_gradient(module: nn.Module, *inputs: Tensor) -> list[str]:
    """Names of the parameters that one backward pass does not reach."""
    outputs = module(*inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else outputs
    sum((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() for y in outputs).backward()
    return [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]


def export_onnx(module: nn.Module, example: Tensor, path: Path) -> None:
    torch.onnx.export(
        module,
        (example,),
        str(path),
        opset_version=17,
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch", 2: "height", 3: "width"}, "y": {0: "batch", 2: "rows", 3: "columns"}},
    )
