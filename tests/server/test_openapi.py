"""The OpenAPI page is valid, and the server keeps to it: requests made up from it meet no 5xx and no other shape."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from jsonschema.validators import validator_for
from server_process import ServerProcess

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ROUTES = 16


def made_up_requests(server: ServerProcess, folder: Path, *, phases: str, examples: int) -> str:
    """Runs schemathesis against the server; what it printed. `examples` for each route and phase."""
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--checks", CHECKS,
        "--exclude-path", "/v1/embeddings",  # answers 501 to everything, which is what its page says
        "--max-examples", str(examples), "--seed", "1", "--generation-database", "none", "--phases", phases,
        "--request-timeout", "60", "--continue-on-failure", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    return done.stdout


def test_the_page_is_valid_and_names_every_route(server: ServerProcess):
    page = httpx.get(f"{server.url}/openapi.json").json()
    assert page["openapi"].startswith("3.1") and len(page["paths"]) == ROUTES
    for schema in page["components"]["schemas"].values():
        validator_for(schema).check_schema(schema)


def test_requests_made_up_from_the_page_meet_no_server_error_and_no_other_shape(server: ServerProcess, tmp_path: Path):
    made_up_requests(server, tmp_path, phases="fuzzing", examples=8)
    server.await_idle()


@pytest.mark.slow
def test_2000_made_up_requests_meet_no_server_error_and_no_other_shape(server: ServerProcess, tmp_path: Path):
    said = made_up_requests(server, tmp_path, phases="examples,coverage,fuzzing", examples=60)
    print(said[-3000:])
    cases = re.search(r"(\d+) generated", said)
    assert cases and int(cases[1]) >= 2000
    server.await_idle()
