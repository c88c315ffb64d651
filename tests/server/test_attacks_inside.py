"""What attackers look for inside: pickles, code of checkpoints, evaluated text, ports of internal sockets."""

import ast
from collections.abc import Iterator
from pathlib import Path

import psutil
from server_process import ServerProcess

import farthing

SOURCE = Path(farthing.__file__).parent
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
CALLS = {"eval", "exec", "__import__", "literal_eval", "recv_pyobj", "send_pyobj", "allow_pickle", "torch_load"}


def calls_and_imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").split(".")[0], node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id, node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            yield f"{owner}.{node.func.attr}", node.lineno
            yield node.func.attr, node.lineno
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code", "shell"):
            yield node.arg, node.value.lineno


FOUND = [
    (name, f"{path.relative_to(SOURCE)}:{line}")
    for path in sorted(SOURCE.rglob("*.py"))
    for name, line in calls_and_imports(path)
]


def test_nothing_is_unpickled_and_no_text_is_evaluated():
    assert len(FOUND) > 1000
    assert [found for found in FOUND if found[0] in MODULES | CALLS | {"torch.load", "yaml.load", "shell"}] == []


def test_no_code_of_a_checkpoint_is_imported():
    """Modules are named by our own text alone: farthing.LLM, what stands in a folder of ours, and the helpers."""
    named = {place.split(":")[0] for name, place in FOUND if name in ("import_module", "spec_from_file_location")}
    assert named <= {"__init__.py", "discover.py", "engine/helper_process.py"}
    assert [place for name, place in FOUND if name == "trust_remote_code"] == []


def test_the_engine_listens_on_no_port_and_its_sockets_are_the_users_alone(server: ServerProcess):
    parent = psutil.Process(server.process.pid)
    ports = {c.laddr.port for c in parent.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert ports == {int(server.url.rpartition(":")[2])}
    assert server.engine_pid() in [child.pid for child in parent.children()]
    for child in parent.children(recursive=True):
        assert child.net_connections("inet") == []
    paths = [Path(c.laddr) for c in parent.net_connections("unix") if "farthing-" in str(c.laddr)]
    assert paths and all(path.parent.stat().st_mode & 0o077 == 0 for path in paths)


def test_helpers_have_no_secrets_of_the_environment(server: ServerProcess):
    """Nor does any process inherit a key: it comes from a file."""
    helpers = [p for p in psutil.Process(server.process.pid).children() if "-I" in p.cmdline()]
    assert helpers and all(set(p.environ()) <= {"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LC_CTYPE"} for p in helpers)
