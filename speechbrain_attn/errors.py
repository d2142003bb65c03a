"""The errors that this package raises: what, where, and how to mend it."""

import functools
import os
import sys


class AttnError(ValueError):
    """Any problem that the user can mend; the message says how."""


class TooShortError(AttnError, RuntimeError):
    """Audio too short to be embedded.

    Also a RuntimeError, since pyannote and diart catch that.
    """


class AudioError(AttnError):
    """An audio file that is missing, unreadable or not usable."""


def exit_on_error(main):
    """Make a script's main function end without a traceback on an AttnError.

    The message goes to stderr and the exit code is 2; any other exception is
    a fault of ours and keeps its traceback.
    """

    @functools.wraps(main)
    def run(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except AttnError as error:
            print(f"{_program()}: {error}", file=sys.stderr)
            sys.exit(2)

    return run


def _program():
    """What the user started: a script, or a module by ``python -m``."""
    spec = sys.modules["__main__"].__spec__
    if spec is not None and spec.name.startswith("speechbrain_attn."):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return os.path.basename(sys.argv[0])
