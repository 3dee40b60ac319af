/*!
 * \file keyed_listener.cc
 * \brief See keyed_listener.h; the handshake is that of tvm/rpc/base.py.
 */
#include "keyed_listener.h"

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
constexpr size_t kMaxPending = 32;
constexpr int kKeepAliveSeconds = 30;

namespace {

/*! \brief How many bytes are to come, as far as that is known; -1 for what is no client. */
int Missing(const std::string& data) {
  if (data.size() < kHeadBytes) return static_cast<int>(kHeadBytes - data.size());
  int32_t head[2];
  std::memcpy(head, data.data(), sizeof(head));
  if (head[0] != kMagic || head[1] <= 0 || head[1] > kMaxKeyBytes) return -1;
  return static_cast<int>(kHeadBytes + head[1] - data.size());
}

/*! \brief Send the answer, on a connection that notices when its other end has vanished. */
bool SendSuccess(int connection) {
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

KeyedListener::KeyedListener(int listener) : listener_(listener) {
  // A connection may be closed before it is accepted.
  fcntl(listener, F_SETFL, fcntl(listener, F_GETFL) | O_NONBLOCK);
}

int KeyedListener::Accept(const std::string& key, int milliseconds) {
  auto end = Clock::now() + std::chrono::milliseconds(milliseconds);
  while (true) {
    auto now = Clock::now();
    while (!pending_.empty() && pending_.front().expires_at <= now) {
      close(pending_.front().connection);
      pending_.pop_front();
    }
    int left = -1;
    if (milliseconds >= 0) {
      if (now >= end) return -1;
      left = static_cast<int>(
          std::chrono::duration_cast<std::chrono::milliseconds>(end - now).count() + 1);
    }
    std::vector<pollfd> watched{{listener_, POLLIN, 0}};
    for (const Pending& pending : pending_) watched.push_back({pending.connection, POLLIN, 0});
    if (poll(watched.data(), watched.size(), NextExpiry(left)) < 0) {
      Check(errno == EINTR, "poll");
      continue;
    }
    size_t place = 1;
    for (auto pending = pending_.begin(); pending != pending_.end(); ++place) {
      bool has_key = false;
      if (watched[place].revents == 0 || Read(&*pending, key, &has_key)) {
        ++pending;
        continue;
      }
      int connection = pending->connection;
      pending = pending_.erase(pending);
      if (has_key && SendSuccess(connection)) {
        CloseAll();
        return connection;
      }
      close(connection);
    }
    if (watched[0].revents != 0) AcceptConnection();
  }
}

void KeyedListener::Close() {
  CloseAll();
  close(listener_);
}

void KeyedListener::AcceptConnection() {
  int connection = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (connection < 0) {
    Check(errno == EINTR || errno == ECONNABORTED || errno == EAGAIN, "accept");
    return;
  }
  pending_.push_back({connection, Clock::now() + kHandshake, ""});
  if (pending_.size() <= kMaxPending) return;
  close(pending_.front().connection);
  pending_.pop_front();
}

bool KeyedListener::Read(Pending* pending, const std::string& key, bool* has_key) {
  char part[kMaxKeyBytes];
  // No more than the handshake: what follows is for the server of the client.
  ssize_t size = recv(pending->connection, part, Missing(pending->data), 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return true;
  if (size <= 0) return false;
  pending->data.append(part, size);
  int missing = Missing(pending->data);
  if (missing != 0) return missing > 0;
  std::string presented = pending->data.substr(kHeadBytes);
  // Options of the client may follow the key.
  *has_key = presented.substr(0, presented.find(' ')) == "client:" + key;
  if (!*has_key) {
    Send(pending->connection, &kMismatch, sizeof(kMismatch));
    std::printf("refused a client\n");
    std::fflush(stdout);
  }
  return false;
}

int KeyedListener::NextExpiry(int most) const {
  if (pending_.empty()) return most;
  auto left = pending_.front().expires_at - Clock::now();
  auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count() + 1;
  int expiry = static_cast<int>(std::max<decltype(ms)>(ms, 0));
  return most < 0 ? expiry : std::min(most, expiry);
}

void KeyedListener::CloseAll() {
  for (const Pending& pending : pending_) close(pending.connection);
  pending_.clear();
}

}  // namespace relax_tapml
