"""Models are built side by side in threads, and each is what it is when it is built alone."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from ultralytics.nn import tasks

from detgraft.upstream.describe.layers import layers_on_meta

THREADS = 16
# YOLOv8's head is another one ("legacy") by a flag that the parser writes on the head's class.
NAMES = (
    "yolo11n+carafe",
    "yolov8n",
    "yolo11n+c3k2_dynamicconv@backbone",
    "yolo11n",
    "yolov8n+carafe",
    "yolo11n+repvit_m0_6",
)


@pytest.fixture(autouse=True)
def _switched_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def described(number: int) -> dict[str, Any]:
    mapping: dict[str, Any] = tasks.yaml_model_load(f"{NAMES[number % len(NAMES)]}.yaml")
    # Every third model has another activation, which the parser keeps in a class while it builds.
    return {**mapping, "activation": "nn.ReLU()"} if number % 3 == 0 else mapping


def look(mapping: dict[str, Any], meta: bool = False) -> tuple[str, list[Any], set[str]]:
    mapping = copy.deepcopy(mapping)
    layers = layers_on_meta(mapping, 3) if meta else tasks.parse_model(mapping, 3, verbose=False)[0]
    marks = [(layer.i, layer.f, layer.type) for layer in layers]
    return repr(layers), marks, {p.device.type for p in layers.parameters()}


def test_threads_build_what_one_thread_builds() -> None:
    work = [described(number) for number in range(THREADS + THREADS // 2)]
    alone = [look(mapping) for mapping in work[: len(NAMES)]]
    gate = threading.Barrier(THREADS)

    def build(number: int) -> tuple[str, list[Any], set[str]]:
        if number < THREADS:
            gate.wait()
        return look(work[number], meta=number % 5 == 4)

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(build, range(len(work))))
    wrong = []
    for number, (text, marks, devices) in enumerate(found):
        expected = alone[number % len(alone)]
        right = devices == ({"meta"} if number % 5 == 4 else {"cpu"})
        if (text, marks) != expected[:2] or not right:
            wrong.append(NAMES[number % len(NAMES)])
    assert wrong == []
    assert type(tasks.Conv.default_act).__name__ == "SiLU"
