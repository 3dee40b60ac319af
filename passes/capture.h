/*!
 * \file capture.h
 * \brief The state of a recorder, and the frames of the functions that run while it records.
 *
 * The intrinsics that InsertCapture emits and the functions that drain their events are global
 * functions `relax_tapml.capture.*`, registered in capture.cc; docs/internals.md has the
 * protocol. Nothing here needs Python.
 */
#ifndef RELAX_TAPML_PASSES_CAPTURE_H_
#define RELAX_TAPML_PASSES_CAPTURE_H_

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/map.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/object.h>
#include <tvm/ffi/string.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "buffer_pool.h"
#include "byte_budget.h"
#include "cuda_staging.h"
#include "event_queue.h"

namespace relax_tapml {

/*! \brief One recorder, from start to stop. All members may be called from any thread. */
class Recording {
 public:
  /*!
   * \brief Begin to record.
   * \param budget_bytes Limit of host memory for what is queued and not consumed.
   * \param cuda_library The driver of CUDA GPUs, for dlopen.
   */
  Recording(size_t budget_bytes, std::string cuda_library);
  ~Recording() { Stop(); }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  bool is_active() const { return is_active_.load(std::memory_order_acquire); }
  int64_t NextFrame() { return next_frame_.fetch_add(1); }
  /*! \brief Count an execution of a function; returns how many there were before it. */
  int64_t CountExecution(const std::string& function);
  /*! \brief Count executions anew, at the beginning of a sample. */
  void RestartExecutions();
  /*! \brief Whether no frame that is sampled has called a unit before. */
  bool IsNewUnit(const std::string& unit);
  /*! \brief Whether such a frame has called it; unlike IsNewUnit, this is no call. */
  bool KnowsUnit(const std::string& unit) const;

  /*! \brief Copy a tensor into the queue, waiting while the budget is spent; returns its ref. */
  std::string CaptureTensor(const tvm::ffi::Tensor& tensor, const std::string& site);
  /*! \brief The ref of a parameter, copied first if this tensor was not the last of its name. */
  std::string CaptureParameter(const std::string& name, const tvm::ffi::Tensor& tensor,
                               const std::string& site);
  /*! \brief Take a tensor for the recorded content of a parameter: it is not captured again. */
  void KnowParameter(const std::string& name, const tvm::ffi::Tensor& tensor);
  /*! \brief Queue an event without tensors, waiting while the budget is spent. */
  void Push(Event event);
  /*! \brief Queue a mark at once. */
  void Mark(const tvm::ffi::String& text);
  /*! \brief Why tensors of a GPU were copied one by one, the run waiting; empty if none was. */
  std::string note() const;

  /*! \brief End recording and wake all waiting threads; queued events can still be drained. */
  void Stop() noexcept;
  tvm::ffi::Array<Event> Drain(int64_t max_events, int64_t timeout_ms);
  tvm::ffi::Map<tvm::ffi::String, int64_t> Stats() const;

 private:
  int64_t CopyToQueue(const tvm::ffi::Tensor& tensor, const std::string& site);
  // A host buffer; nullptr once the recording has stopped.
  std::shared_ptr<Buffer> HostBuffer(size_t bytes, const std::string& site);
  // Queue a tensor of a GPU without waiting for its copy. False where only waiting is possible.
  bool Stage(const tvm::ffi::Tensor& tensor, int64_t seq, const std::string& site);
  std::shared_ptr<CudaStaging> StagingOf(int gpu);
  void FlushStagings();

  std::atomic<bool> is_active_{true};
  std::atomic<int64_t> next_frame_{0};
  std::atomic<int64_t> next_tensor_{0};
  std::atomic<int64_t> captured_bytes_{0};
  std::atomic<int64_t> staged_bytes_{0};
  // A drained tensor owns its buffer, the buffer its pool, the pool its budget: each outlives
  // this recording while something uses it.
  const std::shared_ptr<ByteBudget> budget_;
  const std::shared_ptr<BufferPool> pool_;
  EventQueue queue_;
  const std::string cuda_library_;
  mutable std::mutex stagings_mutex_;
  // Guarded by stagings_mutex_. By GPU; null where it cannot be had, for the reason in note_.
  std::unordered_map<int, std::shared_ptr<CudaStaging>> stagings_;
  std::string note_;
  mutable std::mutex sampling_mutex_;
  // Guarded by sampling_mutex_.
  std::unordered_map<std::string, int64_t> executions_;
  std::unordered_set<std::string> units_;
  std::mutex parameters_mutex_;
  // Guarded by parameters_mutex_. Holding the tensor keeps its address from being used again.
  std::unordered_map<std::string, tvm::ffi::Tensor> parameters_;
};

/*!
 * \brief One execution of a Relax function.
 *
 * The instrumented function owns it as a value, so an exception that unwinds the function also
 * ends its frame. Used by one thread at a time.
 */
class FrameObj : public tvm::ffi::Object {
 public:
  /*! \brief A frame that records nothing. */
  FrameObj() = default;
  FrameObj(std::shared_ptr<Recording> recording, tvm::ffi::String function)
      : recording_(std::move(recording)),
        function_(std::move(function)),
        frame_(recording_->NextFrame()) {}
  /*! \brief One of every `period` frames of a function; the others record units that are new. */
  FrameObj(std::shared_ptr<Recording> recording, tvm::ffi::String function, int64_t period)
      : FrameObj(std::move(recording), std::move(function)) {
    is_sampled_ = true;
    is_skipped_ = recording_->CountExecution(function_) % period != 0;
  }

  bool is_recording() const { return recording_ != nullptr && recording_->is_active(); }
  /*! \brief Whether a call of `site` is recorded that is about to be made, or is being made. */
  bool IsRecorded(const tvm::ffi::String& site) const;
  /*! \brief Record that `site` is about to be called with the values that `tokens` describe. */
  void Inputs(const tvm::ffi::String& site, tvm::ffi::PackedArgs tokens);
  /*! \brief Record that the call at `site` returned the values that `tokens` describe. */
  void Outputs(const tvm::ffi::String& site, tvm::ffi::PackedArgs tokens);

  static constexpr bool _type_mutable = true;
  TVM_FFI_DECLARE_OBJECT_INFO_FINAL("relax_tapml.capture.Frame", FrameObj, tvm::ffi::Object);

 private:
  tvm::ffi::Array<tvm::ffi::String> Refs(const std::string& site, tvm::ffi::PackedArgs tokens);

  const std::shared_ptr<Recording> recording_;
  const tvm::ffi::String function_;
  const int64_t frame_{-1};
  bool is_sampled_{false};
  bool is_skipped_{false};
  int64_t next_call_{0};
  // Calls that have not returned, by site.
  std::unordered_map<std::string, int64_t> open_calls_;
  // Refs of captured values, by the K of `+K`, `=K` and `?K`.
  std::unordered_map<std::string, std::string> remembered_;
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_PASSES_CAPTURE_H_
