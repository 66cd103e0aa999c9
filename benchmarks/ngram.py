"""Do time and memory of ``asr lm build`` grow with the text, and no faster?

Builds models of a quarter, half and all of the sentences and prints for each what the command
needed and how well the model foresees the last sentences of the first text, which it never saw.
Runs where the system tells the memory of a finished process (Linux, macOS).

    python benchmarks/ngram.py transcripts.txt.xz novels.txt.xz
"""

import argparse
import itertools
import tempfile
from pathlib import Path

from usage import usage_of

from asr.lm.arpa import read_arpa_head
from asr.lm.perplexity import measure_perplexity
from asr.lm.sentences import read_sentences

SHARES = (1, 2, 4)  # quarters


def split(texts: list[Path], held_out: int, folder: Path) -> tuple[Path, list[Path], list[int]]:
    """Write the held-out sentences and each share; return their paths, and words of the shares."""
    first, *others = texts
    head = list(read_sentences(first))
    if len(head) <= held_out:
        raise SystemExit(f"{first}: has {len(head)} sentences; hold out fewer than these")
    test = folder / "held-out.txt"
    test.write_text("".join(" ".join(words) + "\n" for words in head[-held_out:]))
    paths = [folder / f"{share}-quarters.txt" for share in SHARES]
    files = [path.open("w") for path in paths]
    words = [0] * len(SHARES)
    for number, sentence in enumerate(
        itertools.chain(head[:-held_out], *map(read_sentences, others))
    ):
        for i, share in enumerate(SHARES):
            if number % 4 < share:
                files[i].write(" ".join(sentence) + "\n")
                words[i] += len(sentence)
    for file in files:
        file.close()
    return test, paths, words


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--prune", default="0")
    parser.add_argument("--held-out", type=int, default=1000, help="last sentences of the first")
    parser.add_argument("--suffix", default=".arpa", choices=[".arpa", ".arpa.gz"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        test, paths, words = split(options.texts, options.held_out, Path(name))
        print(
            "words        n-grams    time/s  CPU/s  peak/GB  file/MB  ppl all  ppl known  unknown"
        )
        for path, count in zip(paths, words, strict=True):
            model = path.with_suffix(options.suffix)
            settings = ["--order", options.order, "--prune", options.prune]
            command = ["lm", "build", path, "--one-per-line", "-o", model, *settings]
            seconds, cpu, peak = usage_of(command)
            result = measure_perplexity(model, read_sentences(test, one_per_line=True))
            print(
                f"{count:<11,} {sum(read_arpa_head(model).counts):>11,} {seconds:>8.1f}"
                f" {cpu:>6.1f} {peak / 1e9:>8.2f} {model.stat().st_size / 1e6:>8.0f}"
                f" {result.including_unknown:>8.1f} {result.excluding_unknown:>10.1f}"
                f" {result.unknown / result.words:>8.2%}",
                flush=True,
            )
            model.unlink()


if __name__ == "__main__":
    main()
