/*!
 * \file base64.h
 * \brief Base64 streams, which only tensors in JSON need: they raise.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <tvm/ffi/error.h>
#include <tvm/support/io.h>
namespace tvm {
namespace support {
// Only JSON reflection of tensors would use these; the browser runtime never does.
struct Base64OutStream : Stream {
  using Stream::Read;
  using Stream::Write;
  explicit Base64OutStream(Stream*) {}
  size_t Read(void*, size_t) final { return 0; }
  size_t Write(const void*, size_t) final {
    TVM_FFI_THROW(RuntimeError) << "base64 is not built in";
    return 0;
  }
  void Finish() {}
};
struct Base64InStream : Stream {
  using Stream::Read;
  using Stream::Write;
  explicit Base64InStream(Stream*) {}
  void InitPosition() {}
  size_t Read(void*, size_t) final {
    TVM_FFI_THROW(RuntimeError) << "base64 is not built in";
    return 0;
  }
  size_t Write(const void*, size_t) final { return 0; }
};
}  // namespace support
}  // namespace tvm
