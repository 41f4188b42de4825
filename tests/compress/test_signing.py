"""Signatures by OpenSSF's model-signing, with a key pair made by openssl."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from compress.pack import pack
from compress.pack.signing import check_signature
from export.bundle.archive import write_archive
from export.bundle.manifest import SIGNATURE, SUMS
from export.bundle.verify import sums, unpack, verify
from export.errors import InputError, SecurityError
from tests.compress.writer_run import writer_run

pytest.importorskip("model_signing", reason="model-signing is not installed; pip install 'edge-compress[sign]'")
if shutil.which("openssl") is None:
    pytest.skip("no openssl here to make keys with", allow_module_level=True)


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private], check=True)
    subprocess.run(["openssl", "ec", "-in", private, "-pubout", "-out", public], check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A run, its signed bundle, and the public key."""
    folder = tmp_path_factory.mktemp("signed")
    run = writer_run(folder)
    private, public = key_pair(folder, "mine")
    pack(run, "onnxruntime_mobile", folder / "app.compress", anyway=True, key=private)
    return run, folder / "app.compress", public


def test_a_signed_bundle_verifies_with_its_key_alone(signed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, path, public = signed
    bundle = verify(path)
    assert bundle.signed
    check_signature(bundle, public)
    with pytest.raises(SecurityError, match=r"app\.compress: the signature is not that of other\.pub"):
        check_signature(bundle, key_pair(tmp_path, "other")[1])


def test_a_file_that_was_changed_with_all_its_checksums_is_found(
    signed: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Whoever changes the manifest and the list of checksums too is caught by the signature alone."""
    _, path, public = signed
    folder = tmp_path / "open"
    folder.mkdir()
    unpack(verify(path), folder)
    manifest = (folder / "manifest.json").read_bytes()
    (folder / "manifest.json").write_bytes(manifest.replace(b'"name": "digits"', b'"name": "digitS"'))
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names if name != SUMS}
    (folder / SUMS).write_bytes(sums(digests))
    write_archive({name: folder / name for name in names}, tmp_path / "forged.compress")
    forged = verify(tmp_path / "forged.compress")
    with pytest.raises(SecurityError, match="the signature is not that of"):
        check_signature(forged, public)


def test_without_a_signature_or_a_key(signed: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, path, public = signed
    pack(run, "onnxruntime_mobile", tmp_path / "plain.compress", anyway=True)
    with pytest.raises(SecurityError, match=r"carries no signature; pack it with --sign KEY"):
        check_signature(verify(tmp_path / "plain.compress"), public)
    with pytest.raises(InputError, match="no such key; make a pair with: openssl"):
        check_signature(verify(path), tmp_path / "gone.pub")
    (tmp_path / "broken.pem").write_text("no key")
    with pytest.raises(InputError, match="is no private key that signs"):
        pack(run, "onnxruntime_mobile", tmp_path / "x.compress", anyway=True, key=tmp_path / "broken.pem")
    assert not (tmp_path / "x.compress").exists()
    assert SIGNATURE not in verify(tmp_path / "plain.compress").contents.sizes
