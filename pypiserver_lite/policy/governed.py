"""What an index shows of what it has: its policy applied to projects and their files."""

from __future__ import annotations

from packaging.utils import NormalizedName

from ..config.indexes import PolicySettings
from ..index import Verdict
from ..model import File, Project


class Governed:
    """The rules of `settings` as an index asks them."""

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings

    def governs(self, name: NormalizedName) -> bool:
        """Whether a rule may hide a file of this project."""
        return False

    def hides(self, name: NormalizedName) -> Verdict | None:
        """Why the whole project is hidden, whatever files it has; ``None`` if it is not."""
        return None

    def trim(self, project: Project) -> Project:
        """The project without the files that are hidden now: the very same object while both stay the same."""
        return project

    def verdict(self, file: File) -> Verdict | None:
        """Why a file is hidden now; ``None`` if it is not."""
        return None
