/*!
 * \file cache_log.cc
 */
#include "cache_log.h"

#include <tvm/ffi/container/array.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/reflection/registry.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

namespace relax_tapml {
namespace {

namespace ffi = tvm::ffi;
namespace json = tvm::ffi::json;

constexpr const char* kPrefix = "vm.builtin.";
constexpr const char* kCreate = "paged_attention_kv_cache_create";
constexpr const char* kBegin = "kv_state_begin_forward";
constexpr const char* kClear = "kv_state_clear";
constexpr const char* kAdd = "kv_state_add_sequence";
constexpr const char* kRemove = "kv_state_remove_sequence";
constexpr const char* kFork = "kv_state_fork_sequence";
constexpr const char* kPop = "kv_state_popn";
constexpr const char* kWindow = "attention_kv_cache_enable_sliding_window_for_seq";
constexpr const char* kAccept = "attention_kv_cache_commit_accepted_token_tree_nodes";
constexpr const char* kLength = "attention_kv_cache_get_sequence_length";
constexpr const char* kWatched[] = {kBegin,
                                    kClear,
                                    kAdd,
                                    kRemove,
                                    kFork,
                                    kPop,
                                    kWindow,
                                    kAccept,
                                    // These change a cache in ways that no log has.
                                    "attention_kv_cache_prepare_import",
                                    "kv_cache_disagg_prepare_recv",
                                    "kv_cache_disagg_mark_send"};

constexpr int64_t kLatent = 1;   // Kinds of attention.
constexpr int64_t kSliding = 3;  // A window of the layer's own, which moves no pages.
// Arguments of kCreate.
constexpr int kSizes = 0, kKinds = 6, kAppend = 13, kArguments = 28;

struct Zeros {
  std::vector<char> bytes;
  void AllocData(DLTensor* tensor) { tensor->data = bytes.data(); }
  void FreeData(DLTensor*) {}
};

ffi::Tensor ZerosOf(std::vector<int64_t> shape) {
  DLDataType dtype{kDLFloat, 32, 1};
  ffi::Shape extents(shape);
  std::vector<char> bytes(ffi::GetDataSize(extents.Product(), dtype));
  return ffi::Tensor::FromNDAlloc(Zeros{std::move(bytes)}, extents, dtype, DLDevice{kDLCPU, 0});
}

std::vector<int64_t> Numbers(const ffi::Shape& shape) { return {shape.begin(), shape.end()}; }

json::Array JsonOf(const std::vector<int64_t>& numbers) {
  json::Array found;
  for (int64_t number : numbers) found.push_back(number);
  return found;
}

bool Contains(const ffi::Shape& shape, int64_t value) {
  return std::find(shape.begin(), shape.end(), value) != shape.end();
}

// A cache that gets the same pages. Its kernels do nothing, but for the one that shows its content,
// which notes where that is.
ffi::Any MakeShadow(const ffi::Shape& config, bool is_windowed_by_layer,
                    std::shared_ptr<std::vector<int32_t>> positions) {
  std::vector<int64_t> sizes = Numbers(config);
  if (is_windowed_by_layer && sizes[4] != 0) {
    // No window of a sequence slides then, but the cache has the pages for it.
    sizes[4] = 0;
    sizes[1] += 2 * sizes[0] * sizes[3];
  }
  sizes.resize(5);
  ffi::Function nothing = ffi::Function::FromPacked([](ffi::PackedArgs, ffi::Any*) {});
  ffi::Function note = ffi::Function::FromPacked(
      [positions = std::move(positions)](ffi::PackedArgs args, ffi::Any*) {
        auto map = args[1].cast<ffi::Tensor>();
        const auto* first = static_cast<const int32_t*>(map.data_ptr());
        positions->assign(first, first + map.shape()[0]);
      });
  ffi::Array<ffi::Any> none;
  ffi::Array<ffi::Function> merges{nothing};
  return RuntimeBuiltin(kCreate)(ffi::Shape(sizes), ffi::Shape({0, 1}), 1, 1, 1, 1, ffi::Shape({0}),
                                 false, 0, 1.0, 10000.0, 0, ZerosOf({1}), nothing, 0, none, none,
                                 none, none, none, none, none, none, merges, nothing, nothing, note,
                                 nothing);
}

}  // namespace

ffi::Function RuntimeBuiltin(const std::string& name) {
  auto found = ffi::Function::GetGlobal(kPrefix + name);
  if (!found.has_value()) {
    TVM_FFI_THROW(RuntimeError) << "this TVM has no vm.builtin." << name;
  }
  return *found;
}

CacheLog::CacheLog(std::string maker, ffi::Shape config, ffi::Shape kinds)
    : maker_(std::move(maker)),
      config_(std::move(config)),
      is_windowed_by_layer_(Contains(kinds, kSliding)),
      positions_(std::make_shared<std::vector<int32_t>>()) {
  if (Contains(kinds, kLatent)) {
    GiveUp("it has layers with latent attention (MLA)");
    return;
  }
  shadow_ = MakeShadow(config_, is_windowed_by_layer_, positions_);
}

void CacheLog::GiveUp(const std::string& reason) {
  if (!reason_.empty()) return;
  reason_ = reason;
  events_.clear();
  pass_.reset();
}

int64_t CacheLog::Family(int64_t sequence) const {
  while (families_[sequence] != sequence) {
    families_[sequence] = families_[families_[sequence]];
    sequence = families_[sequence];
  }
  return sequence;
}

int64_t CacheLog::Live(int64_t id) const {
  auto found = live_.find(id);
  if (found == live_.end()) {
    TVM_FFI_THROW(ValueError) << "sequence " << id << " was added by something that was not seen";
  }
  return found->second;
}

int64_t CacheLog::Added(int64_t id) {
  auto number = static_cast<int64_t>(ids_.size());
  ids_.push_back(id);
  families_.push_back(number);
  live_[id] = number;
  return number;
}

void CacheLog::Push(CacheEvent event) { Append(std::move(event), &events_); }

// Passes that follow one another are as one.
void CacheLog::Append(CacheEvent event, std::vector<CacheEvent>* events) {
  bool is_merged = event.what == "forward" && !event.tree && !events->empty() &&
                   events->back().what == "forward" && !events->back().tree;
  if (!is_merged) {
    events->push_back(std::move(event));
    return;
  }
  CacheEvent& last = events->back();
  for (size_t i = 0; i < event.sequences.size(); ++i) {
    auto at = std::find(last.sequences.begin(), last.sequences.end(), event.sequences[i]);
    if (at == last.sequences.end()) {
      last.sequences.push_back(event.sequences[i]);
      last.numbers.push_back(event.numbers[i]);
    } else {
      last.numbers[at - last.sequences.begin()] += event.numbers[i];
    }
  }
}

// Nothing but the tokens that it added remains of a pass.
void CacheLog::EndPass() {
  if (!pass_) return;
  CacheEvent event = std::move(pass_->event);
  pass_.reset();
  Push(std::move(event));
}

int64_t CacheLog::Length(int64_t id) const {
  return RuntimeBuiltin(kLength)(shadow_, id).cast<int64_t>();
}

std::vector<int32_t> CacheLog::Positions(int64_t id) {
  int64_t length = Length(id);
  if (length == 0) return {};
  ffi::Tensor room = ZerosOf({1, length, 1, 1});
  RuntimeBuiltin("attention_kv_cache_debug_get_kv")(shadow_, id, 0, length, room, room);
  return *positions_;
}

void CacheLog::BeginPass(const ffi::Shape& ids, const ffi::Shape& added,
                         std::optional<Sequences> tree) {
  CachePass pass;
  pass.event.what = "forward";
  pass.event.numbers = Numbers(added);
  pass.event.tree = std::move(tree);
  for (int64_t id : ids) {
    pass.event.sequences.push_back(Live(id));
    pass.before.push_back(Positions(id));
    // A tree is given for all of them at once.
    if (pass.event.tree) families_[Family(Live(id))] = Family(pass.event.sequences[0]);
  }
  if (pass.event.tree) {
    RuntimeBuiltin(kBegin)(shadow_, ids, added, ffi::Shape(*pass.event.tree));
  } else {
    RuntimeBuiltin(kBegin)(shadow_, ids, added);
  }
  // Accepting a tree needs what this copies to the device.
  RuntimeBuiltin("attention_kv_cache_get_query_positions")(shadow_);
  for (int64_t id : ids) pass.after.push_back(Positions(id));
  pass_ = std::move(pass);
}

// A pass whose tree was accepted, but for some tokens, is a pass without one that some tokens were
// popped after.
void CacheLog::Accept(const ffi::Shape& ids, const ffi::Shape& leaves) {
  std::map<int64_t, int64_t> lengths;
  for (const auto& [id, sequence] : live_) lengths[id] = Length(id);
  RuntimeBuiltin(kAccept)(shadow_, ids, leaves);
  std::set<int64_t> accepted;
  for (int64_t id : ids) accepted.insert(Live(id));
  std::vector<CacheEvent> events;
  std::swap(events, events_);
  for (CacheEvent& event : events) {
    if (!event.tree) {
      Push(std::move(event));
      continue;
    }
    CacheEvent plain{"forward", {}, {}, std::nullopt}, rest{"forward", {}, {}, Sequences()};
    size_t first = 0;
    for (size_t i = 0; i < event.sequences.size(); ++i) {
      bool is_accepted = accepted.count(event.sequences[i]) != 0;
      CacheEvent& to = is_accepted ? plain : rest;
      to.sequences.push_back(event.sequences[i]);
      to.numbers.push_back(event.numbers[i]);
      auto from = event.tree->begin() + static_cast<int64_t>(first);
      if (!is_accepted) rest.tree->insert(rest.tree->end(), from, from + event.numbers[i]);
      first += static_cast<size_t>(event.numbers[i]);
    }
    if (!plain.sequences.empty()) Push(std::move(plain));
    if (!rest.sequences.empty()) Push(std::move(rest));
  }
  for (const auto& [id, length] : lengths) {
    if (int64_t popped = length - Length(id)) Pop(Live(id), popped);
  }
}

void CacheLog::Pop(int64_t sequence, int64_t count) {
  if (count == 0) return;
  CacheEvent* last = events_.empty() ? nullptr : &events_.back();
  if (last != nullptr && last->what == "forward" && !last->tree && windowed_.count(sequence) == 0) {
    auto at = std::find(last->sequences.begin(), last->sequences.end(), sequence);
    auto place = at - last->sequences.begin();
    if (at != last->sequences.end() && last->numbers[place] >= count) {
      last->numbers[place] -= count;
      if (last->numbers[place] == 0) {
        last->sequences.erase(at);
        last->numbers.erase(last->numbers.begin() + place);
        if (last->sequences.empty()) events_.pop_back();
      }
      return;
    }
  }
  Push({"pop", {sequence}, {count}, std::nullopt});
}

// What concerns only sequences that are gone, and that share nothing with others, is left out.
void CacheLog::Forget(int64_t id) {
  int64_t gone = Family(Live(id));
  Push({"remove", {Live(id)}, {}, std::nullopt});
  live_.erase(id);
  for (const auto& [other, sequence] : live_) {
    if (Family(sequence) == gone) return;
  }
  std::vector<CacheEvent> events;
  std::swap(events, events_);
  for (CacheEvent& event : events) {
    CacheEvent kept = Of(event, [&](int64_t family) { return family != gone; });
    if (!kept.sequences.empty()) Push(std::move(kept));
  }
}

CacheEvent CacheLog::Of(const CacheEvent& event, const std::function<bool(int64_t)>& is_kept) const {
  CacheEvent kept{event.what, {}, {}, event.tree};
  bool is_forward = event.what == "forward";
  for (size_t i = 0; i < event.sequences.size(); ++i) {
    if (!is_kept(Family(event.sequences[i]))) continue;
    kept.sequences.push_back(event.sequences[i]);
    if (is_forward) kept.numbers.push_back(event.numbers[i]);
  }
  if (!is_forward) kept.numbers = event.numbers;
  return kept;
}

void CacheLog::Note(const std::string& builtin, ffi::PackedArgs args) {
  if (!reason_.empty()) return;
  try {
    EndPass();
    if (builtin == kBegin) {
      std::optional<Sequences> tree;
      if (args.size() > 3) {
        if (auto given = args[3].as<ffi::Shape>()) tree = Numbers(*given);
      }
      BeginPass(args[1].cast<ffi::Shape>(), args[2].cast<ffi::Shape>(), std::move(tree));
      return;
    }
    if (builtin == kAccept) {
      Accept(args[1].cast<ffi::Shape>(), args[2].cast<ffi::Shape>());
      return;
    }
    if (builtin.rfind("kv_state_", 0) != 0 && builtin != kWindow) {
      GiveUp("vm.builtin." + builtin + " changed it");
      return;
    }
    bool is_unmoving = builtin == kWindow && is_windowed_by_layer_;
    std::vector<ffi::AnyView> same{shadow_};
    for (int i = 1; i < args.size(); ++i) same.push_back(args[i]);
    ffi::Any result;
    if (!is_unmoving) {
      RuntimeBuiltin(builtin).CallPacked(same.data(), static_cast<int32_t>(same.size()), &result);
    }
    auto number = [&args](int at) { return args[at].cast<int64_t>(); };
    if (builtin == kAdd) {
      Push({"add", {Added(number(1))}, {}, std::nullopt});
    } else if (builtin == kRemove) {
      Forget(number(1));
    } else if (builtin == kFork) {
      int64_t parent = Live(number(1)), child = Added(number(2));
      families_[Family(child)] = Family(parent);
      Push({"fork", {parent, child}, {args.size() > 3 ? number(3) : -1}, std::nullopt});
    } else if (builtin == kPop) {
      Pop(Live(number(1)), number(2));
    } else if (builtin == kWindow) {
      windowed_.insert(Live(number(1)));
      Push({"window", {Live(number(1))}, {number(2), number(3)}, std::nullopt});
    } else {
      events_.clear();
      live_.clear();
    }
  } catch (const ffi::Error& error) {
    GiveUp(error.message());
  }
}

void CacheLog::NotePages(const ffi::Tensor& pages) {
  if (layer_ >= 0) pages_[layer_] = pages;
}

const ffi::Tensor* CacheLog::pages(int64_t layer) const {
  auto found = pages_.find(layer);
  return found == pages_.end() ? nullptr : &found->second;
}

const CachePass& CacheLog::Checked(const ffi::Any& cache) {
  for (const char* about : {"attention_kv_cache_get_total_sequence_length",
                            "attention_kv_cache_get_num_available_pages"}) {
    if (!reason_.empty()) break;
    ffi::Function count = RuntimeBuiltin(about);
    if (count(cache).cast<int64_t>() != count(shadow_).cast<int64_t>()) {
      GiveUp("something changed it that was not seen");
    }
  }
  if (reason_.empty() && !pass_) GiveUp("it is in no forward pass");
  if (!reason_.empty()) TVM_FFI_THROW(ValueError) << reason_;
  return *pass_;
}

ffi::String CacheLog::Describe() const {
  std::set<int64_t> families;
  for (int64_t sequence : pass_->event.sequences) families.insert(Family(sequence));
  std::vector<CacheEvent> kept;
  for (const CacheEvent& event : events_) {
    CacheEvent own = Of(event, [&](int64_t family) { return families.count(family) != 0; });
    if (!own.sequences.empty()) Append(std::move(own), &kept);
  }
  kept.push_back(pass_->event);
  json::Array events;
  for (const CacheEvent& event : kept) {
    std::vector<int64_t> ids;
    for (int64_t sequence : event.sequences) ids.push_back(ids_[sequence]);
    json::Object found;
    found.Set("what", ffi::String(event.what));
    found.Set("sequences", JsonOf(ids));
    found.Set("numbers", JsonOf(event.numbers));
    if (event.tree) found.Set("tree", JsonOf(*event.tree));
    events.push_back(found);
  }
  std::vector<int64_t> held;
  for (const std::vector<int32_t>& tokens : pass_->before) {
    held.push_back(static_cast<int64_t>(tokens.size()));
  }
  json::Object state;
  state.Set("maker", ffi::String(maker_));
  state.Set("config", JsonOf(Numbers(config_)));
  state.Set("held", JsonOf(held));
  state.Set("events", events);
  return json::Stringify(state);
}

namespace {

// The logs of this process. A log lives as long as its cache, which holds it by way of a kernel.
class CacheLogs {
 public:
  static CacheLogs& Global() {
    static CacheLogs* logs = new CacheLogs();
    return *logs;
  }

  std::shared_ptr<CacheLog> Find(const ffi::AnyView& cache) {
    const ffi::Object* object = cache.as<ffi::Object>();
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = logs_.find(object);
    return object == nullptr || found == logs_.end() ? nullptr : found->second.lock();
  }

  void Add(const ffi::Any& cache, const std::shared_ptr<CacheLog>& log) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = logs_.begin(); it != logs_.end();) {
      it = it->second.expired() ? logs_.erase(it) : std::next(it);
    }
    logs_[cache.as<ffi::Object>()] = log;
  }

  bool is_watching() {
    std::lock_guard<std::mutex> lock(mutex_);
    return !originals_.empty();
  }

  void Watch(bool is_watching) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (is_watching != originals_.empty()) return;
    if (!is_watching) {
      for (const auto& [name, original] : originals_) {
        ffi::Function::SetGlobal(kPrefix + name, original, true);
      }
      originals_.clear();
      return;
    }
    for (const std::string name : kWatched) {
      auto original = ffi::Function::GetGlobal(kPrefix + name);
      if (!original.has_value()) continue;
      originals_[name] = *original;
      ffi::Function::SetGlobal(kPrefix + name, Watched(name, *original), true);
    }
  }

 private:
  static ffi::Function Watched(const std::string& name, ffi::Function original) {
    return ffi::Function::FromPacked(
        [name, original = std::move(original)](ffi::PackedArgs args, ffi::Any* result) {
          std::shared_ptr<CacheLog> log = args.size() > 0 ? LogOf(args[0]) : nullptr;
          try {
            original.CallPacked(args, result);
          } catch (...) {
            if (log != nullptr) log->GiveUp("vm.builtin." + name + " failed on it");
            throw;
          }
          if (log != nullptr) log->Note(name, args);
        });
  }

  std::mutex mutex_;
  std::unordered_map<const ffi::Object*, std::weak_ptr<CacheLog>> logs_;
  std::map<std::string, ffi::Function> originals_;
};

// Makes a cache, as the runtime does. While a recorder is active, it gets a log.
void Create(ffi::PackedArgs args, ffi::Any* result) {
  ffi::Function create = RuntimeBuiltin(kCreate);
  ffi::PackedArgs given = args.Slice(1);
  auto append = given.size() < kArguments ? ffi::Optional<ffi::Function>(std::nullopt)
                                          : given[kAppend].as<ffi::Function>();
  if (!append.has_value() || !CacheLogs::Global().is_watching()) {
    create.CallPacked(given, result);
    return;
  }
  std::shared_ptr<CacheLog> log;
  try {
    log = std::make_shared<CacheLog>(args[0].cast<std::string>(), given[kSizes].cast<ffi::Shape>(),
                                     given[kKinds].cast<ffi::Shape>());
  } catch (const ffi::Error&) {
    create.CallPacked(given, result);  // Of another TVM: it has no log, and is as it would be.
    return;
  }
  ffi::Function noting = ffi::Function::FromPacked(
      [log, append = *append](ffi::PackedArgs args, ffi::Any* result) {
        if (auto pages = args[0].as<ffi::Tensor>()) log->NotePages(*pages);
        append.CallPacked(args, result);
      });
  std::vector<ffi::AnyView> changed;
  for (int i = 0; i < given.size(); ++i) changed.push_back(given[i]);
  changed[kAppend] = noting;
  create.CallPacked(ffi::PackedArgs(changed.data(), static_cast<int32_t>(changed.size())), result);
  CacheLogs::Global().Add(*result, log);
}

}  // namespace

std::shared_ptr<CacheLog> LogOf(const ffi::AnyView& cache) {
  return CacheLogs::Global().Find(cache);
}

void WatchCaches(bool is_watching) { CacheLogs::Global().Watch(is_watching); }

TVM_FFI_STATIC_INIT_BLOCK() {
  namespace refl = tvm::ffi::reflection;
  refl::GlobalDef().def_packed("relax_tapml.cache.create", Create);
}

}  // namespace relax_tapml
