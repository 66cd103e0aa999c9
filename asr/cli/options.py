"""Options that several commands share."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from asr.transcriber import Transcriber

BATCH_SECONDS = 60.0  # as in asr.transcriber, which is slow to import

Model = Annotated[
    Path | None, typer.Option("--model", "-m", help="Model bundle; the packaged one if not given.")
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, cuda:1 …; a GPU is used where there is one if not given."),
]
BatchSeconds = Annotated[
    float, typer.Option(min=1, help="Most audio in a batch, padding included, in seconds.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]

Method = Annotated[
    Literal["greedy", "beam", "fusion"] | None,
    typer.Option(
        "--decoder",
        help="greedy is fastest; beam uses the language model, fusion a character model alone. As"
        " stored with the model if not given.",
        show_default=False,
    ),
]
LanguageModel = Annotated[
    Path | None,
    typer.Option(
        "--lm",
        help="ARPA file, plain or .gz, or KenLM's binary; the model's own if not given.",
    ),
]
Lexicon = Annotated[
    Path | None,
    typer.Option(help="Words to use, one a line; all of the language model if not given."),
]
LmWeight = Annotated[
    float | None, typer.Option(help="Weight of the language model.", show_default=False)
]
WordScore = Annotated[
    float | None,
    typer.Option(help="Added for each word; higher for more words.", show_default=False),
]
CharLm = Annotated[
    Path | None,
    typer.Option(
        help="Character model, or a model with one: rescores the best texts of the beam; the "
        "model's own if not given."
    ),
]
CharLmWeight = Annotated[
    float | None,
    typer.Option(min=0, help="Weight of the character model; 0 for none.", show_default=False),
]
CharScore = Annotated[
    float | None,
    typer.Option(help="Added for each character, beside a character model.", show_default=False),
]
BeamWidth = Annotated[
    int | None, typer.Option(min=1, help="Prefixes kept while searching.", show_default=False)
]
Hotwords = Annotated[
    str | None,
    typer.Option(
        metavar="WORDS|@FILE",
        help='Words and phrases to favour: "Avonlea,Marilla", or @ and a file, one a line.',
    ),
]
HotwordScore = Annotated[
    float | None, typer.Option(help="How much hotwords are favoured.", show_default=False)
]


# One option for two settings, of which a decoder uses but its own.
IN_FUSION = {
    "beam_width": "fusion_width",
    "char_lm_weight": "fusion_weight",
    "char_score": "fusion_score",
}


def load_transcriber(
    model: Path | None,
    device: str | None,
    *,
    language_model: Path | None,
    character_model: Path | None,
    lexicon: Path | None,
    hotwords: str | None,
    **settings: Any,
) -> "Transcriber":
    """Load a model with the decoder settings that were given; ``None`` stands for the model's."""
    from asr.archive import Archive, packaged_model
    from asr.memory import paused_collection

    given = {name: value for name, value in settings.items() if value is not None}
    given |= {IN_FUSION[name]: value for name, value in given.items() if name in IN_FUSION}
    archive = Archive(model or packaged_model())  # is read while torch is imported
    with paused_collection():  # which makes many objects that stay, too
        from asr.transcriber import Transcriber

        transcriber = Transcriber.load(
            archive,
            device,
            language_model=language_model,
            character_model=character_model,
            lexicon=lexicon,
            hotwords=_hotwords(hotwords),
            **given,
        )
        gc.freeze()
    return transcriber


def _hotwords(value: str | None) -> list[str]:
    """Return the phrases of ``A,B`` or, one a line, of ``@FILE``."""
    from asr.errors import ConfigError, reason_of

    if value is None:
        return []
    if value.startswith("@"):
        try:
            phrases = Path(value[1:]).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_of(error)
            raise ConfigError(f"{value[1:]}: cannot read these hotwords: {reason}") from error
    else:
        phrases = value.split(",")
    if not (found := [phrase.strip() for phrase in phrases if phrase.strip()]):
        raise ConfigError(f"--hotwords {value!r} names no word; give one, or leave the option out")
    return found
