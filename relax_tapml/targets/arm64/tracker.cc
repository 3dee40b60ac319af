/*!
 * \file tracker.cc
 * \brief See tracker.h; the messages are those of tvm/rpc/tracker.py.
 */
#include "tracker.h"

#include <netdb.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>

#include "check.h"

namespace relax_tapml {

constexpr int32_t kTrackerMagic = 0x2f271;
constexpr int kPut = 3, kUpdateInfo = 5, kGetPendingKeys = 7;
constexpr int32_t kMaxReplyBytes = 1 << 20;
constexpr int kPingMs = 2000;
constexpr int kRetrySeconds = 1;
constexpr int kAnswerSeconds = 10;
/*! \brief A key that was lent and not used within so many pings is withdrawn. */
constexpr int kPatience = 3;

Tracker::Tracker(const std::string& address, const std::string& key, int port)
    : key_(key), served_port_(port) {
  size_t colon = address.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    throw std::invalid_argument("--tracker: expected HOST:PORT, got " + address);
  }
  // The key is written into JSON without escapes.
  bool is_plain = std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return c > ' ' && c < 127 && c != '"' && c != '\\';
  });
  if (key.empty() || !is_plain) {
    throw std::invalid_argument("--key: expected a word of ASCII without quotes, got '" + key + "'");
  }
  host_ = address.substr(0, colon);
  port_ = address.substr(colon + 1);
}

int Tracker::Lend(KeyedListener* listener) {
  bool is_reported = false;
  while (true) {
    try {
      if (socket_ < 0) Connect();
      is_reported = false;
      if (offered_.empty()) Offer();
      while (true) {
        int client = listener->Accept(offered_, kPingMs);
        if (client >= 0) {
          offered_.clear();  // the device is to be offered anew
          return client;
        }
        if (IsPending()) {
          unused_ = 0;
        } else if (++unused_ > kPatience) {
          Offer();
        }
      }
    } catch (const std::runtime_error& error) {
      if (socket_ >= 0) close(socket_);
      socket_ = -1;
      offered_.clear();
      if (!is_reported) {
        std::printf("no tracker at %s:%s: %s; trying again\n", host_.c_str(), port_.c_str(),
                    error.what());
        std::fflush(stdout);
      }
      is_reported = true;
      sleep(kRetrySeconds);
    }
  }
}

void Tracker::Connect() {
  addrinfo hints{}, *result = nullptr;
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_STREAM;
  if (int code = getaddrinfo(host_.c_str(), port_.c_str(), &hints, &result)) {
    throw std::runtime_error(gai_strerror(code));
  }
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> found(result, freeaddrinfo);
  socket_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Check(socket_ >= 0, "socket");
  // Also limits how long connecting may take.
  timeval limit{kAnswerSeconds, 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
  Check(connect(socket_, found->ai_addr, found->ai_addrlen) == 0, "connect");
  int32_t magic = 0;
  if (!Send(socket_, &kTrackerMagic, sizeof(magic)) || !Receive(socket_, &magic, sizeof(magic)) ||
      magic != kTrackerMagic) {
    throw std::runtime_error("the server there is not a TVM RPC tracker");
  }
  Request("[" + std::to_string(kUpdateInfo) + ", {\"key\": \"server:" + key_ +
      "\", \"addr\": [null, " + std::to_string(served_port_) + "]}]");
  std::printf("registered as %s at the tracker %s:%s\n", key_.c_str(), host_.c_str(),
              port_.c_str());
  std::fflush(stdout);
}

void Tracker::Offer() {
  unsigned char random[16];
  Check(getrandom(random, sizeof(random), 0) == sizeof(random), "getrandom");
  unused_ = 0;
  offered_ = key_ + ":";
  for (unsigned char byte : random) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", byte);
    offered_ += digits;
  }
  Request("[" + std::to_string(kPut) + ", \"" + key_ + "\", [" + std::to_string(served_port_) +
      ", \"" + offered_ + "\"], null]");
}

bool Tracker::IsPending() {
  std::string pending = Request("[" + std::to_string(kGetPendingKeys) + "]");
  return pending.find('"' + offered_ + '"') != std::string::npos;
}

std::string Tracker::Request(const std::string& message) {
  int32_t size = static_cast<int32_t>(message.size());
  bool is_sent = Send(socket_, &size, sizeof(size)) && Send(socket_, message.data(), message.size());
  if (!is_sent || !Receive(socket_, &size, sizeof(size)) || size < 0 || size > kMaxReplyBytes) {
    throw std::runtime_error("it does not answer");
  }
  std::string reply(size, '\0');
  if (!Receive(socket_, reply.data(), reply.size())) throw std::runtime_error("it does not answer");
  return reply;
}

}  // namespace relax_tapml
