"""The command line as a user meets it: a process, its two streams and its exit code."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import PACKAGES_OF_EXTRAS, WITHOUT_EXTRAS, share_kernels

import farthing
from farthing.cli import app

COMMANDS = [name for name, *_ in app._COMMANDS]
# Starts it with one command more: the function `command` of the module `broken`.
WITH_A_BROKEN_COMMAND = """
from farthing.cli import app
app._COMMANDS = (*app._COMMANDS, ("broken", "broken:command", "", ""))
app.main()
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, nothing of the terminal's, and this very package."""
    source = str(Path(farthing.__file__).parents[1])
    share_kernels(tmp_path)
    home = {
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "PYTHONPATH": f"{source}:{tmp_path}",
    }
    return {"PATH": os.environ["PATH"], "COLUMNS": "100", **home}


def start(environment: dict[str, str], *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(("-c", code) if code else ("-m", "farthing")), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def assert_one_line_mistake(done: subprocess.CompletedProcess[str], *fragments: str) -> None:
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"farthing: .+ - .+\n", done.stderr), done.stderr
    for fragment in fragments:
        assert fragment in done.stderr


def test_help_without_any_extra_lists_every_command(environment: dict[str, str]):
    done = start(environment, "--help", code=WITHOUT_EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert re.search(rf"\b{name}\b", done.stdout)
    assert "Examples:" in done.stdout


def test_help_imports_no_extra_and_no_command(environment: dict[str, str]):
    code = "import atexit, sys\natexit.register(lambda: print(*sys.modules))\nfrom farthing.cli.app import main\nmain()"
    loaded = set(start(environment, "--help", code=code).stdout.splitlines()[-1].split())
    assert "farthing.cli.app" in loaded
    assert not loaded & set(PACKAGES_OF_EXTRAS)
    assert not loaded & {f"farthing.cli.{name}" for name in COMMANDS}


def test_no_arguments_show_the_help(environment: dict[str, str]):
    assert start(environment).stdout == start(environment, "--help").stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_needs_no_extra_and_shows_examples(environment: dict[str, str], name: str):
    done = start(environment, name, "--help", code=WITHOUT_EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: farthing {name}")
    assert f"farthing {name}" in done.stdout.partition("Examples:")[2]


def test_the_version_is_that_of_the_package(environment: dict[str, str]):
    assert start(environment, "--version").stdout == f"farthing {farthing.__version__}\n"


def test_an_unknown_command_names_the_nearest(environment: dict[str, str]):
    assert_one_line_mistake(start(environment, "prob"), "'prob'", "did you mean probe?")


def test_an_unknown_command_like_no_other_lists_them(environment: dict[str, str]):
    assert_one_line_mistake(start(environment, "xyzzy"), *COMMANDS)


def test_an_unknown_flag_names_the_nearest(environment: dict[str, str]):
    assert_one_line_mistake(start(environment, "probe", "--quik"), "--quik", "--quick", "farthing probe --help")


def test_a_flag_without_its_value_is_one_line(environment: dict[str, str]):
    assert_one_line_mistake(start(environment, "probe", "--device"), "--device")


def test_a_farthing_error_of_a_command_is_one_line(environment: dict[str, str]):
    assert_one_line_mistake(start(environment, "probe", "--device", "tpu9"), "'tpu9'", "use cpu")


def test_a_missing_extra_says_what_to_install(environment: dict[str, str]):
    done = start(environment, "probe", "--quick", code=WITHOUT_EXTRAS)
    assert_one_line_mistake(done, "needs ", "pip install 'farthing[serve]'")


def test_a_missing_extra_is_found_when_a_command_itself_cannot_be_imported(environment: dict[str, str], tmp_path: Path):
    (tmp_path / "broken.py").write_text("import matplotlib")
    code = WITHOUT_EXTRAS.replace("from farthing.cli.app import main\nmain()", WITH_A_BROKEN_COMMAND)
    assert_one_line_mistake(start(environment, "broken", code=code), "matplotlib", "farthing[report]")


@pytest.mark.parametrize("failure", ["import no_such_module", "def command(): raise KeyError('ours')"])
def test_any_other_failure_is_our_bug_and_keeps_its_traceback(
    environment: dict[str, str], tmp_path: Path, failure: str
):
    (tmp_path / "broken.py").write_text(failure)
    done = start(environment, "broken", code=WITH_A_BROKEN_COMMAND)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "broken.py" in done.stderr


def test_an_interrupted_command_exits_with_130_and_says_nothing(environment: dict[str, str], tmp_path: Path):
    (tmp_path / "broken.py").write_text("def command(): raise KeyboardInterrupt")
    done = start(environment, "broken", code=WITH_A_BROKEN_COMMAND)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize(
    "printing",
    ["def command(): print('x')", "from farthing.cli import output\ndef command(): output.stdout.print('x' * 10**6)"],
    ids=["print", "console"],
)
def test_a_reader_that_is_gone_is_no_error_message(environment: dict[str, str], tmp_path: Path, printing: str):
    (tmp_path / "broken.py").write_text(printing)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", WITH_A_BROKEN_COMMAND, "broken"]
    done = subprocess.run(command, env=environment, stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writing)
    assert done.returncode != 0
    assert done.stderr == b""


def test_completion_is_installed_for_a_shell_and_knows_commands_and_flags(environment: dict[str, str], tmp_path: Path):
    script = tmp_path / "completion"
    done = start(environment, "--install-completion", "--shell", "bash", "--output", str(script), code=WITHOUT_EXTRAS)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(script) in (tmp_path / ".bashrc").read_text()
    for word in (*COMMANDS, "--quick"):
        assert word in script.read_text()


def test_probe_prints_one_json_object_and_keeps_it(environment: dict[str, str], tmp_path: Path):
    done = start(environment, "probe", "--quick", "--json")
    assert done.returncode == 0
    printed = json.loads(done.stdout)
    assert printed["schema"] == "farthing.calibration/2"
    [saved] = (tmp_path / "data").rglob("*.json")
    assert json.loads(saved.read_text()) == printed
    assert str(saved) in done.stderr


IMPORTED_AS = {"pyzmq": "zmq"}


def test_the_packages_of_the_extras_are_those_of_the_package_metadata():
    metadata = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for extra, packages in app._EXTRAS.items():
        declared = {re.match(r"[\w.-]+", line).group() for line in metadata["optional-dependencies"][extra]}
        assert {IMPORTED_AS.get(name, name.replace("-", "_")) for name in declared - {"farthing"}} == set(packages)
