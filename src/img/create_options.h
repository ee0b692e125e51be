// The -o options of create, convert and amend: checked against a driver's table, completed, listed.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "block/driver.h"

namespace atl::img {

using block::CreateOption;
using block::Json;

/// Options by name as text, in a table's order.
class CreateOptions {
 public:
  explicit CreateOptions(std::vector<CreateOption> table) : table_(std::move(table)) {}
  /// What `format` takes, and what the protocol of `filename` takes besides ("": none).
  static Result<CreateOptions> of(const block::Driver& format, const std::string& filename);

  const std::vector<CreateOption>& table() const { return table_; }
  bool knows(std::string_view name) const;
  /// "a=b,c=d"; errors as QEMU words them. Sizes become bytes.
  Status parse(std::string_view text);
  Status set(const std::string& name, const std::string& value);
  bool has(const std::string& name) const { return values_.contains(name); }
  std::string get(const std::string& name) const { return values_.value(name, ""); }
  void erase(const std::string& name) { values_.erase(name); }
  /// Fallbacks where nothing was given.
  void complete();
  /// " cluster_size=65536 size=1024", with fallbacks, in the table's order.
  std::string line() const;
  const Json& values() const { return values_; }

 private:
  std::vector<CreateOption> table_;
  Json values_ = Json::object();
};

/// Whether a list of -o was "help" or "?", or had it in it. Lists that begin or end with a comma are refused first.
Result<bool> asks_option_help(const std::vector<std::string>& lists);
/// A line an option, sorted by name.
std::string option_help(std::vector<CreateOption> table);
/// For create and convert. "" as `filename` if none was given.
Result<std::string> creation_help(const std::string& format, const std::string& filename);

/// The protocol driver that a name belongs to ("nbd://..." or a plain file name).
Result<const block::Driver*> protocol_of(const std::string& filename);

}  // namespace atl::img
