"""Settings say in one sentence what is wrong with them, whatever pydantic says."""

from __future__ import annotations

from typing import Any

import pytest

from detgraft.errors import ArgumentError, SizeError
from detgraft.pretraining.settings import Options, Settings

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "epochs must be a whole number of at least 1, found 0"),
    ({"batch": True}, "batch must be a whole number of at least 1, found True"),
    ({"batch": "4"}, "batch must be a whole number of at least 1, found '4'"),
    ({"seed": -1}, "seed must be a whole number of at least 0, found -1"),
    ({"lr": float("inf")}, "lr must be a positive number, found inf"),
    ({"width": 0}, "width must be a positive number, found 0"),
    ({"weight_decay": float("nan")}, "weight_decay must be a number of at least 0, found nan"),
    ({"mask_ratio": True}, "mask_ratio must be a number between 0 and 1, found True"),
    ({"normalize": "imagnet"}, "normalize must be one of none, imagenet, found 'imagnet'. Did you mean 'imagenet'?"),
]


@pytest.mark.parametrize(("words", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_one_sentence(words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        Settings("convnextv2_atto", "folder", **words)
    assert str(caught.value) == sentence


def test_errors_of_ours_pass_as_they_are() -> None:
    with pytest.raises(SizeError, match="Nearest: 96 or 128"):
        Settings("convnextv2_atto", "folder", imgsz=100)


def test_options_may_be_left_to_the_run() -> None:
    assert Options(workers=None, max_steps=None).worker_count(1) >= 0
    for words in ({"workers": -1}, {"max_steps": 0}, {"precision": "fp8"}, {"save_every": 0}):
        with pytest.raises(ArgumentError, match=f"{next(iter(words))} must be "):
            Options(**words)  # type: ignore[arg-type]


def test_a_value_that_is_given_by_position_is_called_by_its_name() -> None:
    with pytest.raises(ArgumentError, match=r"^epochs must be a whole number of at least 1, found 0$"):
        Settings("convnextv2_atto", "pictures", 0)
