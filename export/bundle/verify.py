"""Is a bundle what was packed? Every file against the manifest, nothing extra, nothing missing, before anything is used."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from export.bundle.contents import Contents, FolderContents, open_contents
from export.bundle.manifest import FILE, LARGEST_BYTES, SIGNATURE, SUMS, Manifest, engines, read_manifest
from export.bundle.onnx_files import external_files
from export.errors import EnvironmentFailure, SecurityError

_MODELS = {
    "openvino": (".xml", rb"\s*<"),
    "onnxruntime_mobile": (".ort", b".{4}ORTM"),
    "tensorrt": (".engine", b""),
}
"""Target -> how the file that it loads ends and begins. Runtimes go by the content: ONNX Runtime takes ONNX by any name but
.ort, and then follows what it says of external data. TensorRT's engine goes by its sha256."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte was found as the manifest says."""

    path: Path
    manifest: Manifest
    contents: Contents
    digest: str
    """sha256 of the manifest: of the whole bundle, since it holds that of each file."""

    @property
    def signed(self) -> bool:
        return SIGNATURE in self.contents.sizes

    @property
    def size_bytes(self) -> int:
        return sum(self.contents.sizes.values())


def verify(path: Path) -> Bundle:
    """Check a bundle; nothing of it is loaded, run or written.

    Raises:
        InputError: if there is nothing at `path`.
        SecurityError: one sentence on the first thing that is wrong.
        EnvironmentFailure: if it cannot be read.
    """
    try:
        return _verified(path)
    except SecurityError as error:
        raise SecurityError(f"{path.name}: {error}") from error
    except OSError as error:
        raise EnvironmentFailure(f"{path.name}: cannot be read: {error.strerror}") from error


@contextmanager
def unpacked(bundle: Bundle) -> Iterator[Path]:
    """The bundle's files in a folder, for as long as the context lasts: its own, or a temporary copy of an archive.

    Each file of a copy is checked once more while it is written, so that what is used is what was verified.

    Raises:
        SecurityError: if a file is no longer what it was.
        EnvironmentFailure: if it cannot be written.
    """
    if isinstance(bundle.contents, FolderContents):
        yield bundle.path
        return
    try:
        folder = Path(tempfile.mkdtemp(prefix="compress-"))
    except OSError as error:
        raise EnvironmentFailure(f"{bundle.path.name}: there is no place to unpack it: {error.strerror}") from error
    try:
        unpack(bundle, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write the bundle's files into an empty folder; see `unpacked`."""
    for name in bundle.contents.sizes:
        digest = hashlib.sha256()
        try:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("xb") as file:
                for chunk in bundle.contents.read(name):
                    digest.update(chunk)
                    file.write(chunk)
        except OSError as error:
            raise EnvironmentFailure(f"{bundle.path.name}: {name} cannot be unpacked: {error.strerror}") from error
        listed = bundle.manifest.files.get(name)
        if listed is not None and digest.hexdigest() != listed.sha256:
            raise SecurityError(f"{bundle.path.name}: {name} changed while it was read; fetch the bundle again")


def _verified(path: Path) -> Bundle:
    if path.is_dir() and not path.is_symlink() and not (path / FILE).exists():
        raise SecurityError(f"it has no {FILE}; it is no bundle of `compress pack`")
    contents = open_contents(path)
    for name in (FILE, SUMS):
        if contents.sizes.get(name, LARGEST_BYTES + 1) > LARGEST_BYTES:
            raise SecurityError(
                f"it has no {name} of at most {LARGEST_BYTES >> 20} MiB; it is no bundle of `compress pack`"
            )
    written = b"".join(contents.read(FILE))
    manifest = read_manifest(written)
    own = {FILE, SUMS} | ({SIGNATURE} & contents.sizes.keys())
    missing = sorted(manifest.files.keys() - contents.sizes.keys())
    extra = sorted(contents.sizes.keys() - manifest.files.keys() - own)
    if missing:
        raise SecurityError(f"{missing[0]} is missing; fetch the bundle again")
    if extra:
        raise SecurityError(f"{extra[0]} is not in the manifest; the bundle was changed after packing")
    for name, entry in manifest.files.items():
        if contents.sizes[name] != entry.size_bytes:
            raise SecurityError(
                f"{name} has {contents.sizes[name]:,} bytes, the manifest says {entry.size_bytes:,}; fetch the bundle again"
            )
    found = {FILE: hashlib.sha256(written).hexdigest()}
    if SIGNATURE in own:
        found[SIGNATURE] = _sha256(contents, SIGNATURE)
    for name, entry in manifest.files.items():
        found[name] = _sha256(contents, name)
        if found[name] != entry.sha256:
            raise SecurityError(
                f"{name} has the sha256 {found[name][:12]}..., the manifest says {entry.sha256[:12]}...; "
                "it was changed after packing, fetch the bundle again"
            )
    if b"".join(contents.read(SUMS)) != sums(found):
        raise SecurityError(f"{SUMS} does not list the checksums of {FILE} and the files; fetch the bundle again")
    _check_engine(manifest, contents)
    return Bundle(path, manifest, contents, found[FILE])


def sums(digests: dict[str, str]) -> bytes:
    """The file that `sha256sum --check` reads."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def _sha256(contents: Contents, name: str) -> str:
    digest = hashlib.sha256()
    for chunk in contents.read(name):
        digest.update(chunk)
    return digest.hexdigest()


def _check_engine(manifest: Manifest, contents: Contents) -> None:
    """What no checksum tells: a model in disguise, ONNX files that reach for others, an engine that is not the recorded one."""
    for engine in engines(manifest.engine):
        path, target = engine["path"], engine["target"]
        ending, begin = _MODELS.get(target, ("", b""))
        if not path.endswith(ending) or not re.match(begin, next(contents.read(path), b""), re.DOTALL):
            raise SecurityError(f"{path} is no model that {target} loads, {ending}; nothing was loaded")
        source = str(PurePosixPath(path).with_name("model.onnx"))
        for setting, name in (("sha256", path), ("source_sha256", source)):
            recorded, listed = engine["settings"].get(setting), manifest.files.get(name)
            if recorded is not None and (listed is None or recorded != listed.sha256):
                raise SecurityError(f"{name} is not the one that was recorded when the engine was built")
    for name in manifest.files:
        if not name.lower().endswith(".onnx"):
            continue
        folder = PurePosixPath(name).parent
        for location in external_files(b"".join(contents.read(name))):
            if str(folder / location) not in manifest.files:
                raise SecurityError(f"{name} keeps data in {location!a}, which is not in the bundle")
