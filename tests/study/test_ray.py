"""The same study through Ray: one node, and two nodes on one machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from test_engine import STAND_IN, TINY, figures, prepared, states, work

from detgraft.study.run.executor import Engine, Event
from detgraft.study.run.pools import RayPool
from detgraft.study.run.store import State

pytest.importorskip("ray", reason="the extra ray is not installed")
pytestmark = pytest.mark.slow


def test_ray_gives_the_same_results_and_the_same_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, spread = prepared(tmp_path / "plain"), prepared(tmp_path / "spread")
    work(plain, monkeypatch)
    monkeypatch.setenv("STAND_IN", '{"fail": {"carafe": "die"}}')
    events: list[Event] = []
    Engine(spread, RayPool(None, 2, STAND_IN), events.append).run()
    assert {e.cell.arm.name for e in events if e.kind == "failed"} == {"carafe"}
    assert states(spread).count(State.DONE) == 4
    monkeypatch.setenv("STAND_IN", "{}")
    Engine(spread, RayPool(None, 2, STAND_IN), events.append).run(retry=True, restart=True)
    assert figures(spread) == figures(plain)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_two_nodes_on_one_machine(tmp_path: Path) -> None:
    """What docs/study.md tells to do on two machines, with both nodes here."""
    # Not below tmp_path: Ray's sockets lie in it, and a socket's path has at most 107 characters.
    short = Path(tempfile.mkdtemp(prefix="dgt"))
    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "STAND_IN": "{}"}
    head = ["--head", "--port=6399", "--include-dashboard=false", f"--temp-dir={short}"]
    nodes: list[subprocess.Popen[bytes]] = []
    study = prepared(tmp_path, TINY)
    try:
        for options in (head, ["--address=127.0.0.1:6399"]):
            command = [str(Path(sys.executable).with_name("ray")), "start", "--num-cpus=1", "--block", *options]
            nodes.append(subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
            wait_for_nodes(len(nodes))
        pool = RayPool("127.0.0.1:6399", None, STAND_IN)
        assert pool.capacity == 2, "two machines without GPUs take one run each"
        Engine(study, pool, lambda event: None).run()
        assert states(study) == [State.DONE] * 2
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(60)
        shutil.rmtree(short, ignore_errors=True)


def wait_for_nodes(count: int) -> None:
    """Until a cluster with so many nodes answers; asked from a process of its own."""
    code = f"import ray; ray.init('127.0.0.1:6399', log_to_driver=False); assert len(ray.nodes()) == {count}"
    end = time.monotonic() + 120
    while subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode:
        assert time.monotonic() < end, f"{count} node(s) did not come up"
        time.sleep(1)
