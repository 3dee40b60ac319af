/*!
 * \file event_queue.cc
 */
#include "event_queue.h"

#include <chrono>
#include <utility>

namespace relax_tapml {

void EventQueue::Push(Event event, size_t bytes, std::shared_ptr<PendingCopy> copy) {
  if (bytes != 0 && !budget_->Reserve(bytes)) return;
  bool is_dropped = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    is_dropped = closed_;
    if (!is_dropped) items_.push_back({std::move(event), bytes, std::move(copy)});
  }
  if (is_dropped) {
    budget_->Release(bytes);
    return;
  }
  pushed_.notify_one();
}

tvm::ffi::Array<Event> EventQueue::Drain(int64_t max_events, int64_t timeout_ms) {
  tvm::ffi::Array<Event> events;
  size_t bytes = 0;
  std::shared_ptr<PendingCopy> ended;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    auto is_ready = [&] {
      if (items_.empty()) return closed_;
      return items_.front().copy == nullptr || items_.front().copy->is_submitted();
    };
    pushed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), is_ready);
    if (items_.empty() || !is_ready()) return events;
    ended = items_.front().copy;
  }
  if (ended != nullptr) ended->Wait();
  {
    std::lock_guard<std::mutex> lock(mutex_);
    while (!items_.empty() && static_cast<int64_t>(events.size()) < max_events) {
      const std::shared_ptr<PendingCopy>& copy = items_.front().copy;
      if (copy != nullptr && copy != ended) {
        if (!copy->is_submitted() || !copy->IsDone()) break;
        ended = copy;
      }
      events.push_back(items_.front().event);
      bytes += items_.front().bytes;
      items_.pop_front();
    }
  }
  budget_->Release(bytes);
  return events;
}

void EventQueue::Close() noexcept {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
  }
  pushed_.notify_all();
}

void EventQueue::Wake() noexcept {
  // Locked, so that it does not come between the consumer's look at the copy and its sleep.
  { std::lock_guard<std::mutex> lock(mutex_); }
  pushed_.notify_all();
}

int64_t EventQueue::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<int64_t>(items_.size());
}

}  // namespace relax_tapml
