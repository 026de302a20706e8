"""What import-linter cannot say about the layers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = sorted((ROOT / "broker" / "core").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
OF_TESTS = sorted((ROOT / "tests").rglob("*.py"))
# Clocks, environment, randomness, sockets, files, threads and processes.
IMPURE = frozenset(
    {
        "asyncio",
        "io",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
        "selectors",
        "shutil",
        "signal",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "time",
        "urllib.request",
        "uuid",
    }
)
CLOCKS = frozenset({"now", "today", "utcnow"})
# They look at a condition again and again; whatever else waits names what it waits for.
POLLING = {
    "support/waiting.py": {"until", "until_told"},
    "support/load.py": {"offer"},  # so many a second
    "support/postgres.py": {"_wait_until_ready"},
    "support/pgbouncer.py": {"_wait_until_ready"},
    "bench/limits.py": {"_offer"},  # until all processes have started
    "flows/world.py": {"let_pass"},
    "crash/lives.py": {"persist"},
    "crash/play.py": {"_until_dead", "_served", "_judge_revoked"},
    "crash/replicas.py": {"_at_rest"},
}


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the full name of every module imported anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("path", CORE, ids=lambda path: str(path.relative_to(ROOT)))
def test_core_is_pure(path: Path) -> None:
    """Core imports the core and the standard library alone, and of that nothing which reads the world."""
    tree = ast.parse(path.read_text())
    allowed = sys.stdlib_module_names | {"broker"}
    imported = set(imports(tree))

    assert set() == {name for name in imported if name.split(".")[0] not in allowed}
    assert set() == {name for name in imported if name in IMPURE or name.split(".")[0] in IMPURE}
    read = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in CLOCKS]
    assert [] == read


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tests_state_their_rule(path: Path) -> None:
    """Each test has a docstring."""
    tree = ast.parse(path.read_text())
    functions = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]

    assert [] == [function.name for function in functions if not ast.get_docstring(function)]


def sleepers(tree: ast.Module) -> Iterator[str]:
    """Yield the names of the outermost functions that sleep; `sleep(0)` is a turn for others, and no sleep."""
    for statement in tree.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and "sleep" in {getattr(node.func, "attr", ""), getattr(node.func, "id", "")}:
                seconds = node.args[0] if node.args else None
                if not (isinstance(seconds, ast.Constant) and seconds.value == 0):
                    yield getattr(statement, "name", "")


@pytest.mark.parametrize("path", OF_TESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_test_sleeps(path: Path) -> None:
    """None waits for time to pass: only the helpers that poll a condition sleep between two looks."""
    polling = POLLING.get(str(path.relative_to(ROOT / "tests")), set())

    assert set() == set(sleepers(ast.parse(path.read_text()))) - polling
