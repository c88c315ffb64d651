"""`farthing pull`, and `farthing run` of a model of a hub, as a person meets them; the hub is on loopback."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from loopback_hub import COMMIT, REPOSITORY, WEIGHTS, LoopbackHub, running_hub

from farthing.cli import output
from farthing.cli.app import main
from farthing.models.reference import find_model

Command = Callable[..., tuple[int, str, str]]
WEIGHTS_NAME = "model.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    yield from running_hub(tmp_path, monkeypatch)


@pytest.fixture
def farthing(capsys: pytest.CaptureFixture[str]) -> Command:
    """Exit code, stdout and stderr of a command."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return caught.value.code, captured.out, captured.err

    return run


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A terminal with somebody in it who types this."""

    def types(text: str) -> None:
        terminal = io.StringIO(text)
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", terminal)
        monkeypatch.setattr(output.stderr, "_force_terminal", True)

    return types


def test_the_plan_goes_to_stderr_and_the_folder_to_stdout(hub: LoopbackHub, farthing: Command) -> None:
    code, out, err = farthing("pull", REPOSITORY)
    assert code == 0
    folder = Path(out.strip())
    assert folder.name == COMMIT and (folder / WEIGHTS_NAME).read_bytes() == WEIGHTS
    for part in ("acme/tiny: llama", "parameters", f"{hub.address}/acme/tiny", "MiB", "free", "fits"):
        assert part in err


def test_a_dry_run_prints_the_plan_and_fetches_no_weights(hub: LoopbackHub, farthing: Command) -> None:
    code, out, err = farthing("pull", REPOSITORY, "--dry-run")
    assert (code, err) == (0, "") and "acme/tiny: llama" in out and "fits" in out
    assert hub.files_asked_for() == {"config.json"}


def test_the_json_object_has_these_keys(hub: LoopbackHub, farthing: Command) -> None:
    code, out, _ = farthing("pull", REPOSITORY, "--dry-run", "--json")
    document = json.loads(out)
    assert code == 0 and document["schema"] == "farthing.pull/1"
    assert list(document) == [
        "schema", "model", "repository", "revision", "source", "folder", "family", "parameters", "context", "files",
        "bytes", "missing_bytes", "free_disk_bytes", "device", "format", "fits", "problem", "available_memory_bytes",
        "memory", "downloaded_bytes",
    ]  # fmt: skip
    assert list(document["memory"]) == [
        "weights_bytes", "kv_bytes_per_token", "kv_tokens", "activation_bytes", "reserve_bytes"
    ]  # fmt: skip
    assert {"name": WEIGHTS_NAME, "bytes": len(WEIGHTS)} in document["files"]
    assert document["revision"] == COMMIT and document["downloaded_bytes"] == 0


def test_a_model_that_does_not_fit_is_told_with_the_arithmetic(hub: LoopbackHub, farthing: Command) -> None:
    config = json.loads(hub.repositories[REPOSITORY]["config.json"])
    config |= {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128}
    hub.repositories[REPOSITORY]["config.json"] = json.dumps(config).encode()
    code, out, _ = farthing("pull", REPOSITORY, "--dry-run")
    assert code == 0 and "does not fit" in out and "usable" in out
    document = json.loads(farthing("pull", REPOSITORY, "--dry-run", "--json")[1])
    assert document["fits"] is False and document["memory"] is None


def test_a_second_pull_downloads_nothing(hub: LoopbackHub, farthing: Command) -> None:
    farthing("pull", REPOSITORY)
    hub.log.clear()
    code, out, _ = farthing("pull", REPOSITORY, "--json")
    assert code == 0 and json.loads(out)["downloaded_bytes"] == 0
    assert hub.files_asked_for() == set()


def test_offline_finds_what_is_there_and_asks_nobody(
    hub: LoopbackHub, farthing: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = farthing("pull", REPOSITORY)[1]
    hub.log.clear()
    assert farthing("pull", REPOSITORY, "--offline")[:2] == (0, folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert farthing("pull", REPOSITORY)[:2] == (0, folder)
    assert hub.log == []


def test_offline_without_the_model_names_the_command(hub: LoopbackHub, farthing: Command) -> None:
    code, out, err = farthing("pull", REPOSITORY, "--offline")
    assert (code, out) == (2, "") and "not on this machine" in err and "without --offline" in err
    assert hub.log == []


def test_a_folder_is_here_already(hub: LoopbackHub, farthing: Command) -> None:
    folder = find_model("bundled").path
    assert farthing("pull", str(folder))[:2] == (0, f"{folder}\n")
    assert hub.log == []


def test_whoever_says_no_downloads_nothing(hub: LoopbackHub, farthing: Command, answer: Callable[[str], None]) -> None:
    answer("n\n")
    code, out, err = farthing("pull", REPOSITORY)
    assert (code, out) == (2, "") and "nothing was downloaded" in err and "--yes" in err
    assert hub.files_asked_for() == {"config.json"}


def test_yes_is_not_asked(hub: LoopbackHub, farthing: Command, answer: Callable[[str], None]) -> None:
    answer("n\n")
    assert farthing("pull", REPOSITORY, "--yes")[0] == 0


@pytest.mark.parametrize(
    ("model", "told"),
    [("acme/none", "there is no acme/none"), ("acme/tiny@v9", "no revision 'v9'"), ("acme/tiny:Q4_K_M", "GGUF")],
)
def test_a_mistake_is_one_line(hub: LoopbackHub, farthing: Command, model: str, told: str) -> None:
    code, out, err = farthing("pull", model)
    assert (code, out) == (2, "") and told in err and err.count("\n") == 1 and err.startswith("farthing: ")


def test_ctrl_c_ends_at_once_and_the_same_command_goes_on(hub: LoopbackHub, farthing: Command, tmp_path: Path) -> None:
    hub.stalls[WEIGHTS_NAME] = 1_000_000
    command = [sys.executable, "-m", "farthing", "pull", REPOSITORY]
    heeds_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # which a background shell takes away
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heeds_ctrl_c)
    deadline = time.monotonic() + 30
    while not any(file.stat().st_size > 500_000 for file in tmp_path.rglob("*.incomplete")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=5)
    assert (process.returncode, out) == (130, "") and "the same command goes on" in err and "Traceback" not in err
    hub.stalls.clear()
    assert (Path(farthing("pull", REPOSITORY)[1].strip()) / WEIGHTS_NAME).read_bytes() == WEIGHTS
    assert [headers["range"] for _, headers in hub.log if "range" in headers]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["pull", "acme/tiny"], 2, "pip install 'farthing[hub]'"),
        (["pull", "acme/tiny", "--offline"], 2, "without --offline"),
        (["models", "--local"], 0, "farthing pull NAME"),
        (["doctor", "--offline"], 0, "huggingface-hub"),
    ],
)
def test_the_base_install_is_enough_for_all_but_the_download(
    hub: LoopbackHub, arguments: list[str], code: int, told: str
) -> None:
    block = "import sys; sys.modules.update(dict.fromkeys(['torch', 'numpy', 'huggingface_hub', 'httpx2', 'psutil']));"
    run = f"from farthing.cli.app import main; main({arguments!r})"
    result = subprocess.run([sys.executable, "-c", f"{block} {run}"], capture_output=True, text=True, timeout=30)
    assert result.returncode == code and told in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_run_without_a_terminal_names_pull(hub: LoopbackHub, farthing: Command) -> None:
    code, out, err = farthing("run", REPOSITORY, "Once upon a time")
    assert (code, out) == (2, "") and "farthing pull acme/tiny" in err
    assert hub.log == []


def test_run_of_half_a_model_names_pull(hub: LoopbackHub, farthing: Command) -> None:
    folder = Path(farthing("pull", REPOSITORY)[1].strip())
    (folder / WEIGHTS_NAME).unlink()
    code, _, err = farthing("run", REPOSITORY, "Once upon a time")
    assert code == 2 and "only partly on this machine" in err and "farthing pull acme/tiny resumes" in err


def test_run_shows_the_plan_and_downloads_when_told_yes(hub: LoopbackHub, farthing: Command) -> None:
    bundled = find_model("bundled").path
    assert bundled is not None
    hub.repositories[REPOSITORY] = {path.name: path.read_bytes() for path in bundled.iterdir() if path.is_file()}
    code, out, err = farthing("run", REPOSITORY, "Once upon a time", "--yes", "--max-tokens", "4")
    assert code == 0 and out.strip()
    assert err.index("acme/tiny: llama") < err.index("acme/tiny · ")


def test_run_offline_asks_nobody(hub: LoopbackHub, farthing: Command) -> None:
    assert farthing("run", REPOSITORY, "Hello there", "--yes", "--offline")[0] == 2
    assert hub.log == []
