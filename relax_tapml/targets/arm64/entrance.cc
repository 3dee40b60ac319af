/*!
 * \file entrance.cc
 * \brief See entrance.h; the handshake is that of tvm/rpc/base.py.
 */
#include "entrance.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "check.h"

namespace relax_tapml {

// Magic, length and text of a key; the answer is a code, and after success a length and a name.
constexpr int32_t kMagic = 0xff271;
constexpr int32_t kMismatch = kMagic + 2;
constexpr int32_t kMaxKeyBytes = 256;
constexpr size_t kHeadBytes = 2 * sizeof(int32_t);
constexpr char kName[] = "server:relax_tapml";

constexpr auto kHandshake = std::chrono::seconds(10);
constexpr size_t kMaxVisitors = 32;
constexpr int kKeepAliveSeconds = 30;

namespace {

/*! \brief How many bytes are to come, as far as that is known; -1 for what is no client. */
int Missing(const std::string& said) {
  if (said.size() < kHeadBytes) return static_cast<int>(kHeadBytes - said.size());
  int32_t head[2];
  std::memcpy(head, said.data(), sizeof(head));
  if (head[0] != kMagic || head[1] <= 0 || head[1] > kMaxKeyBytes) return -1;
  return static_cast<int>(kHeadBytes + head[1] - said.size());
}

/*! \brief Let a client in, with a connection that notices when its other end has vanished. */
bool Welcome(int connection) {
  fcntl(connection, F_SETFL, fcntl(connection, F_GETFL) & ~O_NONBLOCK);
  int on = 1, seconds = kKeepAliveSeconds, interval = 10, count = 3;
  setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  setsockopt(connection, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds));
  setsockopt(connection, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
  setsockopt(connection, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
  const int32_t reply[2] = {kMagic, static_cast<int32_t>(std::strlen(kName))};
  return Send(connection, reply, sizeof(reply)) && Send(connection, kName, std::strlen(kName));
}

}  // namespace

Entrance::Entrance(int listener) : listener_(listener) {
  // Who has connected may have left before it is accepted.
  fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
}

int Entrance::Meet(const std::string& key, int milliseconds) {
  auto end = Clock::now() + std::chrono::milliseconds(milliseconds);
  while (true) {
    auto now = Clock::now();
    while (!visitors_.empty() && visitors_.front().until <= now) {
      close(visitors_.front().connection);
      visitors_.pop_front();
    }
    int left = -1;
    if (milliseconds >= 0) {
      if (now >= end) return -1;
      left = static_cast<int>(
          std::chrono::duration_cast<std::chrono::milliseconds>(end - now).count() + 1);
    }
    std::vector<pollfd> watched{{listener_, POLLIN, 0}};
    for (const Visitor& visitor : visitors_) watched.push_back({visitor.connection, POLLIN, 0});
    if (poll(watched.data(), watched.size(), Patience(left)) < 0) {
      Check(errno == EINTR, "poll");
      continue;
    }
    size_t place = 1;
    for (auto visitor = visitors_.begin(); visitor != visitors_.end(); ++place) {
      bool let_in = false;
      if (watched[place].revents == 0 || Hear(&*visitor, key, &let_in)) {
        ++visitor;
        continue;
      }
      int connection = visitor->connection;
      visitor = visitors_.erase(visitor);
      if (let_in && Welcome(connection)) {
        DismissAll();
        return connection;
      }
      close(connection);
    }
    if (watched[0].revents != 0) Accept();
  }
}

void Entrance::Close() {
  DismissAll();
  close(listener_);
}

void Entrance::Accept() {
  int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (connection < 0) {
    Check(errno == EINTR || errno == ECONNABORTED || errno == EAGAIN, "accept");
    return;
  }
  visitors_.push_back({connection, Clock::now() + kHandshake, ""});
  if (visitors_.size() <= kMaxVisitors) return;
  close(visitors_.front().connection);
  visitors_.pop_front();
}

bool Entrance::Hear(Visitor* visitor, const std::string& key, bool* let_in) {
  char part[kMaxKeyBytes];
  // No more than the handshake: what follows is for whoever serves the client.
  ssize_t size = recv(visitor->connection, part, Missing(visitor->said), 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (size <= 0) return false;
  visitor->said.append(part, size);
  int missing = Missing(visitor->said);
  if (missing != 0) return missing > 0;
  std::string presented = visitor->said.substr(kHeadBytes);
  // Options of the client may follow the key.
  *let_in = presented.substr(0, presented.find(' ')) == "client:" + key;
  if (!*let_in) {
    Send(visitor->connection, &kMismatch, sizeof(kMismatch));
    std::printf("refused a client\n");
    std::fflush(stdout);
  }
  return false;
}

int Entrance::Patience(int most) const {
  if (visitors_.empty()) return most;
  auto left = visitors_.front().until - Clock::now();
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count() + 1;
  int patience = static_cast<int>(std::max<decltype(ms)>(ms, 0));
  return most < 0 ? patience : std::min(most, patience);
}

void Entrance::DismissAll() {
  for (const Visitor& visitor : visitors_) close(visitor.connection);
  visitors_.clear();
}

}  // namespace relax_tapml
