"""The application. Run it with any WSGI server: ``example_site.site:make("packages")``."""

from __future__ import annotations

from pathlib import Path

from pypiserver_lite import PypiServerLite

TEMPLATES = Path(__file__).parent / "templates"


class ExampleSite(PypiServerLite):
    """The index of the Example company."""

    def __init__(self, *packages: object, **settings: object) -> None:
        super().__init__(*packages, templates=TEMPLATES, **settings)
        self.get("/about/", callback=self.about)

    def about(self) -> str:
        """A page that other indexes do not have."""
        return self.render("about", contact="packages@example.org")


def make(*packages: object, **settings: object) -> ExampleSite:
    """The application over these folders."""
    return ExampleSite(*packages, **settings)
