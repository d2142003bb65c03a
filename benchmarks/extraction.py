"""Files embedded per second, against SpeechBrain's loop with the same lobe.

    python benchmarks/extraction.py             # prints two tables
    python benchmarks/extraction.py --data_folder=/path/to/corpus \
        --trials=/path/to/veri_test.txt --write # and writes them into docs

Networks of full size with random weights, or trained ones:
``--systems double_mha=/path/to/model``. Without a corpus the files are noise
of 2 to 8 s. The two ways take turns in one process, on the same files.
"""

import argparse
import csv
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import speechbrain as sb
import torch
from pages import conditions, write_page
from speechbrain.dataio import audio_io

from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.batching import pad_waveforms
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.dataio.utterance_files import utterance_files
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import NETWORK_PARTS, load_network
from speechbrain_attn.inference.store_extraction import extract_to_store
from speechbrain_attn.precision import is_fast
from speechbrain_attn.scoring.cosine import cosine_scores
from speechbrain_attn.scoring.metrics import eer

ROOT = Path(__file__).parents[1]
SYSTEMS = ("self_attentive_tdnn", "double_mha", "serialized_mha")
PRECISIONS = ("fp32", "bf16")[: 2 if is_fast("bf16", "cpu") else 1]
HOST_BATCH, SIDE_BY_SIDE = 8, 16
SEED = 11
INTRODUCTION = """# How fast files become embeddings

The same lobe, front end, weights and files, one after the other in one
process. "SpeechBrain's way" is the loop of its script
`speaker_verification_cosine.py`: a data set sorted by duration, a loader with
batches of 8, one batch at a time. Ours is `extract_to_store`, with all that it
writes, in float32 as SpeechBrain's and, on a processor that multiplies in it,
with `precision="bf16"`.

The ratio is that of files a second, each file counted as often as it is
embedded: SpeechBrain's script embeds what is on both sides of the trials
twice. "Whole list" is the ratio of the times until every utterance of the
trials has its embedding. Both are medians over rounds, in which the two ways
take turns; the range is that of the rounds.
"""


def parse():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_folder", help="VoxCeleb-like tree")
    parser.add_argument("--trials", help="take what this list names")
    parser.add_argument(
        "--systems",
        nargs="+",
        default=SYSTEMS,
        help="names, or name=folder for a model folder",
    )
    parser.add_argument(
        "--num_files", type=int, default=400, help="to be timed"
    )
    parser.add_argument(
        "--num_compared",
        type=int,
        help="files of the comparison of batch sizes; as many as there are",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the page")
    return parser.parse_args()


def make_noise(folder, num_files):
    """Tree of noise of two colours, 2 to 8 s a file."""
    draw = np.random.default_rng(SEED)
    place = Path(folder) / "id1" / "s1"
    place.mkdir(parents=True)
    for number in range(num_files):
        wav = draw.normal(0, 0.1, draw.integers(32000, 128000))
        if number % 2:
            wav = np.convolve(wav, [0.5, 0.3, 0.2])
        soundfile.write(place / f"{number:05d}.wav", wav, 16000)


def some(files, count):
    """``count`` of the files, evenly spread over the mapping; None: all."""
    names = list(files)
    if count is not None and count < len(names):
        spread = np.linspace(0, len(names) - 1, count).astype(int)
        names = [names[index] for index in spread]
    return {name: files[name] for name in names}


def network(system):
    """compute_features, mean_var_norm and embedding_model, in eval mode."""
    name, _, folder = system.partition("=")
    if folder:
        trained = load_network(folder)
        return tuple(trained[part] for part in NETWORK_PARTS)
    torch.manual_seed(SEED)
    given = dict.fromkeys(
        ("data_folder", "verification_file", "pretrain_path"), "unused"
    )
    path = ROOT / "hparams" / f"verification_{name}.yaml"
    hparams = load_hparams(path, given)
    parts = tuple(hparams[part] for part in NETWORK_PARTS)
    for part in parts:
        part.eval()
    return parts


def write_manifest(path, files):
    """Manifest of whole files, as SpeechBrain's script reads it."""
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("ID", "duration", "wav", "start", "stop", "spk_id"))
        for name, wav in files.items():
            info = soundfile.info(wav)
            writer.writerow(
                (name, info.duration, wav, 0, info.frames, name.split("/")[0])
            )


def host_loader(manifest):
    """Loader of one side of the trials, as the host's script makes it."""
    data = sb.dataio.dataset.DynamicItemDataset.from_csv(csv_path=manifest)
    data = data.filtered_sorted(sort_key="duration")

    @sb.utils.data_pipeline.takes("wav", "start", "stop")
    @sb.utils.data_pipeline.provides("sig")
    def read(wav, start, stop):
        start, stop = int(start), int(stop)
        sig, _ = audio_io.load(wav, num_frames=stop - start, frame_offset=start)
        return sig.transpose(0, 1).squeeze(1)

    sb.dataio.dataset.add_dynamic_item([data], read)
    sb.dataio.dataset.set_output_keys([data], ["id", "sig"])
    return sb.dataio.dataloader.make_dataloader(data, batch_size=HOST_BATCH)


def speechbrains_way(manifests, parts):
    """Embed each side of the trials by itself, a batch at a time."""
    compute_features, mean_var_norm, embedding_model = parts
    for manifest in manifests:
        embeddings = {}
        with torch.no_grad():
            for batch in host_loader(manifest):
                wavs, lengths = batch.sig
                feats = mean_var_norm(compute_features(wavs), lengths)
                found = embedding_model(feats, lengths)
                for name, row in zip(batch.id, found, strict=True):
                    embeddings[name] = row.detach().clone()


def our_way(files, parts, precision):
    """{utterance: embedding} of a store, which is deleted."""
    with tempfile.TemporaryDirectory() as folder:
        store = extract_to_store(
            folder, files, *parts, precision=precision, progress=False
        )
        return dict(zip(store.ids, np.array(store.embeddings), strict=True))


def seconds_of(function, *arguments):
    """Wall time of a call."""
    began = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - began


def sides(files, trials_file):
    """{utterance: path} of each side of the trials; one without trials."""
    if trials_file is None:
        return [files]
    trials = trials_from_file(trials_file)
    named = [
        {trials.utterances[row] for row in side}
        for side in (trials.enrol, trials.test)
    ]
    return [
        {name: files[name] for name in files if name in side} for side in named
    ]


def speed_rows(system, files, manifests, num_embedded, rounds):
    """Rows of the first table, one for each precision of ours."""
    parts = network(system)
    calls = [(speechbrains_way, manifests, parts)]
    for precision in PRECISIONS:
        # The first batches of a process are slow.
        our_way(some(files, 16), parts, precision)
        calls.append((our_way, files, parts, precision))
    times = [[] for _ in calls]
    for number in range(rounds):
        order = range(len(calls))[:: (1, -1)[number % 2]]
        for way in order:
            times[way].append(seconds_of(*calls[way]))
    theirs, *ours = times
    return [
        speed_row(
            f"{label(system)}, {precision}", theirs, own, files, num_embedded
        )
        for precision, own in zip(PRECISIONS, ours, strict=True)
    ]


def speed_row(name, theirs, ours, files, num_embedded):
    """Row of the first table."""
    whole = [a / b for a, b in zip(theirs, ours, strict=True)]
    ratios = [ratio * len(files) / num_embedded for ratio in whole]
    return (
        f"| {name} | {num_embedded / median(theirs):.1f} "
        f"| {len(files) / median(ours):.1f} | {median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f}) | {median(whole):.2f} |"
    )


def precision_row(system, files, trials_file):
    """Row of the last table: what bf16 does to cosines and errors."""
    parts = network(system)
    fp32, bf16 = (our_way(files, parts, one) for one in PRECISIONS)
    names = list(files)
    one, other = (
        torch.from_numpy(np.stack([found[name] for name in names])).double()
        for found in (fp32, bf16)
    )
    distances = cosine_distances(one, other)
    errors = ["-", "-"]
    if trials_file:
        trials = trials_from_file(trials_file)
        place = {name: row for row, name in enumerate(names)}
        rows = np.array([place.get(u, -1) for u in trials.utterances])
        enrol, test = rows[trials.enrol], rows[trials.test]
        known = (enrol >= 0) & (test >= 0)
        pairs, labels = (enrol[known], test[known]), trials.labels[known]
        errors = [
            f"{100 * eer(cosine_scores(found.numpy(), *pairs), labels):.2f}"
            for found in (one, other)
        ]
    return (
        f"| {label(system)} | {len(names):,} | {median(distances):.1e} "
        f"| {max(distances):.1e} | {' | '.join(errors)} |"
    )


def batch_embeddings(wavs, parts):
    """[batch, embedding_size] float64 of waveforms in one batch."""
    compute_features, mean_var_norm, embedding_model = parts
    padded, lengths = pad_waveforms(wavs)
    feats = mean_var_norm(compute_features(padded), lengths)
    return embedding_model(feats, lengths).flatten(1).double()


def cosine_distances(one, other):
    """One minus the cosine of rows, as a list."""
    cosines = torch.cosine_similarity(one, other, dim=1)
    return (1 - cosines).clamp(min=0).tolist()


def label(system):
    """Name of a system in the tables."""
    name, _, folder = system.partition("=")
    return f"{name}, {'trained' if folder else 'random weights'}"


def distance_row(system, files):
    """Row of the second table."""
    parts = network(system)
    paths = list(files.values())
    distances, others = [], []
    with torch.inference_mode():
        for start in range(0, len(paths), SIDE_BY_SIDE):
            wavs = [
                read_waveform(path)
                for path in paths[start : start + SIDE_BY_SIDE]
            ]
            together = batch_embeddings(wavs, parts)
            alone = torch.cat([batch_embeddings([wav], parts) for wav in wavs])
            distances += cosine_distances(together, alone)
            others += cosine_distances(alone, alone.roll(1, 0))
    return (
        f"| {label(system)} | {len(distances):,} | {median(distances):.1e} "
        f"| {max(distances):.1e} | {median(others):.1e} |"
    )


def measure(options, files, scratch):
    """Lines of the tables, printed as they come."""
    timed = some(files, options.num_files)
    compared = some(files, options.num_compared)
    manifests, num_embedded = [], 0
    for number, side in enumerate(sides(timed, options.trials)):
        manifests.append(Path(scratch) / f"side{number}.csv")
        write_manifest(manifests[-1], side)
        num_embedded += len(side)
    hours = sum(soundfile.info(path).duration for path in timed.values()) / 3600
    lines = [
        "| lobe | SpeechBrain's way, files/s | ours, files/s | ratio "
        "| whole list |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(lines), flush=True)
    for system in options.systems:
        rows = speed_rows(
            system, timed, manifests, num_embedded, options.rounds
        )
        lines += rows
        print("\n".join(rows), flush=True)
    source = "noise"
    if options.data_folder:
        source = Path(options.trials or options.data_folder).name
    second = [
        "",
        f"{len(timed):,} files of {source}, {hours:.2f} h, of which "
        f"SpeechBrain's way embeds {num_embedded:,}; {options.rounds} "
        f"rounds; {torch.get_num_threads()} threads.",
        "",
        f"One minus the cosine between an utterance's embedding in a batch of "
        f"{SIDE_BY_SIDE}, lengths mixed as the list has them, and alone; for "
        "scale the median to another utterance:",
        "",
        "| lobe | utterances | median | largest | another utterance |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(second), flush=True)
    for system in options.systems:
        second.append(distance_row(system, compared))
        print(second[-1], flush=True)
    if len(PRECISIONS) == 1:
        return lines + second
    third = [
        "",
        "One minus the cosine between an utterance's embedding in bf16 and in "
        "float32, and the EER of the trials of these utterances:",
        "",
        "| lobe | utterances | median | largest | EER %, fp32 | EER %, bf16 |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    print("\n".join(third), flush=True)
    for system in options.systems:
        third.append(precision_row(system, compared, options.trials))
        print(third[-1], flush=True)
    return lines + second + third


def main():
    """Measure, print and, if asked to, write the page."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.data_folder
        if folder is None:
            folder = Path(scratch) / "noise"
            make_noise(folder, options.num_files)
        files = utterance_files(folder, options.trials)
        lines = measure(options, files, scratch)
    lines += ["", conditions()]
    print("\n".join(lines[-2:]))
    if options.write:
        write_page("extraction", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
