"""What every test of a command may ask for: the command line in this process."""

from pathlib import Path

import pytest
from command_line import Done, Farthing, share_kernels

from farthing.cli import app, output


@pytest.fixture
def run_farthing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Farthing:
    """The command line in this process, at home in an empty folder, on a terminal 100 columns wide."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    share_kernels(tmp_path / "home")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, columns: int = 100) -> Done:
        monkeypatch.setattr(output.stdout, "width", columns)
        with pytest.raises(SystemExit) as ended:
            app.main(arguments)
        captured = capsys.readouterr()
        return Done(ended.value.code, captured.out, captured.err)

    return run
