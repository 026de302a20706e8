"""`broker.yaml`: text → configuration, with the line of every field.

Secrets are never in the file. A client's `secret_file` or `secret_env` says where to read its first one; both are
handed back beside the configuration and are no part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.adapters.config_schema import FILE, FileProblem, SecretReference, Walk
from broker.adapters.presets import vocabulary
from broker.adapters.strict_yaml import MAX_BYTES, compose
from broker.core import config_references, config_rules
from broker.core.config import ClientConfig, ConfigFile, Problem, merged, sections
from broker.core.models import Kind, Provider

_INNER: Final = re.compile(r"[.\[]")
"""Where the path of something inside begins."""


NEEDED: Final = "{why}; it is needed if the client has no secret yet"


class ConfigFileError(Exception):
    """The file cannot be read as a configuration; `problems` holds every reason, in order of lines.

    Attributes:
        parsed: what could be read of it all the same, if anything.
    """

    def __init__(self, problems: Sequence[FileProblem], parsed: ParsedConfig | None = None) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.parsed = parsed

    def beside(self, unread: Callable[[Mapping[str, SecretReference]], Mapping[str, str]]) -> ConfigFileError:
        """Return the error with the secrets that cannot be read, as `unread` tells by their fields."""
        if self.parsed is None:
            return self
        more = self.parsed.unread_problems(unread(self.parsed.secrets))
        return ConfigFileError(sorted([*self.problems, *more], key=lambda problem: problem.line), self.parsed)


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
        written = {secret_field(reference): reference.field for reference in self.secrets.values()}
        placed = {written.get(path, path): message for path, message in fields.items()}
        found = [FileProblem(self.line_of(path), path, message) for path, message in placed.items()]
        return sorted(found, key=lambda problem: (problem.line, problem.field))

    def unread_problems(self, unread: Mapping[str, str]) -> list[FileProblem]:
        """Return secrets that cannot be read, by their fields, where nobody could say whether they are needed."""
        return self.problems({path: NEEDED.format(why=why) for path, why in unread.items()})


def secret_field(reference: SecretReference) -> str:
    """Return how the broker names a client's secret, wherever it is read."""
    return f"{reference.field.rpartition('.')[0]}.secret"


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
    return parse_config(decode(data))


def decode(data: bytes) -> str:
    """Return the text of a file.

    Raises:
        ConfigFileError: it is none.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigFileError([FileProblem(line, "", "is not text in UTF-8")]) from None


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
    if values is None:
        raise ConfigFileError(sorted(walk.found, key=lambda problem: problem.line))
    pairs: tuple[tuple[ClientConfig, SecretReference | None], ...] = values.pop("clients", ())
    config = ConfigFile(clients=tuple(client for client, _ in pairs), **values)
    secrets = {client.name or ref.field: ref for client, ref in pairs if ref is not None}
    parsed = ParsedConfig(config, secrets, walk.lines)
    if walk.found:
        more = parsed.problems(merged(_beside(config, walk, whole=whole)))
        raise ConfigFileError(sorted([*walk.found, *more], key=lambda problem: problem.line), parsed)
    return parsed


def known_problems(parsed: ParsedConfig, *, whole: bool = True) -> list[FileProblem]:
    """Return what every broker refuses to be sent, whatever is stored there; beside it, what does not fit together.

    Names that lead nowhere in the file alone are no such problem: what they mean may be stored.

    Args:
        parsed: the configuration.
        whole: it is not one object that goes with others elsewhere.
    """
    found = [*config_rules.problems(parsed.config), *config_rules.remote_problems(parsed.config)]
    if found and whole:
        found += config_references.problems_within(parsed.config, set(Kind), _vocabularies(parsed.config, Walk()))
    return parsed.problems(merged(found))


def _beside(config: ConfigFile, walk: Walk, *, whole: bool) -> list[Problem]:
    """Return what is wrong beside what could not be read, whatever that was meant to be.

    A field nobody knows may have been meant to be any field its object lacks.
    """
    unclear = {path.partition(".")[0] for path in walk.foreign}
    found = config_rules.problems(config)
    if whole:
        found += config_references.problems_within(config, _whole_kinds(config, walk), _vocabularies(config, walk))
    return [
        problem
        for problem in found
        if walk.broken.isdisjoint(_around(problem.field))
        and (problem.field.partition(".")[0] not in unclear or problem.field in walk.lines)
    ]


def _whole_kinds(config: ConfigFile, walk: Walk) -> set[Kind]:
    """Return the kinds of which all names were read."""
    if any("." not in path for path in walk.foreign):  # a section by a wrong name may hold anything
        return set()
    return {
        kind
        for kind, (section, items) in sections(config).items()
        if walk.broken.isdisjoint(
            {section, *(f"{section}[{index}]{part}" for index in range(len(items)) for part in ("", ".name"))}
        )
    }


def _vocabularies(config: ConfigFile, walk: Walk) -> Mapping[str, Provider]:
    """Return the providers whose scopes were read, by name."""
    unread = {path for wrong in walk.broken for path in _around(wrong)}
    unclear = {path for wrong in walk.foreign for path in _around(wrong)}
    found = {}
    for index, item in enumerate(config.providers):
        path = f"providers[{index}]"
        said = {f"{path}.{field}" for field in ("name", "preset", "scopes", "wire_scopes")}
        known = path not in walk.broken and path not in unclear and unread.isdisjoint(said)
        provider = vocabulary(item) if known else None
        if provider is not None:
            found[item.name] = provider
    return found


def _around(path: str) -> Iterator[str]:
    """Return a path and every path it lies in."""
    yield path
    for end in _INNER.finditer(path):
        yield path[: end.start()]
