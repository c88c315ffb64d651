"""What every test may ask for: outside material by --artefacts, deterministic hypothesis."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from farthing.hardware.calibration import calibration_folder

settings.register_profile("farthing", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("farthing")
torch.set_num_threads(1)  # tiny models: a second thread only waits

# Servers of tests keep bills and incidents: not among the user's. What was measured of this machine holds here, too.
_DATA = Path(tempfile.mkdtemp(prefix="farthing-tests-"))
if calibration_folder().is_dir():
    shutil.copytree(calibration_folder(), _DATA / "farthing" / "calibration")
os.environ["XDG_DATA_HOME"] = str(_DATA)

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when triton is first imported: its kernels then run on CPU tensors

_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared"
_WITHOUT_ARTEFACTS = "outside material absent: pass --artefacts DIR"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--artefacts", "--data", dest="artefacts", type=Path, default=_BESIDE_THE_CHECKOUT, metavar="DIR",
        help="folder with fixtures/, corpus/ and data/ (default: ../shared where it stands beside the checkout)",
    )  # fmt: skip


def pytest_unconfigure() -> None:
    shutil.rmtree(_DATA, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [
        report for report in terminalreporter.stats.get("skipped", []) if _WITHOUT_ARTEFACTS in str(report.longrepr)
    ]
    if skipped:
        terminalreporter.write_line(f"{len(skipped)} tests need outside material: pass --artefacts DIR")


@pytest.fixture(scope="session")
def shared(request: pytest.FixtureRequest) -> Path:
    """The folder of outside material; the test is skipped where it is absent."""
    folder: Path = request.config.getoption("artefacts")
    if not (folder / "fixtures").is_dir():
        pytest.skip(_WITHOUT_ARTEFACTS)
    return folder
