"""YAML files that cannot be built: whose fault it is, and what to change."""

import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hparams import load_hparams


def write(tmp_path, text):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    return path


def test_an_error_of_ours_reaches_the_user_as_it_is(tmp_path):
    name = "speechbrain_attn.nnet.pooling.MultiHeadAttentionPooling"
    path = write(
        tmp_path, f"pool: !new:{name}\n    input_size: 7\n    num_heads: 2"
    )
    with pytest.raises(AttnError, match="^num_heads=2 does not divide"):
        load_hparams(path)


@pytest.mark.parametrize("error", [ValueError, KeyError])
def test_a_fault_of_what_is_built_keeps_its_kind(tmp_path, error):
    """Not made a sentence about the file, which is not to blame."""
    call = {
        ValueError: "builtins.int [x]",
        KeyError: "operator.getitem [{}, 1]",
    }
    path = write(tmp_path, f"a: !apply:{call[error]}")
    with pytest.raises(error) as raised:
        load_hparams(path)
    assert not isinstance(raised.value, AttnError)


def test_no_yaml_at_all(tmp_path):
    with pytest.raises(AttnError, match="a.yaml: "):
        load_hparams(write(tmp_path, "a: [1, 2"))
