/*!
 * \file cache_state.cc
 * \brief Reads the state of a paged KV cache that a call depends on.
 *
 * It is what led to the sequences that the call looks at, from the log of the cache, and the keys
 * and values of these sequences in the layer of the call, from the layer's pages.
 */
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/shape.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/reflection/registry.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cache_log.h"
#include "capture.h"
#include "host_copy.h"

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;

constexpr int64_t kMostBytes = int64_t{64} << 20;  // Of the keys and values of a call.

struct HostAllocator {
  std::vector<char> bytes;
  void AllocData(DLTensor* tensor) { tensor->data = bytes.data(); }
  void FreeData(DLTensor*) {}
};

// The pages of a layer in host memory, of shape (pages, 2, heads, page size, head size).
class HostPages {
 public:
  explicit HostPages(const ffi::Tensor& pages) : pages_(pages) {
    bool is_here = pages.device().device_type == kDLCPU && pages.IsContiguous();
    if (is_here) {
      data_ = static_cast<const char*>(pages.data_ptr()) + pages.byte_offset();
      return;
    }
    copy_.resize(ffi::GetDataSize(*pages.GetDLTensorPtr()));
    CopyToHost(pages, copy_.data(), "a KV cache");
    data_ = copy_.data();
  }

  // Appends the keys (0) or values (1) at some positions, as (1, tokens, heads, head size).
  ffi::Tensor Taken(const std::vector<int32_t>& positions, int64_t which) const {
    ffi::ShapeView shape = pages_.shape();
    int64_t heads = shape[2], page_size = shape[3];
    size_t row = ffi::GetDataSize(shape[4], pages_.dtype());
    std::vector<char> taken(positions.size() * static_cast<size_t>(heads) * row);
    char* to = taken.data();
    for (int32_t position : positions) {
      int64_t page = position / page_size, slot = position % page_size;
      if (position < 0 || page >= shape[0]) {
        TVM_FFI_THROW(IndexError) << "a token is in no page of it";
      }
      for (int64_t head = 0; head < heads; ++head, to += row) {
        int64_t at = ((page * 2 + which) * heads + head) * page_size + slot;
        std::memcpy(to, data_ + static_cast<size_t>(at) * row, row);
      }
    }
    ffi::Shape extents({1, static_cast<int64_t>(positions.size()), heads, shape[4]});
    return ffi::Tensor::FromNDAlloc(HostAllocator{std::move(taken)}, extents, pages_.dtype(),
                                    DLDevice{kDLCPU, 0});
  }

 private:
  const ffi::Tensor& pages_;
  std::vector<char> copy_;
  const char* data_;
};

// Adds keys and values of each sequence that has tokens.
void AddTokens(const CacheLog& log, int64_t layer,
               const std::vector<std::vector<int32_t>>& sequences, ffi::Array<ffi::Any>* found) {
  size_t tokens = 0;
  for (const std::vector<int32_t>& positions : sequences) tokens += positions.size();
  if (tokens == 0) return;
  const ffi::Tensor* pages = log.pages(layer);
  if (pages == nullptr) {
    TVM_FFI_THROW(ValueError) << "its layer " << layer << " was filled by something unseen";
  }
  ffi::ShapeView shape = pages->shape();
  if (shape.size() != 5 || shape[1] != 2 || shape[3] != log.page_size()) {
    TVM_FFI_THROW(ValueError) << "its pages are not of keys and values";
  }
  int64_t bytes = static_cast<int64_t>(tokens) * 2 * shape[2] *
                  static_cast<int64_t>(ffi::GetDataSize(shape[4], pages->dtype()));
  if (bytes > kMostBytes) {
    TVM_FFI_THROW(ValueError) << "the call looks at " << (bytes >> 20) << " MiB of it, more than "
                              << (kMostBytes >> 20) << " MiB";
  }
  HostPages here(*pages);
  for (const std::vector<int32_t>& positions : sequences) {
    if (positions.empty()) continue;
    found->push_back(here.Taken(positions, 0));
    found->push_back(here.Taken(positions, 1));
  }
}

// Returns a reason with TVM's message, without the condition that failed.
ffi::String Reason(const ffi::Error& error) {
  std::string text = error.message();
  size_t at = text.find(" is false: ");
  if (at != std::string::npos) text = text.substr(at + std::strlen(" is false: "));
  return ffi::String("its KV cache cannot be recorded: " + text.substr(0, text.find('\n')));
}

bool IsRecorded(const ffi::AnyView& frame, const ffi::String& site) {
  const FrameObj* found = frame.as<FrameObj>();
  return found != nullptr && found->is_recording() && found->IsRecorded(site);
}

// Returns None, the state as JSON, and keys and values of each sequence that has tokens, as they
// are before the call; or a reason, where these cannot be read. Without a recorder, one None.
ffi::Array<ffi::Any> Before(ffi::AnyView frame, ffi::String site, ffi::Any cache, int64_t layer) {
  ffi::Array<ffi::Any> found{ffi::Any(nullptr)};
  std::shared_ptr<CacheLog> log = LogOf(cache);
  if (log != nullptr) log->set_layer(layer);
  if (!IsRecorded(frame, site)) return found;
  try {
    if (log == nullptr) TVM_FFI_THROW(ValueError) << "it was not seen being made";
    const CachePass& pass = log->Checked(cache);
    // The call would do so first: where pages are copied in a stream of their own, wait for it.
    RuntimeBuiltin("attention_kv_cache_get_query_positions")(cache);
    found.push_back(log->Describe());
    AddTokens(*log, layer, pass.before, &found);
    return found;
  } catch (const ffi::Error& error) {
    return {Reason(error)};
  }
}

// Returns keys and values of each sequence after the call, or a reason where these cannot be read;
// None without a recorder.
ffi::Array<ffi::Any> After(ffi::AnyView frame, ffi::String site, ffi::Any cache, int64_t layer) {
  ffi::Array<ffi::Any> found;
  std::shared_ptr<CacheLog> log = LogOf(cache);
  if (log != nullptr) log->set_layer(-1);
  if (!IsRecorded(frame, site)) return found;
  try {
    if (log == nullptr) TVM_FFI_THROW(ValueError) << "it was not seen being made";
    AddTokens(*log, layer, log->Checked(cache).after, &found);
    return found;
  } catch (const ffi::Error& error) {
    return {Reason(error)};
  }
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def("relax_tapml.cache.before", Before).def("relax_tapml.cache.after", After);
}

}  // namespace relax_tapml
