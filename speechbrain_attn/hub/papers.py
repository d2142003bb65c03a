"""The papers that a model's card asks to cite."""

from typing import NamedTuple


class Paper(NamedTuple):
    """What is needed to cite one; the title None where it is not known."""

    key: str
    authors: str
    year: int
    arxiv: str
    title: str | None = None


SPEECHBRAIN = Paper(
    "speechbrain",
    "Ravanelli, Mirco and Parcollet, Titouan and others",
    2021,
    "2106.04624",
    "{SpeechBrain}: A General-Purpose Speech Toolkit",
)
# By the module that a network's class comes from.
PAPERS = {
    "self_attentive_tdnn": Paper(
        "park2020selfattentive",
        "Park, H. and Park, J. and Lee, S. W.",
        2020,
        "2008.06146",
    ),
    "double_mha": Paper(
        "india2021double",
        "India, Miquel and Safari, Pooyan and Hernando, Javier",
        2020,
        "2007.13199",
        "Double Multi-Head Attention for Speaker Verification",
    ),
    "serialized_mha": Paper(
        "zhu2021serialized",
        "Zhu, Hongning and Lee, Kong Aik and Li, Haizhou",
        2021,
        "2107.06493",
        "Serialized Multi-Layer Multi-Head Attention for Neural Speaker "
        "Embedding",
    ),
    "ge2e_lstm": Paper(
        "wan2018ge2e",
        "Wan, Li and Wang, Quan and Papir, Alan and Lopez Moreno, Ignacio",
        2017,
        "1710.10467",
        "Generalized End-to-End Loss for Speaker Verification",
    ),
    "ECAPA_TDNN": Paper(
        "desplanques2020ecapa",
        "Desplanques, Brecht and Thienpondt, Jenthe and Demuynck, Kris",
        2020,
        "2005.07143",
        "{ECAPA-TDNN}: Emphasized Channel Attention, Propagation and "
        "Aggregation in {TDNN} Based Speaker Verification",
    ),
}


def citation(system):
    """BibTeX of a system's paper, if it is known, and of SpeechBrain's.

    ``system`` is the name of the module that the network's class comes from.
    """
    papers = [PAPERS.get(system), SPEECHBRAIN]
    return "\n\n".join(_entry(paper) for paper in papers if paper is not None)


def _entry(paper):
    fields = {
        "author": paper.authors,
        "title": paper.title,
        "year": paper.year,
        "eprint": paper.arxiv,
        "archivePrefix": "arXiv",
    }
    lines = [f"  {k} = {{{v}}}," for k, v in fields.items() if v is not None]
    body = "\n".join(lines)
    return f"@misc{{{paper.key},\n{body}\n}}"
