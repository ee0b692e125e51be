#include "control/qtest.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/strings.h"

namespace atl::control {
namespace {

constexpr u64 kMaxBytes = kMiB;  // of one command

/// Numbers as C spells them: 10, 0x1f, 017.
std::optional<u64> number(std::string_view word) {
  if (word.starts_with("0x") || word.starts_with("0X")) return parse_hex(word.substr(2));
  return parse_u64(word);
}

/// A command's words, as far as they are numbers.
struct Words {
  std::vector<std::string_view> words;

  std::optional<u64> at(size_t index) const { return index < words.size() ? number(words[index]) : std::nullopt; }
};

std::optional<unsigned> width_of(char letter, std::string_view letters) {
  const size_t at = letters.find(letter);
  if (at == letters.npos) return std::nullopt;
  return 1U << at;
}

std::string ok(const std::string& value) { return "OK " + value + "\n"; }
std::string fail(std::string_view why) { return fmt::format("FAIL {}\n", why); }

/// "inb 0x60", "outl 0xcf8 0x80000000".
std::optional<std::string> port_access(machine::Machine& machine, const Words& w) {
  const std::string_view name = w.words[0];
  const bool in = name.starts_with("in");
  if ((!in && !name.starts_with("out")) || name.size() != (in ? 3 : 4)) return std::nullopt;
  const auto width = width_of(name.back(), "bwl");
  if (!width) return std::nullopt;
  const auto port = w.at(1), value = w.at(2);
  if (!port || *port > 0xffff || (!in && !value)) return fail("expected a port and a value");
  if (in) return ok(fmt::format("0x{:04x}", machine.read_bus(true, *port, *width)));
  machine.write_bus(true, *port, *value, *width);
  return "OK\n";
}

/// "readl 0xfee00030", "writeq 0x1000 1".
std::optional<std::string> memory_access(machine::Machine& machine, const Words& w) {
  const std::string_view name = w.words[0];
  const bool in = name.starts_with("read");
  if ((!in && !name.starts_with("write")) || name.size() != (in ? 5 : 6)) return std::nullopt;
  const auto width = width_of(name.back(), "bwlq");
  if (!width) return std::nullopt;
  const auto address = w.at(1), value = w.at(2);
  if (!address || (!in && !value)) return fail("expected an address and a value");
  if (in) return ok(fmt::format("0x{:016x}", machine.read_bus(false, *address, *width)));
  machine.write_bus(false, *address, *value, *width);
  return "OK\n";
}

/// "read 0x1000 16": the bytes in hexadecimal.
std::string read_bytes(machine::Machine& machine, u64 address, u64 size) {
  std::string digits = "0x";
  for (u64 i = 0; i < size; ++i) digits += fmt::format("{:02x}", machine.read_bus(false, address + i, 1));
  return ok(digits);
}

/// "write 0x1000 3 0x0102ff": missing bytes are zero.
std::string write_bytes(machine::Machine& machine, u64 address, u64 size, std::string_view digits) {
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  for (u64 i = 0; i < size; ++i) {
    const auto byte = 2 * i + 2 <= digits.size() ? parse_hex(digits.substr(2 * i, 2)) : 0;
    if (!byte) return fail("the data is not hexadecimal");
    machine.write_bus(false, address + i, *byte, 1);
  }
  return "OK\n";
}

/// read, write, memset: an address and a size, and what belongs there.
std::optional<std::string> block_access(machine::Machine& machine, const Words& w) {
  const std::string_view name = w.words[0];
  if (name != "read" && name != "write" && name != "memset") return std::nullopt;
  const auto address = w.at(1), size = w.at(2);
  if (!address || !size || *size > kMaxBytes) return fail("expected an address and a size");
  if (name == "read") return read_bytes(machine, *address, *size);
  if (w.words.size() < 4) return fail("expected data");
  if (name == "write") return write_bytes(machine, *address, *size, w.words[3]);
  const auto byte = w.at(3);
  if (!byte) return fail("expected a byte");
  for (u64 i = 0; i < *size; ++i) machine.write_bus(false, *address + i, *byte & 0xff, 1);
  return "OK\n";
}

/// Guest time. It also goes by itself while the machine runs: "clock_set" to a time that has passed leaves it.
std::optional<std::string> clock_access(machine::Machine& machine, const Words& w) {
  const std::string_view name = w.words[0];
  const auto ns = w.at(1);
  if (name == "clock_step" && ns) return ok(std::to_string(machine.advance_clock(*ns)));
  if (name != "clock_set") return std::nullopt;
  if (!ns) return fail("expected a time");
  const u64 now = machine.advance_clock(0);
  return ok(std::to_string(machine.advance_clock(*ns > now ? *ns - now : 0)));
}

}  // namespace

DeviceTestServer::DeviceTestServer(machine::Machine& machine, CharBackend& backend) : machine_(machine), backend_(backend) {
  CharBackend::Frontend frontend;
  frontend.can_receive = [this] { return output_.empty() ? size_t{4096} : 0; };
  frontend.receive = [this](std::span<const u8> bytes) { receive(bytes); };
  frontend.event = [this](CharEvent) { input_.clear(); };
  frontend.writable = [this] { send({}); };
  backend_.attach(std::move(frontend));
}

std::string DeviceTestServer::answer(std::string_view line) {
  Words w;
  for (std::string_view word : split(line, ' '))
    if (!word.empty()) w.words.push_back(word);
  if (w.words.empty()) return fail("empty command");
  if (w.words[0] == "endianness") return "OK little\n";
  for (auto access : {port_access, memory_access, block_access, clock_access})
    if (auto reply = access(machine_, w)) return *std::move(reply);
  return fail(fmt::format("Unknown command '{}'", w.words[0]));
}

void DeviceTestServer::receive(std::span<const u8> bytes) {
  for (u8 byte : bytes) {
    if (byte != '\n') {
      if (input_.size() < kMaxLine) input_.push_back(static_cast<char>(byte));
      continue;
    }
    send(answer(trim(std::exchange(input_, {}))));
  }
}

void DeviceTestServer::send(std::string_view text) {
  output_ += text;
  const size_t taken = backend_.write({reinterpret_cast<const u8*>(output_.data()), output_.size()});
  output_.erase(0, taken);
  if (output_.empty() && text.empty()) backend_.accept_input();
}

}  // namespace atl::control
