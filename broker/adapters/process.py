"""What the operating system is told of this process."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4


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
