/*!
 * \file utils.h
 * \brief The string helper that the runtime uses.
 *
 * Stands in for TVM's header of this name, which its wheel leaves out; written from the calls.
 */
#pragma once

#include <string>
namespace tvm {
namespace support {
inline bool StartsWith(const std::string& s, const char* p) { return s.rfind(p, 0) == 0; }
}  // namespace support
}  // namespace tvm
