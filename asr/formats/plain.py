"""Text and JSON."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.transcriber import Transcript


def to_txt(transcript: "Transcript") -> str:
    """Return the text on one line."""
    return transcript.text + "\n"


def to_json(transcript: "Transcript") -> str:
    """Return one JSON object, indented for people; see :func:`to_dict`."""
    return json.dumps(to_dict(transcript), ensure_ascii=False, indent=2) + "\n"


def to_jsonl(transcript: "Transcript") -> str:
    """Return one JSON object on one line; see :func:`to_dict`."""
    return json.dumps(to_dict(transcript), ensure_ascii=False) + "\n"


def to_dict(transcript: "Transcript") -> dict[str, Any]:
    """Return a transcript as JSON knows it, times to the millisecond.

    Returns:
        ``path``, ``duration``, ``text``, ``segments`` (each ``start``, ``end``, ``text``) and
        ``words`` (each ``word``, ``start``, ``end``, ``confidence``); a ``warning`` where a part
        of the recording could not be read.
    """
    content = {
        "path": transcript.path,
        "duration": round(transcript.duration, 3),
        "text": transcript.text,
        "segments": [
            {
                "start": round(segment.start, 3),
                "end": round(segment.end, 3),
                "text": segment.text,
            }
            for segment in transcript.segments
        ],
        "words": [
            {
                name: round(value, 3) if isinstance(value, float) else value
                for name, value in asdict(word).items()
            }
            for word in transcript.words
        ],
    }
    if transcript.warning:
        content["warning"] = transcript.warning
    return content
