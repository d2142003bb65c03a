"""Processes that change a registry at once, or are killed, lose nothing."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from registry_runs import MODEL, utterances

from speechbrain_attn.errors import AttnError
from speechbrain_attn.inference.registry import Registry
from speechbrain_attn.inference.registry_file import FILE
from speechbrain_attn.inference.voice_index import ExactSearch

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("registry_runs.py")


def start(folder, writer, count):
    return subprocess.Popen(
        [sys.executable, DRIVER, folder, writer, str(count)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


def assert_sound(folder):
    """Whole speakers only, and a file without faults."""
    with Registry.open(folder, MODEL) as registry:
        assert {count for _, count in registry.speakers()} <= {2}
        names, _, voices = registry.voices_of(registry.ids())
        for name, voice in zip(names, voices, strict=True):
            rows = utterances(name)
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            mean = rows.mean(0) / np.linalg.norm(rows.mean(0))
            np.testing.assert_allclose(voice, mean, atol=1e-6)
    database = sqlite3.connect(folder / FILE)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
    return set(names)


def test_two_writers_and_a_reader(tmp_path):
    """Both make the registry, too: neither was there first."""
    count = 300
    writers = [start(tmp_path, name, count) for name in "ab"]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        try:
            with Registry.open(tmp_path) as registry:
                speakers = registry.speakers()
                assert {number for _, number in speakers} <= {2}
                assert len(speakers) >= seen
                seen = len(speakers)
                if seen:
                    query = utterances(speakers[-1].name)
                    (first, *_), _ = ExactSearch(registry).search(query)
                    assert first.cosine > 0.9
        except AttnError as error:
            assert "holds no registry" in str(error) and not seen
        time.sleep(0.01)
    for writer in writers:
        output, _ = writer.communicate()
        assert writer.returncode == 0
        assert output.split() == [str(number) for number in range(count)]
    assert assert_sound(tmp_path) == {
        f"{name}-{number}" for name in "ab" for number in range(count)
    }


@pytest.mark.parametrize("delay_ms", [0, 1, 3, 7])
def test_what_was_said_to_be_done_outlives_a_kill(tmp_path, delay_ms):
    with start(tmp_path, "a", 100_000) as process:
        done = [process.stdout.readline().strip() for _ in range(9)]
        time.sleep(delay_ms / 1000)
        process.send_signal(signal.SIGKILL)
        done += process.stdout.read().split("\n")[:-1]
    names = assert_sound(tmp_path)
    said = {f"a-{number}" for number in done}
    # One more may have been done and not said.
    assert len(said) >= 9 and said <= names and len(names - said) <= 1
    # The next writer needs to mend nothing.
    with start(tmp_path, "b", 1) as process:
        assert process.stdout.read() == "0\n"
    assert assert_sound(tmp_path) == names | {"b-0"}


def test_a_kill_in_the_midst_of_a_change_undoes_it(tmp_path):
    """The journal of a change on disk, of which only a part is written."""
    code = (
        "import sys, os, registry_runs as r\n"
        "from speechbrain_attn.inference.registry import Registry\n"
        "with Registry.create(sys.argv[1], r.MODEL, r.SIZE) as registry:\n"
        "    registry.add(['a'] * 2, r.utterances('a'))\n"
        # A cache of no pages: all goes to the file before the change is done.
        "    registry._database.execute('PRAGMA cache_size = 1')\n"
        "    with registry._changing() as revision:\n"
        "        for number in range(2000):\n"
        "            rows = r.utterances(str(number))\n"
        "            registry._add_to(str(number), rows, revision)\n"
        "        registry._database.execute('DELETE FROM speakers')\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    path = os.pathsep.join([str(ROOT), str(DRIVER.parent)])
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == -signal.SIGKILL
    # Control: it was a kill within the change, which has left its journal.
    assert (tmp_path / f"{FILE}-journal").stat().st_size > 0
    assert (tmp_path / FILE).stat().st_size > 100_000
    assert assert_sound(tmp_path) == {"a"}
