"""The recurrent character language model: what character is likely to come next.

One recurrent network reads a text character by character; its state stands for all that came
before, so nothing is cut off after n - 1 characters as in an n-gram. It may read frequent pieces
of words as one symbol each (:mod:`asr.lm.pieces`). Token ids are those of the tokenizer; id 0,
the blank of CTC, which no text contains, marks both the begin and the end of a text here.

References: Mikolov et al. 2010, "Recurrent neural network based language model"; over characters:
Sutskever et al. 2011, "Generating Text with Recurrent Neural Networks"; the same embeddings in
and out: Press and Wolf 2017, "Using the Output Embedding to Improve Language Models".
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from asr.archive import CHARACTER_MODEL, read_part
from asr.atomic import whole_file
from asr.errors import ConfigError, LanguageModelError, reason_of
from asr.lm.pieces import PieceTokenizer
from asr.quantisation import SCALES, quantise, restore
from asr.text import ENGLISH, CharTokenizer

Cell = Literal["lstm", "gru", "rnn_tanh"]
Kernel = Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor]]

BOUNDARY = CharTokenizer.blank  # begin and end of a text
PADDING = -1
FORMAT_VERSION = 3  # 1 knows neither pieces nor embeddings, 2 no weights in eight bits
METADATA = "asr_character_model"
CELLS: dict[Cell, Callable[..., Any]] = {
    "lstm": torch.lstm_cell,
    "gru": torch.gru_cell,
    "rnn_tanh": torch.rnn_tanh_cell,
}
LARGEST = 10_000  # number of units or layers, so that a damaged file cannot ask for any
SCORE_BATCH = 512  # texts that are scored at once; bounds the memory


@dataclass(frozen=True)
class CharacterModelConfig:
    """Shape of a character model.

    Attributes:
        cell: ``lstm``, ``gru`` or ``rnn_tanh``.
        hidden_size: units of a layer.
        num_layers: recurrent layers.
        alphabet: the characters it can read and write, in the order of their ids.
        pieces: strings of several of them that it reads and writes as one symbol each.
        embedding_size: numbers that stand for a symbol, the same where it is read and where it is
            foreseen; 0 gives each symbol its own weights into the units and out of them, which
            suits characters alone.

    Raises:
        ConfigError: there is no such cell, a number is out of range, the alphabet names a
            character twice, or a piece is no piece of a word.
    """

    cell: Cell = "lstm"
    hidden_size: int = 512
    num_layers: int = 1
    alphabet: str = ENGLISH
    pieces: tuple[str, ...] = ()
    embedding_size: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "pieces", tuple(self.pieces))  # JSON knows lists alone
        self.tokenizer()  # refuses what is no alphabet
        if self.cell not in get_args(Cell):
            raise ConfigError(f"cell {self.cell!r} is none of {', '.join(get_args(Cell))}")
        for name, least in (("hidden_size", 1), ("num_layers", 1), ("embedding_size", 0)):
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= LARGEST:
                raise ConfigError(f"{name} {value!r} is not a whole number in {least}..{LARGEST}")

    def tokenizer(self) -> CharTokenizer:
        """Return what makes token ids of a text."""
        if self.pieces:
            return PieceTokenizer(self.alphabet, self.pieces)
        return CharTokenizer(self.alphabet)


class CharacterModel(nn.Module):
    """Predicts the next character of a text from all characters before it.

    A state is one tensor (…, parts, num_layers, hidden_size), where an LSTM has two parts, output
    and cell, and the others one. The axes before are those of the batch, so that a beam search
    picks the states of its surviving prefixes by plain indexing, ``state[indices]``.
    """

    def __init__(self, config: CharacterModelConfig = CharacterModelConfig()) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = config.tokenizer()
        kinds: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}
        vocab, units, embedding = len(self.tokenizer), config.hidden_size, config.embedding_size
        self.rnn = kinds[config.cell](
            embedding or vocab, units, config.num_layers, batch_first=True
        )
        self.output = nn.Linear(embedding or units, vocab)
        self.projection = nn.Linear(units, embedding) if embedding else nn.Identity()
        # Embeddings are rows of the output's weights, or the weights of the one input that is 1.
        weights = self.output.weight if embedding else self.rnn.weight_ih_l0
        if not weights.is_meta:  # where this would import torch._dynamo, for a second
            nn.init.normal_(weights, std=embedding**-0.5 if embedding else 1.0)
        self.parts = 2 if config.cell == "lstm" else 1
        self.kernel: Kernel | None = None  # computes the layers instead, see native_lstm.py

    def initial_state(self, *batch: int) -> Tensor:
        """Return the state before any text: zeros, with the given axes of the batch in front."""
        config = self.config
        return self.output.weight.new_zeros(
            *batch, self.parts, config.num_layers, config.hidden_size
        )

    def forward(self, characters: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read a piece of each text.

        Args:
            characters: (batch, time) int64.
            state: (batch, parts, num_layers, hidden_size), before the piece.

        Returns:
            (batch, time, vocab) natural-log probabilities of the character that follows each, in
            float32, and the state after the piece, without a gradient where a kernel computes it.
        """
        inputs = self._inputs(characters).to(state.dtype)
        hidden = state.permute(1, 2, 0, 3).contiguous()  # (parts, num_layers, batch, hidden_size)
        if self.kernel:
            outputs, after = self.kernel(self.rnn, inputs, hidden)
        elif self.parts == 2:
            outputs, after = self.rnn(inputs, (hidden[0], hidden[1]))
            after = torch.stack(after)
        else:
            outputs, after = self.rnn(inputs, hidden[0])
            after = after[None]
        return self._log_probs(outputs), after.permute(2, 0, 1, 3).to(state.dtype)

    def _inputs(self, characters: Tensor) -> Tensor:
        if size := self.config.embedding_size:
            return nn.functional.embedding(characters, self.output.weight) * size**0.5
        return nn.functional.one_hot(characters, len(self.tokenizer))

    def _log_probs(self, outputs: Tensor) -> Tensor:
        return self.output(self.projection(outputs)).float().log_softmax(dim=-1)

    @torch.inference_mode()
    def step(self, characters: int | Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Read one character of each text.

        Args:
            characters: one token id, or (batch,) int64; :data:`BOUNDARY` to begin.
            state: (parts, num_layers, hidden_size), or that with a batch axis in front.

        Returns:
            (vocab,) or (batch, vocab) natural-log probabilities of the next character, where
            :data:`BOUNDARY` is the end of the text, and the state after the character.
        """
        characters = torch.as_tensor(characters, device=state.device)
        before = state.reshape(-1, *state.shape[-3:])
        outputs = self._inputs(characters.reshape(-1)).to(state.dtype)
        after, cell = [], CELLS[self.config.cell]
        # Not the layers themselves: on a CPU they would pack all their weights anew for each step.
        for layer, weights in enumerate(self.rnn.all_weights):
            parts = before[:, :, layer].unbind(1)
            if self.parts == 2:
                parts = cell(outputs, parts, *weights)
            else:
                parts = (cell(outputs, *parts, *weights),)
            outputs = parts[0]
            after.append(torch.stack(parts, 1))
        log_probs = self._log_probs(outputs)
        return log_probs.reshape(*characters.shape, -1), torch.stack(after, 2).reshape(state.shape)

    @torch.inference_mode()
    def score(self, texts: Sequence[str]) -> Tensor:
        """Return the natural-log probability of each whole text, its end included: (texts,).

        Raises:
            TextError: a character is not in the alphabet.
        """
        tokens = [self.tokenizer.encode(text) for text in texts]
        scores = self.output.weight.new_zeros(len(texts))
        order = sorted(range(len(texts)), key=lambda i: tokens[i])  # those that begin alike
        for start in range(0, len(order), SCORE_BATCH):
            group = order[start : start + SCORE_BATCH]
            scores[group] = self._score_together([tokens[i] for i in group])
        return scores

    def _score_together(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Score texts of token ids; a beginning that several share is read once."""
        scores = self.output.weight.new_zeros(len(texts))
        state = self.initial_state(1)
        totals, last = scores.new_zeros(1), [BOUNDARY]  # of each beginning
        places = dict.fromkeys(range(len(texts)), 0)  # where the beginning of each text stands
        for length in range(max(map(len, texts)) + 1):
            log_probs, state = self.step(torch.tensor(last), state)
            log_probs += totals[:, None]
            ended = [i for i in places if len(texts[i]) == length]
            scores[ended] = log_probs[[places.pop(i) for i in ended], BOUNDARY]
            if not places:
                break
            longer: dict[tuple[int, int], int] = {}
            for i, place in places.items():
                places[i] = longer.setdefault((place, texts[i][length]), len(longer))
            rows, last = map(list, zip(*longer, strict=True))
            totals, state = log_probs[rows, last], state[rows]
        return scores

    def sample(
        self,
        prompt: str = "",
        *,
        length: int = 200,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> str:
        """Return how the model goes on after a prompt, until it ends the text.

        Args:
            prompt: begin of the text.
            length: most characters, or pieces, to write.
            temperature: 1 draws from the model's own distribution, less prefers what is likely,
                0 always takes the likeliest character.
            generator: of random numbers, on the CPU.

        Raises:
            ConfigError: the temperature is negative.
            TextError: a character of the prompt is not in the alphabet.
        """
        if not temperature >= 0:
            raise ConfigError(f"temperature {temperature} is negative")
        state = self.initial_state()
        read = self.tokenizer.encode(prompt)
        for character in (BOUNDARY, *read):
            log_probs, state = self.step(character, state)
        written: list[int] = []
        while len(written) < length:
            character = _draw(log_probs.cpu(), temperature, generator)
            if character == BOUNDARY:
                break
            written.append(character)
            log_probs, state = self.step(character, state)
        return self.tokenizer.decode([*read, *written])[len(prompt) :]


def pad_texts(texts: Sequence[Sequence[int]]) -> Tensor:
    """Return inputs and targets of texts of token ids: (2, batch, longest + 1) int64.

    The inputs begin with :data:`BOUNDARY`, the targets end with it, what follows is
    :data:`PADDING`.
    """
    rows = [torch.tensor([BOUNDARY, *text, BOUNDARY]) for text in texts]
    tokens = pad_sequence(rows, batch_first=True, padding_value=PADDING)
    return torch.stack([tokens[:, :-1], tokens[:, 1:]])


def _draw(log_probs: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(log_probs.argmax())
    probs = ((log_probs - log_probs.max()) / temperature).softmax(dim=0)
    return int(probs.multinomial(1, generator=generator))


def save_character_model(path: str | Path, model: CharacterModel) -> None:
    """Write a model as one safetensors file, whole or not at all, its matrices in eight bits.

    Its settings are in the file's metadata. The same model gives the same bytes.

    Raises:
        LanguageModelError: a weight is not finite, or not within half precision; the file cannot
            be written.
    """
    weights = {name: x.detach().to("cpu").contiguous() for name, x in model.state_dict().items()}
    stored = quantise(weights)
    for name, tensor in stored.items():
        if not tensor.isfinite().all():
            name = name.removesuffix(SCALES)
            raise LanguageModelError(
                f"{path}: weights {name!r} are not finite; train the model again"
            )
    settings = {"format_version": FORMAT_VERSION, **asdict(model.config)}
    try:
        with whole_file(path) as partial:
            # save_file would make a file that nobody else may read.
            partial.write_bytes(safetensors.torch.save(stored, {METADATA: json.dumps(settings)}))
    except OSError as error:
        raise LanguageModelError(f"{path}: cannot write this model: {reason_of(error)}") from error


def load_character_model(path: str | Path) -> CharacterModel:
    """Load a model, float32, on the CPU, in evaluation mode.

    Args:
        path: file of :func:`save_character_model`, or a model bundle (``.asr``) that holds one.

    Raises:
        LanguageModelError: the file is missing, damaged, no character model or of a newer format;
            its weights are not those of its settings or not finite.
    """
    return parse_character_model(read_character_model(path), path)


def read_character_model(path: str | Path) -> bytes:
    """Return the content of a model's file, which a bundle may hold.

    Raises:
        LanguageModelError: the file cannot be read, or is a bundle without one.
    """
    try:
        content = read_part(path, CHARACTER_MODEL)
    except OSError as error:
        raise _unreadable(path, error) from error
    if content is None:
        raise LanguageModelError(
            f"{path}: holds no character model; give a file of recipes/char_lm"
        )
    return content


def parse_character_model(content: bytes, path: str | Path) -> CharacterModel:
    """Load a model from the content of its file; see :func:`load_character_model`.

    Args:
        content: of the file.
        path: where it was stored, for messages.
    """
    try:
        weights = restore(safetensors.torch.load(content))
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type unknown to torch
        raise _unreadable(path, error) from error
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata = header.get("__metadata__") or {}
    config = _parse_settings(metadata.get(METADATA), path)
    with torch.device("meta"):  # shapes alone: whatever the settings say, nothing is allocated
        model = CharacterModel(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    numbers = all(tensor.is_floating_point() for tensor in weights.values())
    if not numbers or {name: tensor.shape for name, tensor in weights.items()} != expected:
        raise LanguageModelError(
            f"{path}: its weights are not those of its settings; train or fetch the model again"
        )
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise LanguageModelError(f"{path}: its weights are not finite; train the model again")
    model.load_state_dict({n: x.float() for n, x in weights.items()}, assign=True)
    return model.eval()


def _unreadable(path: str | Path, error: Exception) -> LanguageModelError:
    return LanguageModelError(f"{path}: cannot read this character model: {reason_of(error)}")


def _parse_settings(text: str | None, path: str | Path) -> CharacterModelConfig:
    if text is None:
        raise LanguageModelError(
            f"{path}: not a character model; give a file that recipes/char_lm made"
        )
    try:
        settings: dict[str, Any] = json.loads(text)
        version = settings.pop("format_version")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise LanguageModelError(
                f"{path}: has format {version!r}, this version reads up to {FORMAT_VERSION}; "
                "upgrade asr"
            )
        return CharacterModelConfig(**settings)
    except (
        AttributeError,
        ConfigError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise LanguageModelError(
            f"{path}: its settings are damaged ({error}); train or fetch the model again"
        ) from error
