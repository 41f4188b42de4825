from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.studies import tampering as study
from export.bundle.verify import verify
from tests.export.bundle.bundles import bundle_files, zip_bytes


def test_the_study_flips_what_it_says_and_leaves_the_bundle_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.compress"
    path.write_bytes(zip_bytes(bundle_files()))
    large = study.grown(path, 1, tmp_path)
    found = study.tampering(large, flips=20)
    assert found.size_bytes == large.stat().st_size > 1_000_000
    assert (found.flips, found.missed) == (20, ()) and found.speed > 0
    assert verify(large).manifest.files["noise"].size_bytes == 1_000_000
    monkeypatch.setattr(study, "_noticed", lambda *_: False)
    small = study.tampering(path)
    assert small.flips == len(small.missed) == 4 * path.stat().st_size, "every byte, in four ways"
