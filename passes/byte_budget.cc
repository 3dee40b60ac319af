/*!
 * \file byte_budget.cc
 */
#include "byte_budget.h"

#include <algorithm>

namespace relax_tapml {

bool ByteBudget::Reserve(size_t bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_;
  released_.wait(lock, [&] { return closed_ || Fits(bytes); });
  --waiting_;
  if (closed_) return false;
  Count(bytes);
  return true;
}

bool ByteBudget::TryReserve(size_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_ || !Fits(bytes)) return false;
  Count(bytes);
  return true;
}

void ByteBudget::Count(size_t bytes) {
  in_flight_bytes_ += bytes;
  peak_bytes_ = std::max(peak_bytes_, in_flight_bytes_);
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
