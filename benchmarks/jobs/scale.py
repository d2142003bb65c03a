"""The measurements of ``benchmarks/scale.py``, one a process.

    cd benchmarks; python -m jobs.scale rows FOLDER

prints the seconds, the memory in MB and more as JSON. Arguments are the
job and what it works on: a folder that ``make_corpus`` made, or the number of
speakers of a classifier.
"""

import itertools
import json
import resource
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from jobs.scoring import peak_megabytes

SPEAKERS, UTTERANCES = 5_994, 1_092_009  # VoxCeleb2's development part
RATE, SECONDS = 16_000, 0.1  # of a file
CROP_SECONDS = 2.0
BATCH_SIZE = 512
NUM_BATCHES = 20  # that are read
CHUNKS = 4  # rows a file: of 2 s in 8 s
HEAD_BATCH, HEAD_SIZE, HEAD_STEPS = 128, 192, 5


def make_corpus(folder, num_speakers, num_utterances):
    """Tree of so many speakers, and a trial list of two more.

    The speakers are links to a few folders, so that it takes no room; every
    path counts as a file of its own.
    """
    small, rest = divmod(num_utterances, num_speakers)
    draw = np.random.default_rng(5)
    for size in (small, small + 1):
        place = folder / f"of{size}" / "session"
        place.mkdir(parents=True)
        for number in range(size):
            samples = draw.uniform(-0.1, 0.1, round(RATE * SECONDS))
            path = place / f"{number:05}.wav"
            soundfile.write(path, samples, RATE, subtype="PCM_U8")
    wavs = folder / "data" / "wav"
    wavs.mkdir(parents=True)
    names = [f"id{number:05}" for number in range(num_speakers)]
    for number, name in enumerate([*names, "test1", "test2"]):
        (wavs / name).symlink_to(folder / f"of{small + (number < rest)}")
    pairs = ("1 {0}/{2} {0}/{3}\n", "0 {0}/{2} {1}/{3}\n")
    files = "session/00000.wav", "session/00001.wav"
    (folder / "trials.txt").write_text(
        "".join(pair.format("test1", "test2", *files) for pair in pairs)
    )


def write_chunks(folder):
    """Manifest with ``CHUNKS`` rows for each one of train.csv."""
    lines = (folder / "save" / "train.csv").read_text().splitlines(True)
    with open(folder / "save" / "chunks.csv", "w") as file:
        file.write(lines[0])
        for line in lines[1:]:
            name, _, rest = line.partition(",")
            file.writelines(f"{name}_{n},{rest}" for n in range(CHUNKS))


def measured(call):
    """What a call took, and the number, or length, of what it gave.

    Memory is in MB: what the process grew by at most, and what of that the
    result keeps (Linux).
    """
    peak, resident = peak_megabytes(), resident_megabytes()
    began = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - began
    return {
        "count": len(result) if hasattr(result, "__len__") else result,
        "seconds": seconds,
        "megabytes": peak_megabytes() - peak,
        "kept": resident_megabytes() - resident,
    }


def resident_megabytes():
    """Memory of this process, in MB; Linux."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize() / 1e6


def walk(folder, part="data"):
    """Find the files of the tree."""
    from speechbrain_attn.dataio.tree import find_utterances

    path = str(folder / part)
    return measured(lambda: find_utterances(path).utterances)


def index(folder):
    """Find the utterances of the shards."""
    return walk(folder, "shards")


def shards(folder):
    """Write the tree as tar shards."""
    from speechbrain_attn.dataio.shard_writing import ShardOptions, write_shards
    from speechbrain_attn.dataio.shards import shard_members

    options = ShardOptions(
        str(folder / "data"), str(folder / "shards"), shard_megabytes=6
    )
    found = measured(lambda: print(*write_shards(options), file=sys.stderr))
    return {**found, "count": len(shard_members(options.folder)[0])}


def manifests(folder):
    """Prepare the shards, as the training script does."""
    from speechbrain_attn.dataio.corpus import prepare_corpus
    from speechbrain_attn.dataio.corpus_options import CorpusOptions

    options = CorpusOptions(
        data_folders=(str(folder / "shards"),),
        save_folder=str(folder / "save"),
        verification_file=str(folder / "trials.txt"),
        splits=("train",),
        split_ratio=(100, 0),
        seg_dur=CROP_SECONDS,
        keep_short=True,
    )
    found = measured(lambda: print(*prepare_corpus(options), file=sys.stderr))
    return {**found, "count": len(read_rows(folder))}


def read_rows(folder, name="train"):
    """Rows of a manifest."""
    from speechbrain_attn.dataio.rows import ManifestRows

    return ManifestRows(folder / "save" / f"{name}.csv", folder)


def rows(folder, name="train"):
    """Read train.csv."""
    return measured(lambda: read_rows(folder, name))


def chunks(folder):
    """Read a manifest of chunks."""
    return rows(folder, "chunks")


def host_rows(folder, name="train"):
    """Read train.csv as SpeechBrain does."""
    from speechbrain.dataio.dataset import DynamicItemDataset

    path = str(folder / "save" / f"{name}.csv")
    return measured(lambda: DynamicItemDataset.from_csv(path))


def host_chunks(folder):
    """Read a manifest of chunks as SpeechBrain does."""
    return host_rows(folder, "chunks")


def epoch(folder):
    """Go through the batches of an epoch, without reading them."""
    from speechbrain_attn.dataio.epochs import EpochBatchSampler

    num_rows = len(read_rows(folder))
    return measured(
        lambda: sum(1 for _ in EpochBatchSampler(num_rows, BATCH_SIZE))
    )


def speaker_epoch(folder):
    """The same for batches of 64 speakers x 10 utterances."""
    from speechbrain_attn.dataio.sampling import SpeakerBatchSampler

    found = read_rows(folder)
    numbers = found.speaker_numbers, found.file_numbers
    return measured(lambda: sum(1 for _ in SpeakerBatchSampler(*numbers)))


def batches(folder):
    """Read and collate shuffled crops, from the shards."""
    return _read_batches(read_rows(folder))


def file_batches(folder):
    """The same from the loose files."""
    found = read_rows(folder)
    places = [path.rsplit("/", 3)[1:] for path in found.paths]
    wavs = str(folder / "data" / "wav")
    found.paths = ["/".join([wavs, *place]) for place in places]
    return _read_batches(found)


def _read_batches(found):
    from speechbrain.dataio.encoder import CategoricalEncoder

    from speechbrain_attn.dataio.crops import RandomCrops
    from speechbrain_attn.dataio.datasets import TrainingExamples, collate
    from speechbrain_attn.dataio.epochs import EpochBatchSampler

    encoder = CategoricalEncoder()
    encoder.update_from_iterable(found.speakers)
    encoder.expect_len(len(encoder))
    crops = RandomCrops(round(CROP_SECONDS * RATE), seed=1)
    examples = TrainingExamples(found, encoder, crops, random_chunk=True)
    sampler = EpochBatchSampler(len(found), BATCH_SIZE, seed=1)

    def read():
        return sum(
            len(collate([examples[number] for number in batch]).id)
            for batch in itertools.islice(sampler, NUM_BATCHES)
        )

    return measured(read)


def aam_head(num_speakers):
    """SpeechBrain's classifier and additive angular margin."""
    from speechbrain.lobes.models.ECAPA_TDNN import Classifier
    from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper

    loss = LogSoftmaxWrapper(AdditiveAngularMargin(margin=0.2, scale=30))
    return _head_steps(Classifier(HEAD_SIZE, out_neurons=num_speakers), loss)


def own_aam_head(num_speakers):
    """This package's classifier and additive angular margin."""
    from speechbrain_attn.lobes.models.heads import CosineHead
    from speechbrain_attn.nnet.angular_margin import (
        AdditiveAngularMarginSoftmax,
    )

    loss = AdditiveAngularMarginSoftmax(margin=0.2, scale=30)
    return _head_steps(CosineHead(HEAD_SIZE, num_speakers), loss)


def am_head(num_speakers):
    """SpeechBrain's under this package's additive margin softmax."""
    from speechbrain.lobes.models.ECAPA_TDNN import Classifier

    from speechbrain_attn.nnet.losses import AdditiveMarginSoftmax

    loss = AdditiveMarginSoftmax()
    return _head_steps(Classifier(HEAD_SIZE, out_neurons=num_speakers), loss)


def _head_steps(classifier, loss):
    """Milliseconds of forward and backward, and of the optimiser."""
    import torch

    torch.manual_seed(1)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=0.001)
    embeddings = torch.randn(HEAD_BATCH, 1, HEAD_SIZE, requires_grad=True)
    (num_speakers,) = {len(p) for p in classifier.parameters()}
    targets = torch.randint(num_speakers, (HEAD_BATCH, 1))
    times = {"forward_backward": [], "optimiser": []}

    def train():
        for _ in range(HEAD_STEPS + 1):
            began = time.perf_counter()
            loss(classifier(embeddings), targets, None).backward()
            middle = time.perf_counter()
            optimiser.step()
            optimiser.zero_grad()
            times["forward_backward"].append(middle - began)
            times["optimiser"].append(time.perf_counter() - middle)

    found = measured(train)
    for name, seconds in times.items():
        # The first step also makes what the others find.
        found[name] = 1000 * statistics.median(seconds[1:])
    size = sum(p.numel() for p in classifier.parameters())
    return {**found, "parameters": size}


JOBS = {
    job.__name__: job
    for job in (
        walk,
        shards,
        index,
        manifests,
        rows,
        chunks,
        host_rows,
        host_chunks,
        epoch,
        speaker_epoch,
        batches,
        file_batches,
        aam_head,
        own_aam_head,
        am_head,
    )
}


def main(name, where):
    """Do one measurement and print what it took."""
    where = int(where) if where.isdigit() else Path(where)
    print(json.dumps(JOBS[name](where)))


if __name__ == "__main__":
    main(*sys.argv[1:])
