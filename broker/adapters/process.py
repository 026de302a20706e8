"""What the operating system is told of this process."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4

MOST_OPEN_FILES: Final = 65_536
"""More than the calls one process can answer need; each has its price in kernel memory only while it is open."""


class ProcessError(Exception):
    """The operating system refused what was asked of it."""


def forbid_core_dumps() -> None:
    """Keep this process's memory to itself: no core file, and no other process of the same user may read it.

    Linux: PR_SET_DUMPABLE off (prctl(2)), and RLIMIT_CORE 0 as a second lock. Child processes that execute another
    program start with the default again.

    Raises:
        ProcessError: the kernel refused; secrets would be readable in a core file.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        msg = f"core dumps cannot be forbidden: {os.strerror(ctypes.get_errno())}"
        raise ProcessError(msg)


def raise_open_files(most: int = MOST_OPEN_FILES) -> None:
    """Let this process open as many files as it may, `most` at most: each connection is one.

    The usual soft limit of 1024 is for programs that use select(2); nothing here does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
