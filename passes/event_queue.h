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

/*! \brief A copy into host memory that an event waits for. Members may be called from any thread. */
class PendingCopy {
 public:
  virtual ~PendingCopy() = default;
  /*! \brief Whether the copy has been asked for, so that it ends without anything being done. */
  virtual bool is_submitted() const = 0;
  /*! \brief Whether a submitted copy has ended well. */
  virtual bool IsDone() = 0;
  /*! \brief Wait for the end of a submitted copy. \throws tvm::ffi::Error if it failed. */
  virtual void Wait() = 0;
};

/*! \brief Many producers, one consumer. All members may be called from any thread. */
class EventQueue {
 public:
  explicit EventQueue(std::shared_ptr<ByteBudget> budget) : budget_(std::move(budget)) {}

  /*!
   * \brief Append an event that takes `bytes` itself; waits while the budget is spent.
   *
   * A tensor event takes none: its buffer is already counted, and waiting here while holding that
   * buffer could be a deadlock. Once the queue is closed, events are dropped.
   *
   * \param copy What the event's tensor is copied by, if that has not ended.
   */
  void Push(Event event, size_t bytes, std::shared_ptr<PendingCopy> copy = nullptr);
  /*!
   * \brief Take up to `max_events` whose copies have ended.
   *
   * Waits until the first one's copy is submitted, for the timeout or until Close at most, and then
   * until that copy has ended.
   *
   * \return Empty on timeout, or when the queue is closed and empty.
   * \throws tvm::ffi::Error if that copy failed; the event stays.
   */
  tvm::ffi::Array<Event> Drain(int64_t max_events, int64_t timeout_ms);
  /*! \brief Wake the consumer and drop later events; those already queued can be drained. */
  void Close() noexcept;
  /*! \brief Tell the consumer that a copy has been submitted. */
  void Wake() noexcept;
  /*! \brief Events waiting to be drained. */
  int64_t size() const;

 private:
  struct Item {
    Event event;
    size_t bytes;
    std::shared_ptr<PendingCopy> copy;
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
