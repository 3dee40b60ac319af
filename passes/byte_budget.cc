/*!
 * \file byte_budget.cc
 */
#include "byte_budget.h"

#include <algorithm>

namespace relax_tapml {

bool ByteBudget::Reserve(size_t bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_;
  released_.wait(lock, [&] {
    return closed_ || in_flight_bytes_ == 0 || in_flight_bytes_ + bytes <= limit_bytes_;
  });
  --waiting_;
  if (closed_) return false;
  in_flight_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, in_flight_bytes_);
  return true;
}

void ByteBudget::Release(size_t bytes) noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    in_flight_bytes_ -= bytes;
  }
  released_.notify_all();
}

void ByteBudget::Close() noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  released_.notify_all();
}

size_t ByteBudget::in_flight_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return in_flight_bytes_;
}

size_t ByteBudget::peak_bytes() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return peak_bytes_;
}

int64_t ByteBudget::waiting() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return waiting_;
}

}  // namespace relax_tapml
