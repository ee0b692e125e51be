#include "control/qtest.h"

#include <unistd.h>

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "base/base64.h"
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

/// The widest access that is aligned at `address` and does not go past `size`.
unsigned chunk_at(u64 address, u64 size) {
  unsigned width = 4;
  while (width > size || address % width != 0) width /= 2;
  return width;
}

std::string read_bytes(machine::Machine& machine, u64 address, u64 size) {
  std::string bytes;
  for (u64 done = 0; done < size;) {
    const unsigned width = chunk_at(address + done, size - done);
    const u64 value = machine.read_bus(false, address + done, width);
    for (unsigned i = 0; i < width; ++i) bytes += static_cast<char>(value >> (8 * i));
    done += width;
  }
  return bytes;
}

/// Bytes that the text does not have are zero.
void write_bytes(machine::Machine& machine, u64 address, u64 size, std::string_view bytes) {
  for (u64 done = 0; done < size;) {
    const unsigned width = chunk_at(address + done, size - done);
    u64 value = 0;
    for (unsigned i = 0; i < width && done + i < bytes.size(); ++i) value |= u64{static_cast<u8>(bytes[done + i])} << (8 * i);
    machine.write_bus(false, address + done, value, width);
    done += width;
  }
}

std::string to_hex(std::string_view bytes) {
  std::string digits = "0x";
  for (char byte : bytes) digits += fmt::format("{:02x}", static_cast<u8>(byte));
  return digits;
}

std::optional<std::string> from_hex(std::string_view digits) {
  if (digits.starts_with("0x")) digits.remove_prefix(2);
  std::string bytes;
  for (size_t i = 0; i + 2 <= digits.size(); i += 2) {
    const auto byte = parse_hex(digits.substr(i, 2));
    if (!byte) return std::nullopt;
    bytes += static_cast<char>(*byte);
  }
  return bytes;
}

/// read, b64read: an address and a size. write, b64write, memset: also what belongs there.
std::optional<std::string> block_access(machine::Machine& machine, const Words& w) {
  static constexpr std::string_view kNames[] = {"read", "b64read", "write", "b64write", "memset"};
  const std::string_view name = w.words[0];
  if (std::ranges::find(kNames, name) == std::end(kNames)) return std::nullopt;
  const auto address = w.at(1), size = w.at(2);
  if (!address || !size || *size > kMaxBytes || *address + *size < *address) return fail("expected an address and a size");
  if (name == "read") return ok(to_hex(read_bytes(machine, *address, *size)));
  if (name == "b64read") return ok(encode_base64(read_bytes(machine, *address, *size)));
  if (w.words.size() < 4) return fail("expected data");
  const auto byte = w.at(3);
  if (name == "memset" && !byte) return fail("expected a byte");
  const auto bytes = name == "memset"  ? std::string(*size, static_cast<char>(*byte))
                     : name == "write" ? from_hex(w.words[3])
                                       : decode_base64(w.words[3]);
  if (!bytes) return fail(name == "write" ? "the data is not hexadecimal" : "the data is not base64");
  write_bytes(machine, *address, *size, *bytes);
  return "OK\n";
}

/// Guest time; "clock_step" alone goes to the next alarm. Unless the machine is idle, time also goes by itself: "clock_set" to a time
/// that has passed leaves it.
std::optional<std::string> clock_access(machine::Machine& machine, const Words& w) {
  const std::string_view name = w.words[0];
  const auto ns = w.at(1);
  if (name == "clock_step" && (ns || w.words.size() == 1)) return ok(std::to_string(machine.advance_clock(ns)));
  if (name != "clock_set") return std::nullopt;
  if (!ns) return fail("expected a time");
  const u64 now = machine.advance_clock(0);
  return ok(std::to_string(machine.advance_clock(*ns > now ? *ns - now : 0)));
}

}  // namespace

DeviceTestServer::DeviceTestServer(machine::Machine& machine, CharBackend& backend, Loop& loop, Fd log)
    : machine_(machine), backend_(backend), loop_(loop), log_(std::move(log)) {
  CharBackend::Frontend frontend;
  frontend.can_receive = [this] { return output_.empty() ? size_t{4096} : 0; };
  frontend.receive = [this](std::span<const u8> bytes) { receive(bytes); };
  frontend.event = [this](CharEvent) { input_.clear(); };
  frontend.writable = [this] { send({}); };
  backend_.attach(std::move(frontend));
}

DeviceTestServer::~DeviceTestServer() {
  *alive_ = false;
  backend_.detach();
}

/// "irq_intercept_in ioapic": from now on changes of its inputs are told, at the latest before the next answer.
std::optional<std::string> DeviceTestServer::intercept(std::string_view command, std::string_view device) {
  if (command != "irq_intercept_in") return std::nullopt;
  if (device != "ioapic") return fail("Unknown device");
  if (std::exchange(intercepting_, true)) return "OK\n";
  auto watching = machine_.watch_interrupt_lines([this, &loop = loop_, interrupts = interrupts_, alive = alive_](u32 gsi, bool level) {
    Lock lock(interrupts->mutex);
    interrupts->changes.emplace_back(gsi, level);
    if (interrupts->changes.size() > 1) return;
    loop.post([this, alive] {
      if (*alive) tell_interrupts();
    });
  });
  return watching ? "OK\n" : fail(watching.error().text());
}

void DeviceTestServer::tell_interrupts() {
  std::vector<std::pair<u32, bool>> changes;
  {
    Lock lock(interrupts_->mutex);
    changes.swap(interrupts_->changes);
  }
  for (const auto& [gsi, level] : changes) send(fmt::format("IRQ {} {}\n", level ? "raise" : "lower", gsi));
}

std::string DeviceTestServer::answer(std::string_view line) {
  Words w;
  for (std::string_view word : split(line, ' '))
    if (!word.empty()) w.words.push_back(word);
  if (w.words.empty()) return fail("empty command");
  if (w.words[0] == "endianness") return "OK little\n";
  if (auto reply = intercept(w.words[0], w.words.size() > 1 ? w.words[1] : "")) return *std::move(reply);
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
    const std::string line(trim(std::exchange(input_, {})));
    log('R', line + "\n");
    const std::string reply = answer(line);
    tell_interrupts();
    send(reply);
  }
}

void DeviceTestServer::send(std::string_view text) {
  log('S', text);
  output_ += text;
  const size_t taken = backend_.write({reinterpret_cast<const u8*>(output_.data()), output_.size()});
  output_.erase(0, taken);
  if (output_.empty() && text.empty()) backend_.accept_input();
}

/// "[R +0.001234] inb 0x60"
void DeviceTestServer::log(char direction, std::string_view line) {
  if (!log_ || line.empty()) return;
  const std::string entry = fmt::format("[{} +{:.6f}] {}", direction, static_cast<double>(monotonic_ns() - start_ns_) / 1e9, line);
  [[maybe_unused]] const ssize_t written = ::write(log_.get(), entry.data(), entry.size());
}

}  // namespace atl::control
