"""The lines that people copy from the pages into a terminal."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from packaging.utils import NormalizedName


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A line to copy."""

    tool: str
    text: str


def _trust(address: str) -> str:
    """What pip needs to hear about an address without TLS that is not this machine's."""
    host = re.sub(r"^https?://|/.*$", "", address)
    if address.startswith("https:") or host.startswith(("127.0.0.1", "localhost", "[::1]")):
        return ""
    return f" --trusted-host {re.sub(r':[0-9]+$', '', host)}"


def set_up(address: str) -> list[Command]:
    """How to install from the index at `address`, once and from now on."""
    return [
        Command(tool="pip", text=f"pip install --index-url {address}simple/{_trust(address)} PROJECT"),
        Command(tool="pip, from now on", text=f"pip config set global.index-url {address}simple/"),
        Command(tool="uv", text=f"uv pip install --default-index {address}simple/ PROJECT"),
        Command(tool="uv, in a project", text=f"uv add --default-index {address}simple/ PROJECT"),
        Command(tool="Poetry", text=f"poetry source add --priority primary own {address}simple/"),
        Command(tool="PDM", text=f"pdm config pypi.url {address}simple/"),
    ]


def publishing(address: str) -> list[Command]:
    """How to publish to the index at `address`."""
    return [
        Command(tool="twine", text=f"twine upload --repository-url {address} dist/*"),
        Command(tool="uv", text=f"uv publish --publish-url {address} --check-url {address}simple/ dist/*"),
        Command(tool="Poetry", text=f"poetry config repositories.own {address}\npoetry publish --build -r own"),
        Command(tool="PDM", text=f"pdm publish --repository {address}"),
    ]


def installing(name: NormalizedName, version: str, address: str) -> list[Command]:
    """How to install this release from the index at `address`; the newest for an empty `version`."""
    # A version is what a file name says: it must not be able to end the word in a shell.
    exact = shlex.quote(f"{name}=={version}") if version else name
    return [
        Command(tool="pip", text=f"pip install --index-url {address}simple/{_trust(address)} {exact}"),
        Command(tool="uv", text=f"uv add --default-index {address}simple/ {exact}"),
        Command(tool="Poetry", text=f"poetry add {exact}"),
        Command(tool="PDM", text=f"pdm add {exact}"),
    ]
