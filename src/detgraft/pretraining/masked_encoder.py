"""A backbone that sees only the visible part of an image, all positions computed densely.

This is the reference form: every supported backbone runs through it, and the faster form of ConvNeXt V2
(`detgraft.pretraining.visible`) must equal it.

A backbone is accepted when every module is understood (`masked_ops.RULES`, or a module that works on one position at a
time) and when a trial proves it: numbers written into hidden positions behind every module must not change anything at
the visible ones. The trial also catches what a module type does not show, such as a mean inside a block's own forward.

Shape suffixes: B images, C channels, H and W pixels or positions, L patches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from timm.layers import DropPath, GroupNorm
from torch import Tensor, nn

from detgraft.blocks.backbones.timm_backbone import TimmBackbone
from detgraft.errors import CatalogError, SizeError
from detgraft.pretraining.masked_ops import CLOSED, RULES, Rule, Visibility
from detgraft.pretraining.masking import PATCH, grid_of, random_mask, upsample_mask

_FORWARD = "forward"
_POINTWISE: tuple[type[nn.Module], ...] = (nn.Identity, nn.Linear, nn.Dropout, DropPath, nn.PReLU)
_ACTIVATION_FILES = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
_NOT_POINTWISE_ACTIVATIONS = ("Softmax", "MultiheadAttention", "Softmin", "GLU")
_SCALES = ("LayerScale", "LayerScale2d", "LearnableAffineBlock", "Scale")  # one factor per channel, in several files
# Not square, so that (rows, columns, channels) can never be taken for (channels, rows, columns).
_TRIAL_SIZE = (96, 160)
_TRIAL_NOISE = 10.0
_TRIAL_TOLERANCE = 1e-4


class MaskedEncoder(nn.Module):
    """Run a timm backbone with submanifold semantics.

    The backbone's modules stay where they are, so that its state-dict keys are untouched; while this encoder exists,
    calling the backbone itself with no mask set computes what it always did.

    Args:
        backbone: Backbone whose last feature has stride 32. It is changed in place (its modules get rules).

    Raises:
        CatalogError: If a module mixes positions in a way that has no rule; the message names it.
    """

    def __init__(self, backbone: TimmBackbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._seen = Visibility()
        if backbone.reductions[-1] != PATCH:
            raise CatalogError(
                f"{backbone.name}: the last stage has stride {backbone.reductions[-1]}, expected {PATCH}"
            )
        for name, module, rule in list(_rules_of(backbone)):
            setattr(module, _FORWARD, partial(_apply, rule, module, self._seen, name))
        with self._shown_by_name():
            prove_no_leak(self)

    @property
    def channels(self) -> int:
        """Channels of the encoder's output."""
        return self.backbone.channels[-1]

    def forward(self, images_BCHW: Tensor, mask_BL: Tensor) -> Tensor:
        """Encode the visible patches.

        Args:
            images_BCHW: Images, sides multiples of 32.
            mask_BL: Bool, True where hidden, the same number of visible patches in every row.

        Returns:
            Features (B, C, H / 32, W / 32), zero at hidden patches.
        """
        self._seen.set(mask_BL, grid_of(images_BCHW.shape[2], images_BCHW.shape[3]))
        try:
            features_BCHW: Tensor = self.backbone(images_BCHW * self._seen.like(images_BCHW))[-1]
            return features_BCHW * self._seen.like(features_BCHW)
        finally:
            self._seen.clear()

    @contextmanager
    def _shown_by_name(self) -> Iterator[None]:
        try:
            yield
        except CatalogError:
            raise
        except (RuntimeError, ValueError, AssertionError) as error:
            height, width = _TRIAL_SIZE
            raise CatalogError(
                f"{self.backbone.name} cannot be pretrained with masks: a trial at {height}x{width} pixels failed: "
                f"{error}"
            ) from error


def _apply(rule: Rule, module: nn.Module, seen: Visibility, name: str, x: Tensor) -> Tensor:
    if not seen.active:
        result: Tensor = type(module).forward(module, x)
        return result
    try:
        return rule(module, seen, x)
    except ValueError as error:
        raise SizeError(f"{type(module).__name__} at '{name}': {error}") from error


def _rules_of(backbone: TimmBackbone) -> Iterator[tuple[str, nn.Module, Rule]]:
    """Yield every module that needs a rule; refuse the first one that is not understood."""
    closed: list[str] = []
    for name, module in backbone.net.named_modules():
        if any(name.startswith(prefix) for prefix in closed):
            continue
        rule = next((RULES[parent] for parent in type(module).__mro__ if parent in RULES), None)
        if rule is not None:
            yield name, module, rule
            if isinstance(module, CLOSED):
                closed.append(f"{name}.")
        elif (reason := _objection(module)) is not None:
            raise CatalogError(
                f"{backbone.name} cannot be pretrained with masks: {type(module).__name__} at '{name}' {reason}"
            )


def _objection(module: nn.Module) -> str | None:
    """Return why a module without a rule cannot be right under a mask, or None where it can."""
    kind = type(module)
    if "attention" in kind.__name__.lower() or kind.__name__.lower().endswith("attn"):
        return "is an attention over all positions, which would look at hidden ones"
    if isinstance(module, nn.GroupNorm | GroupNorm | nn.InstanceNorm2d):
        return "takes its statistics over all positions of an image"
    if isinstance(module, nn.LayerNorm):
        return None if len(module.normalized_shape) == 1 else "takes its statistics over several dimensions"
    if isinstance(module, _POINTWISE) or kind.__name__ in _SCALES:
        return None
    activation = next((parent for parent in kind.__mro__ if parent.__module__ in _ACTIVATION_FILES), None)
    if activation is not None and not activation.__name__.startswith(_NOT_POINTWISE_ACTIVATIONS):
        return None
    if next(module.children(), None) is not None or isinstance(module, nn.Sequential | nn.ModuleList):
        return None  # its parts are looked at one by one, its own arithmetic by the trial
    return "is not known to work on one position at a time and has no rule for hidden positions"


@torch.no_grad()
def prove_no_leak(encoder: MaskedEncoder) -> None:
    """Write noise into hidden positions behind every module and require that nothing visible changes.

    The backbone's buffers (running statistics) and the global random state are left as they were.

    Raises:
        CatalogError: Naming the first module whose visible output depends on hidden positions.
    """
    backbone = encoder.backbone
    height, width = _TRIAL_SIZE
    grid = grid_of(height, width)
    device = next(backbone.parameters()).device
    generator = torch.Generator().manual_seed(0)
    mask_BL = random_mask(2, grid[0] * grid[1], 0.6, generator).to(device)
    images_BCHW = torch.rand(2, backbone.c1, height, width, generator=generator).to(device)
    buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    training = backbone.training
    clean: dict[tuple[str, int], Tensor] = {}
    try:
        backbone.train()
        for noise in (0.0, _TRIAL_NOISE):
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
                torch.manual_seed(0)
                _watched_run(encoder, images_BCHW, mask_BL, grid, clean, noise)
    finally:
        backbone.train(training)
        for name, buffer in backbone.named_buffers():
            buffer.copy_(buffers[name])


def _watched_run(
    encoder: MaskedEncoder,
    images_BCHW: Tensor,
    mask_BL: Tensor,
    grid: tuple[int, int],
    clean: dict[tuple[str, int], Tensor],
    noise: float,
) -> None:
    """Run once with a hook on every module: fill ``clean`` without noise, compare with it when there is noise."""
    calls: dict[str, int] = {}
    own = torch.Generator().manual_seed(1)  # the global one may feed a dropout, which must repeat

    def watch(name: str, module: nn.Module, _inputs: object, output: object) -> Tensor | None:
        hidden = _hidden_positions(output, mask_BL, grid)
        if hidden is None or not isinstance(output, Tensor):
            return None
        key = (name, calls.get(name, 0))
        calls[name] = key[1] + 1
        shown = output.masked_fill(hidden, 0.0)
        if noise == 0.0:
            clean[key] = shown
            return None
        if key in clean and not torch.allclose(shown, clean[key], rtol=0.0, atol=_slack(clean[key])):
            raise CatalogError(
                f"{encoder.backbone.name} cannot be pretrained with masks: what {type(module).__name__} at '{name}' "
                f"computes for visible positions depends on hidden ones"
            )
        return output + noise * torch.randn(output.shape, generator=own).to(output) * hidden

    hooks: list[Callable[[], None]] = [
        module.register_forward_hook(partial(watch, name)).remove
        for name, module in encoder.backbone.net.named_modules()
        if name
    ]
    try:
        encoder(images_BCHW, mask_BL)
    finally:
        for remove in hooks:
            remove()


def _slack(reference: Tensor) -> float:
    return _TRIAL_TOLERANCE * (1.0 + float(reference.abs().max()))


def _hidden_positions(output: object, mask_BL: Tensor, grid: tuple[int, int]) -> Tensor | None:
    """Return True at hidden positions, ready to be spread over ``output``, or None when it is no feature map."""
    if not isinstance(output, Tensor) or output.dim() != 4 or output.shape[0] != mask_BL.shape[0]:
        return None
    for rows, columns, last in ((2, 3, False), (1, 2, True)):
        size = (output.shape[rows], output.shape[columns])
        if size[0] % grid[0] == 0 and size[1] % grid[1] == 0 and size[0] // grid[0] == size[1] // grid[1]:
            hidden_B1HW = upsample_mask(mask_BL, grid, size)
            return hidden_B1HW.permute(0, 2, 3, 1) if last else hidden_B1HW
    return None
