"""Transcripts in the shapes of OpenAI's API."""

import json
import math
import zlib
from collections.abc import Collection
from typing import Any, Literal

from fastapi.responses import JSONResponse, PlainTextResponse, Response

from asr.formats.plain import to_dict, to_txt
from asr.formats.subtitles import to_srt, to_vtt
from asr.transcriber import Segment, Transcript

ResponseFormat = Literal["json", "text", "srt", "verbose_json", "vtt", "all"]
Granularity = Literal["word", "segment"]
UNDETERMINED = "und"  # ISO 639-2: a model does not say which language it knows


def render(
    transcript: Transcript,
    format: ResponseFormat,
    *,
    granularities: Collection[Granularity] = (),
    language: str | None = None,
) -> Response:
    """Return the answer to a request for a transcript.

    Args:
        transcript: what was said.
        format: as OpenAI defines it; ``all``, which it does not know, is one object with the
            contents of the files that ``asr transcribe`` writes as txt, srt, vtt and json.
        granularities: what has times in ``verbose_json``; segments if nothing is named.
        language: what the client believes to have sent.

    The JSON of a recording that could be read in part alone has a ``warning`` that says so, a
    field that OpenAI's clients pass on.

    Reference: OpenAI, "API reference: Create transcription".
    """
    if format == "text":
        return PlainTextResponse(to_txt(transcript))
    if format == "srt":
        return PlainTextResponse(to_srt(transcript))
    if format == "vtt":
        return Response(to_vtt(transcript), media_type="text/vtt")
    if format == "all":
        return JSONResponse(_all_files(transcript))
    usage = {"type": "duration", "seconds": math.ceil(transcript.duration)}
    content: dict[str, Any] = {"text": transcript.text, "usage": usage}
    if transcript.warning:
        content["warning"] = transcript.warning
    if format == "verbose_json":
        content |= {
            "task": "transcribe",
            "language": language or UNDETERMINED,
            "duration": round(transcript.duration, 3),
        }
        if "word" in granularities:
            content["words"] = to_dict(transcript)["words"]
        if "segment" in granularities or not granularities:
            content["segments"] = [
                _segment(number, segment) for number, segment in enumerate(transcript.segments)
            ]
    return JSONResponse(content)


def events(transcript: Transcript) -> Response:
    """Return the answer to a request that asks for a stream of events: all text in one.

    Reference: OpenAI, "API reference: Create transcription", streaming.
    """
    told: list[dict[str, str]] = [
        {"type": "transcript.text.delta", "delta": transcript.text},
        {"type": "transcript.text.done", "text": transcript.text},
    ]
    if transcript.warning:
        told[-1]["warning"] = transcript.warning
    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in told)
    return Response(body, media_type="text/event-stream")


def _all_files(transcript: Transcript) -> dict[str, Any]:
    return {
        "txt": to_txt(transcript),
        "srt": to_srt(transcript),
        "vtt": to_vtt(transcript),
        "json": to_dict(transcript),
    }


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    """Return a segment with all the fields of the API, some of which only Whisper fills."""
    text = segment.text.encode()
    confidences = [max(word.confidence, 1e-9) for word in segment.words]
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(map(math.log, confidences)) / len(confidences), 4),
        "compression_ratio": round(len(text) / len(zlib.compress(text)), 3),
        "no_speech_prob": 0.0,
    }
