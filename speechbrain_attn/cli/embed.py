"""``speechbrain-attn embed``: recordings to embeddings."""

import os
from collections import Counter
from pathlib import Path
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
    say,
)
from speechbrain_attn.cli.recordings import (
    AUDIO_EXTENSIONS,
    audio_paths,
    embed_files,
    file_of,
    refused_files,
)
from speechbrain_attn.errors import AttnError

# What a user may hope for, and would get as the name of a folder.
_OTHER_FILES = (".npy", ".pt", ".txt", ".csv", ".json", ".jsonl")

FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES",
        help="Recordings, folders or patterns; - for names on stdin, one a "
        "line, or for one recording there.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="STORE|FILE.npz",
        help="A folder for `score` and for many files: a killed run goes on "
        "with the same command. Or a file for numpy, with `ids` and "
        "`embeddings`. Without it, they are printed.",
        show_default=False,
    ),
]


def embed(
    files: FilesArgument,
    model: ModelOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
    trust: TrustOption = False,
    device: DeviceOption = None,
    anyway: AnywayOption = False,
):
    """Write or print the embedding of each recording.

    Those in a folder are named by their path in it, without extension, as
    trial lists name them; others as they are given. Where two differ in
    their extension only, both keep it.
    """
    if output is not None and output.suffix.lower() in _OTHER_FILES:
        raise AttnError(
            f"--output {output}: embeddings go into a folder, or into a file "
            "that ends in .npz; without --output they are printed."
        )
    named = _named(files)
    to_store = output is not None and output.suffix.lower() != ".npz"
    if to_store and "-" in named.values():
        raise AttnError(
            f"--output {output}: a recording on standard input goes into a "
            "FILE.npz, or is printed."
        )
    speaker_model = load_model(model, trust, device)
    made = []
    if output is not None:
        made = _make_room(output if to_store else output.parent)
    if to_store:
        found, refused = _to_store(output, named, speaker_model, anyway, json)
    else:
        embeddings, refused = embed_files(
            list(named.values()), speaker_model, anyway, quiet=json
        )
        found = {
            name: embeddings[path]
            for name, path in named.items()
            if path in embeddings
        }
    if output is None:
        _print(found, refused, json)
    elif found:
        if not to_store:
            _write_npz(output, found)
        _print_summary(output, found, refused, json)
    else:
        for folder in made:
            folder.rmdir()
        raise AttnError(f"no recording is of use; {output} is not written.")
    exit_if_refused(refused, found)


def _named(files):
    """Utterance -> path of its file."""
    full = {}  # with extension
    for argument in files:
        for path in audio_paths([argument]):
            name = path
            if os.path.isdir(argument):
                name = os.path.relpath(path, argument)
            if full.get(name, path) != path:
                raise AttnError(
                    f"{full[name]} and {path}: would both be named {name}. "
                    "Embed them by two commands, or name the folder above."
                )
            full[name] = path
    times = Counter(map(_stem, full))
    return {
        _stem(name) if times[_stem(name)] == 1 else name: path
        for name, path in full.items()
    }


def _stem(name):
    stem, extension = os.path.splitext(name)
    return stem if extension.lower() in AUDIO_EXTENSIONS else name


def _make_room(folder):
    """Make a folder; those that were not there, the deepest first."""
    from speechbrain_attn.scoring.store import writing

    made = [one for one in (folder, *folder.parents) if not one.exists()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return made


def _to_store(output, named, model, anyway, quiet):
    """Utterance -> embedding in a store, and path -> why it has none."""
    from speechbrain_attn.inference.store_extraction import (
        extract_to_store,
        left_out,
    )

    refused = refused_files(named.values(), model, anyway, quiet)
    files = {
        name: file_of(path)
        for name, path in named.items()
        if path not in refused
    }
    if not files:
        return {}, refused
    store = extract_to_store(
        output,
        files,
        *model.network,
        device=model.device,
        progress=not quiet,
        knows_states=True,
        refused={
            name: (path, refused[path])
            for name, path in named.items()
            if path in refused
        },
    )
    for path, reason in left_out(store).items():
        if path not in refused:  # those were said
            refused[path] = reason
            say(f"{path}: {reason}")
    return dict(zip(store.ids, store.embeddings, strict=True)), refused


def _write_npz(path, found):
    import numpy as np

    from speechbrain_attn.scoring.store import write_file, writing

    arrays = {
        "ids": np.array(list(found)),
        "embeddings": np.stack(list(found.values())),
    }
    with writing(path.parent):
        write_file(path, lambda file: np.savez(file, **arrays))


def _print(found, refused, as_json):
    if as_json:
        rows = {name: row.tolist() for name, row in found.items()}
        print_json({"embeddings": rows, "refused": refused})
        return
    for name, row in found.items():
        print(name, " ".join(f"{value:.8g}" for value in row), sep="\t")


def _print_summary(output, found, refused, as_json):
    size = len(next(iter(found.values())))
    if as_json:
        summary = {"output": str(output), "embedding_size": size}
        print_json({**summary, "utterances": list(found), "refused": refused})
        return
    print(f"{output}: {len(found):,} embeddings of size {size}")
