"""``asr prepare``: make a manifest from a corpus."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Kind = Literal["librispeech", "ljspeech", "csv", "commonvoice", "kaldi", "jsonl", "deepspeech"]
SHOWN = 20  # unusable recordings named


def prepare(
    kind: Annotated[Kind, typer.Argument(help="Layout of the corpus, see above.")],
    source: Annotated[Path, typer.Argument(help="Folder or table of the corpus, see above.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Manifest to write.")],
    skip_unusable: Annotated[
        bool,
        typer.Option(
            "--skip-unusable",
            help="Leave out texts without recording, recordings without text, damaged ones.",
        ),
    ] = False,
) -> None:
    """Make a JSONL manifest from a corpus; every recording is measured.

    librispeech: a folder with SPEAKER/CHAPTER/*.trans.txt below it and the audio beside

    ljspeech: a folder with metadata.csv (id|text) and wavs/

    csv: a table with a header: audio_filepath (or path, file …) and text (or sentence …)

    commonvoice: a list such as train.tsv, with clips/ beside it

    kaldi: a data directory with wav.scp and text

    jsonl: a manifest with NeMo's keys audio_filepath, duration, text

    deepspeech: a manifest of deepspeech.pytorch, JSON or CSV, with its wav and txt files
    """
    from asr.atomic import check_writable
    from asr.data.corpora import read_corpus
    from asr.data.manifest import write_manifest
    from asr.errors import ManifestError

    check_writable(output)
    corpus = read_corpus(kind, source, progress=True)
    for line in corpus.unusable[:SHOWN]:
        typer.echo(line, err=True)
    if corpus.unusable:
        count = f"{len(corpus.unusable)} of {len(corpus.utterances) + len(corpus.unusable)}"
        typer.echo(f"{source}: {count} recordings are unusable", err=True)
        if not (skip_unusable and corpus.utterances):
            advice = "" if skip_unusable else " or leave them out with --skip-unusable"
            raise ManifestError(f"{source}: no manifest written; mend the recordings above{advice}")
    write_manifest(output, corpus.utterances)
    hours = sum(utterance.duration for utterance in corpus.utterances) / 3600
    typer.echo(f"{output}: {len(corpus.utterances)} utterances, {hours:.2f} hours")
