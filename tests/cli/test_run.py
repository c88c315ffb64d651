"""`farthing run` as a person meets it: whole processes where it answers, calls where it refuses."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from farthing.cli.app import main
from farthing.models.reference import find_model

BUNDLED = find_model("bundled").path
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run_command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "farthing", "run", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, cwd=tmp_path)

    return run_command


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may break."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in BUNDLED.iterdir():
        if file.suffix in (".json", ".safetensors"):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one line of an error, from a call in this process: exit code 2, nothing on stdout."""

    def refused(*arguments: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["run", *arguments])
        captured = capsys.readouterr()
        lines = [line for line in captured.err.splitlines() if line.startswith("farthing: ")]
        assert (caught.value.code, captured.out, len(lines)) == (2, "", 1), captured
        return lines[0]

    return refused


def edit_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_a_prompt_is_answered_on_stdout_and_told_about_on_stderr(run: Run) -> None:
    result = run("Once upon a time", "--seed", "1", "--max-tokens", "60")
    assert result.returncode == 0
    assert len(result.stdout.split()) > 5
    plan, *_, statistics = [line for line in result.stderr.splitlines() if "·" in line]
    assert all(part in plan for part in ("bundled", "KV room", "expect", "tok/s", "batch-invariant"))
    assert "decode" in statistics and "of the measured limit" in statistics


def test_the_same_seed_prints_the_same_answer(run: Run) -> None:
    first, second = (run("Once upon a time", "--seed", "7", "--max-tokens", "40").stdout for _ in range(2))
    assert first == second


def test_a_prompt_comes_from_a_pipe(run: Run) -> None:
    assert run("--temperature", "0", "--max-tokens", "8", stdin="Who are you?\n").stdout.strip()


def test_one_word_is_a_model_and_its_near_miss_is_named(run: Run) -> None:
    result = run("bundeld", stdin="hello")
    assert result.returncode == 2 and "did you mean bundled" in result.stderr and "Traceback" not in result.stderr
    assert "did you mean bundled" in run("bundeld").stderr
    assert run("bundled", "--max-tokens", "3", stdin="Who are you?").returncode == 0
    assert run("-m", "bundled", "-p", "Hello", "--max-tokens", "3").returncode == 0


def test_json_holds_answer_and_figures(run: Run) -> None:
    found = json.loads(run("--json", "Tell me a story.", "--max-tokens", "5", "--ignore-eos").stdout)
    assert found["schema"] == "farthing.run/1"
    assert (found["output_tokens"], found["finish_reason"]) == (5, "length")
    assert found["prompt_tokens"] > 0 and found["decode_tokens_per_second"] > 0


def test_a_prompt_that_is_not_english_gets_one_line_saying_so(run: Run) -> None:
    result = run("从前有一个小女孩 她住在森林里", "--max-tokens", "2")
    notes = [line for line in result.stderr.splitlines() if line.startswith("note:")]
    assert len(notes) == 1 and "English" in notes[0]


def test_an_english_prompt_gets_no_such_line(run: Run) -> None:
    assert "note:" not in run("Tell me a story about a princess and a dragon.", "--max-tokens", "2").stderr


def test_a_terminal_is_a_conversation_that_outlives_a_mistake(tmp_path: Path) -> None:
    """Two turns, one of them too long for the context, over a pseudo-terminal."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "farthing", "run", "--max-tokens", "5", "--context", "64", "--temperature", "0"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    os.close(terminal)
    os.write(controller, b"Who are you?\n" + b"long " * 100 + b"\nHello!\n/exit\n")
    stdout, stderr = process.communicate(timeout=120)
    os.close(controller)
    assert process.returncode == 0, stderr
    assert stderr.count("decode") == 2 and stderr.count("context length is 64") == 1
    assert stderr.count("> ") >= 4 and ">" not in stdout


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("",), "empty"),
        (("  ",), "empty"),
        (("-p", "word " * 2000), "context length is 512"),
        (("a b", "--context", "9999"), "512"),
        (("a b", "--format", "int3"), "int3"),
        (("a b", "--temperature", "-1"), "temperature"),
        (("a b", "--temperature", "nan"), "temperature"),
        (("a b", "--top-p", "0"), "top_p"),
        (("a b", "--max-tokens", "0"), "max_tokens"),
        (("a b", "--memory", "1MiB"), "does not fit"),
        (("a b", "--max-tokenz", "3"), "max-tokens"),
        (("a b", "c d", "e f"), "e f"),
        (("/", "hello there"), "config.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_mistake_in_the_call_is_one_line_and_exit_code_2(
    refusal: Callable[..., str], arguments: tuple[str, ...], named: str
) -> None:
    assert named in refusal(*arguments)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}, "auto_map"),
        ({"architectures": ["MambaForCausalLM"]}, "MambaForCausalLM"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"hidden_size": float("nan")}, "NaN"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps"),
        ({"num_hidden_layers": 5}, "model.layers.4"),
        ({"num_hidden_layers": 3}, "model.layers.3"),
        ({"intermediate_size": 700}, "shape"),
        ({"vocab_size": 1024}, "1024"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "longrope"),
        ({"eos_token_id": "two"}, "eos_token_id"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_config_that_is_wrong_is_one_line_that_names_the_key(
    refusal: Callable[..., str], copy: Path, changes: dict[str, object], named: str
) -> None:
    edit_config(copy, **changes)
    assert named in refusal(str(copy), "hello there")


def test_nothing_of_a_model_is_ever_executed(refusal: Callable[..., str], copy: Path, tmp_path: Path) -> None:
    """A pickle that would leave a file behind, under every name that weights have; and code beside the model."""

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"weight": Payload()}, tmp_path / "pickle")
    (copy / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.safetensors", "model.pt"):
        (copy / name).write_bytes((tmp_path / "pickle").read_bytes())
        (copy / "modeling_evil.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
        assert "pickle" in refusal(str(copy), "hello there")
        (copy / name).unlink()
    assert not (tmp_path / "executed").exists()


def test_damaged_weights_are_named(refusal: Callable[..., str], copy: Path) -> None:
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors" in refusal(str(copy), "hello there")
    file.unlink()
    assert "safetensors" in refusal(str(copy), "hello there")
    tensors = load_file(BUNDLED / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file)
    assert "model.norm.weight" in refusal(str(copy), "hello there")
    del tensors["model.layers.2.mlp.up_proj.weight"]
    save_file(tensors, file)
    assert "model.layers.2.mlp.up_proj.weight" in refusal(str(copy), "hello there")


def test_a_hostile_chat_template_is_refused_before_anything_is_answered(
    refusal: Callable[..., str], copy: Path
) -> None:
    config = json.loads((copy / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}"
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    assert "chat template" in refusal(str(copy), "hello there")


def test_a_tokenizer_larger_than_the_embeddings_is_refused(refusal: Callable[..., str], copy: Path) -> None:
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"]["beyond"] = 2048
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "2048" in refusal(str(copy), "hello there")


def test_random_weights_run_a_described_model_without_files(run: Run, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    result = run(str(copy), "hello there", "--weights", "random", "--max-tokens", "4", "--ignore-eos")
    assert result.returncode == 0 and "decode 3 tokens" in result.stderr


def test_random_weights_without_a_tokenizer_answer_in_token_ids(run: Run, copy: Path) -> None:
    for file in copy.iterdir():
        if file.name != "config.json":
            file.unlink()
    result = run(str(copy), "hello there", "--weights", "random", "--max-tokens", "4", "--ignore-eos")
    assert result.returncode == 0 and len([int(token) for token in result.stdout.split()]) == 4


def test_weights_of_whole_numbers_are_refused(refusal: Callable[..., str], copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, name: (tensors[name] * 100).to(torch.int8)}, copy / "model.safetensors")
    assert "int8" in refusal(str(copy), "hello there")


def test_bytes_that_are_no_text_are_replaced_and_a_plain_terminal_shows_what_it_can(copy: Path) -> None:
    command = [sys.executable, "-m", "farthing", "run", "--max-tokens", "4", "--temperature", "0"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    result = subprocess.run(command, input=b"caf\xff and \xc3\xa9", capture_output=True, timeout=120, env=environment)
    assert result.returncode == 0 and b"Traceback" not in result.stderr


def test_a_home_that_cannot_be_written_does_not_keep_the_answer_back(copy: Path) -> None:
    environment = {**os.environ, "XDG_DATA_HOME": "/proc/nowhere", "HOME": "/proc/nowhere"}
    command = [sys.executable, "-m", "farthing", "run", "Hello there", "--max-tokens", "3"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0 and result.stdout.strip() and "note: " in result.stderr
