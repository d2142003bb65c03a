"""The C library's memory allocator, told to keep what training needs again."""

import ctypes
import platform
import sys

# From malloc.h of glibc.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory():
    """Let a training on CPU use its memory again in place of new pages.

    A tensor of more than 32 MiB is a mapping of its own to glibc, and smaller
    ones at the end of the heap go back to the system as soon as they are
    freed. Each step then gets its activations as fresh pages, which the
    kernel zeroes one by one at the first touch: 15 to 20 % of a step on CPU.
    Kept, they are there for the next step. The process stays as large as it
    was at its largest, which the next step would make it again anyway.

    Elsewhere than on Linux with glibc nothing is done.

    Returns
    -------
    bool
        Whether the allocator took both settings.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    set_both = [
        mallopt(option, value)
        for option, value in (
            (_M_MMAP_MAX, 0),
            (_M_TRIM_THRESHOLD, 2**31 - 1),
        )
    ]
    return all(set_both)
