"""Keys for one machine: the one that its SSH server shows, and the one that opens it. Both are made here, by chance."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Self

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_TYPE = "ssh-ed25519"
LOGIN_MAGIC = 0x48535748


@dataclass(frozen=True)
class Keys:
    """``server`` is the host key in dropbear's form, ``pinned`` its public half; ``user`` is ours."""

    server: bytes
    pinned: paramiko.PKey
    user: paramiko.PKey

    @classmethod
    def make(cls) -> Self:
        """Return a new pair of pairs (RFC 8709)."""
        host = Ed25519PrivateKey.generate()
        private = host.private_bytes(
            serialization.Encoding.Raw, serialization.PrivateFormat.Raw, serialization.NoEncryption()
        )
        public = host.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return cls(
            _strings(KEY_TYPE.encode(), private + public),
            _loaded(host),
            _loaded(Ed25519PrivateKey.generate()),
        )

    @property
    def authorized(self) -> bytes:
        """The line of authorized_keys (sshd(8))."""
        return f"{KEY_TYPE} {self.user.get_base64()} hostwalk\n".encode()

    @property
    def greeting(self) -> bytes:
        """What the guest's door is told before SSH begins: struct login_header of guest/login/login.h, and both."""
        numbers = (LOGIN_MAGIC, len(self.server), len(self.authorized))
        return b"".join(number.to_bytes(4, "little") for number in numbers) + self.server + self.authorized


def _strings(*parts: bytes) -> bytes:
    """Return strings as SSH writes them (RFC 4251, section 5)."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _loaded(key: Ed25519PrivateKey) -> paramiko.PKey:
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return paramiko.Ed25519Key.from_private_key(io.StringIO(text.decode()))
