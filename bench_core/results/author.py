"""Seal the records of this user, and recognise them, by a key in the user's own folder.

The key is 32 random bytes in `$XDG_STATE_HOME/bench/key` (`~/.local/state/bench/key`), outside of
every results folder. The *maker* of a record is the hash of the key, 8 hex digits: it says nothing
about the person, and equal makers are one user. A *seal* is a keyed hash of the record. Only the
holder of the key can check a seal, so a record of another user is what its maker says, and no more.
Everything that runs with the user's rights can read the key, a plugin too.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from hashlib import blake2b
from pathlib import Path
from typing import Any

from pydantic import Field

from bench_core.errors import StoreError
from bench_core.results.hashing import canonical, digest_bytes
from bench_core.results.record import Frozen

SIZE = 32
MAKER = "^([0-9a-f]{8})?$"


class Sealed(Frozen):
    """A stored value that names its maker; both are empty in records from before there was a key.

    The seal covers all other fields and `about`, the things that the record is about.
    """

    maker: str = Field(default="", pattern=MAKER)
    seal: str = Field(default="", max_length=64)

    def _content(self, about: tuple[str, ...]) -> bytes:
        fields = self.model_dump(mode="json", exclude={"seal", "checksum"})
        return canonical([type(self).__name__, about, fields]).encode()

    def sealed(self, *about: str) -> Any:
        """Return this value as made by this user. Raises StoreError without a place for the key."""
        key = _key(create=True)
        own = self.model_copy(update={"maker": _maker(key)})
        return own.model_copy(update={"seal": _hash(own._content(about), key)})

    def is_mine(self, *about: str) -> bool:
        """Decide whether this user made the value."""
        key = _key()
        return bool(key and self.seal) and secrets.compare_digest(
            self.seal.encode(), _hash(self._content(about), key).encode()
        )

    def claims_me(self) -> bool:
        """Decide whether the value names this user as its maker, truly or not."""
        key = _key()
        return bool(key) and self.maker == _maker(key)


def secret(create: bool = True) -> bytes:
    """Return the key of this user; empty if there is none, or no place for one."""
    with contextlib.suppress(StoreError):
        return _key(create)
    return b""


def by(maker: str) -> str:
    """Name a maker for people."""
    return f"user {maker}" if maker else "an unknown user"


def seal(content: str) -> str:
    """Return a seal of this user; "" without a place for the key."""
    with contextlib.suppress(StoreError):
        return _hash(content.encode(), _key(create=True))
    return ""


def _hash(content: bytes, key: bytes) -> str:
    return blake2b(content, key=key, digest_size=16).hexdigest()


def _maker(key: bytes) -> str:
    return digest_bytes(b"maker" + key, 4)


def place() -> Path:
    """Return the path of the key."""
    state = os.environ.get("XDG_STATE_HOME", "")
    folder = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    return folder / "bench" / "key"


def _key(create: bool = False) -> bytes:
    """Return the key of this user; empty if there is none. StoreError if it cannot be created."""
    try:
        path = place()
        with contextlib.suppress(FileNotFoundError):
            return _read(path)
        if not create:
            return b""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_name(f".key-{secrets.token_hex(8)}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(SIZE))
            os.fsync(descriptor)
            with contextlib.suppress(FileExistsError):  # another process was first
                os.link(part, path)
        finally:
            os.close(descriptor)
            part.unlink()
        return _read(path)
    except (OSError, RuntimeError) as error:
        if not create:
            return b""
        reason = getattr(error, "strerror", None) or error
        raise StoreError(f"no record can be signed: the key of this user: {reason}") from None


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != SIZE:
            raise OSError(f"{path} is no key of bench: remove it")
        return os.read(descriptor, SIZE)
    finally:
        os.close(descriptor)
