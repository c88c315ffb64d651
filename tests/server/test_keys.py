"""Keys: what a key file may hold, and that a key is found by its digest alone."""

import os
from pathlib import Path

import pytest

from farthing.errors import UsageError
from farthing.server.keys import load_keys

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_key_is_known_by_its_name_and_a_nameless_one_by_its_digest(tmp_path: Path):
    ring = load_keys(key_file(tmp_path, f"# people\n\nalice:{ALICE}\n{BOB}\n"))
    assert ring.key_id(ALICE) == "alice"
    owner = ring.key_id(BOB)
    assert owner is not None and owner.startswith("key-") and len(owner) == 12


@pytest.mark.parametrize("presented", ["", ALICE[:-1], ALICE + "x", f"alice:{ALICE}", "Ä" * 20, "\udcff", "x" * 10**6])
def test_anything_else_is_nobody(tmp_path: Path, presented: str):
    assert load_keys(key_file(tmp_path, f"alice:{ALICE}")).key_id(presented) is None


def test_every_digest_is_compared_wherever_the_key_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ring = load_keys(key_file(tmp_path, "".join(f"{ALICE}{number}\n" for number in range(7))))
    compared = []
    monkeypatch.setattr("hmac.compare_digest", lambda a, b: compared.append(1) or a == b)
    for presented in (f"{ALICE}0", f"{ALICE}6", "unknown"):
        compared.clear()
        ring.key_id(presented)
        assert len(compared) == 7


def test_the_ring_does_not_hold_or_show_a_key(tmp_path: Path):
    ring = load_keys(key_file(tmp_path, f"alice:{ALICE}"))
    assert ALICE not in repr(ring)
    assert ALICE.encode() not in b"".join(digest for digest, _ in ring._owners)


def test_two_keys_of_one_name_are_one_owner_so_that_keys_can_be_exchanged(tmp_path: Path):
    ring = load_keys(key_file(tmp_path, f"alice:{ALICE}\nalice:{BOB}"))
    assert ring.key_id(ALICE) == ring.key_id(BOB) == "alice"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "has no key"),
        ("# only a comment\n", "has no key"),
        ("short", "line 1 of"),
        ("short:0123456789abcde", "15 characters"),
        (f"alice:{ALICE}\nbob:{ALICE}", "line 2 of"),
        (f"al ice:{ALICE}", "name"),
        (f":{ALICE}", "name"),
        (f"key-00000000:{ALICE}", "name"),
        ("with blanks 0123456789", "white space"),
        ("schlüssel-0123456789", "not ASCII"),
        ("#" * (2**20 + 1), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_key_file_is_refused_without_repeating_a_key(tmp_path: Path, text: str, complaint: str):
    with pytest.raises(UsageError) as refused:
        load_keys(key_file(tmp_path, text))
    assert complaint in str(refused.value)
    assert ALICE not in str(refused.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_file_open_to_others_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int):
    path = key_file(tmp_path, ALICE, mode)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        load_keys(path)


def test_a_credential_of_systemd_may_show_the_mask_of_its_access_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = key_file(tmp_path, f"alice:{ALICE}", 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert load_keys(path).key_id(ALICE) == "alice"
    path.chmod(0o444)
    with pytest.raises(UsageError, match="open to others"):
        load_keys(path)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("missing", "pipe", "."):
        with pytest.raises(UsageError):
            load_keys(tmp_path / name)
