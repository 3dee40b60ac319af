// A CUDA driver without a GPU, whose streams run as late or as early as CUDA allows.
//
// Device memory is host memory. A stream is a queue of operations. By default nothing in it runs
// before someone waits for it; an eager stream runs whatever no event holds back, at once. So a
// copy that nothing waits for, or that is not held back, yields bytes of another time.
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>
#include <tvm/ffi/string.h>

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

struct Event {
  Stream* stream = nullptr;  // Null before it is recorded.
  bool has_happened = false;
};

struct Operation {
  std::shared_ptr<Event> awaits;  // What holds it back, or null.
  std::function<void()> run;
};

struct Stream {
  std::deque<Operation> operations;
  bool is_eager = false;
};

std::recursive_mutex mutex;
std::map<void*, std::shared_ptr<Stream>> streams;
std::map<void*, std::shared_ptr<Event>> events;
std::map<std::string, int> counts;
// Function to the number of calls that fail, or -1 for all, and the error.
std::map<std::string, std::pair<int, int>> failures;
bool is_compute_eager = false;
bool is_copy_eager = false;
int64_t free_bytes = int64_t{16} << 30;
std::vector<void*> released;
thread_local int depth = 0;

Stream* StreamOf(void* handle) {
  std::shared_ptr<Stream>& stream = streams[handle];
  if (stream == nullptr) {
    stream = std::make_shared<Stream>();
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

void Enqueue(void* stream, Operation operation) {
  StreamOf(stream)->operations.push_back(std::move(operation));
  RunEager();
}

// Counts a call of a function of the driver; returns an error where one was asked for.
int Called(const char* name) {
  ++counts[name];
  auto failure = failures.find(name);
  if (failure == failures.end() || failure->second.first == 0) return 0;
  if (failure->second.first > 0) --failure->second.first;
  return failure->second.second;
}

int Copy(const char* name, void* to, const void* from, size_t bytes, void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called(name)) return error;
  if (depth == 0) return 201;
  Enqueue(stream, {nullptr, [=] { std::memcpy(to, from, bytes); }});
  return 0;
}

struct DeviceAllocator {
  void AllocData(DLTensor* tensor) { tensor->data = std::calloc(1, ffi::GetDataSize(*tensor) + 1); }
  // Kernels that are still queued may use it; an allocator of TVM keeps it for the next tensor.
  void FreeData(DLTensor* tensor) {
    std::lock_guard<std::recursive_mutex> lock(mutex);
    released.push_back(tensor->data);
  }
};

}  // namespace

extern "C" {

int cuInit(unsigned) { return Called("cuInit"); }
int cuGetErrorName(int error, const char** text) {
  *text = error == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR_UNKNOWN";
  return 0;
}
int cuGetErrorString(int, const char** text) {
  *text = "of the fake driver";
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return Called("cuDeviceGet");
}
int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &streams;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxPushCurrent_v2(void*) {
  ++depth;
  return 0;
}
int cuCtxPopCurrent_v2(void**) {
  --depth;
  return 0;
}
int cuMemGetInfo_v2(size_t* free, size_t* total) {
  *free = static_cast<size_t>(free_bytes);
  *total = *free;
  return 0;
}
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
  if (int error = Called("cuMemAlloc")) return error;
  *address = reinterpret_cast<uint64_t>(std::malloc(bytes));
  return 0;
}
int cuMemFree_v2(uint64_t address) {
  Called("cuMemFree");
  std::free(reinterpret_cast<void*>(address));
  return 0;
}
int cuMemHostAlloc(void** data, size_t bytes, unsigned) {
  if (int error = Called("cuMemHostAlloc")) return error;
  *data = std::aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
  std::memset(*data, 0xEE, bytes);
  return 0;
}
int cuMemFreeHost(void* data) {
  Called("cuMemFreeHost");
  std::free(data);
  return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void* stream) {
  return Copy("cuMemcpyDtoDAsync", reinterpret_cast<void*>(to), reinterpret_cast<void*>(from),
              bytes, stream);
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
  return Copy("cuMemcpyDtoHAsync", to, reinterpret_cast<void*>(from), bytes, stream);
}
int cuStreamCreate(void** stream, unsigned flags) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (flags != 1) return 1;  // A blocking stream waits for the default one, and it for the stream.
  auto made = std::make_shared<Stream>();
  made->is_eager = is_copy_eager;
  *stream = made.get();
  streams[*stream] = std::move(made);
  return 0;
}
int cuStreamSynchronize(void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  while (!StreamOf(stream)->operations.empty()) RunFirst(StreamOf(stream));
  RunEager();
  return 0;
}
int cuStreamDestroy_v2(void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  streams.erase(stream);
  return 0;
}
int cuStreamWaitEvent(void* stream, void* event, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  Called("cuStreamWaitEvent");
  Enqueue(stream, {events.at(event), nullptr});
  return 0;
}
int cuEventCreate(void** event, unsigned) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  auto made = std::make_shared<Event>();
  *event = made.get();
  events[*event] = std::move(made);
  return 0;
}
int cuEventDestroy_v2(void* event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  events.erase(event);
  return 0;
}
int cuEventRecord(void* event, void* stream) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  std::shared_ptr<Event> recorded = events.at(event);
  recorded->stream = StreamOf(stream);
  Enqueue(stream, {nullptr, [recorded] { recorded->has_happened = true; }});
  return 0;
}
int cuEventQuery(void* event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  return events.at(event)->has_happened ? 0 : 600;
}
int cuEventSynchronize(void* event) {
  std::lock_guard<std::recursive_mutex> lock(mutex);
  if (int error = Called("cuEventSynchronize")) return error;
  Happen(events.at(event));
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
             counts.clear();
             failures.clear();
             streams.clear();
             for (void* data : released) std::free(data);
             released.clear();
           })
      .def("fake_cuda.empty",
           [](ffi::Shape shape, ffi::String dtype) {
             return ffi::Tensor::FromNDAlloc(DeviceAllocator(), shape,
                                             ffi::StringToDLDataType(dtype), DLDevice{kDLCUDA, 0});
           })
      // A kernel on the current stream that writes `value` to every byte.
      .def("fake_cuda.fill",
           [](ffi::Tensor tensor, int value) {
             std::lock_guard<std::recursive_mutex> lock(mutex);
             void* stream = TVMFFIEnvGetStream(kDLCUDA, 0);
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
