"""A scoring run: from embeddings of lists to a folder of results.

The folder holds ``scores.txt``, ``results.json``, ``results.md`` and, where
they were made, ``plda.safetensors``, ``calibration.json``, ``fusion.json`` and
pictures.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import NamedTuple

from speechbrain_attn.dataio.manifest import write_together
from speechbrain_attn.dataio.scores import read_scores, write_scores
from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.inputs import (
    Cohort,
    ListedTrials,
    check_speakers,
    same_trials,
    trial_embeddings,
)
from speechbrain_attn.scoring.normalisation import speaker_means
from speechbrain_attn.scoring.options import TRAIN
from speechbrain_attn.scoring.pictures import (
    MISSING,
    NAMES,
    can_draw,
    draw_pictures,
    write_pictures,
)
from speechbrain_attn.scoring.plda import PLDABackend
from speechbrain_attn.scoring.results import (
    LEVEL,
    System,
    calibrated,
    measure,
    plain,
)
from speechbrain_attn.scoring.results_page import render_results
from speechbrain_attn.scoring.store import STORE_FILE, EmbeddingStore
from speechbrain_attn.scoring.systems import Backend, fuse, score_trials

# Written by every run or by some. A back end is no result: it can be loaded.
RESULTS = (
    "scores.txt",
    "results.json",
    "results.md",
    "calibration.json",
    "fusion.json",
    *(f"{name}.{kind}" for name in NAMES for kind in ("png", "svg")),
)


class Lists(NamedTuple):
    """Trial lists with the stores that hold their utterances.

    ``test`` and ``development`` are ListedTrials, the latter None without a
    development list; ``stores`` and ``development_stores`` lists of
    EmbeddingStore; ``cohort`` a Cohort or None.
    """

    test: ListedTrials
    stores: list
    development: ListedTrials | None = None
    development_stores: list | None = None
    cohort: Cohort | None = None


def read_comparison(options, listed, folder):
    """Scores of the other system, [trials], or None without one.

    Arguments
    ---------
    options : ScoringOptions
    listed : ListedTrials
        The test list.
    folder : str or Path
        Where the results will be written.

    Raises
    ------
    AttnError
        There are no such scores, they are of other trials, or the run would
        write over them.
    """
    path = options.compare
    if path is None:
        return None
    if Path(path).resolve() == (Path(folder) / "scores.txt").resolve():
        raise AttnError(
            f"compare: {path} is where this run writes its own scores; choose "
            "another output folder, or copy the file elsewhere."
        )
    if (Path(path) / STORE_FILE).exists():
        other = trial_embeddings(listed, [EmbeddingStore.open(path)])
        return cosine_scores(other.embeddings, other.enrol, other.test)
    trials, scores = read_scores(path, options.enrol_map)
    same_trials(listed.trials, trials, path)
    return scores


def run_scoring(options, lists, compared, folder, made_by):
    """Score, measure and write.

    Arguments
    ---------
    options : ScoringOptions
    lists : Lists
    compared : numpy.ndarray or None
        What ``read_comparison`` returned.
    folder : str or Path
        Made if need be; earlier results there are replaced once all else is
        done, so that a refused run leaves it as it was.
    made_by : str
        What made the embeddings, for people.

    Returns
    -------
    dict
        What ``results.json`` holds. Rates and costs are fractions; costs are
        normalised.

    Raises
    ------
    AttnError
        As the scorings, or a file cannot be written.
    """
    data = trial_embeddings(lists.test, lists.stores)
    notes = check_speakers(lists.test, lists.development, lists.cohort)
    backend, conditions, problems = _backend(options, lists.cohort)
    notes += problems
    scores = score_trials(data, backend, options.scoring)
    systems = {name: System(made) for name, made in scores.of.items()}
    saved = {}  # name of a file to what saves itself there
    if options.plda == TRAIN:
        saved["plda.safetensors"] = backend.plda
    if lists.development is not None:
        systems, saved["fusion.json"], said, problems = _developed(
            options, lists, data, scores, backend
        )
        conditions.update(said)
        notes += problems
    measured = measure(
        systems,
        data,
        options.replicates,
        None if compared is None else (options.scoring, compared),
    )
    figures = {}
    if can_draw():
        figures = draw_pictures(
            systems, options.scoring, data, options.replicates
        )
    else:
        notes.append(MISSING)
    results = {
        **_described(options, lists),
        **plain(measured),
        "conditions": {
            "embeddings": str(made_by),
            "embedding_size": data.embeddings.shape[1],
            "settings": lists.stores[0].settings,
            **conditions,
        },
        "notes": notes,
        "pictures": {name: f"{name}.svg" for name in figures},
    }
    own = systems[options.scoring]
    if own.calibration is not None:
        results["calibration"] = dataclasses.asdict(own.calibration)
        notes += own.calibration.notes
        saved["calibration.json"] = own.calibration
    folder = Path(folder)
    texts = {
        folder / "results.json": [json.dumps(results, indent=2) + "\n"],
        folder / "results.md": [render_results(results)],
    }
    _clear(folder)
    for name, one in saved.items():
        one.save(folder / name)
    write_pictures(folder, figures)
    write_scores(folder / "scores.txt", lists.test.trials, own.scores)
    write_together(texts)
    return results


def _described(options, lists):
    """What was scored and how it was asked for."""
    trials = lists.test.trials
    described = {
        "trial_list": trials.path,
        "num_trials": len(trials),
        "trials": trials.counts()._asdict(),
        "summary": _summary(trials),
        "scoring": options.scoring,
        "level": LEVEL,
        "replicates": options.replicates,
    }
    if options.compare is not None:
        # For people: without the folders that lead there.
        parts = Path(options.compare).parts
        described["compared_with"] = "/".join(parts[-2:])
    return described


def _clear(folder):
    """Remove earlier results, none of which may pass for new ones."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in RESULTS:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise AttnError(
            f"{error.filename}: cannot be written ({error.strerror}); choose "
            "another output folder."
        ) from None


def _summary(trials):
    """What a list holds, without the folder that it lies in."""
    name = os.path.basename(trials.path)
    return dataclasses.replace(trials, path=name).summary()


def _backend(options, cohort):
    """The Backend, what is said of it, and notes."""
    said, notes, vectors = {}, [], None
    if cohort is not None:
        vectors, of = cohort.embeddings, "utterances"
        if not options.cohort_utterances:
            vectors = speaker_means(cohort.embeddings, cohort.speakers)
            of = "speaker means"
        said["cohort"] = {
            "name": cohort.name,
            "utterances": len(cohort.embeddings),
            "speakers": len(set(cohort.speakers.tolist())),
            "of": of,
            "size": len(vectors),
            "top": options.cohort_top,
        }
        if len(vectors) <= options.cohort_top:
            notes.append(
                f"No adaptive s-norm: it wants more {of} in the cohort than "
                f"cohort_top ({options.cohort_top:,}), and there are "
                f"{len(vectors):,}."
            )
    plda = None
    if options.plda is not None:
        plda, said["plda"] = _plda(options, cohort)
    return Backend(vectors, options.cohort_top, plda), said, notes


def _plda(options, cohort):
    """The PLDA back end, trained or loaded; what is said of it."""
    if options.plda == TRAIN:
        plda = PLDABackend.train(
            cohort.embeddings, cohort.speakers, options.lda_size
        )
        training = {
            "cohort": cohort.name,
            "utterances": len(cohort.embeddings),
            "speakers": len(set(cohort.speakers.tolist())),
        }
    else:
        plda = PLDABackend.load(options.plda)
        training = {"cohort": None, "utterances": None, "speakers": None}
    return plda, {
        "file": os.path.basename(options.plda),
        "lda_size": plda.lda.shape[1],
        **training,
    }


def _developed(options, lists, data, scores, backend):
    """Systems calibrated on the development list, the Fusion; what is said."""
    listed = lists.development
    development = trial_embeddings(listed, lists.development_stores)
    made = score_trials(development, backend, options.scoring)
    name = os.path.basename(listed.trials.path)
    fusion = fuse(data, scores, development, made, name)
    systems, notes = calibrated(
        scores.of, made.of, development, name, options.scoring
    )
    said = {
        "development": {"list": name, "summary": _summary(listed.trials)},
        "fusion": {"weights": fusion.weights},
    }
    return systems, fusion, said, notes
