"""The flags of scripts/train_bundled.py; each default is what the shipped model was trained with.

Imports no torch, so that a test can compare the model card's command with the flags.
"""

import argparse
from pathlib import Path

from bundled.generator import DEFAULT_DOCUMENTS, DEFAULT_SEED

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def parser() -> argparse.ArgumentParser:
    """The command line of the training script."""
    flags = argparse.ArgumentParser(prog="train_bundled.py", description="Trains the model that comes with Farthing.")
    flags.add_argument("--corpus", type=Path, required=True, help="folder of English .txt books")
    flags.add_argument("--minutes", type=float, default=27, help="wall-clock limit of the training loop")
    flags.add_argument("--documents", type=int, default=DEFAULT_DOCUMENTS, help="generated documents, before the split")
    flags.add_argument("--seed", type=int, default=DEFAULT_SEED)
    flags.add_argument("--learning-rate", type=float, default=2e-3, help="peak; falls to zero by a cosine")
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--output", type=Path, default=REPOSITORY / "src/farthing/models/bundled")
    flags.add_argument("--held-out", type=Path, default=REPOSITORY / "tests/data/heldout.jsonl.gz")
    flags.add_argument("--card-only", action="store_true", help="evaluate the trained model and write its card again")
    return flags
