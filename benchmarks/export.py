"""Speed, size and errors of ONNX files, against PyTorch and ECAPA-TDNN.

    python benchmarks/export.py           # prints the speed of random weights
    python benchmarks/export.py --seconds 3 --rounds 5 --systems serialized_mha
    python benchmarks/export.py --models /path/to/model --trials list.txt \
        --data_folder /path/to/corpus --write   # and errors; writes the page

All ways take turns in one process, on one thread, one utterance at a time.
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch
from pages import conditions, write_page
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN
from speechbrain.processing.features import InputNormalization
from tqdm import tqdm

from speechbrain_attn import hub
from speechbrain_attn.dataio.audio import read_waveform
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.dataio.utterance_files import utterance_files
from speechbrain_attn.hparams import load_hparams
from speechbrain_attn.hub.folder import NETWORK_PARTS
from speechbrain_attn.hub.model import SpeakerModel
from speechbrain_attn.hub.onnx import export_onnx
from speechbrain_attn.scoring.confidence import SpeakerTrials
from speechbrain_attn.scoring.cosine import cosine_scores

ROOT = Path(__file__).parents[1]
SYSTEMS = ("self_attentive_tdnn", "serialized_mha", "double_mha", "ge2e_lstm")
BASE = "SpeechBrain's ECAPA-TDNN (512)"
RATE = 16_000
SEED = 17
# Of each length, whichever comes first; three rounds at least.
MOST_ROUNDS, SECONDS_A_LENGTH = 40, 60
INTRODUCTION = """# How fast and how exact an ONNX file is

The networks of [hparams/networks](../../hparams/networks) in their full size,
in PyTorch and as files of `speechbrain-attn export-onnx`, from the waveform to
the embedding, features included, one utterance at a time on one thread. "Ratio"
is the time over that of SpeechBrain's ECAPA-TDNN with 512 channels, with its
features and in PyTorch, in the same round: the median over rounds in which all
take turns, and the quartiles. "Real time" is the median time over the length of
the audio.

For trained models: the EER with the embeddings of the model and of both files,
and the ratio of the files' with an interval by drawing speakers again.
"""


class Way(NamedTuple):
    """One way to embed a waveform [1, samples]."""

    network: str
    name: str
    embed: object  # of a float32 array
    size: int  # bytes of the weights or the file


def parse():
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--systems", nargs="*", default=SYSTEMS, help="to be timed")
    add("--seconds", nargs="+", type=float, default=[3, 10, 60])
    add("--rounds", type=int, default=MOST_ROUNDS, help="at most, a length")
    add("--models", nargs="*", type=Path, default=[], help="trained ones")
    add("--data_folder", help="VoxCeleb-like tree, for the models' errors")
    add("--trials", help="list of trials")
    add("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    if options.models and not (options.data_folder and options.trials):
        parser.error("--models needs --data_folder and --trials")
    return options


def full_size(system):
    """Model with the network of a system's YAML, its weights random."""
    torch.manual_seed(SEED)
    given = dict.fromkeys(
        ("data_folder", "verification_file", "pretrain_path"), "unused"
    )
    path = ROOT / "hparams" / f"verification_{system}.yaml"
    hparams = load_hparams(path, given)
    modules = {part: hparams[part].eval() for part in NETWORK_PARTS}
    return SpeakerModel(modules, hparams, device="cpu")


def bytes_of(module):
    """Bytes of a network's weights."""
    return sum(value.nbytes for value in module.state_dict().values())


def base():
    """``Way`` of SpeechBrain's network in PyTorch."""
    torch.manual_seed(SEED)
    features = Fbank(n_mels=80).eval()
    norm = InputNormalization(norm_type="sentence", std_norm=False)
    network = ECAPA_TDNN(
        80, channels=[512, 512, 512, 512, 1536], lin_neurons=192
    ).eval()

    def embed(wav):
        with torch.inference_mode():
            ones = torch.ones(1)
            return network(norm(features(torch.tensor(wav)), ones), ones)

    return Way(BASE, "PyTorch", embed, bytes_of(network))


def in_torch(model, wav):
    """Embedding of a waveform."""
    with torch.inference_mode():
        return model.encode_batch(torch.from_numpy(wav)).numpy()[0, 0]


def in_onnxruntime(session, wav):
    """The same by an ONNX file."""
    given = {"waveforms": wav, "lengths": np.ones(1, np.float32)}
    return session.run(None, given)[0][0]


def session_of(path):
    """A session on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        path, options, providers=["CPUExecutionProvider"]
    )


def ways_of(name, model, folder):
    """The ``Way``s of a model: in PyTorch, and as two files."""
    size = bytes_of(model.mods.embedding_model)
    yield Way(name, "PyTorch", partial(in_torch, model), size)
    for int8 in (False, True):
        way = f"onnxruntime, {'int8' if int8 else 'float32'}"
        path = Path(folder) / f"{name}_{int8}.onnx"
        export_onnx(model, path, int8=int8)
        embed = partial(in_onnxruntime, session_of(path))
        yield Way(name, way, embed, path.stat().st_size)


def times(ways, seconds, rounds):
    """Seconds [rounds, ways] for an utterance of so many."""
    draw = np.random.default_rng(SEED)
    wav = draw.normal(0, 0.1, (1, round(seconds * RATE))).astype("f4")
    for way in ways:
        way.embed(wav)  # the first of a length is slow
    found, began = [], time.perf_counter()
    while len(found) < 3 or (
        len(found) < rounds and time.perf_counter() - began < SECONDS_A_LENGTH
    ):
        found.append([])
        for way in ways:
            start = time.perf_counter()
            way.embed(wav)
            found[-1].append(time.perf_counter() - start)
    return np.array(found)


def speed_table(ways, options):
    """Lines of the first table; the first way is what others are over."""
    head = "| network | way | MB |"
    cells = [[way.network, way.name, f"{way.size / 1e6:.1f}"] for way in ways]
    rounds = []
    for seconds in tqdm(options.seconds, "timing"):
        head += f" {seconds:g} s: ratio | real time |"
        measured = times(ways, seconds, options.rounds)
        rounds.append(f"{len(measured)} of {seconds:g} s")
        ratios = measured / measured[:, :1]
        low, middle, high = np.percentile(ratios, [25, 50, 75], axis=0)
        for column, row in enumerate(cells):
            row.append(
                f"{middle[column]:.3f} ({low[column]:.3f} to "
                f"{high[column]:.3f})"
            )
            row.append(f"{np.median(measured[:, column]) / seconds:.4f}")
    rule = "| --- | --- |" + " ---: |" * (1 + 2 * len(options.seconds))
    lines = [head, rule, *(f"| {' | '.join(row)} |" for row in cells)]
    return [*lines, "", f"Rounds: {', '.join(rounds)}."]


def error_row(folder, trials, files, scratch):
    """Row of the second table: one trained model."""
    model = hub.load(folder, device="cpu")
    name = Path(folder).absolute()
    name = name.parent.name if name.name == "model" else name.name
    ways = list(ways_of(name, model, scratch))
    found = [[], [], []]
    for utterance in tqdm(trials.utterances, name):
        wav = read_waveform(files[utterance]).unsqueeze(0).numpy()
        for rows, way in zip(found, ways, strict=True):
            rows.append(way.embed(wav))
    eager, floats, integers = map(np.stack, found)
    speakers = trials.speakers()
    drawing = SpeakerTrials(
        trials.labels, speakers[trials.enrol], speakers[trials.test]
    )
    drawn = [
        drawing.draw(cosine_scores(rows, trials.enrol, trials.test), ["eer"])
        for rows in (eager, floats, integers)
    ]
    errors = [100 * one["eer"].value.item() for one in drawn]
    ratio = drawing.comparisons(drawn[2], drawn[1])["eer"].ratio
    distances = 1 - torch.cosine_similarity(
        torch.from_numpy(floats), torch.from_numpy(integers)
    )
    cells = [
        name,
        *(f"{error:.2f}" for error in errors),
        "{:.3f} [{:.3f}, {:.3f}]".format(*ratio),
        f"{distances.median():.1e}",
        *(f"{way.size / 1e6:.1f}" for way in ways[1:]),
    ]
    return f"| {' | '.join(cells)} |"


def error_table(options, scratch):
    """Lines of the second table."""
    trials = trials_from_file(options.trials)
    files = utterance_files(options.data_folder, options.trials)
    return [
        "",
        f"EER (%) of trained models on {len(trials):,} trials of "
        f"{Path(options.trials).name}; the ratio is int8 over float32, with a "
        "paired 95 % interval; the distance one minus the cosine between the "
        "two embeddings of an utterance, the median:",
        "",
        "| model | PyTorch | float32 | int8 | ratio | distance | float32, MB "
        "| int8, MB |",
        "| --- |" + " ---: |" * 7,
        *(error_row(one, trials, files, scratch) for one in options.models),
    ]


def main():
    """Measure, print and, if asked to, write the page."""
    options = parse()
    torch.set_num_threads(1)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        if options.systems:
            ways = [base()]
            for system in options.systems:
                ways += ways_of(system, full_size(system), scratch)
            lines += speed_table(ways, options)
        if options.models:
            lines += error_table(options, scratch)
    lines += ["", conditions(onnxruntime=onnxruntime.__version__)]
    print("\n".join(lines))
    if options.write:
        write_page("export", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
