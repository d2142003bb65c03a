"""Trained runs as model folders, and models from elsewhere."""


def load(source, trust=False, device=None):
    """Load a model safely; see ``speechbrain_attn.hub.loading.load``."""
    # Here, since recipes that only use checkpoints need none of it.
    from speechbrain_attn.hub.loading import load as load_model

    return load_model(source, trust=trust, device=device)
