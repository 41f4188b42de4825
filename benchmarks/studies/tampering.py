"""Is every changed byte of a bundle noticed, and how fast is looking?

    python -m benchmarks.studies.tampering BUNDLE...                 # made by `compress pack`; copies are changed, not they
    python -m benchmarks.studies.tampering BUNDLE --grow 300         # with a file of 300 MB of noise added

Of a small bundle every byte is flipped in four ways, of a large one 2,000 random bytes at random. A flip in 300 MB is found in
half a second, 2,000 of them take 15 minutes: --flips takes fewer.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from export.bundle.archive import write_archive
from export.bundle.manifest import FILE, SUMS, FileEntry
from export.bundle.verify import sums, unpacked, verify
from export.errors import SecurityError
from targets.isa import architecture

SMALL_BYTES = 16_384
"""At most so large a bundle has all of its bytes flipped."""
FLIPS = 2_000
ROUNDS = 5


@dataclass(frozen=True)
class Tampering:
    """What was found of one bundle; `speed` in bytes a second of one core, of the fastest of ROUNDS."""

    size_bytes: int
    flips: int
    missed: tuple[int, ...]
    speed: float


def tampering(bundle: Path, flips: int = FLIPS, seed: int = 0) -> Tampering:
    """Flip bytes of an archive, which is changed and mended in place, and time `verify` of the whole one."""
    size = bundle.stat().st_size
    speed = size / min(_verify_s(bundle) for _ in range(ROUNDS))
    generator = random.Random(seed)
    chosen = (
        [(place, flip) for place in range(size) for flip in (0x01, 0x20, 0x80, 0xFF)]
        if size <= SMALL_BYTES
        else [(generator.randrange(size), generator.randrange(1, 256)) for _ in range(flips)]
    )
    missed = tuple(place for place, flip in chosen if not _noticed(bundle, place, flip))
    return Tampering(size, len(chosen), missed, speed)


def grown(bundle: Path, noise_mb: int, folder: Path) -> Path:
    """The same bundle with one more file, which its manifest lists."""
    out, noise = folder / f"{bundle.stem}-grown{bundle.suffix}", folder / "noise"
    generator = random.Random(0)
    noise.write_bytes(b"".join(generator.randbytes(1_000_000) for _ in range(noise_mb)))
    whole = verify(bundle)
    with unpacked(whole) as inside:
        added = FileEntry(hashlib.sha256(noise.read_bytes()).hexdigest(), noise.stat().st_size)
        manifest = replace(whole.manifest, files={**whole.manifest.files, "noise": added}).to_bytes()
        digests = {name: entry.sha256 for name, entry in whole.manifest.files.items()} | {
            "noise": added.sha256,
            FILE: hashlib.sha256(manifest).hexdigest(),
        }
        (folder / FILE).write_bytes(manifest)
        (folder / SUMS).write_bytes(sums(digests))
        files = {name: inside / name for name in whole.manifest.files}
        write_archive({**files, "noise": noise, FILE: folder / FILE, SUMS: folder / SUMS}, out)
    return out


def _verify_s(bundle: Path) -> float:
    start = time.process_time()
    verify(bundle)
    return time.process_time() - start


def _noticed(bundle: Path, place: int, flip: int) -> bool:
    _flip(bundle, place, flip)
    try:
        verify(bundle)
    except SecurityError:
        return True
    else:
        return False
    finally:
        _flip(bundle, place, flip)


def _flip(bundle: Path, place: int, flip: int) -> None:
    with bundle.open("r+b") as file:
        file.seek(place)
        [before] = file.read(1)
        file.seek(place)
        file.write(bytes([before ^ flip]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE")
    parser.add_argument("--grow", type=int, default=0, metavar="MB", help="add so many megabytes of noise")
    parser.add_argument("--flips", type=int, default=FLIPS, help="of a bundle too large for all")
    asked = parser.parse_args()
    print(f"{'bundle':40} {'bytes':>13} {'flips':>7} {'missed':>7} {'verify':>10}   ({architecture()}, one core)")
    for bundle in asked.bundles:
        with tempfile.TemporaryDirectory(prefix="compress-") as folder:
            copy = Path(folder) / bundle.name
            shutil.copyfile(bundle, copy)
            if asked.grow:
                copy = grown(copy, asked.grow, Path(folder))
            found = tampering(copy, asked.flips)
        speed = f"{found.speed / 1e6:.0f} MB/s"
        print(f"{copy.name:40} {found.size_bytes:13,} {found.flips:7,} {len(found.missed):7,} {speed:>10}", flush=True)


if __name__ == "__main__":
    main()
