/*!
 * \file buffer_pool.cc
 */
#include "buffer_pool.h"

#include <new>

namespace relax_tapml {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr size_t kSmallestBytes = 256;

// Four capacities per power of two: at most a fifth of a buffer is unused.
size_t CapacityFor(size_t bytes) {
  if (bytes <= kSmallestBytes) return kSmallestBytes;
  size_t step = kSmallestBytes / 4;
  while (step * 8 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

}  // namespace

void* HostMemory::Allocate(size_t bytes) { return ::operator new(bytes, kAlignment); }

void HostMemory::Free(void* data) noexcept { ::operator delete(data, kAlignment); }

Buffer::~Buffer() { pool_->GiveBack(data_, capacity_bytes_); }

BufferPool::~BufferPool() { StopKeeping(); }

std::shared_ptr<Buffer> BufferPool::Acquire(size_t bytes) {
  size_t capacity_bytes = CapacityFor(bytes);
  return budget_->Reserve(capacity_bytes) ? Reserved(capacity_bytes) : nullptr;
}

std::shared_ptr<Buffer> BufferPool::TryAcquire(size_t bytes) {
  size_t capacity_bytes = CapacityFor(bytes);
  return budget_->TryReserve(capacity_bytes) ? Reserved(capacity_bytes) : nullptr;
}

std::shared_ptr<Buffer> BufferPool::Reserved(size_t capacity_bytes) {
  void* data = nullptr;
  try {
    data = Take(capacity_bytes);
    return std::make_shared<Buffer>(shared_from_this(), data, capacity_bytes);
  } catch (...) {
    if (data != nullptr) {
      GiveBack(data, capacity_bytes);
    } else {
      budget_->Release(capacity_bytes);
    }
    throw;
  }
}

void* BufferPool::Take(size_t capacity_bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  auto same = kept_.find(capacity_bytes);
  if (same != kept_.end()) {
    void* data = same->second.back();
    same->second.pop_back();
    if (same->second.empty()) kept_.erase(same);
    return data;
  }
  while (!kept_.empty() && allocated_bytes_ + capacity_bytes > budget_->limit_bytes()) {
    auto largest = std::prev(kept_.end());
    memory_->Free(largest->second.back());
    allocated_bytes_ -= largest->first;
    largest->second.pop_back();
    if (largest->second.empty()) kept_.erase(largest);
  }
  void* data = memory_->Allocate(capacity_bytes);
  allocated_bytes_ += capacity_bytes;
  return data;
}

void BufferPool::GiveBack(void* data, size_t capacity_bytes) noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    bool is_kept = is_keeping_ && allocated_bytes_ <= budget_->limit_bytes();
    if (is_kept) {
      try {
        kept_[capacity_bytes].push_back(data);
      } catch (const std::bad_alloc&) {
        is_kept = false;
        auto same = kept_.find(capacity_bytes);
        if (same != kept_.end() && same->second.empty()) kept_.erase(same);
      }
    }
    if (!is_kept) {
      memory_->Free(data);
      allocated_bytes_ -= capacity_bytes;
    }
  }
  budget_->Release(capacity_bytes);
}

void BufferPool::StopKeeping() noexcept {
  std::lock_guard<std::mutex> lock(mutex_);
  is_keeping_ = false;
  for (auto& [capacity_bytes, buffers] : kept_) {
    for (void* data : buffers) memory_->Free(data);
    allocated_bytes_ -= capacity_bytes * buffers.size();
  }
  kept_.clear();
}

size_t BufferPool::allocated_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return allocated_bytes_;
}

}  // namespace relax_tapml
