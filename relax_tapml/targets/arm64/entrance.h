/*!
 * \file entrance.h
 * \brief Greets whoever connects, all at once, until one presents a key.
 */
#ifndef RELAX_TAPML_TARGETS_ARM64_ENTRANCE_H_
#define RELAX_TAPML_TARGETS_ARM64_ENTRANCE_H_

#include <chrono>
#include <list>
#include <string>

namespace relax_tapml {

/*!
 * \brief The entrance of a server. Who says nothing keeps nobody waiting: it is sent away after ten
 *  seconds, or where too many are there, the one that has been there for longest.
 */
class Entrance {
 public:
  /*! \param listener A socket that listens. */
  explicit Entrance(int listener);
  Entrance(const Entrance&) = delete;
  Entrance& operator=(const Entrance&) = delete;

  /*!
   * \brief Return a client that has presented a key and been let in, as a connection that is the
   *  caller's to close, or -1 if there was none in so many milliseconds. The others are sent away.
   *
   * \param key What a client must present.
   * \param milliseconds How long to wait; -1 for ever.
   */
  int Meet(const std::string& key, int milliseconds);

  /*! \brief Close what is open here. */
  void Close();

 private:
  using Clock = std::chrono::steady_clock;

  struct Visitor {
    int connection;
    Clock::time_point until;
    /*! \brief What it has said so far. */
    std::string said;
  };

  void Accept();
  /*! \brief Read what a visitor says; whether it stays. It is `let_in` if it presents the key. */
  bool Hear(Visitor* visitor, const std::string& key, bool* let_in);
  /*! \brief Milliseconds until the oldest visitor has been silent for too long, or `most`. */
  int Patience(int most) const;
  void DismissAll();

  int listener_;
  /*! \brief The oldest first. */
  std::list<Visitor> visitors_;
};

}  // namespace relax_tapml

#endif  // RELAX_TAPML_TARGETS_ARM64_ENTRANCE_H_
