"""Self-attentive TDNN: presets, hops and the penalty on them."""

import copy

import pytest
import torch

from speechbrain_attn.errors import AttnError
from speechbrain_attn.lobes.models.pooled_encoder import PooledEncoder
from speechbrain_attn.lobes.models.self_attentive_tdnn import SelfAttentiveTDNN
from speechbrain_attn.nnet.encoders import TDNNEncoder
from speechbrain_attn.nnet.pooling import StatisticsPooling


def small(num_hops):
    return SelfAttentiveTDNN(
        7, "shallow", (13, 11), (5, 3), (1, 2), 5, num_hops, embedding_size=3
    )


def test_shallow_is_the_default_and_under_half_of_the_lstm():
    """By the sums of the table that the sizes come from."""
    layers = [102_912, 786_944, 786_944, 262_656]
    batch_norms = 4 * 1024
    # The scorer's last bias, which the table has, would never learn.
    pooling, embedding = 65_793 - 1, 262_400
    network = SelfAttentiveTDNN()
    found = sum(one.numel() for one in network.parameters())
    assert found == sum(layers) + batch_norms + pooling + embedding
    assert found < 4_663_296 / 2
    assert network.embedding_size == 256
    assert str(network) == str(SelfAttentiveTDNN(preset="shallow"))


def test_xvector_preset():
    network = SelfAttentiveTDNN(26, preset="xvector", num_hops=5)
    convs = network.encoder.convs
    assert [conv.out_channels for conv in convs] == [512] * 4 + [1500]
    assert [conv.kernel_size[0] for conv in convs] == [5, 3, 3, 1, 1]
    assert [conv.dilation[0] for conv in convs] == [1, 2, 3, 1, 1]
    assert network.pooling.output_size == 5 * 3000
    assert network.embedding_size == 512
    narrow = SelfAttentiveTDNN(
        26, "xvector", channels=(16, 16, 16, 16, 48), embedding_size=8
    )
    assert narrow(torch.rand(2, 30, 26)).shape == (2, 1, 8)


def test_penalty_reaches_the_gradients_and_leaves_nothing_behind():
    network, x = small(num_hops=3), torch.rand(2, 30, 7)
    embeddings, penalty = network(x, with_penalty=True)
    assert torch.equal(embeddings, network(x))
    attention = network.attention(x)
    assert penalty.item() == pytest.approx(
        network.pooling.penalty(attention).item()
    )
    penalty.backward()
    scorer = network.pooling.scorer[2].weight
    assert scorer.grad.abs().max() > 0
    copy.deepcopy(network)  # would fail with a graph kept in the network


def test_penalty_of_a_pooling_without_one_is_refused():
    network = PooledEncoder(
        TDNNEncoder(7, (8,), (3,), (1,)), StatisticsPooling(8), 3
    )
    with pytest.raises(
        AttnError, match="StatisticsPooling has no penalty.*penalty_factor"
    ):
        network(torch.rand(2, 30, 7), with_penalty=True)


def test_an_unknown_preset_is_refused():
    with pytest.raises(
        AttnError, match=r"preset='deep'; want one of \['shallow', 'xvector'\]"
    ):
        SelfAttentiveTDNN(preset="deep")
