"""`compress pack`: what one target shipped in a run, as a bundle that proves itself on the device."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report import Report, Row
from compress import __version__
from compress.engines import artifact_folder, read_engine
from compress.pack import golden
from compress.pack.kept import TEXT, TOKENIZER, Kept, read_kept
from compress.pack.private import check_private, without_folders
from compress.pack.runner import make_runner
from compress.run_directory import sha256_of
from export.bundle.archive import write_archive
from export.bundle.manifest import FILE, SCHEMA, SIGNATURE, SUMS, WRITES, FileEntry, Manifest, Runtime
from export.bundle.verify import Bundle, sums, verify
from export.errors import InputError, QualityError
from targets import Engine, Target, target_class

MODEL, RUNNER = "model", "runner.pyz"


@dataclass(frozen=True)
class Packed:
    """A bundle as written.

    Args:
        overhead_bytes: all of it but the model and the golden inputs.
    """

    bundle: Bundle
    model_bytes: int
    golden_bytes: int

    @property
    def overhead_bytes(self) -> int:
        total = self.bundle.path.stat().st_size if self.bundle.path.is_file() else self.bundle.size_bytes
        return total - self.model_bytes - self.golden_bytes


def pack(
    run: Path, target: str, out: Path, *, platform: str | None = None, anyway: bool = False, key: Path | None = None
) -> Packed:
    """Pack what a run ships for a target.

    Args:
        run: the folder of a finished run.
        out: the bundle: a file, or a folder where the name ends with no suffix.
        platform: processor family of the device, where the target made a file for several ("arm64"); by default the one
            that was measured.
        anyway: pack what the report rejects, too.
        key: private key to sign with.

    Raises:
        InputError: if the run has no such target, or something lies at `out`.
        QualityError: if the report rejects the artifact, or it is no longer the one that was measured.
    """
    report = Report.read(run)
    row = _chosen(report, target, anyway)
    kept = read_kept(run)
    folder, engine = _artifact(run, row)
    if out.exists():
        raise InputError(f"{out}: is there already; give another -o, or remove it")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it, or give another -o")
    with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
        files, manifest = _collected(report, row, kept, folder, engine, platform, Path(scratch))
        told = Path(scratch) / FILE
        told.write_bytes(manifest.to_bytes())
        check_private({**files, FILE: told})
        _write(files, manifest, out, Path(scratch), key)
    sizes = {name: entry.size_bytes for name, entry in manifest.files.items()}
    return Packed(
        verify(out),
        sum(size for name, size in sizes.items() if name.startswith(MODEL + "/")),
        sum(size for name, size in sizes.items() if name.startswith(golden.FOLDER + "/")),
    )


def _chosen(report: Report, target: str, anyway: bool) -> Row:
    """The row that ships for a target, if it may."""
    verdict = next((each for each in report.verdicts if each.target == target), None)
    row = report.chosen(target)
    if verdict is None or row is None or row.status not in ("measured", "compiled"):
        known = [name for name in report.targets if (found := report.chosen(name)) is not None and found.files]
        raise InputError(f"--target: the run ships nothing for '{target}'; it does for {', '.join(known) or 'none'}")
    if verdict.decision == "rejected" and not anyway:
        why = next((finding for finding in verdict.findings if not finding.startswith("kept")), verdict.findings[0])
        raise QualityError(f"{target}: the report rejects this artifact: {why}; pack it all the same with --anyway")
    return row


def _artifact(run: Path, row: Row) -> tuple[Path, Engine]:
    """The folder and the engine of the artifact, after its files were found to be those of the report."""
    folder = artifact_folder(run, row.files)
    for name, digest in row.files.items():
        if not (run / name).is_file() or sha256_of(run / name) != digest:
            raise QualityError(
                f"{run / name}: is not the file that was measured (its sha256 is another); run the recipe again"
            )
    return folder, read_engine(folder)


def _collected(
    report: Report, row: Row, kept: Kept, folder: Path, engine: Engine, platform: str | None, scratch: Path
) -> tuple[dict[str, Path], Manifest]:
    """All files but the manifest, by their names in the bundle, and the manifest."""
    target, source = target_class(engine.target)(), folder / "model.onnx"
    answers = _answers(target, engine, source, kept)
    precision = next((each.precision for each in _schemes(target) if engine.scheme.startswith(each.name)), "int8")
    engine = _for_platform(engine, platform)
    needs = [target.needs(part) for part in _loaded(engine)]
    shipped = dict.fromkeys((*engine.files, *(file for each in needs for file in each.files)))
    files = {f"{MODEL}/{file.relative_to(folder).as_posix()}": file for file in shipped}
    told, arrays = golden.written(kept.golden, answers, precision, scratch)
    files |= arrays
    if kept.tokenizer is not None:
        files[TOKENIZER] = kept.tokenizer
    files[RUNNER] = scratch / RUNNER
    writes = engine.generation is not None
    files[RUNNER].write_bytes(make_runner(engine.target, writes))
    score = row.evaluation
    manifest = Manifest(
        name=report.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        toolkit_version=__version__,
        engine=_in_bundle(engine.to_json(folder)),
        runtime=_with_version(needs[0].runtime, report),
        metric={
            "name": report.metric,
            "higher_is_better": report.higher_is_better,
            "value": None if score is None else score.value,
            "split": None if score is None else score.split,
            "samples": None if score is None else score.samples,
            "difference": None if score is None or score.difference is None else asdict(score.difference),
        },
        latency=tuple(_latency(asdict(latency)) for latency in row.latency),
        machine={name: fact for name, fact in report.machine.items() if name != "state"} if row.latency else {},
        preprocessing=kept.preprocessing,
        postprocessing=kept.postprocessing,
        class_names=kept.class_names,
        golden=told,
        made_from={
            "recipe": without_folders(report.recipe),
            "seed": report.seed,
            "hashes": report.hashes,
            "versions": report.versions,
        },
        licence=kept.licence,
        files={name: FileEntry(sha256_of(path), path.stat().st_size) for name, path in sorted(files.items())},
        schema=WRITES if writes else SCHEMA,
    )
    return files, manifest


def _answers(target: Target, engine: Engine, source: Path, kept: Kept) -> golden.Answered:
    """What the engine answers to the golden inputs.

    Raises:
        InputError: if the run was made before prompts were kept.
    """
    if engine.generation is None:
        return golden.answered(target, engine, source, kept.golden)
    if (kept.postprocessing or {}).get("kind") != TEXT:
        raise InputError(
            f"{source.parent}: the run kept no prompts for a model that writes, as runs of an earlier version did not; run the "
            "recipe again, finished parts are reused"
        )
    from compress.pack.golden_texts import written_answers

    return written_answers(target, engine, engine.generation, kept.golden)


def _loaded(engine: Engine) -> Sequence[Engine]:
    """What a runtime loads one by one; the decoder of a model that writes comes first."""
    return [engine] if engine.generation is None else [engine.parts[name] for name in sorted(engine.parts)]


def _in_bundle(value: dict[str, Any]) -> dict[str, Any]:
    """An engine as the manifest holds it: file names within the bundle, nothing that only the report tells."""
    told = {name: found for name, found in value.items() if name not in ("facts", "parts")}
    told |= {"path": f"{MODEL}/{value['path']}", "files": [f"{MODEL}/{name}" for name in value["files"]]}
    parts = {name: _in_bundle(part) for name, part in value.get("parts", {}).items()}
    return {**told, "parts": parts} if parts else told


def _for_platform(engine: Engine, platform: str | None) -> Engine:
    """The engine with the one file that was made for a processor family; by default the family that was measured.

    Raises:
        InputError: if no file was made for it.
        QualityError: if the file is no longer the one that was made.
    """
    if engine.generation is not None:
        parts = {name: _for_platform(part, platform) for name, part in engine.parts.items()}
        decoder, files = parts["decoder"], tuple(file for part in parts.values() for file in part.files)
        return replace(engine, path=decoder.path, files=files, settings=decoder.settings, parts=parts)
    settings = dict(engine.settings)
    own, others = settings.get("platform"), dict(settings.pop("also_for", {}))
    recorded = settings.pop("also_for_sha256", {})
    if platform in (None, own):
        return replace(engine, settings=settings)
    if own is None:
        raise InputError(f"--platform: the files of {engine.target} are not made for one platform; leave it out")
    if platform not in others:
        raise InputError(
            f"--platform: the run holds no file for '{platform}'; it does for {', '.join([str(own), *others])}. "
            f"Add the platform to also_for of the target {engine.target}, if it knows it, and run again"
        )
    path = engine.path.with_name(others[platform])
    if not path.is_file() or sha256_of(path) != recorded.get(platform):
        raise QualityError(
            f"{path.name}: is not the file that was compiled (its sha256 is another); run the recipe again"
        )
    return replace(engine, path=path, files=(path,), settings=settings | {"platform": platform})


def _schemes(target: Target) -> list[Any]:
    """The longest name first: a scheme that gave layers back is called after the one that it comes from."""
    return sorted(target.schemes(), key=lambda scheme: -len(scheme.name))


def _latency(value: Mapping[str, Any]) -> dict[str, Any]:
    """Without the raw blocks, which stand in the report."""
    left_out = {"block_medians_s", "distribution_s", "tails"}
    return {name: found for name, found in value.items() if name not in left_out}


def _with_version(runtime: Runtime, report: Report) -> Runtime:
    """With the version that the report gives, where the engine itself records none."""
    return replace(runtime, built_with=runtime.built_with or report.versions.get(runtime.package, ""))


def _write(files: Mapping[str, Path], manifest: Manifest, out: Path, scratch: Path, key: Path | None) -> None:
    """Write the bundle under another name, look at it as the device will, then give it its own."""
    folder = scratch / "bundle"
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    (folder / FILE).write_bytes(manifest.to_bytes())
    digests = {FILE: sha256_of(folder / FILE), **{name: entry.sha256 for name, entry in manifest.files.items()}}
    if key is not None:
        from compress.pack.signing import sign

        sign(folder, key)
        digests[SIGNATURE] = sha256_of(folder / SIGNATURE)
    (folder / SUMS).write_bytes(sums(digests))
    partial = out.with_name(f".{out.name}.partial")
    if partial.is_dir():  # left by a pack that was killed
        shutil.rmtree(partial)
    try:
        if out.suffix:
            write_archive({name: folder / name for name in (*digests, SUMS)}, partial)
        else:
            shutil.copytree(folder, partial)
        verify(partial)
        partial.rename(out)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        partial.unlink(missing_ok=True)
