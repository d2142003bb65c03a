"""The errors that this package raises: what, where, and how to mend it."""


class AttnError(ValueError):
    """Any problem that the user can mend; the message says how."""


class TooShortError(AttnError, RuntimeError):
    """Audio too short to be embedded.

    Also a RuntimeError, since pyannote and diart catch that.
    """


class AudioError(AttnError):
    """An audio file that is missing, unreadable or not usable."""
