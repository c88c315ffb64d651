"""Models from a hub on loopback: what is asked for, what lies in the cache, and what each failure says."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from loopback_hub import COMMIT, REPOSITORY, WEIGHTS, LoopbackHub, files, model, pull, refusal, running_hub, serve

from farthing.engine.config import EngineConfig
from farthing.engine.plan import plan_engine
from farthing.errors import CheckpointError, FarthingError, ModelNotFoundError, UnsupportedError
from farthing.hub import download as hub_module
from farthing.hub.cache import cached_models, cached_weights, find_anywhere, hugging_face_folder
from farthing.models.reference import find_model


def sharded(*names: str) -> dict[str, bytes]:
    """A repository whose index names these shards."""
    index = {"weight_map": {f"tensor.{number}": name for number, name in enumerate(names)}}
    found = {name: content for name, content in files().items() if name != "model.safetensors"}
    return {**found, "model.safetensors.index.json": json.dumps(index).encode(), "one.safetensors": WEIGHTS}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    yield from running_hub(tmp_path, monkeypatch)


def test_config_and_index_come_before_the_plan_and_no_weights(hub: LoopbackHub) -> None:
    hub.repositories[REPOSITORY] = sharded("one.safetensors")
    offer = hub_module.inspect(model())
    assert hub.files_asked_for() == {"config.json", "model.safetensors.index.json"}
    assert [file.name for file in offer.weights] == ["one.safetensors"]
    assert offer.num_bytes > len(WEIGHTS)


def test_only_configuration_tokenizer_and_safetensors_are_asked_for(hub: LoopbackHub) -> None:
    folder = pull()
    wanted = {"config.json", "tokenizer.json", "generation_config.json", "model.safetensors"}
    assert hub.files_asked_for("GET") == hub.files_asked_for("HEAD") == wanted
    assert {path.name for path in folder.iterdir()} == wanted
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_the_cache_is_the_one_of_huggingface_hub(hub: LoopbackHub) -> None:
    folder = pull()
    found = huggingface_hub.try_to_load_from_cache(
        REPOSITORY, "model.safetensors", cache_dir=hugging_face_folder(os.environ), revision="main"
    )
    assert found == str(folder / "model.safetensors")
    assert cached_weights(model()) == folder


def test_what_is_there_is_not_fetched_again(hub: LoopbackHub) -> None:
    pull()
    hub.log.clear()
    offer = hub_module.inspect(model())
    assert offer.present_bytes == offer.num_bytes
    pull()
    assert hub.files_asked_for() == set()


def test_a_cut_connection_is_taken_up_where_it_ended(hub: LoopbackHub) -> None:
    hub.cut_once["model.safetensors"] = 1_000_000
    assert (pull() / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [headers["range"] for request, headers in hub.log if "range" in headers and "model.saf" in request]
    assert ranges == ["bytes=1000000-"]


def test_another_run_goes_on_where_the_last_one_stopped(hub: LoopbackHub) -> None:
    hub.cut_always["model.safetensors"] = 1_000_000
    assert "ended at" in str(refusal())
    del hub.cut_always["model.safetensors"]
    hub.log.clear()
    assert (pull() / "model.safetensors").read_bytes() == WEIGHTS
    assert [headers["range"] for _, headers in hub.log if "range" in headers] == ["bytes=1000000-"]


def test_a_server_without_ranges_sends_the_file_anew(hub: LoopbackHub) -> None:
    hub.cut_once["model.safetensors"], hub.ranges = 1_000_000, False
    assert (pull() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_file_that_never_comes_whole_is_an_error_and_is_not_there(hub: LoopbackHub) -> None:
    hub.cut_always["model.safetensors"] = 1_000_000
    error = refusal()
    assert "the same command goes on" in str(error)
    with pytest.raises(ModelNotFoundError, match="farthing pull acme/tiny"):
        cached_weights(model())


@pytest.mark.parametrize("wrong", [WEIGHTS + b"more", bytes(len(WEIGHTS))])
def test_bytes_that_are_not_the_listed_ones_are_thrown_away(hub: LoopbackHub, wrong: bytes) -> None:
    hub.sends_instead["model.safetensors"] = wrong
    error = refusal()
    assert isinstance(error, CheckpointError) and "thrown away" in str(error)
    assert not list(hugging_face_folder(os.environ).rglob("*.incomplete"))
    hub.sends_instead.clear()
    assert (pull() / "model.safetensors").read_bytes() == WEIGHTS


def test_a_full_disk_is_told_before_the_weights_are_fetched(hub: LoopbackHub) -> None:
    error = refusal(free_bytes=lambda folder: len(WEIGHTS))
    assert "free" in str(error) and "HF_HOME" in str(error)
    assert "model.safetensors" not in hub.files_asked_for()


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_names_the_page_and_the_login(hub: LoopbackHub, status: int) -> None:
    hub.gated[REPOSITORY] = status
    error = str(refusal())
    assert "gated" in error and f"{hub.address}/{REPOSITORY}" in error and "hf auth login" in error


def test_a_model_that_is_not_there_names_the_nearest(hub: LoopbackHub) -> None:
    error = refusal("acme/Llama-3.1-8")
    assert isinstance(error, ModelNotFoundError)
    assert "there is no acme/Llama-3.1-8" in str(error) and "did you mean llama-3.1-8b" in str(error)


def test_a_hub_out_of_reach_names_mirror_and_offline(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = str(refusal())
    assert all(part in error for part in ("127.0.0.1:9", "can't be reached", "HF_ENDPOINT", "HF_HUB_OFFLINE"))


def test_an_endpoint_that_is_no_hub_is_told(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.address}/elsewhere")
    assert "there is no acme/tiny" in str(refusal())


def test_a_revision_can_be_pinned(hub: LoopbackHub) -> None:
    folder = pull(f"{REPOSITORY}@v1")
    assert folder.name == COMMIT
    assert cached_weights(model(f"{REPOSITORY}@v1")) == cached_weights(model(f"{REPOSITORY}@{COMMIT}")) == folder
    with pytest.raises(ModelNotFoundError, match="farthing pull acme/tiny"):
        cached_weights(model())


def test_a_revision_that_is_not_there_is_told(hub: LoopbackHub) -> None:
    assert "no revision 'v9'" in str(refusal(f"{REPOSITORY}@v9"))


@pytest.mark.parametrize(
    "change",
    [
        {"architectures": ["BertModel"]},
        {"quantization_config": {"quant_method": "gptq"}},
        {"auto_map": {"AutoModel": "modeling_tiny.Tiny"}},
    ],
)
def test_what_farthing_does_not_run_is_refused_before_the_weights(hub: LoopbackHub, change: dict[str, object]) -> None:
    hub.repositories[REPOSITORY] = files(**change)
    assert isinstance(refusal(), UnsupportedError)
    assert hub.files_asked_for() == {"config.json"}


def test_a_file_that_says_quantized_is_refused_before_the_weights(hub: LoopbackHub) -> None:
    hub.repositories[REPOSITORY]["quantize_config.json"] = b"{}"
    error = refusal()
    assert isinstance(error, UnsupportedError) and "quantize_config.json" in str(error)
    assert "model.safetensors" not in hub.files_asked_for()


def test_a_model_that_is_only_planned_is_refused_before_the_weights(hub: LoopbackHub) -> None:
    change = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2}
    hub.repositories[REPOSITORY] = files(**change)
    error = refusal()
    assert "planned only" in str(error) and f"farthing plan {REPOSITORY}" in str(error)
    assert hub.files_asked_for() == {"config.json"}


@pytest.mark.parametrize("name", ["../../one.safetensors", "/etc/one.safetensors", "a/b.safetensors", "weights.bin"])
def test_an_index_that_names_files_elsewhere_is_refused(hub: LoopbackHub, name: str) -> None:
    hub.repositories[REPOSITORY] = {**sharded(name), name: b"bad"}
    assert isinstance(refusal(), CheckpointError)
    assert hub.files_asked_for() == {"config.json", "model.safetensors.index.json"}


def test_a_shard_that_the_repository_lacks_is_told_before_the_download(hub: LoopbackHub) -> None:
    hub.repositories[REPOSITORY] = sharded("one.safetensors", "two.safetensors")
    assert "two.safetensors" in str(refusal())
    assert "one.safetensors" not in hub.files_asked_for()


def test_a_repository_of_pickles_is_refused(hub: LoopbackHub) -> None:
    del hub.repositories[REPOSITORY]["model.safetensors"]
    assert "only pickles (pytorch_model.bin)" in str(refusal())
    assert hub.files_asked_for() == set()


def test_a_snapshot_without_its_shard_is_not_run(hub: LoopbackHub) -> None:
    hub.repositories[REPOSITORY] = sharded("one.safetensors")
    folder = pull()
    (folder / "one.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"one.safetensors is missing - farthing pull acme/tiny resumes"):
        cached_weights(model())
    assert [cached.problem for cached in cached_models()] == [
        f"incomplete: acme/tiny is only partly on this machine: {folder / 'one.safetensors'} is missing"
    ]
    assert pull() == cached_weights(model())


def test_the_token_is_sent_to_the_endpoint_and_not_to_where_it_redirects(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with serve(LoopbackHub(hub.repositories)) as cdn:
        hub.cdn = cdn.address
        assert (pull() / "model.safetensors").read_bytes() == WEIGHTS
        assert all(headers.get("authorization") == "Bearer hf_secret" for _, headers in hub.log)
        assert cdn.requests == ["GET /cdn/model.safetensors"]
        assert all("authorization" not in headers for _, headers in cdn.log)


def test_without_a_token_none_is_sent(hub: LoopbackHub) -> None:
    pull()
    assert all("authorization" not in headers for _, headers in hub.log)


def test_proxies_of_the_environment_are_used(hub: LoopbackHub) -> None:
    code = (
        "from farthing.hub import cache, download; print(download.inspect(cache.find_anywhere('acme/tiny')).num_bytes)"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://hub.invalid", "HTTP_PROXY": hub.address, "NO_PROXY": ""}
    environment.pop("no_proxy", None)
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert int(result.stdout) > len(WEIGHTS), result.stderr
    assert all(request.split(" ")[1].startswith("http://hub.invalid/") for request in hub.requests)


def test_a_model_comes_from_modelscope(hub: LoopbackHub) -> None:
    folder = pull("modelscope:acme/tiny")
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.files_asked_for() == {"config.json", "tokenizer.json", "generation_config.json", "model.safetensors"}
    assert cached_weights(model("modelscope:acme/tiny")) == folder
    assert [cached.name for cached in cached_models()] == ["modelscope:acme/tiny"]
    pull("modelscope:acme/tiny")


def test_modelscope_resumes_and_checks_too(hub: LoopbackHub) -> None:
    hub.cut_always["model.safetensors"] = 1_000_000
    assert "ended at" in str(refusal("modelscope:acme/tiny"))
    with pytest.raises(ModelNotFoundError, match="only partly"):
        cached_weights(model("modelscope:acme/tiny"))
    del hub.cut_always["model.safetensors"]
    hub.sends_instead["model.safetensors"] = bytes(len(WEIGHTS))
    assert "thrown away" in str(refusal("modelscope:acme/tiny"))


@pytest.mark.parametrize("name", [REPOSITORY, f"modelscope:{REPOSITORY}"])
def test_two_files_of_the_same_content_both_come(hub: LoopbackHub, name: str) -> None:
    hub.repositories[REPOSITORY]["generation_config.json"] = hub.repositories[REPOSITORY]["tokenizer.json"]
    offer = hub_module.inspect(model(name))
    folder = hub_module.download(offer, lambda num_bytes: None)
    assert (folder / "generation_config.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def test_names_that_would_play_tricks_are_not_listed(hub: LoopbackHub) -> None:
    names = ("\x1b[31mred.gguf", "../up.gguf", "a/b.gguf", ".hidden.gguf", "-flag.gguf", "good-Q4_K_M.gguf")
    hub.repositories[REPOSITORY] = dict.fromkeys(names, b"GGUF")
    assert list(hub_module.HuggingFace(model()).listing) == ["good-Q4_K_M.gguf"]


def test_a_file_that_changed_on_modelscope_is_fetched_again(hub: LoopbackHub) -> None:
    pull("modelscope:acme/tiny")
    hub.log.clear()
    hub.repositories[REPOSITORY]["tokenizer.json"] = b"[]"
    hub.repositories[REPOSITORY]["model.safetensors"] = WEIGHTS[:-1]
    folder = pull("modelscope:acme/tiny")
    assert (folder / "tokenizer.json").read_bytes() == b"[]"
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS[:-1]
    assert hub.files_asked_for() == {"tokenizer.json", "model.safetensors"}


@pytest.mark.parametrize("answer", [b"[]", b'{"Data": null}', b'{"Data": {"Files": [{"Path": 1}]}}', b"<html>"])
def test_an_answer_in_no_known_form_is_told(hub: LoopbackHub, answer: bytes) -> None:
    hub.listing_instead = answer
    assert hub.address in str(refusal("modelscope:acme/tiny"))
    assert hub.address in str(refusal())


def test_modelscope_says_what_it_does_not_have(hub: LoopbackHub) -> None:
    error = str(refusal("modelscope:acme/other"))
    assert f"there is no acme/other of {hub.address}" in error and "hf auth" not in error


@pytest.mark.parametrize("name", ["modelscope:../etc", "modelscope:a/..", "a/b..c", "a/b@../../x", "a/b@v1/../.."])
def test_a_name_never_leads_out_of_the_cache(name: str) -> None:
    with pytest.raises(FarthingError):
        find_anywhere(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("acme/tiny", ("acme/tiny", "main", None)),
        ("acme/tiny@refs/pr/1", ("acme/tiny", "refs/pr/1", None)),
        ("acme/tiny:Q4_K_M", ("acme/tiny", "main", "Q4_K_M")),
        ("acme/tiny@v1:Q4_K_M", ("acme/tiny", "v1", "Q4_K_M")),
        ("modelscope:acme/tiny:q8_0.gguf", ("acme/tiny", "master", "q8_0.gguf")),
        ("llama-3.1-8b", ("meta-llama/Llama-3.1-8B-Instruct", "main", None)),
        ("llama3.1:8b", ("meta-llama/Llama-3.1-8B-Instruct", "main", None)),
        ("llama-3.1-8b@v1", ("meta-llama/Llama-3.1-8B-Instruct", "v1", None)),
    ],
)
def test_revision_and_file_stand_behind_the_name(text: str, expected: tuple[str, str, str | None]) -> None:
    found = model(text)
    assert (found.repository, found.revision, found.file) == expected


def test_the_python_api_downloads_nothing_and_names_pull(hub: LoopbackHub) -> None:
    with pytest.raises(ModelNotFoundError, match="farthing pull acme/tiny"):
        plan_engine(REPOSITORY, EngineConfig())
    assert hub.log == []


def test_a_model_that_is_only_planned_is_not_loaded(tmp_path: Path) -> None:
    change = {"architectures": ["MixtralForCausalLM"], "num_local_experts": 4, "num_experts_per_tok": 2}
    (tmp_path / "config.json").write_bytes(files(**change)["config.json"])
    with pytest.raises(UnsupportedError, match=r"\(mixtral\) is planned only: .* - farthing plan "):
        plan_engine(str(tmp_path), EngineConfig())


def test_a_pulled_model_answers(hub: LoopbackHub, tmp_path: Path) -> None:
    bundled = find_model("bundled").path
    assert bundled is not None
    hub.repositories[REPOSITORY] = {path.name: path.read_bytes() for path in bundled.iterdir() if path.is_file()}
    folder = pull()
    assert (
        hashlib.sha256((folder / "model.safetensors").read_bytes()).digest()
        == hashlib.sha256((bundled / "model.safetensors").read_bytes()).digest()
    )
    command = [sys.executable, "-m", "farthing", "run", REPOSITORY, "Once upon a time", "--max-tokens", "8"]
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9"}  # whoever asks the hub fails
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.strip(), result.stderr
