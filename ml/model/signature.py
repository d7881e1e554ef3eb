"""Detached Ed25519 signatures of `model.pt`: `release` makes them, the service requires them if it has a key.

What is signed is the file's SHA-256, as 32 raw bytes, so that no file has to fit into memory. `model.pt.sig`
contains the 64 bytes of the signature, raw or in base64. openssl 3 makes and verifies the same bytes
(docs/deployment.md). PyNaCl is imported only here and only if it is needed.
"""

import base64
import binascii
import re
from collections.abc import Iterable

SIGNATURE_BYTES = 64
MAX_FILE_BYTES = 1024
"""Longest `model.pt.sig` that is read."""

_KEY_BYTES = 32
# RFC 8410: what precedes the key in DER. openssl writes exactly these bytes.
_PUBLIC_DER = bytes.fromhex("302a300506032b6570032100")
_PRIVATE_DER = bytes.fromhex("302e020100300506032b657004220420")


class SignatureError(ValueError):
    """A key or a signature can't be used; the message contains no part of it."""


def public_key(text: str) -> bytes:
    """Return the 32 bytes of a public key in PEM, also on one line, or in base64: of the DER or the bare key.

    Raises:
        SignatureError: it is no Ed25519 public key.
    """
    return _key(text, "PUBLIC", _PUBLIC_DER)


def sign(sha256: str, private_key: str) -> tuple[str, str]:
    """Sign a file by its SHA-256, in hexadecimal.

    Args:
        sha256: of the file.
        private_key: in the formats of `public_key`.

    Returns:
        The content of `model.pt.sig` and the public key, both in base64.

    Raises:
        SignatureError: the private key is no Ed25519 key.
    """
    from nacl.signing import SigningKey

    key = SigningKey(_key(private_key, "PRIVATE", _PRIVATE_DER))
    signature = key.sign(bytes.fromhex(sha256)).signature
    return base64.b64encode(signature).decode() + "\n", base64.b64encode(bytes(key.verify_key)).decode()


def verify(sha256: str, signature_file: bytes, public_keys: Iterable[bytes]) -> bool:
    """Return whether one of the keys has signed a file with this SHA-256, in hexadecimal.

    Raises:
        SignatureError: the file contains no signature, or PyNaCl isn't installed.
    """
    try:
        from nacl.exceptions import CryptoError
        from nacl.signing import VerifyKey
    except ImportError as error:
        raise SignatureError("signatures need the package PyNaCl: pip install pynacl") from error

    signature, message = _signature(signature_file), bytes.fromhex(sha256)
    for key in public_keys:
        try:
            VerifyKey(key).verify(message, signature)
        except CryptoError:
            continue
        return True
    return False


def _signature(content: bytes) -> bytes:
    if len(content) != SIGNATURE_BYTES:
        content = _decoded(content.decode("latin-1"))
    if len(content) != SIGNATURE_BYTES:
        raise SignatureError(f"it is not an Ed25519 signature: {SIGNATURE_BYTES} bytes, raw or in base64")
    return content


def _key(text: str, kind: str, prefix: bytes) -> bytes:
    key = _decoded(re.sub(rf"-----(BEGIN|END) {kind} KEY-----|\\n", "", text)).removeprefix(prefix)
    if len(key) != _KEY_BYTES:
        raise SignatureError(f"it is not an Ed25519 {kind.lower()} key in PEM or base64")
    return key


def _decoded(text: str) -> bytes:
    """Return the bytes of a base64 text with any white space; none at all if it is something else."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return b""
