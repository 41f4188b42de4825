"""Running an engine, on a driver and a TensorRT without a GPU: results, the order of calls, and that all is given back."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.errors import EnvironmentFailure, InputError, UnsupportedError
from export.model import TensorSpec
from targets import cuda
from targets.tensorrt.session import TensorRtSession
from tests.targets.fake_gpu import FakeEngine, FakeTensorRt, calls, driver, engine_of

__all__ = ["driver"]

DIRECT = ["cuMemcpyHtoDAsync_v2", "kernel", "cuMemcpyDtoHAsync_v2"]


def rows(batch: int, first: float = 0.0) -> dict[str, np.ndarray]:
    return {"x": np.arange(3 * batch, dtype=np.float32).reshape(batch, 3) + np.float32(first)}


def opened(
    trt: FakeTensorRt, folder: Path, kernels: Path | None = None, settings: dict[str, Any] | None = None
) -> TensorRtSession:
    return TensorRtSession(trt, FakeEngine(trt, b""), engine_of(folder, settings), kernels)


def check(session: TensorRtSession, batch: int, first: float = 0.0) -> np.ndarray:
    given = rows(batch, first)
    found = session.run(given)["y"]
    np.testing.assert_array_equal(found, 2 * given["x"] + 1)
    return found


def test_the_second_run_of_a_shape_is_recorded_and_later_ones_launch_it(driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        check(session, 2)
        first = calls(driver)
        assert [call for call in first if call in DIRECT] == DIRECT
        assert first.index("cuMemHostAlloc") < first.index("cuMemcpyHtoDAsync_v2")
        assert (first[-1], session.cuda_graph) == ("cuStreamSynchronize", "none yet")
        check(session, 2, first=7)
        assert calls(driver) == [
            "cuCtxSetCurrent",
            "cuStreamBeginCapture_v2",
            *DIRECT,
            "cuStreamEndCapture",
            "cuGraphInstantiateWithFlags",
            "cuGraphDestroy",
            "cuGraphLaunch",
            "cuStreamSynchronize",
        ]
        assert session.cuda_graph == "recorded"
        for first_value in (1, 5):
            check(session, 2, first_value)
            assert calls(driver) == ["cuCtxSetCurrent", "cuGraphLaunch", "cuStreamSynchronize"]


def test_another_shape_drops_the_graph_and_is_recorded_anew(driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        for _ in range(3):
            check(session, 2)
        calls(driver)
        check(session, 5)
        larger = calls(driver)
        assert larger[1] == "cuGraphExecDestroy"
        assert "cuGraphLaunch" not in larger
        assert {"cuMemFree_v2", "cuMemFreeHost"} <= set(larger), "grown buffers"
        check(session, 5, first=3)
        assert "cuStreamBeginCapture_v2" in calls(driver)
        check(session, 2)
        smaller = calls(driver)
        assert "cuGraphExecDestroy" in smaller
        assert "cuMemHostAlloc" not in smaller, "a smaller shape fits into the buffers there are"
        check(session, 2, first=9)


def test_answers_are_the_callers_own(driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        kept = [check(session, 2, first) for first in (0, 10, 20, 30)]
    for first, found in zip((0, 10, 20, 30), kept, strict=True):
        np.testing.assert_array_equal(found, 2 * rows(2, first)["x"] + 1)


def test_an_input_need_not_be_contiguous_nor_of_the_engines_type(driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        turned = np.arange(6).reshape(3, 2).T
        for _ in range(3):
            np.testing.assert_array_equal(session.run({"x": turned})["y"], 2 * turned + 1)


def test_what_cannot_be_recorded_goes_on_without_a_graph_and_says_why(driver: Any, tmp_path: Path) -> None:
    trt = FakeTensorRt(driver)
    trt.spoils_recordings = True
    with opened(trt, tmp_path) as session:
        for first in (0, 1, 2):
            check(session, 2, first)
        assert session.cuda_graph.startswith("cannot be recorded: CUDA driver: cu")
        assert "capture" in session.cuda_graph
        made = calls(driver)
        assert made.count("cuStreamBeginCapture_v2") == made.count("cuStreamEndCapture") == 1
        assert "cuGraphLaunch" not in made


@pytest.mark.parametrize("call", ["cuStreamBeginCapture_v2", "cuGraphInstantiateWithFlags"])
def test_a_driver_that_refuses_to_record_costs_the_graph_alone(call: str, driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        check(session, 2)
        driver.fake_fail(call.encode(), 900, 0)
        for first in (1, 2):
            check(session, 2, first)
        assert "operation not permitted when stream is capturing" in session.cuda_graph


def test_a_shape_outside_the_profile_is_refused_and_the_session_lives_on(driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        for _ in range(2):
            check(session, 2)
        with pytest.raises(InputError, match=r"input 'x': found shape \(9, 3\), outside the engine's profile"):
            session.run(rows(9))
        for first in (0, 4, 5):
            check(session, 2, first)


def test_a_refused_shape_is_told_what_the_profile_allows(driver: Any, tmp_path: Path) -> None:
    profile = {"profile": {"x": [[1, 3], [4, 3], [8, 3]]}}
    with (
        opened(FakeTensorRt(driver), tmp_path, settings=profile) as session,
        pytest.raises(
            InputError, match=r"allowed: from \(1, 3\) to \(8, 3\); name wider `axes` of tensorrt in the recipe"
        ),
    ):
        session.run(rows(9))


def test_shapes_that_found_no_memory_are_not_taken_for_set(driver: Any, tmp_path: Path) -> None:
    """The context then has the new shape and the old buffers are gone, also for the shape before."""
    with opened(FakeTensorRt(driver), tmp_path) as session:
        for _ in range(2):
            check(session, 2)
        driver.fake_fail(b"cuMemHostAlloc", 2, 0)
        with pytest.raises(EnvironmentFailure, match="cuMemHostAlloc failed"):
            session.run(rows(5))
        calls(driver)
        check(session, 2)
        assert "cuMemHostAlloc" in calls(driver)


def test_an_output_whose_size_depends_on_values_is_refused(driver: Any, tmp_path: Path) -> None:
    trt, engine = FakeTensorRt(driver), engine_of(tmp_path)
    object.__setattr__(engine, "outputs", (TensorSpec("found", "float32", ("n", 3)),))
    with (
        TensorRtSession(trt, FakeEngine(trt, b""), engine) as session,
        pytest.raises(UnsupportedError, match=r"output 'found' has a size that depends on the values"),
    ):
        session.run(rows(2))


@pytest.mark.parametrize("call", ["cuMemHostAlloc", "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuStreamSynchronize"])
def test_a_failing_driver_is_named_and_leaks_nothing(call: str, driver: Any, tmp_path: Path) -> None:
    with opened(FakeTensorRt(driver), tmp_path) as session:
        driver.fake_fail(call.encode(), 2, 0)
        with pytest.raises(
            EnvironmentFailure, match=r"CUDA driver: cu\w+ failed: made to fail; check nvidia-smi and the driver"
        ):
            session.run(rows(2))


def test_no_room_for_the_engines_own_memory_is_said(driver: Any, tmp_path: Path) -> None:
    full = FakeEngine(FakeTensorRt(driver), b"")
    full.create_execution_context = lambda runtime_config=None: None  # type: ignore[assignment,return-value]
    with pytest.raises(EnvironmentFailure, match=r"model\.engine: no execution context; the GPU's memory is full"):
        TensorRtSession(full.trt, full, engine_of(tmp_path))


def test_sessions_of_one_engine_answer_from_threads_of_their_own(driver: Any, tmp_path: Path) -> None:
    """A thread begins without a context: a session that did not take it would fail with code 201."""
    trt = FakeTensorRt(driver)
    shared, engine = FakeEngine(trt, b""), engine_of(tmp_path)
    sessions = [TensorRtSession(trt, shared, engine) for _ in range(2)]
    wrong: list[BaseException] = []

    def work(session: TensorRtSession) -> None:
        try:
            for first in range(4):
                check(session, 2, first)
        except BaseException as error:
            wrong.append(error)

    for session in sessions:
        thread = threading.Thread(target=work, args=(session,))
        thread.start()
        thread.join()
        closing = threading.Thread(target=session.__exit__, args=(None, None, None))
        closing.start()
        closing.join()
    assert wrong == []


def test_tensorrt_rtx_records_by_itself_and_keeps_its_kernels(driver: Any, tmp_path: Path) -> None:
    trt, kernels = FakeTensorRt(driver, "tensorrt_rtx", "1.7.1"), tmp_path / "cache" / "kernels"
    for expected in ("whole graph, eager, b''", "whole graph, eager, b'compiled kernels'"):
        with opened(trt, tmp_path, kernels) as session:
            for first in range(3):
                check(session, 2, first)
            assert session.cuda_graph == "by TensorRT-RTX"
        assert trt.log.pop() == expected
    assert "cuStreamBeginCapture_v2" not in calls(driver)
    assert kernels.read_bytes() == b"compiled kernels"


def test_a_cache_that_grows_gets_general_kernels_and_no_graph_of_tensorrt_rtx(driver: Any, tmp_path: Path) -> None:
    trt = FakeTensorRt(driver, "tensorrt_rtx", "1.7.1")
    profile = {"x": [[0, 3], [4, 3], [8, 3]]}
    with opened(trt, tmp_path, tmp_path / "kernels", {"profile": profile}) as session:
        check(session, 2)
        assert session.cuda_graph == "none: the cache grows"
    assert trt.log.pop() == "no graph, general, b''"


def test_memory_of_what_grows_by_a_little_is_allocated_now_and_then(driver: Any, tmp_path: Path) -> None:
    """Room for 1, 2, 3, 4.5, 6.75, 10.1, 15.1, 22.6, 33.8, 50.8 rows: 10 allocations of each tensor, not 40."""
    trt = FakeTensorRt(driver)
    trt.largest_batch = 40
    with opened(trt, tmp_path) as session:
        for batch in range(1, 41):
            check(session, batch)
        made = calls(driver)
    assert made.count("cuMemHostAlloc") == 2 * 10
    assert made.count("cuMemAlloc_v2") == 2 * 10 + 40  # the fake TensorRT's own, one at each new shape


def test_layers_are_timed_without_a_graph(driver: Any, tmp_path: Path) -> None:
    """A graph's launch would call no profiler."""
    trt = FakeTensorRt(driver)
    with opened(trt, tmp_path) as session:
        found = session.profile(trt, rows(2), runs=4)
        assert [(layer.name, layer.time_s) for layer in found.layers] == [("conv1", pytest.approx(0.5e-3))]
        assert found.call_s > 0
        calls(driver)
        check(session, 2)
        assert "cuGraphLaunch" not in calls(driver)


def test_a_recording_gives_way_to_an_error_of_its_work(driver: Any) -> None:
    stream = cuda.Stream()

    def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        stream.record(work)
    graph = stream.record(lambda: None)
    graph.launch(stream)
    graph.close()
    stream.close()


def test_the_gpu_is_described(driver: Any) -> None:
    assert cuda.no_gpu() is None
    assert (cuda.compute_capability(), cuda.device_name(), cuda.driver_version()) == ("8.9", "Fake GPU 0", "13.0")
    driver.fake_fail(b"cuDeviceGetCount", 999, 0)
    assert cuda.no_gpu() == (
        "no NVIDIA GPU that answers on this machine (CUDA driver: cuDeviceGetCount failed: made to fail; "
        "check nvidia-smi and the driver's version)"
    )
