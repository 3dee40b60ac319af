/*!
 * \file cuda_staging.cc
 */
#include "cuda_staging.h"

#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/c_env_api.h>

#include <algorithm>
#include <new>
#include <utility>

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;

// Large enough for the full speed of the bus, small enough that the first one starts early.
constexpr size_t kBatchBytes = size_t{4} << 20;
constexpr size_t kLargestRingBytes = size_t{256} << 20;
constexpr size_t kSmallestRingBytes = size_t{8} << 20;
// Tensors of a batch are this far apart, as GPU and host memory is aligned.
constexpr size_t kAlignment = 256;

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/*! \brief Page-locked memory, which a GPU writes to at the speed of the bus. */
class PinnedMemory : public HostMemory {
 public:
  explicit PinnedMemory(std::shared_ptr<const CudaDevice> device) : device_(std::move(device)) {}

  void* Allocate(size_t bytes) override {
    CudaDevice::Scope scope(*device_);
    void* data = nullptr;
    if (device_->driver().cuMemHostAlloc(&data, bytes, 0) != kCudaSuccess) throw std::bad_alloc();
    return data;
  }

  void Free(void* data) noexcept override {
    CudaDevice::Scope scope(*device_);
    device_->driver().cuMemFreeHost(data);
  }

 private:
  const std::shared_ptr<const CudaDevice> device_;
};

}  // namespace

CudaBatch::CudaBatch(std::shared_ptr<const CudaDevice> device, CudaStream compute,
                     std::string first_site)
    : device_(std::move(device)), compute_(compute), first_site_(std::move(first_site)) {}

CudaBatch::~CudaBatch() {
  CudaDevice::Scope scope(*device_);
  const CudaDriver& driver = device_->driver();
  // Before the buffers are given back. A batch that was never submitted is written by nothing.
  if (done_ != nullptr && state_.load() == kSubmitted) driver.cuEventSynchronize(done_);
  if (ready_ != nullptr) driver.cuEventDestroy(ready_);
  if (done_ != nullptr) driver.cuEventDestroy(done_);
}

std::string CudaBatch::What() const {
  return "Cannot capture the values of " + first_site_ +
         (last_site_ == first_site_ ? "" : " to " + last_site_);
}

void CudaBatch::Add(CudaAddress from, void* to, size_t bytes, std::shared_ptr<Buffer> owner,
                    const std::string& site) {
  // A copy must lie within one allocation; two may be neighbours.
  bool is_same_buffer = !owners_.empty() && owners_.back() == owner;
  if (!is_same_buffer) owners_.push_back(std::move(owner));
  last_site_ = site;
  size_bytes_ += bytes;
  if (is_same_buffer) {
    Copy& last = copies_.back();
    if (last.from + last.bytes == from && static_cast<char*>(last.to) + last.bytes == to) {
      last.bytes += bytes;
      return;
    }
  }
  copies_.push_back({from, to, bytes});
}

void CudaBatch::Submit(CudaStream copies) {
  const CudaDriver& driver = device_->driver();
  try {
    auto check = [&](CudaResult result, const char* function) {
      driver.Check(result, function, What());
    };
    check(driver.cuEventCreate(&ready_, kCudaEventFlags), "cuEventCreate");
    check(driver.cuEventCreate(&done_, kCudaEventFlags), "cuEventCreate");
    check(driver.cuEventRecord(ready_, compute_), "cuEventRecord");
    check(driver.cuStreamWaitEvent(copies, ready_, 0), "cuStreamWaitEvent");
    for (const Copy& copy : copies_) {
      check(driver.cuMemcpyDtoHAsync(copy.to, copy.from, copy.bytes, copies), "cuMemcpyDtoHAsync");
    }
    check(driver.cuEventRecord(done_, copies), "cuEventRecord");
  } catch (const ffi::Error& error) {
    failure_ = error.message();
    state_.store(kSubmitted, std::memory_order_release);  // Or the consumer waits for ever.
    throw;
  }
  state_.store(kSubmitted, std::memory_order_release);
}

void CudaBatch::HoldBack(CudaStream stream) {
  if (!failure_.empty()) TVM_FFI_THROW(RuntimeError) << failure_;
  const CudaDriver& driver = device_->driver();
  driver.Check(driver.cuStreamWaitEvent(stream, done_, 0), "cuStreamWaitEvent", What());
}

bool CudaBatch::IsDone() {
  if (state_.load() == kDone) return true;
  if (!failure_.empty()) return false;
  CudaDevice::Scope scope(*device_);
  // An error is thrown by Wait.
  if (device_->driver().cuEventQuery(done_) != kCudaSuccess) return false;
  Finish();
  return true;
}

void CudaBatch::Wait() {
  if (state_.load() == kDone) return;
  if (!failure_.empty()) TVM_FFI_THROW(RuntimeError) << failure_;
  CudaDevice::Scope scope(*device_);
  const CudaDriver& driver = device_->driver();
  driver.Check(driver.cuEventSynchronize(done_), "cuEventSynchronize", What());
  Finish();
}

void CudaBatch::Finish() {
  if (state_.exchange(kDone) != kDone) owners_.clear();
}

std::unique_ptr<CudaStaging> CudaStaging::Open(const std::string& library, int ordinal,
                                               std::shared_ptr<ByteBudget> budget,
                                               std::function<void()> on_submitted,
                                               std::string* why_not) {
  std::shared_ptr<const CudaDevice> device = CudaDevice::Open(library, ordinal, why_not);
  if (device == nullptr) return nullptr;
  CudaDevice::Scope scope(*device);
  const CudaDriver& driver = device->driver();
  size_t free_bytes = 0, total_bytes = 0;
  CudaResult result = driver.cuMemGetInfo(&free_bytes, &total_bytes);
  CudaAddress ring = 0;
  size_t ring_bytes = kLargestRingBytes;
  // The model may need the rest later.
  while (ring_bytes > free_bytes / 8) ring_bytes /= 2;
  for (; result == kCudaSuccess && ring == 0 && ring_bytes >= kSmallestRingBytes; ring_bytes /= 2) {
    if (driver.cuMemAlloc(&ring, ring_bytes) == kCudaSuccess) break;
    ring = 0;
  }
  CudaStream copies = nullptr;
  if (ring != 0) result = driver.cuStreamCreate(&copies, kCudaStreamNonBlocking);
  if (ring == 0 || result != kCudaSuccess) {
    if (ring != 0) driver.cuMemFree(ring);
    *why_not = result == kCudaSuccess
                   ? "GPU " + std::to_string(ordinal) + " has no memory left to stage copies in"
                   : "GPU " + std::to_string(ordinal) + ": " + driver.ErrorText(result);
    return nullptr;
  }
  return std::unique_ptr<CudaStaging>(new CudaStaging(
      std::move(device), std::move(budget), std::move(on_submitted), ring, ring_bytes, copies));
}

CudaStaging::CudaStaging(std::shared_ptr<const CudaDevice> device,
                         std::shared_ptr<ByteBudget> budget, std::function<void()> on_submitted,
                         CudaAddress ring, size_t ring_bytes, CudaStream copies)
    : device_(std::move(device)),
      budget_(std::move(budget)),
      pool_(std::make_shared<BufferPool>(budget_, std::make_unique<PinnedMemory>(device_))),
      on_submitted_(std::move(on_submitted)),
      ring_(ring),
      ring_bytes_(ring_bytes),
      copies_(copies),
      // A slab that waits for more tensors keeps its part of the budget.
      slab_bytes_(std::min(kBatchBytes, budget_->limit_bytes() / 16)) {}

CudaStaging::~CudaStaging() {
  pool_->StopKeeping();
  CudaDevice::Scope scope(*device_);
  const CudaDriver& driver = device_->driver();
  driver.cuStreamSynchronize(copies_);
  driver.cuStreamDestroy(copies_);
  // Staged tensors that are not submitted are on their way into the ring; this waits for them.
  driver.cuMemFree(ring_);
}

size_t CudaStaging::Place(size_t bytes, CudaStream compute) {
  std::shared_ptr<CudaBatch> last;
  // In the order of the ring, which is that of the batches.
  auto retire = [&](size_t begin, size_t end) {
    while (!ranges_.empty() && ranges_.front().begin < end && ranges_.front().end > begin) {
      last = std::move(ranges_.front().batch);
      ranges_.pop_front();
    }
  };
  if (next_ + bytes > ring_bytes_) {
    retire(next_, ring_bytes_);
    next_ = 0;
  }
  retire(next_, next_ + bytes);
  if (last != nullptr && last == open_) SubmitOpen();
  if (last != nullptr) last->HoldBack(compute);
  return std::exchange(next_, next_ + bytes);
}

void CudaStaging::SubmitOpen() {
  if (open_ == nullptr) return;
  submitted_ = std::exchange(open_, nullptr);
  batches_.fetch_add(1);
  try {
    submitted_->Submit(copies_);
  } catch (...) {
    on_submitted_();
    throw;
  }
  on_submitted_();
}

CudaStaging::Staged CudaStaging::Stage(const ffi::Tensor& tensor, const std::string& site,
                                       bool* is_refused) {
  size_t size = ffi::GetDataSize(*tensor.GetDLTensorPtr());
  size_t bytes = Aligned(size);
  // So that two batches fit in the ring, and in the budget.
  *is_refused = bytes > std::min(ring_bytes_, budget_->limit_bytes()) / 2;
  if (*is_refused) return {};
  bool is_large = bytes > slab_bytes_ / 4;
  CudaStream compute = TVMFFIEnvGetStream(kDLCUDA, tensor.device().device_id);
  const CudaDriver& driver = device_->driver();
  CudaDevice::Scope scope(*device_);
  std::unique_lock<std::mutex> lock(mutex_);
  std::shared_ptr<Buffer> owner = slab_;
  if (is_large || owner == nullptr || slab_used_bytes_ + bytes > slab_bytes_) {
    size_t wanted = is_large ? bytes : slab_bytes_;
    try {
      owner = pool_->TryAcquire(wanted);
      if (owner == nullptr) {
        // What this thread waits for may wait for what it holds.
        SubmitOpen();
        slab_.reset();
        lock.unlock();
        owner = pool_->Acquire(wanted);
        lock.lock();
      }
    } catch (const std::bad_alloc&) {
      *is_refused = true;
      return {};
    }
    if (owner == nullptr) return {};
    if (!is_large) {
      slab_ = owner;
      slab_used_bytes_ = 0;
    }
  }
  char* data = static_cast<char*>(owner->data());
  if (!is_large) data += std::exchange(slab_used_bytes_, slab_used_bytes_ + bytes);
  if (compute_ != compute) {
    // Only the stream before has waited for what was in the parts of the ring that it used.
    SubmitOpen();
    if (submitted_ != nullptr) submitted_->HoldBack(compute);
    compute_ = compute;
  }
  size_t place = Place(bytes, compute);
  if (open_ == nullptr) open_ = std::make_shared<CudaBatch>(device_, compute, site);
  std::shared_ptr<CudaBatch> batch = open_;
  CudaAddress from = reinterpret_cast<CudaAddress>(tensor.data_ptr()) + tensor.byte_offset();
  driver.Check(driver.cuMemcpyDtoDAsync(ring_ + place, from, size, compute), "cuMemcpyDtoDAsync",
               "Cannot capture a value of " + site);
  batch->Add(ring_ + place, data, bytes, owner, site);
  ranges_.push_back({place, place + bytes, batch});
  if (batch->size_bytes() >= kBatchBytes) SubmitOpen();
  return {std::move(owner), data, std::move(batch)};
}

void CudaStaging::Flush() {
  CudaDevice::Scope scope(*device_);
  std::lock_guard<std::mutex> lock(mutex_);
  slab_.reset();
  SubmitOpen();
}

}  // namespace relax_tapml
