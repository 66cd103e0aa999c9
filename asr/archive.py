"""The file of a model bundle: a zip archive, read while something else is done.

A second and more of the start of ``asr transcribe`` goes by until torch is imported, with one core
at work; inflating the n-grams, two tenths of a second, needs none of Python's and takes another.
"""

import zipfile
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

from asr.errors import BundleError

CONFIG, WEIGHTS, CARD = MEMBERS = ("bundle.json", "weights.safetensors", "MODEL_CARD.md")
LANGUAGE_MODELS = BINARY_MODEL, ARPA_MODEL = ("lm.klm", "lm.arpa.gz")
CHARACTER_MODEL = "char_lm.safetensors"
PRONUNCIATIONS = "pronunciations.safetensors"
OPTIONAL = frozenset({*LANGUAGE_MODELS, CHARACTER_MODEL, PRONUNCIATIONS})
DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,  # zipfile's word for a compression that it does not know
    RuntimeError,
    ValueError,
)  # what zipfile raises where an archive is none, or not whole
LARGE = 2**30  # bytes of all members
MOST_INFLATION = 100  # of large files; weights and n-grams shrink by far less


class Archive:
    """The members of a bundle's file, read in a thread from now on.

    Args:
        path: the file. What is wrong with its content is told by :meth:`members`.

    Attributes:
        path: the same.

    Raises:
        BundleError: there is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise BundleError(f"{path}: no such model; give the path of an .asr file")
        reader = ThreadPoolExecutor(1)
        self._members: Future[dict[str, bytes]] = reader.submit(_read_members, self.path)
        reader.shutdown(wait=False)

    def members(self) -> dict[str, bytes]:
        """Return the content of each member, as soon as all are read.

        Raises:
            BundleError: the file cannot be read, is cut short, damaged or no bundle.
        """
        return self._members.result()


def read_part(path: str | Path, name: str) -> bytes | None:
    """Return the content of a file; of a bundle, that of one member, or ``None`` if it lacks it.

    Raises:
        OSError: the file cannot be read, or is a damaged bundle.
    """
    path = Path(path)
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            return _read(archive, name) if name in archive.namelist() else None
    except DAMAGED as error:
        raise OSError(str(error)) from error


def packaged_model() -> Path:
    """Return the path of the model that ships with the package.

    Raises:
        BundleError: this installation holds none.
    """
    path = Path(str(files("asr"))) / "assets" / "english.asr"
    if not path.is_file():
        raise BundleError(f"{path}: the packaged model is missing; reinstall, or name a model")
    return path


def _read_members(path: Path) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            _check_size(archive, path)
            names = (*MEMBERS, *(OPTIONAL & set(archive.namelist())))
            return {name: _read(archive, name) for name in names}
    except OSError as error:
        raise BundleError(f"{path}: cannot read this model: {error}") from error
    except KeyError as error:
        raise BundleError(f"{path}: lacks a part, so it is no model bundle: {error}") from error
    except DAMAGED as error:
        if path.read_bytes()[:2] == b"PK":
            problem = f"the model is damaged or cut short ({error}); fetch it again"
        else:
            problem = "not a model bundle; give the path of an .asr file"
        raise BundleError(f"{path}: {problem}") from error


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return a member's content, of which no more is inflated than it claims to hold.

    Raises:
        KeyError: there is no such member.
        NotImplementedError: it is packed otherwise than models are; of bzip2 and LZMA, zipfile
            inflates all that it has read.
    """
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NotImplementedError(f"{name} is not packed by deflate")
    with archive.open(member) as file:
        return file.read(member.file_size)


def _check_size(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a small file whose members claim to become more than memory may hold."""
    size, claimed = path.stat().st_size, sum(member.file_size for member in archive.infolist())
    if claimed > max(LARGE, MOST_INFLATION * size):
        raise zipfile.BadZipFile(f"its {size:,} bytes claim to hold {claimed:,}")
