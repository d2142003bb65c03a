"""Rows on disk come back as they went there."""

import errno
import gc
import os

import numpy as np
import pytest
import torch

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.scratch import Scratch


def test_scratch_keeps_rows():
    scratch = Scratch(3)
    rows = torch.arange(15.0).reshape(5, 3)
    scratch.append(rows[:2])
    scratch.append(rows[2:])
    scratch.write(1, -rows[1:2])
    assert len(scratch) == 5
    expected = rows.clone()
    expected[1] *= -1
    torch.testing.assert_close(scratch.read(0, 5), expected)
    torch.testing.assert_close(scratch.read(1, 2), -rows[1:2])


def test_a_full_disk_says_where_and_how_to_mend(monkeypatch):
    def full(rows):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    scratch = Scratch(3)
    monkeypatch.setattr(np, "ascontiguousarray", full)
    with pytest.raises(AttnError, match="No space left .* Set TMPDIR"):
        scratch.append(torch.zeros(1, 3))


def test_the_file_is_closed_with_the_object():
    scratch = Scratch(3)
    file = scratch._file
    assert not file.closed
    del scratch
    gc.collect()
    assert file.closed
