"""All formats by the names that the command line offers."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from asr.formats.cues import CueRules
from asr.formats.plain import to_json, to_jsonl, to_txt
from asr.formats.subtitles import to_srt, to_vtt
from asr.formats.tables import to_ctm, to_tsv
from asr.formats.textgrid import to_textgrid

if TYPE_CHECKING:
    from asr.transcriber import Transcript

Format = Literal["txt", "json", "jsonl", "srt", "vtt", "tsv", "ctm", "textgrid"]
FORMATS: tuple[Format, ...] = get_args(Format)
# The output of several recordings in one stream is still of this format.
JOINABLE: frozenset[Format] = frozenset({"txt", "jsonl", "ctm"})

Renderer: TypeAlias = "Callable[[Transcript], str]"


def renderers(rules: CueRules = CueRules()) -> dict[Format, Renderer]:  # noqa: B008 (frozen)
    """Return the function of each format: a transcript to the whole content of a file.

    Args:
        rules: how subtitles are cut; the other formats have no use for them.
    """
    return {
        "txt": to_txt,
        "json": to_json,
        "jsonl": to_jsonl,
        "srt": partial(to_srt, rules=rules),
        "vtt": partial(to_vtt, rules=rules),
        "tsv": to_tsv,
        "ctm": to_ctm,
        "textgrid": to_textgrid,
    }


def suffix(format: Format) -> str:
    """Return the suffix that files of a format have, with its dot."""
    return ".TextGrid" if format == "textgrid" else f".{format}"
