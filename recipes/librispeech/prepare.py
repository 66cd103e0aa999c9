"""Get LibriSpeech: download, verify, unpack, and write one manifest for each subset.

Run it again at any time: what is done is skipped, what was interrupted goes on. On a tree that is
unpacked already nothing is downloaded; its audio may have another suffix than .flac.

    python recipes/librispeech/prepare.py --root data --subsets train-clean-5 dev-clean-2

Reference: Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain audio books".
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.cli.prepare import prepare
from asr.data.download import download, unpack
from asr.data.manifest import iter_manifest
from asr.errors import AsrError, ManifestError

BASE_URL = "https://www.openslr.org/resources"


@dataclass(frozen=True, slots=True)
class Subset:
    """One archive of the corpus.

    Attributes:
        resource: number at openslr.org.
        checksum: of the archive.
        utterances: how many it holds.
    """

    resource: int
    checksum: str
    utterances: int


# SHA-256 as in torchaudio.datasets.LIBRISPEECH, MD5 as in md5sum.txt of resource 31.
SUBSETS = {
    "train-clean-5": Subset(31, "md5:5df7d4e78065366204ca6845bb08f490", 1519),
    "dev-clean-2": Subset(31, "md5:6d7ab67ac6a1d2c993d050e16d61080d", 1089),
    "dev-clean": Subset(
        12, "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3", 2703
    ),
    "dev-other": Subset(
        12, "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365", 2864
    ),
    "test-clean": Subset(
        12, "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23", 2620
    ),
    "test-other": Subset(
        12, "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29", 2939
    ),
    "train-clean-100": Subset(
        12, "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2", 28539
    ),
    "train-clean-360": Subset(
        12, "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf", 104014
    ),
    "train-other-500": Subset(
        12, "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2", 148688
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Prepare the subsets named on the command line; return the exit code."""
    options = _parser().parse_args(arguments)
    corpus = _corpus_folder(options.root)
    try:
        for subset in options.subsets:
            _fetch(subset, corpus, options.base_url, options.remove_archives)
            manifest = (options.output or options.root) / f"{subset}.jsonl"
            _write_manifest(subset, corpus, manifest, options.skip_unusable)
    except AsrError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
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
        help="the LibriSpeech folder, or the folder that holds it or shall hold it",
    )
    parser.add_argument(
        "--subsets",
        nargs="+",
        choices=SUBSETS,
        default=["train-clean-5", "dev-clean-2"],
        metavar="NAME",
        help=f"any of {', '.join(SUBSETS)} (default: train-clean-5 dev-clean-2)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the manifests NAME.jsonl go (default: the root)",
    )
    parser.add_argument(
        "--base-url",
        default=BASE_URL,
        metavar="URL",
        help="a mirror of %(default)s, for example https://us.openslr.org/resources",
    )
    parser.add_argument(
        "--remove-archives",
        action="store_true",
        help="delete each archive once it is unpacked; this halves the space needed",
    )
    parser.add_argument(
        "--skip-unusable",
        action="store_true",
        help="leave out recordings without text, texts without recording, and damaged files",
    )
    return parser


def _corpus_folder(root: Path) -> Path:
    """Return the LibriSpeech folder, whether ``root`` is it or holds it."""
    is_corpus = root.name == "LibriSpeech" or any((root / subset).is_dir() for subset in SUBSETS)
    return root if is_corpus else root / "LibriSpeech"


def _fetch(subset: str, corpus: Path, base_url: str, remove_archive: bool) -> None:
    """Download and unpack a subset; its folder appears last, when all of it is there."""
    if (corpus / subset).is_dir():
        _say(f"{subset}: unpacked already in {corpus / subset}")
        return
    archive = corpus / f"{subset}.tar.gz"
    unpacked = corpus / f"{subset}.unpacked"
    if not unpacked.is_dir():
        url = f"{base_url.rstrip('/')}/{SUBSETS[subset].resource}/{subset}.tar.gz"
        if archive.exists():
            _say(f"{subset}: downloaded already, {archive}")
        download(url, archive, SUBSETS[subset].checksum)
        unpack(archive, unpacked)
    # The archives hold LibriSpeech/ with the subset and the same few files about the corpus.
    content = unpacked / "LibriSpeech"
    if not (content / subset).is_dir():
        shutil.rmtree(unpacked)
        raise ManifestError(f"{archive}: holds no LibriSpeech/{subset}; remove it and run again")
    for file in list(content.iterdir()):
        if file.is_file():
            file.replace(corpus / file.name)
    (content / subset).replace(corpus / subset)
    content.rmdir()
    unpacked.rmdir()
    if remove_archive:
        archive.unlink(missing_ok=True)


def _write_manifest(subset: str, corpus: Path, manifest: Path, skip_unusable: bool) -> None:
    if _is_manifest_of(manifest, corpus / subset):
        _say(f"{subset}: {manifest} is there already; remove it to make it anew")
    else:
        prepare("librispeech", corpus / subset, manifest, skip_unusable=skip_unusable)
    count = sum(1 for _ in iter_manifest(manifest))
    if count != SUBSETS[subset].utterances:
        _say(
            f"{subset}: {count} of the {SUBSETS[subset].utterances} utterances of the full set; "
            "results on it are not comparable with published ones"
        )


def _is_manifest_of(manifest: Path, folder: Path) -> bool:
    """Tell whether a manifest is there and lists recordings of this very folder."""
    if not manifest.exists():
        return False
    audio = next(iter_manifest(manifest)).audio
    return audio.resolve().is_relative_to(folder.resolve())


def _say(message: str) -> None:
    print(message, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
