"""The folder of what a process keeps on its own disk: private, local, and that process's alone for life."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

LOCK_NAME: Final = "broker.lock"

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
_NETWORK_FUSE: Final = frozenset(
    {"fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"}
)


class DataFolderRefusedError(Exception):
    """The data folder cannot be used as it is; the text tells an operator why and what to do."""


class DataFolder:
    """A data folder, private, and one process's alone until closed or until the process ends, however it ends.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there, make it private, and lock it.

        Raises:
            DataFolderRefusedError: that cannot be done, another process has it, or its locks cannot be trusted.
        """
        self.path = path
        _make_private(path)
        self._descriptor = _lock(path)

    def close(self) -> None:
        """Let the next process have it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _make_private(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        msg = f"the data folder {path} cannot be made private to this user: {error.strerror}"
        raise DataFolderRefusedError(msg) from error
    kind = file_system_of(path.resolve(), os.fsdecode(Path("/proc/self/mounts").read_bytes()))
    if is_network(kind):
        msg = (
            f"the data folder {path} lies on a network file system ({kind}), whose locks cannot be trusted: "
            "use a local disk, or a volume that is this process's alone"
        )
        raise DataFolderRefusedError(msg)


def _lock(path: Path) -> int:
    file = path / LOCK_NAME
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            msg = f"the lock file {file} is a symbolic link, which is not followed: remove it"
        else:
            msg = f"the lock file {file} cannot be opened: {error.strerror}"
        raise DataFolderRefusedError(msg) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        msg = (
            f"another broker process is using the data folder {path}: each needs one of its own (BROKER_DATA_DIR), and "
            "more than one process needs PostgreSQL (BROKER_DATABASE_URL)"
        )
        raise DataFolderRefusedError(msg) from error
    return descriptor


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system `path` lies on, by the text of `/proc/self/mounts`; the last mount wins."""
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= len(best) and path.is_relative_to(point):
            best, kind = point, type_
    return kind


def is_network(kind: str) -> bool:
    """Tell whether a file system type is one whose locks other hosts may not see."""
    return kind in _NETWORK_FILE_SYSTEMS or kind in _NETWORK_FUSE
