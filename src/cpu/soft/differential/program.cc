#include "cpu/soft/differential/program.h"

#include <fmt/format.h>

#include "base/endian.h"

namespace atl::soft::differential {
namespace {

std::vector<u64> addresses(const Program& program) {
  std::vector<u64> at;
  u64 next = program.before.rip;
  for (const Item& item : program.items) {
    at.push_back(next);
    next += item.bytes.size();
  }
  return at;
}

/// What the field means; a patch whose instruction was removed goes to the window instead.
u64 meant(const Program& program, const std::vector<u64>& at, const Fixup& f) {
  if (f.target < 0) return f.addend;
  auto target = static_cast<size_t>(f.target);
  if (f.addend != 0 && program.items[target].bytes.empty()) return kWindow;
  return at[target] + f.addend;
}

void apply(const Program& program, const std::vector<u64>& at, size_t index, Case& c) {
  u64 start = at[index];
  for (const Fixup& f : program.items[index].fixups) {
    u64 value = meant(program, at, f) - (f.relative ? start + f.end : 0);
    if (f.size == 1 && static_cast<i64>(value) != static_cast<i8>(value)) value = 0;  // too far: to the next instruction
    store_le_n(&c.bytes[start - program.before.rip + f.at], value, f.size);
  }
}

}  // namespace

u64 Program::size_bytes() const {
  u64 size = 0;
  for (const Item& item : items) size += item.bytes.size();
  return size;
}

Case assemble(const Program& program) {
  Case c{.mode = program.mode, .bytes = {}, .text = "program", .before = program.before};
  c.sequence = true;
  c.self_modifying = program.self_modifying;
  c.cold = program.cold;
  for (const Item& item : program.items) c.bytes.insert(c.bytes.end(), item.bytes.begin(), item.bytes.end());
  std::vector<u64> at = addresses(program);
  for (size_t i = 0; i < program.items.size(); ++i)
    if (!program.items[i].bytes.empty()) apply(program, at, i, c);
  return c;
}

std::string listing(const Case& c, const Instructions& instructions) {
  std::string text;
  for (size_t at = 0; at < c.bytes.size();) {
    auto d = instructions.decode(c.mode, std::span(c.bytes).subspan(at));
    size_t length = d ? d->in.length : 1;
    std::string bytes;
    for (size_t i = 0; i < length; ++i) bytes += fmt::format("{:02x}", c.bytes[at + i]);
    text += fmt::format("  {:#x}  {:<30} {}\n", c.before.rip + at, bytes, d ? instructions.text(*d, c.before.rip + at) : "?");
    at += length;
  }
  return text;
}

}  // namespace atl::soft::differential
