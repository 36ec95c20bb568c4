"""What hangs is reported and ended, and what a killed study would leave behind is cleared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from made_up import make_spec
from test_engine import STAND_IN, TINY, prepared

from detgraft.study.design.errors import StudyError
from detgraft.study.judge.evidence import State
from detgraft.study.run import stall
from detgraft.study.run.executor import Engine, Event, LocalPool
from detgraft.study.run.launch import Slot
from detgraft.study.run.stall import StallWatch
from detgraft.study.run.warden import inhabitants

pytestmark = pytest.mark.trust


def test_the_limit_follows_the_slowest_epoch_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(stall.time, "monotonic", lambda: now[0])
    watch = StallWatch(10.0)
    watch.begin("a")
    now[0] += stall.FIRST - 1
    assert watch.stalled("a", "arm") is None, "nothing is known yet"
    watch.begin("a")
    for seconds in (100, 300, 200):
        now[0] += seconds
        watch.epoch("a", "arm")
    assert watch.limit("a", "arm") == 3000
    assert watch.limit("b", "another arm") == 15000
    now[0] += 2999
    assert watch.stalled("a", "arm") is None
    now[0] += 2
    assert watch.stalled("a", "arm") == 3001
    # Measuring is no epoch, and has a time of its own.
    watch.measure("a")
    assert watch.limit("a", "arm") == stall.FIRST
    now[0] += 500
    watch.end("a")
    watch.begin("b")
    watch.measure("b")
    assert watch.limit("b", "arm") == 5000
    # Short epochs do not make a run hang that is only busy for a moment, and what was trained before counts.
    quick = StallWatch(10.0)
    quick.learn("arm", [{"seconds": 1.0}, {"seconds": 2.5}, {"seconds": None}])
    assert quick.limit("x", "arm") == stall.FLOOR
    slow = StallWatch(2.0)
    slow.learn("arm", [{"seconds": 1000.0}, {"seconds": 5000.0}])
    assert slow.limit("x", "arm") == 8000
    assert StallWatch(None).limit("x", "arm") == float("inf")


def test_a_run_that_hangs_is_ended_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It hangs in its second epoch each time, so it is given up after three times; the other arm is done."""
    monkeypatch.setenv("STAND_IN", json.dumps({"fail": {"carafe": "hang"}}))
    monkeypatch.setattr(stall, "FLOOR", 0.5)
    monkeypatch.setattr(stall, "FIRST", 60.0)
    study = prepared(tmp_path, f"{TINY}\nstall: 2\n")
    events: list[Event] = []
    begin = time.monotonic()
    Engine(study, LocalPool([Slot(None, 1)] * 2, STAND_IN), events.append).run()
    assert time.monotonic() - begin < 120
    kinds = [event.kind for event in events if event.cell.arm.name == "carafe"]
    assert kinds.count("stalled") == 3
    (failed,) = [event.message for event in events if event.kind == "failed"]
    assert "hung (nothing for" in failed
    assert "3 times without finishing another epoch" in failed
    states = {cell.arm.name: cell.state() for cell in study.cells()}
    assert states == {"yolo11n": State.DONE, "carafe": State.FAILED}
    message = next(event.message for event in events if event.kind == "stalled")
    assert "is the limit (stall: in the study file); it is ended" in message


def test_the_key_of_the_study_file(tmp_path: Path) -> None:
    assert make_spec(tmp_path, TINY).stall == 10.0
    assert make_spec(tmp_path, f"{TINY}\nstall: 3.5\n").stall == 3.5
    assert make_spec(tmp_path, f"{TINY}\nstall: none\n").stall is None
    for wrong in ("1", "yes", "-3", "[]"):
        with pytest.raises(StudyError, match="stall: expected a number from 2"):
            make_spec(tmp_path, f"{TINY}\nstall: {wrong}\n")
    same = make_spec(tmp_path, TINY)
    assert make_spec(tmp_path, f"{TINY}\nstall: 3\n").digest() == same.digest(), "how runs are executed is no identity"


FAKE_RAY = '''
"""As much of Ray as a pool needs; like the real one it starts agents of its own that name its folder."""
import subprocess, sys

class exceptions:
    class RayError(Exception):
        pass

def init(**options):
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']);"
    code = child + "time.sleep(300)"
    subprocess.Popen([sys.executable, "-c", code, f"--temp-dir={options['_temp_dir']}/session"], start_new_session=True)

def cluster_resources(): return {"CPU": 1}
def nodes(): return [{"Alive": True}]
def remote(**needs): return lambda function: None
def cancel(task, force): pass
def shutdown(): pass  # a driver that is killed never comes here, and the real one leaves agents now and then
'''
DRIVER = """
import sys, time
from detgraft.study.run.pools import RayPool
pool = RayPool(None, 1)
print(pool._temporary, flush=True)
if sys.argv[1] == "close":
    pool.close()
else:
    time.sleep(300)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("how", ["close", "kill"])
def test_a_study_with_ray_leaves_no_agent_behind(how: str, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "__init__.py").write_text(FAKE_RAY)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "/tmp/dgr"])
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, how], env=env, stdout=subprocess.PIPE)
    try:
        assert driver.stdout is not None
        folder = Path(driver.stdout.readline().decode().strip())
        assert folder.name.startswith("dgr")
        if how == "kill":
            end = time.monotonic() + 30
            while len(inhabitants(folder)) < 3:  # the agent, its child, and the warden
                assert time.monotonic() < end
                time.sleep(0.05)
            driver.kill()
        driver.wait(60)
        end = time.monotonic() + 60
        while inhabitants(folder) or folder.exists():
            assert time.monotonic() < end, [process.cmdline() for process in inhabitants(folder)]
            time.sleep(0.1)
        assert bystander.poll() is None
        assert psutil.pid_exists(bystander.pid)
    finally:
        for process in (driver, bystander):
            process.kill()
            process.wait()
