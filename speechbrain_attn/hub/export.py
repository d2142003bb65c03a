"""From a training run to a folder that others can use."""

import json
import os
import re
import shutil
import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save

from speechbrain_attn.errors import AttnError
from speechbrain_attn.hub.card import CardInput, model_card
from speechbrain_attn.hub.facts import find_evaluations, run_facts
from speechbrain_attn.hub.folder import replace_folder
from speechbrain_attn.hub.loading import load
from speechbrain_attn.hub.standalone import standalone_module, standalone_name
from speechbrain_attn.hub.weights import read_values
from speechbrain_attn.scoring.calibration import Calibration
from speechbrain_attn.scoring.store import writing
from speechbrain_attn.scoring.systems import TITLES

LICENCE = "apache-2.0"
_PNG = b"\x89PNG\r\n\x1a\n"  # how each begins
# What an export writes, beside what the run's model holds and pictures.
_WRITTEN = (
    "README.md",
    "hyperparams.yaml",
    "calibration.json",
    "results.json",
    "label_encoder.txt",
    "*.ckpt",
    "*.safetensors",
    "*_" + 12 * "[0-9a-f]" + ".py",  # ``standalone_name``
)
# What an earlier upload may have left: a calibration, say, of another model.
_OURS = ["*.ckpt", "*.safetensors", "*.json", "*.py", "pictures/*"]


def export(
    output_folder,
    model_folder,
    evaluations=(),
    attention_picture=None,
    licence=LICENCE,
    datasets=(),
    standalone=False,
    push_to=None,
):
    """Write a model folder with weights, card, thresholds and results.

    Arguments
    ---------
    output_folder : str or Path
        Of a training run. Results of verification that lie in it, or up to
        two folders down, are taken along.
    model_folder : str or Path
        Where the model goes; a model folder that was there is replaced,
        unless it holds more than an export writes.
    evaluations : sequence of str or Path
        More output folders of the verification scripts.
    attention_picture : str, Path or None
        A PNG for the card.
    licence : str
        Of the weights, by its name on the hub.
    datasets : sequence of str
        Names on the hub of what the model was trained on.
    standalone : bool
        True adds the source of the network, so that SpeechBrain alone loads
        the folder with ``foreign_class``.
    push_to : str or None
        ``user/name`` of the hub to upload to.

    Returns
    -------
    Path
        The model folder.

    Raises
    ------
    AttnError
        The run is not finished, evaluations have no results or those of
        another model, ``model_folder`` holds something else or more, the
        model does not load, or an upload fails.
    """
    run, folder = Path(output_folder), Path(model_folder).absolute()
    trained = _trained_model(run)
    _refuse_target(folder, trained)
    if push_to is not None:
        _check_repo(push_to)
    found = find_evaluations(run, evaluations)
    with writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".export-", dir=folder.parent
        ) as place:
            new = Path(place, "new", folder.name)
            _copy_folder(trained, new)
            parts = _write_parts(new, found, attention_picture, standalone)
            card = CardInput(
                source=push_to or folder.name,
                licence=licence,
                datasets=list(datasets),
                facts=run_facts(run),
                evaluations=found,
                **parts,
            )
            (new / "README.md").write_text(model_card(card), encoding="utf-8")
            replace_folder(folder, new, Path(place, "old"))
    if push_to is not None:
        push(folder, push_to)
    return folder


def push(folder, repo_id):
    """Upload a model folder to the hub, in the place of an earlier model.

    Arguments
    ---------
    folder : str or Path
    repo_id : str
        ``user/name``; made if need be. The address of the hub and the token
        are those of huggingface_hub's settings.

    Raises
    ------
    AttnError
        The name is no such name, or the hub refuses or cannot be reached.
    """
    _check_repo(repo_id)
    try:
        api = HfApi(library_name="speechbrain_attn")
        api.create_repo(repo_id, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            commit_message="Upload a speaker embedding model",
            delete_patterns=_OURS,
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise AttnError(
            f"{repo_id}: not uploaded ({reason}). The model is in {folder}; "
            "log in with `hf auth login`, or look at the name and the network."
        ) from None


def _check_repo(repo_id):
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo_id):
        raise AttnError(f"push_to={repo_id!r}: want user/name.")


def _trained_model(run):
    trained = run / "model"
    if not (trained / "hyperparams.yaml").is_file():
        what = "holds no trained model" if run.is_dir() else "folder not found"
        raise AttnError(
            f"{run}: {what}. Give the output_folder of a training that has "
            "come to its end, which writes <output_folder>/model."
        )
    return trained


def _refuse_target(folder, trained):
    """Raise where the model would replace something else."""
    if folder.resolve() == trained.resolve():
        raise AttnError(
            f"{folder}: is the run's own model; choose another folder."
        )
    if folder.resolve() in trained.resolve().parents:
        raise AttnError(f"{folder}: holds the run; choose another folder.")
    if folder.exists() and not _is_model_folder(folder):
        raise AttnError(
            f"{folder}: is there already and is no model folder, so it is not "
            "replaced; choose another, or remove it."
        )
    for path in _files(folder):
        name = path.relative_to(folder).as_posix()
        if not _is_written(name) and not (trained / name).exists():
            raise AttnError(
                f"{folder}: holds {name}, which no export writes and which "
                "would be lost. Move it out, or choose another folder and "
                "copy its files here."
            )


def _is_written(name):
    """Whether an export may have written a file, by its path in the folder."""
    place, _, file = name.rpartition("/")
    patterns = {"": _WRITTEN, "pictures": ["*.png"]}.get(place, ())
    return any(fnmatchcase(file, pattern) for pattern in patterns)


def _files(folder):
    """Files below a folder, and what else there is but folders; sorted."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    ]


def _copy_folder(source, target):
    try:
        shutil.copytree(source, target)
    except shutil.Error as error:
        # It lists what it could not copy: (from, to, why).
        _, _, reason = error.args[0][0]
        raise OSError(reason) from None


def _is_model_folder(folder):
    """Whether it is one, and no run's: those hold a hyperparams.yaml, too."""
    weights = any(
        (folder / f"embedding_model.{kind}").is_file()
        for kind in ("ckpt", "safetensors")
    )
    return weights and (folder / "hyperparams.yaml").is_file()


def _write_parts(folder, evaluations, attention_picture, standalone):
    """Complete a copy of the run's model; what its card says of the parts."""
    _write_safetensors(folder)
    _write_results(folder, evaluations)
    parts = {
        "attention_picture": _copy_attention(folder, attention_picture),
        "pictures": _copy_pictures(folder, evaluations),
        "calibration": _copy_calibration(folder, evaluations),
        "standalone": _write_standalone(folder) if standalone else None,
    }
    # Strictly, so that nobody else is the first to find what is missing. The
    # run's own YAML may name classes of its user's.
    model = load(folder, trust=True, device="cpu")
    model.own_calibration()
    for one in evaluations:
        _refuse_other_model(one, model.sha256)
    return parts | {
        "network": model.mods.embedding_model,
        "sample_rate": model.sample_rate,
    }


def _refuse_other_model(evaluation, sha256):
    """Raise for results that say that another model made them."""
    settings = evaluation.results.get("conditions", {}).get("settings", {})
    other = settings.get("model_sha256")
    if other not in (None, sha256):
        raise AttnError(
            f"{evaluation.folder}: holds results of another model, or of what "
            f"another version made of it (sha256 {other[:12]}, and this one "
            f"has {sha256[:12]}). Score the list with this model, or leave or "
            "move the folder out."
        )


def _write_safetensors(folder):
    """Write ``x.safetensors`` beside each ``x.ckpt`` that holds weights."""
    for path in sorted(folder.glob("*.ckpt")):
        if path.stem == "label_encoder":  # text, by the host's naming
            continue
        tensors = {
            name: torch.as_tensor(value).contiguous().clone()
            for name, value in read_values(str(path)).items()
        }
        # The classifier of a network that is trained on its embeddings
        # themselves has none.
        if tensors:
            # Not save_file, whose files nobody but their owner can read.
            path.with_suffix(".safetensors").write_bytes(
                save(tensors, {"format": "pt"})
            )


def _write_standalone(folder):
    """Write the network's source beside its YAML; returns the file's name."""
    text = (folder / "hyperparams.yaml").read_text(encoding="utf-8")
    names = set(re.findall(r"!(?:new|name):([\w.]+)", text))
    source = standalone_module(names)
    network = re.search(r"^embedding_model: !new:([\w.]+)\.\w+", text, re.M)
    name = standalone_name(network[1].rpartition(".")[2], source)
    (folder / name).write_text(source, encoding="utf-8")
    return name


def _copy_attention(folder, path):
    """Copy the picture of the attention; returns its name for the card."""
    if path is None:
        return None
    if not os.path.isfile(path):
        raise AttnError(f"{path}: no such picture.")
    with open(path, "rb") as file:
        if file.read(len(_PNG)) != _PNG:
            raise AttnError(
                f"{path}: is no PNG. `speechbrain-attn attend RECORDING "
                "--output PICTURE.png` draws one."
            )
    return _copy_picture(folder, path, "attention.png")


def _copy_pictures(folder, evaluations):
    """Copy those of all lists; {list and scoring: {kind: file}} of the card."""
    copied = {}
    for one in evaluations:
        scoring = one.results["scoring"]
        title = f"{one.name}, {TITLES[scoring]}"
        for kind, file in one.results.get("pictures", {}).items():
            path = one.folder / Path(file).with_suffix(".png")
            if path.is_file():
                name = f"{one.name}_{scoring}_{path.name}"
                copied.setdefault(title, {})[kind] = _copy_picture(
                    folder, path, name
                )
    return copied


def _copy_picture(folder, path, name):
    (folder / "pictures").mkdir(exist_ok=True)
    shutil.copyfile(path, folder / "pictures" / name)
    return f"pictures/{name}"


def _copy_calibration(folder, evaluations):
    """Copy the calibration of cosine scores; None where there is none."""
    paths = [
        one.folder / "calibration.json"
        for one in evaluations
        if one.results["scoring"] == "cosine"
    ]
    found = {path: Calibration.load(path) for path in paths if path.exists()}
    if not found:
        return None
    first, *others = found.values()
    if any(other != first for other in others):
        raise AttnError(
            f"calibration: {' and '.join(map(str, found))} differ; leave the "
            "folder of all but one out."
        )
    first.save(folder / "calibration.json")
    return first


def _write_results(folder, evaluations):
    """Write the results of all lists as a list, without anyone's paths."""
    if not evaluations:
        return
    cleaned = []
    for one in evaluations:
        results = {**one.results, "trial_list": one.name}
        conditions = dict(results.get("conditions", {}))
        if "model" in conditions:
            conditions["model"] = folder.name
        results["conditions"] = conditions
        if "compared_with" in results:
            results["compared_with"] = Path(results["compared_with"]).name
        results.pop("pictures", None)
        cleaned.append(results)
    text = json.dumps(cleaned, indent=2) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
