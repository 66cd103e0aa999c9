"""Every error a user can cause, so that the command line can print one clear line.

AsrError
├── AudioError          a recording cannot be read
├── ManifestError       a corpus or manifest is not what it should be
├── TextError           text holds characters that the alphabet does not know
├── ConfigError         settings contradict each other
├── BundleError         a model file is damaged, too new or of another shape
├── LanguageModelError  a language model file is damaged or does not fit
├── PronunciationError  a pronunciation dictionary cannot be read or lacks words
└── DownloadError       a file could not be fetched, verified or unpacked

Each message names the file and says what to do about it.
"""


class AsrError(Exception):
    """Base of all errors that the user can mend; the message is one line for people."""


class AudioError(AsrError):
    """A recording is missing, empty, damaged or of an unknown format."""


class ManifestError(AsrError):
    """A manifest or corpus folder is missing or malformed."""


class TextError(AsrError):
    """A text holds characters outside the alphabet."""


class ConfigError(AsrError):
    """Settings are out of range or contradict each other."""


class BundleError(AsrError):
    """A model bundle cannot be loaded or written."""


class LanguageModelError(AsrError):
    """A language model cannot be read or does not fit."""


class PronunciationError(AsrError):
    """A pronunciation dictionary cannot be read or lacks words."""


class DownloadError(AsrError):
    """A download failed, or its checksum or archive is not as expected."""


def reason_of(error: Exception) -> str:
    """Return why a file cannot be read or written, and what to do, without its name."""
    if isinstance(error, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(error, UnicodeDecodeError):
        return f"it is no UTF-8 text ({error.reason} {error.object[error.start]:#x}); convert it"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}; check the path"
    return f"{error}; make or fetch it anew"


class AsrWarning(UserWarning):
    """Something goes on in another way than was asked for."""


class AudioWarning(AsrWarning):
    """A recording was usable only in part, for example because it is cut short."""
