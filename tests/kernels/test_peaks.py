"""Which kernels a GPU computes with: a digest that changes with their sources."""

from pathlib import Path

from farthing.kernels.peaks import digest_of


def test_a_digest_changes_with_text_name_and_number_of_sources_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "gemm.py").write_text("a")
    (tmp_path / "norms.py").write_text("b")
    first = digest_of(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "notes.txt").write_text("c")
    assert digest_of(tmp_path) == first and len(first) == 8
    (tmp_path / "norms.py").write_text("b ")
    changed = digest_of(tmp_path)
    (tmp_path / "norms.py").rename(tmp_path / "sums.py")
    renamed = digest_of(tmp_path)
    (tmp_path / "sums.py").unlink()
    assert len({first, changed, renamed, digest_of(tmp_path)}) == 4
