"""The files that a model is built from: its weights on this machine, or, where weights are drawn, a description alone.

The table of published models has the keys of config.json that matter, so that no shape in it needs a network. Loads no
torch.
"""

import json
import os
import tempfile
from pathlib import Path

import platformdirs

from farthing.errors import FarthingError, ModelNotFoundError
from farthing.hub.cache import HubModel, cached_weights
from farthing.models.published_models import PublishedModel, find_published


def model_files(model: Path | HubModel, *, needs_weights: bool = True) -> Path:
    """What to load: the folder or .gguf file with the weights; without them, if none are needed, a folder that holds a
    published model's config.json. ModelNotFoundError names the command that downloads what is missing."""
    if isinstance(model, Path):
        return model
    try:
        return cached_weights(model)
    except ModelNotFoundError:
        published = find_published(model.repository)
        if needs_weights or published is None:
            raise
        return described_folder(published)


def described_folder(model: PublishedModel) -> Path:
    """A folder of the user's cache with the model's config.json, as the table describes it now. FarthingError if it
    can't be written."""
    folder = Path(platformdirs.user_cache_dir("farthing")) / "described" / model.name
    file, text = folder / "config.json", json.dumps(dict(model.config), indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            handle, unfinished = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(unfinished, file)  # whole or not at all, whoever reads it meanwhile
    except OSError as error:
        raise FarthingError(
            f"{file} can't be written: {error.strerror}", fix="name a folder that holds the model's config.json"
        ) from None
    return folder
