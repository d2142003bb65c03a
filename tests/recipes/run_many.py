"""Runs a script once for each command line of a JSON list on stdin.

Prints a JSON list of [exit code, stderr] as the last line of stdout; an
exception that the script lets through counts as exit code 1.
"""

import contextlib
import io
import json
import os
import runpy
import sys
import traceback


def run(words):
    """Exit code and stderr of one run."""
    sys.argv = words
    sys.path[0] = os.path.dirname(os.path.abspath(words[0]))
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            runpy.run_path(words[0], run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
        except Exception:
            traceback.print_exc()
            code = 1
    return code, said.getvalue()


if __name__ == "__main__":
    done = [run(words) for words in json.load(sys.stdin)]
    print("\n" + json.dumps(done))
