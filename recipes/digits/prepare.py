"""Get the Free Spoken Digit Dataset and write manifests for training, validation and test.

Recordings 0 to 4 of each speaker and digit are the dataset's own test part; 5 to 9 are kept out
of training for validation, so that nothing is ever tuned on the test part.

    python recipes/digits/prepare.py --root data/fsdd

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
FILE_NAME = re.compile(r"(\d)_([^_]+)_(\d+)")  # digit, speaker, number


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the manifests that the command line asks for; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        recordings = find_recordings(options.root)
        utterances = [_utterance(path) for path in recordings]
        for part in ("train", "val", "test"):
            manifest = (options.output or options.root) / f"{part}.jsonl"
            count = write_manifest(manifest, (u for u in utterances if _part(u) == part))
            _say(f"{manifest}: {count} utterances")
    except AsrError as error:
        _say(f"error: {error}")
        return 1
    if len(recordings) != RECORDINGS:
        _say(
            f"{len(recordings)} of {RECORDINGS} recordings; "
            "results on them are not comparable with those on all"
        )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder that holds the recordings, or shall hold them",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where train.jsonl, val.jsonl and test.jsonl go (default: the root)",
    )
    return parser


def find_recordings(root: Path) -> list[Path]:
    """Return the recordings in a folder; they are downloaded into it if there are none.

    Raises:
        DownloadError: they cannot be fetched or unpacked.
        ManifestError: some are not named DIGIT_SPEAKER_NUMBER.
    """
    fetched = root / "unpacked" / NAME / "recordings"
    recordings = _audio_files(root) or _audio_files(root / "recordings") or _audio_files(fetched)
    if not recordings:
        archive = root / f"{NAME}.tar.gz"
        download(URL, archive, checksum=None)  # none is published; unpacking checks gzip's own
        unpack(archive, root / "unpacked")
        recordings = _audio_files(fetched)
    unknown = [path.name for path in recordings if not FILE_NAME.fullmatch(path.stem)]
    if unknown:
        raise ManifestError(
            f"{root}: {len(unknown)} recordings are not named DIGIT_SPEAKER_NUMBER: "
            f"{', '.join(unknown[:10])}; rename or remove them"
        )
    return recordings


def _audio_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix.lower() in AUDIO_SUFFIXES)


def _utterance(recording: Path) -> Utterance:
    digit, speaker, _ = recording.stem.split("_")
    duration = audio_duration(recording)
    return Utterance(recording.stem, recording, duration, WORDS[int(digit)], speaker)


def _part(utterance: Utterance) -> str:
    number = int(utterance.id.rpartition("_")[2])
    return "test" if number < 5 else "val" if number < 10 else "train"


def _say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
