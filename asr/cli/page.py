"""How the scoring commands write their web pages."""

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr import __version__

# Settings that a decoder uses, of asr.decoding.config, which is slow to import.
BEAM: tuple[str, ...] = (
    *("beam_width", "lm_weight", "word_score", "prior_weight"),
    *("unknown_score", "hotword_score"),
)
RESCORING = ("n_best", "char_lm_weight", "char_score")
FUSION = ("fusion_width", "fusion_weight", "fusion_score")

if TYPE_CHECKING:
    from asr.models.ctc import CtcModel
    from asr.scoring.bootstrap import Comparison
    from asr.scoring.report import Report
    from asr.scoring.utterances import ScoredUtterance
    from asr.transcriber import Transcriber, Transcript

    Results = tuple[Path, Sequence[ScoredUtterance]]


def write_evaluation_page(
    path: Path,
    report: "Report",
    scored: "Sequence[ScoredUtterance]",
    details: dict[str, Any],
    *,
    transcriber: "Transcriber | None" = None,
    transcripts: "Sequence[Transcript | None] | None" = None,
    media: int = 0,
) -> None:
    """Write the page of one system.

    Args:
        path: file to write.
        report: the scores.
        scored: all utterances.
        details: what ``report.json`` tells beside the scores.
        transcriber: that was used, if any.
        transcripts: what it returned.
        media: how many utterances get sound and spectrogram.
    """
    from asr.pages.report import write_report

    data = Path(details.get("manifest") or details["reference"])
    title = data.stem if data.stem != "manifest" else data.absolute().parent.name
    setting = {"Test data": str(data)}
    system, embedded = details.get("hypotheses", ""), {}
    symbols: Sequence[str] = ()
    if transcriber:
        from asr.pages.media import embed

        embedded = embed(scored, transcriber, media)
        symbols = transcriber.model.tokenizer.symbols
        system = f"{_name(details['model'])}, {transcriber.config.method}"
        setting |= {
            "Model": f"{_name(details['model'])}: {_describe_model(transcriber.model)}",
            "Decoder": _describe_decoder(transcriber),
        }
        if "rtf" in details:
            setting["Speed"] = f"{1 / details['rtf']:.1f} x real time on {details['device']}"
        if details["failures"]:
            setting["Not readable"] = f"{details['failures']} recordings, counted as empty"
    else:
        setting["Hypotheses"] = system
    write_report(
        path,
        report,
        scored,
        title=title,
        subtitle=f"{system} · {_today()}",
        setting=setting | _origin(),
        transcripts=transcripts,
        media=embedded,
        symbols=symbols,
    )


def write_comparison_page(path: Path, comparison: "Comparison", a: "Results", b: "Results") -> None:
    """Write the page of two systems, each given as its file and what it holds."""
    from asr.pages.comparison import write_comparison

    names = _distinct_names(a[0], b[0])
    setting = {"A": str(a[0]), "B": str(b[0])} | _origin()
    subtitle = f"{comparison.utterances} utterances · {_today()}"
    write_comparison(path, comparison, a[1], b[1], names=names, subtitle=subtitle, setting=setting)


def _distinct_names(a: Path, b: Path) -> tuple[str, str]:
    """Return short names of two files or folders: the last parts of their paths that differ."""
    whole = [path.with_suffix("") if path.suffix == ".jsonl" else path for path in (a, b)]
    pairs = zip(*(reversed(path.parts) for path in whole), strict=False)
    return next((pair for pair in pairs if pair[0] != pair[1]), (str(a), str(b)))


def _name(model: str) -> str:
    return "packaged model" if model == "packaged" else Path(model).name


def _describe_model(model: "CtcModel") -> str:
    encoder = model.encoder_config
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    direction = "bidirectional " if encoder.bidirectional else ""
    return (
        f"{encoder.num_layers} {direction}layers of {encoder.hidden_size} {encoder.cell} cells, "
        f"{millions:.1f} million parameters"
    )


def _describe_decoder(transcriber: "Transcriber") -> str:
    """Return the method and the settings that it uses."""
    from asr.decoding.rescoring import RescoringDecoder

    config = transcriber.config
    names = {"greedy": (), "beam": BEAM, "fusion": FUSION}[config.method]
    if isinstance(transcriber.decoder, RescoringDecoder):
        names += RESCORING
    settings = [f"{name} {getattr(config, name)}" for name in names]
    return ", ".join([config.method, *settings])


def _origin() -> dict[str, str]:
    """Return how this run was started, with what and when."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "asr")
    return {
        "Command": shlex.join([program, *sys.argv[1:]]),
        "Version": f"asr {__version__}, Python {platform.python_version()}",
        "Date": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    }


def _today() -> str:
    now = datetime.now()
    return f"{now.day} {now:%B %Y}"
