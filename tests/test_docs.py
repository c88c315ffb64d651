"""What the documents say is true of the tree and of the command line: paths, commands, flags, examples."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from farthing.cli import app

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "farthing"
README = (ROOT / "README.md").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
CHECK = (ROOT / "scripts" / "check").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *sorted((ROOT / "examples" / "clients").glob("*.md")),
    )
}
COMMANDS = [name for name, *_ in app._COMMANDS]
SUBCOMMANDS = [["bench", "serve"]]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SUFFIXES = ("", ".py", "/__init__.py")
PLACEHOLDERS = {"org/name"}  # of a hub, not of this tree
OTHERS = ("openai/", "hosted_vllm/", "anthropic/", "text-completion-openai/")  # LiteLLM's names of models


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


@cache
def flags_of(*command: str) -> frozenset[str]:
    """The flags in the help of a command, in a terminal wide enough not to break one; without a command, the common."""
    arguments = [sys.executable, "-m", "farthing", *command, "--help"]
    environment = {**os.environ, "COLUMNS": "200"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=True)
    return frozenset(flags_in(done.stdout))


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text))


def invocations(text: str) -> list[str]:
    """Every `farthing ...` of code blocks and code spans."""
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [found for line in (*lines, *code_spans(text)) for found in re.findall(r"\bfarthing(?: .*|$)", line)]


def body_of_fast() -> str:
    """What scripts/check does without a flag."""
    return CHECK[CHECK.index("fast() {") :].partition("\n}")[0]


def assert_prints_only_to_stdout(*arguments: str) -> None:
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_the_table_of_floors_names_every_folder_of_the_package_and_no_other():
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")}
    assert {Path(folder).as_posix() for folder, _ in house()} == folders


@pytest.mark.parametrize(("folder", "files"), house(), ids=[folder for folder, _ in house()])
def test_every_file_in_the_table_of_floors_exists(folder: str, files: list[str]):
    assert files
    assert [name for name in files if not exists(f"src/farthing/{folder}{name}")] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_a_document_exists(document: str):
    """A span with a slash or a file's suffix is a path; `x.py` stands for a file that a reader would add."""
    text = without_plans(DOCUMENTS[document])
    is_path = re.compile(r"[\w.-][\w./-]*/[\w./-]*|[\w.-]+\.(?:md|py|toml)")  # one that begins with / is a route
    spans = [span.split()[0] for span in code_spans(text)]
    paths = [re.sub(r"/x\.py$", "/", span) for span in spans if is_path.fullmatch(span) and span not in PLACEHOLDERS]
    paths = [path for path in paths if not path.startswith(OTHERS)]
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    beside = (ROOT / document).parent
    assert [path for path in paths if not exists(path)] == []
    assert [link for link in links if link and not (beside / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_in_a_document_exists(document: str):
    """In a call of a command, a flag of that command; alone in a span, one of any command."""
    text = without_plans(DOCUMENTS[document])
    for invocation in invocations(text):
        words = invocation.split()[1:3]
        of_command = flags_of(*(words if words in SUBCOMMANDS else (name for name in words[:1] if name in COMMANDS)))
        assert flags_in(invocation) <= of_command | flags_of(), invocation
    alone = {flag for span in code_spans(text) if span.startswith("--") for flag in flags_in(span)}
    assert alone <= flags_of().union(*map(flags_of, COMMANDS), *(flags_of(*words) for words in SUBCOMMANDS))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_a_document_exists(document: str):
    names = {words[1] for words in map(str.split, invocations(without_plans(DOCUMENTS[document]))) if len(words) > 1}
    assert {name for name in names if re.fullmatch(r"[a-z]+", name)} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str):
    assert f"farthing {name}" in README


def test_no_file_is_longer_than_400_lines():
    folders = ("src", "tests", "scripts", "docs", "examples", "benchmarks")
    files = [
        path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".toml", ".md")
    ]
    files += [*ROOT.glob("*.md"), *ROOT.glob("*.toml")]
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert len(lengths) > 300
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_ci_runs_the_two_commands_of_the_readme():
    commands = blocks(README, "sh")[0].splitlines()
    assert commands == [
        "pip install '.[serve]' && farthing run \"Once upon a time\"",
        "pip install '.[test]' && pytest",
    ]
    parts = [part for command in commands for part in command.split(" && ")]
    lines = iter([*CI.splitlines(), *body_of_fast().splitlines()])
    for part in parts:  # each behind the one before
        assert any(re.search(rf"^\s*(\(.* && )?{re.escape(part)}(\s|$)", line) for line in lines), part


def test_ci_ends_with_the_tests_so_that_their_summary_is_the_last_line():
    assert CI.rstrip().splitlines()[-1] == "scripts/check"
    assert body_of_fast().split()[-1] == "pytest"


def test_the_changelog_has_the_version_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in DOCUMENTS["CHANGELOG.md"]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_runs(example: Path):
    assert len(example.read_text(encoding="utf-8").splitlines()) < 40
    assert_prints_only_to_stdout(str(example))


def printed_examples() -> list[tuple[str, str, list[str]]]:
    """(document, arguments, lines): blocks that show what a command prints that depends on nothing but the release."""
    found = []
    for document, text in DOCUMENTS.items():
        for block in blocks(text, "text"):
            first, *lines = block.splitlines()
            if re.match(r"\$ farthing (plan|describe|hardware|factcheck) ", first):
                found.append((document, first.removeprefix("$ farthing "), lines))
    return found


@pytest.mark.parametrize(("document", "arguments", "lines"), printed_examples(), ids=lambda value: str(value)[:40])
def test_what_a_document_shows_is_what_the_command_prints(document: str, arguments: str, lines: list[str]):
    """In a terminal of 100 columns; `...` stands for lines that the document leaves out."""
    command = [sys.executable, "-m", "farthing", *shlex.split(arguments)]
    environment = {**os.environ, "COLUMNS": "100"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    printed = iter([line.rstrip() for line in done.stdout.splitlines()])
    for line in lines:
        assert line == "..." or any(line == other for other in printed), line


PLANNING = ("plan", "simulate", "describe", "hardware", "factcheck", "models")
FILES = ("FILE", ".toml", ".csv", ".jsonl", "report.html", "MODEL", " HW", "NAME", "org/name", "plan diff")


def planning_commands() -> list[str]:
    """Calls of the planner in the documents, each once; those that name somebody's files are left out."""
    found = [line.split("#")[0].strip() for text in DOCUMENTS.values() for line in invocations(without_plans(text))]
    ours = [line for line in found if len(words := line.split()) > 2 and words[1] in PLANNING]
    return sorted({line for line in ours if not any(file in line for file in FILES)})


@pytest.mark.parametrize("line", planning_commands())
def test_every_command_of_the_planner_in_a_document_runs(line: str, tmp_path: Path):
    command = [sys.executable, "-m", "farthing", *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout, done.stderr


def test_the_chinese_readme_says_in_words_what_its_plan_shows():
    text = DOCUMENTS["README.zh-CN.md"]
    shown = re.search(r"· ([\d.]+) GiB of .* KV room ([\d,]+) tokens · expect (\d+) tok/s .*\$([\d.]+) per Mtok", text)
    said = re.search(
        r"占用显存 ([\d.]+) GiB，KV 缓存还能放 ([\d,]+) 个\s*token；单并发每秒约 (\d+) 个 token；.*约 ([\d.]+) 美元",
        text,
    )
    assert shown is not None and said is not None and shown.groups() == said.groups()


@pytest.mark.parametrize("document", ["README.md", "README.zh-CN.md"])
def test_the_errors_of_the_forecast_are_those_of_its_page(document: str):
    page = (ROOT / "benchmarks" / "forecasts.md").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", DOCUMENTS[document])
    figures = ("throughput, saturated", "time per token", "one stream, decode and prefill", "latency of a whole batch")
    for what in figures:
        row = re.search(rf"\| {what} \| \d+ \| \*\*([\d.]+)%\*\* \|[^|]*\| ([\d.]+)% ", page)
        assert row is not None
        median, ninth = (f"{float(error):.0f}" for error in row.groups())
        assert re.search(rf"\b{median} %", text) and re.search(rf"\b{ninth}\b", text), what
    measured = re.search(r"^\d+ of (\d+) measured", page, flags=re.M)
    assert measured is not None and f"{int(measured[1]):,}" in text


def test_the_python_of_the_readme_runs():
    (code,) = blocks(README, "python")
    assert_prints_only_to_stdout("-c", code)


def test_every_test_that_code_or_a_page_names_is_there():
    sources = [*PACKAGE.rglob("*.py"), *(ROOT / "scripts").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.md")]
    named = {
        (path.relative_to(ROOT).as_posix(), test)
        for path in sources
        for test in re.findall(r"\btests/[\w/]+\.py", path.read_text(encoding="utf-8"))
    }
    assert named
    assert [(path, test) for path, test in sorted(named) if not (ROOT / test).is_file()] == []
