"""Mutated descriptions either build or are refused with a location, quickly, and never run code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from combinations import combinations
from fuzzing import NECKS, SEEDS, Worker, expressions, necks, problem, yamls
from hypothesis import HealthCheck, given, seed, settings

PATIENCE = 6.0
"""The limit of 10 seconds is for a machine of one's own; scripts/fuzz.py, run alone, keeps to it."""

SAMPLE = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    made = Worker(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.stop()


@pytest.mark.parametrize("text", SEEDS)
def test_the_descriptions_to_begin_with_build(worker: Worker, text: str) -> None:
    assert problem(worker, "yaml", text, PATIENCE) == ("", "built")


@seed(20_001)
@SAMPLE
@given(text=yamls())
def test_mutated_yamls(worker: Worker, text: str) -> None:
    assert problem(worker, "yaml", text, PATIENCE)[0] == ""


@seed(20_002)
@SAMPLE
@given(text=expressions())
def test_mutated_expressions(worker: Worker, text: str) -> None:
    assert problem(worker, "expression", text, PATIENCE)[0] == ""


@seed(20_003)
@settings(SAMPLE, max_examples=60)
@given(text=necks())
def test_mutated_necks(worker: Worker, text: str) -> None:
    assert problem(worker, "neck", text, PATIENCE)[0] == ""


@seed(20_004)
@settings(SAMPLE, max_examples=25)
@given(text=combinations())
def test_combinations_learn_or_are_refused(worker: Worker, text: str) -> None:
    assert problem(worker, "combination", text, PATIENCE)[0] == ""


@pytest.mark.parametrize("text", NECKS)
def test_the_necks_to_begin_with_build(worker: Worker, text: str) -> None:
    assert problem(worker, "neck", text, PATIENCE) == ("", "built")


def _regressions() -> list[Path]:
    return sorted((Path(__file__).parent / "regressions").glob("*"))


@pytest.mark.parametrize("path", _regressions(), ids=lambda path: path.name)
def test_what_once_failed(worker: Worker, path: Path) -> None:
    kind = "neck" if path.name.endswith(".neck.yaml") else "yaml" if path.suffix == ".yaml" else "expression"
    kind = "combination" if path.name.endswith(".combination.txt") else kind
    assert problem(worker, kind, path.read_bytes().decode("utf-8", errors="surrogatepass"), PATIENCE)[0] == ""


def test_the_worker_would_notice_executed_code(worker: Worker) -> None:
    """The canary itself works: a folder with the canary in it is reported."""
    from fuzzing import CANARY

    (worker.folder / CANARY).touch()
    try:
        assert problem(worker, "yaml", SEEDS[0], PATIENCE)[0].startswith("code was executed")
    finally:
        (worker.folder / CANARY).unlink()
