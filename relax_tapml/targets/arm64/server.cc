/*!
 * \file server.cc
 * \brief A TVM RPC server for a machine with TVM's runtime libraries and no Python.
 *
 * Clients are served one after the other, each in a process of its own: a kernel that crashes
 * ends that process and not the server, and one that never returns is killed when its client has
 * gone. TVM is reached through the registry of tvm-ffi alone: its own headers are not needed.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>
#include <tvm/ffi/string.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>

#include "check.h"
#include "keyed_listener.h"
#include "tensor_exchange.h"
#include "tracker.h"

namespace relax_tapml {
namespace ffi = tvm::ffi;

constexpr int kEndingMs = 2000;
constexpr int kRetrySeconds = 1;
constexpr int kLastPort = 65535;
constexpr int kLastDescriptor = 999999;

constexpr char kUsage[] =
    "usage: server [--host ADDRESS] [--port PORT] [--tracker HOST:PORT --key KEY]\n"
    "              [--fd SOCKET] [--exchange FOLDER] [--once]\n"
    "Serves TVM RPC clients that present the key in the environment variable RELAX_TAPML_KEY,\n"
    "by default an empty one, or with --tracker those that it lends the device to, which is\n"
    "registered as KEY. --port 0 takes a free port, --fd a socket that listens already;\n"
    "--exchange lets clients on this machine pass tensors through a file there; --once ends with\n"
    "the first client.\n";

struct Options {
  std::string host = "0.0.0.0";
  int port = 9090;
  /*! \brief A socket that already listens, or -1. */
  int fd = -1;
  /*! \brief A folder to exchange tensors through, or empty: by messages only. */
  std::string exchange;
  bool once = false;
  /*! \brief HOST:PORT of a tracker, or empty, and what to register as. */
  std::string tracker, key;
};

/*! \brief A whole number from 0 to `most`; throws std::invalid_argument, which names the option. */
int ParseNumber(const std::string& option, const std::string& text, int most) {
  bool is_number = !text.empty() && text.size() < 7 &&
                   text.find_first_not_of("0123456789") == std::string::npos;
  if (!is_number || std::stoi(text) > most) {
    throw std::invalid_argument(option + ": expected a number from 0 to " + std::to_string(most) +
                                ", got " + text);
  }
  return std::stoi(text);
}

Options Parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name == "--once") {
      options.once = true;
      continue;
    }
    if (++i == argc) throw std::invalid_argument(kUsage);
    if (name == "--host") {
      options.host = argv[i];
    } else if (name == "--port") {
      options.port = ParseNumber(name, argv[i], kLastPort);
    } else if (name == "--fd") {
      options.fd = ParseNumber(name, argv[i], kLastDescriptor);
    } else if (name == "--tracker") {
      options.tracker = argv[i];
    } else if (name == "--key") {
      options.key = argv[i];
    } else if (name == "--exchange") {
      options.exchange = argv[i];
    } else {
      throw std::invalid_argument(kUsage);
    }
  }
  return options;
}

int Port(int listener) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  Check(getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
  return ntohs(address.sin_port);
}

/*! \brief Return a listening socket, and print its address. */
int Listen(const Options& options) {
  if (options.fd >= 0) return options.fd;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Check(listener >= 0, "socket");
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(options.port));
  if (inet_pton(AF_INET, options.host.c_str(), &address.sin_addr) != 1) {
    throw std::invalid_argument("--host: expected an IPv4 address, got " + options.host);
  }
  Check(bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0, "bind");
  Check(listen(listener, SOMAXCONN) == 0, "listen");
  std::printf("serving TVM RPC clients on %s:%d\n", options.host.c_str(), Port(listener));
  std::fflush(stdout);
  return listener;
}

/*! \brief Serve the requests of a client until it leaves; its files go to a folder. */
void Serve(int connection, const std::filesystem::path& folder) {
  auto path = [folder](const ffi::String& name) {
    return ffi::String((folder / std::string(name)).string());
  };
  auto load = [path](const ffi::String& name) { return ffi::Module::LoadFromFile(path(name)); };
  ffi::Function::SetGlobal("tvm.rpc.server.workpath", ffi::Function::FromTyped(path), true);
  ffi::Function::SetGlobal("tvm.rpc.server.load_module", ffi::Function::FromTyped(load), true);
  ffi::Function::GetGlobalRequired("rpc.ServerLoop")(connection);
}

/*! \brief A new folder, removed with everything in it by its owner. */
class TemporaryFolder {
 public:
  TemporaryFolder() {
    path = (std::filesystem::temp_directory_path() / "relax_tapml_XXXXXX").string();
    Check(mkdtemp(path.data()) != nullptr, "mkdtemp");
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }

  std::string path;
};

/*! \brief A file descriptor, closed by its owner. */
class Descriptor {
 public:
  explicit Descriptor(int number) : number(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { Close(); }

  void Close() {
    if (number >= 0) close(number);
    number = -1;
  }

  int number;
};

void ServeHere(int connection) {
  TemporaryFolder folder;
  Serve(connection, folder.path);
}

/*!
 * \brief Serve a client in a new process and wait for its end.
 * \param accepted A connection, which is closed here.
 */
void ServeApart(int listener, int accepted) {
  Descriptor connection(accepted);
  TemporaryFolder folder;
  // The process keeps one end of this pipe open until it ends, in whatever way.
  int alive[2];
  Check(pipe2(alive, O_CLOEXEC | O_NONBLOCK) == 0, "pipe");
  Descriptor reader(alive[0]), writer(alive[1]);
  pid_t server = getpid();
  pid_t process = fork();
  Check(process >= 0, "fork");
  if (process == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != server) _exit(1);  // the server ended before prctl, which then sends nothing
    close(listener);
    reader.Close();
    int code = 1;
    try {
      Serve(connection.number, folder.path);
      code = 0;
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    std::fflush(stdout);
    _exit(code);  // not a return: the other process removes the folder
  }
  writer.Close();
  pollfd ends[2] = {{reader.number, 0, 0}, {connection.number, POLLRDHUP, 0}};
  while (poll(ends, 2, -1) < 0 && errno == EINTR) continue;
  if (ends[0].revents == 0) poll(ends, 1, kEndingMs);  // the client has gone
  bool is_stuck = ends[0].revents == 0;
  if (is_stuck) kill(process, SIGKILL);
  int status = 0;
  waitpid(process, &status, 0);
  if (is_stuck) {
    std::printf("killed a call that went on after its client had gone\n");
  } else if (WIFSIGNALED(status)) {
    std::printf("a client's process was ended by a signal: %s\n", strsignal(WTERMSIG(status)));
  } else if (WEXITSTATUS(status) != 0) {
    std::printf("lost a client\n");
  }
  std::fflush(stdout);
}

int Main(int argc, char** argv) {
  Options options = Parse(argc, argv);
  const char* given = std::getenv("RELAX_TAPML_KEY");
  std::string key = given ? given : "";
  unsetenv("RELAX_TAPML_KEY");
  signal(SIGPIPE, SIG_IGN);
  if (!options.exchange.empty()) RegisterExchange(options.exchange);
  int listener = Listen(options);
  std::optional<Tracker> tracker;
  if (!options.tracker.empty()) tracker.emplace(options.tracker, options.key, Port(listener));
  KeyedListener keyed(listener);
  while (true) {
    try {
      int connection = tracker ? tracker->Lend(&keyed) : keyed.Accept(key, -1);
      if (options.once) {
        keyed.Close();
        ServeHere(connection);
        return 0;
      }
      ServeApart(listener, connection);
    } catch (const std::system_error& error) {
      if (options.once) throw;
      // Such as no memory, processes or files left: the next client may find some.
      std::fprintf(stderr, "a client was not served: %s\n", error.what());
      sleep(kRetrySeconds);
    }
  }
}

}  // namespace relax_tapml

int main(int argc, char** argv) {
  try {
    return relax_tapml::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
