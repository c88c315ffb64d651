"""The command `farthing`: names, one-line descriptions and examples of the commands, and what an error looks like.

Each command is a function in a module of its own that is imported when it is asked for; this file loads neither torch
nor any of them. Knows no flag: those belong to the commands.
"""

import difflib
import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

from cyclopts import (
    App,
    CombinedShortOptionError,
    CycloptsError,
    Parameter,
    UnknownCommandError,
    UnknownOptionError,
)

from farthing import __version__
from farthing.cli.foreign_flags import hint
from farthing.cli.output import print_error
from farthing.errors import FarthingError, MissingExtraError, UsageError

_EXIT_MISTAKE, _EXIT_INTERRUPTED, _EXIT_BROKEN_PIPE = 2, 130, 141

# Name, function, description, examples; in the order of the help. One with commands of its own brings its examples.
_COMMANDS = (
    (
        "plan",
        "farthing.cli.plan:app",
        "Does it fit, how fast is it, what does it cost; or which hardware does it.",
        "",
    ),
    (
        "simulate",
        "farthing.cli.simulate:simulate",
        "A load on hardware that nobody needs to have: waits, goodput, cost.",
        """
        farthing simulate llama-3.1-8b --on rtx-4090 --rate 2      two requests a second, at random
        farthing simulate llama-3.1-70b --on 4x4090 --users 30 --think 10 --ttft 2 --tpot 0.05
        farthing simulate llama-3.1-8b --on l40s --engine vllm --trace trace.csv
        """,
    ),
    (
        "validate",
        "farthing.cli.validate:validate",
        "Score forecasts against a table of measurements.",
        """
        farthing validate measured.csv                  errors by metric, GPU, engine and source
        farthing validate measured.csv --out predictions.csv
        """,
    ),
    (
        "describe",
        "farthing.cli.describe:describe",
        "What a model computes: its operations with parameters, FLOPs and bytes.",
        """
        farthing describe llama-3.1-8b                 a row per kind of operation
        farthing describe ./config.json --format int8 --json
        """,
    ),
    (
        "hardware",
        "farthing.cli.hardware:hardware",
        "The catalogue: accelerators with figures, prices and sources.",
        """
        farthing hardware                              everything, a line each
        farthing hardware rtx-4090                     one in full, every figure with its source
        farthing hardware --vendor nvidia --min-memory 40GiB
        """,
    ),
    (
        "factcheck",
        "farthing.cli.factcheck:factcheck",
        "Is a claimed speed or size possible? The ceiling and the arithmetic.",
        """
        farthing factcheck "RTX 4090, llama-3.1-8b fp8, 195 tok/s"
        farthing factcheck --on h100-sxm --model llama-3.1-70b --format fp8 --decode 40
        """,
    ),
    (
        "pull",
        "farthing.cli.pull:pull",
        "Download a model; the plan is shown before the weights are fetched.",
        """
        farthing pull llama-3.2-1b                     fit, size and free disk first, then the files
        farthing pull org/name --dry-run               the plan alone
        """,
    ),
    (
        "models",
        "farthing.cli.models:models",
        "Models by name, and those on this machine.",
        """
        farthing models                                the table, and what is downloaded
        farthing models --local --json
        """,
    ),
    (
        "doctor",
        "farthing.cli.doctor:doctor",
        "What is installed, detected and missing, and the command that adds it.",
        """
        farthing doctor
        farthing doctor --last                     why the last engine was lost, and what to do
        farthing doctor --report                   one text for a bug report
        """,
    ),
    (
        "run",
        "farthing.cli.run:run",
        "Chat with a model, or answer one prompt.",
        """
        farthing run                               chat with the bundled model
        farthing run "Once upon a time"            one answer
        farthing run ./Llama-3.2-1B-Instruct       chat with a checkpoint
        echo "Tell me a story." | farthing run model.gguf
        """,
    ),
    (
        "serve",
        "farthing.cli.serve:serve",
        "Serve a model to OpenAI and Anthropic clients.",
        """
        farthing serve                             the bundled model, on port 8000
        farthing serve qwen2.5-7b --context 32768  for agents, which send long prompts
        farthing serve plan.toml --host 0.0.0.0 --api-keys keys.txt
        """,
    ),
    (
        "batch",
        "farthing.cli.batch:batch",
        "Answer a file of requests, in OpenAI's batch format.",
        """
        farthing batch in.jsonl -o out.jsonl       with an engine of its own; started again, it goes on
        farthing batch in.jsonl --dry-run          rows, tokens, end and cost alone
        farthing batch in.jsonl -o out.jsonl --server http://127.0.0.1:8000   beside the users of a server
        """,
    ),
    (
        "top",
        "farthing.cli.top:top",
        "Watch a server: speed, share of the limit, queue, dollars, why it is slow.",
        """
        farthing top
        farthing top http://gpu-box:8000 --key-file key.txt
        farthing top --once --json
        """,
    ),
    (
        "bill",
        "farthing.cli.bill:bill",
        "What serving cost: by key, model or day, and what stood idle.",
        """
        farthing bill
        farthing bill --month 2026-11 --by day --csv
        farthing bill --against api:2.5/10         the same tokens at an API's prices
        """,
    ),
    (
        "bench",
        "farthing.cli.bench:app",
        "Measure speed: of a model here, or of a server under load.",
        "",
    ),
    (
        "probe",
        "farthing.cli.probe:probe",
        "Measure this machine: memory bandwidth, matrix products, overhead.",
        """
        farthing probe                             everything, in under a minute
        farthing probe --quick                     fewer sizes, in 3 seconds
        farthing probe --device cuda:1 --json      the second GPU, as JSON
        """,
    ),
)

_EXTRAS = {
    "hub": ("huggingface_hub",),
    "serve": (
        "torch",
        "numpy",
        "safetensors",
        "tokenizers",
        "sentencepiece",
        "gguf",
        "jinja2",
        "psutil",
        "fastapi",
        "uvicorn",
        "httptools",
        "uvloop",
        "zmq",
        "msgspec",
        "llguidance",
        "prometheus_client",
    ),
    "report": ("matplotlib",),
}


def _examples(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\n".join(["Examples:", *(f"  {line}" for line in lines)])


def _shown_default(value: Any) -> str | None:
    """What the help says of a default: nothing of a switch that is off or of a flag that has none."""
    return None if value is None or value is False else str(value)


def _build() -> App:
    app = App(
        name="farthing",
        version=f"farthing {__version__}",
        help="Plans, runs and proves LLaMA inference on the cheapest hardware that does the job.",
        help_format="plaintext",
        help_epilogue=_examples(
            "farthing plan llama-3.1-70b --on 4x4090\nfarthing run 'Once upon a time'\nfarthing COMMAND --help"
        ),
        default_parameter=Parameter(negative=(), show_default=_shown_default),
        suppress_keyboard_interrupt=False,
        exit_on_error=False,
        print_error=False,
        result_action="return_int_as_exit_code_else_zero",
    )
    for position, (name, function, description, examples) in enumerate(_COMMANDS):
        if examples:
            app.command(function, name=name, help=description, help_epilogue=_examples(examples), sort_key=position)
        else:
            app.command(function, name=name, help=description, sort_key=position)
    app.register_install_completion_command(
        help="Install completion for your shell.", help_epilogue=_examples("farthing --install-completion --shell zsh")
    )
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (`sys.argv` by default) and exit: 0, 2 for a mistake, 130 interrupted, 141 reader gone.

    A mistake of the user is one line on stderr. Any other exception is ours and keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without UTF-8 shows ? and goes on
    try:
        exit_code = _build()(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except (FarthingError, CycloptsError, ImportError) as error:
        mistake = _as_farthing_error(error)
        if mistake is None:
            raise
        print_error(mistake)
        exit_code = _EXIT_MISTAKE
    except KeyboardInterrupt:
        exit_code = _EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit has somewhere to go
        exit_code = _EXIT_BROKEN_PIPE
    sys.exit(exit_code)


def _as_farthing_error(error: Exception) -> FarthingError | None:
    """What the user is told, or None if this is no mistake of the user."""
    match error:
        case FarthingError():
            return error
        case UnknownCommandError(unused_tokens=[name, *_]):
            return _unknown_command(name)
        case UnknownOptionError() | CombinedShortOptionError() if ours := _hint(error):
            return UsageError(f"there is no flag {_flag(error)}", fix=ours)
        case CycloptsError():  # it names the nearest flag itself
            command = " ".join(["farthing", *(error.command_chain or ())])
            return UsageError(str(error).rstrip("."), fix=f"see {command} --help")
        case ImportError():
            return _missing_extra(error)
    return None


def _flag(error: UnknownOptionError | CombinedShortOptionError) -> str:
    return error.token.keyword or error.token.value


def _hint(error: UnknownOptionError | CombinedShortOptionError) -> str | None:
    """What a flag of another tool is in this command."""
    known = {name for argument in getattr(error, "argument_collection", ()) for name in argument.names}
    return hint(_flag(error), known)


def _unknown_command(name: str) -> UsageError:
    """The nearest command, found without importing any: the parser's own message would import all of them."""
    names = [command for command, *_ in _COMMANDS]
    nearest = difflib.get_close_matches(name, names, n=1)
    fix = f"did you mean {nearest[0]}?" if nearest else f"the commands are {', '.join(names)}"
    return UsageError(f"there is no command {name!r}", fix=fix)


def _missing_extra(error: ImportError) -> MissingExtraError | None:
    """The error for a package of an extra that is not installed; None for any other failed import."""
    cause: BaseException | None = error
    while cause is not None:
        for extra, packages in _EXTRAS.items():
            if isinstance(cause, ModuleNotFoundError) and cause.name in packages:
                return MissingExtraError(f"this command needs {cause.name}", fix=f"pip install 'farthing[{extra}]'")
        cause = cause.__cause__
    return None
