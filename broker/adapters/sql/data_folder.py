"""The folder an SQLite store lives in: private, on a local disk, and one process's alone for life."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from broker.adapters.sql.errors import StoreRefusedError

DATABASE_NAME: Final = "broker.db"
LOCK_NAME: Final = "broker.lock"

_NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "smb3", "smbfs"}
)
_NETWORK_FUSE: Final = frozenset(
    {"fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"}
)


class FolderLock:
    """An exclusive lock on a data folder, held until closed or until the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            StoreRefusedError: another process has it, or the lock file is a link or cannot be opened.
        """
        path = folder / LOCK_NAME
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno == errno.ELOOP:
                msg = f"the lock file {path} is a symbolic link, which is not followed: remove it"
            else:
                msg = f"the lock file {path} cannot be opened: {error.strerror}"
            raise StoreRefusedError(msg) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            msg = (
                f"another broker process is using the data folder {folder}: SQLite serves one process; "
                "for more workers or replicas set BROKER_DATABASE_URL to a PostgreSQL database"
            )
            raise StoreRefusedError(msg) from error

    def close(self) -> None:
        """Release the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def prepare_folder(folder: Path) -> None:
    """Make the folder and the database file readable by their owner alone.

    The database file is created here, before SQLite opens it: closing a descriptor later would drop SQLite's locks.

    Raises:
        StoreRefusedError: the folder cannot be made private, or lies on a network file system.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        msg = f"the data folder {folder} cannot be made private to this user: {error.strerror}"
        raise StoreRefusedError(msg) from error
    kind = file_system_of(folder.resolve(), Path("/proc/self/mounts").read_text(encoding="utf-8"))
    if is_network(kind):
        msg = (
            f"the data folder {folder} lies on a network file system ({kind}), whose locks SQLite cannot trust: "
            "use a local disk, or set BROKER_DATABASE_URL to a PostgreSQL database"
        )
        raise StoreRefusedError(msg)


def create_database_file(folder: Path) -> Path:
    """Return the database file's path; it is there and private. Call it under the lock, before SQLite opens it."""
    path = folder / DATABASE_NAME
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    path.chmod(0o600)
    return path


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
