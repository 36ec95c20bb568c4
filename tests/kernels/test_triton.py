"""What can be known of the Triton kernels without a GPU: their arithmetic, and that they compile without spilling."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")

_CARAFE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_carafe_forms import example, outcome
from detgraft.kernels.carafe import plain_carafe
from detgraft.kernels.carafe_triton import triton_carafe
cases = [
    ((1, 3, 3, 4, 3, 2, 1), torch.float64, False),
    ((1, 4, 2, 9, 3, 3, 2), torch.float32, True),
    ((1, 70, 2, 2, 3, 1, 1), torch.float32, False),
    ((1, 2, 3, 2, 5, 2, 1), torch.float32, True),
]
for shape, dtype, channels_last in cases:
    x, mask = example(shape, dtype)
    if channels_last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    expected = outcome(plain_carafe, x, mask, *shape[4:6])
    for ours, plain in zip(outcome(triton_carafe, x, mask, *shape[4:6]), expected, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
# float16 has kernels of its own; runs of 16 pixels, blocks of 16 channels at least, scales that are no power of two
for shape, channels_last in (
    ((1, 3, 3, 4, 3, 2, 1), False),
    ((2, 8, 3, 19, 5, 2, 2), True),
    ((1, 17, 4, 33, 3, 3, 1), False),
    ((1, 130, 2, 3, 7, 1, 1), False),
    ((1, 4, 2, 5, 5, 4, 1), False),
):
    x, mask = (t.detach().half() for t in example(shape))
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    exact = outcome(plain_carafe, *(t.double().requires_grad_() for t in (x, mask)), *shape[4:6])
    found = outcome(triton_carafe, *(t.requires_grad_() for t in (x, mask)), *shape[4:6])
    for ours, plain in zip(found, exact, strict=True):
        assert ours.dtype == torch.float16
        assert (ours.double() - plain).abs().max() <= 2**-10 * plain.abs().max(), shape
print("equal")
"""

_RESPONSE = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from test_convnext_fast import outcome, pair
from detgraft.kernels.response_triton import gelu_response

class Form(torch.nn.Module):  # the block with the form that CUDA takes
    def __init__(self, block):
        super().__init__()
        self.block = block
    def forward(self, x):
        return self.block._with_triton(x.contiguous(memory_format=torch.channels_last))

for conv_mlp in (False, True):
    for size in ((2, 5, 7), (1, 1, 1), (1, 13, 11)):  # 13 * 11 positions are more than one program sums
        for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 1e-5)):
            ours, theirs = pair(conv_mlp, dtype=dtype)
            torch.manual_seed(0)
            x = torch.randn(size[0], 6, *size[1:], dtype=dtype)
            for found, expected in zip(outcome(Form(ours), x), outcome(theirs, x), strict=True):
                worst = (found - expected).abs().max() / max(expected.abs().max().item(), 1)
                assert worst <= tolerance, (conv_mlp, size, dtype, worst)

ours, theirs = pair(False, channels=18, dtype=torch.float32)  # 72 hidden channels: more than one tile
x = torch.randn(1, 18, 2, 3)
for found, expected in zip(outcome(Form(ours), x), outcome(theirs, x), strict=True):
    assert (found - expected).abs().max() <= 1e-5 * max(expected.abs().max().item(), 1)

x = torch.randn(1, 3, 4, dtype=torch.float64)
x[..., 0] = -50.0  # a silent channel
gamma, beta = torch.randn(2, 4, dtype=torch.float64)
arguments = [t.requires_grad_() for t in (x, gamma, beta)]
y = gelu_response(*arguments, 1e-6)
assert all(torch.isfinite(g).all() for g in torch.autograd.grad(y.sum(), arguments))
x = torch.randn(1, 3, 4, dtype=torch.float64)
arguments = [t.detach().requires_grad_() for t in (x, gamma, beta)]
assert torch.autograd.gradcheck(lambda *a: gelu_response(*a, 1e-6), arguments)

# float16: where it stores bfloat16, Triton's interpreter cuts off instead of rounding
x, gamma, beta = torch.randn(2, 3, 4).half().requires_grad_(), torch.randn(4), torch.randn(4)
y = gelu_response(x, gamma, beta, 1e-6)
exact = gelu_response(x.double(), gamma.double(), beta.double(), 1e-6)
assert y.dtype == torch.float16
torch.testing.assert_close(y.double(), exact, rtol=2**-11, atol=1e-6)  # rounded once, at the end
assert torch.autograd.grad(y.sum(), x)[0].dtype == torch.float16
print("equal")
"""

_COMPILED = """
import json, subprocess, torch, triton
from pathlib import Path
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from detgraft.kernels import carafe_bands as bands, carafe_triton as carafe, response_triton as response

tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
BANDS = bands.KERNELS
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}

def stack(kernel, pointers, constants):
    signature = {name: "constexpr" if name in constants else pointers.get(name, "i32") for name in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    options = {"num_stages": 1} if kernel in BANDS else {}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    Path("k.cubin").write_bytes(compiled.asm["cubin"])
    done = subprocess.run([tool, "--dump-resource-usage", "k.cubin"], capture_output=True, text=True, check=True)
    return int(done.stdout.split("STACK:")[-1].split()[0])

found = {}
for kernel in (carafe._forward_kernel, carafe._grad_x_kernel, carafe._grad_mask_kernel):
    for name, dtype in DTYPES.items():
        for k_up, scale in ((5, 2), (3, 1), (7, 3), (5, 4)):
            pointers = dict.fromkeys(("x", "mask", "y", "grad_y", "grad_x", "grad_mask"), "*" + name)
            constants = carafe.tiles(kernel, k_up, scale, dtype)
            found[f"{kernel.__name__} {name} {k_up} {scale}"] = stack(kernel, pointers, constants)
for kernel in BANDS:
    for k_up, scale in ((5, 2), (3, 1), (7, 3), (5, 4)):
        for per_group in (8, 256):
            pointers = dict.fromkeys(("x", "mask", "y", "grad_y", "grad_x", "grad_mask"), "*bf16")
            constants = bands.tiles(kernel, k_up, scale, per_group)
            found[f"bands {kernel.__name__} {k_up} {scale} {per_group}"] = stack(kernel, pointers, constants)
for kernel in (response._energy_kernel, response._scale_kernel, response._sums_kernel, response._grad_kernel):
    for name, dtype in DTYPES.items():
        total = "*fp64" if name == "fp64" else "*fp32"
        pointers = dict.fromkeys(("x", "y", "grad_y", "grad_x"), "*" + name)
        pointers |= dict.fromkeys(("energy", "scale", "beta", "product", "total", "pull"), total)
        constants = {"RB": response.ROWS, "DB": response.CHANNELS, "ACC": response._accumulator(dtype)}
        constants |= {"RUN": response.RUN} if "RUN" in kernel.arg_names else {}
        found[f"{kernel.__name__} {name}"] = stack(kernel, pointers, constants)
print(json.dumps(found))
"""


def run(program: str, folder: Path, **environment: str) -> str:
    """In a process of its own: Triton reads its switches when it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(Path(__file__).parent)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(folder / "cache"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


@pytest.mark.parametrize(
    "program", [_CARAFE, pytest.param(_RESPONSE, marks=pytest.mark.slow)], ids=["carafe", "response"]
)
def test_kernels_in_the_interpreter(program: str, tmp_path: Path) -> None:
    """The kernels' arithmetic without a GPU."""
    assert run(program, tmp_path, TRITON_INTERPRET="1") == "equal"


TRIED = ("3.7.1", "3.8.0", "3.9.0")
"""Releases of Triton that the tiles were sized with; each allocates registers in its own way."""


def test_every_kernel_compiles_for_hopper_without_spilling(tmp_path: Path) -> None:
    """A stack is memory outside of the chip: what does not fit into the registers is written there and read again."""
    version = importlib.metadata.version("triton")
    if version not in TRIED:
        pytest.skip(f"the tiles were sized with triton {', '.join(TRIED)}; {version} was not tried")
    found = json.loads(run(_COMPILED, tmp_path))
    assert len(found) == 48 + 24
    assert {name: size for name, size in found.items() if size} == {}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_block_on_cuda(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    from test_convnext_fast import outcome, pair

    from detgraft.blocks.backbones import convnext_fast
    from detgraft.kernels import policy

    monkeypatch.setenv(policy.SWITCH, "1")
    calls: list[str] = []
    original = convnext_fast.gelu_response
    monkeypatch.setattr(convnext_fast, "gelu_response", lambda *a: calls.append("triton") or original(*a))
    ours, theirs = (block.cuda() for block in pair(False, channels=32, dtype=torch.float32))
    x = torch.randn(2, 32, 20, 20, device="cuda")
    with torch.autocast("cuda", dtype, enabled=dtype != torch.float32):
        found, expected = outcome(ours, x), outcome(theirs, x)
    assert calls == ["triton"]
    for value, reference in zip(found, expected, strict=True):
        assert (value - reference).abs().max() <= (1e-4 if dtype == torch.float32 else 3e-2) * reference.abs().max()
