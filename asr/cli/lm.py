"""``asr lm``: language models, built, measured and sampled."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from asr.cli.messages import step_progress
from asr.cli.options import Json
from asr.errors import ConfigError, TextError, reason_of
from asr.text import ENGLISH

if TYPE_CHECKING:
    from asr.lm.ngram import EncodedText, NgramModel
    from asr.lm.sentences import Sentence

app = typer.Typer(no_args_is_help=True, help="Build, measure and sample language models.")

Texts = Annotated[
    list[Path], typer.Argument(help="Text files, plain, .gz or .xz, and manifests (.jsonl).")
]
OnePerLine = Annotated[
    bool,
    typer.Option(
        "--one-per-line",
        help="Each line is one sentence. If not given, a file with sentence punctuation is"
        " running text, in which sentences end at . ? ! and at empty lines.",
    ),
]
Alphabet = Annotated[
    str, typer.Option(help="Characters of the recogniser, all capitals.", show_default=False)
]


class BuildCommand(TyperCommand):
    """Lets ``--prune`` take all the numbers that follow it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the numbers after ``--prune`` to one value."""
        if "--prune" in args:
            start = end = args.index("--prune") + 1
            while end < len(args) and args[end].isdecimal():
                end += 1
            if end > start:
                args = [*args[:start], " ".join(args[start:end]), *args[end:]]
        return super().parse_args(ctx, args)


@app.command(cls=BuildCommand)
def build(
    texts: Texts,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="ARPA file, compressed if it ends in .gz, or, if it ends in .klm, KenLM's binary"
            " file, which loads at once.",
        ),
    ],
    order: Annotated[int, typer.Option(help="Longest n-grams, 1 to 6.")] = 3,
    prune: Annotated[
        str,
        typer.Option(
            metavar="N…",
            help="For order 1, 2, …: leave out n-grams that occur so often or less, as 0 0 1;"
            " the last number holds for the higher orders.",
        ),
    ] = "0",
    vocab: Annotated[
        str | None,
        typer.Option(
            metavar="N|FILE",
            help="The N most frequent words, or those of a file, one a line; others are <unk>.",
        ),
    ] = None,
    one_per_line: OnePerLine = False,
    alphabet: Alphabet = ENGLISH,
) -> None:
    """Estimate an n-gram model with modified Kneser-Ney smoothing.

    Words with characters outside the alphabet, A-Z and ' if not given, such as 1842, count as <unk>
    and are reported.
    """
    from asr.atomic import check_writable
    from asr.lm.arpa import write_arpa
    from asr.lm.kenlm_binary import check_order, write_binary
    from asr.lm.ngram import encode_text, estimate, pruning_thresholds

    try:
        thresholds = [int(number) for number in prune.split()]
    except ValueError:
        raise typer.BadParameter(f"--prune takes whole numbers, not {prune!r}") from None
    pruning_thresholds(order, thresholds)  # better refused now than after the work
    binary = output.suffix == ".klm"
    if binary:
        check_order(order)
    check_writable(output)
    vocabulary = None if vocab is None else _vocabulary(vocab, alphabet)
    with step_progress("reading", _bytes(texts)) as on_progress:
        text = encode_text(_sentences(texts, one_per_line, on_progress), vocabulary, alphabet)
    _tell_text(text)
    with step_progress("counting, smoothing", 2 * order) as on_progress:
        model = estimate(text, order, thresholds, on_progress)
    _tell_model(model)
    ngrams = sum(len(order.word) for order in model.orders)
    with step_progress("writing", ngrams) as on_progress:
        (write_binary if binary else write_arpa)(output, model, on_progress)


@app.command()
def perplexity(
    model: Annotated[Path, typer.Argument(help="ARPA file, plain or .gz, or KenLM's binary.")],
    texts: Texts,
    one_per_line: OnePerLine = False,
    alphabet: Alphabet = ENGLISH,
    as_json: Json = False,
) -> None:
    """Measure how well a model foresees texts, per word, ends of sentences included."""
    from asr.lm.perplexity import measure_perplexity

    with step_progress("scoring", _bytes(texts)) as on_progress:
        sentences = _sentences(texts, one_per_line, on_progress)
        result = measure_perplexity(model, sentences, alphabet)
    if as_json:
        perplexities = {
            "perplexity_including_unknown": result.including_unknown,
            "perplexity_excluding_unknown": result.excluding_unknown,
        }
        finite = {name: x if math.isfinite(x) else None for name, x in perplexities.items()}
        typer.echo(json.dumps(asdict(result) | finite, indent=2))
        return
    share = result.unknown / max(result.words, 1)
    typer.echo(
        f"sentences                        {result.sentences:>12,}\n"
        f"words                            {result.words:>12,}\n"
        f"unknown words                    {result.unknown:>12,}  ({share:.2%})\n"
        f"perplexity with unknown words    {result.including_unknown:>12,.2f}\n"
        f"perplexity without unknown words {result.excluding_unknown:>12,.2f}"
    )


@app.command()
def sample(
    model: Annotated[
        Path, typer.Argument(help="Character model of recipes/char_lm, or a model with one.")
    ],
    prompt: Annotated[str, typer.Option(help="Begin of the text.")] = "",
    length: Annotated[int, typer.Option(min=0, help="Most characters, or pieces of words.")] = 200,
    temperature: Annotated[
        float,
        typer.Option(
            min=0,
            help="1 draws as the model expects, less prefers the likely, 0 takes the likeliest.",
        ),
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**32 - 1, help="The same seed writes the same text."),
    ] = None,
) -> None:
    """Let a character model go on with a text, until it ends it."""
    import torch

    from asr.lm.character import load_character_model
    from asr.text import normalise

    prompt = normalise(prompt)
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    written = load_character_model(model).sample(
        prompt, length=length, temperature=temperature, generator=generator
    )
    typer.echo(prompt + written)


@app.command()
def pronounce(
    dictionary: Annotated[
        Path, typer.Argument(help="Words and their phones, as CMUdict: HELLO HH AH0 L OW1.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Packed dictionary to write, .safetensors.")
    ],
    epochs: Annotated[int, typer.Option(min=1, help="How often each word is read.")] = 12,
    hidden_size: Annotated[
        int, typer.Option(min=1, max=4096, help="Units of one direction.")
    ] = 128,
    num_layers: Annotated[int, typer.Option(min=1, max=100, help="Recurrent layers.")] = 2,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the first weights.")] = 0,
) -> None:
    """Learn from a pronunciation dictionary how words sound that it lacks.

    One word in 50 is left out of the training, and tells how well the network does. The packed
    dictionary holds all words and the network.
    """
    from asr.atomic import check_writable
    from asr.letter_to_sound import train_letter_to_sound
    from asr.pronunciation import Pronunciations, error_rates, read_pronunciations

    check_writable(output)
    found = read_pronunciations(dictionary)
    names = sorted(found.words)
    held_out = {name: found.words[name] for name in names[::50]}
    taught = {name: ways for name, ways in found.words.items() if name not in held_out}
    with step_progress("reading words", epochs * len(taught)) as on_progress:
        network = train_letter_to_sound(
            taught or held_out,
            phones=found.phones,
            epochs=epochs,
            seed=seed,
            on_progress=on_progress,
            hidden_size=hidden_size,
            num_layers=num_layers,
        )
    Pronunciations(found.words, found.phones, network).save(output)
    phones, words = error_rates(network, held_out)
    _tell(
        f"{len(names):,} words, {len(found.phones)} phones; of {len(held_out):,} words that the "
        f"network did not read {words:.1%} are pronounced otherwise, {phones:.1%} of the phones"
    )


def _sentences(
    texts: list[Path], one_per_line: bool, on_progress: Callable[[int], None]
) -> "Iterator[Sentence]":
    from asr.lm.sentences import read_sentences

    found = False
    for path in texts:
        for sentence in read_sentences(path, one_per_line=one_per_line, on_progress=on_progress):
            found = True
            yield sentence
    if not found:
        raise TextError(f"{', '.join(map(str, texts))}: no word to read; give text")


def _bytes(texts: list[Path]) -> int:
    """Return the size of all texts; one that is missing is told before any is read."""
    try:
        return sum(path.stat().st_size for path in texts)
    except OSError as error:
        raise TextError(f"{error.filename}: cannot read this text: {reason_of(error)}") from error


def _vocabulary(vocab: str, alphabet: str) -> int | set[str]:
    if vocab.isdecimal():
        return int(vocab)
    from asr.lm.sentences import read_sentences

    letters = frozenset(alphabet)
    words: set[str] = set()
    for line in read_sentences(vocab, one_per_line=True):
        if len(line) != 1 or not letters.issuperset(line[0]):
            raise ConfigError(
                f"{vocab}: has the line {' '.join(line)!r}; give one word a line, in the alphabet "
                f"{alphabet!r}"
            )
        words.update(line)
    if not words:
        raise ConfigError(f"{vocab}: has no word; give one a line")
    return words


def _tell_text(text: "EncodedText") -> None:
    words = len(text.tokens) - 2 * text.sentences
    _tell(f"{words:,} words in {text.sentences:,} sentences, vocabulary {len(text.words) - 3:,}")
    if text.unknown:
        _tell(f"{text.unknown:,} words ({text.unknown / words:.2%}) are <unk>")
    if text.misspelt:
        examples = ", ".join(f"{word} ({n:,})" for word, n in text.misspelt.most_common(3))
        _tell(
            f"{text.misspelt.total():,} of them have characters outside the alphabet, such as "
            + examples
        )


def _tell_model(model: "NgramModel") -> None:
    for n, (ngrams, discounts) in enumerate(zip(model.orders, model.discounts, strict=True), 1):
        amounts = " ".join(f"{amount:.4f}" for amount in discounts)
        _tell(f"{n}-grams: {len(ngrams.word):,}, discounts {amounts}")
    for n in model.fallbacks:
        _tell(f"the text is too small to estimate discounts of {n}-grams; these are customary ones")


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
