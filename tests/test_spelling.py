"""Words in characters and by their sound, and the search through sounds."""

import itertools
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from test_beam import TEXT, decode, word_model
from torch import Tensor

from asr.decoding.alignment import align_words
from asr.decoding.beam import LN10, BeamDecoder
from asr.decoding.config import DecoderConfig
from asr.decoding.spelling import LetterSpelling, SoundSpelling
from asr.errors import LanguageModelError
from asr.lm.word_model import WordModel
from asr.pronunciation import PhoneTokenizer, Pronunciation, Pronunciations
from asr.text import CharTokenizer

SOUNDS = {
    "THE": ("DH AH", "DH IY"),
    "CAT": ("K AE T",),
    "RAT": ("R AE T",),
    "SAT": ("S AE T",),
    "MAT": ("M AE T",),
    "MATT": ("M AE T",),
    "ON": ("AA N",),
    "A": ("AH",),
    "KAT": ("K AE T",),
    "SHE": ("SH IY",),
    "SAW": ("S AO",),
}
DICTIONARY = Pronunciations(SOUNDS)
PHONES = PhoneTokenizer(DICTIONARY.phones)
ENGLISH = CharTokenizer()
[GAP] = PHONES.encode(" ")


def spelled() -> SoundSpelling:
    return SoundSpelling(PHONES, DICTIONARY)


def said(*words: Pronunciation, doubts: dict[int, str] | None = None) -> Tensor:
    """Return log-probs of phones, blanks between; ``doubts`` are nearly as likely."""
    tokens = PHONES.encode_words(words)
    probs = torch.full((2 * len(tokens), len(PHONES)), 1e-7)
    for i, token in enumerate(tokens):
        probs[2 * i, token] = probs[2 * i + 1, 0] = 1.0
        if doubts and i in doubts:
            probs[2 * i, PHONES.encode_word(doubts[i])] = 0.8
    return (probs / probs.sum(dim=1, keepdim=True)).log()


def first(text: str) -> list[Pronunciation]:
    return DICTIONARY.first(text)


def test_characters_are_one_way_to_write_a_word() -> None:
    spelling = LetterSpelling(ENGLISH)
    assert spelling("A B") == [ENGLISH.encode("A B")]
    assert spelling("") == [[]]
    assert len(spelling.letters) == 27


def test_a_phrase_has_the_variants_of_its_words() -> None:
    dh, ah, iy, k = (PHONES.encode_word(p)[0] for p in ("DH", "AH", "IY", "K"))
    assert spelled()("THE") == [[dh, ah], [dh, iy]]
    assert [way[:4] for way in spelled()("THE CAT")] == [[dh, ah, 1, k], [dh, iy, 1, k]]
    assert len(spelled()("THE " * 9)) == 8
    assert spelled()("DOG") == spelled()("THE DOG") == []
    assert spelled()("") == [[]]


def test_words_are_found_by_each_of_their_sounds(tmp_path: Path) -> None:
    decoder = BeamDecoder(ENGLISH, DecoderConfig("beam", 50), model(tmp_path), spelling=spelled())
    assert decode(decoder, said(*first("THE CAT SAT ON")))[0].text == "THE CAT SAT ON"
    assert decode(decoder, said("DH IY", *first("RAT")))[0].text == "THE RAT"
    assert decode(decoder, said(*first("THE MAT")))[0].text == "THE MAT"  # MATT is not a word of it


def model(folder: Path) -> WordModel:
    return word_model(folder / "m.arpa", TEXT)


def test_the_search_sums_all_paths_of_each_sentence(tmp_path: Path) -> None:
    """Against every path of six frames: through any pronunciation, with gaps anywhere."""
    ngrams = model(tmp_path)
    dictionary = Pronunciations({"THE": ("DH AH", "DH"), "A": ("AH",)})
    phones = PhoneTokenizer(dictionary.phones)
    config = DecoderConfig("beam", 5000, lm_weight=0.7, word_score=-0.4)
    spelling = SoundSpelling(phones, dictionary)
    decoder = BeamDecoder(ENGLISH, config, ngrams, words=["THE", "A"], spelling=spelling, n_best=9)
    word_of = {tuple(way): word for word in ("THE", "A") for way in spelling(word)}
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        log_probs = torch.randn(6, len(phones), generator=generator).log_softmax(dim=1)
        paths: dict[tuple[str, ...], list[float]] = defaultdict(list)
        for path in itertools.product(range(len(phones)), repeat=len(log_probs)):
            tokens = [token for token, _ in itertools.groupby(path) if token]
            sounds = [tuple(g) for gap, g in itertools.groupby(tokens, GAP.__eq__) if not gap]
            if word_of.keys() >= set(sounds):
                score = log_probs[range(len(path)), path].sum()
                paths[tuple(word_of[sound] for sound in sounds)].append(score)
        expected = {
            " ".join(sentence): float(torch.stack(scores).logsumexp(dim=0))
            + 0.7 * LN10 * sum(ngrams.score(sentence))
            - 0.4 * len(sentence)
            for sentence, scores in paths.items()
        }
        found = decode(decoder, log_probs)
        best = sorted(expected, key=expected.__getitem__, reverse=True)[:9]
        assert [hypothesis.text for hypothesis in found] == best
        assert [hypothesis.score for hypothesis in found] == pytest.approx(
            [expected[text] for text in best], abs=1e-3
        )
        for hypothesis in found:
            sentence = hypothesis.text.split()
            assert hypothesis.lm_score == pytest.approx(
                LN10 * sum(ngrams.score(sentence)), abs=1e-3
            )
            weighed = hypothesis.acoustic_score + 0.7 * hypothesis.lm_score - 0.4 * len(sentence)
            assert hypothesis.score == pytest.approx(weighed, abs=1e-3)


def test_with_an_unlisted_word_the_search_finds_the_best_path_of_all_sentences(
    tmp_path: Path,
) -> None:
    """Against every sentence of up to three words, each with its best path."""
    ngrams = model(tmp_path)
    words = ["THE", "CAT", "TACT"]  # the last is none of the model's
    sounds = {"THE": ("DH AH", "T AH")} | {"CAT": ("K AE T",), "TACT": ("S AE T",)}
    dictionary = Pronunciations(sounds)
    phones = PhoneTokenizer(dictionary.phones)
    assert len(phones) == 8  # as many tokens as the beam looks at
    config = DecoderConfig("beam", 5000, lm_weight=0.7, word_score=-0.4)
    spelling = SoundSpelling(phones, dictionary)
    decoder = BeamDecoder(ENGLISH, config, ngrams, words=words, spelling=spelling)
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        log_probs = torch.randn(8, len(phones), generator=generator).log_softmax(dim=1)
        best = max(
            (
                best_path(log_probs, phones.encode_words(way))
                + 0.7 * LN10 * sum(ngrams.score(sentence))
                - 0.4 * len(sentence),
                " ".join(sentence),
            )
            for n in range(4)
            for sentence in itertools.product(words, repeat=n)
            for way in itertools.product(*(sounds[word] for word in sentence))
        )
        found = decode(decoder, log_probs)[0]
        assert found.text == best[1]
        assert found.score == pytest.approx(best[0], abs=1e-3)


def best_path(log_probs: Tensor, tokens: list[int]) -> float:
    """Viterbi over CTC paths; the gap after the last word and idle gaps between words are free."""
    best = -math.inf
    padded = [[], [GAP]]
    for before, after in itertools.product(padded, repeat=2):
        best = max(best, _viterbi(log_probs, [*before, *tokens, *after]))
    return best


def _viterbi(log_probs: Tensor, tokens: list[int]) -> float:
    states = [0]
    for token in tokens:
        states += [token, 0]
    score = [-math.inf] * len(states)
    score[0] = 0.0
    if len(states) > 1:
        start = [log_probs[0, states[0]].item(), log_probs[0, states[1]].item()]
    else:
        start = [log_probs[0, 0].item()]
    score = start + [-math.inf] * (len(states) - len(start))
    for row in log_probs[1:].tolist():
        score = [
            max(
                score[i],
                score[i - 1] if i else -math.inf,
                score[i - 2] if i > 1 and 0 < states[i] != states[i - 2] else -math.inf,
                score[i + 1] if states[i] == GAP else -math.inf,  # one idle gap after another
            )
            + row[states[i]]
            for i in range(len(states))
        ]
    return max(score[-2:])


def test_words_that_the_model_does_not_list_are_not_added_up(tmp_path: Path) -> None:
    """They share a state of the search, and so do words of equal sound among them."""
    dictionary = Pronunciations({"X": ("S",), "Y": ("SH",), "Z": ("S",), "THE": ("DH",)})
    phones = PhoneTokenizer(dictionary.phones)
    spelling = SoundSpelling(phones, dictionary)
    config = DecoderConfig("beam", 50, lm_weight=0.0, word_score=0.0)
    log_probs = torch.full((1, len(phones)), 1e-9)
    log_probs[0, [spelling("X")[0][0], spelling("Y")[0][0]]] = torch.tensor([0.6, 0.4])
    for words in (["X", "THE"], ["X", "Y"], ["X", "Z"]):
        decoder = BeamDecoder(ENGLISH, config, model(tmp_path), words=words, spelling=spelling)
        found = decode(decoder, log_probs.log())[0]
        assert found.text in ("X", "Z")
        assert found.score == pytest.approx(math.log(0.6), abs=1e-3)
        assert found.acoustic_score == pytest.approx(math.log(0.6), abs=1e-3)


def test_no_unknown_word_is_written(tmp_path: Path) -> None:
    config = DecoderConfig("beam", 50, unknown_score=0.0)  # would pay, were there any
    decoder = BeamDecoder(ENGLISH, config, model(tmp_path), spelling=spelled())
    text = decode(decoder, said("K SH N", "R AE T"))[0].text
    assert set(text.split()) <= SOUNDS.keys()


def test_words_that_the_model_does_not_list_keep_their_names(tmp_path: Path) -> None:
    config = DecoderConfig("beam", 50, unknown_score=-1.0)
    words = ["THE", "KAT", "MATT"]
    decoder = BeamDecoder(ENGLISH, config, model(tmp_path), words=words, spelling=spelled())
    assert decode(decoder, said(*first("THE MATT")))[0].text == "THE MATT"
    assert decode(decoder, said(*first("KAT THE")))[0].text == "KAT THE"


def test_hotwords_are_heard(tmp_path: Path) -> None:
    config = DecoderConfig("beam", 50, lm_weight=0.1, hotword_score=8.0)
    ngrams = model(tmp_path)
    heard = said(*first("THE MATT SAT"))
    plain = BeamDecoder(ENGLISH, config, ngrams, spelling=spelled())
    assert decode(plain, heard)[0].text == "THE MAT SAT"
    for hotword in ("Matt", "the Matt", "Matt sat"):
        hot = BeamDecoder(ENGLISH, config, ngrams, hotwords=[hotword], spelling=spelled())
        assert decode(hot, heard)[0].text == "THE MATT SAT"


def test_what_has_no_sound_is_refused(tmp_path: Path) -> None:
    for wanted in ({"words": ["THE", "DOG"]}, {"hotwords": ["the dog"]}):
        with pytest.raises(LanguageModelError, match=r"how '(THE )?DOG' sounds; leave it out"):
            BeamDecoder(
                ENGLISH, DecoderConfig("beam"), model(tmp_path), spelling=spelled(), **wanted
            )


def test_times_are_those_of_the_sounds(tmp_path: Path) -> None:
    decoder = BeamDecoder(ENGLISH, DecoderConfig("beam", 50), model(tmp_path), spelling=spelled())
    log_probs = said(*first("THE CAT"))
    words = align_words(decode(decoder, log_probs)[0], log_probs, PHONES, 0.04)
    assert [word.word for word in words] == ["THE", "CAT"]
    assert [(word.start, word.end) for word in words] == [
        pytest.approx((0.0, 0.12)),
        pytest.approx((0.24, 0.44)),
    ]
