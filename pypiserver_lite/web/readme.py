"""Descriptions as HTML: Markdown, reStructuredText and plain text, from strangers, made safe to show.

The PyPA's renderer (the extra ``readme``) turns the text into HTML of a few
allowed elements. That is rewritten to fit into our page: nothing is loaded,
identifiers cannot clash with ours, headings go below ours. Without the
extra, and for anything that cannot be rendered, the text is shown as it is.
"""

from __future__ import annotations

import html
import re
import threading
from html.parser import HTMLParser

_LONGEST = {"text/markdown": 500_000, "text/x-rst": 200_000}  # characters; a longer text is shown as it is
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

# docutils keeps roles and directives that a text defines in tables of the whole process.
_docutils = threading.Lock()


def render(text: str, content_type: str) -> str:
    """`text` as HTML that is safe inside a page; an empty text is empty."""
    if not text.strip():
        return ""
    rendered = _rendered(text, content_type or "text/x-rst")
    return f'<pre class="plain">{html.escape(text)}</pre>' if rendered is None else rewrite(rendered)


def _rendered(text: str, content_type: str) -> str | None:
    if len(text) > _LONGEST.get(content_type, 0):
        return None
    try:
        if content_type == "text/markdown":
            from readme_renderer import markdown

            return markdown.render(text)
        from readme_renderer import rst

        with _docutils:
            return rst.render(text)
    except ImportError:
        return None
    except Exception:  # whatever a renderer makes of a stranger's text, the text itself can be shown
        return None


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
