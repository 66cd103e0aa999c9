import itertools
import math

import pytest
import torch

from asr.models.crf import Denominator, phone_trigram

VOCAB = 4
TEXTS = [[1, 2, 3, 3], [2, 1], [3, 1, 1, 2], [2], []]


def log_probability(text, trigram):
    """Return what a trigram gives a text and its end."""
    padded = torch.tensor([0, 0, *text, 0])
    return trigram[padded[:-2], padded[1:-1], padded[2:]].log().sum()


def by_enumeration(log_probs, trigram):
    """Return the log of the sum over every path there is, one by one."""
    total = torch.zeros((), dtype=torch.float64)
    for path in itertools.product(range(VOCAB), repeat=len(log_probs)):
        text = [token for token, _ in itertools.groupby(path) if token]
        along = sum(log_probs[t, token].double() for t, token in enumerate(path))
        total = total + (along + log_probability(text, trigram)).exp()
    return total.log()


def test_the_trigram_is_witten_and_bell_s():
    trigram = phone_trigram([[1, 1], [1, 2]], 3)
    # After 0 0 there was 1, twice; after 0 there was 1, twice; of six tokens three were 1.
    one = (3 + 3 / 3) / (6 + 3)
    after_boundary = (2 + one) / 3
    assert float(trigram[0, 0, 1]) == pytest.approx((2 + after_boundary) / 3)
    # After 2 1 there was nothing: what follows 1 counts, once 1, once 2, once the end.
    two = (1 + 3 / 3) / (6 + 3)
    assert float(trigram[2, 1, 2]) == pytest.approx((1 + 3 * two) / 6)
    torch.testing.assert_close(trigram.sum(-1), torch.ones(3, 3, dtype=torch.float64))


def test_sum_and_gradient_are_those_of_all_paths():
    torch.manual_seed(0)
    trigram = phone_trigram(TEXTS, VOCAB)
    log_probs = torch.randn(3, 5, VOCAB).log_softmax(-1).requires_grad_()
    lengths = torch.tensor([5, 3, 1])
    found = Denominator(trigram)(log_probs, lengths)
    rows = zip(log_probs, lengths.tolist(), strict=True)
    expected = torch.stack([by_enumeration(row[:length], trigram) for row, length in rows])
    torch.testing.assert_close(found.double(), expected)
    weights = torch.tensor([1.0, -2.0, 0.5])
    (gradient,) = torch.autograd.grad((found * weights).sum(), log_probs)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), log_probs)
    torch.testing.assert_close(gradient, expected_gradient)


def test_padding_and_batch_mates_change_nothing():
    torch.manual_seed(0)
    denominator = Denominator(phone_trigram(TEXTS, VOCAB))
    log_probs = torch.randn(2, 40, VOCAB).log_softmax(-1)
    short = log_probs[1:, :7].clone().requires_grad_()
    alone = denominator(short, torch.tensor([7]))
    log_probs[1, 7:] = math.nan
    log_probs.requires_grad_()
    both = denominator(log_probs, torch.tensor([40, 7]))
    torch.testing.assert_close(both[1:], alone)
    alone.sum().backward()
    both.sum().backward()
    torch.testing.assert_close(log_probs.grad[1:, :7], short.grad)
    assert not log_probs.grad[1, 7:].any()


def test_long_and_certain_utterances_stay_finite():
    denominator = Denominator(phone_trigram(TEXTS, VOCAB))
    logits = torch.full((1, 3000, VOCAB), -300.0)
    logits[0, torch.arange(3000), torch.arange(3000) % VOCAB] = 0
    log_probs = logits.log_softmax(-1).requires_grad_()
    total = denominator(log_probs, torch.tensor([3000]))
    text = [1, 2, 3] * (3000 // VOCAB)
    expected = log_probability(text, phone_trigram(TEXTS, VOCAB))
    torch.testing.assert_close(total[0].double(), expected, rtol=1e-4, atol=0)
    total.sum().backward()
    torch.testing.assert_close(log_probs.grad, log_probs.detach().exp(), atol=1e-4, rtol=0)
