"""From settings to a decoder."""

from collections.abc import Iterable, Sequence

from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.fusion import FusionDecoder
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Decoder
from asr.decoding.rescoring import Rescorer, RescoringDecoder
from asr.decoding.spelling import Spelling
from asr.errors import ConfigError
from asr.lm.character import CharacterModel
from asr.lm.word_model import WordModel
from asr.text import CharTokenizer


def build_decoder(
    tokenizer: CharTokenizer,
    config: DecoderConfig,
    model: WordModel | None = None,
    *,
    character_model: CharacterModel | None = None,
    words: Iterable[str] | None = None,
    hotwords: Sequence[str] = (),
    spelling: Spelling | None = None,
) -> Decoder:
    """Return the decoder that the settings describe.

    Args:
        tokenizer: of the acoustic model.
        config: method and weights.
        model: n-gram model, for the beam.
        character_model: rescores what the beam finds, or searches itself in fusion.
        words: lexicon, for the beam; all words of the model if ``None``.
        hotwords: words and phrases to favour, for the beam.
        spelling: of words in the tokens of the acoustic model, for the beam; in characters if
            ``None``.

    Raises:
        ConfigError: fusion without a character model, or one of another alphabet; see also
            :class:`~asr.decoding.beam.BeamDecoder`.
        LanguageModelError: see there.
    """
    if config.method == "greedy":
        return GreedyDecoder(tokenizer)
    if config.method == "fusion":
        if character_model is None:
            raise ConfigError("fusion needs a character model; give one with --char-lm")
        return FusionDecoder(
            tokenizer,
            character_model,
            beam_width=config.fusion_width,
            weight=config.fusion_weight,
            character_score=config.fusion_score,
            n_best=config.n_best,
        )
    beam = BeamDecoder(
        tokenizer,
        config,
        model,
        words=words,
        hotwords=hotwords,
        n_best=config.n_best,
        spelling=spelling,
    )
    if character_model is None or not config.char_lm_weight:
        return beam
    rescorer = Rescorer(
        tokenizer,
        character_model,
        weight=config.char_lm_weight,
        character_score=config.char_score,
    )
    return RescoringDecoder(beam, rescorer)
