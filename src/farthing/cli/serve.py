"""`farthing serve`: flags to a server. What it says about itself goes to stderr; its answers go to its clients.

Knows flags; the server is loaded when it is needed.
"""

from typing import Annotated

from cyclopts import Parameter

from farthing import discover
from farthing.cli import output
from farthing.cli.model_argument import DownloadFlags, model_and_config, obtain
from farthing.cli.said import may_be_unsaid, said
from farthing.engine.config import EngineConfig
from farthing.errors import FarthingError
from farthing.planner.plan_file import is_plan_file
from farthing.server.config import ServerConfig

SaidEngine = may_be_unsaid(EngineConfig, __name__)
SaidServer = may_be_unsaid(ServerConfig, __name__)
_DOWNLOAD, _ENGINE, _SERVER = DownloadFlags(), SaidEngine(), SaidServer()


def serve(
    model: Annotated[
        str, Parameter(name="MODEL", help="Folder, .gguf file, alias, org/name or plan file. Default: bundled.")
    ] = "bundled",
    /,
    *,
    server: Annotated[SaidServer, Parameter(name="*")] = _SERVER,
    engine: Annotated[SaidEngine, Parameter(name="*")] = _ENGINE,
    download: Annotated[DownloadFlags, Parameter(name="*")] = _DOWNLOAD,
) -> int:
    """Serve a model to OpenAI and Anthropic clients."""
    config = ServerConfig(**said(server))
    name, engine_config = model_and_config(model, engine)
    running = discover.load("farthing.server", "serve")
    running.check(config)
    obtain(name, engine_config, download)
    say = lambda line: output.stderr.print(line, soft_wrap=True)  # noqa: E731
    return running.serve(name, engine_config, config, say, reports=_reports(model))


def _reports(model: str) -> dict[str, str]:
    """The report of a plan file by language; empty for any other model, and for a plan that can't be made here."""
    if not is_plan_file(model):
        return {}
    try:
        return discover.load("farthing.cli", "plan_pages").pages_of(model)
    except FarthingError as error:
        output.stderr.print(f"note: the page has no report of the plan: {error}", soft_wrap=True)
        return {}
