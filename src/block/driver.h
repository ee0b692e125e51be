// Block drivers by name, and how a tree of options becomes a graph of nodes.
//
// Options are what QMP's blockdev-add takes: {"driver": "qcow2", "file": {"driver": "file", "filename": "a.qcow2"}, ...}.
// Command lines bring them flat ("file.filename=a.qcow2"), with strings for all values; readers accept both.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "block/image.h"
#include "block/node.h"
#include "block/open_mode.h"

namespace atl {
class TlsCredentials;  // base/tls.h
}

namespace atl::block {

inline constexpr u64 kProbeBytes = 2048;

/// Values that must not appear on command lines, by the id of their `-object secret`.
using Secrets = std::map<std::string, std::string>;

/// Nests flat keys: {"file.filename": "a"} becomes {"file": {"filename": "a"}}; objects whose keys are 0, 1, ... become lists.
Result<Json> nest_options(Json options);

/// Takes options out of a tree; what is left over at the end is an error that names it. A key with dots ("server.host") names
/// a place inside.
class OptionReader {
 public:
  /// `driver` for messages.
  OptionReader(Json options, std::string driver);
  bool has(std::string_view key) const;
  Result<std::string> string(std::string_view key, std::string fallback);
  Result<std::string> required_string(std::string_view key);
  Result<u64> number(std::string_view key, u64 fallback);
  Result<u64> size(std::string_view key, u64 fallback);    // "64k" too
  Result<bool> boolean(std::string_view key, bool fallback);
  /// A child: an object of options or a string (a node's name); null if absent.
  Json child(std::string_view key);
  /// Everything else below `key.`, as an object.
  Json rest(std::string_view prefix);
  Status finish() const;
  /// All that is left.
  Json all() { return std::move(options_); }

 private:
  Json* locate(std::string_view key);
  Json take(std::string_view key);
  Error invalid(std::string_view key, std::string_view expects) const;

  Json options_;
  std::string driver_;
};

/// "off", "metadata", "falloc", "full".
Result<Preallocation> parse_preallocation(const std::string& name);

struct Driver;
class Root;           // root.h
class WriteObserver;
class ThrottleGroup;

/// What a driver needs while it opens or creates.
class Graph {
 public:
  explicit Graph(Loop& loop) : loop_(loop) {}
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  Loop& loop() { return loop_; }

  /// Opens the tree, or finds the node that a string names. A tree without "driver": the format is probed from the file (never
  /// where `mode` or a parent recorded one), with the protocol from the file's name. Formats open their "file" with
  /// `graph.open(reader.child("file"), mode)`, filters too, but with mode.no_probe = false.
  Task<Result<NodePtr>> open(Json options, OpenMode mode);
  /// As a user types it: "disk.qcow2", "nbd://host/x", "json:{...}", "nbd:unix:/path". `format` "" probes.
  Task<Result<NodePtr>> open_name(std::string name, std::string format, OpenMode mode);
  /// The backing file as an image records it: relative to the image's own place (`image`: the node of the file that holds
  /// the image). Opened read-only, with the recorded format unless that is "". A chain that loops is refused.
  Task<Result<NodePtr>> open_backing(std::string name, std::string format, const Node& image, OpenMode mode);
  /// The same where the option "backing" may say otherwise: a tree, a node's name, or null and "" for none. nullptr if there
  /// is no backing file.
  Task<Result<NodePtr>> open_backing(OptionReader& reader, std::string name, std::string format, const Node& image,
                                     OpenMode mode);
  /// Creates an image, with `options` from the driver's create_options as text.
  Task<Status> create(const Driver& driver, std::string filename, Json options);

  void add_secret(std::string id, std::string value) { secrets_[std::move(id)] = std::move(value); }
  Result<std::string> secret(const std::string& id) const;

  /// Nodes that have been given a name by their user.
  NodePtr find(const std::string& node_name) const;
  /// Keeps a node until it is forgotten. Its name must be new.
  Status name_node(NodePtr node);
  /// What stands for the node on a command line: its file's name if that says all, else "json:{...}" with the options and the
  /// nodes below.
  std::string name_of(const Node& node) const;
  /// Whether who opened the node wants it to be read-only, whatever a job would like.
  bool stays_readonly(const Node& node) const;
  /// Finds the node by its name as long as it lives.
  void watch_name(const NodePtr& node);
  /// Whether a new node may be called so.
  Status check_name(const std::string& node_name) const;
  void forget(const std::string& node_name);
  const std::map<std::string, NodePtr>& nodes() const { return nodes_; }
  /// Calls close() on all nodes that nobody stands on. The first error is told; all are closed.
  Task<Status> close_all();
  // Changes while users go on (root.h). Drained, no request of any root is under way, and new ones wait.
  Task<Status> drain();
  void resume();
  bool is_drained() const { return drains_ > 0; }
  /// Puts `to` into the place of `from` under every root and every node but `to` itself and what `to` stands on. Drained.
  Status replace(const Node& from, NodePtr to);
  /// Who watches writes to a node: roots tell them.
  std::shared_ptr<std::vector<WriteObserver*>> observers(Node& node);
  void add_root(Root* root) { roots_.push_back(root); }
  void remove_root(Root* root) { std::erase(roots_, root); }
  const std::vector<Root*>& roots() const { return roots_; }
  /// Whether a root or another node stands on it.
  bool is_used(const Node& node) const;
  /// `-object throttle-group`, by id. Shared with other graphs.
  void add_throttle_group(std::shared_ptr<ThrottleGroup> group);
  void remove_throttle_group(const std::string& name) { throttle_groups_.erase(name); }
  std::shared_ptr<ThrottleGroup> throttle_group(const std::string& name) const;

  /// `-object tls-creds-x509` and `tls-creds-psk`, by id.
  void add_tls_credentials(std::string id, std::shared_ptr<const TlsCredentials> credentials) {
    tls_credentials_[std::move(id)] = std::move(credentials);
  }
  std::shared_ptr<const TlsCredentials> tls_credentials(const std::string& id) const {
    auto found = tls_credentials_.find(id);
    return found == tls_credentials_.end() ? nullptr : found->second;
  }

  /// All nodes that live, named by their user or not.
  std::vector<NodePtr> all_nodes() const;

 private:
  struct Described {
    std::string exact;   // "" if no name says all
    Json options;
  };
  Described describe(const Node& node) const;
  bool has_other_backing(const Node& node, const Json& options) const;
  Task<Result<NodePtr>> open_tree(Json options, OpenMode mode);
  Task<Result<NodePtr>> open_probed(Json options, OpenMode mode, std::string node_name);
  Task<Result<NodePtr>> open_driver(const Driver& driver, Json options, OpenMode mode, std::string node_name);

  Loop& loop_;
  u32 drains_ = 0;
  Secrets secrets_;
  std::map<std::string, NodePtr> nodes_;
  struct Living {
    std::weak_ptr<Node> node;
    Json options;            // that the driver was opened with
    bool readonly = false;   // asked for by name
  };
  std::map<std::string, Living> living_;   // by node name
  std::vector<Root*> roots_;
  struct Watched {
    std::weak_ptr<Node> node;
    std::shared_ptr<std::vector<WriteObserver*>> observers;
  };
  std::map<const Node*, Watched> watched_;
  std::map<std::string, std::shared_ptr<ThrottleGroup>> throttle_groups_;
  std::map<std::string, std::shared_ptr<const TlsCredentials>> tls_credentials_;
};

/// The options that a name stands for: {"driver": "file", "filename": ...}, or whatever "json:{...}" holds.
Result<Json> parse_image_name(std::string_view name);
/// Whether a name begins with a protocol ("nbd:", "json:"), so that it is no path.
bool has_protocol(std::string_view name);
/// A backing file's name, relative to the image that records it.
std::string resolve_backing_name(std::string_view name, std::string_view image_filename);
/// The format whose magic the first bytes bear; never null: raw, if no other.
const Driver* probe_format(std::span<const u8> head, std::string_view filename);

/// One option of `create`, `convert -o`, `amend`.
struct CreateOption {
  const char* name;
  enum Type : u8 { Text, Number, Size, Flag } type;
  const char* help;
  const char* fallback = nullptr;   // as printed by -o help
};

struct Measurement {
  u64 required = 0, fully_allocated = 0;
  std::optional<u64> bitmaps;
};

struct Driver {
  const char* name;
  bool protocol = false;      // opens names itself; formats stand on a "file" child
  /// Formats: how surely (0: not, 100: by magic) these first bytes (at most 2 KiB, fewer if the file is shorter) are ours.
  int (*probe)(std::span<const u8> head, std::string_view filename) = nullptr;
  /// Protocols: turns "nbd://..." into options; nullptr if only the plain file driver's names.
  Result<Json> (*parse_name)(std::string_view name) = nullptr;
  std::vector<std::string_view> schemes;   // "nbd", "http"
  /// `options` without "driver"; node-name, read-only, cache and discard have been taken out into `mode` and `node_name`
  /// (never empty). Where mode.discard is false, the node's discard() does nothing.
  Task<Result<NodePtr>> (*open)(Graph& graph, Json options, OpenMode mode, std::string node_name) = nullptr;
  /// Formats get the file created and opened (size 0); protocols create by name. `options` holds text for each name of
  /// create_options that was given, checked and completed with the fallbacks.
  Task<Status> (*create)(Graph& graph, NodePtr file, std::string filename, Json options) = nullptr;
  std::vector<CreateOption> create_options;
  std::vector<CreateOption> amend_options;
  /// For `measure`: `data_bytes` of `size_bytes` hold data that must be stored.
  Result<Measurement> (*measure)(u64 size_bytes, u64 data_bytes, const Json& options) = nullptr;
  bool supports_backing = false;
  bool supports_compression = false;
};

/// All drivers of this build, in the order in which `--help` lists them. Each is a row; drivers.cc holds the list.
const std::vector<const Driver*>& drivers();
const Driver* find_driver(std::string_view name);

}  // namespace atl::block
