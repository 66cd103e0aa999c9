"""An n-gram model that favours given words and phrases."""

from collections.abc import Iterable, Sequence

from flashlight.lib.text.decoder import LM, LMState

from asr.lm.word_model import WordModel


class HotwordModel(LM):
    """Scores like its n-gram model, and adds a bonus to each hotword.

    A hotword takes the place of the plain word in the lexicon, where there is one. A phrase is
    scored word by word and earns the bonus once.

    Args:
        model: the n-gram model.
        phrases: hotwords, normalised; words are separated by single spaces.
        bonus: base-10 logarithm added for each hotword.
    """

    def __init__(self, model: WordModel, phrases: Sequence[str], bonus: float) -> None:
        LM.__init__(self)
        self._kenlm = model.kenlm
        self._bonus = bonus
        self._first = len(model.words)  # ids from here on are hotwords
        phrases = list(dict.fromkeys(phrases))
        self._phrases = [[model.ids.get(word, 0) for word in phrase.split()] for phrase in phrases]
        scores = list(model.words.values())
        #: Id and base-10 log-probability, bonus included, of each phrase; for the look-ahead.
        self.lexicon = {
            phrase: (self._first + i, sum(scores[word] for word in ids) + bonus)
            for i, (phrase, ids) in enumerate(zip(phrases, self._phrases, strict=True))
        }

    def bonus_of(self, indices: Iterable[int]) -> float:
        """Return the base-10 logarithm that the hotwords among some words earned."""
        return self._bonus * sum(index >= self._first for index in indices)

    def start(self, start_with_nothing: bool) -> LMState:
        """Return the state at the beginning of a sentence."""
        return self._kenlm.start(start_with_nothing)

    def score(self, state: LMState, index: int) -> tuple[LMState, float]:
        """Return the next state and the base-10 score of a word or hotword."""
        if index < self._first:
            return self._kenlm.score(state, index)
        total = self._bonus
        for word in self._phrases[index - self._first]:
            state, log10_prob = self._kenlm.score(state, word)
            total += log10_prob
        return state, total

    def finish(self, state: LMState) -> tuple[LMState, float]:
        """Return the last state and the base-10 score of the sentence's end."""
        return self._kenlm.finish(state)
