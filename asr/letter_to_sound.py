"""How words that no dictionary lists may sound: letters in, phones out.

The network is a small cousin of the recogniser: a bidirectional LSTM reads the letters, and CTC
lines up the phones with them, two steps for each letter, as X is K S.

Reference: Rao et al. 2015, "Grapheme-to-Phoneme Conversion Using Long Short-Term Memory Recurrent
Neural Networks".
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import ctc_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from asr.errors import ConfigError
from asr.text import CharTokenizer

STEPS = 2  # for each letter
BATCH = 256

Pronunciation = str  # names of phones with a space between two: HH AH L OW


class LetterToSound(nn.Module):
    """Writes the phones of words.

    Args:
        alphabet: letters in the order of their ids.
        phones: names of the phones; the blank has the id 0, they follow.
        hidden_size: units of one direction.
        num_layers: recurrent layers.

    Raises:
        ConfigError: a number is below 1.
    """

    def __init__(
        self, alphabet: str, phones: Sequence[str], hidden_size: int = 128, num_layers: int = 2
    ) -> None:
        super().__init__()
        if hidden_size < 1 or num_layers < 1:
            raise ConfigError(f"{num_layers} layers of {hidden_size} units are no network")
        self.tokenizer = CharTokenizer(alphabet)
        self.phones = tuple(phones)
        # Uniform, as normal numbers on the meta device would import torch's compiler: 1.4 s.
        letters = torch.empty(len(self.tokenizer), hidden_size).uniform_(-(3**0.5), 3**0.5)
        self.letters = nn.Embedding.from_pretrained(letters, freeze=False)
        self.recurrent = nn.LSTM(
            hidden_size, hidden_size, num_layers, batch_first=True, bidirectional=True
        )
        self.output = nn.Linear(2 * hidden_size, STEPS * (1 + len(phones)))

    def forward(self, letters: Tensor, lengths: Tensor) -> Tensor:
        """Return log-probabilities.

        Args:
            letters: (batch, length) int64.
            lengths: (batch,) int64, at least 1.

        Returns:
            (batch, 2 * length, 1 + phones) float32, natural log; an item has twice its length.
        """
        packed = pack_padded_sequence(
            self.letters(letters), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        encoded, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        scores = self.output(encoded)
        return scores.view(len(scores), -1, 1 + len(self.phones)).log_softmax(dim=-1)

    @torch.inference_mode()
    def pronounce(self, words: Sequence[str]) -> list[Pronunciation]:
        """Return the likeliest phones of each word, at least one.

        Raises:
            TextError: a letter is not in the alphabet.
        """
        found: list[Pronunciation] = []
        for at in range(0, len(words), BATCH):
            letters, lengths = self._batch(words[at : at + BATCH])
            log_probs = self(letters, lengths)
            for row, length in zip(log_probs, (STEPS * lengths).tolist(), strict=True):
                path = row[:length].argmax(dim=1)
                tokens = [token for token in path.unique_consecutive().tolist() if token]
                if not tokens:  # something must be said
                    tokens = [1 + int(row[:length, 1:].max(dim=0).values.argmax())]
                found.append(" ".join(self.phones[token - 1] for token in tokens))
        return found

    def _batch(self, words: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded = [torch.tensor(self.tokenizer.encode(word)) for word in words]
        return pad_sequence(encoded, batch_first=True), torch.tensor([len(e) for e in encoded])


def train_letter_to_sound(
    words: Mapping[str, Sequence[Pronunciation]],
    *,
    phones: Sequence[str],
    epochs: int = 12,
    lr: float = 3e-3,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda _: None,
    **shape: int,
) -> LetterToSound:
    """Return a network that was trained on the first pronunciation of each word.

    Args:
        words: the pronunciations of each word.
        phones: names of all phones.
        epochs: how often each word is read.
        lr: peak learning rate of Adam; it falls to zero.
        seed: of the first weights and the order of the words.
        on_progress: called with the number of words read, after each batch.
        shape: ``hidden_size`` and ``num_layers``.
    """
    torch.manual_seed(seed)
    names = sorted(words)
    model = LetterToSound("".join(sorted(set("".join(names)))), phones, **shape)
    ids = {phone: i for i, phone in enumerate(model.phones, start=1)}
    targets = [torch.tensor([ids[phone] for phone in words[name][0].split()]) for name in names]
    optimizer = torch.optim.Adam(model.parameters(), lr)
    steps = epochs * -(-len(names) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(names)).split(BATCH):
            letters, lengths = model._batch([names[i] for i in batch])
            spoken = [targets[i] for i in batch]
            losses = ctc_loss(
                model(letters, lengths).transpose(0, 1),
                torch.cat(spoken),
                STEPS * lengths,
                torch.tensor([len(target) for target in spoken]),
                reduction="sum",
                zero_infinity=True,  # abbreviations: more phones than steps
            )
            optimizer.zero_grad()
            (losses / sum(map(len, spoken))).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            on_progress(len(batch))
    return model.eval()
