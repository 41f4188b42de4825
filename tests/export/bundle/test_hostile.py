"""Bundles that try to leave their place, to grow, or to be taken for something else: refused, and nothing is written.

Whoever makes such a bundle makes its checksums hold, too; what is refused here is refused for what it is.
"""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from benchmarks.device.golden import golden_samples
from benchmarks.device.main import main
from export.bundle.manifest import FILE, SUMS
from export.bundle.verify import unpacked, verify
from export.errors import SecurityError
from tests.export.bundle.bundles import (
    MODEL,
    bundle_files,
    npy,
    sha256,
    with_manifest,
    write_folder,
    zip_bytes,
)
from tests.export.bundle.test_onnx_files import MODELS as ONNX
from tests.export.bundle.test_onnx_files import graph, looped

FILES = bundle_files()
FIRST = min(FILES)
BOMB = zlib.compress(bytes(1 << 24), 9)[2:-4]
"""16 MiB of zeros in 16 kB, as deflate writes them."""


def named(name: str) -> bytes:
    """An archive whose manifest lists a file of this name, and that holds it."""
    return zip_bytes(bundle_files(extra={name: b"evil"}))


def raw_name(name: bytes) -> bytes:
    return zip_bytes(FILES, local={"name": name}, central={"name": name})


def manifest(content: bytes) -> bytes:
    return zip_bytes(with_manifest(FILES, content))


def changed(*path: str, to: Any, target: str = "onnxruntime_mobile") -> bytes:
    def change(value: dict[str, Any]) -> None:
        for part in path[:-1]:
            value = value[part]
        value[path[-1]] = to

    return zip_bytes(bundle_files(target, change=change))


def both(**fields: Any) -> bytes:
    return zip_bytes(FILES, local=fields, central=fields)


def onnx_beside(model: bytes, name: str = "model/model.onnx") -> bytes:
    return zip_bytes(bundle_files("tensorrt", extra={name: model}))


def zip64() -> bytes:
    """The sizes stand in an extra field, as for files beyond 4 GB."""
    size = len(FILES[FIRST])
    extra = struct.pack("<HHQQ", 1, 16, size, size)
    return both(version=45, packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=extra)


def zip64_end() -> bytes:
    """The place of the directory in a record of its own."""
    plain = zip_bytes(FILES)
    _, _, _, _, count, length, start, _ = struct.unpack("<4s4H2IH", plain[-22:])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(plain) - 22, 1)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return plain[:-22] + record + locator + end


def overlapping() -> bytes:
    """All names share one content, as in a bomb without recursion (Fifield, WOOT 2019)."""
    one = zip_bytes([("a", b"x" * 4096)])
    entry = one[one.index(b"PK\1\2") : -22]
    count = 900
    names = [entry.replace(b"a", bytes([97 + n % 26]), 1) for n in range(count)]
    start = one.index(b"PK\1\2")
    directory = b"".join(names)
    return one[:start] + directory + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(directory), start, 0)


def swapped_central_names() -> bytes:
    """What lists the archive shows another name than what unpacks it from the local headers."""
    return zip_bytes(FILES, local={"name": b"golden/0-in-9.npy"})


def onnx_named(name: str, target: str) -> bytes:
    files = {name: ONNX["initializer"]().SerializeToString()}

    def change(value: dict[str, Any]) -> None:
        value["engine"] |= {"path": name, "files": [name]}

    return zip_bytes(bundle_files(target, extra=files, change=change))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "traversal": lambda: named("../evil"),
    "traversal inside": lambda: named("model/../../evil"),
    "absolute": lambda: named("/tmp/evil"),
    "absolute, twice": lambda: named("//tmp/evil"),
    "drive letter": lambda: named("C:/evil"),
    "drive without a slash": lambda: named("C:evil"),
    "backslash": lambda: named("..\\evil"),
    "stream": lambda: named("evil.txt:hidden"),
    "device": lambda: named("nul"),
    "device with a suffix": lambda: named("model/COM1.bin"),
    "trailing dot": lambda: named("evil."),
    "trailing space": lambda: named("evil "),
    "hidden": lambda: named(".ssh/authorized_keys"),
    "folder entry": lambda: named("evil/"),
    "empty name": lambda: named(""),
    "too long": lambda: named("e" * 161),
    "too deep": lambda: named("a/b/c/d/e/f/g"),
    "case collision": lambda: named("model/Model.ort"),
    "file and folder": lambda: named("model"),
    "file and folder, other case": lambda: named("Model"),
    "control characters": lambda: named("evil\x1b[2J"),
    "NUL in the name": lambda: raw_name(b"golden/0-in\0.npy"),
    "look-alike letters": lambda: raw_name("golden/0-\u0456n-0.npy".encode()),
    "name in UTF-8, flagged": lambda: both(flags=0x800),
    "name in CP437": lambda: raw_name(b"golden/0-\xa1n-0.npy"),
    "a name twice": lambda: zip_bytes([*FILES.items(), (FIRST, b"evil")]),
    "a manifest twice": lambda: zip_bytes([*FILES.items(), (FILE, b"{}")]),
    "deflate": lambda: both(
        method=8, content=zlib.compress(FILES[FIRST])[2:-4], packed=len(zlib.compress(FILES[FIRST])[2:-4])
    ),
    "deflate bomb": lambda: both(
        method=8, content=BOMB, packed=len(BOMB), size=1 << 24, crc=zlib.crc32(bytes(1 << 24))
    ),
    "bomb of overlaps": overlapping,
    "claims 4 GB": lambda: both(size=0xFFFFFFF0, packed=0xFFFFFFF0),
    "packed size differs": lambda: both(packed=3),
    "encrypted": lambda: both(flags=1),
    "strongly encrypted": lambda: both(flags=0x41),
    "data descriptor": lambda: both(
        flags=8, content=FILES[FIRST] + struct.pack("<4s3I", b"PK\7\x08", 0, len(FILES[FIRST]), len(FILES[FIRST]))
    ),
    "symbolic link by its mode": lambda: zip_bytes(FILES, central={"external": 0o120777 << 16}),
    "executable by its mode": lambda: zip_bytes(FILES, central={"external": 0o100755 << 16}),
    "made on another system": lambda: zip_bytes(FILES, central={"version": 0x314}),
    "extra field": lambda: both(extra=struct.pack("<HH4s", 0x5455, 4, b"evil")),
    "extra field, local alone": lambda: zip_bytes(FILES, local={"extra": b"\0\0\4\0evil"}),
    "unicode path field": lambda: both(extra=struct.pack("<HHBI4s", 0x7075, 9, 1, 0, b"evil")),
    "comment": lambda: zip_bytes(FILES, end={"comment": b"evil"}),
    "comment of an entry": lambda: zip_bytes(FILES, central={"comment": b"evil"}),
    "comment that is an archive": lambda: zip_bytes(FILES, end={"comment": zip_bytes({"x": b""})}),
    "zip64 sizes": zip64,
    "zip64 end": zip64_end,
    "before": lambda: zip_bytes(FILES, end={"before": b"#!/bin/sh\nevil\n"}),
    "between": lambda: zip_bytes(FILES, end={"between": b"evil"}),
    "behind": lambda: zip_bytes(FILES, end={"behind": b"evil"}),
    "another archive in front": lambda: zip_bytes({"x": b""}) + zip_bytes(FILES),
    "local name differs": swapped_central_names,
    "local size differs": lambda: zip_bytes(FILES, local={"size": 1}),
    "local checksum differs": lambda: zip_bytes(FILES, local={"crc": 1}),
    "another date": lambda: both(date=0x22),
    "count too small": lambda: zip_bytes(FILES, end={"entries": 3, "total": 3}),
    "count too large": lambda: zip_bytes(FILES, end={"entries": 999, "total": 999}),
    "counts differ": lambda: zip_bytes(FILES, end={"entries": 1}),
    "count of 65,535": lambda: zip_bytes(FILES, end={"entries": 0xFFFF, "total": 0xFFFF}),
    "no file at all": lambda: zip_bytes({}),
    "two disks": lambda: zip_bytes(FILES, end={"disk": 1}),
    "directory elsewhere": lambda: zip_bytes(FILES, end={"start": 0}),
    "directory too long": lambda: zip_bytes(FILES, end={"length": 0xFFFFFFFF}),
    "not in order": lambda: zip_bytes(sorted(FILES.items(), reverse=True), ordered=False),
    "1,001 files": lambda: zip_bytes({f"{number}": b"" for number in range(1001)} | FILES),
    "manifest an array": lambda: manifest(b"[]"),
    "manifest nested": lambda: manifest(b"[" * 200_000),
    "manifest with a key twice": lambda: manifest(FILES[FILE][:-1] + b', "name": "evil"}'),
    "manifest with NaN": lambda: manifest(FILES[FILE].replace(b"0.5", b"NaN")),
    "manifest with an infinite tolerance": lambda: manifest(FILES[FILE].replace(b"0.5", b"1e999")),
    "manifest in UTF-16": lambda: manifest(FILES[FILE].decode().encode("utf-16")),
    "manifest not UTF-8": lambda: manifest(FILES[FILE].replace(b"small", b"sm\xffll")),
    "manifest of 5 MiB": lambda: manifest(FILES[FILE] + b" " * (5 << 20)),
    "sums of 5 MiB": lambda: zip_bytes({**FILES, SUMS: FILES[SUMS] + b" " * (5 << 20)}),
    "unknown schema": lambda: changed("schema", to="edge-compress bundle 99"),
    "wrong type": lambda: changed("engine", to="evil"),
    "lists a file outside": lambda: changed("files", "../evil", to={"sha256": sha256(b""), "size_bytes": 0}),
    "lists a file that is missing": lambda: changed("files", "evil", to={"sha256": sha256(b""), "size_bytes": 0}),
    "engine outside": lambda: changed("engine", "path", to="../../evil.ort"),
    "engine's file outside": lambda: changed("engine", "files", to=["/etc/passwd"]),
    "engine is another file": lambda: changed("engine", "path", to="runner.pyz"),
    "file for another platform outside": lambda: changed("engine", "settings", to={"also_for": {"amd64": "../x"}}),
    "tokenizer outside": lambda: changed("preprocessing", to={"kind": "text", "tokenizer": "../../x.json"}),
    "tokenizer absolute": lambda: changed("preprocessing", to={"kind": "text", "tokenizer": "/x.json"}),
    "golden file outside": lambda: changed(
        "golden", "groups", to=[{"samples": 2, "inputs": {"x": "/x"}, "outputs": {}}]
    ),
    "nothing to test": lambda: changed("golden", "groups", to=[]),
    "engine of another build": lambda: changed("engine", "settings", to={"sha256": "0" * 64}, target="tensorrt"),
    "ONNX as .ort": lambda: onnx_named("model/evil.ort", "onnxruntime_mobile"),
    "ONNX as .pb": lambda: onnx_named("model/evil.pb", "onnxruntime_mobile"),
    "ONNX as .bin": lambda: onnx_named("model/evil.bin", "onnxruntime_mobile"),
    "ONNX as .engine": lambda: onnx_named("model/evil.engine", "onnxruntime_mobile"),
    "ONNX as .xml": lambda: onnx_named("model/evil.xml", "openvino"),
    "ONNX in capital letters": lambda: onnx_beside(ONNX["initializer"]().SerializeToString(), "model/evil.ONNX"),
    "ONNX bomb of nesting": lambda: onnx_beside(helper.make_model(looped(25)).SerializeToString()),
    "ONNX cut short": lambda: onnx_beside(helper.make_model(graph()).SerializeToString()[:-1]),
    "no ONNX": lambda: onnx_beside(b"\x80\x04\x95evil"),
    **{
        f"ONNX with data outside: {place}": lambda make=make: onnx_beside(make().SerializeToString())
        for place, make in ONNX.items()
    },
}


@pytest.fixture(scope="module", autouse=True)
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where archives are unpacked: nothing may be left there."""
    folder = tmp_path_factory.mktemp("temporary")
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    yield folder
    tempfile.tempdir = before


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused(
    name: str, tmp_path: Path, temporary: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside" / "here").mkdir(parents=True)
    path = tmp_path / "inside" / "x.compress"
    path.write_bytes(HOSTILE[name]())
    monkeypatch.chdir(path.parent / "here")
    before = tree(tmp_path)
    with pytest.raises(SecurityError) as found:
        verify(path)
    for command in ("verify", "selftest"):
        assert main([command, str(path)]) == SecurityError.exit_code == 4
    assert tree(tmp_path) == before and not list(temporary.iterdir())
    error = capsys.readouterr().err.splitlines()
    assert error == [f"error: {found.value}"] * 2 and error[0].isprintable() and len(error[0]) < 500


def dtype_that_lies(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"  # as long as numpy makes it
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + content


ARRAYS: dict[str, bytes] = {
    "pickle": b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x02os\x94.",
    "pickle in an array": npy(np.zeros(2, np.float32)).replace(b"'<f4'", b"'|O' "),
    "text": b"evil",
    "nothing": b"",
    "an archive of arrays": zip_bytes({"x.npy": npy(np.zeros(2, np.float32))}),
    "more than there is": dtype_that_lies("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", bytes(4)),
    "less than there is": dtype_that_lies("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}", bytes(400)),
    "terabytes": dtype_that_lies("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1000000000000)}", bytes(4)),
    "more than a machine counts": dtype_that_lies("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 10**30)}"),
    "beyond 64 bits": dtype_that_lies("{'descr': '<f4', 'fortran_order': False, 'shape': (2, " + "9" * 30 + ")}"),
    "more axes than numpy has": dtype_that_lies(
        f"{{'descr': '|i1', 'fortran_order': False, 'shape': (2{', 1' * 80}), }}".replace(", 1", ",1"), bytes(2)
    ),
    "negative": dtype_that_lies("{'descr': '<f4', 'fortran_order': False, 'shape': (2, -1)}", bytes(24)),
    "code in the header": dtype_that_lies("__import__('os').system('evil')"),
    "nested header": dtype_that_lies("(" * 100),
    "other keys": dtype_that_lies("{'shape': (2, 3)}"),
    "texts": npy(np.array(["ab", "cd"])),
    "fields": npy(np.zeros(2, [("x", "<f4"), ("y", "<f4")])),
    "no axis": npy(np.float32(1.0)),
    "other count of samples": npy(np.zeros((3, 3), np.float32)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_golden_arrays_that_are_something_else_are_not_opened(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The checksums hold, so that the bundle is whole; the array is refused before a model is loaded."""
    path = tmp_path / "x.compress"
    path.write_bytes(zip_bytes(bundle_files(extra={"golden/0-in-0.npy": ARRAYS[name]})))
    bundle = verify(path)
    with unpacked(bundle) as folder, pytest.raises(SecurityError, match=r"golden/0-in-0\.npy: holds") as found:
        golden_samples(bundle.manifest, folder)
    assert main(["selftest", str(path)]) == 4
    assert capsys.readouterr().err == f"error: {found.value}\n"


def good() -> dict[str, dict[str, bytes]]:
    onnx = helper.make_model(graph()).SerializeToString()
    inside = ONNX["initializer"]()
    inside.graph.initializer[0].external_data[1].value = "weights/w.bin"
    made = {f"plain {target}": bundle_files(target) for target in MODEL}
    made |= {f"{samples} samples": bundle_files(samples=samples) for samples in (1, 16, 100)}
    made |= {
        f"a file of {size:,} bytes": bundle_files(extra={"x": bytes(size)}) for size in (0, 1, 1 << 20, (1 << 20) + 1)
    }
    made |= {
        f"named {name}": bundle_files(extra={name: b"x"})
        for name in ("a" * 160, "a/b/c/d/e/f", "_", "console.txt", "a+b-c_d.e", "model/vocab-1.txt", "LICENSE", "0")
    }
    made["many files"] = bundle_files(extra={f"more/{number}.bin": b"%d" % number for number in range(900)})
    made["signed"] = with_manifest({**FILES, "signature.json": b"{}"}, FILES[FILE])
    made["an ONNX file beside the engine"] = bundle_files("tensorrt", extra={"model/model.onnx": onnx})
    made["ONNX data that lies in the bundle"] = bundle_files(
        "tensorrt",
        extra={"model/model.onnx": inside.SerializeToString(), "model/weights/w.bin": bytes(16)},
    )
    made["a tokenizer"] = bundle_files(
        extra={"tokenizer.json": b"{}"},
        change=lambda value: value.update(preprocessing={"kind": "text", "tokenizer": "tokenizer.json"}),
    )
    made["a file for another platform"] = bundle_files(
        extra={"model/model.arm64.ort": b"\0\0\0\0ORTM"},
        change=lambda value: value["engine"].update(settings={"also_for": {"arm64": "model.arm64.ort"}}),
    )
    made["a manifest in other words"] = with_manifest(FILES, json.dumps(json.loads(FILES[FILE]), indent=4).encode())
    made["a target that this version does not know"] = bundle_files(
        change=lambda value: value["engine"].update(target="npu of tomorrow")
    )
    return made


@pytest.mark.parametrize(("name", "files"), good().items(), ids=list(good()))
def test_a_good_bundle_is_whole_in_both_forms(name: str, files: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "x.compress").write_bytes(zip_bytes(files))
    found = [verify(tmp_path / "x.compress"), verify(write_folder(files, tmp_path / "x"))]
    for bundle in found:
        with unpacked(bundle) as folder:
            assert {entry: (folder / entry).read_bytes() for entry in bundle.contents.sizes} == files
    assert found[0].digest == found[1].digest == sha256(files[FILE])


def test_there_are_as_many_as_are_asked_for() -> None:
    assert len(HOSTILE) + len(ARRAYS) >= 40 and len(good()) >= 20
