"""A server of one's own: reached by nobody else, ended with its parent, and its refusals passed on."""

import asyncio
import tempfile
from pathlib import Path

import httpx
import psutil
import pytest

from farthing.client.private_server import PrivateServerError, private_server

ARGUMENTS = ("bundled", "--threads", "1")


def test_it_answers_who_has_its_key_alone_and_ends_with_its_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said: list[str] = []

    async def using() -> list[psutil.Process]:
        async with private_server(ARGUMENTS, said.append) as own:
            assert not list(tmp_path.glob("**/key"))  # it is read, and gone
            assert own.server.url.startswith("http://127.0.0.1:") and own.gone() is None
            assert (await own.server.ask("GET", "/v1/models"))[0] == 200
            assert httpx.get(f"{own.server.url}/v1/models").status_code == 401
            children = psutil.Process().children(recursive=True)
            assert not [child for child in children if own.server.key in " ".join(child.cmdline())]
            assert own.server.key not in repr(own.server)
            return children

    children = asyncio.run(using())
    assert len(children) >= 2 and not [child for child in children if child.is_running()]
    assert len(said) == 1 and said[0].startswith("bundled · ")
    assert list(tmp_path.iterdir()) == []


def test_one_that_ends_while_it_is_used_tells_how(tmp_path: Path):
    async def using() -> str | None:
        async with private_server(ARGUMENTS, lambda line: None) as own:
            serving = next(child for child in psutil.Process().children() if "serve" in child.cmdline())
            serving.kill()
            while (reason := own.gone()) is None:
                await asyncio.sleep(0.05)
            return reason

    assert "ended with exit code -9" in str(asyncio.run(using()))


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (("bundled", "--context", "9999"), "--context 9999 is above", "use at most"),
        (("bundled", "--memory", "20MiB"), "does not fit", "use --server"),
    ],
)
def test_a_refusal_is_passed_on(arguments: tuple[str, ...], what: str, fix: str):
    async def using() -> None:
        async with private_server(arguments, lambda line: None):
            raise AssertionError("it began")

    with pytest.raises(PrivateServerError) as caught:
        asyncio.run(using())
    assert what in caught.value.what and fix in caught.value.fix
    assert ("--server" in caught.value.fix) == ("fit" in what)
