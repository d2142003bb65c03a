"""Utterances of trial lists, looked up in a corpus."""

from speechbrain_attn.errors import AttnError


def listed_speakers(trials):
    """Speakers of both sides of all trials, as a set of folder names.

    Raises
    ------
    AttnError
        An utterance is not named <speaker>/<session>/<utterance>.
    """
    speakers = set()
    for name in trials.utterances:
        parts = name.split("/")
        if len(parts) < 3:
            raise AttnError(
                f"{trials.place_of(name)}: want "
                f"<speaker>/<session>/<utterance>, got '{name}', which does "
                "not tell the speaker."
            )
        speakers.add(parts[-3])
    return speakers


def find_listed(trials, utterances, folders):
    """Look up every utterance of a list.

    Arguments
    ---------
    trials : Trials
        Its names may begin with ``wav/`` or other folders.
    utterances : dict
        ``speaker/session/name`` to Utterance.
    folders : sequence of str
        Where the utterances were looked for, for the message.

    Returns
    -------
    dict
        Name in the list, without its extension, to Utterance.

    Raises
    ------
    AttnError
        Some are missing: one error, with the first of them and their number.
    """
    found = {
        name: utterances.get("/".join(name.split("/")[-3:]))
        for name in trials.utterances
    }
    missing = [name for name, utterance in found.items() if utterance is None]
    if missing:
        raise AttnError(
            f"{_place(trials, missing[0])} is not in {', '.join(folders)}; "
            f"{_share(missing, trials)} are missing. Do the list and the data "
            "folder belong together, and is the whole corpus unpacked?"
        )
    return found


def check_readable(trials, found, headers):
    """Refuse a list with an utterance that cannot be read.

    ``found`` as ``find_listed`` returns it; ``headers`` holds the paths that
    can be read, and raises AttnError with the first one it does not.
    """
    broken = [name for name, item in found.items() if item.path not in headers]
    if broken:
        raise AttnError(
            f"{_place(trials, broken[0])} cannot be read "
            f"({found[broken[0]].path}), and so {_share(broken, trials)}. "
            "Replace the files, or take their trials out of the list."
        )


def _place(trials, name):
    return f"{trials.place_of(name)}: '{name}'"


def _share(names, trials):
    return f"{len(names):,} of the list's {len(trials.utterances):,} utterances"
