/* SPDX-License-Identifier: MIT */
/* The stand-in's runtime.
 *
 * Memory of a device lies in a region that the host cannot touch: it is opened while the work of a
 * stream is done and closed again. A piece ends where a page ends, and the page behind it belongs
 * to nobody; a new piece is full of NaN, a large one in its first 4 MiB; a piece that was given
 * back is never opened again.
 *
 * A stream is a queue. Its work is done when somebody waits for it, or some of it at once, as a
 * seed (NIN_CUDA_SEED) has it: so a missing wait shows. Where a stream comes to a wait for an
 * event, the stream that the event was recorded in is done up to there, and no further. Blocks and
 * threads of a kernel run one after another in an order that the seed picks (block.cpp). Copies
 * from memory that is not pinned read it at the call, as CUDA does; those from pinned memory read
 * it when their turn comes. To memory that is not pinned CUDA copies before the call returns: here
 * that counts as a wait, but is done late all the same.
 *
 * NIN_CUDA_DEVICES, NIN_CUDA_DRIVER (0: none), NIN_CUDA_CAPABILITY (75: sm_75) and NIN_CUDA_MEMORY
 * (in KiB) say what machine this is; with NIN_CUDA_LATE=1 it does nothing before somebody waits. */
#include "stand_in.h"

#include "block.h"
#include "queue.h"
#include "watcher.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace
{

/* ---- the machine ---------------------------------------------------------------------------- */

int device_count()
{
    return stand_in_setting("NIN_CUDA_DRIVER", 13000) < 13000
               ? 0
               : stand_in_setting("NIN_CUDA_DEVICES", 1);
}

/* A piece of a device's memory. */
struct piece {
    char *map;
    size_t map_bytes; /* without the page behind it */
    size_t bytes;
    int device;
};

uint64_t first_random_number()
{
    return 88172645463325252ull + (uint64_t)stand_in_setting("NIN_CUDA_SEED", 1);
}

/* Everything there is, and one lock for it. Work of a stream is done without the lock, but by one
 * thread at a time. */
struct machine {
    std::recursive_mutex lock, at_work;
    std::map<const char *, piece> pieces;  /* by where they begin for the user */
    std::map<const char *, size_t> pinned; /* bytes, by where they begin */
    std::set<cudaStream_t> streams;
    std::set<const void *> loaded; /* kernels that have been launched */
    std::map<const void *, std::function<void()>>
        things; /* graphs and handles, and what destroys them */
    uint64_t random = first_random_number();
    int calls = 0, fail_at = 0, graphs = 0, waits = 0, event_waits = 0, resets = 0;
    size_t fetched = 0;
    int contexts[16] = {}, at_work_on[16] = {};
    bool broken = false;
};

machine &the_machine()
{
    static machine *made = new machine; /* never destroyed: libraries are unloaded in any order */

    return *made;
}

uint32_t random_number()
{
    uint64_t &x = the_machine().random;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return (uint32_t)(x >> 16);
}

/* Of this thread's calls, as CUDA keeps it: until it is asked for, and longer if the device is
 * broken. */
thread_local cudaError_t last_error = cudaSuccess;

cudaError_t remember(cudaError_t error)
{
    last_error = error;
    return error;
}

/* ---- contexts ------------------------------------------------------------------------------- */

thread_local std::vector<void *> current;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

/* Contexts are numbers that look like pointers. */
void *context_of(int device)
{
    return (void *)(uintptr_t)(0x1000 + device);
}

/* Of the context on top; the runtime takes device 0 for a thread that has none. */
int current_device()
{
    return current.empty() || current.back() == NULL ? 0
                                                     : (int)((uintptr_t)current.back() - 0x1000);
}

int retain(void **context, int device)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (stand_in_fails())
        return cudaErrorMemoryAllocation;
    if (device < 0 || device >= device_count())
        return cudaErrorInvalidDevice;
    the_machine().contexts[device]++;
    *context = context_of(device);
    return 0;
}

/* No two contexts have the same. */
int get_id(void *context, unsigned long long *id)
{
    int device = (int)((uintptr_t)context - 0x1000);
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (the_machine().contexts[device] == 0)
        return 709; /* CUDA_ERROR_CONTEXT_IS_DESTROYED */
    *id = 1 + (unsigned long long)device + 16ull * (unsigned)the_machine().resets;
    return 0;
}

int release(int device)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    return the_machine().contexts[device]-- > 0 ? 0 : 201;
}

int push(void *context)
{
    current.push_back(context);
    return 0;
}

int pop(void **context)
{
    if (current.empty())
        return 201; /* CUDA_ERROR_INVALID_CONTEXT */
    *context = current.back();
    current.pop_back();
    return 0;
}

/* ---- memory --------------------------------------------------------------------------------- */

size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (bytes + page - 1) / page * page;
}

/* What works on the device may touch what lives there, and the host may not. A stream's work may
 * have to wait for another stream's: then one is done inside the other. */
void open_memory(int device, bool open)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    int &depth = the_machine().at_work_on[device];

    depth += open ? 1 : -1;
    if (depth != (open ? 1 : 0))
        return;
    for (const auto &entry : the_machine().pieces)
        if (entry.second.device == device)
            mprotect(entry.second.map, entry.second.map_bytes,
                     open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

/* Of a piece: to fill all of a large one takes longer than the test that asks for it. */
const size_t FILLED = (size_t)4 << 20;

/* CUDA aligns to 256 bytes, so up to 255 bytes behind a piece are not watched. */
char *make_piece(size_t bytes, int device)
{
    size_t mapped = whole_pages(bytes), page = whole_pages(1);
    void *map = mmap(NULL, mapped + page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *start;

    if (map == MAP_FAILED)
        return NULL;
    memset(map, 0xff, mapped < FILLED ? mapped : FILLED); /* NaN */
    mprotect(map, mapped + page, PROT_NONE);
    start = (char *)map + (mapped - (bytes + 255) / 256 * 256);
    the_machine().pieces[start] = {(char *)map, mapped, bytes, device};
    stand_in_watched_by->has_piece(start, bytes);
    return start;
}

} // namespace

typedef std::function<void()> piece_of_work;

/* While it is captured, work goes to the graph; what is illegal then spoils it. */
struct stand_in_stream {
    int device;
    std::deque<piece_of_work> work;
    bool capturing, spoilt;
    std::vector<piece_of_work> captured;
    cudaStreamCaptureMode mode;
    std::thread::id thread; /* that captures it */
    int calls;              /* that have put work into it */
};

struct stand_in_graph {
    std::vector<piece_of_work> work;
};

struct stand_in_graph_exec {
    std::vector<piece_of_work> work;
};

/* A place in a stream, where an event has been recorded. */
struct stand_in_mark {
    cudaStream_t stream; /* lives until it is reached */
    bool reached;
};

struct stand_in_event {
    int device;
    std::shared_ptr<stand_in_mark> mark; /* the last one; none: nobody has to wait */
};

static stand_in_watcher nobody;
stand_in_watcher *stand_in_watched_by = &nobody;

namespace
{

/* Does the first `count` pieces of work, fewer if then the mark is reached. */
void work_off(cudaStream_t stream, size_t count, const stand_in_mark *mark = NULL)
{
    std::lock_guard<std::recursive_mutex> turn(the_machine().at_work);

    if (count == 0 || stream->work.empty())
        return;
    open_memory(stream->device, true);
    for (; count > 0 && !stream->work.empty() && !(mark != NULL && mark->reached); count--) {
        std::function<void()> next = stream->work.front();

        stream->work.pop_front();
        next();
    }
    open_memory(stream->device, false);
}

void work_up_to(const std::shared_ptr<stand_in_mark> &mark)
{
    std::lock_guard<std::recursive_mutex> turn(the_machine().at_work);

    if (mark != NULL && !mark->reached)
        work_off(mark->stream, SIZE_MAX, mark.get());
}

bool is_pinned(const void *memory)
{
    auto after = the_machine().pinned.upper_bound((const char *)memory);

    if (after == the_machine().pinned.begin())
        return false;
    after--;
    return (const char *)memory < after->first + after->second;
}

bool is_event(cudaEvent_t event)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    return the_machine().things.count(event) == 1;
}

/* The same as a node of a graph. */
piece_of_work node_of(const piece_of_work &work)
{
    return [work]() {
        stand_in_watched_by->begins_node();
        work();
        stand_in_watched_by->ends_node();
    };
}

void run_grid(dim3 grid, dim3 block, const std::function<void()> &thread, uint32_t start)
{
    gridDim = grid;
    for (unsigned b = 0; b < grid.x; b++) {
        blockIdx = {start % 2 == 0 ? b : grid.x - 1 - b, 0, 0};
        stand_in_run_block(block.x, thread, start);
    }
}

} // namespace

/* ---- for the parts and for tests ------------------------------------------------------------ */

bool stand_in_fails(void)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    return ++the_machine().calls == the_machine().fail_at;
}

bool stand_in_spoils(void)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    bool any = false;

    for (cudaStream_t stream : the_machine().streams) {
        bool mine = stream->thread == std::this_thread::get_id();
        bool everybodys = thread_mode == cudaStreamCaptureModeGlobal &&
                          stream->mode == cudaStreamCaptureModeGlobal;
        bool spoils = stream->capturing && thread_mode != cudaStreamCaptureModeRelaxed &&
                      stream->mode != cudaStreamCaptureModeRelaxed && (mine || everybodys);

        stream->spoilt = stream->spoilt || spoils;
        any = any || spoils;
    }
    return any;
}

void stand_in_spoil_all(void)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    for (cudaStream_t stream : the_machine().streams)
        stream->spoilt =
            stream->spoilt || (stream->capturing && stream->device == current_device());
}

bool stand_in_owns(const void *memory, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    const char *start = (const char *)memory;
    auto after = the_machine().pieces.upper_bound(start);

    if (after == the_machine().pieces.begin())
        return false;
    after--;
    return after->second.device == current_device() &&
           start + bytes <= after->first + after->second.bytes;
}

bool stand_in_knows(cudaStream_t stream)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    return the_machine().streams.count(stream) == 1 && stream->device == current_device();
}

void stand_in_enqueue(cudaStream_t stream, std::function<void()> work)
{
    size_t some;

    {
        std::lock_guard<std::recursive_mutex> turn(the_machine().at_work);

        if (stream->capturing) {
            stream->captured.push_back(std::move(work));
            return;
        }
        stream->calls++;
        stream->work.push_back(std::move(work));
        some = random_number() % 8 == 0 ? random_number() % (stream->work.size() + 1) : 0;
        if (stand_in_setting("NIN_CUDA_LATE", 0) == 1)
            some = 0;
    }
    work_off(stream, some);
}

int stand_in_setting(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text == NULL || *text == '\0' ? otherwise : atoi(text);
}

int stand_in_capability(void)
{
    return stand_in_setting("NIN_CUDA_CAPABILITY", 90);
}

void stand_in_keep(const void *thing, std::function<void()> destroy)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    the_machine().things[thing] = destroy;
}

void stand_in_destroy(const void *thing)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    the_machine().things.at(thing)();
    the_machine().things.erase(thing);
}

extern "C" __attribute__((visibility("default"))) int stand_in_fail(int n)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    int calls = the_machine().calls;

    the_machine().random = first_random_number();
    the_machine().calls = 0;
    the_machine().fail_at = n;
    return calls;
}

extern "C" __attribute__((visibility("default"))) int stand_in_last_error(void)
{
    return last_error;
}

extern "C" __attribute__((visibility("default"))) void stand_in_set_last_error(int error)
{
    last_error = (cudaError_t)error;
}

extern "C" __attribute__((visibility("default"))) void stand_in_break(void)
{
    the_machine().broken = true;
}

extern "C" __attribute__((visibility("default"))) int stand_in_alive(void)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    return (int)the_machine().things.size() + (int)the_machine().pieces.size() +
           (int)the_machine().pinned.size() + (int)the_machine().streams.size();
}

extern "C" __attribute__((visibility("default"))) int stand_in_graphs(void)
{
    return the_machine().graphs;
}

extern "C" __attribute__((visibility("default"))) int stand_in_waits(void)
{
    return the_machine().waits;
}

extern "C" __attribute__((visibility("default"))) int stand_in_event_waits(void)
{
    return the_machine().event_waits;
}

extern "C" __attribute__((visibility("default"))) size_t stand_in_fetched(void)
{
    return the_machine().fetched;
}

extern "C" __attribute__((visibility("default"))) size_t stand_in_taken(void)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    size_t taken = 0;

    for (const auto &entry : the_machine().pieces)
        taken += entry.second.bytes;
    return taken;
}

/* Memory stays where it is, and can no longer be touched. */
extern "C" __attribute__((visibility("default"))) void stand_in_reset(void)
{
    machine &m = the_machine();
    std::lock_guard<std::recursive_mutex> held(m.lock);

    for (const auto &thing : m.things)
        thing.second();
    for (cudaStream_t stream : m.streams)
        delete stream;
    for (const auto &memory : m.pinned)
        free((void *)memory.first);
    m.things.clear();
    m.streams.clear();
    m.pinned.clear();
    m.pieces.clear();
    m.contexts[0] = 1; /* of the application's, which goes on */
    m.resets++;
}

extern "C" __attribute__((visibility("default"))) void *stand_in_stream_create(void)
{
    cudaStream_t stream = NULL;

    return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess ? stream : NULL;
}

extern "C" __attribute__((visibility("default"))) void stand_in_stream_destroy(void *stream)
{
    (void)cudaStreamDestroy((cudaStream_t)stream);
}

extern "C" __attribute__((visibility("default"))) int stand_in_stream_calls(void *stream)
{
    return ((cudaStream_t)stream)->calls;
}

extern "C" __attribute__((visibility("default"))) void stand_in_stream_capture(void *stream)
{
    (void)cudaStreamBeginCapture((cudaStream_t)stream, cudaStreamCaptureModeGlobal);
}

extern "C" __attribute__((visibility("default"))) int stand_in_stream_captured(void *stream)
{
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamEndCapture((cudaStream_t)stream, &graph);

    return error == cudaSuccess && cudaGraphDestroy(graph) == cudaSuccess;
}

extern "C" __attribute__((visibility("default"))) void *stand_in_current(void)
{
    return current.empty() ? NULL : current.back();
}

extern "C" __attribute__((visibility("default"))) void stand_in_push(void *context)
{
    current.push_back(context);
}

/* ---- launches ------------------------------------------------------------------------------- */

cudaError_t stand_in_launch(const cudaLaunchConfig_t *config, const void *kernel,
                            std::function<void()> thread)
{
    dim3 grid = config->gridDim, block = config->blockDim;
    uint32_t start = random_number();

    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (grid.x == 0 || grid.x > INT32_MAX || grid.y != 1 || grid.z != 1 || block.x == 0 ||
        block.x > 256 || block.y != 1 || block.z != 1 || config->dynamicSmemBytes != 0 ||
        config->numAttrs != 0)
        return remember(cudaErrorInvalidConfiguration);
    if (!stand_in_knows(config->stream))
        return remember(cudaErrorInvalidResourceHandle);
    if (config->stream->capturing && the_machine().loaded.count(kernel) == 0) {
        config->stream->spoilt = true; /* to load it now would be illegal */
        return remember(cudaErrorStreamCaptureUnsupported);
    }
    the_machine().loaded.insert(kernel);
    stand_in_enqueue(config->stream, [grid, block, kernel, thread, start]() {
        stand_in_watched_by->runs(kernel, grid.x, block.x);
        run_grid(grid, block, thread, start);
    });
    return cudaSuccess;
}

/* ---- the runtime ---------------------------------------------------------------------------- */

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    case cudaErrorNoDevice:
        return "no CUDA-capable device is detected";
    default:
        return "an error of the stand-in";
    }
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t last = last_error;

    if (!the_machine().broken)
        last_error = cudaSuccess;
    return last;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = stand_in_setting("NIN_CUDA_DRIVER", 13000);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    if (stand_in_setting("NIN_CUDA_DRIVER", 13000) < 13000)
        return remember(cudaErrorInsufficientDriver);
    *count = device_count();
    return *count > 0 ? cudaSuccess : remember(cudaErrorNoDevice);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    int capability = stand_in_capability();

    if (device < 0 || device >= device_count())
        return remember(cudaErrorInvalidDevice);
    memset(properties, 0, sizeof *properties);
    snprintf(properties->name, sizeof properties->name, "stand-in %d", device);
    properties->totalGlobalMem = (size_t)8 << 30;
    properties->major = capability / 10;
    properties->minor = capability % 10;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (device < 0 || device >= device_count())
        return remember(cudaErrorInvalidValue);
    if (attribute == cudaDevAttrComputeCapabilityMajor)
        *value = stand_in_capability() / 10;
    else if (attribute == cudaDevAttrComputeCapabilityMinor)
        *value = stand_in_capability() % 10;
    else if (attribute == cudaDevAttrMultiProcessorCount)
        *value = 132; /* as an H100 has */
    else
        return remember(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned version,
                                             unsigned long long flags,
                                             cudaDriverEntryPointQueryResult *result)
{
    static const struct {
        const char *name;
        unsigned version;
        void *function;
    } known[] = {
        {"cuDevicePrimaryCtxRetain", 7000, (void *)retain},
        {"cuDevicePrimaryCtxRelease", 11000, (void *)release},
        {"cuCtxPushCurrent", 4000, (void *)push},
        {"cuCtxPopCurrent", 4000, (void *)pop},
        {"cuCtxGetId", 12000, (void *)get_id},
    };

    *result = cudaDriverEntryPointSymbolNotFound;
    if (flags != cudaEnableDefault)
        return remember(cudaErrorInvalidValue);
    for (const auto &entry : known)
        if (strcmp(entry.name, symbol) == 0 && entry.version == version) {
            *function = entry.function;
            *result = cudaDriverEntryPointSuccess;
        }
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (stand_in_spoils())
        return remember(cudaErrorStreamCaptureUnsupported);
    if (stand_in_fails())
        return remember(cudaErrorMemoryAllocation);
    if (flags != cudaStreamNonBlocking)
        return remember(cudaErrorInvalidValue);
    *stream = new stand_in_stream{
        current_device(), {}, false, false, {}, cudaStreamCaptureModeGlobal, {}, 0};
    the_machine().streams.insert(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (!stand_in_knows(stream))
        return remember(cudaErrorInvalidResourceHandle);
    work_off(stream, SIZE_MAX);
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    the_machine().streams.erase(stream);
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream))
        return remember(cudaErrorInvalidResourceHandle);
    if (the_machine().broken)
        return remember(cudaErrorIllegalAddress);
    if (stream->capturing)
        stream->spoilt = true;
    if (stand_in_spoils() || stream->capturing)
        return remember(cudaErrorStreamCaptureUnsupported);
    the_machine().waits++;
    work_off(stream, SIZE_MAX);
    return cudaSuccess;
}

cudaError_t cudaStreamGetDevice(cudaStream_t stream, int *device)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (the_machine().streams.count(stream) == 0)
        return remember(cudaErrorInvalidResourceHandle);
    *device = stream->device;
    return cudaSuccess;
}

/* A stream that is captured waits only for events of the same capture, which there are none of
 * here. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream) || !is_event(event))
        return remember(cudaErrorInvalidResourceHandle);
    if (flags != 0)
        return remember(cudaErrorInvalidValue);
    if (stream->capturing) {
        stream->spoilt = true;
        return remember(cudaErrorStreamCaptureIsolation);
    }
    std::shared_ptr<stand_in_mark> mark = event->mark; /* later records change nothing */
    stand_in_enqueue(stream, [mark]() { work_up_to(mark); });
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    if (stand_in_fails())
        return remember(cudaErrorMemoryAllocation);
    if (flags != (cudaEventBlockingSync | cudaEventDisableTiming))
        return remember(cudaErrorInvalidValue);
    stand_in_event *made = new stand_in_event{current_device(), {}};
    stand_in_keep(made, [made]() { delete made; });
    *event = made;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (!is_event(event))
        return remember(cudaErrorInvalidResourceHandle);
    stand_in_destroy(event);
    return cudaSuccess;
}

/* In a stream that is captured it would become part of the graph, which is not done here. */
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream) || !is_event(event) || event->device != stream->device)
        return remember(cudaErrorInvalidResourceHandle);
    if (stream->capturing) {
        stream->spoilt = true;
        return remember(cudaErrorStreamCaptureUnsupported);
    }
    std::shared_ptr<stand_in_mark> mark(new stand_in_mark{stream, false});
    event->mark = mark;
    stand_in_enqueue(stream, [mark]() { mark->reached = true; });
    return cudaSuccess;
}

/* What an event cannot be asked for. */
static cudaError_t ask_of(cudaEvent_t event)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!is_event(event))
        return remember(cudaErrorInvalidResourceHandle);
    if (the_machine().broken)
        return remember(cudaErrorIllegalAddress);
    if (stand_in_spoils())
        return remember(cudaErrorStreamCaptureUnsupported);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cudaError_t error = ask_of(event);

    if (error != cudaSuccess)
        return error;
    the_machine().event_waits++;
    work_up_to(event->mark);
    return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    cudaError_t error = ask_of(event);

    if (error != cudaSuccess)
        return error;
    std::lock_guard<std::recursive_mutex> turn(the_machine().at_work);
    return event->mark == NULL || event->mark->reached ? cudaSuccess : remember(cudaErrorNotReady);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    std::swap(*mode, thread_mode);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream) || stream->capturing)
        return remember(cudaErrorInvalidValue);
    stream->capturing = true;
    stream->mode = mode;
    stream->thread = std::this_thread::get_id();
    stream->spoilt = false;
    stream->captured.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    bool fails = stand_in_fails();

    *graph = NULL;
    if (!stand_in_knows(stream) || !stream->capturing ||
        stream->thread != std::this_thread::get_id())
        return remember(cudaErrorInvalidValue);
    stream->capturing = false;
    if (stream->spoilt || fails)
        return remember(cudaErrorStreamCaptureInvalidated);
    stand_in_graph *made = new stand_in_graph{stream->captured};
    stand_in_keep(made, [made]() { delete made; });
    *graph = made;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    if (stand_in_fails())
        return remember(cudaErrorMemoryAllocation);
    if (graph == NULL || flags != 0)
        return remember(cudaErrorInvalidValue);
    stand_in_graph_exec *made = new stand_in_graph_exec{graph->work};
    stand_in_keep(made, [made]() { delete made; });
    *exec = made;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream) || stream->capturing)
        return remember(cudaErrorInvalidResourceHandle);
    the_machine().graphs++;
    for (const piece_of_work &work : exec->work)
        stand_in_enqueue(stream, node_of(work));
    if (stand_in_watched_by != &nobody)
        stand_in_enqueue(stream, []() { stand_in_watched_by->ends_graph(); });
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    stand_in_destroy(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    stand_in_destroy(exec);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *left, size_t *total)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    size_t taken = 0;

    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    for (const auto &entry : the_machine().pieces)
        taken += entry.second.device == current_device() ? entry.second.bytes : 0;
    *total = (size_t)stand_in_setting("NIN_CUDA_MEMORY", 8 << 20) << 10;
    *left = *total > taken ? *total - taken : 0;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **memory, size_t bytes)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (stand_in_spoils())
        return remember(cudaErrorStreamCaptureUnsupported);
    if (stand_in_fails())
        return remember(cudaErrorMemoryAllocation);
    if (bytes == 0) {
        *memory = NULL;
        return cudaSuccess;
    }
    *memory = bytes > (size_t)8 << 30 ? NULL : make_piece(bytes, current_device());
    return *memory == NULL ? remember(cudaErrorMemoryAllocation) : cudaSuccess;
}

/* Waits for all streams of the device, as CUDA does. */
cudaError_t cudaFree(void *memory)
{
    std::set<cudaStream_t> streams;

    if (stand_in_spoils())
        return remember(cudaErrorStreamCaptureUnsupported);
    if (memory == NULL)
        return cudaSuccess;
    {
        std::lock_guard<std::recursive_mutex> held(the_machine().lock);
        streams = the_machine().streams;
    }
    for (cudaStream_t stream : streams)
        if (stream->device == current_device())
            work_off(stream, SIZE_MAX);
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);
    auto found = the_machine().pieces.find((const char *)memory);
    if (found == the_machine().pieces.end() || found->second.device != current_device())
        return remember(cudaErrorInvalidValue);
    /* the addresses stay taken: who comes back to them falls */
    madvise(found->second.map, found->second.map_bytes, MADV_DONTNEED);
    the_machine().pieces.erase(found);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **memory, size_t bytes, unsigned flags)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (stand_in_spoils())
        return remember(cudaErrorStreamCaptureUnsupported);
    if (stand_in_fails())
        return remember(cudaErrorMemoryAllocation);
    if (flags != cudaHostAllocPortable)
        return remember(cudaErrorInvalidValue);
    *memory = malloc(bytes);
    if (*memory == NULL)
        return remember(cudaErrorMemoryAllocation);
    the_machine().pinned[(const char *)*memory] = bytes;
    return cudaSuccess;
}

cudaError_t cudaFreeHost(void *memory)
{
    std::lock_guard<std::recursive_mutex> held(the_machine().lock);

    if (stand_in_spoils())
        return remember(cudaErrorStreamCaptureUnsupported);
    if (memory == NULL)
        return cudaSuccess;
    if (the_machine().pinned.erase((const char *)memory) == 0)
        return remember(cudaErrorInvalidValue);
    free(memory);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *target, const void *source, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    bool up = kind == cudaMemcpyHostToDevice, pinned;

    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream))
        return remember(cudaErrorInvalidResourceHandle);
    if (!stand_in_owns(up ? target : source, bytes) || (!up && kind != cudaMemcpyDeviceToHost))
        return remember(cudaErrorInvalidValue);
    {
        std::lock_guard<std::recursive_mutex> held(the_machine().lock);
        pinned = is_pinned(up ? source : target);
    }
    if (stream->capturing && !pinned) { /* a graph would find what the memory holds then */
        stream->spoilt = true;
        return remember(cudaErrorStreamCaptureUnsupported);
    }
    if (!up) {
        std::lock_guard<std::recursive_mutex> held(the_machine().lock);
        the_machine().fetched += bytes;
        the_machine().waits += pinned ? 0 : 1;
    }
    if (up && !pinned) {
        std::string copy((const char *)source, bytes);

        stand_in_enqueue(stream, [target, copy = std::move(copy)]() {
            memcpy(target, copy.data(), copy.size());
        });
    } else {
        stand_in_enqueue(stream, [target, source, bytes, up]() {
            stand_in_watched_by->moves(up ? target : source, bytes, up);
            memcpy(target, source, bytes);
        });
    }
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream)
{
    if (stand_in_fails())
        return remember(cudaErrorUnknown);
    if (!stand_in_knows(stream))
        return remember(cudaErrorInvalidResourceHandle);
    if (!stand_in_owns(memory, bytes))
        return remember(cudaErrorInvalidValue);
    stand_in_enqueue(stream, [memory, value, bytes]() {
        stand_in_watched_by->moves(memory, bytes, true);
        memset(memory, value, bytes);
    });
    return cudaSuccess;
}
