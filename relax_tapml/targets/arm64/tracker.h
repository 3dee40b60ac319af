/*!
 * \file tracker.h
 * \brief Registers this device with a TVM RPC tracker, which lends it to one client at a time.
 */
#ifndef RELAX_TAPML_TARGETS_ARM64_TRACKER_H_
#define RELAX_TAPML_TARGETS_ARM64_TRACKER_H_

#include <string>

#include "keyed_listener.h"

namespace relax_tapml {

class Tracker {
 public:
  /*!
   * \param address HOST:PORT of the tracker.
   * \param key What to register as.
   * \param port The port for clients, at the address that the tracker sees.
   */
  Tracker(const std::string& address, const std::string& key, int port);
  Tracker(const Tracker&) = delete;
  Tracker& operator=(const Tracker&) = delete;

  /*!
   * \brief Offer the device until the client that it was lent to connects; reconnect to a lost
   *  tracker.
   * \param listener Accepts that client; other connections change nothing.
   * \return The connection of the client, which is the caller's to close.
   */
  int Lend(KeyedListener* listener);

 private:
  void Connect();
  void Offer();
  /*! \brief Whether the device that was offered last has not been lent yet. */
  bool IsPending();
  /*! \brief Send a message of JSON and return the reply. */
  std::string Request(const std::string& message);

  std::string host_, port_, key_;
  int served_port_;
  /*! \brief A connection to the tracker, or -1. */
  int socket_ = -1;
  /*! \brief The key that was offered last; empty if the device is to be offered anew. */
  std::string offered_;
  /*! \brief Pings since that key was lent, without a connection of its client. */
  int unused_ = 0;
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_TARGETS_ARM64_TRACKER_H_
