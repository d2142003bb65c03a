"""A scoring run: from embeddings of lists to a folder of results."""

import dataclasses
import os
from pathlib import Path
from typing import NamedTuple

from speechbrain_attn.scoring.calibrated import (
    Scored,
    decide,
    fit_calibrations,
    use_calibration,
)
from speechbrain_attn.scoring.cohort import back_end, check_speakers
from speechbrain_attn.scoring.inputs import model_of, trial_embeddings
from speechbrain_attn.scoring.options import TRAIN
from speechbrain_attn.scoring.pictures import MISSING, can_draw, draw_pictures
from speechbrain_attn.scoring.results import LEVEL, measure, plain
from speechbrain_attn.scoring.results_folder import replace_results
from speechbrain_attn.scoring.systems import fuse, score_trials


class Beside(NamedTuple):
    """What the steps of a run leave beside its figures; each adds to it.

    ``saved`` is the name of a file to what saves itself there, ``conditions``
    and ``notes`` are those of the results.
    """

    saved: dict
    conditions: dict
    notes: list


def run_scoring(options, inputs, folder, made_by):
    """Score, measure and write.

    Arguments
    ---------
    options : ScoringOptions
    inputs : Inputs
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
    beside = Beside({}, {"embeddings": str(made_by)}, [])
    data, systems = _systems(options, inputs, beside)
    own, compared = systems[options.scoring], inputs.compared
    if compared is not None:
        compared = options.scoring, compared
    results = {
        **_described(options, inputs.test.trials),
        **plain(measure(systems, data, options.replicates, compared)),
    }
    figures = {}
    if can_draw():
        figures = draw_pictures(
            systems, options.scoring, data, options.replicates
        )
    else:
        beside.notes.append(MISSING)
    decisions = None
    if own.calibration is not None:
        decisions = decide(own, options.p_target)
        results["calibration"] = dataclasses.asdict(own.calibration)
        results["decisions"] = decisions.counts(data.labels)
        beside.notes.extend(own.calibration.notes)
        beside.saved["calibration.json"] = own.calibration
    results["conditions"], results["notes"] = beside.conditions, beside.notes
    results["pictures"] = {name: f"{name}.svg" for name in figures}
    trials = inputs.test.trials
    replace_results(
        folder, results, beside.saved, figures, trials, own, decisions
    )
    return results


def _systems(options, inputs, beside):
    """The test list's TrialEmbeddings, and name of a scoring to System."""
    model = model_of(inputs.all_stores)
    beside.notes.extend(
        check_speakers(inputs.test, inputs.development, inputs.cohort)
    )
    backend, said, notes = back_end(
        options, inputs.cohort, inputs.stores, model
    )
    if options.plda == TRAIN:
        beside.saved["plda.safetensors"] = backend.plda
    takes_durations = "duration_term" if options.duration_term else None
    if inputs.calibration and inputs.calibration.duration_term:
        takes_durations = options.calibration

    def scored(listed, stores):
        data = trial_embeddings(listed, stores, takes_durations)
        return Scored(data, score_trials(data, backend, options.scoring))

    test = scored(inputs.test, inputs.stores)
    beside.notes.extend(notes)
    beside.conditions.update(
        embedding_size=test.data.embeddings.shape[1],
        settings=inputs.stores[0].settings,
        **said,
    )
    if inputs.development is not None:
        development = scored(inputs.development, inputs.development_stores)
        trials = inputs.development.trials
        name = os.path.basename(trials.path)
        fusion = fuse(*test, *development, name)
        beside.saved["fusion.json"] = fusion
        beside.notes.extend(fusion.notes)
        beside.conditions.update(
            development={"list": name, "summary": _summary(trials)},
            fusion={"weights": fusion.weights},
        )
        systems, notes = fit_calibrations(
            options, test, development, name, model, backend
        )
    else:
        if inputs.calibration is not None:
            file = "/".join(Path(options.calibration).parts[-2:])
            beside.conditions["calibration"] = file
        systems, notes = use_calibration(
            options, test, inputs.calibration, model, backend
        )
    beside.notes.extend(notes)
    return test.data, systems


def _described(options, trials):
    """What was scored and how it was asked for."""
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


def _summary(trials):
    """What a list holds, without the folder that it lies in."""
    name = os.path.basename(trials.path)
    return dataclasses.replace(trials, path=name).summary()
