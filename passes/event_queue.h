/*!
 * \file event_queue.h
 * \brief Capture events in the order in which they happen, from the runs to the consumer.
 */
#ifndef RELAX_TAPML_PASSES_EVENT_QUEUE_H_
#define RELAX_TAPML_PASSES_EVENT_QUEUE_H_

#include <tvm/ffi/any.h>
#include <tvm/ffi/container/array.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>

#include "byte_budget.h"

namespace relax_tapml {

using Event = tvm::ffi::Array<tvm::ffi::Any>;

/*! \brief Many producers, one consumer. All members may be called from any thread. */
class EventQueue {
 public:
  explicit EventQueue(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}

  /*!
   * \brief Append an event that takes `bytes` itself; waits while the budget is spent.
   *
   * A tensor event takes none: its buffer is already counted, and waiting here while holding that
   * buffer could be a deadlock. Once the queue is closed, events are dropped.
   */
  void Push(Event event, size_t bytes);
  /*!
   * \brief Take up to `max_events`; waits for the first one until the timeout or Close.
   * \return Empty on timeout, or when the queue is closed and empty.
   */
  tvm::ffi::Array<Event> Drain(int64_t max_events, int64_t timeout_ms);
  /*! \brief Wake the consumer and drop later events; those already queued can be drained. */
  void Close() noexcept;
  /*! \brief Events waiting to be drained. */
  int64_t size() const;

 private:
  struct Item {
    Event event;
    size_t bytes;
  };
  const std::shared_ptr<ByteBudget> budget_;
  mutable std::mutex mutex_;
  std::condition_variable pushed_;
  // Guarded by mutex_.
  std::deque<Item> items_;
  bool closed_{false};
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_EVENT_QUEUE_H_
