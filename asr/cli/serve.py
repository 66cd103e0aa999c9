"""``asr serve``: the recogniser for other programs and for the browser."""

from typing import Annotated

import typer

from asr.cli.options import BATCH_SECONDS, BatchSeconds, Device, Model


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 for the whole network.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any that is free.")
    ] = 8000,
    model: Model = None,
    device: Device = None,
    batch_seconds: BatchSeconds = BATCH_SECONDS,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="ASR_API_KEY",
            help="What clients must send along; other users of this machine can see it here, "
            "but not in the variable.",
            show_default=False,
        ),
    ] = None,
    max_mb: Annotated[float, typer.Option(min=0, help="Largest upload, MB.")] = 100.0,
    max_seconds: Annotated[
        float, typer.Option(min=0, help="Longest recording or live session, seconds.")
    ] = 7200.0,
    max_concurrent: Annotated[
        int, typer.Option(min=1, help="Most requests and live sessions at once.")
    ] = 64,
    timeout: Annotated[
        float, typer.Option(min=0, help="Most time for one request, seconds.")
    ] = 600.0,
) -> None:
    """Serve a web page and OpenAI's transcription API.

    Ctrl-C or SIGTERM ends it once the requests that run are answered; a second one at once.
    """
    from asr.errors import ConfigError

    if not host:
        raise ConfigError("--host is empty; 0.0.0.0 serves all networks, 127.0.0.1 this machine")
    if api_key is not None:
        if not api_key.strip():
            raise ConfigError(
                "--api-key is empty, and would let everybody in; leave it out or give one"
            )
        if not (api_key.isascii() and api_key.isprintable()) or api_key != api_key.strip():
            raise ConfigError(
                "--api-key: browsers cannot send it; take printable ASCII, no space around"
            )
    try:
        from asr.server.app import create_app
        from asr.server.running import Server, address, listen
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("asr"):
            raise
        raise ConfigError(
            f"the server needs the package {error.name}; in the project's folder: "
            "pip install -e '.[server]'"
        ) from error

    from asr.archive import packaged_model
    from asr.server.limits import Limits
    from asr.transcriber import Transcriber

    with listen(host, port) as listener:  # first, since loading takes seconds
        path = model or packaged_model()
        app = create_app(
            Transcriber.load(path, device),
            path.stem,
            created=int(path.stat().st_mtime),
            limits=Limits(max_mb, max_seconds, max_concurrent, timeout),
            api_key=api_key,
            batch_seconds=batch_seconds,
        )
        typer.echo(f"asr: {path.stem} is served at {address(listener)} (Ctrl-C ends)", err=True)
        Server(app).run(sockets=[listener])
