/*!
 * \file capture.cc
 */
#include "capture.h"

#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <utility>

#include "cache_log.h"
#include "host_copy.h"

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;

// The bytes that are counted for an event besides its tensor, so that scalars are bounded, too.
constexpr size_t kEventBytes = 256;
constexpr size_t kRefBytes = 64;
constexpr const char* kCudaLibrary = "libcuda.so.1";

// Lets a tensor own a pooled buffer.
struct PooledAllocator {
  std::shared_ptr<Buffer> buffer;
  void* data;
  void AllocData(DLTensor* tensor) { tensor->data = data; }
  void FreeData(DLTensor*) { buffer.reset(); }
};

// A tensor in host memory at `data`, a part of `owner`, like one of any device.
Event TensorEvent(int64_t seq, const ffi::Tensor& like, std::shared_ptr<Buffer> owner, void* data) {
  ffi::Tensor tensor = ffi::Tensor::FromNDAlloc(PooledAllocator{std::move(owner), data},
                                                like.shape(), like.dtype(), DLDevice{kDLCPU, 0});
  return {ffi::String("tensor"), seq, tensor};
}

bool IsSameTensor(const ffi::Tensor& a, const ffi::Tensor& b) {
  auto equal = [](ffi::ShapeView x, ffi::ShapeView y) {
    return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin());
  };
  DLDataType x = a.dtype(), y = b.dtype();
  return a.same_as(b) ||
         (a.data_ptr() == b.data_ptr() && a.byte_offset() == b.byte_offset() &&
          a.device().device_type == b.device().device_type &&
          a.device().device_id == b.device().device_id && x.code == y.code && x.bits == y.bits &&
          x.lanes == y.lanes && equal(a.shape(), b.shape()) &&
          a.IsContiguous() == b.IsContiguous() &&
          (a.IsContiguous() || equal(a.strides(), b.strides())));
}

// The ref of a value that is not a tensor.
std::string ScalarRef(ffi::AnyView value) {
  switch (value.type_index()) {
    case ffi::TypeIndex::kTVMFFINone:
      return "none";
    case ffi::TypeIndex::kTVMFFIBool:
      return value.cast<bool>() ? "b:1" : "b:0";
    case ffi::TypeIndex::kTVMFFIInt:
      return "i:" + std::to_string(value.cast<int64_t>());
    case ffi::TypeIndex::kTVMFFIFloat: {
      char text[64];
      std::snprintf(text, sizeof(text), "f:%a", value.cast<double>());
      return text;
    }
    default:
      break;
  }
  if (auto text = value.as<ffi::String>()) return "str:" + std::string(*text);
  if (auto shape = value.as<ffi::Shape>()) {
    std::string ref = "s:";
    for (int64_t extent : *shape) ref += (ref.size() > 2 ? "," : "") + std::to_string(extent);
    return ref;
  }
  return "object:" + value.GetTypeKey();
}

}  // namespace

Recording::Recording(size_t budget_bytes, std::string cuda_library)
    : budget_(std::make_shared<ByteBudget>(budget_bytes)),
      pool_(std::make_shared<BufferPool>(budget_)),
      queue_(budget_),
      cuda_library_(std::move(cuda_library)) {}

std::shared_ptr<Buffer> Recording::HostBuffer(size_t bytes, const std::string& site) {
  try {
    std::shared_ptr<Buffer> buffer = pool_->TryAcquire(bytes);
    if (buffer != nullptr) return buffer;
    FlushStagings();  // What this waits for may wait for what they hold.
    return pool_->Acquire(bytes);
  } catch (const std::bad_alloc&) {
    TVM_FFI_THROW(RuntimeError) << "Cannot capture a value of " << site << ": no host memory for "
                                << bytes << " bytes. Record with a smaller byte budget.";
  }
}

int64_t Recording::CopyToQueue(const ffi::Tensor& tensor, const std::string& site) {
  int64_t seq = next_tensor_.fetch_add(1);
  size_t bytes = ffi::GetDataSize(*tensor.GetDLTensorPtr());
  if (tensor.device().device_type == kDLCUDA && bytes != 0 && tensor.IsContiguous() &&
      Stage(tensor, seq, site)) {
    return seq;
  }
  std::shared_ptr<Buffer> buffer = HostBuffer(bytes, site);
  if (buffer == nullptr) return seq;  // Stopped meanwhile: its event would be dropped too.
  CopyToHost(tensor, buffer->data(), site);
  captured_bytes_.fetch_add(static_cast<int64_t>(bytes));
  void* data = buffer->data();
  queue_.Push(TensorEvent(seq, tensor, std::move(buffer), data), 0);
  return seq;
}

bool Recording::Stage(const ffi::Tensor& tensor, int64_t seq, const std::string& site) {
  std::shared_ptr<CudaStaging> staging = StagingOf(tensor.device().device_id);
  if (staging == nullptr) return false;
  bool is_refused = false;
  CudaStaging::Staged staged = staging->Stage(tensor, site, &is_refused);
  if (is_refused) {
    std::lock_guard<std::mutex> lock(stagings_mutex_);
    if (note_.empty()) {
      note_ = "a tensor of " + site + " with " +
              std::to_string(ffi::GetDataSize(*tensor.GetDLTensorPtr())) +
              " bytes does not fit into the memory for copies";
    }
    return false;
  }
  if (staged.owner == nullptr) return true;  // Stopped meanwhile: its event would be dropped too.
  auto bytes = static_cast<int64_t>(ffi::GetDataSize(*tensor.GetDLTensorPtr()));
  captured_bytes_.fetch_add(bytes);
  staged_bytes_.fetch_add(bytes);
  queue_.Push(TensorEvent(seq, tensor, std::move(staged.owner), staged.data), 0, staged.batch);
  return true;
}

std::shared_ptr<CudaStaging> Recording::StagingOf(int gpu) {
  std::lock_guard<std::mutex> lock(stagings_mutex_);
  auto found = stagings_.find(gpu);
  if (found != stagings_.end() || !is_active()) {
    return found == stagings_.end() ? nullptr : found->second;
  }
  std::string why_not;
  auto wake = [this] { queue_.Wake(); };
  std::shared_ptr<CudaStaging> staging =
      CudaStaging::Open(cuda_library_, gpu, budget_, wake, &why_not);
  if (staging == nullptr) note_ = why_not;
  stagings_[gpu] = staging;
  return staging;
}

void Recording::FlushStagings() {
  std::unordered_map<int, std::shared_ptr<CudaStaging>> stagings;
  {
    std::lock_guard<std::mutex> lock(stagings_mutex_);
    stagings = stagings_;
  }
  for (auto& [gpu, staging] : stagings) {
    if (staging != nullptr) staging->Flush();
  }
}

std::string Recording::note() const {
  std::lock_guard<std::mutex> lock(stagings_mutex_);
  return note_;
}

std::string Recording::CaptureTensor(const ffi::Tensor& tensor, const std::string& site) {
  return "t:" + std::to_string(CopyToQueue(tensor, site));
}

std::string Recording::CaptureParameter(const std::string& name, const ffi::Tensor& tensor,
                                        const std::string& site) {
  std::string ref = "p:" + name;
  {
    std::lock_guard<std::mutex> lock(parameters_mutex_);
    auto last = parameters_.find(name);
    if (last != parameters_.end() && IsSameTensor(last->second, tensor)) return ref;
  }
  // Two threads may both copy it; the queue then holds it twice, in a valid order.
  int64_t seq = CopyToQueue(tensor, site);
  Push({ffi::String("param"), seq, ffi::String(name)});
  KnowParameter(name, tensor);
  return ref;
}

void Recording::KnowParameter(const std::string& name, const ffi::Tensor& tensor) {
  ffi::Tensor held = tensor;  // After the swap: the previous tensor, released without the lock.
  std::lock_guard<std::mutex> lock(parameters_mutex_);
  if (is_active()) std::swap(parameters_[name], held);
}

int64_t Recording::CountExecution(const std::string& function) {
  std::lock_guard<std::mutex> lock(sampling_mutex_);
  return executions_[function]++;
}

void Recording::RestartExecutions() {
  std::lock_guard<std::mutex> lock(sampling_mutex_);
  executions_.clear();
}

bool Recording::IsNewUnit(const std::string& unit) {
  std::lock_guard<std::mutex> lock(sampling_mutex_);
  return units_.insert(unit).second;
}

bool Recording::KnowsUnit(const std::string& unit) const {
  std::lock_guard<std::mutex> lock(sampling_mutex_);
  return units_.count(unit) != 0;
}

void Recording::Push(Event event) {
  size_t bytes = kEventBytes;
  if (auto refs = event.back().as<ffi::Array<ffi::String>>()) bytes += refs->size() * kRefBytes;
  queue_.Push(std::move(event), bytes);
}

void Recording::Mark(const ffi::String& text) {
  FlushStagings();
  queue_.Push({ffi::String("mark"), text}, 0);
}

ffi::Array<Event> Recording::Drain(int64_t max_events, int64_t timeout_ms) {
  ffi::Array<Event> events = queue_.Drain(max_events, timeout_ms);
  if (!events.empty() || !is_active()) return events;
  // Perhaps the run waits for this thread, or does something else for a while.
  FlushStagings();
  return queue_.Drain(max_events, 0);
}

void Recording::Stop() noexcept {
  is_active_.store(false, std::memory_order_release);
  queue_.Close();
  std::unordered_map<int, std::shared_ptr<CudaStaging>> stagings;
  {
    std::lock_guard<std::mutex> lock(stagings_mutex_);
    stagings.swap(stagings_);
  }
  for (auto& [gpu, staging] : stagings) {
    try {
      if (staging != nullptr) staging->Flush();
    } catch (...) {
      // Draining throws it.
    }
  }
  budget_->Close();
  pool_->StopKeeping();
  std::unordered_map<std::string, ffi::Tensor> parameters;
  std::lock_guard<std::mutex> lock(parameters_mutex_);
  parameters.swap(parameters_);
}

ffi::Map<ffi::String, int64_t> Recording::Stats() const {
  int64_t batches = 0, ring_bytes = 0;
  {
    std::lock_guard<std::mutex> lock(stagings_mutex_);
    for (auto& [gpu, staging] : stagings_) {
      if (staging == nullptr) continue;
      batches += staging->batches();
      ring_bytes += static_cast<int64_t>(staging->ring_bytes());
    }
  }
  return {{"active", is_active() ? 1 : 0},
          {"tensors", next_tensor_.load()},
          {"captured_bytes", captured_bytes_.load()},
          {"staged_bytes", staged_bytes_.load()},
          {"batches", batches},
          {"ring_bytes", ring_bytes},
          {"queued_events", queue_.size()},
          {"budget_bytes", static_cast<int64_t>(budget_->limit_bytes())},
          {"in_flight_bytes", static_cast<int64_t>(budget_->in_flight_bytes())},
          {"peak_in_flight_bytes", static_cast<int64_t>(budget_->peak_bytes())},
          {"allocated_bytes", static_cast<int64_t>(pool_->allocated_bytes())},
          {"waiting", budget_->waiting()}};
}

ffi::Array<ffi::String> FrameObj::Refs(const std::string& site, ffi::PackedArgs tokens) {
  ffi::Array<ffi::String> refs;
  for (int i = 0; i < tokens.size(); ++i) {
    std::string token = tokens[i].cast<std::string>();
    std::string key = token.substr(std::min<size_t>(1, token.size()));
    char kind = token.empty() ? '\0' : token[0];
    if (kind == '=') {
      auto value = remembered_.find(key);
      if (value == remembered_.end()) {
        TVM_FFI_THROW(ValueError) << "Site " << site << " refers to value " << key
                                  << ", expected it to be captured before in this frame of "
                                  << function_ << ". Run InsertCapture on the module again.";
      }
      refs.push_back(value->second);
      continue;
    }
    bool has_value = kind == '+' || kind == '?' || kind == '@' || kind == '*';
    if (!has_value || i + 1 == tokens.size()) {
      TVM_FFI_THROW(ValueError) << "Site " << site << " has capture token \"" << token
                                << "\", expected =K, or +K, ?K, @NAME or * followed by a value. "
                                << "Run InsertCapture on the module again.";
    }
    ffi::AnyView value = tokens[++i];
    auto known = kind == '?' ? remembered_.find(key) : remembered_.end();
    if (known != remembered_.end()) {
      refs.push_back(known->second);
      continue;
    }
    if (kind == '*') {
      // As many values as the run has decided; nothing refers to them.
      for (const ffi::Any& one : value.cast<ffi::Array<ffi::Any>>()) {
        refs.push_back(one.type_index() == ffi::TypeIndex::kTVMFFITensor
                           ? recording_->CaptureTensor(one.cast<ffi::Tensor>(), site)
                           : ScalarRef(one));
      }
      continue;
    }
    std::string ref;
    // Not as<Tensor>: None would convert to a null tensor.
    if (value.type_index() != ffi::TypeIndex::kTVMFFITensor) {
      ref = ScalarRef(value);
    } else if (kind == '@') {
      ref = recording_->CaptureParameter(key, value.cast<ffi::Tensor>(), site);
    } else {
      ref = recording_->CaptureTensor(value.cast<ffi::Tensor>(), site);
    }
    refs.push_back(ref);
    if (kind != '@') remembered_[key] = std::move(ref);
  }
  return refs;
}

namespace {

std::string UnitOf(const std::string& site) { return site.substr(site.rfind('/') + 1); }

}  // namespace

bool FrameObj::IsRecorded(const ffi::String& site) const {
  return !is_skipped_ || open_calls_.count(site) != 0 || !recording_->KnowsUnit(UnitOf(site));
}

void FrameObj::Inputs(const ffi::String& site, ffi::PackedArgs tokens) {
  if (is_sampled_) {
    bool is_new = recording_->IsNewUnit(UnitOf(site));
    if (is_skipped_ && !is_new) return;
  }
  ffi::Array<ffi::String> refs = Refs(site, tokens);
  int64_t call = next_call_++;
  open_calls_[site] = call;
  recording_->Push({ffi::String("inputs"), frame_, function_, call, site, refs});
}

void FrameObj::Outputs(const ffi::String& site, ffi::PackedArgs tokens) {
  auto open = open_calls_.find(site);
  if (open == open_calls_.end()) {
    if (is_skipped_) return;
    TVM_FFI_THROW(ValueError) << "Outputs of site " << site << " in a frame of " << function_
                              << ", expected its inputs before them. "
                              << "Run InsertCapture on the module again.";
  }
  ffi::Array<ffi::String> refs = Refs(site, tokens);
  recording_->Push({ffi::String("outputs"), frame_, open->second, refs});
  open_calls_.erase(open);
}

namespace {

/*! \brief The recording of this process: at most one is active. */
class CurrentRecording {
 public:
  static CurrentRecording& Global() {
    // Never destroyed: a run or a drain may still be going on in another thread at exit.
    static CurrentRecording* current = new CurrentRecording();
    return *current;
  }

  // The only branch that a frame executes while nothing records.
  bool is_active() const { return is_active_.load(std::memory_order_acquire); }

  std::shared_ptr<Recording> Get() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return recording_;
  }

  void Start(int64_t budget_bytes, std::string cuda_library) {
    if (budget_bytes <= 0) {
      TVM_FFI_THROW(ValueError) << "relax_tapml.capture.start: expected a positive byte budget, "
                                << "got " << budget_bytes << ".";
    }
    auto next = std::make_shared<Recording>(static_cast<size_t>(budget_bytes),
                                            std::move(cuda_library));
    std::shared_ptr<Recording> previous;  // Released with its events, without the lock.
    std::lock_guard<std::mutex> lock(mutex_);
    if (is_active()) {
      TVM_FFI_THROW(RuntimeError) << "relax_tapml.capture.start: a recorder is active in this "
                                  << "process already. Stop it first.";
    }
    previous = std::exchange(recording_, std::move(next));
    is_active_.store(true, std::memory_order_release);
    WatchCaches(true);
  }

  void Stop() {
    std::shared_ptr<Recording> recording;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      recording = recording_;
      is_active_.store(false, std::memory_order_release);
    }
    if (recording != nullptr) recording->Stop();
  }

 private:
  mutable std::mutex mutex_;
  // Guarded by mutex_. Kept after stop until the next start, so that it can be drained.
  std::shared_ptr<Recording> recording_;
  std::atomic<bool> is_active_{false};
};

template <typename... Sampling>
ffi::ObjectRef BeginFrame(ffi::String function, Sampling... sampling) {
  static const ffi::ObjectRef idle(ffi::make_object<FrameObj>());
  CurrentRecording& current = CurrentRecording::Global();
  if (!current.is_active()) return idle;
  return ffi::ObjectRef(
      ffi::make_object<FrameObj>(current.Get(), std::move(function), sampling...));
}

// The first arguments of both intrinsics are the frame and the site.
template <void (FrameObj::*record)(const ffi::String&, ffi::PackedArgs)>
void Intrinsic(ffi::PackedArgs args, ffi::Any*) {
  const FrameObj* frame = args.size() >= 2 ? args[0].as<FrameObj>() : nullptr;
  if (frame == nullptr) {
    TVM_FFI_THROW(TypeError) << "A capture intrinsic expects a frame, a site and tokens. "
                             << "Run InsertCapture on the module again.";
  }
  if (!frame->is_recording()) return;
  (const_cast<FrameObj*>(frame)->*record)(args[1].cast<ffi::String>(), args.Slice(2));
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef()
      .def("relax_tapml.capture.begin_frame",
           [](ffi::String function) { return BeginFrame(std::move(function)); })
      .def("relax_tapml.capture.begin_sampled_frame",
           [](ffi::String function, int64_t period) {
             if (period < 1) {
               TVM_FFI_THROW(ValueError) << "A frame of " << function << " has a sampling period "
                                         << "of " << period << ", expected at least 1.";
             }
             return BeginFrame(std::move(function), period);
           })
      .def("relax_tapml.capture.restart_executions",
           []() {
             std::shared_ptr<Recording> recording = CurrentRecording::Global().Get();
             if (recording != nullptr) recording->RestartExecutions();
           })
      .def_packed("relax_tapml.capture.inputs", Intrinsic<&FrameObj::Inputs>)
      .def_packed("relax_tapml.capture.outputs", Intrinsic<&FrameObj::Outputs>)
      .def("relax_tapml.capture.start",
           [](int64_t budget_bytes) {
             CurrentRecording::Global().Start(budget_bytes, kCudaLibrary);
           })
      .def("relax_tapml.capture.start_with_driver",
           [](int64_t budget_bytes, ffi::String cuda_library) {
             CurrentRecording::Global().Start(budget_bytes, cuda_library);
           })
      .def("relax_tapml.capture.note",
           []() -> ffi::String {
             std::shared_ptr<Recording> recording = CurrentRecording::Global().Get();
             return recording == nullptr ? "" : recording->note();
           })
      .def("relax_tapml.capture.stop", []() { CurrentRecording::Global().Stop(); })
      .def("relax_tapml.capture.unwatch_caches", []() { WatchCaches(false); })
      .def("relax_tapml.capture.mark",
           [](const ffi::String& text) {
             std::shared_ptr<Recording> recording = CurrentRecording::Global().Get();
             if (recording == nullptr || !recording->is_active()) {
               TVM_FFI_THROW(RuntimeError)
                   << "relax_tapml.capture.mark: no recorder is active. Start one first.";
             }
             recording->Mark(text);
           })
      .def("relax_tapml.capture.know_parameter",
           [](const ffi::String& name, const ffi::Tensor& tensor) {
             std::shared_ptr<Recording> recording = CurrentRecording::Global().Get();
             if (recording != nullptr) recording->KnowParameter(name, tensor);
           })
      .def("relax_tapml.capture.drain",
           [](int64_t max_events, int64_t timeout_ms) -> ffi::Array<Event> {
             std::shared_ptr<Recording> recording = CurrentRecording::Global().Get();
             if (recording == nullptr) return {};
             return recording->Drain(max_events, timeout_ms);
           })
      .def("relax_tapml.capture.stats", []() -> ffi::Map<ffi::String, int64_t> {
        std::shared_ptr<Recording> recording = CurrentRecording::Global().Get();
        if (recording == nullptr) return {};
        return recording->Stats();
      });
}

}  // namespace relax_tapml
