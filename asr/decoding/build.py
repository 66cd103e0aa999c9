"""From settings to a decoder."""

from collections.abc import Iterable, Sequence

from asr.decoding.beam import BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.greedy import GreedyDecoder
from asr.decoding.hypothesis import Decoder
from asr.lm.word_model import WordModel
from asr.text import CharTokenizer


def build_decoder(
    tokenizer: CharTokenizer,
    config: DecoderConfig,
    model: WordModel | None = None,
    *,
    words: Iterable[str] | None = None,
    hotwords: Sequence[str] = (),
) -> Decoder:
    """Return the decoder that the settings describe.

    Args:
        tokenizer: of the acoustic model.
        config: method and weights.
        model: n-gram model, for the beam.
        words: lexicon, for the beam; all words of the model if ``None``.
        hotwords: words and phrases to favour, for the beam.

    Raises:
        ConfigError: see :class:`~asr.decoding.beam.BeamDecoder`.
        LanguageModelError: see there.
    """
    if config.method == "greedy":
        return GreedyDecoder(tokenizer)
    return BeamDecoder(tokenizer, config, model, words=words, hotwords=hotwords)
