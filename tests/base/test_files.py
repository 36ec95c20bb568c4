"""One writer for everything: whole or not at all, on disk, never over what must stay."""

from __future__ import annotations

import csv
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import detgraft
from detgraft.base import files
from detgraft.base.files import copy_atomic, csv_text, decode, write_atomic, write_with
from detgraft.errors import DataError

SOURCE = Path(detgraft.__file__).parent


def test_a_write_is_on_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        events.append(f"{kind}, old content {(tmp_path / 'a').read_text() == 'old'}")
        real(handle)

    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "a", "new")
    assert events == ["file, old content True", "folder, old content False"]
    events.clear()
    (tmp_path / "a").write_text("old")
    copy_atomic(Path(__file__), tmp_path / "a")
    assert events == ["file, old content True", "folder, old content False"]


def test_what_fails_half_way_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, "old")

    def fill(part: Path) -> None:
        part.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_with(path, fill)
    assert path.read_text() == "old"
    with pytest.raises(FileExistsError):
        write_atomic(path, "new", new=True)
    assert path.read_text() == "old"
    write_atomic(tmp_path / "deep" / ("n" * 250), "long names too", new=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "deep"]
    assert [p.read_text() for p in (tmp_path / "deep").iterdir()] == ["long names too"]


def test_a_new_file_is_refused_without_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError("this file system has no links")

    monkeypatch.setattr(os, "link", no_links)
    write_atomic(tmp_path / "a", "first", new=True)
    with pytest.raises(FileExistsError):
        write_atomic(tmp_path / "a", "second", new=True)
    assert [p.read_text() for p in tmp_path.iterdir()] == ["first"]


def test_a_kill_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomic(path, "0" * 3_000_000)
    code = (
        "import sys, pathlib; from detgraft.base.files import write_atomic\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "for k in range(1000000): write_atomic(path, str(k % 10) * 3_000_000)\n"
    )
    for pause in (0.3, 0.33, 0.37):
        child = subprocess.Popen([sys.executable, "-c", code, str(path)])
        time.sleep(pause)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        text = path.read_text()
        assert len(text) == 3_000_000
        assert len(set(text)) == 1


def test_no_room_writes_by_itself() -> None:
    """The old writers, six of them, were found by these words."""
    words = ('.part"', '.tmp"', "os.fsync", "mkstemp", "os.rename", ".replace(path)", ".replace(target)")
    found = [
        f"{path.relative_to(SOURCE)}: {word}"
        for path in SOURCE.rglob("*.py")
        if path != Path(files.__file__)
        for word in words
        if word in path.read_text("utf-8")
    ]
    # A whole folder takes its name in these three.
    assert sorted(found) == [
        "datasets/boxes.py: .replace(target)",
        'demo/made.py: .part"',
        "study/run/checkpoints.py: .replace(target)",
    ]


@pytest.mark.trust
def test_a_spreadsheet_gets_no_formula() -> None:
    cells = ["=1+1", "+A1", "-A1", "@SUM(A1)", "\t=1", "plain", "a=b", "-0.5", "1e-3"]
    text = csv_text([cells, [-0.5, 3, None, True]])
    first, second = csv.reader(text.splitlines())
    assert first == ["'=1+1", "'+A1", "'-A1", "'@SUM(A1)", "'\t=1", "plain", "a=b", "-0.5", "1e-3"]
    assert second == ["-0.5", "3", "", "True"]


def test_text_is_decoded_as_editors_write_it() -> None:
    assert decode("名字".encode("gbk"), "a", DataError) == ("名字", "gbk")
    assert decode("名字".encode("utf-16"), "a", DataError) == ("名字", "utf-16")
    assert decode("\ufeff名字".encode(), "a", DataError) == ("名字", "utf-8")
    with pytest.raises(DataError, match=r"a, line 2: expected text"):
        decode(b"x\n\xff\xff\xff", "a", DataError)
