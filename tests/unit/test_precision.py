"""Where a precision is fast, and what is said where it is not."""

import pytest
import torch

from speechbrain_attn import precision
from speechbrain_attn.hparams import load_hparams


@pytest.fixture
def processor(monkeypatch):
    """Sets what the processor can do; there is no accelerator."""
    precision.warn_if_slow.cache_clear()
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda **_: None
    )

    def set_names(*names):
        found = dict.fromkeys(names, True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)

    return set_names


@pytest.mark.parametrize(
    "name, expected",
    [
        ("avx2", "fp32"),
        ("avx512_f", "fp32"),
        ("avx512_bf16", "bf16"),
        ("amx_bf16", "bf16"),
        ("bf16", "bf16"),
    ],
)
def test_bf16_is_for_processors_that_have_it(processor, name, expected):
    processor(name)
    assert precision.fast_precision() == expected


def test_an_accelerator_counts_and_not_the_processor(processor, monkeypatch):
    processor("avx2")
    gpu = torch.device("cuda")
    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda **_: gpu
    )
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda has_it=has_it, **_: has_it
        )
        assert precision.fast_precision() == expected


def test_a_yaml_asks_and_the_command_line_decides(processor, tmp_path):
    processor("amx_bf16")
    path = tmp_path / "a.yaml"
    path.write_text(
        "precision: !apply:speechbrain_attn.precision.fast_precision\n"
    )
    assert load_hparams(path) == {"precision": "bf16"}
    assert load_hparams(path, {"precision": "fp32"}) == {"precision": "fp32"}


def test_a_slow_precision_is_said_once(processor, caplog):
    processor("avx2")
    for _ in range(2):
        for name in precision.PRECISIONS:
            precision.warn_if_slow(name, "cpu")
    assert [record.args for record in caplog.records] == [
        ("bf16", "processor"),
        ("fp16", "processor"),
    ]
    assert caplog.records[0].getMessage().endswith("Take fp32.")


def test_nothing_is_said_of_a_fast_one(processor, caplog):
    processor("avx512_bf16", "avx512_fp16")
    for name in precision.PRECISIONS:
        precision.warn_if_slow(name, "cpu")
    assert caplog.records == []
