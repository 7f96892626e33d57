"""A description as HTML: Markdown and reStructuredText from strangers, made safe to show.

The PyPA's renderer (the extra ``readme``) turns the text into HTML of a few
allowed elements. That is rewritten to fit into our page: nothing is loaded,
identifiers cannot clash with ours, headings go below ours.

Run as a program by `descriptions`, hence it imports nothing of ours: the
media type is its second argument (the interpreter's path follows), the text
comes in and the HTML goes out. Exit code 1: it cannot be rendered.
"""

from __future__ import annotations

import contextlib
import html
import importlib
import re
import signal
import sys
from html.parser import HTMLParser

KINDS = ("text/markdown", "text/x-rst")
"""Media types that can be rendered."""

_LONGEST = 2**20  # characters of HTML; references let a short text become a long one
_SECONDS, _MEMORY = 4, 2**30
_VOID = frozenset({"br", "hr", "col"})
_RENAMED = {"tt": "code", "acronym": "abbr", "aside": "div", "nav": "div", "picture": "span"}
_KEPT = {
    "a": ("title",),
    "abbr": ("title",),
    "ol": ("start",),
    "td": ("colspan", "rowspan"),
    "span": ("class",),
    "code": ("class",),
}
_HREF = re.compile(r"(https?://|mailto:)[^\s\"<>]+", re.IGNORECASE)
_ALIGNED = {"center": "center", "right": "right"}


def render(text: str, kind: str) -> str | None:
    """`text` as HTML that is safe inside a page; ``None`` if it cannot be rendered. Raises what renderers raise."""
    module = "markdown" if kind == "text/markdown" else "rst"
    rendered = importlib.import_module(f"readme_renderer.{module}").render(text)
    written = None if rendered is None else rewrite(rendered)
    return written if written is not None and len(written) <= _LONGEST else None


def rewrite(rendered: str) -> str:
    """The renderer's HTML as a part of our page."""
    writer = _Writer()
    writer.feed(rendered)
    writer.close()
    return "".join(writer.out)


class _Writer(HTMLParser):
    """Writes every element anew; an attribute that is not named above is left out."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.out: list[str] = []
        self._open: list[str] = []  # what to write for each end tag to come
        self._ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {key: value or "" for key, value in attrs}
        if tag == "img":
            # Nothing is loaded from other hosts, so a picture is what it says it shows.
            if given.get("alt", "").strip() and not _HREF.match(given["alt"]):
                self.out.append(f'<span class="image">{html.escape(given["alt"])}</span>')
            return
        if tag == "input":
            self.out.append("☑" if "checked" in given else "☐")
            return
        tag = _RENAMED.get(tag, tag)
        if re.fullmatch("h[1-6]", tag):
            tag = f"h{min(int(tag[1]) + 2, 6)}"
        attributes = self._attributes(tag, given)
        if tag == "a" and "href=" not in attributes:
            self._open.append("")  # it leads nowhere from here, so its text is just text
            return
        written = f"<{tag}{attributes}>"
        if tag in _VOID:
            self.out.append(written)
            return
        before, after = ('<div class="wide" tabindex="0">', "</div>") if tag == "table" else ("", "")
        self.out.append(before + written)
        self._open.append(f"</{tag}>{after}")

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID or tag in ("img", "input") or not self._open:
            return
        end = self._open.pop()
        if end == "</a>" and self.out[-1].startswith("<a"):
            # A link without a text cannot be read out, only followed by accident.
            self.out.pop()
        else:
            self.out.append(end)

    def handle_data(self, data: str) -> None:
        self.out.append(html.escape(data))

    def _attributes(self, tag: str, given: dict[str, str]) -> str:
        kept = {key: given[key] for key in _KEPT.get(tag, ()) if key in given}
        if given.get("id") and given["id"] not in self._ids and not re.search(r"\s", given["id"]):
            self._ids.add(given["id"])
            kept["id"] = f"readme-{given['id']}"
        if given.get("align") in _ALIGNED:
            kept["class"] = _ALIGNED[given["align"]]
        if tag == "pre":
            kept["tabindex"] = "0"  # a long line scrolls, and must do so without a mouse
        href = given.get("href", "")
        if tag == "a" and href.startswith("#"):
            kept["href"] = f"#readme-{href[1:]}"
        elif tag == "a" and _HREF.fullmatch(href):
            kept |= {"href": href, "rel": "nofollow noopener"}
        return "".join(f' {key}="{html.escape(value)}"' for key, value in kept.items())


def main(kind: str) -> int:
    """Render what comes in. Ends by itself, even when whoever started this is gone."""
    if hasattr(signal, "alarm"):
        import resource

        signal.alarm(_SECONDS)
        with contextlib.suppress(ValueError, OSError):  # where less is allowed already, or none can be set
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    rendered = render(sys.stdin.buffer.read().decode("utf-8"), kind)
    if rendered is None:
        return 1
    sys.stdout.buffer.write(rendered.encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[2]))
