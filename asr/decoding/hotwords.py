"""An n-gram model that favours given words and phrases."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flashlight.lib.text.decoder import LM, LMState

from asr.lm.word_model import UNKNOWN, WordModel

IMPOSSIBLE = -1e4


class _State(NamedTuple):
    """What flashlight's state stands for.

    Attributes:
        kenlm: KenLM's state.
        in_word: whether a piece has just ended, so that letters would go on with its word.
        score: base-10 score of the last word, hotword or gap.
    """

    kenlm: LMState
    in_word: bool
    score: float


class HotwordModel(LM):
    """Scores like its n-gram model, and adds a bonus to each hotword.

    A hotword takes the place of the plain word in the lexicon, where there is one. A phrase is
    scored word by word, with the score of each word, and earns the bonus once. As the end of a
    longer word, which is spelled in pieces, a hotword earns none. Flashlight does not tell its
    scorer of spaces between words, so that one after a piece is a word of its own here, the gap,
    which costs nothing.

    Args:
        model: the n-gram model.
        lexicon: id and base-10 log-probability of each plain word.
        phrases: hotwords, normalised; words are separated by single spaces.
        bonus: base-10 logarithm added for each hotword.
        hope: most that the beginning of a hotword gets of its bonus beforehand. What may become
            one is not lost, but does not push all else out of the beam either.
        word_score: base-10 logarithm that the decoder adds for each word.

    Attributes:
        lexicon: as above, with the phrases, their hope included, and the gap (a space).
    """

    def __init__(
        self,
        model: WordModel,
        lexicon: dict[str, tuple[int, float]],
        phrases: Sequence[str],
        bonus: float,
        hope: float,
        word_score: float,
    ) -> None:
        LM.__init__(self)
        self._kenlm = model.kenlm
        self._bonus = bonus
        self._gap_score = -word_score
        self._word_score = word_score
        self._piece = model.ids[UNKNOWN]
        phrases = list(dict.fromkeys(phrases))
        self._phrases = [
            [model.ids.get(word, self._piece) for word in phrase.split()] for phrase in phrases
        ]
        # Ids beyond the model's: of words that it does not list, gaps and, from there on, hotwords.
        self._unlisted = len(model.words)
        self._gap = self._unlisted + 1
        self._first = self._unlisted + 2
        scores = list(model.words.values())
        self.lexicon = (
            {
                word: (self._unlisted if index == self._piece else index, log10_prob)
                for word, (index, log10_prob) in lexicon.items()
            }
            | {
                phrase: (
                    self._first + i,
                    sum(scores[word] for word in ids) + self._phrase_score(ids) + min(bonus, hope),
                )
                for i, (phrase, ids) in enumerate(zip(phrases, self._phrases, strict=True))
            }
            | {" ": (self._gap, self._gap_score)}
        )
        self._states: dict[LMState, _State] = {}  # of this sentence

    def _phrase_score(self, words: Sequence[int]) -> float:
        """Return the score of all words but the first, to which the decoder adds it."""
        return (len(words) - 1) * self._word_score

    def not_of_the_model(self, indices: Iterable[int]) -> float:
        """Return the base-10 logarithm that hotwords and gaps among some words brought."""
        total, in_word = 0.0, False
        for index in indices:
            if index == self._gap:
                total += self._gap_score
            elif index >= self._first:
                total += self._phrase_score(self._phrases[index - self._first])
                total += 0.0 if in_word else self._bonus
            in_word = index == self._piece
        return total

    def start(self, start_with_nothing: bool) -> LMState:
        """Return the state at the beginning of a sentence."""
        state = LMState()
        self._states = {state: _State(self._kenlm.start(start_with_nothing), False, 0.0)}
        return state

    def score(self, state: LMState, index: int) -> tuple[LMState, float]:
        """Return the next state and the base-10 score of a word, hotword or gap."""
        following = state.child(index)
        if following not in self._states:  # else it was reached in another frame
            self._states[following] = self._follow(self._states[state], index)
        return following, self._states[following].score

    def _follow(self, state: _State, index: int) -> _State:
        known = state.kenlm
        if index == self._gap:
            return _State(known, False, self._gap_score if state.in_word else IMPOSSIBLE)
        if index >= self._first:
            words = self._phrases[index - self._first]
            total = self._phrase_score(words) + (0.0 if state.in_word else self._bonus)
        else:
            total, words = 0.0, [self._piece if index == self._unlisted else index]
        for word in words:
            known, log10_prob = self._kenlm.score(known, word)
            total += log10_prob
        return _State(known, index == self._piece, total)

    def finish(self, state: LMState) -> tuple[LMState, float]:
        """Return the last state and the base-10 score of the sentence's end."""
        return state, self._kenlm.finish(self._states[state].kenlm)[1]
