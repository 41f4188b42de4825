"""The calls of the CUDA driver that running an engine takes, by ctypes: a device needs no package for them.

Runs on Python 3.9. A stream, a buffer or a graph belongs to the thread that called `Stream.use` last.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from export.errors import EnvironmentFailure

_MAJOR, _MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*, from cuda.h."""

_NON_BLOCKING = 1
"""CU_STREAM_NON_BLOCKING: what others do on the default stream neither waits for us nor spoils a recording."""

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: while one thread records, another may allocate memory."""


def no_gpu() -> str | None:
    """Why no CUDA device can be used here; None if one can."""
    try:
        driver = _driver()
        count = ctypes.c_int()
        _check(driver.cuInit(0), "cuInit")
        _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    except OSError:
        return "no NVIDIA GPU or driver on this machine"
    except EnvironmentFailure as error:
        return f"no NVIDIA GPU that answers on this machine ({error})"
    return None if count.value else "no NVIDIA GPU on this machine"


def compute_capability() -> str:
    """Of the first GPU, as "8.6"."""
    driver, device = _driver(), _first_device()
    parts = {_MAJOR: ctypes.c_int(), _MINOR: ctypes.c_int()}
    for attribute, part in parts.items():
        _check(driver.cuDeviceGetAttribute(ctypes.byref(part), attribute, device), "cuDeviceGetAttribute")
    return f"{parts[_MAJOR].value}.{parts[_MINOR].value}"


def device_name() -> str:
    """Of the first GPU, as "NVIDIA L4"."""
    text = ctypes.create_string_buffer(256)
    _check(_driver().cuDeviceGetName(text, len(text), _first_device()), "cuDeviceGetName")
    return text.value.decode(errors="replace")


def driver_version() -> str:
    """The newest CUDA that the driver runs, as "12.4"."""
    version = ctypes.c_int()
    _check(_driver().cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


class Stream:
    """A stream in the first GPU's primary context, which TensorRT shares, and copies that are ordered on it."""

    def __init__(self) -> None:
        self._driver = _driver()
        self._device, self._context, self._stream = _first_device(), ctypes.c_void_p(), ctypes.c_void_p()
        _check(
            self._driver.cuDevicePrimaryCtxRetain(ctypes.byref(self._context), self._device),
            "cuDevicePrimaryCtxRetain",
        )
        self.use()
        _check(self._driver.cuStreamCreate(ctypes.byref(self._stream), _NON_BLOCKING), "cuStreamCreate")

    @property
    def handle(self) -> int:
        return self._stream.value or 0

    def use(self) -> None:
        """Make the context that of the calling thread; a thread begins with none."""
        _check(self._driver.cuCtxSetCurrent(self._context), "cuCtxSetCurrent")

    def upload(self, array: np.ndarray, address: int) -> None:
        """Copy a C-contiguous array to the device; the array must live until `wait`."""
        source = ctypes.c_void_p(array.ctypes.data)
        code = self._driver.cuMemcpyHtoDAsync_v2(
            ctypes.c_uint64(address), source, ctypes.c_size_t(array.nbytes), self._stream
        )
        _check(code, "cuMemcpyHtoDAsync")

    def download(self, address: int, array: np.ndarray) -> None:
        """Copy from the device into a C-contiguous array, complete after `wait`."""
        target = ctypes.c_void_p(array.ctypes.data)
        code = self._driver.cuMemcpyDtoHAsync_v2(
            target, ctypes.c_uint64(address), ctypes.c_size_t(array.nbytes), self._stream
        )
        _check(code, "cuMemcpyDtoHAsync")

    def wait(self) -> None:
        _check(self._driver.cuStreamSynchronize(self._stream), "cuStreamSynchronize")

    def record(self, work: Callable[[], None]) -> Graph:
        """What `work` puts on this stream, as a graph; nothing of it runs.

        Raises:
            EnvironmentFailure: if something in it cannot be recorded; the stream works on as before.
        """
        _check(self._driver.cuStreamBeginCapture_v2(self._stream, _THREAD_LOCAL), "cuStreamBeginCapture")
        recorded = ctypes.c_void_p()
        try:
            work()
        except BaseException:
            self._driver.cuStreamEndCapture(
                self._stream, ctypes.byref(recorded)
            )  # or the stream stays in the recording
            if recorded.value:
                self._driver.cuGraphDestroy(recorded)
            raise
        _check(self._driver.cuStreamEndCapture(self._stream, ctypes.byref(recorded)), "cuStreamEndCapture")
        return Graph(recorded)

    def close(self) -> None:
        self._driver.cuStreamDestroy_v2(self._stream)
        self._driver.cuDevicePrimaryCtxRelease_v2(self._device)


class Graph:
    """Recorded work that one call launches. It holds addresses: they must stay those of the recording."""

    def __init__(self, recorded: ctypes.c_void_p) -> None:
        """Takes over `recorded`, a CUgraph."""
        self._driver = _driver()
        self._executable = ctypes.c_void_p()
        code = self._driver.cuGraphInstantiateWithFlags(ctypes.byref(self._executable), recorded, ctypes.c_ulonglong(0))
        self._driver.cuGraphDestroy(recorded)
        _check(code, "cuGraphInstantiate")

    def launch(self, stream: Stream) -> None:
        _check(self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(stream.handle)), "cuGraphLaunch")

    def close(self) -> None:
        self._driver.cuGraphExecDestroy(self._executable)


def _room(asked: int, had: int) -> int:
    """Bytes to allocate: what is asked for at first, then half as much again as there was, for a decoder's cache grows at every token."""
    return max(asked, had + had // 2, 1)


class Buffer:
    """Device memory that grows when more is asked for."""

    def __init__(self) -> None:
        self._driver = _driver()
        self._address = ctypes.c_uint64()
        self._size_bytes = 0

    def of(self, size_bytes: int) -> int:
        """The address of at least so many bytes; what was in them is lost when the buffer grows."""
        if size_bytes > self._size_bytes or not self._address.value:
            room = _room(size_bytes, self._size_bytes)
            self.close()
            code = self._driver.cuMemAlloc_v2(ctypes.byref(self._address), ctypes.c_size_t(room))
            _check(code, "cuMemAlloc")
            self._size_bytes = room
        return self._address.value

    def close(self) -> None:
        if self._address.value:
            self._driver.cuMemFree_v2(self._address)
            self._address, self._size_bytes = ctypes.c_uint64(), 0


class PinnedBuffer:
    """Host memory that the system never moves, so that the GPU copies from and to it by itself; grows likewise."""

    def __init__(self) -> None:
        self._driver = _driver()
        self._address = ctypes.c_void_p()
        self._size_bytes = 0

    def of(self, shape: tuple[int, ...], dtype: str) -> np.ndarray:
        """An array in this memory; arrays of earlier calls are lost when the buffer grows."""
        size_bytes = max(1, int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
        if size_bytes > self._size_bytes:
            room = _room(size_bytes, self._size_bytes)
            self.close()
            code = self._driver.cuMemHostAlloc(ctypes.byref(self._address), ctypes.c_size_t(room), 0)
            _check(code, "cuMemHostAlloc")
            self._size_bytes = room
        memory = (ctypes.c_byte * size_bytes).from_address(self._address.value or 0)
        return np.ndarray(shape, dtype, memoryview(memory).cast("B"))

    def close(self) -> None:
        if self._address.value:
            self._driver.cuMemFreeHost(self._address)
            self._address, self._size_bytes = ctypes.c_void_p(), 0


@cache
def _driver() -> Any:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _first_device() -> ctypes.c_int:
    driver, device = _driver(), ctypes.c_int()
    _check(driver.cuInit(0), "cuInit")
    _check(driver.cuDeviceGet(ctypes.byref(device), 0), "cuDeviceGet")
    return device


def _check(code: int, call: str) -> None:
    if code:
        text = ctypes.c_char_p()
        _driver().cuGetErrorString(code, ctypes.byref(text))
        reason = text.value.decode() if text.value else f"code {code}"
        raise EnvironmentFailure(f"CUDA driver: {call} failed: {reason}; check nvidia-smi and the driver's version")
