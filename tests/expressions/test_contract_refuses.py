"""The contract finds what is wrong with a block: one defect each, and the test that must name it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detgraft.catalog.registry import catalogue, register
from detgraft.testing import BlockContract


class Plain(nn.Module):
    """A block without fault, from which each defect below is made."""

    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c1, c2, 3, s, 1)
        self.norm = nn.BatchNorm2d(c2)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class OtherChannels(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2 + 1, s)


class OtherSize(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., :-1]


class FailsOnOddSizes(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(nn.functional.max_pool2d(super().forward(x), 2), scale_factor=2)


class FailsOnOnePicture(Plain):
    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y * nn.functional.batch_norm(y.mean((2, 3), keepdim=True), None, None, training=True)


class DeadParameter(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2, s)
        self.unused = nn.Parameter(torch.zeros(3))


class NotFinite(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (self.norm.weight - self.norm.weight.detach())[:, None, None].abs().sqrt()


class Draws(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.rand_like(x))


class MovesInEvaluation(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.norm.running_mean += 0.1
        return super().forward(x)


class WrongFuse(Plain):
    def fuse(self) -> nn.Module:
        return self.conv


class Unpicklable(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2, s)
        self.act = lambda x: x


class KeepsAFunction(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2, s)
        self.act = nn.functional.relu


class ForgetsState(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2, s)
        self.scale = torch.rand(1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


class NamedAsTheParserNames(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2, s)
        self.f = nn.Conv2d(c2, c2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(super().forward(x))


class ParameterNamedAsTheParserNames(Plain):
    def __init__(self, c1: int, c2: int, s: int = 1) -> None:
        super().__init__(c1, c2, s)
        self.np = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.np


class NeverCallsItsConvolution(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return self.norm(nn.functional.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride, 1))


DEFECTS: dict[type[Plain], tuple[Callable[[BlockContract], None], str]] = {
    OtherChannels: (BlockContract.test_forward_at_several_sizes, "declared"),
    NamedAsTheParserNames: (BlockContract.test_leaves_the_parsers_names_free, "attributes named ['f']; Ultralytics'"),
    ParameterNamedAsTheParserNames: (BlockContract.test_leaves_the_parsers_names_free, "attributes named ['np']"),
    NeverCallsItsConvolution: (BlockContract.test_every_module_with_parameters_is_called, "['conv']"),
    OtherSize: (BlockContract.test_forward_at_several_sizes, "declared"),
    FailsOnOddSizes: (BlockContract.test_forward_at_several_sizes, "declared"),
    FailsOnOnePicture: (BlockContract.test_forward_at_several_sizes, "more than 1 value per channel"),
    DeadParameter: (BlockContract.test_every_parameter_gets_a_finite_gradient, "no gradient reaches ['unused']"),
    NotFinite: (BlockContract.test_every_parameter_gets_a_finite_gradient, "is not finite"),
    Draws: (BlockContract.test_forward_draws_no_random_numbers, "drawn"),
    MovesInEvaluation: (BlockContract.test_evaluation_changes_nothing, "norm.running_mean"),
    WrongFuse: (BlockContract.test_fused_equals_unfused, "fused differs"),
    Unpicklable: (BlockContract.test_pickle_and_deepcopy, "pickle"),
    KeepsAFunction: (BlockContract.test_restricted_loading, "torch.nn.functional.relu"),
    ForgetsState: (BlockContract.test_state_dict_round_trip, "an instance with the same state dict"),
}


@pytest.fixture
def contract(request: pytest.FixtureRequest) -> Iterator[BlockContract]:
    register("defective", channels="scaled")(request.param)

    class Contract(BlockContract):
        graft = "defective"

    yield Contract()
    catalogue.remove("defective")


@pytest.mark.parametrize(("contract", "kind"), [(kind, kind) for kind in DEFECTS], indirect=["contract"])
def test_a_defect_is_found(contract: BlockContract, kind: type[Plain]) -> None:
    test, words = DEFECTS[kind]
    with pytest.raises(Exception, match="") as caught:
        test(contract)
    assert words in str(caught.value), str(caught.value)


PLAIN_TESTS = [test for test, _ in DEFECTS.values() if test is not BlockContract.test_fused_equals_unfused]


@pytest.mark.parametrize("contract", [Plain], indirect=True)
def test_a_block_without_fault_passes(contract: BlockContract) -> None:
    for test in dict.fromkeys(PLAIN_TESTS):
        test(contract)


@pytest.mark.trust
@pytest.mark.parametrize("contract", [NeverCallsItsConvolution], indirect=True)
def test_a_weight_that_is_pruned_behind_the_block_s_back(contract: BlockContract) -> None:
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        contract.test_pruned_and_reparametrised_weights_train()


@pytest.mark.parametrize("contract", [DeadParameter, Plain], indirect=True)
def test_inside_yolo11n(contract: Any) -> None:
    if isinstance(contract.make(), DeadParameter):
        with pytest.raises(AssertionError, match="unused"):
            contract.test_builds_and_learns_inside_yolo11n()
    else:
        contract.test_builds_and_learns_inside_yolo11n()


def test_a_subclass_must_name_its_graft() -> None:
    with pytest.raises(AssertionError, match="set BlockContract.graft"):
        BlockContract().make()
