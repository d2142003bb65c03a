"""A network of a training YAML, chosen by the names of trunk and pooling."""

from ruamel.yaml import YAML

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.adapt import OWN, repooled_network


def chosen_network(networks, trunk, poolings, pooling, embedding_size):
    """How the chosen network is built, for a YAML.

    To be called with ``!applyref:``, which puts what it returns into the YAML
    as if it were written there: the model folder holds the network itself and
    none of those that were not chosen.

    Arguments
    ---------
    networks : dict
        Networks by name, as ``!name:`` nodes, so that none is built yet.
    trunk : str
        Which of ``networks``.
    poolings : dict
        Arguments of ``RepooledEncoder`` beside ``network`` by name.
    pooling : str
        "own" for the network as it is, or which of ``poolings`` its trunk
        gets.
    embedding_size : int
        Of the embeddings of all networks, and under another pooling.

    Returns
    -------
    dict
        YAML node of the network.

    Raises
    ------
    AttnError
        There is no such trunk or pooling.
    """
    if trunk not in networks:
        raise AttnError(f"trunk={trunk}: want one of {', '.join(networks)}.")
    named = networks[trunk]
    network = YAML().load(f"{named.tag.value.replace('!name:', '!new:')} {{}}")
    network.update(named)
    network.fa.set_block_style()
    if pooling == OWN:
        return network
    parts = {"embedding_model": network, "embedding_size": embedding_size}
    return repooled_network(parts, pooling, poolings)["embedding_model"]
