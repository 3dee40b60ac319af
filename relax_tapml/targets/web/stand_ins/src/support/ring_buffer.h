/*!
 * \file ring_buffer.h
 * \brief A queue of bytes, kept contiguous, for the RPC endpoint.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <tvm/ffi/error.h>

#include <cstring>
#include <vector>
namespace tvm {
namespace support {
// A FIFO of bytes kept contiguous (compacted lazily), with the member names the RPC endpoint calls.
class RingBuffer {
 public:
  size_t bytes_available() const { return e_ - b_; }
  void Reserve(size_t n) {
    if (b_ + n > v_.size()) Grow(n);
  }
  void Read(void* p, size_t n) {
    TVM_FFI_ICHECK_LE(n, bytes_available());
    if (n) std::memcpy(p, v_.data() + b_, n);
    Pop(n);
  }
  void Write(const void* p, size_t n) {
    Room(n);
    if (n) std::memcpy(v_.data() + e_, p, n);
    e_ += n;
  }
  template <typename F>
  size_t ReadWithCallback(F f, size_t max) {
    size_t n = max < bytes_available() ? max : bytes_available();
    n = f(v_.data() + b_, n);
    Pop(n);
    return n;
  }
  template <typename F>
  size_t WriteWithCallback(F f, size_t max) {
    Room(max);
    size_t n = f(v_.data() + e_, max);
    e_ += n;
    return n;
  }

 private:
  void Pop(size_t n) {
    b_ += n;
    if (b_ == e_) {
      b_ = e_ = 0;
      if (v_.size() > (1u << 20)) {
        v_.clear();
        v_.shrink_to_fit();
      }
    }
  }
  void Room(size_t n) {
    if (e_ + n > v_.size()) Grow(bytes_available() + n);
  }
  void Grow(size_t need) {
    if (b_) {
      std::memmove(v_.data(), v_.data() + b_, e_ - b_);
      e_ -= b_;
      b_ = 0;
    }
    if (need > v_.size()) v_.resize(need + need / 2 + 4096);
  }
  std::vector<char> v_;
  size_t b_{0}, e_{0};
};
}  // namespace support
}  // namespace tvm
