"""What an engine records of its making, and what follows: refused, taken as it is, or built again for the GPU here.

A plan is machine code. It is deserialised only if its bytes are those recorded, and only by the version and on a GPU that it was
built for; elsewhere a new one is built from the model.onnx beside it with the recorded settings. Runs on Python 3.9.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from export.errors import CompressError, EnvironmentFailure, SecurityError
from targets import cuda
from targets.base import Engine
from targets.tensorrt.builder import AHEAD_OF_TIME, BuildSettings, Built, build_plan
from targets.tensorrt.cache import cache_file, cache_folder, keep, read_cached
from targets.tensorrt.profile import engine_layers, operators_by_precision

PLAN, SOURCE, RECORD = "model.engine", "model.onnx", "engine.json"


def make_plan(trt: Any, model: bytes, settings: BuildSettings, cache: bool) -> tuple[bytes, dict[str, Any]]:
    """A plan, and what its engine records in `settings`; plain JSON.

    Args:
        cache: take the timings of earlier builds on this GPU, and keep those of this one.
    """
    ahead = trt.__name__ == AHEAD_OF_TIME
    if not ahead:
        settings = replace(settings, compute_capabilities=(cuda.compute_capability(),))
    if cache and not ahead:
        file = cache_file("timings", trt.__version__, *settings.compute_capabilities, cuda.device_name())
        built = build_plan(trt, model, settings, read_cached(file))
        keep(file, built.timings)
    else:
        built = build_plan(trt, model, settings)
    return built.plan, {**_record(trt, model, settings, built), "cache": cache}


def checked_plan(engine: Engine) -> bytes:
    """The engine's bytes.

    Raises:
        SecurityError: if they are not those recorded; such a plan is never used, nor replaced.
    """
    plan = engine.path.read_bytes()
    if hashlib.sha256(plan).hexdigest() != engine.settings.get("sha256"):
        raise SecurityError(
            f"{engine.path.name}: its sha256 is not the recorded one; get the artifact again from where it was made"
        )
    return plan


def foreign(settings: Mapping[str, Any], provider: str, version: str, capability: str) -> str | None:
    """Why an engine with these settings may not be deserialised here; None if it may."""
    if (settings["provider"], settings["version"]) != (provider, version):
        return f"built by {settings['provider']} {settings['version']}, found {provider} {version}"
    if capability not in settings["compute_capabilities"]:
        return f"built for compute capability {', '.join(settings['compute_capabilities'])}, this GPU has {capability}"
    return None


def rebuild(engine: Engine, trt: Any, out: Path) -> Engine:
    """The engine built again for the GPU here, in the existing folder `out`, with the recorded settings.

    Raises:
        SecurityError: if the model.onnx beside the engine is missing or not the recorded one.
        UnsupportedError: if the TensorRT here refuses the model.
    """
    start = time.perf_counter()
    model = _checked_source(engine)
    recorded = engine.settings
    profile = {
        name: tuple(tuple(int(extent) for extent in shape) for shape in shapes)
        for name, shapes in recorded["profile"].items()
    }
    settings = BuildSettings(profile, int(recorded["workspace_mb"]), (cuda.compute_capability(),))
    plan, made = make_plan(trt, model, settings, bool(recorded["cache"]))
    path = out / PLAN
    path.write_bytes(plan)
    operators = operators_by_precision(made["layers"])
    build_s = time.perf_counter() - start
    return replace(engine, path=path, files=(path,), build_s=build_s, operators=operators, settings=made)


def rebuilt(engine: Engine, trt: Any) -> Engine:
    """`rebuild`, kept in the user's cache folder: a device builds once. The artifact itself stays as it was shipped."""
    folder = cache_folder() / f"engine-{_key(engine, trt)}"
    try:
        if _kept(folder, trt) is None:
            _keep_rebuilt(engine, trt, folder)
    except OSError as error:
        raise EnvironmentFailure(
            f"{engine.path.name}: it must be built again here, and the cache folder takes no engine ({error.strerror}); "
            "set COMPRESS_CACHE to a folder that can be written"
        ) from error
    return Engine.from_json(json.loads((folder / RECORD).read_text()), folder)


def _kept(folder: Path, trt: Any) -> Engine | None:
    """The engine that an earlier load left in the cache, if it is for what is here."""
    if not (folder / RECORD).exists():
        return None
    found = Engine.from_json(json.loads((folder / RECORD).read_text()), folder)
    return found if foreign(found.settings, trt.__name__, trt.__version__, cuda.compute_capability()) is None else None


def _keep_rebuilt(engine: Engine, trt: Any, folder: Path) -> None:
    """Whole or not at all; where another process was first, its engine stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as scratch:
        made = Path(scratch) / "engine"
        made.mkdir()
        (made / RECORD).write_text(json.dumps(rebuild(engine, trt, made).to_json(made), indent=1))
        if _kept(folder, trt) is None:
            shutil.rmtree(folder, ignore_errors=True)
            made.replace(folder)


def _checked_source(engine: Engine) -> bytes:
    path = engine.path.with_name(SOURCE)
    if "source_sha256" not in engine.settings or not path.exists():
        raise SecurityError(f"{engine.path.name}: there is no {SOURCE} of it beside it; build it again from its recipe")
    model = path.read_bytes()
    if hashlib.sha256(model).hexdigest() != engine.settings["source_sha256"]:
        raise SecurityError(
            f"{path.name}: its sha256 is not the recorded one; get the artifact again from where it was made"
        )
    return model


def _record(trt: Any, model: bytes, settings: BuildSettings, built: Built) -> dict[str, Any]:
    layers, reason = _layers(trt, built.plan, settings)
    return {
        "provider": trt.__name__,
        "version": trt.__version__,
        "compute_capabilities": list(settings.compute_capabilities),
        "sha256": hashlib.sha256(built.plan).hexdigest(),
        "source_sha256": hashlib.sha256(model).hexdigest(),
        "typing": "strong",
        "profile": {name: [list(shape) for shape in shapes] for name, shapes in settings.profile.items()},
        "workspace_mb": settings.workspace_mb,
        "layers": layers,
        "layers_unknown": reason,
    }


def _layers(trt: Any, plan: bytes, settings: BuildSettings) -> tuple[list[dict[str, str]], str]:
    """The engine inspector's layers, or none and the reason: it inspects what is deserialised, which takes a GPU."""
    if reason := cuda.no_gpu():
        return [], f"the engine inspector needs the GPU: {reason}"
    if cuda.compute_capability() not in settings.compute_capabilities:
        return [], "the engine inspector needs a GPU that the engine is for"
    try:
        engine = deserialised(trt, plan, PLAN)
    except CompressError as error:
        return [], str(error)
    return engine_layers(trt, engine), ""


def deserialised(trt: Any, plan: bytes, name: str) -> Any:
    """The engine of checked bytes.

    Raises:
        EnvironmentFailure: if TensorRT refuses them.
    """
    engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(plan)
    if engine is None:
        raise EnvironmentFailure(f"{name}: {trt.__name__} cannot load it; build it again on this machine")
    return engine


def _key(engine: Engine, trt: Any) -> str:
    """Of all that a rebuilt engine comes from."""
    recorded, here = engine.settings, [trt.__name__, trt.__version__, cuda.compute_capability()]
    parts = [recorded.get(name) for name in ("source_sha256", "profile", "workspace_mb")]
    return hashlib.sha256(json.dumps([*parts, *here]).encode()).hexdigest()[:32]
