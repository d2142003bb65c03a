"""Sentences put together from short word lists."""

_ADJECTIVES = """old quiet yellow narrow clever hungry foreign golden broken
early heavy gentle modern purple nervous famous polite wooden empty thirsty
strange cheerful winter southern little enormous careful silver rusty
brave""".split()
_PEOPLE = """gardener teacher sailor doctor painter neighbour baker farmer
engineer student grandmother musician captain carpenter stranger judge
librarian driver shepherd actor tailor visitor chemist pilot cousin
waiter""".split()
_THINGS = """basket letter bridge window kettle violin map blanket ladder
bicycle mirror hammer picture lantern engine bottle newspaper umbrella cabbage
telephone wheel pocket jacket island orchard machine""".split()
_VERBS = """carried watched borrowed painted found repaired lost described
bought followed measured opened remembered ordered delivered noticed dropped
cleaned hid returned chose exchanged""".split()
_PLACES = """behind the station|near the northern river|in the village
square|beside the lighthouse|under the stairs|at the edge of the forest|on the
ferry|across the valley|outside the theatre|along the coast road|above the
bakery|between two hills|in the third house on the left""".replace(
    "\n", " "
).split("|")
_TIMES = """before breakfast|on Thursday morning|at half past seven|every
other weekend|after the storm|in the middle of July|without a word|during the
long holiday|for the second time|as fast as possible|just after midnight|while
it was raining|in nineteen eighty four""".replace("\n", " ").split("|")
_FORMS = (
    "The {a} {p} {v} the {b} {t} {l}.",
    "{T}, the {p} {v} {n} {t}s {l}.",
    "Did the {a} {p} who {v} the {t} ever visit the {q} {l}?",
    "{L}, the {a} {p} and the {q} {v} a {b} {t}.",
    "Nobody {v} the {b} {t} {l}, but the {p} {w} it {h}.",
    "My {p} said that the {q} {v} {n} {b} {t}s {h}.",
)
_NUMBERS = "two three five seven nine eleven twelve fifteen forty".split()


def make_sentence(rng):
    """Draw one English sentence of about ten to twenty words.

    ``rng`` is a numpy.random.Generator.

    Example
    -------
    >>> import numpy as np
    >>> make_sentence(np.random.default_rng(0)).endswith((".", "?"))
    True
    """

    def draw(words):
        return words[rng.integers(len(words))]

    place, time = draw(_PLACES), draw(_TIMES)
    return draw(_FORMS).format(
        a=draw(_ADJECTIVES),
        b=draw(_ADJECTIVES),
        p=draw(_PEOPLE),
        q=draw(_PEOPLE),
        t=draw(_THINGS),
        v=draw(_VERBS),
        w=draw(_VERBS),
        n=draw(_NUMBERS),
        l=place,
        h=time,
        L=place.capitalize(),
        T=time.capitalize(),
    )
