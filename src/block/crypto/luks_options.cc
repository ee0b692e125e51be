// Options of creating and amending LUKS headers, in QEMU's spelling; and what amending does with the key slots.
#include <fmt/format.h>

#include <algorithm>

#include "base/strings.h"
#include "block/crypto/luks_detail.h"

namespace atl::block::crypto {
namespace {

constexpr u64 kDefaultIterationMs = 2000;

Error bad(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

/// Options reach us as text, or from QMP as what they are.
class Texts {
 public:
  Texts(const Json& options, std::string_view prefix) : options_(options), prefix_(prefix) {}

  std::optional<std::string> get(std::string_view name) const {
    auto found = options_.find(prefix_ + std::string(name));
    if (found == options_.end() || found->is_null()) return std::nullopt;
    return found->is_string() ? found->get<std::string>() : found->dump();
  }
  std::string get(std::string_view name, std::string_view fallback) const {
    auto value = get(name);
    return value && !value->empty() ? *value : std::string(fallback);
  }
  Result<std::optional<u64>> number(std::string_view name) const {
    auto text = get(name);
    if (!text) return std::optional<u64>();
    auto value = parse_u64(*text);
    if (!value) return bad(fmt::format("Parameter '{}{}' expects a number", prefix_, name));
    return value;
  }
  std::string full(std::string_view name) const { return prefix_ + std::string(name); }

 private:
  const Json& options_;
  std::string prefix_;
};

struct Change {
  bool activate = false;
  std::optional<u64> slot;
  std::optional<std::string> new_password, old_password;
  u64 iteration_ms = kDefaultIterationMs;
  bool force = false;
};

Result<std::optional<std::string>> secret_of(const Graph& graph, const Texts& texts, std::string_view name) {
  auto id = texts.get(name);
  if (!id) return std::optional<std::string>();
  return std::optional<std::string>(TRY(graph.secret(*id)));
}

Result<Change> read_change(const Graph& graph, const Texts& texts, bool force) {
  Change change;
  change.force = force;
  std::string state = texts.get("state", "");
  if (state != "active" && state != "inactive")
    return bad(fmt::format("Parameter '{}' must be 'active' or 'inactive'", texts.full("state")));
  change.activate = state == "active";
  change.slot = TRY(texts.number("keyslot"));
  if (change.slot && *change.slot >= kLuksSlots)
    return bad(fmt::format("Invalid keyslot {} specified, must be between 0 and {}", *change.slot, kLuksSlots - 1));
  change.new_password = TRY(secret_of(graph, texts, "new-secret"));
  change.old_password = TRY(secret_of(graph, texts, "old-secret"));
  auto iteration_ms = TRY(texts.number("iter-time"));
  if (iteration_ms == u64{0}) return bad("Iteration time must be greater than zero");
  if (!change.activate && change.new_password) return bad("'new-secret' must not be given when erasing keyslots");
  if (!change.activate && iteration_ms) return bad("'iter-time' must not be given when erasing keyslots");
  if (change.activate && !change.new_password) return bad("'new-secret' is required to activate a keyslot");
  change.iteration_ms = iteration_ms.value_or(kDefaultIterationMs);
  return change;
}

u64 active_slots(const LuksHeader& header) {
  u64 count = 0;
  for (const LuksSlot& slot : header.slots) count += slot.active;
  return count;
}

Result<u64> slot_to_fill(const LuksHeader& header, const Change& change) {
  if (change.slot) {
    if (header.slots[*change.slot].active && !change.force)
      return bad(fmt::format("Refusing to overwrite active keyslot {} - please erase it first", *change.slot));
    return *change.slot;
  }
  for (u64 i = 0; i < kLuksSlots; ++i)
    if (!header.slots[i].active) return i;
  return Error(ErrorKind::NoSpace, "Can't add a keyslot - all keyslots are in use", ENOSPC);
}

Task<Status> activate(Node& file, u64 base, LuksHeader& header, std::string password, Change change) {
  const u64 index = CO_TRY(slot_to_fill(header, change));
  Result<KeyBytes> unlocked = co_await unlock_luks(file, base, header, change.old_password.value_or(password));
  KeyBytes key = CO_TRY(std::move(unlocked).context("get the master key"));
  co_return co_await fill_slot(file, base, header, index, key, *change.new_password, change.iteration_ms);
}

/// The slots that an old password opens.
Task<Result<std::vector<u64>>> matching_slots(Node& file, u64 base, const LuksHeader& header, std::string password) {
  std::vector<u64> found;
  for (u64 i = 0; i < kLuksSlots; ++i) {
    if (!header.slots[i].active) continue;
    Result<KeyBytes> tried = co_await try_slot(file, base, header, i, password);
    if (!CO_TRY(std::move(tried)).empty()) found.push_back(i);
  }
  if (found.empty()) co_return bad("No keyslots match the given (old) password for erase operation");
  co_return found;
}

Task<Status> deactivate(Node& file, u64 base, LuksHeader& header, Change change) {
  std::vector<u64> slots;
  if (change.old_password) {
    Result<std::vector<u64>> matching = co_await matching_slots(file, base, header, *change.old_password);
    slots = CO_TRY(std::move(matching));
    if (change.slot && std::find(slots.begin(), slots.end(), *change.slot) == slots.end())
      co_return bad(fmt::format("Given keyslot {} didn't contain the given (old) password", *change.slot));
  }
  if (change.slot) slots = {*change.slot};
  if (slots.empty())
    co_return bad(
        "To erase keyslot(s), either explicit keyslot index or the password currently "
        "contained in them must be given");
  if (change.slot && !header.slots[*change.slot].active && !change.force)
    co_return bad(fmt::format("Given keyslot {} is already erased (inactive)", *change.slot));
  if (slots.size() >= active_slots(header) && !change.force)
    co_return bad("Refusing to erase the last active keyslots: all the data would be lost for good");
  for (u64 index : slots) {
    Status status = co_await erase_slot(file, base, header, index);
    CO_TRY(std::move(status));
  }
  co_return Status{};
}

}  // namespace

Result<LuksCreateOptions> luks_create_options(const Graph& graph, const Json& options, std::string_view prefix) {
  Texts texts(options, prefix);
  auto secret = texts.get("key-secret");
  if (!secret || secret->empty())
    return bad(fmt::format("Parameter '{}' is required for cipher", texts.full("key-secret")));
  LuksCreateOptions out = TRY(luks_cipher_options(options, prefix));
  out.password = TRY(graph.secret(*secret));
  return out;
}

Result<LuksCreateOptions> luks_cipher_options(const Json& options, std::string_view prefix) {
  Texts texts(options, prefix);
  LuksCreateOptions out;
  out.cipher.cipher = texts.get("cipher-alg", "aes-256");
  out.cipher.chaining = TRY(parse_chaining(texts.get("cipher-mode", "xts")));
  out.cipher.iv = TRY(parse_iv_kind(texts.get("ivgen-alg", "plain64")));
  out.hash = texts.get("hash-alg", "sha256");
  TRY(find_hash(out.hash));
  bool essiv = out.cipher.iv == IvKind::Essiv;
  if (essiv) out.cipher.iv_hash = texts.get("ivgen-hash-alg", "sha256");
  if (!essiv && !texts.get("ivgen-hash-alg", "").empty())
    return bad(fmt::format("'{}' goes with '{}=essiv' only", texts.full("ivgen-hash-alg"), texts.full("ivgen-alg")));
  out.iteration_ms = TRY(texts.number("iter-time")).value_or(kDefaultIterationMs);
  if (out.iteration_ms == 0) return bad("Iteration time must be greater than zero");
  TRY(key_bytes_of(out.cipher));
  return out;
}

Task<Status> amend_luks(Graph& graph, Node& file, u64 base, LuksHeader& header, std::string password, Json options,
                        std::string prefix, bool force) {
  Change change = CO_TRY(read_change(graph, Texts(options, prefix), force));
  if (change.activate) co_return co_await activate(file, base, header, std::move(password), std::move(change));
  co_return co_await deactivate(file, base, header, std::move(change));
}

}  // namespace atl::block::crypto
