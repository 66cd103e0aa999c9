"""The model bundle: a trained model as one self-describing file.

``NAME.asr`` is a zip archive whose members are deflated, by an eighth or so, each with a checksum:

- ``bundle.json``: ``format_version``, ``alphabet``, the names of the phones if the model has a
  second output of them, and the settings of front end, encoder and decoder;
- ``weights.safetensors``: the weights, in single or half precision or in eight bits;
- ``MODEL_CARD.md``: what the model was trained on, under which licences, and how well it does;
- ``lm.klm`` or ``lm.arpa.gz``, if the model has a language model: its n-grams, in KenLM's binary
  format or as text;
- ``char_lm.safetensors``, if it has one: a character model, in eight bits;
- ``pronunciations.safetensors``, if it has an output of phones and a language model: how words
  sound.

Nothing in it is ever unpickled. KenLM, though, believes what an ``lm.klm`` says about itself, so
that one from a stranger may crash whoever decodes with it.
"""

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from asr.archive import (
    ARPA_MODEL,
    BINARY_MODEL,
    CARD,
    CHARACTER_MODEL,
    CONFIG,
    LANGUAGE_MODELS,
    PRONUNCIATIONS,
    WEIGHTS,
    Archive,
)
from asr.atomic import whole_file
from asr.decoding.config import DecoderConfig
from asr.errors import AsrError, BundleError
from asr.features import FeatureConfig
from asr.lm.kenlm_binary import MAGIC
from asr.models.ctc import CtcModel
from asr.models.encoder import EncoderConfig
from asr.quantisation import quantise, restore

FORMAT_VERSION = 4  # 3 knows no phones, 2 no weights in eight bits
SETTINGS = ("alphabet", "phones", "features", "encoder", "decoder")

Precision = Literal["float32", "float16", "int8"]

Config = TypeVar("Config", FeatureConfig, EncoderConfig, DecoderConfig)


@dataclass(frozen=True)
class Bundle:
    """A loaded model.

    Attributes:
        model: the acoustic model, float32, on the CPU, in evaluation mode.
        decoder: settings of the decoder.
        card: model card, Markdown.
        path: the file it came from.
        language_model: the n-grams, a compressed ARPA file or KenLM's binary file; ``None`` if the
            model has none.
        character_model: the content of a character model's file; ``None`` if the model has none.
        precision: that in which the file holds the weights.
        pronunciations: the content of a packed dictionary; ``None`` if the model has none.
    """

    model: CtcModel
    decoder: DecoderConfig
    card: str
    path: Path
    language_model: bytes | None = None
    character_model: bytes | None = None
    precision: Precision = "float16"
    pronunciations: bytes | None = None

    @contextmanager
    def language_model_file(self) -> Iterator[Path | None]:
        """Lay the language model down as a file, as long as the context lasts.

        Raises:
            BundleError: there is no room for it.
        """
        if self.language_model is None:
            yield None
            return
        with ExitStack() as stack:
            try:
                # KenLM keeps a binary file open, and Windows deletes no open file.
                folder = TemporaryDirectory(prefix="asr-", ignore_cleanup_errors=True)
                path = Path(stack.enter_context(folder), _language_model_name(self.language_model))
                path.write_bytes(self.language_model)
            except OSError as error:
                raise BundleError(
                    f"{self.path}: its language model needs {len(self.language_model) / 1e6:.0f} MB"
                    f" for a temporary file ({error.strerror}); make room, or set TMPDIR"
                ) from error
            yield path

    def save(self, path: str | Path) -> None:
        """Write the model with all that belongs to it, see :func:`save_bundle`."""
        save_bundle(
            path,
            self.model,
            self.decoder,
            self.card,
            language_model=self.language_model,
            character_model=self.character_model,
            pronunciations=self.pronunciations,
            precision=self.precision,
        )


def save_bundle(
    path: str | Path,
    model: CtcModel,
    decoder: DecoderConfig,
    card: str,
    *,
    language_model: bytes | None = None,
    character_model: bytes | None = None,
    pronunciations: bytes | None = None,
    precision: Precision = "float16",
) -> None:
    """Write a model bundle, whole or not at all. The same model gives the same bytes.

    Args:
        path: file to write, by convention ``NAME.asr``.
        model: the acoustic model.
        decoder: settings of the decoder.
        card: model card, Markdown.
        language_model: a compressed ARPA file or KenLM's binary file.
        character_model: the content of a character model's file.
        pronunciations: the content of a packed dictionary, see :mod:`asr.pronunciation`.
        precision: of the weights: ``float32`` as they are, ``float16`` in half of the space,
            ``int8`` in a quarter, see :mod:`asr.quantisation`.

    Raises:
        BundleError: a weight is not finite, or not within half precision; the file cannot be
            written.
    """
    config = {
        "format_version": FORMAT_VERSION,
        "alphabet": model.tokenizer.alphabet,
        "phones": list(model.phone_tokenizer.phones) if model.phone_tokenizer else [],
        "features": asdict(model.features_config),
        "encoder": asdict(model.encoder_config),
        "decoder": asdict(decoder),
    }
    members = {
        CONFIG: json.dumps(config, indent=2, ensure_ascii=False).encode(),
        WEIGHTS: safetensors.torch.save(_stored_weights(model, precision, path)),
        CARD: card.encode(),
    }
    if language_model is not None:
        members[_language_model_name(language_model)] = language_model
    if character_model is not None:
        members[CHARACTER_MODEL] = character_model
    if pronunciations is not None:
        members[PRONUNCIATIONS] = pronunciations
    try:
        with whole_file(path) as partial, zipfile.ZipFile(partial, "w") as archive:
            for name, content in members.items():
                without_time = zipfile.ZipInfo(name)
                archive.writestr(without_time, content, zipfile.ZIP_DEFLATED)
    except OSError as error:
        raise BundleError(f"{path}: cannot write this model: {error}") from error


def load_bundle(source: str | Path | Archive) -> Bundle:
    """Load a model bundle; no other file is needed.

    Args:
        source: the file, or one whose reading has begun.

    Raises:
        BundleError: the file is missing, cut short, damaged, no bundle or of a newer format; its
            settings are unknown or contradict each other; its weights are not those of the
            settings or not finite.
    """
    archive = source if isinstance(source, Archive) else Archive(source)
    path, members = archive.path, archive.members()
    settings = _parse_config(members[CONFIG], path)
    model = build_model(settings, path)
    try:
        tensors = safetensors.torch.load(members[WEIGHTS])
        card = members[CARD].decode()
        weights = restore(tensors)
    except (SafetensorError, KeyError, ValueError) as error:  # KeyError: a type unknown to torch
        raise BundleError(f"{path}: {error}; make or fetch the model again") from error
    load_weights(model, weights, path)
    decoder = _config(DecoderConfig, settings["decoder"], path)
    ngrams = next((members[name] for name in LANGUAGE_MODELS if name in members), None)
    return Bundle(
        model,
        decoder,
        card,
        path,
        language_model=ngrams,
        character_model=members.get(CHARACTER_MODEL),
        precision=_precision(tensors),
        pronunciations=members.get(PRONUNCIATIONS),
    )


def build_model(settings: Mapping[str, Any], path: Path) -> CtcModel:
    """Build a model from its stored settings; its weights are still to come, see load_weights.

    Args:
        settings: ``alphabet``, ``phones`` if there are any, and the objects ``features`` and
            ``encoder``; what these leave out has its default.
        path: where they were stored, for messages.

    Raises:
        BundleError: a setting is unknown, of the wrong type or contradicts another.
    """
    alphabet = settings.get("alphabet")
    if not isinstance(alphabet, str):
        raise BundleError(f"{path}: its alphabet is not a text; make the model again")
    phones = settings.get("phones", [])
    if not isinstance(phones, list):
        raise BundleError(f"{path}: its phones are not a list; make the model again")
    features = _config(FeatureConfig, settings.get("features"), path)
    encoder = _config(EncoderConfig, settings.get("encoder"), path)
    try:
        with torch.device("meta"):  # random weights would take half a second
            return CtcModel(features, encoder, alphabet, phones).eval()
    except (AsrError, ArithmeticError, AssertionError, RuntimeError, ValueError) as error:
        raise BundleError(f"{path}: no model has these settings: {error}") from error


def load_weights(model: CtcModel, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Put stored weights into a model.

    Raises:
        BundleError: a tensor is missing, unknown, of another shape or kind, or not finite.
    """
    expected = model.state_dict()
    if tensors.keys() != expected.keys():
        name = min(tensors.keys() ^ expected.keys())
        problem = "lacks" if name in expected else "has the unknown"
        raise BundleError(f"{path}: {problem} weights {name!r}; make or fetch the model again")
    weights = {}
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise BundleError(
                f"{path}: weights {name!r} have the shape {tuple(tensor.shape)}, its settings say "
                f"{tuple(expected[name].shape)}; make or fetch the model again"
            )
        if tensor.is_floating_point() != expected[name].is_floating_point():
            raise BundleError(f"{path}: weights {name!r} are {tensor.dtype}; make the model again")
        weights[name] = tensor.to(expected[name].dtype)
        _check_finite(name, weights[name], path)
    model.load_state_dict(weights, assign=True)


def _language_model_name(content: bytes) -> str:
    return BINARY_MODEL if content.startswith(MAGIC) else ARPA_MODEL


def _stored_weights(model: CtcModel, precision: Precision, path: str | Path) -> dict[str, Tensor]:
    weights = {}
    for name, tensor in model.state_dict().items():
        _check_finite(name, tensor, path)
        # A copy each: the layers of an LSTM may share one storage, which safetensors refuses.
        weights[name] = tensor.detach().to("cpu", copy=True).contiguous()
    if precision == "int8":
        weights = quantise(weights)
    elif precision == "float16":
        weights = {n: x.half() if x.is_floating_point() else x for n, x in weights.items()}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise BundleError(f"{path}: weights {name!r} exceed half precision; store all digits")
    return weights


def _precision(tensors: Mapping[str, Tensor]) -> Precision:
    kinds = {tensor.dtype for tensor in tensors.values()}
    if torch.int8 in kinds:
        return "int8"
    return "float16" if torch.float16 in kinds else "float32"


def _check_finite(name: str, tensor: Tensor, path: str | Path) -> None:
    if not tensor.isfinite().all():
        raise BundleError(f"{path}: weights {name!r} are not finite; train the model again")


def _parse_config(content: bytes, path: Path) -> dict[str, Any]:
    try:
        config = json.loads(content)
        version = config.pop("format_version")
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(f"{path}: its {CONFIG} is no bundle configuration") from error
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise BundleError(
            f"{path}: has format {version!r}, this version reads up to {FORMAT_VERSION}; "
            "upgrade asr"
        )
    if version < FORMAT_VERSION:
        config.setdefault("phones", [])
    if config.keys() != set(SETTINGS):
        name = min(config.keys() ^ set(SETTINGS))
        problem = "lacks" if name in SETTINGS else "has the unknown"
        raise BundleError(f"{path}: its {CONFIG} {problem} key {name!r}; make the model again")
    return dict(config)


def _config(kind: type[Config], values: object, path: Path) -> Config:
    """Build one of the frozen config classes from stored values."""
    if not isinstance(values, dict):
        raise BundleError(f"{path}: the settings of {kind.__name__} are not an object")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise BundleError(f"{path}: unknown setting {name!r} of {kind.__name__}; upgrade asr")
        if not _fits(value, hints[name]):
            raise BundleError(f"{path}: {value!r} is no value for {name} of {kind.__name__}")
    try:
        return kind(**values)
    except (AsrError, ArithmeticError) as error:
        raise BundleError(f"{path}: {error}") from error


def _fits(value: object, hint: Any) -> bool:
    """Return whether a JSON value is of a type: plain, ``Literal``, ``tuple[X, ...]`` or union."""
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return any(type(value) is type(option) and value == option for option in options)
    if get_origin(hint) is tuple:
        return isinstance(value, list) and all(_fits(item, options[0]) for item in value)
    if options:
        return any(_fits(value, option) for option in options)
    if hint is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type]
    return type(value) is hint
