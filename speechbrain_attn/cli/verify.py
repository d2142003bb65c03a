"""``speechbrain-attn verify``: is it the same speaker?"""

from typing import Annotated

import typer

from speechbrain_attn.cli.common import (
    AnywayOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    TrustOption,
    exit_if_refused,
    load_model,
    print_json,
)
from speechbrain_attn.cli.recordings import (
    audio_paths,
    embed_files,
    seconds_of,
)
from speechbrain_attn.errors import AttnError

EnrolmentArgument = Annotated[
    str,
    typer.Argument(
        metavar="A",
        help="A recording of the speaker; - for one on stdin.",
        show_default=False,
    ),
]
TestArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="B",
        help="Recordings to compare with it: files, folders or patterns; - "
        "for names on stdin.",
        show_default=False,
    ),
]
PriorOption = Annotated[
    float,
    typer.Option(
        metavar="P",
        help="How probable one speaker is before anyone listens, between 0 "
        "and 1.",
    ),
]
ThresholdOption = Annotated[
    str | None,
    typer.Option(
        metavar="COSINE|NAME",
        help="Decide by a cosine instead of the posterior: a number, or a "
        "threshold of the model's calibration (eer, fa_0.01, fa_0.001, "
        "min_dcf_0.01, min_dcf_0.05).",
        show_default=False,
    ),
]


def verify(
    a: EnrolmentArgument,
    b: TestArgument,
    model: ModelOption = None,
    prior: PriorOption = 0.5,
    threshold: ThresholdOption = None,
    json: JsonOption = False,
    trust: TrustOption = False,
    device: DeviceOption = None,
    anyway: AnywayOption = False,
):
    """Tell whether recordings are of the same speaker.

    Prints the cosine of the embeddings and, where the model folder has a
    calibration, the log-likelihood ratio, the probability of one speaker and
    a decision, with what they mean.
    """
    from speechbrain_attn.inference.verification import Judge

    first, *others = audio_paths([a])
    if others:
        raise AttnError(
            f"{a}: {1 + len(others)} recordings; give one, then those to "
            "compare with it."
        )
    tests = audio_paths(b)
    speaker_model = load_model(model, trust, device)
    judge = Judge(speaker_model.own_calibration(), prior, threshold)
    embeddings, refused = embed_files(
        [first, *(path for path in tests if path != first)],
        speaker_model,
        anyway,
        quiet=json,
    )
    if first in refused:
        raise AttnError(f"{first}: was refused, so nothing is compared.")
    tests = [path for path in tests if path in embeddings]
    verdicts = _verdicts(judge, embeddings, first, tests, speaker_model)
    if json:
        print_json(_as_json(judge, first, verdicts, refused))
    else:
        for path, verdict in verdicts.items():
            print("\n".join(_lines(judge, first, path, verdict)) + "\n")
    exit_if_refused(refused, verdicts)


def _verdicts(judge, embeddings, first, tests, model):
    """Path -> verdict on it and the first recording."""
    import numpy as np

    from speechbrain_attn.scoring.cosine import cosine_scores

    verdicts = {}
    for path in tests:
        durations = None
        if judge.takes_durations:
            durations = [seconds_of(one, model) for one in (first, path)]
        sides = np.stack([embeddings[first], embeddings[path]])
        cosine = cosine_scores(sides, np.array([0]), np.array([1]))[0]
        verdicts[path] = judge.verdict(float(cosine), durations)
    return verdicts


def _lines(judge, first, other, verdict):
    """What is printed of a pair, lines."""
    from speechbrain_attn.inference.verification import decision_word

    yield f"{first} and {other}: {decision_word(verdict.same)}"
    yield f"  cosine                {verdict.cosine:7.4f}"
    if verdict.llr is not None:
        yield f"  log-likelihood ratio  {verdict.llr:+7.2f}"
        yield (
            f"  posterior             {verdict.posterior:7.4f}"
            f"  (prior {judge.prior:g})"
        )
    yield f"  {judge.explain(verdict)}"


def _as_json(judge, first, verdicts, refused):
    pairs = [
        {
            "enrolment": first,
            "test": path,
            **verdict._asdict(),
            "meaning": judge.explain(verdict),
        }
        for path, verdict in verdicts.items()
    ]
    return {
        "prior": judge.prior,
        "threshold": judge.threshold,
        "pairs": pairs,
        "refused": refused,
    }
