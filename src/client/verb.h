// The commands of atoll: virsh's names, arguments and output.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client/connection.h"

namespace atl::client {

/// A command's arguments, sorted out.
class Arguments {
 public:
  /// `spec`: what the command takes, blanks between: "domain" (must be given), "[file]" (may be), "--all" (a switch), "--pool="
  /// (an option with a value). Positional arguments may be given as options, too: --domain NAME.
  static Result<Arguments> parse(std::string_view spec, std::span<const std::string> words);

  const std::string& operator[](std::string_view name) const;
  bool has(std::string_view name) const { return values_.contains(std::string(name)); }

 private:
  std::map<std::string, std::string> values_;
};

/// What a command works with. Connects when it is first needed.
class Context {
 public:
  Context(std::string uri, bool read_only, bool quiet) : uri_(std::move(uri)), read_only_(read_only), quiet_(quiet) {}
  Result<Connection*> connection();
  const std::string& uri() const { return uri_; }
  /// Tables without titles.
  bool is_quiet() const { return quiet_; }
  /// Calls of the connection.
  template <class... T>
  Result<std::vector<u8>> call(Proc procedure, const T&... arguments) {
    Connection* daemon = TRY(connection());
    return daemon->call(procedure, arguments...);
  }
  template <class R, class... T>
  Result<R> get(Proc procedure, const T&... arguments) {
    Connection* daemon = TRY(connection());
    return daemon->template get<R>(procedure, arguments...);
  }

  // Objects by what people call them: a name, a uuid, for domains a number.
  Result<manage::DomainRef> domain(const std::string& name);
  Result<manage::NetworkRef> network(const std::string& name);
  Result<manage::PoolRef> pool(const std::string& name);
  /// By name in a pool, or by path or key.
  Result<manage::VolumeRef> volume(const std::string& name, const std::string& pool);

 private:
  const std::string uri_;
  const bool read_only_, quiet_;
  std::unique_ptr<Connection> connection_;
};

struct Verb {
  std::string_view name;
  std::string_view arguments;  // see Arguments::parse
  std::string_view help;
  /// What it prints.
  Result<std::string> (*run)(Context&, const Arguments&);
};

// The groups; each is defined in a file verbs_*.cc.
std::span<const Verb> domain_verbs();
std::span<const Verb> network_verbs();
std::span<const Verb> storage_verbs();
std::span<const Verb> host_verbs();
/// Which of them has that name; null if none.
const Verb* find_verb(std::string_view name);
/// All, for `atoll help` and the shell's completion.
std::string help_text();

/// A file that a command reads: definitions are small.
Result<std::string> read_document(const std::string& path);
std::string yes_no(bool yes);
/// "1.50 GiB" as virsh rounds.
std::string pretty_size(u64 bytes);

}  // namespace atl::client
