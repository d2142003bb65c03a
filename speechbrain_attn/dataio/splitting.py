"""Training and development parts of a corpus, the same at every call."""

import random


def split_by_utterance(utterances, dev_share, seed):
    """Draw development utterances; their speakers all stay in training.

    Arguments
    ---------
    utterances : list of Utterance
        In any order.
    dev_share : float
        Wanted part of the utterances in dev, in [0, 1]. Above 0 at least one
        is drawn, provided that a speaker has two.
    seed : int
        Equal seeds draw equal parts.

    Returns
    -------
    train, dev : list of Utterance
        Sorted.
    """
    shuffled = _shuffled(utterances, seed)
    train, others, speakers = [], [], set()
    for utterance in shuffled:
        # A classifier cannot be validated on a speaker that it never saw.
        known = utterance.speaker in speakers
        (others if known else train).append(utterance)
        speakers.add(utterance.speaker)
    num_dev = min(len(others), _num_dev(len(shuffled), dev_share))
    return sorted(train + others[num_dev:]), sorted(others[:num_dev])


def split_by_speaker(utterances, dev_share, seed):
    """Draw development speakers, none of whom is in training.

    As ``split_by_utterance``, but ``dev_share`` is a part of the speakers, of
    whom at least one stays in training.
    """
    speakers = _shuffled({item.speaker for item in utterances}, seed)
    num_dev = min(len(speakers) - 1, _num_dev(len(speakers), dev_share))
    held_back = set(speakers[: max(num_dev, 0)])
    train = [item for item in utterances if item.speaker not in held_back]
    dev = [item for item in utterances if item.speaker in held_back]
    return sorted(train), sorted(dev)


def _shuffled(items, seed):
    # Its own generator: other draws of the program must not change the parts.
    items = sorted(items)
    random.Random(seed).shuffle(items)
    return items


def _num_dev(total, dev_share):
    return max(1, round(total * dev_share)) if dev_share > 0 else 0
