"""What the headers of sound files state, and whether the files hold it.

libsndfile decodes what it finds and seldom tells that there was less, or more, than stated.
"""

import os
import re
import struct
from typing import BinaryIO

import soundfile

# libsndfile's count where a header does not tell, as in FLAC written to a pipe.
UNKNOWN_FRAMES = 2**63 - 1


def shortfall(sound: soundfile.SoundFile, file: BinaryIO, frames: int) -> str:
    """Return what shows that the frames decoded are not the whole recording, or nothing.

    Args:
        sound: read to its end.
        file: that it reads from, where reading it ended.
        frames: how many samples of each channel there were.
    """
    missing = frames < sound.frames < UNKNOWN_FRAMES
    if sound.format == "MP3":
        # Without a header libsndfile guesses the length from the first bit rate and the size of
        # the file, and it never reads beyond its guess.
        position, (start, end) = file.tell(), _without_tags(file)
        if end - position > (end - start) // 50:
            return "MP3 header tells less than the file holds, convert it to WAV or FLAC"
        # By one MPEG frame a header may be off.
        missing = _states_length(file, start) and sound.frames - frames > 1152
    elif sound.format == "OGG":
        if problem := _ogg_problem(file):
            return problem
    elif sound.format in ("WAV", "WAVEX", "AIFF"):
        if problem := _chunk_problem(file):
            return problem
    elif sound.format == "NIST":
        file.seek(0)
        stated = re.search(rb"sample_count -i (\d+)", file.read(1024))
        missing |= bool(stated and frames < int(stated[1]))
    else:  # libsndfile's words for what RF64, W64, AU and VOC state
        sizes = re.findall(r"(\d+) \(should be (\d+)\)", sound.extra_info)
        missing |= any(int(stated) > int(found) for stated, found in sizes)
        missing |= "truncated" in sound.extra_info
    return "cut short" if missing else ""


def _without_tags(file: BinaryIO) -> tuple[int, int]:
    """Return where the sound of an MP3 file begins and ends: between ID3 and APE tags.

    Tags that leave no room for sound are none.
    """
    size = end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(10)
    start = 0
    if head[:3] == b"ID3" and len(head) == 10:
        start = 10 + sum(
            byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)
        )
    file.seek(max(0, end - 128))
    if file.read(3) == b"TAG":
        end -= 128
    file.seek(max(0, end - 32))
    foot = file.read(32)
    if foot[:8] == b"APETAGEX" and len(foot) == 32:
        _version, length, _items, flags = struct.unpack("<4I", foot[8:24])
        end -= length + (32 if flags & 2**31 else 0)  # that of a header
    return (start, end) if start < end else (0, size)


def _states_length(file: BinaryIO, start: int) -> bool:
    """Tell whether the first frame of an MP3 file holds the number of frames."""
    file.seek(start)
    frame = file.read(64)
    return any(name in frame for name in (b"Xing", b"Info", b"VBRI"))


def share_of_sound(file: BinaryIO) -> float:
    """Return how much of the length that libsndfile states for an MP3 file is not owed to tags.

    1 where a header holds the length; elsewhere libsndfile guesses it from the size of the file.
    """
    size = file.seek(0, os.SEEK_END)
    start, end = _without_tags(file)
    return 1.0 if _states_length(file, start) else (end - start) / size


def _ogg_problem(file: BinaryIO) -> str:
    """Tell whether the last page ends the stream that the first page began (RFC 3533)."""
    file.seek(0)
    first = file.read(27)
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - 65_307))  # the size of the largest page
    tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:]
    if start < 0 or len(page) < 27:
        return "cut short"
    lacing = page[27 : 27 + page[26]]
    if not page[5] & 4 or len(page) < 27 + page[26] + sum(lacing):
        return "cut short"
    serial = slice(14, 18)
    if page[serial] != first[serial]:  # the rest is not read
        return "holds several streams one after another, convert it to WAV or FLAC"
    return ""


def _chunk_problem(file: BinaryIO) -> str:
    """Tell whether the samples of a WAV or AIFF file are as many as it says."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    found = _samples_chunk(file, file.read(12)[:4])
    if not found or unwritten_sizes(file):
        return ""
    start, size = found
    # Programs that write to a pipe leave a size near 2 or 4 GiB.
    if size >= 2**31 - 2**16 and (size + 2**16) % 2**31 < 2**17:
        return ""
    rest = end - start - size
    if rest < 0:
        return "cut short"
    file.seek(start + size + size % 2)
    # A little may follow, such as padding.
    longer = rest > end // 50 and not _is_chunk_name(file.read(4))
    return "header tells less than the file holds, repair it" if longer else ""


def _is_chunk_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _samples_chunk(file: BinaryIO, container: bytes = b"RIFF") -> tuple[int, int] | None:
    """Return where the samples of a WAV or AIFF file begin, from behind its head, and their size.

    ``None`` if there are none.
    """
    header = struct.Struct(">4sI" if container in (b"FORM", b"RIFX") else "<4sI")
    while len(head := file.read(header.size)) == header.size:
        kind, size = header.unpack(head)
        if kind in (b"data", b"SSND"):
            return file.tell(), size
        file.seek(size + size % 2, os.SEEK_CUR)
    return None


def unwritten_sizes(file: BinaryIO) -> tuple[int, ...]:
    """Return where a WAV file holds the two sizes that its recorder never came to write, or ().

    They are 0, and yet samples follow, or what is no other chunk.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(12)[:4] != b"RIFF":
        return ()
    found = _samples_chunk(file)
    if found is None or found[1] or found[0] == end or _is_chunk_name(file.read(4)):
        return ()
    return 4, found[0] - 4
