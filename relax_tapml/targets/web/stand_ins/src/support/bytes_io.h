/*!
 * \file bytes_io.h
 * \brief Streams over bytes in memory.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <tvm/ffi/string.h>
#include <tvm/support/io.h>

#include <algorithm>
#include <cstring>
#include <string>
namespace tvm {
namespace support {
class BytesInStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;
  explicit BytesInStream(const std::string& s) : p_(s.data()), n_(s.size()) {}
  explicit BytesInStream(const ffi::Bytes& s) : p_(s.data()), n_(s.size()) {}
  BytesInStream(const char* p, size_t n) : p_(p), n_(n) {}
  size_t Read(void* o, size_t n) final {
    n = std::min(n, n_ - i_);
    if (n) std::memcpy(o, p_ + i_, n);
    i_ += n;
    return n;
  }
  size_t Write(const void*, size_t) final { return 0; }

 private:
  const char* p_;
  size_t n_, i_{0};
};
class BytesOutStream : public Stream {
 public:
  using Stream::Read;
  using Stream::Write;
  explicit BytesOutStream(std::string* s) : s_(s) {}
  size_t Read(void*, size_t) final { return 0; }
  size_t Write(const void* p, size_t n) final {
    s_->append(static_cast<const char*>(p), n);
    return n;
  }

 private:
  std::string* s_;
};
}  // namespace support
}  // namespace tvm
