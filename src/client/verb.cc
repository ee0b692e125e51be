#include "client/verb.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/strings.h"
#include "manage/uuid.h"

namespace atl::client {

using manage::Error;

namespace {

Error usage(std::string text) {
  return manage::Error::received(manage::Code::InvalidArg, manage::Part::None, std::move(text));
}

std::vector<std::string_view> words_of(std::string_view spec) {
  auto words = split(spec, ' ');
  std::erase(words, "");
  return words;
}

std::string_view bare(std::string_view word) {
  if (word.starts_with("--")) word.remove_prefix(2);
  if (word.starts_with('[')) word = word.substr(1, word.size() - 2);
  if (word.ends_with('=')) word.remove_suffix(1);
  return word;
}

}  // namespace

Result<Arguments> Arguments::parse(std::string_view spec, std::span<const std::string> words) {
  Arguments result;
  std::vector<std::string_view> known = words_of(spec);
  auto next_positional = [&]() -> std::string_view {
    for (std::string_view word : known)
      if (!word.starts_with("--") && !result.has(bare(word))) return bare(word);
    return {};
  };
  for (size_t i = 0; i < words.size(); ++i) {
    if (!words[i].starts_with("--")) {
      std::string_view name = next_positional();
      if (name.empty()) return usage(fmt::format("unexpected data '{}'", words[i]));
      result.values_.emplace(name, words[i]);
      continue;
    }
    size_t equals = words[i].find('=');
    std::string name = words[i].substr(2, equals == words[i].npos ? equals : equals - 2);
    auto found = std::ranges::find_if(known, [&](std::string_view word) { return bare(word) == name; });
    if (found == known.end()) return usage(fmt::format("command doesn't support option --{}", name));
    bool is_switch = found->starts_with("--") && !found->ends_with('=');
    if (is_switch) {
      result.values_.emplace(name, "");
    } else if (equals != words[i].npos) {
      result.values_.emplace(name, words[i].substr(equals + 1));
    } else if (++i < words.size()) {
      result.values_.emplace(name, words[i]);
    } else {
      return usage(fmt::format("expected syntax: --{} <string>", name));
    }
  }
  for (std::string_view word : known)
    if (!word.starts_with("--") && !word.starts_with('[') && !result.has(word))
      return usage(fmt::format("command requires <{}> option", word));
  return result;
}

const std::string& Arguments::operator[](std::string_view name) const {
  static const std::string none;
  auto found = values_.find(std::string(name));
  return found == values_.end() ? none : found->second;
}

Result<Connection*> Context::connection() {
  if (!connection_) connection_ = TRY(Connection::open(uri_, read_only_));
  return connection_.get();
}

Result<manage::DomainRef> Context::domain(const std::string& name) {
  Connection* daemon = TRY(connection());
  if (auto id = parse_u64(name); id && *id < 1u << 31) {
    auto found = daemon->get<manage::DomainRef>(Proc::DOMAIN_LOOKUP_BY_ID, static_cast<i32>(*id));
    if (found) return found;
  }
  if (auto uuid = manage::parse_uuid(name)) {
    auto found = daemon->get<manage::DomainRef>(Proc::DOMAIN_LOOKUP_BY_UUID, *uuid);
    if (found) return found;
  }
  auto found = daemon->get<manage::DomainRef>(Proc::DOMAIN_LOOKUP_BY_NAME, name);
  if (!found) return usage(fmt::format("failed to get domain '{}'", name));
  return found;
}

Result<manage::NetworkRef> Context::network(const std::string& name) {
  Connection* daemon = TRY(connection());
  if (auto uuid = manage::parse_uuid(name)) {
    auto found = daemon->get<manage::NetworkRef>(Proc::NETWORK_LOOKUP_BY_UUID, *uuid);
    if (found) return found;
  }
  auto found = daemon->get<manage::NetworkRef>(Proc::NETWORK_LOOKUP_BY_NAME, name);
  if (!found) return usage(fmt::format("failed to get network '{}'", name));
  return found;
}

Result<manage::PoolRef> Context::pool(const std::string& name) {
  Connection* daemon = TRY(connection());
  if (auto uuid = manage::parse_uuid(name)) {
    auto found = daemon->get<manage::PoolRef>(Proc::STORAGE_POOL_LOOKUP_BY_UUID, *uuid);
    if (found) return found;
  }
  auto found = daemon->get<manage::PoolRef>(Proc::STORAGE_POOL_LOOKUP_BY_NAME, name);
  if (!found) return usage(fmt::format("failed to get pool '{}'", name));
  return found;
}

Result<manage::VolumeRef> Context::volume(const std::string& name, const std::string& pool_name) {
  Connection* daemon = TRY(connection());
  Result<manage::VolumeRef> found = manage::no_storage_vol(name);
  if (!pool_name.empty()) {
    manage::PoolRef where = TRY(pool(pool_name));
    found = daemon->get<manage::VolumeRef>(Proc::STORAGE_VOL_LOOKUP_BY_NAME, where, name);
  }
  if (!found) found = daemon->get<manage::VolumeRef>(Proc::STORAGE_VOL_LOOKUP_BY_KEY, name);
  if (!found) found = daemon->get<manage::VolumeRef>(Proc::STORAGE_VOL_LOOKUP_BY_PATH, name);
  if (!found) return usage(fmt::format("failed to get vol '{}'", name));
  return found;
}

const Verb* find_verb(std::string_view name) {
  for (std::span<const Verb> group : {domain_verbs(), network_verbs(), storage_verbs(), host_verbs()})
    for (const Verb& verb : group)
      if (verb.name == name) return &verb;
  return nullptr;
}

std::string help_text() {
  std::string text;
  struct Group {
    std::string_view title;
    std::span<const Verb> verbs;
  };
  for (const Group& group : {Group{"Domains", domain_verbs()},
                             {"Networks", network_verbs()},
                             {"Storage", storage_verbs()},
                             {"Host", host_verbs()}}) {
    text += fmt::format(" {}:\n", group.title);
    for (const Verb& verb : group.verbs) text += fmt::format("    {:<30} {}\n", verb.name, verb.help);
    text += '\n';
  }
  return text;
}

Result<std::string> read_document(const std::string& path) {
  auto text = read_file(path, 4 * kMiB);
  if (!text) return std::move(text).error();
  return *std::move(text);
}

std::string yes_no(bool yes) { return yes ? "yes" : "no"; }

std::string pretty_size(u64 bytes) {
  constexpr std::string_view kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  size_t unit = 0;
  double value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  return fmt::format("{:.2f} {}", value, kUnits[unit]);
}

}  // namespace atl::client
