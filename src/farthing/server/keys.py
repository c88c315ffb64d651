"""API keys: a file of them becomes a ring of digests, and a presented key becomes the id of its owner.

The keys themselves are forgotten as soon as they are read, and no error repeats one. A look-up takes the same time
whether and where the key stands in the ring. Knows no HTTP.
"""

import hmac
import os
import re
import stat
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from farthing.errors import UsageError

MIN_KEY_CHARACTERS = 16
MAX_FILE_BYTES = 2**20
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY = re.compile(r"[!-9;-~]+")  # printable ASCII without white space, and without the colon that ends a name


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Digests of the keys, each with the id of its owner. Two keys may have one owner: so keys are exchanged."""

    _owners: tuple[tuple[bytes, str], ...] = field(repr=False)

    def key_id(self, presented: str) -> str | None:
        """The owner of the key, or None. Every digest is compared, found or not."""
        digest = _digest(presented)
        found = None
        for known, owner in self._owners:
            if hmac.compare_digest(digest, known):
                found = owner
        return found


def load_keys(path: Path) -> KeyRing:
    """Reads a file with one `name:key` or `key` a line; `#` begins a comment line. UsageError says what is wrong."""
    owners: dict[bytes, str] = {}
    for number, line in enumerate(_read(path).splitlines(), start=1):
        if not (text := line.strip()) or text.startswith("#"):
            continue
        name, colon, key = text.rpartition(":")
        problem = _problem(name if colon else None, key)
        if not problem and _digest(key) in owners:
            problem = "repeats a key"
        if problem:
            raise UsageError(f"line {number} of {path} {problem}", fix="write name:key, one a line")
        digest = _digest(key)
        owners[digest] = name if colon else f"key-{digest.hex()[:8]}"
    if not owners:
        raise UsageError(
            f"{path} has no key",
            fix="put one there, one a line: python3 -c 'import secrets; print(secrets.token_hex())'",
        )
    return KeyRing(tuple(owners.items()))


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def _problem(name: str | None, key: str) -> str:
    if name is not None and (not _NAME.fullmatch(name) or name.startswith("key-")):
        return "has a name that is not 1 to 64 letters, digits, '.', '_' or '-', or begins with 'key-'"
    if len(key) < MIN_KEY_CHARACTERS:
        return f"has a key of {len(key)} characters; {MIN_KEY_CHARACTERS} are the least"
    if not _KEY.fullmatch(key):
        return "has a key with white space or characters that no HTTP header carries"
    return ""


def _read(path: Path) -> str:
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 - what follows is no error of opening
    except OSError as error:
        raise UsageError(
            f"the key file {path} can't be read: {error.strerror}",
            fix="name a file that exists, or write one: "
            "(umask 077; python3 -c \"import secrets; print('me:' + secrets.token_hex(24))\" > keys.txt)",
        ) from error
    with file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is not a regular file", fix="put the keys into a file, one a line")
        if status.st_mode & _forbidden_mode(path):
            mode = stat.S_IMODE(status.st_mode)
            raise UsageError(f"the key file {path} is open to others (mode {mode:04o})", fix=f"chmod 600 {path}")
        content = file.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise UsageError(f"the key file {path} is larger than 1 MiB", fix="name the right file with --api-keys")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the key file {path} is not ASCII text", fix="keys are letters, digits and signs, one a line"
        ) from error


def _without_waiting(path: str, flags: int) -> int:
    """A pipe must not hold up the start."""
    return os.open(path, flags | os.O_NONBLOCK)


def _forbidden_mode(path: Path) -> int:
    """Nobody but the owner; systemd grants its credentials by an access list, whose mask shows as the group's bit."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return 0o037 if credentials and path.absolute().is_relative_to(credentials) else 0o077
