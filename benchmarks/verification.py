"""Every way of scoring, on the lists of real speech, with one trained model.

    python benchmarks/verification.py --run RUN --data DATA --lists LISTS

RUN is the output folder of a training that had ``veri_test.txt`` of LISTS as
``verification_file`` and ``veri_dev.txt`` as ``validation_file``; its training
utterances are the cohort, and the back end is trained on them. Calibration and
fusion are fitted on ``veri_dev.txt``. ``--write`` writes the page.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from pages import conditions, write_page

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "VoxCeleb"
LISTS = ("veri_test", "veri_test_hard", "veri_test_short", "veri_test_chapter")
INTRODUCTION = """# Scoring on real speech

One trained model, scored by cosine, with cohorts, by LDA and PLDA, and by a
fusion of scores and qualities, by `speaker_verification_plda.py`. Calibration
and fusion are fitted on development speakers who are neither in the training
nor in these lists; nothing is chosen on them. The figures say how the ways of
scoring compare on a small model and a small corpus, not how good they get.
"""


def section(text):
    """``results.md`` up to its thresholds, one heading lower."""
    text = text.split("\n## Thresholds")[0].split("\n## Notes")[0]
    lines = text.split("\n## Pictures")[0].rstrip().splitlines()
    return [f"#{line}" if line.startswith("#") else line for line in lines]


def main():
    """Score, print and, if asked to, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--run", required=True, type=Path, help="output folder of a training")
    add("--data", required=True, type=Path, help="corpus")
    add("--lists", required=True, type=Path, help="folder of trial lists")
    add("--output", type=Path, default=Path("results/benchmark_verification"))
    add("--write", action="store_true", help="write the page")
    options = parser.parse_args()
    lines = []
    for name in LISTS:
        output = (options.output / name).resolve()
        command = [
            sys.executable,
            RECIPE / "speaker_verification_plda.py",
            RECIPE / "hparams" / "verification_model.yaml",
            f"--data_folder={options.data.resolve()}",
            f"--verification_file={options.lists.resolve() / name}.txt",
            f"--development_file={options.lists.resolve()}/veri_dev.txt",
            f"--cohort={options.run.resolve()}/save/train.csv",
            f"--pretrain_path={options.run.resolve()}/model",
            f"--output_folder={output}",
            f"--embeddings_folder={output.parent}/stores",
            "--device=cpu",
        ]
        subprocess.run(command, check=True)
        lines += [*section((output / "results.md").read_text()), ""]
    lines.append(conditions())
    print("\n".join(lines))
    if options.write:
        write_page("verification", INTRODUCTION, lines)


if __name__ == "__main__":
    main()
