/*!
 * \file cuda_staging.h
 * \brief Copy tensors of a CUDA GPU into host memory while its kernels run on.
 *
 * A captured tensor's memory may be overwritten by any later kernel: TVM's planning gives one
 * storage to several tensors, and its allocator reuses what the VM has released. So a tensor is
 * first copied within the GPU, in the order of the kernels, into a ring of staging memory. From
 * there batches of tensors go to page-locked host memory on a stream of their own:
 *
 *     compute stream   kernel  stage x  kernel  stage y  record(ready)  kernel ...  wait(done) stage z
 *     copy stream                                        wait(ready)  copy x,y  record(done)
 *
 * `z` takes the place of `x` in the ring, so it waits for the copy of `x`; the host does not wait.
 */
#ifndef RELAX_TAPML_PASSES_CUDA_STAGING_H_
#define RELAX_TAPML_PASSES_CUDA_STAGING_H_

#include <tvm/ffi/container/tensor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "buffer_pool.h"
#include "cuda_driver.h"
#include "event_queue.h"

namespace relax_tapml {

/*! \brief Tensors that go to the host together: one synchronisation for all of them. */
class CudaBatch : public PendingCopy {
 public:
  /*! \brief An empty batch of tensors that are staged on `compute`. */
  CudaBatch(std::shared_ptr<const CudaDevice> device, CudaStream compute, std::string first_site);
  ~CudaBatch() override;
  CudaBatch(const CudaBatch&) = delete;
  CudaBatch& operator=(const CudaBatch&) = delete;

  CudaStream compute() const { return compute_; }
  size_t size_bytes() const { return size_bytes_; }

  /*! \brief Add a staged tensor, before the batch is submitted. */
  void Add(CudaAddress from, void* to, size_t bytes, std::shared_ptr<Buffer> owner,
           const std::string& site);
  /*! \brief Copy all of it on `copies`, after what `compute` has been given so far. */
  void Submit(CudaStream copies);
  /*! \brief Let work that `stream` is given from now on begin after a submitted copy. */
  void HoldBack(CudaStream stream);

  bool is_submitted() const override { return state_.load(std::memory_order_acquire) != kOpen; }
  bool IsDone() override;
  void Wait() override;

 private:
  enum State { kOpen, kSubmitted, kDone };
  struct Copy {
    CudaAddress from;
    void* to;
    size_t bytes;
  };

  std::string What() const;
  void Finish();

  const std::shared_ptr<const CudaDevice> device_;
  const CudaStream compute_;
  const std::string first_site_;
  // The next ones change while the batch is open only, under the lock of its staging.
  std::string last_site_;
  size_t size_bytes_{0};
  std::vector<Copy> copies_;
  // Keeps the memory that is written from being used for anything else, also if no one waits.
  std::vector<std::shared_ptr<Buffer>> owners_;
  CudaEvent ready_{nullptr};
  CudaEvent done_{nullptr};
  std::string failure_;
  std::atomic<State> state_{kOpen};
};

/*! \brief The staging of one GPU. All members may be called from any thread. */
class CudaStaging {
 public:
  /*! \brief A tensor's place in host memory, filled when the batch's copy has ended. */
  struct Staged {
    std::shared_ptr<Buffer> owner;
    void* data;
    std::shared_ptr<CudaBatch> batch;
  };

  /*!
   * \brief Open the staging of a GPU.
   * \param library The driver's name for dlopen.
   * \param budget Counts the page-locked memory.
   * \param on_submitted Called when a batch has been submitted; outlives the staging.
   * \param why_not Set where there is none: no driver, or no memory.
   */
  static std::unique_ptr<CudaStaging> Open(const std::string& library, int ordinal,
                                           std::shared_ptr<ByteBudget> budget,
                                           std::function<void()> on_submitted,
                                           std::string* why_not);
  ~CudaStaging();
  CudaStaging(const CudaStaging&) = delete;
  CudaStaging& operator=(const CudaStaging&) = delete;

  /*!
   * \brief Begin to copy a contiguous tensor of this GPU; waits while the budget is spent.
   *
   * The tensor may be written to and released at once by work of the current stream.
   *
   * \return A place without an owner once the budget is closed, or where the tensor is too large
   * or no page-locked memory is left, which `is_refused` says.
   * \throws tvm::ffi::Error for an error of the GPU, naming the site.
   */
  Staged Stage(const tvm::ffi::Tensor& tensor, const std::string& site, bool* is_refused);
  /*! \brief Submit what is staged, and release host memory that waits for more tensors. */
  void Flush();

  size_t ring_bytes() const { return ring_bytes_; }
  int64_t batches() const { return batches_.load(); }

 private:
  struct Range {
    size_t begin;
    size_t end;
    std::shared_ptr<CudaBatch> batch;
  };

  CudaStaging(std::shared_ptr<const CudaDevice> device, std::shared_ptr<ByteBudget> budget,
              std::function<void()> on_submitted, CudaAddress ring, size_t ring_bytes,
              CudaStream copies);
  // These want the lock held and the GPU current.
  size_t Place(size_t bytes, CudaStream compute);
  void SubmitOpen();

  const std::shared_ptr<const CudaDevice> device_;
  const std::shared_ptr<ByteBudget> budget_;
  const std::shared_ptr<BufferPool> pool_;
  const std::function<void()> on_submitted_;
  const CudaAddress ring_;
  const size_t ring_bytes_;
  const CudaStream copies_;
  // Small tensors share host buffers of this size.
  const size_t slab_bytes_;
  std::atomic<int64_t> batches_{0};
  std::mutex mutex_;
  // Guarded by mutex_.
  size_t next_{0};            // Where in the ring the next tensor goes.
  std::deque<Range> ranges_;  // What is in the ring, oldest first, which is the next to be reused.
  std::shared_ptr<CudaBatch> open_;
  std::shared_ptr<CudaBatch> submitted_;  // The last one.
  CudaStream compute_{nullptr};           // Of the last tensor.
  std::shared_ptr<Buffer> slab_;
  size_t slab_used_bytes_{0};
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_CUDA_STAGING_H_
