"""`broker.yaml`: text → configuration, with the line of every field.

Secrets are never in the file. A client's `secret_file` or `secret_env` says where to read its first one; both are
handed back beside the configuration and are no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.config_schema import FILE, FileProblem, SecretReference, Walk
from broker.adapters.strict_yaml import MAX_BYTES, compose
from broker.core import config_references, config_rules
from broker.core.config import ClientConfig, ConfigFile, Problem, merged


class ConfigFileError(Exception):
    """The file cannot be read as a configuration; `problems` holds every reason, in order of lines."""

    def __init__(self, problems: Sequence[FileProblem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ParsedConfig:
    """A configuration, its clients' secret references by client name, and the line of every field path."""

    config: ConfigFile
    secrets: Mapping[str, SecretReference]
    lines: Mapping[str, int]

    def line_of(self, path: str) -> int:
        """Return the line of a field, or of the nearest one around it."""
        while path and path not in self.lines:
            path = re.sub(r"(\.[^.\[\]]*|\[[0-9]*\]|^[^.\[\]]*)$", "", path)
        return self.lines.get(path, 1)

    def problems(self, fields: Mapping[str, str]) -> list[FileProblem]:
        """Return wrong fields, as the broker names them, with their lines."""
        found = [FileProblem(self.line_of(path), path, message) for path, message in fields.items()]
        return sorted(found, key=lambda problem: (problem.line, problem.field))


def read_config(path: Path) -> ParsedConfig:
    """Read and parse a file of at most 1 MiB.

    Raises:
        ConfigFileError: it cannot be read, or not as a configuration.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigFileError([FileProblem(0, "", f"cannot be read: {error.strerror}")]) from None
    try:
        return parse_config(data.decode())
    except UnicodeDecodeError:
        raise ConfigFileError([FileProblem(0, "", "is not text in UTF-8")]) from None


def parse_config(text: str, *, whole: bool = True) -> ParsedConfig:
    """Parse a configuration.

    Args:
        text: the file's.
        whole: it is not one object that goes with others elsewhere.

    Raises:
        ConfigFileError: with every problem there is.
    """
    tree = compose(text)
    walk = Walk()
    walk.found += [FileProblem(fault.line, "", fault.message) for fault in tree.faults]
    values = walk.mapping(tree.root, "", FILE, {"revision"}) if tree.root is not None else None
    if values is None or len(walk.found) > len(walk.foreign):
        raise ConfigFileError(sorted(walk.found, key=lambda problem: problem.line))
    pairs: tuple[tuple[ClientConfig, SecretReference | None], ...] = values.pop("clients", ())
    config = ConfigFile(clients=tuple(client for client, _ in pairs), **values)
    parsed = ParsedConfig(config, {client.name: ref for client, ref in pairs if ref is not None}, walk.lines)
    if walk.foreign:
        more = parsed.problems(merged(_beside(parsed, walk.foreign, whole=whole)))
        raise ConfigFileError(sorted([*walk.found, *more], key=lambda problem: problem.line))
    return parsed


def _beside(parsed: ParsedConfig, foreign: Sequence[str], *, whole: bool) -> list[Problem]:
    """Return what is wrong beside foreign fields, whatever each of them was meant to be."""
    objects = {path.partition(".")[0] for path in foreign}
    found = [
        problem for problem in config_rules.problems(parsed.config) if problem.field.partition(".")[0] not in objects
    ]
    if whole and all("." in path for path in foreign):  # a section by a wrong name would leave names unknown
        references = config_references.problems_within(parsed.config)
        found += [problem for problem in references if problem.field in parsed.lines]
    return found
