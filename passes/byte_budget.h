/*!
 * \file byte_budget.h
 * \brief A bound on the bytes in flight between the run that captures and the consumer.
 */
#ifndef RELAX_TAPML_PASSES_BYTE_BUDGET_H_
#define RELAX_TAPML_PASSES_BYTE_BUDGET_H_

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace relax_tapml {

/*!
 * \brief Bytes in flight, never more than `limit` except for one piece that alone exceeds it.
 *
 * All members may be called from any thread. Nothing is called while the lock is held.
 */
class ByteBudget {
 public:
  explicit ByteBudget(size_t limit_bytes) : limit_bytes_(limit_bytes) {}

  /*!
   * \brief Wait until `bytes` fit, or nothing is in flight, and count them.
   * \return False, with nothing counted, once the budget is closed.
   */
  bool Reserve(size_t bytes);
  /*! \brief As Reserve, without waiting: false where that would wait. */
  bool TryReserve(size_t bytes);
  /*! \brief Give back what Reserve counted. */
  void Release(size_t bytes) noexcept;
  /*! \brief Wake all waiters; every later Reserve returns false. */
  void Close() noexcept;

  size_t limit_bytes() const { return limit_bytes_; }
  size_t in_flight_bytes() const;
  /*! \brief The most bytes that were ever in flight. */
  size_t peak_bytes() const;
  /*! \brief Threads waiting in Reserve now. */
  int64_t waiting() const;

 private:
  // With mutex_ held.
  bool Fits(size_t bytes) const {
    return in_flight_bytes_ == 0 || in_flight_bytes_ + bytes <= limit_bytes_;
  }
  void Count(size_t bytes);

  const size_t limit_bytes_;
  mutable std::mutex mutex_;
  std::condition_variable released_;
  // Guarded by mutex_.
  size_t in_flight_bytes_{0};
  size_t peak_bytes_{0};
  int64_t waiting_{0};
  bool closed_{false};
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_BYTE_BUDGET_H_
