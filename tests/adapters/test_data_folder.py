"""The folder of what a process keeps on its own disk."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from broker.adapters.data_folder import DataFolder, DataFolderRefusedError, file_system_of, is_network


async def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """While one process has the folder, another is told so, with the folder and the way to have more."""
    folder = DataFolder(tmp_path)
    program = (
        "import sys; from pathlib import Path; from broker.adapters.data_folder import *\n"
        "try: DataFolder(Path(sys.argv[1]))\n"
        "except DataFolderRefusedError as error: print(error)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(tmp_path), stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    folder.close()
    assert (True, True) == (str(tmp_path).encode() in output, b"PostgreSQL" in output)


def test_a_closed_folder_is_free(tmp_path: Path) -> None:
    """Closing it lets the next process in; closing it twice does nothing."""
    for _ in range(2):
        folder = DataFolder(tmp_path)
        folder.close()
        folder.close()


def test_nobody_else_may_read_the_folder(tmp_path: Path) -> None:
    """It is 0700 even if it was open before."""
    path = tmp_path / "data"
    path.mkdir(mode=0o755)
    DataFolder(path).close()
    assert 0o700 == path.stat().st_mode & 0o777


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """A link could make the broker lock or create a file elsewhere: it is named, and nothing is made."""
    elsewhere = tmp_path / "elsewhere"
    path = tmp_path / "data"
    path.mkdir()
    (path / "broker.lock").symlink_to(elsewhere)
    with pytest.raises(DataFolderRefusedError, match=r"broker\.lock is a symbolic link"):
        DataFolder(path)
    assert not elsewhere.exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file in its place, or a folder where the lock is to be: the path is named."""
    (tmp_path / "file").write_text("")
    (tmp_path / "data" / "broker.lock").mkdir(parents=True)
    for name in ("file", "data"):
        with pytest.raises(DataFolderRefusedError, match=str(tmp_path / name)):
            DataFolder(tmp_path / name)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/", "ext4"), ("/data", "nfs4"), ("/data/local", "xfs"), ("/database", "ext4"), ("/with space/x", "fuse.sshfs")],
)
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path: str, expected: str) -> None:
    """The longest mount point above a path says its type, whole names only."""
    mounts = (
        "/dev/a / ext4 rw 0 0\nserver:/x /data nfs4 rw 0 0\n/dev/b /data/local xfs rw 0 0\n"
        "u@h: /with\\040space fuse.sshfs rw 0 0\n"
    )
    assert expected == file_system_of(Path(path), mounts)


@pytest.mark.parametrize(("kind", "expected"), [("nfs", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False)])
def test_network_file_systems_are_known(kind: str, expected: bool) -> None:
    """File systems whose locks other hosts do not see are refused, local ones are not."""
    assert expected == is_network(kind)
