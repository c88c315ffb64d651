"""What the operator of a server may choose: each field is a flag of `farthing serve`, beside those of the engine.

Knows no HTTP; app.py hands the values to the parts that obey them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from farthing.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Each field is a flag of `serve`.

    Parameters
    ----------
    host
        Address to listen on. Others than this machine's own need --api-keys.
    port
        Port to listen on; 0 takes a free one.
    api_keys
        File with one key a line (NAME:KEY or KEY); only its owner may read it. Requests must then bring a key.
    allowed_host
        Host name by which browsers and containers may reach a server without keys; may be repeated.
    cors_origin
        Origin of a web page that may use the server, as https://chat.example.org; may be repeated.
    served_model_name
        Name by which requests ask for the model; may be repeated. By default MODEL; of a path its last part.
    strict
        Refuse requests with fields that Farthing does not know, instead of ignoring them.
    max_queued_requests
        Requests that may wait for their first token; more are answered with 429.
    max_queued_tokens
        Prompt tokens that may wait.
    max_body_bytes
        Largest request body.
    request_timeout
        Seconds after which a request is ended.
    drain_seconds
        Seconds that running requests get to end after SIGTERM.
    stall_seconds
        The engine is restarted if it finishes no step for so long while work waits.
    max_restarts
        Restarts of the engine within ten minutes before the server gives up.
    price_per_hour
        Dollars an hour that this machine costs, for the bill. By default the catalogue's, where it has one.
    bill
        Keep the bill on disk, for farthing bill.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: Path | None = None
    allowed_host: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    cors_origin: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    served_model_name: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    strict: bool = False
    max_queued_requests: int = 256
    max_queued_tokens: int = 1_000_000
    max_body_bytes: int = 16 * 2**20
    request_timeout: float = 600.0
    drain_seconds: float = 30.0
    stall_seconds: float = 60.0
    max_restarts: int = 3
    price_per_hour: float | None = None
    bill: Annotated[bool, Parameter(negative="--no-bill")] = True

    def __post_init__(self) -> None:
        if not 0 <= self.port < 2**16:
            raise UsageError(f"--port is {self.port}", fix="it must be from 0 to 65535")
        for name in ("max_queued_requests", "max_queued_tokens", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}", fix="it must be at least 1")
        for name in ("request_timeout", "stall_seconds"):
            if not 0 < getattr(self, name) <= 10**6:
                raise UsageError(f"--{name.replace('_', '-')} is {getattr(self, name)}", fix="it must be above 0")
        if not 0 <= self.drain_seconds <= 10**6:
            raise UsageError(f"--drain-seconds is {self.drain_seconds}", fix="it must be at least 0")
        if self.price_per_hour is not None and not 0 <= self.price_per_hour <= 10**6:
            raise UsageError(f"--price-per-hour is {self.price_per_hour}", fix="it is a number of dollars from 0 up")
        if self.max_restarts < 0:
            raise UsageError(f"--max-restarts is {self.max_restarts}", fix="it must be at least 0")
