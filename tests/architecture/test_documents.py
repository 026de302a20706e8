"""The documents say what the code does: tables of the README against the protos, the flows, the settings, the CLI."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from broker.cli.app import app
from broker.core.errors import Reason
from broker.sandbox.behaviour import Behaviour
from broker.settings import Settings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROTOS = sorted((ROOT / "proto" / "aries").rglob("*.proto"))
RPC = re.compile(r"((?:  //[^\n]*\n)+)  rpc (\w+)\(")
REASON = re.compile(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bOVERLOADED\b")


def rpcs() -> Iterator[tuple[str, str]]:
    """Yield each RPC's name and its comment."""
    for proto in PROTOS:
        for comment, name in RPC.findall(proto.read_text()):
            yield name, " ".join(line.strip().removeprefix("//").strip() for line in comment.splitlines())


def table(heading: str) -> list[list[str]]:
    """Return the rows of the README's table whose first header is `heading`."""
    lines = README.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_every_rpc_says_who_may_call_and_what_it_returns() -> None:
    """The comment is the contract's promise; every reason in it exists."""
    known = {reason.value for reason in Reason}

    for name, comment in rpcs():
        assert "Who may call: " in comment, name
        assert set() == set(REASON.findall(comment.partition("Reasons: ")[2])) - known, name


def test_the_readme_lists_every_rpc_with_its_flow_and_reasons() -> None:
    """RPC → flow → reasons, as the protos have them; the flow is there."""
    expected = {name: set(REASON.findall(comment.partition("Reasons: ")[2])) for name, comment in rpcs()}
    rows = table("RPC")

    assert expected == {row[0]: set(REASON.findall(row[2])) for row in rows}
    assert [] == [row[1] for row in rows if not (ROOT / "broker" / "flows" / f"{row[1].strip('`')}.py").is_file()]


def test_the_readme_lists_every_setting() -> None:
    """Each variable once, none that does not exist."""
    named = [name for row in table("Variable") for name in re.findall(r"BROKER_[A-Z_]+", row[0])]
    fields = set(Settings.model_fields) - {"insecure_plaintext"}

    assert sorted(f"BROKER_{field.upper()}" for field in fields) == sorted(named)


def test_the_readme_lists_every_switch_of_the_sandbox() -> None:
    """Each field of the sandbox's behaviour is named."""
    switches = {field.name for field in dataclasses.fields(Behaviour)}
    named = set(re.findall(r"`(\w+)`", "".join(" ".join(row) for row in table("Behaviour"))))

    assert set() == switches - named


def commands(group: typer.core.TyperGroup, path: str = "") -> Iterator[str]:
    """Yield every command as it is typed."""
    for name, command in group.commands.items():
        full = f"{path} {name}".strip()
        if isinstance(command, typer.core.TyperGroup):
            yield from commands(command, full)
        else:
            yield full


def test_the_readme_lists_every_command() -> None:
    """Each word that is typed stands in the overview, and each command line in it has an explanation."""
    root = typer.main.get_command(app)
    assert isinstance(root, typer.core.TyperGroup)
    overview = " ".join(" ".join(row) for row in table("Command"))

    assert [] == [full for full in commands(root) if not all(word in overview for word in full.split())]
    assert [] == [row for row in table("Command") if not row[1]]


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_somewhere(document: str) -> None:
    """Every relative link names a file of the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text())

    assert [] == [link for link in links if not (ROOT / link).exists()]


def test_security_names_every_attacker() -> None:
    """The threat table has ten rows: who, what they get, what stops them."""
    text = (ROOT / "SECURITY.md").read_text()
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith(("| **", "| Att"))]

    assert 11 == len(rows)
    assert all(cell.strip() for row in rows for cell in row)


@pytest.mark.parametrize("file", ["requirements.lock", "requirements-uv.lock"])
def test_lock_files_have_hashes_and_no_addresses(file: str) -> None:
    """Whoever installs chooses where from; what is installed is fixed."""
    text = (ROOT / file).read_text()
    pins = re.findall(r"^\S+==\S+", text, re.MULTILINE)

    assert "://" not in text
    assert pins
    assert len(pins) == len(re.findall(r"^\S+==[^\n]* \\\n    --hash=sha256:", text, re.MULTILINE))
