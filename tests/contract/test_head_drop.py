"""Head drop of double attention: never all heads, and never in eval."""

import torch

from speechbrain_attn.lobes.models.double_mha import DoubleMHA
from speechbrain_attn.nnet.pooling import DoubleMultiHeadAttentionPooling


@torch.no_grad()
def test_one_head_always_stays():
    """The authors' program drops all heads now and then, which is NaN."""
    pool = DoubleMultiHeadAttentionPooling(15, num_heads=3, head_drop=0.99999)
    x = torch.randn(2003, 2, 15)
    pool.train()
    attention = pool.head_attention(x)
    kept = attention > 0
    assert (kept.sum(dim=1) == 1).all()
    assert (attention[kept] == 1).all()
    # Each head is the one that stays about as often as the others.
    assert (kept.float().mean(dim=0) - 1 / 3).abs().max() < 0.05
    assert pool(x).isfinite().all()


@torch.no_grad()
def test_heads_are_dropped_as_often_as_asked():
    pool = DoubleMultiHeadAttentionPooling(55, num_heads=11, head_drop=0.3)
    pool.train()
    attention = pool.head_attention(torch.randn(2003, 2, 55))
    assert abs((attention == 0).float().mean() - 0.3) < 0.01
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2003))


@torch.no_grad()
def test_no_head_is_dropped_in_eval_or_without_head_drop():
    pool = DoubleMultiHeadAttentionPooling(15, num_heads=3, head_drop=0.9)
    plain = DoubleMultiHeadAttentionPooling(15, num_heads=3)
    plain.load_state_dict(pool.state_dict())
    x = torch.randn(11, 7, 15)
    assert not torch.equal(pool.train()(x), plain(x))
    assert torch.equal(pool.eval()(x), plain.train()(x))


def test_lobe_hands_head_drop_on_and_its_gradient_is_finite():
    network = DoubleMHA(
        7, channels=(5, 6), num_heads=3, embedding_size=11, head_drop=0.99
    )
    assert network.pooling.head_drop == 0.99
    network.train()(torch.randn(11, 23, 7)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
