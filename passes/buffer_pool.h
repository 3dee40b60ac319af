/*!
 * \file buffer_pool.h
 * \brief Recycled host buffers for captured tensors.
 */
#ifndef RELAX_TAPML_PASSES_BUFFER_POOL_H_
#define RELAX_TAPML_PASSES_BUFFER_POOL_H_

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "byte_budget.h"

namespace relax_tapml {

class BufferPool;

/*! \brief Where a pool's buffers come from; used with the pool's lock held. */
class HostMemory {
 public:
  virtual ~HostMemory() = default;
  /*! \brief Memory aligned to 64 bytes. \throws std::bad_alloc when there is none. */
  virtual void* Allocate(size_t bytes);
  virtual void Free(void* data) noexcept;
};

/*! \brief Host memory that goes back to its pool, which it keeps alive, when it is destroyed. */
class Buffer {
 public:
  Buffer(std::shared_ptr<BufferPool> pool, void* data, size_t capacity_bytes)
      : pool_(std::move(pool)), data_(data), capacity_bytes_(capacity_bytes) {}
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }

 private:
  const std::shared_ptr<BufferPool> pool_;
  void* const data_;
  const size_t capacity_bytes_;
};

/*!
 * \brief Allocates buffers and keeps returned ones for the next tensor of about that size.
 *
 * Copying into freshly mapped memory costs a page fault per page, some forty times the copy
 * itself, so a capture that allocated memory for each tensor would spend its time on page faults.
 * Buffers in use are bounded by the budget; buffers in use and kept together stay within its
 * limit, except for one buffer that alone exceeds it.
 */
class BufferPool : public std::enable_shared_from_this<BufferPool> {
 public:
  explicit BufferPool(std::shared_ptr<ByteBudget> budget,
                      std::unique_ptr<HostMemory> memory = std::make_unique<HostMemory>())
      : budget_(std::move(budget)), memory_(std::move(memory)) {}
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  /*!
   * \brief A buffer of at least `bytes`, aligned to 64; waits while the budget is spent.
   * \return nullptr once the budget is closed.
   * \throws std::bad_alloc when the system has no memory left.
   */
  std::shared_ptr<Buffer> Acquire(size_t bytes);
  /*! \brief As Acquire, without waiting: nullptr where that would wait. */
  std::shared_ptr<Buffer> TryAcquire(size_t bytes);
  /*! \brief Free every kept buffer, and from now on each buffer that comes back. */
  void StopKeeping() noexcept;
  /*! \brief Bytes of buffers in use and kept. */
  size_t allocated_bytes() const;

 private:
  friend class Buffer;
  // A buffer whose capacity the budget has counted.
  std::shared_ptr<Buffer> Reserved(size_t capacity_bytes);
  void* Take(size_t capacity_bytes);
  void GiveBack(void* data, size_t capacity_bytes) noexcept;

  const std::shared_ptr<ByteBudget> budget_;
  const std::unique_ptr<HostMemory> memory_;
  mutable std::mutex mutex_;
  // Guarded by mutex_. Kept buffers by capacity.
  std::map<size_t, std::vector<void*>> kept_;
  size_t allocated_bytes_{0};
  bool is_keeping_{true};
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_BUFFER_POOL_H_
