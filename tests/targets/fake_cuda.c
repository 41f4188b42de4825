/* A CUDA driver without a GPU, for what tests/targets/fake_gpu.py asks of the order of calls.

Device memory is host memory under addresses moved by OFFSET, so that an address of the one is no address of the other. A stream keeps
its work until cuStreamSynchronize: who reads a result without waiting reads what was there before. Freed memory is overwritten and
never given out again. While a stream is recorded its work goes into the graph; what CUDA forbids then (allocating in the recording
thread, waiting, copying from or to memory that is not pinned) spoils the recording as it does there. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OFFSET 0x700000000000ull
#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, UNSUPPORTED = 900, INVALIDATED = 901 };

typedef void (*kernel_t)(void);
typedef struct { int kind; void *to; const void *from; size_t bytes; kernel_t kernel; } work_t; /* kind 0: copy, 1: kernel */
typedef struct { work_t work[256]; int count; } list_t;
typedef struct { list_t pending; list_t *recorded; int spoiled, alive; } stream_t;
typedef struct { void *at; size_t bytes; int pinned, alive; } block_t;

static char calls[1 << 20], failing[64];
static int failing_code, failing_skip, live, capability[2] = {8, 9};
static block_t blocks[4096];
static int block_count;
static __thread void *current;
static __thread stream_t *recording; /* by this thread */

/* Log the call; what it must return, by fake_fail or for want of a context. */
static int enter(const char *name, int needs_context) {
    strncat(calls, name, sizeof calls - strlen(calls) - 2);
    strcat(calls, "\n");
    if (failing[0] && !strcmp(failing, name) && failing_skip-- <= 0) {
        failing[0] = 0;
        return failing_code;
    }
    return needs_context && !current ? INVALID_CONTEXT : OK;
}
#define ENTER(needs_context) do { int code = enter(__func__, needs_context); if (code) return code; } while (0)

EXPORT const char *fake_calls(void) { return calls; }
EXPORT void fake_reset(void) { calls[0] = failing[0] = 0; }
EXPORT int fake_live(void) { return live; }
EXPORT void fake_capability(int major, int minor) { capability[0] = major; capability[1] = minor; }
EXPORT void fake_fail(const char *name, int code, int skip) { strcpy(failing, name); failing_code = code; failing_skip = skip; }
EXPORT void *fake_memory(uint64_t address) { return (void *)(uintptr_t)(address - OFFSET); }

static block_t *block_of(const void *at, size_t bytes) {
    for (int i = 0; i < block_count; i++)
        if (blocks[i].alive && (char *)at >= (char *)blocks[i].at && (char *)at + bytes <= (char *)blocks[i].at + blocks[i].bytes)
            return &blocks[i];
    return NULL;
}
static void *reserve(size_t bytes, int pinned) {
    void *at = malloc(bytes);
    memset(at, 0xA5, bytes);
    blocks[block_count++] = (block_t){at, bytes, pinned, 1};
    live++;
    return at;
}
static int release(void *at, int pinned) {
    block_t *found = block_of(at, 0);
    if (!found || found->at != at || found->pinned != pinned) return INVALID_VALUE;
    memset(at, 0xDD, found->bytes);
    found->alive = 0;
    live--;
    return OK;
}
static int spoil(stream_t *stream) { stream->spoiled = 1; return UNSUPPORTED; }
static int put(stream_t *stream, work_t work) {
    if (!stream->alive) return INVALID_HANDLE;
    if (stream->spoiled) return INVALIDATED;
    list_t *list = stream->recorded ? stream->recorded : &stream->pending;
    if (list->count == 256) return OUT_OF_MEMORY;
    list->work[list->count++] = work;
    return OK;
}

EXPORT int cuInit(unsigned flags) { return enter(__func__, 0) ? failing_code : flags ? INVALID_VALUE : OK; }
EXPORT int cuDeviceGetCount(int *count) { ENTER(0); *count = 1; return OK; }
EXPORT int cuDeviceGet(int *device, int ordinal) { ENTER(0); *device = ordinal; return OK; }
EXPORT int cuDriverGetVersion(int *version) { ENTER(0); *version = 13000; return OK; }
EXPORT int cuDeviceGetName(char *name, int length, int device) { ENTER(0); snprintf(name, length, "Fake GPU %d", device); return OK; }
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    ENTER(0);
    if (device || attribute < 75 || attribute > 76) return INVALID_VALUE;
    *value = capability[attribute - 75];
    return OK;
}
EXPORT int cuGetErrorString(int code, const char **text) {
    *text = code == UNSUPPORTED ? "operation not permitted when stream is capturing" : code == INVALIDATED ? "operation failed due to a previous error during capture" : "made to fail";
    return OK;
}
EXPORT int cuDevicePrimaryCtxRetain(void **context, int device) { ENTER(0); (void)device; *context = &live; live++; return OK; }
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) { ENTER(0); (void)device; live--; return OK; }
EXPORT int cuCtxSetCurrent(void *context) { ENTER(0); current = context; return context == &live ? OK : INVALID_CONTEXT; }

EXPORT int cuStreamCreate(stream_t **stream, unsigned flags) {
    ENTER(1);
    if (flags != 1) return INVALID_VALUE; /* a recording must not be spoiled by the default stream */
    *stream = calloc(1, sizeof **stream);
    (*stream)->alive = 1;
    live++;
    return OK;
}
EXPORT int cuStreamDestroy_v2(stream_t *stream) { ENTER(1); stream->alive = 0; live--; return OK; }
EXPORT int cuStreamSynchronize(stream_t *stream) {
    ENTER(1);
    if (!stream->alive) return INVALID_HANDLE;
    if (stream->recorded) return spoil(stream);
    for (int i = 0; i < stream->pending.count; i++) {
        work_t *work = &stream->pending.work[i];
        if (work->kind) work->kernel();
        else memcpy(work->to, work->from, work->bytes);
    }
    stream->pending.count = 0;
    return OK;
}
EXPORT int cuStreamBeginCapture_v2(stream_t *stream, int mode) {
    ENTER(1);
    if (mode != 1) return INVALID_VALUE;
    if (stream->recorded) return spoil(stream);
    stream->recorded = calloc(1, sizeof *stream->recorded);
    stream->spoiled = 0;
    recording = stream;
    live++; /* until the graph is destroyed */
    return OK;
}
EXPORT int cuStreamEndCapture(stream_t *stream, list_t **graph) {
    ENTER(1);
    if (!stream->recorded) return INVALID_VALUE;
    int spoiled = stream->spoiled;
    *graph = spoiled ? NULL : stream->recorded;
    live -= spoiled;
    stream->recorded = NULL, recording = NULL, stream->spoiled = 0;
    return spoiled ? INVALIDATED : OK;
}
EXPORT int cuGraphInstantiateWithFlags(list_t **executable, list_t *graph, unsigned long long flags) {
    ENTER(1);
    if (flags) return INVALID_VALUE;
    *executable = malloc(sizeof **executable);
    **executable = *graph;
    live++;
    return OK;
}
EXPORT int cuGraphDestroy(list_t *graph) { ENTER(1); memset(graph, 0, sizeof *graph); live--; return OK; }
EXPORT int cuGraphExecDestroy(list_t *executable) { ENTER(1); memset(executable, 0, sizeof *executable); live--; return OK; }
EXPORT int cuGraphLaunch(list_t *executable, stream_t *stream) {
    ENTER(1);
    for (int i = 0; i < executable->count; i++) {
        int code = put(stream, executable->work[i]);
        if (code) return code;
    }
    return OK;
}

EXPORT int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
    ENTER(1);
    if (recording) return spoil(recording);
    if (!bytes) return INVALID_VALUE;
    *address = (uint64_t)(uintptr_t)reserve(bytes, 0) + OFFSET;
    return OK;
}
EXPORT int cuMemFree_v2(uint64_t address) { ENTER(1); return release(fake_memory(address), 0); }
EXPORT int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
    ENTER(1);
    if (recording) return spoil(recording);
    if (!bytes || flags) return INVALID_VALUE;
    *at = reserve(bytes, 1);
    return OK;
}
EXPORT int cuMemFreeHost(void *at) { ENTER(1); return release(at, 1); }

static int copy(stream_t *stream, void *to, const void *from, const void *host, const void *device, size_t bytes) {
    block_t *block = block_of(device, bytes), *pinned = block_of(host, bytes);
    if (!block || block->pinned) return INVALID_VALUE;
    if (stream->recorded && !(pinned && pinned->pinned)) return spoil(stream);
    return put(stream, (work_t){0, to, from, bytes, NULL});
}
EXPORT int cuMemcpyHtoDAsync_v2(uint64_t address, const void *from, size_t bytes, stream_t *stream) {
    ENTER(1);
    return copy(stream, fake_memory(address), from, from, fake_memory(address), bytes);
}
EXPORT int cuMemcpyDtoHAsync_v2(void *to, uint64_t address, size_t bytes, stream_t *stream) {
    ENTER(1);
    return copy(stream, to, fake_memory(address), to, fake_memory(address), bytes);
}
EXPORT int fake_kernel(stream_t *stream, kernel_t kernel) {
    strcat(calls, "kernel\n");
    return put(stream, (work_t){1, NULL, NULL, 0, kernel});
}
