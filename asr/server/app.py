"""The whole application: API, live audio, web page, health and figures."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.types import Scope

from asr import __version__
from asr.server import api, live
from asr.server.batching import Batcher
from asr.server.errors import add_error_handlers
from asr.server.gate import Gate
from asr.server.limits import Limits
from asr.server.metrics import Measured, Metrics
from asr.server.service import Service
from asr.transcriber import BATCH_SECONDS, Transcriber

PAGE = Path(__file__).parent / "page"
# Nothing from elsewhere; sound that was dropped on the page lives at blob: addresses.
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; media-src blob:; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(
    transcriber: Transcriber,
    model: str,
    *,
    created: int = 0,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    api_key: str | None = None,
    batch_seconds: float = BATCH_SECONDS,
) -> FastAPI:
    """Return an application that offers one model.

    Args:
        transcriber: the model at work.
        model: its name for clients.
        created: when it was made, seconds since 1970.
        limits: of what a client may ask for.
        api_key: what clients must send along; ``None`` lets everybody in.
        batch_seconds: most audio in a batch.
    """
    metrics = Metrics()
    batcher = Batcher(transcriber, metrics, batch_seconds)
    service = Service(model, created, batcher, limits, metrics, api_key)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        batcher.close()

    # The usual pages of documentation fetch scripts from elsewhere.
    app = FastAPI(
        title="asr", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service = service
    add_error_handlers(app)
    app.add_middleware(Gate, service=service)
    app.add_middleware(Measured, metrics=metrics)
    app.include_router(api.router)
    app.include_router(live.router)
    app.get("/healthz", include_in_schema=False)(_health)
    app.get("/metrics", include_in_schema=False)(_metrics)
    app.get("/", include_in_schema=False)(_front_page)
    app.mount("/page", _Page(directory=PAGE))
    return app


async def _health(request: Request) -> JSONResponse:
    service: Service = request.app.state.service
    if service.is_stopping:
        return JSONResponse({"status": "stopping"}, 503)
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    service: Service = request.app.state.service
    return Response(service.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


async def _front_page() -> FileResponse:
    return FileResponse(PAGE / "index.html", headers=PAGE_HEADERS)


class _Page(StaticFiles):
    """What the web page is made of."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file with headers that shut out everything from elsewhere."""
        response = await super().get_response(path, scope)
        response.headers.update(PAGE_HEADERS)
        if path.endswith(".js"):  # which some Windows registries call plain text
            response.headers["Content-Type"] = "text/javascript; charset=utf-8"
        return response
