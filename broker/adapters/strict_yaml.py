"""YAML as a tree of nodes with line numbers, less what hides meaning: anchors, aliases, merge keys, tags, duplicates.

Nothing is constructed, so nothing in a file can make an object of ours. Every fault found is noted and the walk goes
on, so that an operator sees all of them at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import yaml

MAX_BYTES: Final = 1024 * 1024
"""Longest file read, in bytes."""
MAX_DEPTH: Final = 16
"""Deepest nesting; ours needs six."""
MAX_NAME: Final = 1024
"""Longest name of a field, in characters; YAML has the same bound for names that are not marked with `?`."""
HALF: Final = "holds half a character: write a whole one, as itself or with one escape"

_HALVES: Final = re.compile(r"[\ud800-\udfff]")
_PLAIN_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value")
)
_MERGE: Final = "tag:yaml.org,2002:merge"
ALIAS: Final = "!alias"
"""Tag of the node that stands where an alias was."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong at a line, counted from 1."""

    line: int
    message: str


@dataclass(frozen=True, slots=True)
class Tree:
    """A document: its root, None when there is none, and what is wrong with its form."""

    root: yaml.Node | None
    faults: tuple[Fault, ...]


def compose(text: str) -> Tree:
    """Return the one document of a text."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return Tree(None, (Fault(1, f"the file is longer than {MAX_BYTES} bytes"),))
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return Tree(None, (Fault(line, "the file holds characters that are not allowed in YAML"),))
    try:
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        fault = Fault(mark.line + 1 if mark else 1, error.problem or "is not YAML")
        return Tree(None, (*loader.faults, fault))
    except (ValueError, OverflowError):  # the loader's: of an escape beyond all characters, of a version's many digits
        return Tree(None, (*loader.faults, Fault(loader.line + 1, "an escape or a version stands for nothing")))
    finally:
        loader.dispose()
    if root is None:
        return Tree(None, (*loader.faults, Fault(1, "the file is empty")))
    return Tree(root, tuple(loader.faults))


def line_of(node: yaml.Node) -> int:
    """Return the line a node begins at, counted from 1."""
    return int(node.start_mark.line) + 1


def text_problem(text: str) -> str | None:
    """Return why a scalar is no text, or None: an escape may stand for half a character, which nothing can hold."""
    return HALF if _HALVES.search(text) else None


def name_problem(name: str) -> str | None:
    """Return why a scalar is no field's name, or None."""
    if len(name) > MAX_NAME:
        return f"a field's name has at most {MAX_NAME} characters"
    wrong = text_problem(name)
    return wrong and f"a field's name {wrong}"


class _Loader(yaml.SafeLoader):
    """The safe loader, composing only, that notes what we do not take."""

    def __init__(self, text: str) -> None:
        self.faults: list[Fault] = []
        self._depth = 0
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose one node; an alias becomes an empty scalar, so that the walk can go on."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        if isinstance(event, yaml.AliasEvent):
            self.get_event()  # type: ignore[no-untyped-call]  # the same
            self._note(event, "aliases are not taken: write the value out")
            return yaml.ScalarNode(ALIAS, "", _mark(event), _mark(event))
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            self._note(event, "anchors are not taken")
            event.anchor = None
        if self._depth >= MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "the file is nested too deeply", _mark(event))
        self._depth += 1
        try:
            node = super().compose_node(parent, index)
        finally:
            self._depth -= 1
        if node is not None and node.tag not in _PLAIN_TAGS and node.tag != _MERGE:
            self._note(event, "tags are not taken")
        return node

    def _note(self, event: yaml.Event, message: str) -> None:
        self.faults.append(Fault(_mark(event).line + 1, message))


def _mark(event: yaml.Event) -> yaml.Mark:
    """Return where an event begins; those of a text always say."""
    mark = event.start_mark
    if not isinstance(mark, yaml.Mark):
        msg = "an event without a place"
        raise TypeError(msg)
    return mark
