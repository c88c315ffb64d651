"""Law 5 for kernels: outside kernels/ no file names a backend, an instruction set or a library of kernels.

They are chosen by kernels/select.py and replayed by runtime/graph.py, the one file that knows capture. Exceptions stand
here, each with its reason. Reads the sources.
"""

import ast
import re
from pathlib import Path

import pytest

import farthing

SOURCE = Path(farthing.__file__).parent
BACKENDS = {"native", "triton", "vendor"}  # of kernels/; reference.py is their interface
WORDS = re.compile(
    r"\b(avx\w*|vnni|amx\w*|sse\d\w*|neon|vpdp\w*|vdpbf\w*|onednn\w*|mkl\w*|mkldnn\w*|cublas\w*|cutlass|openblas|triton)\b",
    re.IGNORECASE,
)
RECORDING = {"recorder", "recording"}  # methods of a backend that can record
DOORS = {"Steps", "capture", "captured", "timed"}  # what others ask runtime/graph.py for

MAY_IMPORT_BACKENDS = {
    "runtime/graph.py": "records the calls of a backend that can record",
    "runtime/probe_call.py": "measures what one call of the vendor's libraries costs",
}
MAY_NAME = {
    "hardware/machine.py": "the processor's flags are facts about this machine",
    "quantization/w8a8.py": "says which units multiply the format",
    "quantization/w4a8.py": "says which units multiply the format",
    "engine/process/engine_client.py": "the variable that bounds what a library inside torch caches",
}


def sources() -> dict[str, str]:
    """Python outside kernels/, by path. Data files - the catalogue of hardware - are facts and may name anything."""
    return {
        path.relative_to(SOURCE).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(SOURCE.rglob("*.py"))
        if path.relative_to(SOURCE).parts[0] != "kernels"
    }


def backends_imported(text: str) -> set[str]:
    """Backends of kernels/ that a file imports, or modules of them."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        else:
            continue
        for path in paths:
            if path.startswith("farthing.kernels.") and path.split(".")[2] in BACKENDS:
                found.add(path.split(".")[2])
    return found


def names_of_capture(text: str) -> set[str]:
    """What a file takes from the recorder of a backend, what it asks kernels to record, and what it takes from
    runtime/graph.py beside its doors."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            if node.module == "farthing.runtime.graph":
                found.update(names - DOORS)
            elif str(node.module).startswith("farthing.kernels.") and str(node.module).endswith(".recorder"):
                found.update(names)
        elif isinstance(node, ast.Attribute) and _name(node.value) == "kernels":
            found.update({node.attr} & RECORDING)
    return found


def _name(node: ast.expr) -> str:
    """`b` of `b` and of `a.b`."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def test_every_backend_of_kernels_is_known_to_this_test() -> None:
    folders = {path.parent.name for path in (SOURCE / "kernels").glob("*/__init__.py")}
    assert folders <= BACKENDS


def test_only_the_listed_files_import_a_backend() -> None:
    assert {path for path, text in sources().items() if backends_imported(text)} == set(MAY_IMPORT_BACKENDS)


def test_only_the_listed_files_name_an_instruction_set_or_a_library_of_kernels() -> None:
    found = {path: sorted(set(WORDS.findall(text))) for path, text in sources().items() if WORDS.search(text)}
    assert found.keys() == MAY_NAME.keys(), found


def test_only_the_file_of_replay_knows_that_a_step_is_recorded() -> None:
    assert [path for path, text in sources().items() if names_of_capture(text)] == ["runtime/graph.py"]


def test_the_decoder_knows_the_interface_of_kernels_and_nothing_more() -> None:
    """The same file runs on every backend, recorded or not."""
    for path in ("runtime/decoder.py", "runtime/layers.py"):
        text = sources()[path]
        imported = {
            node.module
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom)
            and str(node.module).startswith(("farthing.kernels", "farthing.runtime"))
        }
        assert imported <= {
            "farthing.kernels.reference", "farthing.kernels.weight", "farthing.kernels.activations",
            "farthing.runtime.inputs", "farthing.runtime.kv_cache", "farthing.runtime.layers",
        }  # fmt: skip
        assert not re.search(r"\b(native|tape|replay|captur\w+|record\w*|compil\w+|thread\w*|batch_invariant)\b", text)


@pytest.mark.parametrize(
    "text",
    [
        "from farthing.kernels.native.backend import NativeKernels",
        "from farthing.kernels import vendor",
        "import farthing.kernels.native.compiler",
    ],
)
def test_a_file_that_imports_a_backend_is_found(text: str) -> None:
    assert backends_imported(text)


@pytest.mark.parametrize(
    "text",
    [
        "from farthing.runtime.graph import TapedDecoder",
        "from farthing.kernels.native.recorder import Tape",
        "with self.kernels.recording(recorder): ...",
    ],
)
def test_a_file_that_records_is_found(text: str) -> None:
    assert names_of_capture(text) and not names_of_capture("from farthing.runtime.graph import capture")


@pytest.mark.parametrize(
    "text", ["# AVX-512", "if 'avx512_vnni' in flags: ...", "oneDNN", "flag = 'amx_int8'", "cuBLASLt"]
)
def test_a_file_that_names_what_computes_is_found(text: str) -> None:
    assert WORDS.search(text)


@pytest.mark.parametrize("text", ["dtype = 'bf16'", "natively", "kernels.name", "int8 products", "a native look"])
def test_a_file_that_names_formats_and_the_like_is_left_alone(text: str) -> None:
    assert not WORDS.search(text) and not backends_imported("from farthing.kernels.select import select_kernels")
