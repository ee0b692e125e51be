// Options as QEMU's command line spells them: "virtio-blk-pci,drive=d0,serial=a,,b". A comma in a value is doubled.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace atl {

/// An ordered list of keys and values. Users take out what they know and end with expect_empty(), so that an unknown key
/// is refused by name. Of several values for one key the last counts, unless the user asks for all of them.
class KeyValues {
 public:
  struct Entry {
    std::string key;
    std::string value;  // "on" for a bare key
    bool bare = false;  // without "="
  };

  /// A first part without "=" is the value of `implied_key`, if that is not empty; any later one is a bare key. An empty
  /// key is an error.
  static Result<KeyValues> parse(std::string_view text, std::string_view implied_key = {});
  KeyValues() = default;

  const std::vector<Entry>& entries() const { return entries_; }
  bool empty() const { return entries_.empty(); }
  /// The last value of `key`, or nullptr.
  const std::string* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  std::string get(std::string_view key, std::string_view fallback = {}) const;
  /// Whether help is asked for: a value "help" or "?" of the implied key, or such a bare key.
  bool asks_help() const;
  /// Appends, as if it stood last.
  void set(std::string key, std::string value);

  // Taking removes every entry of `key`. Errors name the key and the value.
  std::optional<std::string> take(std::string_view key);
  std::vector<std::string> take_all(std::string_view key);
  Result<std::string> take_required(std::string_view key);
  Result<u64> take_u64(std::string_view key, u64 fallback, u64 max = ~u64{0});
  Result<u64> take_size(std::string_view key, u64 fallback, char default_suffix = 'B');
  /// on/off, yes/no, true/false, y/n; a bare key means on, a bare "no" + key off.
  Result<bool> take_bool(std::string_view key, bool fallback);
  /// The index of the value in `choices`; `fallback` if the key is missing. The error lists the choices.
  Result<size_t> take_choice(std::string_view key, std::span<const std::string_view> choices, size_t fallback);
  /// Every entry whose key begins with `prefix` ("file."), with the prefix cut off.
  KeyValues take_prefix(std::string_view prefix);
  /// An error that names the first key left over, e.g. "Invalid parameter 'foo'".
  Status expect_empty() const;

 private:
  std::vector<Entry> entries_;
};

/// on/off, yes/no, true/false, y/n.
std::optional<bool> parse_bool(std::string_view text);

}  // namespace atl
