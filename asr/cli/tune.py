"""``asr lm tune``: decoder settings from validation data."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.messages import audio_progress, print_error, step_progress
from asr.cli.options import Device, Lexicon, Model
from asr.errors import AsrError, ConfigError, LanguageModelError, ManifestError, reason_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from asr.bundle import Bundle
    from asr.data.manifest import Utterance
    from asr.decoding.config import DecoderConfig
    from asr.decoding.hypothesis import Hypothesis
    from asr.decoding.pool import DecoderPool
    from asr.decoding.tuning import Trial
    from asr.lm.character import CharacterModel
    from asr.transcriber import Transcriber

SCORED_TOGETHER = 1000  # texts between two looks at the progress bar
SEARCHED = ("lm_weight", "word_score", "prior_weight", "unknown_score", "beam_width")


def tune(
    manifest: Annotated[
        Path, typer.Argument(help="JSONL manifest of validation data, never of test data.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Model bundle to write, with settings and LM.")
    ],
    model: Model = None,
    lm: Annotated[
        Path | None,
        typer.Option(
            help="ARPA file, plain or .gz, or KenLM's binary; the model's own if not given."
        ),
    ] = None,
    char_lm: Annotated[
        Path | None,
        typer.Option(
            help="Character model, or a model with one, to rescore with; the model's own if not "
            "given."
        ),
    ] = None,
    lexicon: Lexicon = None,
    pronunciations: Annotated[
        Path | None,
        typer.Option(
            help="Dictionary, or a model that holds one, to search words by their sound; the "
            "model's own if not given."
        ),
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the beam's settings; find the character model's.")
    ] = False,
    n_best: Annotated[
        int | None,
        typer.Option(
            min=1, help="Texts of the beam to rescore; as stored with the model if not given."
        ),
    ] = None,
    beam_width: Annotated[
        int | None,
        typer.Option(
            min=1, help="Widest beam to try; 400, or as the model has it if that is wider."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture of the word error rates, PNG or SVG.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per processor if not given.")
    ] = None,
    device: Device = None,
) -> None:
    """Find the settings of the beam that make the fewest errors, and store them with the model.

    Recordings are recognised once; each trial only decodes: many with a narrow beam and the n-grams
    alone, then some with the widest, whose texts the character model rescores, if there is one. The
    narrowest beam that is as good is kept. The new bundle holds the language models, so
    that asr transcribe needs nothing else, but for --lexicon, if these settings are to be used with
    one. A recording that cannot be read is left out, and makes the exit code 1.
    """
    from asr.archive import packaged_model
    from asr.atomic import check_writable
    from asr.bundle import load_bundle
    from asr.data.manifest import read_manifest
    from asr.decoding.fusion import check_same_alphabet
    from asr.decoding.pool import DecoderPool
    from asr.decoding.priors import measure_priors
    from asr.decoding.tuning import BEAM_WIDTHS
    from asr.decoding.tuning import tune as search
    from asr.lm.character import parse_character_model, read_character_model
    from asr.lm.lexicon import read_lexicon
    from asr.lm.word_model import UNKNOWN, WordModel
    from asr.transcriber import Transcriber, choose_device, sound_spelling

    check_writable(output)  # better refused now than after the work
    if plot:
        from asr.plots.style import check_picture, save, style
        from asr.plots.wer_surface import draw_wer_surface

        check_picture(plot)
    utterances = read_manifest(manifest)
    bundle = load_bundle(model or packaged_model())
    tokenizer = bundle.model.tokenizer
    if lm is None and bundle.language_model is None:
        raise LanguageModelError(f"{bundle.path}: holds no language model; give one with --lm")
    characters = read_character_model(char_lm) if char_lm else bundle.character_model
    if keep and (characters is None or plot):
        raise typer.BadParameter("--keep needs a character model, and leaves nothing to plot")
    if keep and beam_width:
        raise typer.BadParameter("--keep leaves the beam as it is; leave out --beam-width")
    if keep and pronunciations and not bundle.pronunciations:
        raise typer.BadParameter(
            "--keep would keep the settings of a search without pronunciations; leave it out"
        )
    if n_best and characters is None:
        raise typer.BadParameter("--n-best needs a character model, which rescores them")
    rescorer = None
    if characters is not None:
        rescorer = parse_character_model(characters, char_lm or bundle.path)
        check_same_alphabet(tokenizer, rescorer)
    words = read_lexicon(lexicon, tokenizer.alphabet) if lexicon else None
    with nullcontext(lm) if lm else bundle.language_model_file() as path:
        assert path is not None
        listed = WordModel(path, tokenizer.alphabet).words.keys() - {UNKNOWN}
        spoken = {*listed, *(words or ())}
        bundle = _with_pronunciations(bundle, pronunciations, spoken)
        spelling = sound_spelling(bundle, spoken)
        acoustic = bundle.model.in_phones() if spelling else bundle.model
        with DecoderPool(tokenizer.alphabet, path, words, jobs, spelling) as pool:
            transcriber = Transcriber(acoustic, choose_device(device))
            references, rows = _recognise(transcriber, utterances, manifest)
            if spelling:
                said = sum(map(bool, map(spelling, spoken)))
                typer.echo(f"{said:,} of {len(spoken):,} words have a pronunciation")
            start = replace(bundle.decoder, method="beam", n_best=n_best or bundle.decoder.n_best)
            score = _Scores(rescorer) if rescorer else None
            if keep:
                chosen = start
            else:
                chosen, trials = search(
                    partial(_decode, pool, rows),
                    references,
                    replace(
                        start,
                        priors=measure_priors(rows),
                        beam_width=beam_width or max(BEAM_WIDTHS[-1], start.beam_width),
                    ),
                    _tell,
                    spells_unknown=spelling is None,
                    score=score,
                )
                _tell_chosen(chosen, *SEARCHED)
                if plot:
                    title = f"{len(rows)} utterances of {manifest.name}"
                    with style():
                        save(draw_wer_surface(trials, chosen, title), plot)
            if score:
                n_best_lists = _decode(pool, rows, chosen, chosen.n_best)
                chosen = _tune_rescoring(n_best_lists, score, references, chosen)
    content = _packed(lm) if lm else bundle.language_model
    tuned = replace(bundle, decoder=chosen, language_model=content, character_model=characters)
    tuned.save(output)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB")
    if len(rows) < len(utterances):
        raise typer.Exit(1)


def _with_pronunciations(bundle: "Bundle", path: Path | None, words: set[str]) -> "Bundle":
    """Return a bundle whose dictionary has these words alone."""
    from asr.pronunciation import check_phones, parse_pronunciations, read_pronunciations

    if path:
        if not (tokenizer := bundle.model.phone_tokenizer):
            raise ConfigError(
                f"{bundle.path}: has no output of phones; train it with --data.pronunciations"
            )
        dictionary = read_pronunciations(path)
        check_phones(dictionary, tokenizer, path)
    elif bundle.pronunciations:
        dictionary = parse_pronunciations(bundle.pronunciations, bundle.path)
    else:
        return bundle
    return replace(bundle, pronunciations=dictionary.covering(sorted(words)).packed())


def _recognise(
    transcriber: "Transcriber", utterances: "list[Utterance]", manifest: Path
) -> "tuple[list[str], list[NDArray[np.float32]]]":
    """Return reference and log-probabilities of each utterance whose recording can be read."""
    from asr.text import normalise

    references, rows = [], []
    paths = [utterance.audio for utterance in utterances]
    seconds = sum(utterance.duration for utterance in utterances)
    with audio_progress(paths, seconds) as on_progress:
        results = transcriber.log_probs_of(paths, on_progress=on_progress)
    for utterance, result in zip(utterances, results, strict=True):
        if isinstance(result, AsrError):
            print_error(result)
        else:
            references.append(normalise(utterance.text))
            rows.append(result)
    if not any(references):
        raise ManifestError(f"{manifest}: no recording with a text could be read to tune on")
    return references, rows


def _decode(
    pool: "DecoderPool", rows: "list[NDArray[np.float32]]", config: "DecoderConfig", n_best: int = 1
) -> "list[list[Hypothesis]]":
    with step_progress("decoding", len(rows)) as on_progress:
        return pool.decode(rows, config, on_progress, n_best=n_best)


class _Scores:
    """Log-probabilities of texts by a character model, each of which is read once."""

    def __init__(self, model: "CharacterModel") -> None:
        self._model = model
        self._known: dict[str, float] = {}

    def __call__(self, texts: list[str]) -> list[float]:
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        with step_progress("rescoring", len(new)) as on_progress:
            for start in range(0, len(new), SCORED_TOGETHER):
                some = new[start : start + SCORED_TOGETHER]
                self._known.update(zip(some, self._model.score(some).tolist(), strict=True))
                on_progress(len(some))
        return [self._known[text] for text in texts]


def _tune_rescoring(
    n_best_lists: "list[list[Hypothesis]]",
    score: "_Scores",
    references: list[str],
    start: "DecoderConfig",
) -> "DecoderConfig":
    """Find the weights of the character model, and tell the best of each weight."""
    from asr.decoding.tuning import tune_rescoring

    texts = [hypothesis.text for n_best in n_best_lists for hypothesis in n_best]
    chosen, trials = tune_rescoring(n_best_lists, score(texts), references, start)
    best: dict[float, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.wer):
        best.setdefault(trial.config.char_lm_weight, trial)
    for weight, trial in sorted(best.items()):
        typer.echo(
            f"char_lm_weight {weight:<5g} char_score {trial.config.char_score:<7g} "
            f"WER {trial.wer:7.2%}"
        )
    _tell_chosen(chosen, "char_lm_weight", "char_score")
    return chosen


def _packed(path: Path) -> bytes:
    """Return the file's content, compressed unless it is binary."""
    import gzip

    from asr.lm.kenlm_binary import is_binary

    content = _content(path)
    packed = path.suffix == ".gz" or is_binary(path)
    return content if packed else gzip.compress(content, 6, mtime=0)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = reason_of(error)
        raise LanguageModelError(f"{path}: cannot read this language model: {reason}") from error


def _tell(trial: "Trial") -> None:
    config = trial.config
    shown = ("char_lm_weight", "char_score") if trial.rescored else ()
    typer.echo(
        f"lm_weight {config.lm_weight:<5g} word_score {config.word_score:<5g} "
        f"prior_weight {config.prior_weight:<5g} "
        f"unknown_score {config.unknown_score:<5g} beam_width {config.beam_width:<4d} "
        + "".join(f"{name} {getattr(config, name):<6g} " for name in shown)
        + f"WER {trial.wer:7.2%}  {trial.seconds:5.1f} s"
    )


def _tell_chosen(config: "DecoderConfig", *names: str) -> None:
    values = ", ".join(f"{name} {getattr(config, name):g}" for name in names)
    typer.echo(f"\nchosen: {values}\n")
