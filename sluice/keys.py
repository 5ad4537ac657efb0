"""Who may use the service: named keys, of which only digests are known, and sessions made with them."""

import re
import secrets
from collections.abc import Callable, Iterable
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from math import inf
from typing import NamedTuple

from itsdangerous import BadData, TimestampSigner

PREFIX = "sluice_"  # so that scanners of source code and logs can tell what they found
SECRET_BYTES = 32
NAME = r"[a-z0-9][a-z0-9_-]{0,62}"
ENTRY = re.compile(rf"({NAME}):([a-z]+):([0-9a-fA-F]{{64}})")
FORM = "name:role:sha256, as `python -m sluice key` prints it"


class Role(StrEnum):
    """What a key is for."""

    SUBMIT = "submit"  # submit, and follow its own ingestions
    READ = "read"  # see everything
    ADMIN = "admin"  # everything, steering included


class Key(NamedTuple):
    """A key as the service knows it: its name, which ingestions belong to, its role, and the SHA-256 of its secret."""

    name: str
    role: Role
    digest: bytes


class Caller(NamedTuple):
    """Who asks: the name of the key (empty where none is needed), what it is for, and until when, in Unix seconds."""

    name: str
    role: Role
    until: float = inf

    @property
    def sees_only_own(self) -> bool:
        """Whether the ingestions of others are none of its business."""
        return self.role is Role.SUBMIT


ANYONE = Caller("", Role.ADMIN)


class Keys:
    """The keys that are valid. With none, the service is open to all."""

    def __init__(self, keys: Iterable[Key], session_seconds: float, time: Callable[[], float]) -> None:
        """Take how long a session lasts, in seconds, and what tells the time, in Unix seconds."""
        self._keys = tuple(keys)
        self._longest_age = int(session_seconds)
        self._time = time

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return not self._keys

    @property
    def secret(self) -> bytes:
        """What processes with the same keys share, and nobody else knows if there are any."""
        return sha256(b"shared by " + b"".join(sorted(key.digest for key in self._keys))).digest()

    def caller(self, secret: str) -> Caller | None:
        """Return whose secret this is, or None. Takes as long whatever the secret is."""
        key = self._known(secret)
        return None if key is None else Caller(key.name, key.role)

    def session(self, secret: str) -> tuple[Caller, str] | None:
        """Return whose secret this is, and what stands for it for a while and is not it, or None if it is nobody's."""
        key = self._known(secret)
        if key is None:
            return None
        return Caller(key.name, key.role), self._signer(key).sign(_mark(key)).decode()

    def caller_of_session(self, session: str) -> Caller | None:
        """Return who made a session, or None if it is none, is over, or its key is no longer valid."""
        mark = session.partition(".")[0]
        for key in self._keys:
            if compare_digest(_mark(key), mark.encode()):
                try:
                    _, begun = self._signer(key).unsign(session, max_age=self._longest_age, return_timestamp=True)
                except BadData:
                    return None
                # Ages are whole seconds, and the last one is a part of the session.
                return Caller(key.name, key.role, begun.timestamp() + self._longest_age + 1)
        return None

    def _known(self, secret: str) -> Key | None:
        digest, found = sha256(secret.encode()).digest(), None
        for key in self._keys:  # all of them, so that the time tells nothing
            if compare_digest(key.digest, digest):
                found = key
        return found

    def _signer(self, key: Key) -> TimestampSigner:
        # The digest is as secret as the configuration is; a session ends with its key, on every process.
        signer = TimestampSigner(key.digest, salt="sluice.session", digest_method=sha256)
        signer.get_timestamp = lambda: int(self._time())  # type: ignore[method-assign]
        return signer


def read_keys(text: str) -> tuple[Key, ...]:
    """Return the keys in a text of `name:role:sha256` entries; raise `ValueError` with the number of a bad one.

    Commas or white space lie between them. A name may come again with another
    secret, so that one can replace the other while both are valid.
    """
    keys = []
    for number, entry in enumerate(text.replace(",", " ").split(), 1):
        # What is in it stays out of the complaint: it may be the secret itself.
        if (parts := ENTRY.fullmatch(entry)) is None:
            raise ValueError(f"entry {number} is not {FORM}")
        name, role, digest = parts.groups()
        if role not in set(Role):
            raise ValueError(f"entry {number} has no role that there is: {', '.join(Role)}")
        keys.append(Key(name, Role(role), bytes.fromhex(digest)))
    if len({key.digest for key in keys}) < len(keys):
        raise ValueError("the same key is there twice")
    return tuple(keys)


def make_key(name: str, role: Role) -> tuple[str, str]:
    """Return a new secret, to be kept by who uses it, and its entry for `API_KEYS`."""
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    return secret, f"{name}:{role}:{sha256(secret.encode()).hexdigest()}"


def _mark(key: Key) -> bytes:
    """Return what tells the key in a session, and tells nothing of its digest."""
    return sha256(b"mark of " + key.digest).hexdigest()[:16].encode()
