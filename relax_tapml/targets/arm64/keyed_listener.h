/*!
 * \file keyed_listener.h
 * \brief Accepts the first client that presents a right key, among connections that may be silent.
 */
#ifndef RELAX_TAPML_TARGETS_ARM64_KEYED_LISTENER_H_
#define RELAX_TAPML_TARGETS_ARM64_KEYED_LISTENER_H_

#include <chrono>
#include <list>
#include <string>

namespace relax_tapml {

/*!
 * \brief Accepts clients by their key. All connections are read at once, so a silent one delays no
 *  other: it is closed after ten seconds, or as the oldest of too many.
 */
class KeyedListener {
 public:
  /*! \param listener A socket that listens. */
  explicit KeyedListener(int listener);
  KeyedListener(const KeyedListener&) = delete;
  KeyedListener& operator=(const KeyedListener&) = delete;

  /*!
   * \brief Return a client that has presented a key and received the answer, as a connection that
   *  is the caller's to close, or -1 if there was none in time. Others are closed.
   *
   * \param key What a client must present.
   * \param milliseconds How long to wait; -1 for no limit.
   */
  int Accept(const std::string& key, int milliseconds);

  /*! \brief Close the listening socket and all connections. */
  void Close();

 private:
  using Clock = std::chrono::steady_clock;

  struct Pending {
    int connection;
    Clock::time_point expires_at;
    /*! \brief What it has sent so far. */
    std::string data;
  };

  void AcceptConnection();
  /*!
   * \brief Read from a connection; return whether it stays pending. `has_key` is set if it has
   *  presented the key.
   */
  bool Read(Pending* pending, const std::string& key, bool* has_key);
  /*! \brief Milliseconds until the oldest connection has been silent for too long, or `most`. */
  int NextExpiry(int most) const;
  void CloseAll();

  int listener_;
  /*! \brief The oldest first. */
  std::list<Pending> pending_;
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_TARGETS_ARM64_KEYED_LISTENER_H_
