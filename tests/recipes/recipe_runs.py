"""Ways to run the recipe's scripts as a user does."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "VoxCeleb"


def options(overrides):
    """Command-line words of a dict of overrides; a flag has the value True."""
    return [
        f"--{key}" if value is True else f"--{key}={value}"
        for key, value in overrides.items()
    ]


def run(*words, cwd=RECIPE, **environment):
    """Run Python on words; returns the finished process with its output."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "default", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def run_many(script, command_lines, cwd=RECIPE):
    """Run a script with several command lines in one process.

    Most of the time of a tiny run goes into imports. Returns pairs (exit
    code, what it wrote on stderr).
    """
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "recipes" / "run_many.py"],
        input=json.dumps(
            [[str(script), *map(str, words)] for words in command_lines]
        ),
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    return json.loads(done.stdout.splitlines()[-1])
