"""Poolings by name, so that tests, docs and export meet every one of them."""

from speechbrain_attn.errors import AttnError

POOLINGS = {}


def register_pooling(name):
    """Class decorator that files a pooling under ``name``.

    Raises AttnError when the name is taken by another class.
    """

    def register(cls):
        if name in POOLINGS:
            raise AttnError(
                f"pooling {name!r} is registered by {POOLINGS[name].__name__}; "
                f"choose another name for {cls.__name__}."
            )
        POOLINGS[name] = cls
        return cls

    return register
