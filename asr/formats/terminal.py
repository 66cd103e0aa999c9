"""Transcripts for a terminal, with words marked that may be wrong."""

from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from asr.transcriber import Transcript

# Styles that differ without colours, too; a confidence below the number gets the style.
STYLES = ((0.5, "red underline"), (0.8, "yellow"))


def coloured(transcript: "Transcript") -> Text:
    """Return the text with words of low confidence coloured, the least sure also underlined."""
    return Text(" ").join(
        Text(word.word, style=_style(word.confidence)) for word in transcript.words
    )


def _style(confidence: float) -> str:
    return next((style for limit, style in STYLES if confidence < limit), "")
