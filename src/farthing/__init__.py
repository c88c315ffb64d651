"""Farthing plans, runs and proves LLaMA inference on the cheapest hardware that does the job.

`import farthing` is light: `LLM` brings torch and is loaded when it is first asked for.
"""

import importlib
from typing import Any

from farthing.errors import FarthingError, MissingExtraError
from farthing.sampling_params import Grammar, SamplingParams

__version__ = "0.1.0"
__all__ = ["LLM", "FarthingError", "Grammar", "SamplingParams", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "LLM":
        try:
            return importlib.import_module("farthing.engine.llm").LLM
        except ModuleNotFoundError as error:
            raise MissingExtraError(f"LLM needs {error.name}", fix="pip install 'farthing[serve]'") from error
    raise AttributeError(f"module 'farthing' has no attribute {name!r}")
