"""Get the Free Spoken Digit Dataset, and write manifests for training, validation and test.

The recordings are downloaded unless ``--root`` holds them. Recordings 0 to 4 of each speaker and
digit are the dataset's own test part; 5 to 9 are kept from training for validation, so that the
test part need be scored only once.

    python recipes/digits/prepare.py --root data/digits

Reference: Jackson et al., "Free Spoken Digit Dataset", v1.0.10, doi:10.5281/zenodo.1342401.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from asr.audio import AUDIO_SUFFIXES, audio_duration
from asr.data.download import download, unpack
from asr.data.manifest import Utterance, write_manifest
from asr.errors import AsrError, ManifestError

NAME = "free-spoken-digit-dataset-1.0.10"
URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
RECORDINGS = 3000
WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
FILE_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<number>\d+)")
PARTS = {"test": range(0, 5), "val": range(5, 10), "train": range(10, sys.maxsize)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the manifests that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of the recordings, or where to put them",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where train.jsonl, val.jsonl and test.jsonl go (default: the root)",
    )
    options = parser.parse_args(arguments)
    try:
        recordings = find_recordings(options.root)
        for part, numbers in PARTS.items():
            manifest = (options.output or options.root) / f"{part}.jsonl"
            count = write_manifest(manifest, _utterances(recordings, numbers))
            print(f"{manifest}: {count} utterances", file=sys.stderr)
    except AsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if len(recordings) != RECORDINGS:
        print(
            f"{len(recordings)} of the dataset's {RECORDINGS} recordings; "
            "results on them are not comparable with ours",
            file=sys.stderr,
        )
    return 0


def find_recordings(root: Path) -> list[Path]:
    """Return the recordings in ``root``, in its ``recordings`` folder, or else fetched into it.

    Raises:
        DownloadError: they are not there and cannot be fetched.
        ManifestError: a recording has a name of another form.
    """
    unpacked = root / NAME
    folders = (root, root / "recordings", unpacked / NAME / "recordings")
    recordings = next(filter(None, map(_recordings_in, folders)), None)
    if recordings is None:
        archive = root / f"{NAME}.tar.gz"
        download(URL, archive, None)  # no published checksum; unpacking checks that of gzip
        unpack(archive, unpacked)
        recordings = _recordings_in(folders[-1])
    bad = [path.name for path in recordings if not FILE_NAME.fullmatch(path.stem)]
    if bad or not recordings:
        raise ManifestError(
            f"{root}: "
        )
    return recordings
