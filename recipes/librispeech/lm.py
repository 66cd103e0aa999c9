r"""Get LibriSpeech's official language models and lexicon, to be used as they come.

    python recipes/librispeech/lm.py --output data/lm --files 3-gram.pruned.1e-7 lexicon
    asr lm tune data/manifests/dev-clean-2.jsonl --model runs/mini/model.asr \
        --pronunciations asr/assets/english.asr \
        --lm data/lm/3-gram.pruned.1e-7.arpa.gz -o mini-lm.asr

Run it again at any time: what is there is skipped, what was interrupted goes on. The server
publishes no checksums: sizes are compared while fetching, and the compressed files carry checksums
of their own, which are verified when a model is loaded.

Reference: Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain audio books".
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asr.data.download import download
from asr.errors import AsrError

BASE_URL = "https://www.openslr.org/resources/11"
FILES = {
    "3-gram.pruned.3e-7": "3-gram.pruned.3e-7.arpa.gz",
    "3-gram.pruned.1e-7": "3-gram.pruned.1e-7.arpa.gz",
    "3-gram": "3-gram.arpa.gz",
    "4-gram": "4-gram.arpa.gz",
    "lexicon": "librispeech-lexicon.txt",
    "vocabulary": "librispeech-vocab.txt",
    "text": "librispeech-lm-norm.txt.gz",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the files named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=Path("data/lm"), metavar="DIR", help="where the files go"
    )
    parser.add_argument(
        "--files",
        nargs="+",
        choices=FILES,
        default=["3-gram.pruned.1e-7", "lexicon"],
        metavar="NAME",
        help=f"any of {', '.join(FILES)} (default: 3-gram.pruned.1e-7 lexicon)",
    )
    parser.add_argument("--base-url", default=BASE_URL, metavar="URL", help="a mirror's address")
    options = parser.parse_args(arguments)
    try:
        for name in options.files:
            path = options.output / FILES[name]
            download(f"{options.base_url}/{FILES[name]}", path, None)
            print(path)
    except AsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
