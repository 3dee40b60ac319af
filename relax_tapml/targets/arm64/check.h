/*!
 * \file check.h
 * \brief System calls that throw, and messages that arrive whole or not at all.
 */
#ifndef RELAX_TAPML_TARGETS_ARM64_CHECK_H_
#define RELAX_TAPML_TARGETS_ARM64_CHECK_H_

#include <sys/socket.h>

#include <cerrno>
#include <system_error>

namespace relax_tapml {

/*! \brief Throw the error in errno unless a system call succeeded. */
inline void Check(bool is_success, const char* what) {
  if (!is_success) throw std::system_error(errno, std::generic_category(), what);
}

/*! \brief Fill a buffer from a connection; false if it closed or its limit of time passed. */
inline bool Receive(int connection, void* data, size_t size) {
  return recv(connection, data, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

/*! \brief Send a buffer; false if the connection is closed. */
inline bool Send(int connection, const void* data, size_t size) {
  return send(connection, data, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

}  // namespace relax_tapml

#endif  // RELAX_TAPML_TARGETS_ARM64_CHECK_H_
