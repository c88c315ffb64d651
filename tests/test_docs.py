"""What the documents say is true of the tree and of the command line: paths, commands, flags, examples."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from farthing.cli import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "farthing"
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
}
COMMANDS = [name for name, *_ in app._COMMANDS]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SUFFIXES = ("", ".py", "/__init__.py")


def without_plans(text: str) -> str:
    """The document without what it says is not there yet."""
    return re.sub(r"^## Not built yet\n.*?(?=^## |\Z)", "", text, flags=re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def exists(path: str) -> bool:
    """In the repository, in the package, or as a module of it."""
    return any((base / f"{path.rstrip('/')}{suffix}").exists() for base in (ROOT, PACKAGE) for suffix in SUFFIXES)


def house() -> list[tuple[str, list[str]]]:
    """The rows of the table of floors: a folder of the package, and the files in it."""
    rows = re.findall(r"^\| `([\w/.]+/)` \| [^|]+ \| ([^|]+) \|$", without_plans(ARCHITECTURE), flags=re.M)
    return [(folder, re.findall(r"`([^`]+)`", files)) for folder, files in rows]


def help_of(*command: str) -> str:
    """The help as users see it, in a terminal wide enough not to break a flag."""
    arguments = [sys.executable, "-m", "farthing", *command, "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def invocations(text: str) -> list[str]:
    """Every `farthing ...` of code blocks and code spans."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [found for line in (*lines, *code_spans(text)) for found in re.findall(r"\bfarthing(?: .*|$)", line)]


def test_the_table_of_floors_names_every_folder_of_the_package_and_no_other():
    named = {folder.removeprefix("./") for folder, _ in house()}
    assert named == {
        f"{path.parent.relative_to(PACKAGE).as_posix()}/".removeprefix("./") for path in PACKAGE.rglob("__init__.py")
    }


@pytest.mark.parametrize(("folder", "files"), house(), ids=[folder for folder, _ in house()])
def test_every_file_in_the_table_of_floors_exists(folder: str, files: list[str]):
    assert files
    assert [name for name in files if not exists(f"src/farthing/{folder}{name}")] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_exists(document: str):
    """A span with a slash or a file's suffix is a path; `x.py` stands for a file that a reader would add."""
    text = without_plans(DOCUMENTS[document])
    is_path = re.compile(r"[\w./-]+/[\w./-]*|[\w.-]+\.(?:md|py|toml)")
    spans = [span.split()[0] for span in code_spans(text)]
    paths = [
        re.sub(r"/x\.py$", "/", span) for span in spans if is_path.fullmatch(span) and not span.startswith("farthing.")
    ]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    beside = (ROOT / document).parent
    assert [path for path in paths if not exists(path)] == []
    assert [link for link in links if link and not (beside / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_in_a_document_exists(document: str):
    text = without_plans(DOCUMENTS[document])
    known = {name: flags_in(help_of(name)) for name in COMMANDS}
    everywhere = flags_in(help_of())
    for invocation in invocations(text):
        name = (invocation.split() + [""])[1]
        assert flags_in(invocation) <= known.get(name, set()) | everywhere, invocation
    alone = {flag for span in code_spans(text) if span.startswith("--") for flag in flags_in(span)}
    assert alone <= everywhere.union(*known.values())


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_exists(document: str):
    names = {words[1] for words in map(str.split, invocations(without_plans(DOCUMENTS[document]))) if len(words) > 1}
    assert {name for name in names if re.fullmatch(r"[a-z]+", name)} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str):
    assert f"farthing {name}" in README


def test_ci_runs_the_two_commands_of_the_readme():
    commands = blocks(README, "sh")[0].splitlines()
    assert commands == [
        "pip install '.[serve]' && farthing run \"Once upon a time\"",
        "pip install '.[test]' && pytest",
    ]
    ci, check = (ROOT / ".ci" / "run").read_text(), (ROOT / "scripts" / "check").read_text()
    run = "\n".join((ci, check[check.index("fast()") : check.index("slow()")]))
    position = 0
    for part in (part for command in commands for part in command.split(" && ")):
        found = re.compile(rf"(?:^|&& ){re.escape(part)}", re.M).search(run.replace("    ", ""), position)
        assert found, f"{part} is not run, or not in this order"
        position = found.end()


def test_ci_ends_with_the_tests_so_that_their_summary_is_the_last_line():
    ci, check = (ROOT / ".ci" / "run").read_text(), (ROOT / "scripts" / "check").read_text()
    assert ci.rstrip().endswith("\nscripts/check")
    fast = check[check.index("fast() {") :].partition("}")[0]
    assert fast.split()[-1] == "pytest"


def test_the_changelog_has_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in DOCUMENTS["CHANGELOG.md"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_runs(example: Path):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40
    done = subprocess.run(
        [sys.executable, str(example)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_python_of_the_readme_runs():
    (code,) = blocks(README, "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
