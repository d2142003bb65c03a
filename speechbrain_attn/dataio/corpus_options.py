"""Options of corpus preparation, checked as they are given."""

from dataclasses import dataclass

from speechbrain_attn.dataio.headers import SAMPLE_RATE
from speechbrain_attn.errors import AttnError

SPLITS = ("train", "dev", "test")
MIN_DURATION = 0.1  # seconds; less holds no speech to train on


@dataclass(frozen=True)
class CorpusOptions:
    """What ``prepare_corpus`` makes of which files.

    Arguments
    ---------
    data_folders : sequence of str
        Folders of VoxCeleb-like trees.
    save_folder : str
        Where the manifests go.
    verification_file : str
        Trial list; its speakers are kept out of train and dev.
    validation_file : str
        Trial list of held-back speakers, kept out as well; None = none.
    splits : sequence of str
        Of train, dev and test (which makes enrol.csv and test.csv).
    split_ratio : sequence of float
        Parts of train and dev, for example (90, 10).
    seg_dur : float
        Seconds of a chunk in train and dev.
    amp_th : float
        Chunks with a smaller mean amplitude, of 1, are left out; 0 = none.
    split_speaker : bool
        Dev takes speakers of its own instead of utterances.
    random_segment : bool
        One row a file instead of one a chunk, for random crops.
    keep_short : bool
        Files shorter than ``seg_dur`` become one row each.
    seed : int
        Of the draw of dev.
    """

    data_folders: tuple
    save_folder: str
    verification_file: str
    validation_file: str = None
    splits: tuple = SPLITS
    split_ratio: tuple = (90, 10)
    seg_dur: float = 3.0
    # Off: to know how loud a file is it must be decoded, which takes far
    # longer than all else here, and VoxCeleb was cut where somebody speaks.
    amp_th: float = 0.0
    split_speaker: bool = False
    random_segment: bool = False
    keep_short: bool = False
    seed: int = 0

    def __post_init__(self):
        unknown = sorted(set(self.splits) - set(SPLITS))
        if unknown or not self.splits:
            raise AttnError(
                f"splits={list(self.splits)}: want some of {list(SPLITS)}."
            )
        ratio = tuple(self.split_ratio)
        if len(ratio) != 2 or min(ratio) < 0 or ratio[0] == 0:
            raise AttnError(
                f"split_ratio={list(ratio)}: want the parts of train and dev, "
                "such as [90, 10]."
            )
        if "dev" in self.splits and ratio[1] == 0:
            raise AttnError(
                f"split_ratio={list(ratio)} gives nothing to 'dev'; leave "
                "'dev' out of splits, or give it a part."
            )
        if self.seg_dur < MIN_DURATION:
            raise AttnError(
                f"seg_dur={self.seg_dur}: want seconds, {MIN_DURATION} or more."
            )

    @property
    def chunk_samples(self):
        """Samples of a chunk at 16 kHz."""
        return round(self.seg_dur * SAMPLE_RATE)

    @property
    def trains(self):
        """Whether train.csv or dev.csv is wanted."""
        return "train" in self.splits or "dev" in self.splits
