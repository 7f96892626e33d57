"""Where the peers live: an environment of the benchmark's own, and the programs it finds on the machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
VENV = HERE / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

REQUIREMENTS = ("--editable", f"{PROJECT}[fast]", "pypiserver[cache]==2.4.2")
"""What the benchmark installs: this project with granian, and pypiserver in the form that caches its folder."""


def enter() -> None:
    """Continue in the benchmark's environment, made or brought up to date first; returns if this is it."""
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    stamp = VENV / "made-of"
    text = (PROJECT / "pyproject.toml").read_bytes() + repr((REQUIREMENTS, sys.version_info[:2])).encode()
    wanted = hashlib.sha256(text).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        print("making the benchmark's environment …", file=sys.stderr)
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
        install = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS]
        subprocess.run(install, check=True, timeout=600)
        stamp.write_text(wanted)
    os.execv(PYTHON, [str(PYTHON), *sys.argv])  # the same run, with the environment's Python


def program(name: str) -> str | None:
    """The path of a program; Debian keeps some where users do not look."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


class Missing(Exception):
    """A program that a part needs is not installed; the text says which, and how to get it."""


def need(name: str) -> str:
    """The path of a program. Raises Missing."""
    found = program(name)
    if found is None:
        raise Missing(f"{name} is not installed (Debian, Ubuntu: apt install {name})")
    return found
