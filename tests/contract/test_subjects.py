"""The tables of the contract leave nothing out."""

import inspect

from subjects import (
    ENCODER_ROWS,
    INEXACT_TRUNK_ROWS,
    LOBE_ROWS,
    POOLING_ROWS,
    SUBJECTS,
    ids,
)
from torch import nn

from speechbrain_attn.lobes.models import (
    double_mha,
    ge2e_lstm,
    pooled_encoder,
    self_attentive_tdnn,
    serialized_mha,
)
from speechbrain_attn.nnet import encoders
from speechbrain_attn.nnet.pooling import POOLINGS


def test_every_registered_pooling_has_a_row():
    assert set(POOLING_ROWS) == set(POOLINGS)
    assert all(POOLING_ROWS.values())


def test_every_public_pooling_is_registered():
    from speechbrain_attn.nnet import pooling

    public = {
        value
        for name, value in vars(pooling).items()
        if name in pooling.__all__ and inspect.isclass(value)
    }
    assert public == set(POOLINGS.values())


def _networks_of(*modules):
    """Public network classes that are defined in these modules."""
    return {
        value
        for module in modules
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, nn.Module)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def test_every_encoder_has_a_row():
    built = {type(build()) for build in ENCODER_ROWS.values()}
    assert built == _networks_of(encoders)


def test_every_lobe_has_a_row():
    built = {type(build()) for build in LOBE_ROWS.values()}
    trunks = {type(build()) for build in INEXACT_TRUNK_ROWS.values()}
    assert built | trunks | {pooled_encoder.PooledEncoder} == _networks_of(
        double_mha,
        ge2e_lstm,
        pooled_encoder,
        self_attentive_tdnn,
        serialized_mha,
    )


def test_subjects_have_different_names():
    assert len(set(ids(SUBJECTS))) == len(SUBJECTS)
