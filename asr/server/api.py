"""The routes that OpenAI's clients know."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response, UploadFile
from starlette.concurrency import run_in_threadpool

from asr.errors import AudioError
from asr.server.errors import ApiError
from asr.server.responses import Granularity, ResponseFormat, events, render
from asr.server.service import Service
from asr.server.temporary import temporary_file

ALIAS = "whisper-1"  # many clients name it and offer no choice

router = APIRouter(prefix="/v1")


@router.post("/audio/transcriptions")
async def transcribe(
    request: Request,
    file: UploadFile,
    model: Annotated[str, Form()],
    response_format: Annotated[ResponseFormat, Form()] = "json",
    timestamp_granularities: Annotated[
        list[Granularity] | None, Form(alias="timestamp_granularities[]")
    ] = None,
    language: Annotated[str | None, Form()] = None,
    prompt: Annotated[str | None, Form()] = None,
    temperature: Annotated[float, Form(ge=0, le=1)] = 0,
    stream: Annotated[bool, Form()] = False,
) -> Response:
    """Transcribe a recording."""
    service: Service = request.app.state.service
    if model != ALIAS:
        _find(service, model)
    if timestamp_granularities and response_format != "verbose_json":
        raise ApiError(
            400,
            f"timestamp_granularities need response_format verbose_json, not {response_format}",
            param="timestamp_granularities[]",
        )
    if stream and response_format != "json":
        message = f"stream needs response_format json, not {response_format}"
        raise ApiError(400, message, param="stream")
    name = file.filename or "file"
    is_over = threading.Event()
    with temporary_file() as path:
        try:
            await run_in_threadpool(_copy, file, path)
            seconds = await run_in_threadpool(service.limits.check_length, path, is_over.is_set)
            transcript = await service.batcher.transcribe(path, seconds)
        except AudioError as error:
            message = str(error).replace(str(path), name)
            raise ApiError(400, message, param="file", code="unreadable_audio") from error
        finally:
            is_over.set()  # a thread goes on when its request was cancelled
    warning = transcript.warning and transcript.warning.replace(str(path), name)
    transcript = replace(transcript, path=name, warning=warning)
    if stream:
        return events(transcript)
    return render(
        transcript,
        response_format,
        granularities=timestamp_granularities or (),
        language=language,
    )


@router.get("/models")
async def list_models(request: Request) -> dict[str, Any]:
    """Return the models on offer: the one that the server was started with."""
    return {"object": "list", "data": [_card(request.app.state.service)]}


@router.get("/models/{model:path}")
async def show_model(request: Request, model: str) -> dict[str, Any]:
    """Return one model."""
    service: Service = request.app.state.service
    return _card(service) | {"id": ALIAS} if model == ALIAS else _find(service, model)


def _find(service: Service, model: str) -> dict[str, Any]:
    if model != service.model:
        message = f"there is no model {model!r} here; {service.model!r} is on offer"
        raise ApiError(404, message, param="model", code="model_not_found")
    return _card(service)


def _card(service: Service) -> dict[str, Any]:
    return {
        "id": service.model,
        "object": "model",
        "created": service.created,
        "owned_by": "asr",
    }


def _copy(upload: UploadFile, path: Path) -> None:
    """Give an upload, which arrived in a file without a name, a name."""
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)
