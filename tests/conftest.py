"""What holds in every test: no network, one thread, one seed."""

import os
import random

# Before anything imports huggingface_hub or torch.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from speechbrain.utils.importutils import LazyModule  # noqa: E402

# hypothesis asks every imported module for its file. A lazy module of the host
# would then import what it stands for, and fail where that isn't installed.
LazyModule.__file__ = None

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Each test draws the same numbers, whichever ran before it."""
    random.seed(1234)
    np.random.seed(1234)
    torch.manual_seed(1234)
