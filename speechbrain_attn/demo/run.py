"""The whole way on one command: train, score, load, verify two files.

    python -m speechbrain_attn.demo.run --system serialized_mha

makes a small corpus of synthetic voices and runs the recipe's own scripts on
it. With ``--data FOLDER --trials LIST`` it runs on real recordings in
VoxCeleb's layout and adds the figures to a results page. Options that are not
listed by ``--help`` go to the training script (``--number_of_epochs=3``).
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from speechbrain_attn.dataio.listed import listed_speakers
from speechbrain_attn.dataio.tree import find_utterances
from speechbrain_attn.dataio.trials import trials_from_file
from speechbrain_attn.demo.report import (
    describe_machine,
    load_and_verify,
    print_table,
    read_results,
    training_data,
    versions,
)
from speechbrain_attn.demo.results import add_records
from speechbrain_attn.errors import AttnError, exit_on_error

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "VoxCeleb"
PROG = "python -m speechbrain_attn.demo.run"
OUTPUT = "demo_output"  # the command line looks there for a model
SYSTEMS = (
    "self_attentive_tdnn",
    "self_attentive_tdnn_aam",
    "ge2e_lstm",
    "double_mha",
    "serialized_mha",
)
_SYNTHETIC = (
    "The voices are SYNTHETIC (espeak-ng): this run shows that every step "
    "works.\nIts error rates say nothing about real speech."
)


@dataclass(frozen=True)
class Plan:
    """What one run does; all paths are absolute.

    Attributes
    ----------
    system : str
        One of ``SYSTEMS``.
    data : Path
        Recordings in VoxCeleb's layout.
    data_name : str
        How tables call them.
    trials : list of Path
        Lists to test on; training leaves out the speakers of the first.
    validation : Path or None
        Trial list of held-back speakers.
    hparams : Path
        Training YAML.
    seed : int
    overrides : list of str
        More arguments of the training script.
    folder : Path
        Where all that the run makes lies.
    """

    system: str
    data: Path
    data_name: str
    trials: list
    validation: Path | None
    hparams: Path
    seed: int
    overrides: list
    folder: Path

    def held_back(self):
        """Speakers that training does not hear."""
        lists = filter(None, (self.trials[0], self.validation))
        return set().union(*map(_speakers, lists))

    def settings(self):
        """What may not change while the folder is the same."""
        return {
            "data": str(self.data),
            "trials": str(self.trials[0]),
            "validation": str(self.validation),
            "hparams": str(self.hparams),
            "seed": self.seed,
            "overrides": self.overrides,
        }


def parse_options(arguments=None, prog=PROG):
    """Command line of this file, and what is left for the training script."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Train, score and load one system.",
        allow_abbrev=False,  # --train... belongs to the training script
    )
    add = parser.add_argument
    add("--system", default="serialized_mha", choices=SYSTEMS)
    add(
        "--data",
        help="recordings, <speaker>/<session>/<utterance>.wav; "
        "without it, synthetic voices are made",
    )
    add("--data-name", help="how the results page calls the data")
    add("--trials", help="trial list for testing; needed with --data")
    add("--validation", help="trial list of held-back speakers")
    add("--lists", nargs="+", default=[], help="more lists for testing")
    add("--hparams", help="training YAML instead of the system's own")
    add("--output", default=OUTPUT, help="default: %(default)s")
    add("--page", help="results page for --data; default: in the output")
    add("--seed", type=int, default=1234, help="default: %(default)s")
    options, overrides = parser.parse_known_args(arguments)
    if bool(options.data) != bool(options.trials):
        raise AttnError(
            "--data and --trials go together: recordings and a list of "
            "trials among them. Without both, synthetic voices are made."
        )
    return options, overrides


def _wants_validation(hparams):
    """Whether a YAML must be given a list of held-back speakers."""
    if not hparams.exists():
        return False  # training says so
    line = re.compile(r"^validation_file: !PLACEHOLDER", re.MULTILINE)
    return line.search(hparams.read_text(encoding="utf-8")) is not None


def make_plan(options, overrides):
    """Fill in what the options leave open; make the voices if asked to."""
    output = Path(options.output).resolve()
    own_yaml = ROOT / "hparams" / "demo" / f"{options.system}.yaml"
    hparams = Path(options.hparams or own_yaml).resolve()
    if options.data:
        data = Path(options.data).resolve()
        name, trials = data.name, [options.trials, *options.lists]
        data_name = options.data_name or name
        validation = options.validation
        if not validation and _wants_validation(hparams):
            raise AttnError(
                f"{hparams.name} keeps what is best on a list of held-back "
                "speakers: add --validation list.txt (make demo: VALIDATION=)."
            )
    else:
        # Here, since it takes a second to import, and --help would wait.
        from speechbrain_attn.demo.voices import make_corpus

        name, data_name = "synthetic_voices", "synthetic voices"
        data = make_corpus(output / name / "corpus")
        trials = [data / "veri_test.txt"]
        validation = data / "veri_dev.txt"
    return Plan(
        system=options.system,
        data=data,
        data_name=data_name,
        trials=[Path(path).resolve() for path in trials],
        validation=Path(validation).resolve() if validation else None,
        hparams=hparams,
        seed=options.seed,
        overrides=overrides,
        folder=output / name / options.system,
    )


def check_speakers(plan):
    """Refuse a list whose speakers the training would not keep out."""
    held_back = plan.held_back()
    for path in plan.trials:
        unknown = sorted(_speakers(path) - held_back)
        if unknown:
            raise AttnError(
                f"{path}: speakers such as {unknown[0]} ({len(unknown)} in "
                "all) are neither in --trials nor in --validation, so that "
                "they would be trained on. Give as --trials a list of all "
                "test speakers."
            )


def _speakers(path):
    return listed_speakers(trials_from_file(path))


def run_step(title, command, log):
    """Run a command, show what it prints and keep it in a log.

    Raises
    ------
    AttnError
        It ends with an error; names the command and the log.
    """
    command = [str(part) for part in command]
    print(f"\n== {title}\n{shlex.join(command)}", flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(log, "wb") as kept,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        # As bytes, as they come: progress bars do not end their lines.
        while block := process.stdout.read1():
            kept.write(block)
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
    if process.returncode != 0:
        raise AttnError(
            f"{title} failed with exit code {process.returncode}: "
            f"{shlex.join(command)}\nWhat it said is above and in {log}."
        )


def train(plan):
    """Run the training script; give its seconds, earlier parts included.

    The training script goes on where an interrupted run stopped, so
    ``demo.json`` keeps the seconds, and what the folder was made with.
    """
    kept = plan.folder / "demo.json"
    seconds = 0.0
    if kept.exists():
        before = json.loads(kept.read_text(encoding="utf-8"))
        changed = [
            f"{key}={before['settings'][key]}, now {value}"
            for key, value in plan.settings().items()
            if before["settings"][key] != value
        ]
        if changed:
            raise AttnError(
                f"{plan.folder} holds another run: {'; '.join(changed)}. Give "
                "another --output, or delete the folder."
            )
        seconds = before["train_seconds"]
    speakers = {u.speaker for u in find_utterances(str(plan.data)).utterances}
    command = [
        sys.executable,
        RECIPE / "train_speaker_embeddings.py",
        plan.hparams,
        f"--data_folder={plan.data}",
        f"--output_folder={plan.folder}",
        f"--verification_file={plan.trials[0]}",
        f"--seed={plan.seed}",
    ]
    if "\nout_n_neurons:" in plan.hparams.read_text(encoding="utf-8"):
        command.append(f"--out_n_neurons={len(speakers - plan.held_back())}")
    if plan.validation:
        command.append(f"--validation_file={plan.validation}")
    log = plan.folder / "logs" / "train.log"
    begin = time.monotonic()
    try:
        run_step("training", [*command, *plan.overrides], log)
    finally:
        seconds += time.monotonic() - begin
        # Before the first checkpoint there is nothing to go on from, and a
        # mistyped option can be mended without another folder.
        if any((plan.folder / "save").glob("CKPT*")):
            note = {"settings": plan.settings(), "train_seconds": seconds}
            text = json.dumps(note, indent=2) + "\n"
            kept.write_text(text, encoding="utf-8")
    return seconds


def verify(plan, trials):
    """Run the verification script on one list; give its results."""
    output = plan.folder / "verification" / trials.stem
    command = [
        sys.executable,
        RECIPE / "speaker_verification_cosine.py",
        RECIPE / "hparams" / "verification_model.yaml",
        f"--data_folder={plan.data}",
        f"--verification_file={trials}",
        f"--pretrain_path={plan.folder / 'model'}",
        f"--output_folder={output}",
    ]
    log = plan.folder / "logs" / f"verification_{trials.stem}.log"
    run_step(f"verification on {trials.stem}", command, log)
    return read_results(output / "results.json")


def shown_command(plan):
    """The command as others would give it: file names without folders."""
    parts = [PROG, "--system", plan.system]
    parts += ["--data", plan.data.name, "--trials", plan.trials[0].name]
    if plan.validation:
        parts += ["--validation", plan.validation.name]
    if plan.trials[1:]:
        parts += ["--lists", *(path.name for path in plan.trials[1:])]
    parts += ["--data-name", shlex.quote(plan.data_name)]
    parts += ["--hparams", _in_repository(plan.hparams)]
    return " ".join([*parts, f"--seed {plan.seed}", *plan.overrides])


def _in_repository(path):
    """A path below the repository's root, or the name of any other file."""
    inside = path.is_relative_to(ROOT)
    return path.relative_to(ROOT).as_posix() if inside else path.name


def make_records(plan, parameters, results, seconds):
    """One record for each list, as the results page keeps them."""
    speakers, utterances, hours = training_data(plan.folder)
    common = {
        "data": plan.data_name,
        "system": plan.system,
        "parameters": parameters,
        "hparams": _in_repository(plan.hparams),
        "seed": plan.seed,
        "train_speakers": speakers,
        "train_utterances": utterances,
        "train_hours": hours,
        "train_seconds": seconds,
        "machine": describe_machine(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "command": shown_command(plan),
    }
    return [{**common, **result} for result in results]


@exit_on_error
def main(arguments=None, prog=PROG):
    """Command line of this file; ``prog`` is how its help calls it."""
    options, overrides = parse_options(arguments, prog)
    if not (RECIPE / "train_speaker_embeddings.py").exists():
        raise AttnError(
            f"{RECIPE}: no recipe there, and the demo runs its scripts. Run "
            "it in a clone of the repository, installed by `make setup`."
        )
    if not options.data:
        print(_SYNTHETIC, flush=True)
    plan = make_plan(options, overrides)
    check_speakers(plan)
    seconds = train(plan)
    results = [verify(plan, path) for path in plan.trials]
    model = plan.folder / "model"
    print("\n== the model folder in SpeechBrain", flush=True)
    parameters = load_and_verify(model, plan.data, plan.trials[0])
    records = make_records(plan, parameters, results, seconds)
    print_table(records)
    if options.data:
        page = options.page or Path(options.output) / "results.md"
        add_records(page, records)
        print(f"results page: {page}")
    else:
        print(_SYNTHETIC)
    print(f"model:        {model}")
    print(f"checkpoints:  {plan.folder / 'save'}")
    print(f"scores:       {plan.folder / 'verification'}")
    print(f"logs:         {plan.folder / 'logs'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
