// A CUDA driver without a GPU, whose streams run as late or as early as CUDA allows.
//
// Device memory is host memory. A stream is a queue of operations. By default nothing in it runs
// before someone waits for it; an eager stream runs whatever no event holds back, at once. So a
// copy that nothing waits for, or that is not held back, yields bytes of another time.
//
// It refuses what CUDA refuses: a copy whose ranges are not each within one allocation (those of
// page-locked memory are direct neighbours), no bytes or no current context, handles of another
// context, everything once the driver is deinitialised. What CUDA does not notice is kept in
// `wrong`: memory freed while a queued copy writes to it, a copy queued from memory freed since.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace ffi = tvm::ffi;

namespace {

struct Stream;

struct Context {
  int device;
};

struct Event {
  Context* context = nullptr;
  Stream* stream = nullptr;  // Null before it is recorded.
  bool has_happened = false;
};

struct Operation {
  std::shared_ptr<Event> awaits;  // What holds it back, or null.
  std::function<void()> run;
  // What it writes to, if it is a copy.
  uintptr_t to = 0;
  size_t bytes = 0;
};

struct Stream {
  Context* context = nullptr;
  std::deque<Operation> operations;
  bool is_eager = false;
};

constexpr int kInvalidValue = 1, kOutOfMemory = 2, kDeinitialised = 4, kInvalidContext = 201,
              kInvalidHandle = 400;
constexpr size_t kPage = 4096, kArenaBytes = size_t{64} << 30;

/*! \brief Allocations by their first address. */
class Memory {
 public:
  void Add(uintptr_t begin, size_t bytes) { allocations_[begin] = bytes; }
  /*! \brief Forget an allocation and return its size; 0 if there is none. */
  size_t Remove(uintptr_t begin) {
    auto found = allocations_.find(begin);
    if (found == allocations_.end()) return 0;
    size_t bytes = found->second;
    allocations_.erase(found);
    return bytes;
  }
  bool Holds(uintptr_t begin, size_t bytes) const {
    auto found = allocations_.upper_bound(begin);
    if (found == allocations_.begin()) return false;
    --found;
    return begin + bytes <= found->first + found->second;
  }
  size_t size() const { return allocations_.size(); }

 private:
  std::map<uintptr_t, size_t> allocations_;
};

std::recursive_mutex mutex;
Memory device_memory, host_memory;
Context contexts[2] = {{0}, {1}};
bool is_deinitialised = false;
std::vector<std::string> wrong;
// Page-locked memory: addresses that are never used twice.
char* arena = nullptr;
size_t arena_used = 0;
std::map<void*, std::shared_ptr<Stream>> streams;
std::map<void*, std::shared_ptr<Event>> events;
std::map<std::string, int> counts;
// Function to the number of calls that fail, or -1 for all, and the error.
std::map<std::string, std::pair<int, int>> failures;
bool is_compute_eager = false;
bool is_copy_eager = false;
int64_t free_bytes = int64_t{16} << 30;
std::vector<void*> released;
thread_local std::vector<Context*> current;

Context* Current() { return current.empty() ? nullptr : current.back(); }

// Any unknown handle is a stream of the current context; null is one of each context.
Stream* StreamOf(void* handle, Context* context = Current()) {
  void* key = handle == nullptr ? static_cast<void*>(context) : handle;
  std::shared_ptr<Stream>& stream = streams[key];
  if (stream == nullptr) {
    stream = std::make_shared<Stream>();
    stream->context = context;
    stream->is_eager = is_compute_eager;
  }
  return stream.get();
}

void Happen(const std::shared_ptr<Event>& event);

void RunFirst(Stream* stream) {
  Operation operation = std::move(stream->operations.front());
  stream->operations.pop_front();
  if (operation.awaits != nullptr) Happen(operation.awaits);
  if (operation.run) operation.run();
}

// Run what is in the way of an event, and no more.
void Happen(const std::shared_ptr<Event>& event) {
  while (!event->has_happened && event->stream != nullptr) RunFirst(event->stream);
}

void RunEager() {
  bool has_run = true;
  while (has_run) {
    has_run = false;
    for (auto& [handle, stream] : streams) {
      while (stream->is_eager && !stream->operations.empty()) {
        const std::shared_ptr<Event>& awaits = stream->operations.front().awaits;
        if (awaits != nullptr && awaits->stream != nullptr && !awaits->has_happened) break;
        RunFirst(stream.get());
        has_run = true;
      }
    }
  }
}

void Enqueue(Stream* stream, Operation operation) {
  stream->operations.push_back(std::move(operation));
  RunEager();
}

void RunAll() {
  for (auto& [handle, stream] : streams) {
    while (!stream->operations.empty()) RunFirst(stream.get());
  }
}

// Counts a call of a function of the driver; returns its error if there is no driver any more, no
// context is current where it needs one, or a test wants it to fail.
int Called(const char* name, bool wants_context = true) {
  ++counts[name];
  if (is_deinitialised) return kDeinitialised;
  if (wants_context && Current() == nullptr) return kInvalidContext;
  auto failure = failures.find(name);
  if (failure == failures.end() || failure->second.first == 0) return 0;
  if (failure->second.first > 0) --failure->second.first;
  return failure->second.second;
}

int Copy(const char* name, const Memory& target, void* to, const void* from, size_t bytes,
         void* handle) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called(name)) return error;
  auto begin = reinterpret_cast<uintptr_t>(to), source = reinterpret_cast<uintptr_t>(from);
  if (bytes == 0 || !target.Holds(begin, bytes) || !device_memory.Holds(source, bytes)) {
    return kInvalidValue;
  }
  if (StreamOf(handle)->context != Current()) return kInvalidHandle;
  auto copy = [=, &target] {
    if (target.Holds(begin, bytes) && device_memory.Holds(source, bytes)) {
      std::memcpy(to, from, bytes);
    } else {
      wrong.push_back(std::string(name) + " ran when its memory was free");
    }
  };
  Enqueue(StreamOf(handle), {nullptr, copy, begin, bytes});
  return 0;
}

// CUDA waits for nothing here.
void FreeHost(void* data) {
  auto begin = reinterpret_cast<uintptr_t>(data);
  size_t bytes = host_memory.Remove(begin);
  if (bytes == 0) wrong.push_back("cuMemFreeHost of what is not allocated");
  for (auto& [handle, stream] : streams) {
    for (const Operation& operation : stream->operations) {
      if (operation.to < begin + bytes && operation.to + operation.bytes > begin) {
        wrong.push_back("cuMemFreeHost of memory that a copy writes to");
      }
    }
  }
  // Whoever reads it now is ended.
  mprotect(data, (bytes + kPage - 1) / kPage * kPage, PROT_NONE);
}

struct DeviceAllocator {
  void AllocData(DLTensor* tensor) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    size_t bytes = ffi::GetDataSize(*tensor) + 1;
    tensor->data = std::calloc(1, bytes);
    device_memory.Add(reinterpret_cast<uintptr_t>(tensor->data), bytes - 1);
  }
  // Kernels that are still queued may use it; an allocator of TVM keeps it for the next tensor.
  void FreeData(DLTensor* tensor) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    released.push_back(tensor->data);
  }
};

}  // namespace

extern "C" {

int cuInit(unsigned) { return Called("cuInit", false); }
int cuGetErrorName(int error, const char** text) {
  static const std::map<int, const char*> names = {
      {kInvalidValue, "CUDA_ERROR_INVALID_VALUE"},
      {kOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY"},
      {kDeinitialised, "CUDA_ERROR_DEINITIALIZED"},
      {kInvalidContext, "CUDA_ERROR_INVALID_CONTEXT"},
      {kInvalidHandle, "CUDA_ERROR_INVALID_HANDLE"},
      {700, "CUDA_ERROR_ILLEGAL_ADDRESS"},
  };
  auto found = names.find(error);
  *text = found == names.end() ? "CUDA_ERROR_UNKNOWN" : found->second;
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "of the fake driver";
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal < 2 ? Called("cuDeviceGet", false) : 101;
}
int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (int error = Called("cuDevicePrimaryCtxRetain", false)) return error;
  *context = &contexts[device];
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) { return Called("cuDevicePrimaryCtxRelease", false); }
int cuCtxPushCurrent_v2(void* context) {
  if (int error = Called("cuCtxPushCurrent", false)) return error;
  current.push_back(static_cast<Context*>(context));
  return 0;
}
int cuCtxPopCurrent_v2(void** context) {
  if (int error = Called("cuCtxPopCurrent")) return error;
  *context = current.back();
  current.pop_back();
  return 0;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  if (int error = Called("cuMemGetInfo")) return error;
  *free = static_cast<size_t>(free_bytes);
  *total = *free;
  return 0;
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuMemAlloc")) return error;
  if (bytes == 0) return kInvalidValue;
  *address = reinterpret_cast<uint64_t>(std::malloc(bytes));
  device_memory.Add(*address, bytes);
  return 0;
}
int cuMemFree_v2(uint64_t address) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuMemFree")) return error;
  RunAll();
  if (device_memory.Remove(address) == 0) return kInvalidValue;
  std::free(reinterpret_cast<void*>(address));
  return 0;
}
int cuMemHostAlloc(void** data, size_t bytes, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuMemHostAlloc")) return error;
  if (bytes == 0) return kInvalidValue;
  if (arena == nullptr) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* mapped = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (mapped == MAP_FAILED) return kOutOfMemory;
    arena = static_cast<char*>(mapped);
  }
  size_t whole = (bytes + kPage - 1) / kPage * kPage;
  if (arena_used + whole > kArenaBytes) return kOutOfMemory;
  *data = arena + arena_used;
  arena_used += whole;
  host_memory.Add(reinterpret_cast<uintptr_t>(*data), bytes);
  std::memset(*data, 0xEE, bytes);
  return 0;
}
int cuMemFreeHost(void* data) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuMemFreeHost")) return error;
  FreeHost(data);
  return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
  return Copy("cuMemcpyDtoDAsync", device_memory, reinterpret_cast<void*>(to),
              reinterpret_cast<void*>(from), bytes, stream);
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
  return Copy("cuMemcpyDtoHAsync", host_memory, to, reinterpret_cast<void*>(from), bytes, stream);
}
int cuStreamCreate(void** stream, unsigned flags) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuStreamCreate")) return error;
  // A blocking stream waits for the default one, and it for the stream.
  if (flags != 1) return kInvalidValue;
  auto made = std::make_shared<Stream>();
  made->context = Current();
  made->is_eager = is_copy_eager;
  *stream = made.get();
  streams[*stream] = std::move(made);
  return 0;
}
int cuStreamSynchronize(void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuStreamSynchronize")) return error;
  while (!StreamOf(stream)->operations.empty()) RunFirst(StreamOf(stream));
  RunEager();
  return 0;
}
int cuStreamDestroy_v2(void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuStreamDestroy")) return error;
  auto found = streams.find(stream);
  if (found == streams.end()) return kInvalidHandle;
  if (!found->second->operations.empty()) wrong.push_back("cuStreamDestroy with work pending");
  streams.erase(found);
  return 0;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuStreamWaitEvent")) return error;
  auto found = events.find(event);
  if (found == events.end()) return kInvalidHandle;
  Enqueue(StreamOf(stream), {found->second, nullptr});
  return 0;
}
int cuEventCreate(void** event, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuEventCreate")) return error;
  auto made = std::make_shared<Event>();
  made->context = Current();
  *event = made.get();
  events[*event] = std::move(made);
  return 0;
}
int cuEventDestroy_v2(void* event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuEventDestroy")) return error;
  return events.erase(event) == 1 ? 0 : kInvalidHandle;
}
int cuEventRecord(void* event, void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuEventRecord")) return error;
  auto found = events.find(event);
  if (found == events.end()) return kInvalidHandle;
  std::shared_ptr<Event> recorded = found->second;
  if (recorded->context != StreamOf(stream)->context) return kInvalidHandle;
  recorded->stream = StreamOf(stream);
  Enqueue(recorded->stream, {nullptr, [recorded] { recorded->has_happened = true; }});
  return 0;
}
int cuEventQuery(void* event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuEventQuery")) return error;
  auto found = events.find(event);
  if (found == events.end()) return kInvalidHandle;
  return found->second->has_happened ? 0 : 600;
}
int cuEventSynchronize(void* event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuEventSynchronize")) return error;
  auto found = events.find(event);
  if (found == events.end()) return kInvalidHandle;
  Happen(found->second);
  RunEager();
  return 0;
}

}  // extern "C"

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      // Forget everything; which streams are eager from now on.
      .def("fake_cuda.reset",
           [](bool compute, bool copy) {
             std::lock_guard<std::recursive_mutex> lock(mutex);
             is_compute_eager = compute;
             is_copy_eager = copy;
             free_bytes = int64_t{16} << 30;
             is_deinitialised = false;
             wrong.clear();
             counts.clear();
             failures.clear();
             streams.clear();
             for (void* data : released) {
               device_memory.Remove(reinterpret_cast<uintptr_t>(data));
               std::free(data);
             }
             released.clear();
           })
      // What happened that CUDA allows no program.
      .def("fake_cuda.wrong",
           []() {
             std::lock_guard<std::recursive_mutex> lock(mutex);
             ffi::Array<ffi::String> found;
             for (const std::string& text : wrong) found.push_back(text);
             return found;
           })
      .def("fake_cuda.deinitialise", []() { is_deinitialised = true; })
      .def("fake_cuda.host_allocations",
           []() { return static_cast<int64_t>(host_memory.size()); })
      .def("fake_cuda.empty",
           [](ffi::Shape shape, ffi::String dtype, int gpu) {
             return ffi::Tensor::FromNDAlloc(DeviceAllocator(), shape,
                                             ffi::StringToDLDataType(dtype),
                                             DLDevice{kDLCUDA, gpu});
           })
      // A kernel on the current stream that writes `value` to every byte.
      .def("fake_cuda.fill",
           [](ffi::Tensor tensor, int value) {
             std::lock_guard<std::recursive_mutex> lock(mutex);
             int gpu = tensor.device().device_id;
             Stream* stream = StreamOf(TVMFFIEnvGetStream(kDLCUDA, gpu), &contexts[gpu]);
             size_t bytes = ffi::GetDataSize(*tensor.GetDLTensorPtr());
             Enqueue(stream, {nullptr, [=] { std::memset(tensor.data_ptr(), value, bytes); }});
           })
      // Let all calls of a function fail from now on, or the next one.
      .def("fake_cuda.fail",
           [](ffi::String name, int error) { failures[std::string(name)] = {-1, error}; })
      .def("fake_cuda.fail_once",
           [](ffi::String name, int error) { failures[std::string(name)] = {1, error}; })
      .def("fake_cuda.set_free_bytes", [](int64_t bytes) { free_bytes = bytes; })
      .def("fake_cuda.count",
           [](ffi::String name) -> int64_t { return counts[std::string(name)]; });
}
