#!/usr/bin/env python3
"""Write a corpus as tar shards, to train from instead of loose files.

    python make_shards.py /path/to/VoxCeleb /path/to/shards
    python make_shards.py results/serialized_mha/save/train.csv shards

The first argument is a VoxCeleb-like tree (several joined by commas) or a
manifest. Every script takes the folder of shards as its ``data_folder``.
After a kill the same command goes on: shards that are there are whole.
Files that cannot be read are left out; ``left_out.csv`` says why.
"""

import argparse

from speechbrain_attn.dataio.shard_writing import (
    AUDIO_FORMS,
    ShardOptions,
    write_shards,
)
from speechbrain_attn.errors import exit_on_error


def _parse(arguments):
    parser = argparse.ArgumentParser(
        description="Write a corpus as tar shards.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("source", help='VoxCeleb-like tree (several as "a,b") or manifest')
    add("folder", help="where the shards go")
    add(
        "--audio",
        choices=AUDIO_FORMS,
        default="original",
        help="the files' own bytes, or mono 16 kHz 16-bit flac",
    )
    add(
        "--shard-megabytes",
        type=float,
        default=1000,
        help="of source files in a shard",
    )
    add("--threads", type=int, help="shards at a time; default: all cores")
    return parser.parse_args(arguments)


@exit_on_error
def main(arguments=None):
    """Write the shards and say what was done."""
    given = _parse(arguments)
    options = ShardOptions(
        source=given.source,
        folder=given.folder,
        audio=given.audio,
        shard_megabytes=given.shard_megabytes,
        num_threads=given.threads,
    )
    for sentence in write_shards(options):
        print(sentence)


if __name__ == "__main__":
    main()
