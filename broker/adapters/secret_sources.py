"""Where first secrets are read.

An operator's own machine may be read wherever the operator can read. The server reads for whoever can write its
configuration file, so only below one folder and only variables of one prefix.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from broker.adapters.config_schema import SecretReference
from broker.core.secret import MAX_SECRET, NO_TEXT, Secret, text_problem
from broker.ports import SecretSource, SecretUnreadableError

VARIABLE_PREFIX: Final = "BROKER_SECRET_"
"""What the names of variables begin with that the server reads secrets from."""


def resolve_for_operator(references: Mapping[str, SecretReference]) -> tuple[dict[str, Secret], dict[str, str]]:
    """Read the first secrets of a file's clients on the operator's machine.

    Returns:
        The secrets by client name, and what is wrong by the field of each one that cannot be read.
    """
    found: dict[str, Secret] = {}
    wrong: dict[str, str] = {}
    for name, reference in references.items():
        try:
            found[name] = _OperatorSource(reference).read()
        except SecretUnreadableError as error:
            wrong[reference.field] = str(error)
    return found, wrong


def sources_on_server(
    references: Mapping[str, SecretReference], secrets_dir: Path | None
) -> dict[str, Secret | SecretSource]:
    """Return where the server reads the first secrets of a file's clients; nothing is read yet."""
    return {name: _ServerSource(reference, secrets_dir) for name, reference in references.items()}


def unread_on_server(references: Mapping[str, SecretReference], secrets_dir: Path | None) -> dict[str, str]:
    """Return what is wrong, by the field of each first secret that the server cannot read."""
    wrong: dict[str, str] = {}
    for reference in references.values():
        try:
            _ServerSource(reference, secrets_dir).read()
        except SecretUnreadableError as error:
            wrong[reference.field] = str(error)
    return wrong


@dataclass(frozen=True, slots=True)
class _OperatorSource:
    reference: SecretReference

    def read(self) -> Secret:
        if self.reference.file is not None:
            return _read(_real(Path(self.reference.file)))
        return _variable(self.reference.variable or "")


@dataclass(frozen=True, slots=True)
class _ServerSource:
    reference: SecretReference
    folder: Path | None

    def read(self) -> Secret:
        if self.reference.file is None:
            variable = self.reference.variable or ""
            if not variable.startswith(VARIABLE_PREFIX):
                raise SecretUnreadableError(f"a variable read by the server begins with {VARIABLE_PREFIX}")
            return _variable(variable)
        if self.folder is None:
            raise SecretUnreadableError("the server reads files below BROKER_SECRETS_DIR, which is not set")
        return _read(_below(self.folder, self.reference.file))


def _below(folder: Path, file: str) -> Path:
    """Return the file's real path; links are followed as long as they stay below the folder, as Kubernetes has them.

    Raises:
        SecretUnreadableError: it lies elsewhere, whether it is there or not.
    """
    try:
        root = folder.resolve(strict=True)
        path = (root / file).resolve()
    except (OSError, RuntimeError, ValueError):
        raise SecretUnreadableError("the file cannot be found below BROKER_SECRETS_DIR") from None
    if root not in path.parents:
        raise SecretUnreadableError("the file does not lie below BROKER_SECRETS_DIR")
    return path


def _real(path: Path) -> Path:
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a home folder of nobody, a NUL
        raise SecretUnreadableError("the file's path cannot be followed") from None


def _variable(name: str) -> Secret:
    if not os.environ.get(name):
        raise SecretUnreadableError(f"the variable {name} is not set")
    return _secret(os.environ[name])


def _read(path: Path) -> Secret:
    """Read a plain file by its real path.

    Raises:
        SecretUnreadableError: it is none, too long, empty or no text.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretUnreadableError(f"the file cannot be opened: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SecretUnreadableError("it is no plain file")
        data = file.read(MAX_SECRET + 1)
    if len(data) > MAX_SECRET:
        raise SecretUnreadableError(f"it is longer than {MAX_SECRET} bytes: name a file that holds the secret alone")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SecretUnreadableError(NO_TEXT) from None
    return _secret(text)


def _secret(text: str) -> Secret:
    """Return the secret without the line break that editors put behind it."""
    if problem := text_problem(text):
        raise SecretUnreadableError(problem)
    return Secret(text.rstrip("\r\n"))
