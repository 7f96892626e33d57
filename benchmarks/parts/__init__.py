"""The parts of the benchmark: a function for each, from a `Bench` to the rows it measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench import Bench
from table import Row

from . import change, files, indexes, memory, pages, people, start, uploads, upstream

PARTS: Mapping[str, Callable[[Bench], Iterator[Row]]] = {
    "pages": pages.project_pages,
    "unchanged": pages.unchanged,
    "size": pages.size,
    "list": pages.project_list,
    "long": pages.long_project,
    "indexes": indexes.indexes,
    "login": pages.behind_passwords,
    "granian": pages.on_granian,
    "people": people.human_pages,
    "search": people.search,
    "files": files.small_files,
    "big": files.big_file,
    "kept": files.kept_connections,
    "start": start.start,
    "change": change.change,
    "memory": memory.memory,
    "upload": uploads.small,
    "upload-big": uploads.big,
    "upstream": upstream.behind_upstream,
    "far-page": upstream.long_page,
}
