"""The LDA and PLDA back end against SpeechBrain's scores and densities."""

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy import linalg
from scipy.stats import multivariate_normal
from speechbrain.processing.PLDA_LDA import Ndx, fast_PLDA_scoring

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring import plda
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.metrics import eer
from speechbrain_attn.scoring.plda import PLDABackend

SIZE, LDA_SIZE = 17, 7


def drawn(num_speakers, seed, num_utterances=11):
    """Embeddings whose loudest directions tell least of the speaker."""
    mixing = np.random.default_rng(5).normal(size=(SIZE, SIZE))
    generator = np.random.default_rng(seed)
    voices = generator.normal(size=(num_speakers, SIZE))
    voices *= np.linspace(1.0, 0.02, SIZE)
    speakers = np.repeat(np.arange(num_speakers), num_utterances)
    noise = generator.normal(size=(len(speakers), SIZE))
    noise *= np.linspace(0.3, 2.0, SIZE)
    rows = (voices[speakers] + noise + 3.0) @ mixing
    return rows.astype(np.float32), speakers


@pytest.fixture(scope="module")
def trained():
    embeddings, speakers = drawn(61, seed=1)
    # An unequal number of utterances for each speaker.
    kept = np.random.default_rng(2).random(len(speakers)) < 0.8
    return PLDABackend.train(embeddings[kept], speakers[kept], LDA_SIZE)


@pytest.fixture(scope="module")
def scored(trained):
    """Test embeddings, trials and their scores; not in order of rows."""
    embeddings, speakers = drawn(23, seed=3)
    generator = np.random.default_rng(4)
    enrol, test = generator.integers(0, len(embeddings), (2, 3001))
    return embeddings, speakers, enrol, test


def host_scores(backend, embeddings):
    """SpeechBrain's matrix of scores, put back into the order of the rows."""
    names = np.array([f"e{row}" for row in range(len(embeddings))], dtype="O")
    stats = plda._stat_object(backend.project(embeddings), names)
    stats.segset = names
    scores = fast_PLDA_scoring(
        stats,
        stats,
        Ndx(models=names, testsegs=names),
        backend.plda_mean,
        backend.F,
        backend.Sigma,
    )
    # They come sorted by name: e0, e1, e10, ...
    row = {name: number for number, name in enumerate(scores.modelset)}
    order = [row[name] for name in names]
    return scores.scoremat[np.ix_(order, order)]


def test_scores_are_those_of_speechbrain(trained, scored):
    embeddings, _, enrol, test = scored
    ours = trained.scores(embeddings, enrol, test)
    theirs = host_scores(trained, embeddings)[enrol, test]
    assert np.ptp(theirs) > 10
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_a_score_is_the_ratio_of_densities(trained, scored):
    embeddings, _, enrol, test = scored
    rows = trained.project(embeddings) - trained.plda_mean
    between = trained.F @ trained.F.T
    total = between + trained.Sigma
    alone = multivariate_normal(cov=total)
    pair = multivariate_normal(
        cov=np.block([[total, between], [between, total]])
    )
    both = np.hstack([rows[enrol], rows[test]])[:50]
    expected = pair.logpdf(both)
    expected -= alone.logpdf(rows[enrol[:50]]) + alone.logpdf(rows[test[:50]])
    ours = trained.scores(embeddings, enrol[:50], test[:50])
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_factors_fewer_than_coordinates(scored):
    embeddings, _, enrol, test = scored
    generator = np.random.default_rng(6)
    spread = generator.normal(size=(LDA_SIZE, LDA_SIZE))
    backend = PLDABackend(
        mean=np.ones(SIZE),
        lda=generator.normal(size=(SIZE, LDA_SIZE)),
        plda_mean=generator.normal(size=LDA_SIZE),
        F=generator.normal(size=(LDA_SIZE, 3)),
        Sigma=spread @ spread.T + np.eye(LDA_SIZE),
    )
    ours = backend.scores(embeddings, enrol, test)
    theirs = host_scores(backend, embeddings)[enrol, test]
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_blocks_and_order_of_trials_have_no_say(trained, scored):
    embeddings, _, enrol, test = scored
    whole = trained.scores(embeddings, enrol, test)
    parts = trained.scores(embeddings, enrol[::-1], test[::-1], block=7)
    np.testing.assert_allclose(parts[::-1], whole, rtol=0, atol=1e-6)
    swapped = trained.scores(embeddings, test, enrol)
    np.testing.assert_allclose(swapped, whole, rtol=0, atol=1e-6)


def test_it_finds_the_speakers_that_cosine_does_not(trained, scored):
    embeddings, speakers, enrol, test = scored
    labels = speakers[enrol] == speakers[test]
    with_plda = eer(trained.scores(embeddings, enrol, test), labels)
    with_cosine = eer(cosine_scores(embeddings, enrol, test), labels)
    assert with_plda < 0.6 * with_cosine


def test_lda_solves_the_eigenproblem_that_it_stands_for():
    embeddings, speakers = drawn(61, seed=1)
    backend = PLDABackend.train(embeddings, speakers, LDA_SIZE)
    groups = embeddings.astype("f8").reshape(61, 11, SIZE)
    means = groups.mean(axis=1)
    within = np.mean([np.cov(group.T, bias=True) for group in groups], axis=0)
    between = np.cov(means.T, bias=True)
    _, vectors = linalg.eigh(between, within)
    angles = linalg.subspace_angles(vectors[:, -LDA_SIZE:], backend.lda)
    assert angles.max() < 1e-6
    # And not the one of SpeechBrain alone, which takes inv(Sw) Sb for
    # symmetric.
    product = linalg.inv(within) @ between
    _, vectors = linalg.eigh(product)
    angles = linalg.subspace_angles(vectors[:, -LDA_SIZE:], backend.lda)
    assert angles.max() > 0.5


def test_names_of_speakers_and_order_of_utterances_have_no_say():
    embeddings, speakers = drawn(31, seed=7)
    names = [f"spk{number}" for number in speakers]
    order = np.random.default_rng(8).permutation(len(names))
    plain = PLDABackend.train(embeddings, speakers, LDA_SIZE)
    shuffled = PLDABackend.train(
        embeddings[order], np.array(names)[order], LDA_SIZE
    )
    trials = np.arange(30), np.arange(30)[::-1]
    np.testing.assert_allclose(
        shuffled.scores(embeddings, *trials),
        plain.scores(embeddings, *trials),
        rtol=0,
        atol=1e-4,
    )


def test_loaded_it_is_the_same(trained, scored, tmp_path):
    embeddings, _, enrol, test = scored
    path = tmp_path / "plda.safetensors"
    trained.save(path)
    loaded = PLDABackend.load(path)
    assert loaded.trained_on is None
    for name in PLDABackend.ARRAYS:
        np.testing.assert_array_equal(
            getattr(loaded, name), getattr(trained, name)
        )
    np.testing.assert_array_equal(
        loaded.scores(embeddings, enrol, test),
        trained.scores(embeddings, enrol, test),
    )
    loaded.trained_on, loaded.model_sha256 = "voices of a cohort", "c4" * 32
    loaded.save(path)
    again = PLDABackend.load(path)
    assert again.trained_on == "voices of a cohort"
    assert again.model_sha256 == "c4" * 32
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_files_of_others_are_refused(tmp_path):
    with pytest.raises(AttnError, match=r"no\.such.*cannot be read"):
        PLDABackend.load(tmp_path / "no.such")
    (tmp_path / "text").write_text("mean: 3")
    with pytest.raises(AttnError, match="text: cannot be read"):
        PLDABackend.load(tmp_path / "text")
    save_file({"mean": np.zeros(3)}, tmp_path / "other")
    with pytest.raises(AttnError, match="other: is not a PLDA back end"):
        PLDABackend.load(tmp_path / "other")


@pytest.mark.parametrize("sigma", [np.full((7, 7), np.nan), -np.eye(7)])
def test_a_damaged_file_is_refused(trained, tmp_path, sigma):
    path = tmp_path / "plda.safetensors"
    trained.save(path)
    with safe_open(path, framework="numpy") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}
        arrays["Sigma"] = sigma
        save_file(arrays, path, file.metadata())
    with pytest.raises(AttnError, match="plda.safetensors: cannot be read"):
        PLDABackend.load(path)


def test_a_folder_that_is_not_there_is_named(trained, tmp_path):
    path = tmp_path / "none" / "plda.safetensors"
    with pytest.raises(AttnError, match=r"plda\.safetensors: cannot be writ"):
        trained.save(path)


GOOD, WHO = drawn(31, seed=7)
NAN = GOOD.copy()
NAN[5, 3] = np.nan
FLAT = GOOD.copy()
FLAT[:, 3] = 1.0

# fmt: off
BAD = [  # id, embeddings, speakers, lda_size, what the message must say
    ("nan", NAN, WHO, 7, r"row 5 holds NaN"),
    ("one_axis", GOOD[0], WHO, 7, r"want \[utterances, .*got \(17,\)"),
    ("names", GOOD, WHO[1:], 7, r"one for each of 341 embeddings.*\(340,\)"),
    ("wide", GOOD, WHO, 18, r"got 18, but 31 speak.* allow 1 to 17"),
    ("few_speakers", GOOD[:55], WHO[:55], 5, r"5 speakers .* allow 1 to 4"),
    ("one_speaker", GOOD, 0 * WHO, 1, r"1 speakers .* allow 1 to 0"),
    ("few_utterances", GOOD[::10], WHO[::10], 7, r"at least 48 utt.*31 sp"),
    ("constant", FLAT, WHO, 7, r"do not vary within speakers"),
]
# fmt: on


@pytest.mark.parametrize(
    "embeddings, speakers, lda_size, says",
    [pytest.param(*row[1:], id=row[0]) for row in BAD],
)
def test_bad_training_input_is_refused(embeddings, speakers, lda_size, says):
    with pytest.raises(AttnError, match=says):
        PLDABackend.train(embeddings, speakers, lda_size)


def test_bad_trials_are_refused(trained, scored):
    embeddings = scored[0]
    with pytest.raises(AttnError, match="test: trial 0 names row -1 of 253"):
        trained.scores(embeddings, [0], [-1])
    with pytest.raises(AttnError, match="have size 16, but the back end has"):
        trained.scores(embeddings[:, :16], [0], [1])
    with pytest.raises(AttnError, match="row 4 has length nan after LDA"):
        trained.scores(NAN[1:], [0], [1])
