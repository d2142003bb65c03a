"""LDA and PLDA: scores as log-likelihood ratios of two Gaussian hypotheses.

The back end of the serialized attention paper (Zhu et al., Interspeech 2021,
section 4.1): subtract the mean, LDA to 128, unit length, PLDA. It is trained
with SpeechBrain's ``LDA`` and ``PLDA`` and scored here, for a list of trials.
"""

from pathlib import Path

import numpy as np
from numpy.linalg import LinAlgError
from scipy import linalg

from speechbrain_attn.errors import AttnError
from speechbrain_attn.scoring.normalisation import unique_speakers
from speechbrain_attn.scoring.rows import (
    NO_DIRECTION,
    blocks,
    checked_embeddings,
    pair_products,
    same_size,
    trial_rows,
    without_direction,
)
from speechbrain_attn.scoring.store import write_file

KIND = "speechbrain_attn PLDA back end, version 1"


class PLDABackend:
    """Mean, LDA and a PLDA model x = plda_mean + F h + noise.

    Arguments
    ---------
    mean : numpy.ndarray
        [embedding_size], subtracted first.
    lda : numpy.ndarray
        [embedding_size, lda_size]; what it gives is scaled to length one.
    plda_mean : numpy.ndarray
        [lda_size].
    F : numpy.ndarray
        [lda_size, rank]; F F' is the covariance between speakers.
    Sigma : numpy.ndarray
        [lda_size, lda_size], covariance of the noise, within speakers.
    trained_on : str, optional
        What it was trained on, kept with it; see ``Backend.made_with``.
    model_sha256 : str, optional
        Hash of the network whose embeddings it is for, kept with it.

    Example
    -------
    >>> backend = PLDABackend(
    ...     np.zeros(2), np.eye(2), np.zeros(2), np.eye(2), np.eye(2)
    ... )
    >>> backend.scores(np.array([[1, 0], [3, 0], [0, 1]]), [0, 0], [1, 2])
    array([0.45434874, 0.12101541], dtype=float32)
    """

    ARRAYS = ("mean", "lda", "plda_mean", "F", "Sigma")
    SAID = ("trained_on", "model_sha256")  # where they are known

    def __init__(
        self,
        mean,
        lda,
        plda_mean,
        F,
        Sigma,
        trained_on=None,
        model_sha256=None,
    ):
        self.mean, self.lda, self.plda_mean = mean, lda, plda_mean
        self.F, self.Sigma = F, Sigma
        self.trained_on = trained_on
        self.model_sha256 = model_sha256
        # In a basis where Sigma is the identity and F F' is diagonal, the
        # log-likelihood ratio is a sum over coordinates.
        between, basis = linalg.eigh(F @ F.T, Sigma)
        # F may have a lower rank; the coordinates left tell nothing.
        kept = between > 1e-10 * between.max()
        b, self._basis = between[kept], basis[:, kept]
        # With t = 1 + b a coordinate's total variance, the ratio of the
        # joint density to the product of two is, for coordinates x and y,
        # log(t) - log(1 + 2 b) / 2 + cross x y + own (x^2 + y^2) / 2.
        self._constant = np.sum(np.log1p(b) - 0.5 * np.log1p(2 * b))
        self._cross = b / (1 + 2 * b)
        self._own = 1 / (1 + b) - (1 + b) / (1 + 2 * b)

    @classmethod
    def train(
        cls,
        embeddings,
        speakers,
        lda_size=128,
        num_iterations=10,
        trained_on=None,
        model_sha256=None,
    ):
        """Train on embeddings of several utterances a speaker.

        PLDA has as many factors as coordinates, as in the paper's program.

        Arguments
        ---------
        embeddings : numpy.ndarray
            [utterances, embedding_size].
        speakers : list or numpy.ndarray
            [utterances], a name or number each.
        lda_size : int
            Size after LDA; 128 in the paper.
        num_iterations : int
            Of expectation and maximisation.
        trained_on, model_sha256 : str, optional
            As those of the class.

        Returns
        -------
        PLDABackend

        Raises
        ------
        AttnError
            An embedding is not finite, or there are too few speakers or
            utterances for ``lda_size`` or the embeddings' size.
        """
        from speechbrain.processing.PLDA_LDA import LDA, PLDA

        embeddings = checked_embeddings(embeddings).astype(np.float64)
        _, speakers, counts = unique_speakers(speakers, len(embeddings))
        _check_training(embeddings, counts, lda_size)
        mean = embeddings.mean(axis=0)
        # SpeechBrain's LDA takes the eigenvectors of inv(Sw) Sb as if that
        # matrix were symmetric, which holds only where Sw, the covariance
        # within speakers, is a multiple of the identity: so make it that.
        whiten = _whitening(embeddings - mean, speakers, counts)
        lda = LDA()
        lda.do_lda(
            _stat_object((embeddings - mean) @ whiten, speakers), lda_size
        )
        matrix = whiten @ lda.transform_mat
        plda = PLDA(rank_f=lda_size, nb_iter=num_iterations)
        plda.plda(_stat_object(_unit((embeddings - mean) @ matrix), speakers))
        return cls(
            mean,
            matrix,
            plda.mean,
            plda.F,
            plda.Sigma,
            trained_on,
            model_sha256,
        )

    def project(self, embeddings):
        """Centre, LDA, length one: [rows, lda_size] float64.

        Raises AttnError for embeddings of another size, and for one that is
        not finite or that LDA maps to zero.
        """
        embeddings = checked_embeddings(embeddings)
        same_size(embeddings, len(self.mean), "embeddings", "the back end")
        projected = np.empty((len(embeddings), self.lda.shape[1]))
        for part in blocks(len(embeddings)):
            rows = (embeddings[part] - self.mean) @ self.lda
            projected[part] = _unit(rows, first=part.start)
        return projected

    def scores(self, embeddings, enrol, test, block=1024):
        """Log-likelihood ratio of each trial, natural logarithm.

        A row that is the mean of several embeddings counts as one utterance.

        Arguments
        ---------
        embeddings : numpy.ndarray
            [rows, embedding_size].
        enrol, test : numpy.ndarray
            [trials] integers, rows of ``embeddings``.
        block : int
            Trials at a time.

        Returns
        -------
        numpy.ndarray
            [trials] float32, in the order of the trials.

        Raises
        ------
        AttnError
            Shapes do not fit, an index lies outside, or an embedding cannot
            be projected.
        """
        embeddings = checked_embeddings(embeddings)
        enrol, test = trial_rows(enrol, test, len(embeddings))
        rows = (self.project(embeddings) - self.plda_mean) @ self._basis
        own = 0.5 * (rows**2 @ self._own + self._constant)
        # cross > 0, so that half of it goes to each side.
        rows *= np.sqrt(self._cross)
        scores = pair_products(rows, enrol, test, block)
        scores += own[enrol]
        scores += own[test]
        return scores.astype(np.float32)

    def save(self, path):
        """Write a safetensors file, under another name first."""
        from safetensors.numpy import save

        arrays = {
            name: np.ascontiguousarray(getattr(self, name))
            for name in self.ARRAYS
        }
        said = {"kind": KIND}
        for key in self.SAID:
            if getattr(self, key) is not None:
                said[key] = getattr(self, key)
        try:
            write_file(Path(path), lambda file: file.write(save(arrays, said)))
        except OSError as error:
            raise AttnError(
                f"{path}: cannot be written ({error.strerror})."
            ) from None

    @classmethod
    def load(cls, path):
        """Read what ``save`` wrote.

        Raises
        ------
        AttnError
            The file cannot be read or holds something else.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="numpy") as file:
                said = file.metadata() or {}
                if said.get("kind") != KIND:
                    raise AttnError(
                        f"{path}: is not a PLDA back end of this package."
                    )
                arrays = map(file.get_tensor, cls.ARRAYS)
                return cls(*arrays, *map(said.get, cls.SAID))
        except AttnError:
            raise
        except (OSError, ValueError, SafetensorError, LinAlgError) as error:
            raise AttnError(
                f"PLDA back end {path}: cannot be read ({error})."
            ) from None


def _check_training(embeddings, counts, lda_size):
    """Refuse what SpeechBrain's training answers with linear algebra."""
    bad = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(bad):
        raise AttnError(f"embeddings: row {bad[0]} holds NaN or infinity.")
    num_utterances, size = embeddings.shape
    most = min(size, len(counts) - 1)
    if not 1 <= lda_size <= most:
        raise AttnError(
            f"lda_size: got {lda_size}, but {len(counts):,} speakers and "
            f"embeddings of size {size} allow 1 to {most}."
        )
    if num_utterances - len(counts) < size:
        raise AttnError(
            f"embeddings of size {size} want at least {size + len(counts):,} "
            f"utterances of {len(counts):,} speakers to train a back end, "
            f"got {num_utterances:,}."
        )


def _whitening(centred, speakers, counts):
    """Matrix that makes the covariance within speakers the identity.

    Each speaker weighs the same, as in SpeechBrain's LDA.
    """
    order = np.argsort(speakers, kind="stable")
    starts = np.cumsum(counts) - counts
    means = np.add.reduceat(centred[order], starts) / counts[:, None]
    within = centred - means[speakers]
    within /= np.sqrt(counts[speakers])[:, None]
    variances, basis = linalg.eigh(within.T @ within / len(counts))
    if variances[0] <= 1e-12 * variances[-1]:
        raise AttnError(
            "embeddings: they do not vary within speakers in some direction "
            f"(variances from {variances[0]:.1e} to {variances[-1]:.1e}); are "
            "utterances repeated, or is a coordinate constant?"
        )
    return basis / np.sqrt(variances)


def _stat_object(vectors, speakers):
    """The host's form of embeddings and their speakers.

    Speakers are numbers here: the host compares all of them with each speaker
    in turn, which takes hours for a million names.
    """
    from speechbrain.processing.PLDA_LDA import StatObject_SB

    count = len(vectors)
    nothing = np.full(count, None)
    return StatObject_SB(
        modelset=speakers,
        segset=np.arange(count),
        start=nothing,
        stop=nothing,
        stat0=np.ones((count, 1)),
        stat1=vectors,
    )


def _unit(rows, first=0):
    """Rows scaled to length one, float64."""
    norms = np.linalg.norm(rows, axis=1)
    bad = without_direction(norms)
    if len(bad):
        raise AttnError(
            f"embeddings: row {first + bad[0]} has length {norms[bad[0]]} "
            f"after LDA, {NO_DIRECTION}."
        )
    return rows / norms[:, None]
