"""The allocator keeps what was freed, where it is glibc's."""

import subprocess
import sys

import pytest

from speechbrain_attn.training import allocator

# Prints the page faults of ten buffers of 64 MiB, one after the other.
FAULTS = """\
import ctypes, resource, sys
from speechbrain_attn.training.allocator import keep_freed_memory

if "keep" in sys.argv:
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p

def use():
    buffer = libc.malloc(ctypes.c_size_t(2**26))
    ctypes.memset(buffer, 1, 2**26)
    libc.free(ctypes.c_void_p(buffer))

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(*words):
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return int(done.stdout)


@pytest.mark.skipif(
    sys.platform != "linux" or allocator.platform.libc_ver()[0] != "glibc",
    reason="the allocator is not glibc's",
)
def test_memory_is_used_again():
    assert count_faults("keep") < 0.1 * count_faults()


@pytest.mark.parametrize(
    "system, libc", [("darwin", ""), ("win32", ""), ("linux", "musl")]
)
def test_elsewhere_nothing_is_done(monkeypatch, system, libc):
    monkeypatch.setattr(allocator.sys, "platform", system)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)  # would be called
    assert allocator.keep_freed_memory() is False
