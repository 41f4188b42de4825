"""Signatures of bundles by OpenSSF's model-signing, with a key pair of one's own: nothing is sent anywhere.

Source: github.com/sigstore/model-transparency; the signature is over the sha256 of every file of the bundle.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from export.bundle.manifest import SIGNATURE, SUMS
from export.bundle.verify import Bundle, unpacked
from export.errors import InputError, SecurityError, UnsupportedError

INSTALL = "pip install 'edge-compress[sign]'"


def sign(folder: Path, key: Path) -> None:
    """Write the signature of all files in `folder` beside them.

    Raises:
        UnsupportedError: if model-signing is not installed.
        InputError: if the key cannot be read.
    """
    _needs_package()
    from model_signing import hashing, signing

    _needs_key(key)
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=key)
        config.set_hashing_config(_hashing(hashing, folder)).sign(folder, folder / SIGNATURE)
    except (ValueError, TypeError) as error:
        raise InputError(f"{key}: is no private key that signs: {error}") from error


def check_signature(bundle: Bundle, key: Path) -> None:
    """Whether the bundle was signed with the private half of `key`.

    Raises:
        SecurityError: if it was not, or carries no signature.
    """
    if not bundle.signed:
        raise SecurityError(f"{bundle.path.name}: carries no signature; pack it with --sign KEY")
    _needs_package()
    _needs_key(key)
    from model_signing import hashing, verifying

    with unpacked(bundle) as folder:
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.set_hashing_config(_hashing(hashing, folder)).verify(folder, folder / SIGNATURE)
        except Exception as error:  # the library raises many kinds; any of them is a signature that does not hold
            raise SecurityError(f"{bundle.path.name}: the signature is not that of {key.name}: {error}") from error


def _hashing(hashing: object, folder: Path) -> object:
    """All files but the signature and the list of checksums, in which the signature stands."""
    return hashing.Config().set_ignored_paths(paths=[folder / SIGNATURE, folder / SUMS], ignore_git_paths=False)  # type: ignore[attr-defined]


def _needs_package() -> None:
    if find_spec("model_signing") is None:
        raise UnsupportedError(f"signatures take the package model-signing, which is not installed; {INSTALL}")


def _needs_key(key: Path) -> None:
    if not key.is_file():
        raise InputError(
            f"{key}: no such key; make a pair with: openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
        )
