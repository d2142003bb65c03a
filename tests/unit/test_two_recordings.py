"""What a cosine, a ratio, a posterior and a decision say."""

import math

import numpy as np
import pytest

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.verification import Judge, decision_word
from speechbrain_attn.scoring.calibration import Calibration


@pytest.fixture(scope="module")
def calibration():
    draw = np.random.default_rng(0)
    scores = np.r_[draw.normal(0.6, 0.15, 300), draw.normal(0.1, 0.15, 700)]
    return Calibration.fit(scores, np.arange(1000) < 300)


def test_without_calibration_there_is_a_cosine_only():
    judge = Judge(None)
    verdict = judge.verdict(0.7)
    assert verdict == (0.7, None, None, None)
    assert "score --development LIST" in judge.explain(verdict)
    assert decision_word(verdict.same) == "no decision"


def test_a_number_decides_without_calibration():
    judge = Judge(None, threshold="0.4")
    assert judge.verdict(0.4).same and not judge.verdict(0.39).same
    said = judge.explain(judge.verdict(0.5))
    assert said == (
        "The threshold decides: same speaker from a cosine of 0.4000 on."
    )


def test_the_posterior_is_bayes_rule(calibration):
    for prior in (0.01, 0.5, 0.9):
        verdict = Judge(calibration, prior).verdict(0.4)
        odds = prior / (1 - prior) * math.exp(verdict.llr)
        assert verdict.posterior == pytest.approx(odds / (1 + odds))
        assert verdict.same == (verdict.posterior >= 0.5)


def test_the_sentences_say_ratio_and_posterior(calibration):
    judge = Judge(calibration, prior=0.2)
    for cosine, order in ((0.4, "one person as"), (0.2, "two people as")):
        verdict = judge.verdict(cosine)
        said = judge.explain(verdict)
        ratio = math.exp(abs(verdict.llr))
        shown = f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}"
        assert f"are {shown} times as probable if they are of {order}" in said
        assert "Where 0.2 of such pairs are of one person, this" in said
        assert f"probability of {verdict.posterior:.4g}." in said
        assert "too few" not in said


def test_more_than_the_trials_can_tell_is_said(calibration):
    judge = Judge(calibration)
    said = judge.explain(judge.verdict(1.0))
    assert "more than a million times" in said
    assert "has seen 700 trials of two people, too few" in said
    assert "take it as 700 times or more" in said
    assert "300 trials of one person" in judge.explain(judge.verdict(-0.5))


def test_a_threshold_of_the_calibration_decides(calibration):
    threshold = calibration.thresholds["fa_0.01"].score
    judge = Judge(calibration, threshold="fa_0.01")
    assert judge.verdict(threshold).same
    assert not judge.verdict(threshold - 0.01).same
    assert f"cosine of {threshold:.4f} on" in judge.explain(judge.verdict(0.5))


def test_durations_count_where_they_were_fitted():
    draw = np.random.default_rng(0)
    scores = np.r_[draw.normal(0.6, 0.2, 300), draw.normal(0.1, 0.2, 700)]
    durations = draw.uniform(2, 20, (1000, 2))
    labels = np.arange(1000) < 300
    judge = Judge(Calibration.fit(scores, labels, durations=durations))
    assert judge.takes_durations
    short, long = (judge.verdict(0.4, [s, s]).llr for s in (2, 20))
    assert short != long
    assert not Judge(None).takes_durations


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prior": 0}, "prior: want a probability above 0 .* got 0"),
        ({"prior": 1.0}, "prior: want a probability .* below 1, got 1.0"),
        ({"prior": math.nan}, "prior: .* got nan"),
        ({"threshold": "1.1"}, "threshold=1.1: want a cosine between -1 and 1"),
        ({"threshold": "nan"}, "threshold=nan: want a cosine"),
        ({"threshold": "eers"}, "threshold=eers: want .* or one of eer, fa_"),
        ({"threshold": "eer"}, "threshold=eer: This model has no calibration"),
    ],
)
def test_what_makes_no_sense_is_refused(options, says):
    with pytest.raises(AttnError, match=says):
        Judge(None, **options)
