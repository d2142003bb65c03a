"""``speechbrain-attn enroll``, ``identify``, ``speakers``: who is speaking."""

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
from speechbrain_attn.cli.recordings import audio_paths, embed_files

RegistryOption = Annotated[
    Path,
    typer.Option(
        "--registry", metavar="FOLDER", help="Folder of the enrolled voices."
    ),
]
FilesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES",
        help="Recordings, folders or patterns; - for names on stdin.",
        show_default=False,
    ),
]
NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", show_default=False)
]


def enroll(
    name: NameArgument,
    files: FilesArgument,
    registry: RegistryOption,
    model: ModelOption = None,
    json: JsonOption = False,
    trust: TrustOption = False,
    device: DeviceOption = None,
    anyway: AnywayOption = False,
):
    """Enrol a speaker from recordings, or add some to a known speaker.

    The registry is made if there is none. A recording whose embedding is
    there already is not taken twice.
    """
    from speechbrain_attn.inference.registry import checked_name

    checked_name(name)
    embeddings, refused, sha256 = _embedded(
        files, registry, model, trust, device, anyway, json
    )
    added = 0
    if embeddings:
        with _made(registry, sha256, embeddings) as voices:
            rows = _matrix(embeddings)
            added = voices.add([name] * len(rows), rows)
    if json:
        known = len(embeddings) - added
        counts = {"speaker": name, "added": added, "known": known}
        print_json({**counts, "refused": refused})
    else:
        print(
            f"{name}: {added} of {len(embeddings) + len(refused)} "
            f"recording(s) added{_and_known(len(embeddings) - added)}"
        )
    exit_if_refused(refused, embeddings)


def identify(
    files: FilesArgument,
    registry: RegistryOption,
    model: ModelOption = None,
    far: Annotated[
        float,
        typer.Option(
            help="False-accept rate: of recordings of people who are not "
            "enrolled, the part that may be given a name.",
            metavar="RATE",
        ),
    ] = 0.001,
    top: Annotated[
        int, typer.Option(help="How many of the nearest to print.", min=1)
    ] = 5,
    json: JsonOption = False,
    trust: TrustOption = False,
    device: DeviceOption = None,
    anyway: AnywayOption = False,
):
    """Tell which enrolled speaker is heard in each recording, if any.

    Prints the nearest voices by their cosine, and whether the first is
    accepted. The threshold comes from the registry's cohort (see
    `speechbrain-attn speakers cohort`), else from the calibration of the
    model, corrected for the number of voices; without either there is no
    decision.
    """
    from speechbrain_attn.inference.open_set import open_set_rule
    from speechbrain_attn.inference.registry import Registry
    from speechbrain_attn.inference.voice_index import voice_search

    with Registry.open(registry) as voices:
        voices.refuse_empty()  # before a model is loaded for nothing
    speaker_model = load_model(model, trust, device)
    with Registry.open(registry, speaker_model.sha256) as voices:
        search = voice_search(voices)
        rule = open_set_rule(search, voices, speaker_model.calibration, far)
        embeddings, refused = embed_files(
            audio_paths(files), speaker_model, anyway, quiet=json
        )
        found = {}
        if embeddings:
            nearest = search.search(_matrix(embeddings), top)
            found = dict(zip(embeddings, nearest, strict=True))
        num_voices = len(voices)
    if json:
        print_json(_as_json(found, rule, num_voices, far, refused))
    else:
        _say_rule(rule, far)
        for path, matches in found.items():
            print(f"{path}: {_verdict(rule, matches[0])}")
            for match in matches:
                print(f"  {match.cosine:7.4f}  {match.name}")
    exit_if_refused(refused, found)


speakers = typer.Typer(
    help="List, rename or remove enrolled speakers; set a cohort.",
    no_args_is_help=True,
)


@speakers.command("list")
def list_speakers(registry: RegistryOption, json: JsonOption = False):
    """List the enrolled speakers and their numbers of utterances."""
    from speechbrain_attn.inference.registry import Registry

    with Registry.open(registry) as voices:
        found, num_cohort = voices.speakers(), len(voices.cohort())
    if json:
        rows = [speaker._asdict() for speaker in found]
        print_json({"speakers": rows, "cohort": num_cohort})
        return
    for speaker in found:
        print(f"{speaker.utterances:5d}  {speaker.name}")
    say(f"{len(found):,} speaker(s); cohort of {num_cohort:,} recording(s)")


@speakers.command()
def remove(name: NameArgument, registry: RegistryOption):
    """Remove a speaker, with all utterances."""
    from speechbrain_attn.inference.registry import Registry

    with Registry.open(registry) as voices:
        voices.remove(name)
    say(f"{name}: removed")


@speakers.command()
def rename(
    name: NameArgument,
    new_name: Annotated[str, typer.Argument(metavar="NEW_NAME")],
    registry: RegistryOption,
):
    """Give a speaker another name."""
    from speechbrain_attn.inference.registry import Registry

    with Registry.open(registry) as voices:
        voices.rename(name, new_name)
    say(f"{name}: is now {new_name}")


@speakers.command()
def cohort(
    files: FilesArgument,
    registry: RegistryOption,
    model: ModelOption = None,
    json: JsonOption = False,
    trust: TrustOption = False,
    device: DeviceOption = None,
    anyway: AnywayOption = False,
):
    """Take decisions by recordings of people who are not enrolled.

    Best one recording of each person, made as those that are to be
    identified. For a false-accept rate of 0.01, 99 will do, for 0.001, 999.
    They take the place of an earlier cohort.
    """
    embeddings, refused, sha256 = _embedded(
        files, registry, model, trust, device, anyway, json
    )
    if embeddings:
        with _made(registry, sha256, embeddings) as voices:
            voices.set_cohort(_matrix(embeddings))
    if json:
        print_json({"cohort": len(embeddings), "refused": refused})
    elif embeddings:
        say(f"cohort of {len(embeddings):,} recording(s)")
    exit_if_refused(refused, embeddings)


def _embedded(files, registry, model, trust, device, anyway, quiet):
    """Embeddings of files and what was refused, by a model that fits.

    The third value is the model's fingerprint.
    """
    from speechbrain_attn.inference.registry import Registry
    from speechbrain_attn.inference.registry_file import FILE

    paths = audio_paths(files)
    speaker_model = load_model(model, trust, device)
    sha256 = speaker_model.sha256
    if (registry / FILE).exists():
        # Before hours of work for nothing.
        Registry.open(registry, sha256).close()
    return *embed_files(paths, speaker_model, anyway, quiet), sha256


def _made(registry, sha256, embeddings):
    from speechbrain_attn.inference.registry import Registry

    return Registry.create(registry, sha256, _matrix(embeddings).shape[1])


def _matrix(embeddings):
    import numpy as np

    return np.stack(list(embeddings.values()))


def _and_known(count):
    return f", {count} known already" if count else ""


def _say_rule(rule, far):
    if rule.threshold is None:
        say(rule.basis)
    else:
        say(
            f"accepted above a cosine of {rule.threshold:.4f}, for a "
            f"false-accept rate of {far:g}: {rule.basis}"
        )
    for note in rule.notes:
        say(note)


def _verdict(rule, first):
    words = {False: "nobody who is enrolled", None: "no decision; nearest are"}
    return words.get(rule.accepts(first.cosine), first.name)


def _as_json(found, rule, num_voices, far, refused):
    """What ``identify`` found, as JSON holds it."""
    words = {True: "accepted", False: "rejected", None: None}
    files = []
    for path, matches in found.items():
        accepted = rule.accepts(matches[0].cosine)
        files.append(
            {
                "file": path,
                "speaker": matches[0].name if accepted else None,
                "decision": words[accepted],
                "nearest": [match._asdict() for match in matches],
            }
        )
    return {
        "voices": num_voices,
        "false_accept_rate": far,
        "threshold": rule.threshold,
        "basis": rule.basis,
        "notes": rule.notes,
        "files": files,
        "refused": refused,
    }
