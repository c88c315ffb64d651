"""The error tree: everything that a user can cause is a FarthingError, with what happened, why and what to do.

Knows no HTTP and no terminal: the CLI turns one into a line and exit code 2, the server into an error object.
Our own broken invariants are `assert`, never one of these.
"""


class FarthingError(Exception):
    """A mistake in the input or a limit of the machine.

    `what` happened (with why), and `fix`: what the caller can do. The text is one line.
    """

    def __init__(self, what: str, *, fix: str = "") -> None:
        self.what = " ".join(what.split())
        self.fix = " ".join(fix.split())
        super().__init__(f"{self.what} - {self.fix}" if fix else self.what)


class UsageError(FarthingError):
    """A flag, a combination of flags or an argument that makes no sense."""


class MissingExtraError(FarthingError):
    """A part of Farthing that is not installed (`pip install 'farthing[serve]'`)."""


class ModelNotFoundError(FarthingError):
    """No model under this path or name."""


class ConfigError(FarthingError):
    """A config.json or GGUF header that does not describe a possible model."""


class UnsupportedError(FarthingError):
    """A well-formed request for something that Farthing does not do; the text names it."""


class CheckpointError(FarthingError):
    """Weights that are damaged, incomplete, hostile or do not match the description."""


class TokenizerError(FarthingError):
    """A tokenizer file that is missing, damaged or does not match the model."""


class ChatTemplateError(FarthingError):
    """A chat template that is missing, fails, or exceeds its time or memory."""


class DoesNotFitError(FarthingError):
    """The model, with this format and context, needs more memory than the device has."""


class EngineStoppedError(FarthingError):
    """The engine was closed or broke while the request waited; sending it again to a new engine is safe."""


class BusyError(FarthingError):
    """Too much is asked for at the moment; sent again later, the request is served."""


class RequestError(FarthingError):
    """A request that can't be served: parameter out of range, prompt empty or too long."""


class ContextLengthError(RequestError):
    """The prompt leaves no room for an answer."""

    def __init__(self, num_tokens: int, context: int) -> None:
        super().__init__(
            f"the prompt has {num_tokens} tokens and the maximum context length is {context}",
            fix="shorten it, or start with a longer --context",
        )
        self.num_tokens, self.context = num_tokens, context


class RequestFailedError(FarthingError):
    """A request that was accepted and could not be completed: its own numbers or grammar failed, nothing else's."""
