"""The Bottle application over a `site.Site`: machine routes, human pages, and the table of status numbers."""

from .app import PypiServerLite, make_app

__all__ = ["PypiServerLite", "make_app"]
