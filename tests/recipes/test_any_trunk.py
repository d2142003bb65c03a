"""Any trunk under any pooling, as the two race files choose them."""

import pytest
import torch
from test_hparams import HPARAMS

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hparams import load_hparams

TRUNKS = ["tdnn", "shallow", "vgg", "xvector", "ecapa", "resnet"]
POOLINGS = ["own", "statistics", "attentive_statistics", "self_attentive"]
POOLINGS += ["double", "serialized"]
SMALL = {"channels": 16, "vgg_channels": 2, "resnet_channels": 4}
SMALL |= {"embedding_size": 8, "project_size": 16, "num_heads": 2}


def network(name="race", **overrides):
    needed = {"data_folder": "data", "verification_file": "trials.txt"}
    overrides = {**needed, **SMALL, **overrides}
    return load_hparams(HPARAMS / f"{name}.yaml", overrides)["embedding_model"]


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_pair_makes_embeddings_and_learns(trunk, pooling):
    model = network(trunk=trunk, pooling=pooling)
    embeddings = model(torch.randn(3, 50, 80))
    assert embeddings.reshape(3, -1).shape == (3, 8)
    embeddings.square().sum().backward()
    assert not [p for p in model.parameters() if p.grad is None]


@pytest.mark.parametrize(
    "key, value, trunk, pooling",
    [
        ("n_mels", 40, "tdnn", "own"),
        ("embedding_size", 4, "tdnn", "serialized"),
        ("channels", 8, "shallow", "own"),
        ("last_channels", 8, "xvector", "own"),
        ("vgg_channels", 4, "vgg", "own"),
        ("resnet_channels", 8, "resnet", "own"),
        ("num_layers", 3, "tdnn", "serialized"),
        ("num_heads", 4, "tdnn", "double"),
        ("num_heads", 4, "vgg", "own"),
        ("attention_scale", "none", "tdnn", "double"),
        ("attention_scale", "none", "vgg", "own"),
        ("project_size", 32, "tdnn", "double"),
        ("num_hops", 3, "shallow", "own"),
        ("num_hops", 3, "tdnn", "self_attentive"),
        ("head_drop", 0.5, "vgg", "own"),
        ("head_drop", 0.5, "tdnn", "double"),
        ("dropout", 0.5, "tdnn", "serialized"),
    ],
)
@pytest.mark.parametrize("name", ["race", "race_ge2e"])
def test_every_size_reaches_the_network(name, key, value, trunk, pooling):
    chosen = {"trunk": trunk, "pooling": pooling}
    assert described(network(name, **chosen)) == described(network(**chosen))
    changed = network(name, **chosen, **{key: value})
    assert described(changed) != described(network(name, **chosen))


def described(model):
    """Shapes of the parameters, and the numbers that no parameter shows."""
    numbers = [
        {k: v for k, v in vars(module).items() if isinstance(v, int | float)}
        for module in model.modules()
    ]
    return numbers, [p.shape for p in model.parameters()]


def test_an_unknown_trunk_or_pooling_is_refused():
    with pytest.raises(AttnError, match=r"trunk=vgg16: want one of tdnn, "):
        network(trunk="vgg16")
    with pytest.raises(AttnError, match="pooling=mean: .* one of statis"):
        network(pooling="mean")
