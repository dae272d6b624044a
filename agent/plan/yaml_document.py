# SPDX-License-Identifier: Apache-2.0
"""YAML into plain data with the place of every value, so that problems are shown where they are."""

import os
from dataclasses import dataclass, field

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MAX_FILE_BYTES = 4 << 20
MAX_NODES = 200_000
"""More than any plan has; an alias bomb ends here."""

Path = tuple[str | int, ...]
"""Keys and list positions from the top: ("vports", 2, "addresses", 0)."""
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong. `line` and `column` count from 1; 0 means the file as a whole."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


@dataclass(slots=True)
class Document:
    """Data of one YAML document, the places (line, column) of values and keys, and what was wrong so far."""

    file: str
    data: Plain = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    unreadable: set[Path] = field(default_factory=set)
    """Values that have their problem already."""
    problems: list[Problem] = field(default_factory=list)

    def report(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Adds a problem at the value (or key) of `path`, or at the nearest thing around it."""
        places = self.places | self.keys if at_key else self.places
        known = path
        while known and known not in places:
            known = known[:-1]
        line, column = places.get(known, (0, 0))
        self.problems.append(Problem(self.file, line, column, shown(path), message))


def shown(path: Path) -> str:
    """`vports[2].addresses[0]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def load(path: str | os.PathLike[str]) -> Document:
    """The one document in a file. A file that cannot be read is one problem in the result, no exception."""
    document = Document(os.fspath(path))
    try:
        with open(document.file, "rb") as opened:
            raw = opened.read(MAX_FILE_BYTES + 1)
        if len(raw) <= MAX_FILE_BYTES:
            return parse(raw.decode("utf-8"), document.file)
        document.report((), f"is larger than {MAX_FILE_BYTES} bytes: is it the right file?")
    except OSError as error:
        document.report((), f"cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        document.report((), f"is no UTF-8 text: byte {error.start}")
    return document


def parse(text: str, file: str) -> Document:
    """The one document in `text`. Broken YAML is one problem in the result, never an exception."""
    document = Document(file)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            document.data = _Builder(document).build(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = " ".join(part for part in (error.context, error.problem) if part)
        document.problems.append(Problem(file, line, column, "", f"broken YAML: {what}"))
    except yaml.YAMLError as error:
        document.problems.append(Problem(file, 0, 0, "", "broken YAML: " + " ".join(str(error).split())))
    except RecursionError:
        document.problems.append(Problem(file, 0, 0, "", "broken YAML: nested too deeply"))
    return document


class _TooManyNodes(yaml.YAMLError):
    """The document is larger than any plan."""


class _Builder:
    """Walks the nodes once, noting places; duplicate and non-text keys become problems."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._scalars = SafeConstructor()
        self._nodes = 0

    def build(self, node: Node, path: Path) -> Plain:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _TooManyNodes(f"more than {MAX_NODES} values")
        self._document.places.setdefault(path, _place(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, at)) for at, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Plain]:
        built: dict[str, Plain] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            line, column = _place(key_node)
            if not isinstance(key_node, ScalarNode):
                self._problem(key_node, path, "a key must be text")
                continue
            key = str(key_node.value)
            if key in built:
                self._problem(key_node, (*path, key), f"is given twice, first in line {first[key]}")
                continue
            first[key] = line
            self._document.keys[(*path, key)] = (line, column)
            built[key] = self.build(value_node, (*path, key))
            if not isinstance(value_node, ScalarNode):
                self._document.places[(*path, key)] = (line, column)
        return built

    def _scalar(self, node: Node, path: Path) -> Plain:
        try:
            value = self._scalars.construct_object(node)
        except (yaml.constructor.ConstructorError, ValueError) as error:
            reason = error.problem if isinstance(error, yaml.constructor.ConstructorError) else error
            self._problem(node, path, f"cannot be read: {reason}")
            self._document.unreadable.add(path)
            return None
        if value is None or isinstance(value, bool | int | float | str):
            return value
        return str(node.value)

    def _problem(self, node: Node, path: Path, message: str) -> None:
        self._document.problems.append(Problem(self._document.file, *_place(node), shown(path), message))


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1
