"""Projects as the simple API offers them, for the tests of both ways."""

from __future__ import annotations

import dataclasses
from typing import Any

from packaging.utils import NormalizedName

from pypiserver_lite.model import File
from pypiserver_lite.simple.negotiate import Form

JSON, HTML, TEXT = Form


BASE = "http://127.0.0.1:8080/prefix/simple/foo/"


FOO = NormalizedName("foo")


SHA = "ab" * 32


def wheel(**more: Any) -> File:
    """A file of a project, with these facts."""
    return dataclasses.replace(File(filename="foo-1.0-py3-none-any.whl", project=FOO, version="1.0"), **more)
