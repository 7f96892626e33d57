"""Files are read before anybody asks, once."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from builders import make_wheel
from folders import Make, old, paths, posix, project_in, wait_for

from pypiserver_lite.folder.memory import Memory


def test_files_are_read_ahead_and_not_again_at_the_next_start(make: Make, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts.sqlite3"
    for number in range(10):
        old(make_wheel(root, version=f"1.{number}"))
    folder = make(root, database=database)
    assert folder.progress() == (0, 10)
    folder.start()
    folder.start()
    wait_for(lambda: folder.progress() == (10, 10))
    before = project_in(folder)
    folder.close()
    for path in root.glob("*.whl"):  # other bytes in the same state: whoever read them would tell
        state = path.stat()
        with path.open("r+b") as file:
            file.write(b"never read")
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
    assert project_in(make(root, database=database)) == before


def test_new_files_are_read_ahead_and_vanished_ones_forgotten(make: Make, tmp_path: Path) -> None:
    root, database = tmp_path / "root", tmp_path / "facts.sqlite3"
    gone = old(make_wheel(root, version="1.0"))
    folder = make(root, database=database)
    folder.start()
    wait_for(lambda: folder.progress() == (1, 1))
    memory = Memory(database)
    assert paths(memory, root.resolve()) == [str(gone.resolve())]
    new = old(make_wheel(root, version="2.0"))
    folder.names()
    wait_for(lambda: str(new.resolve()) in paths(memory, root.resolve()))
    folder.close()
    gone.unlink()
    another = make(root, database=database)
    another.start()
    wait_for(lambda: paths(memory, root.resolve()) == [str(new.resolve())])
    memory.close()


_FORKS = """
import os, sys, time, warnings
from pathlib import Path
from pypiserver_lite.folder.memory import Memory
from pypiserver_lite.folder import projects
from pypiserver_lite.folder.budget import Budget
from pypiserver_lite.folder.store import Folder
warnings.simplefilter("ignore")
folder = Folder([Path(sys.argv[1])], Memory(Path(sys.argv[2])), hash_algo="sha256")
folder.start()
assert folder.project("ours") is not None
child = os.fork()
if not child:
    try:
        assert folder.project("ours") is not None
        deadline = time.monotonic() + 20
        while folder.progress() != (1, 1):
            assert time.monotonic() < deadline
            folder.names()
            folder.project("ours")
            time.sleep(0.01)
        folder.close()
    except BaseException:
        os._exit(1)
    os._exit(0)
assert folder.project("ours") is not None
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@posix
def test_a_forked_process_reads_on_its_own(tmp_path: Path) -> None:
    old(make_wheel(tmp_path / "root"))
    command = [sys.executable, "-c", _FORKS, str(tmp_path / "root"), str(tmp_path / "facts.sqlite3")]
    subprocess.run(command, check=True, timeout=60)


def test_closing_stops_reading(make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for number in range(50):
        make_wheel(tmp_path, version=f"1.{number}")
    folder = make(tmp_path)
    others = set(threading.enumerate())
    folder.start()
    folder.close()
    for _ in range(2):
        assert not [thread for thread in set(threading.enumerate()) - others if "read-ahead" in thread.name]
        folder.start()
    assert len(project_in(folder).files) == 50
