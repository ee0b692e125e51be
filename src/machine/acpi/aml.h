// ACPI Machine Language, built from the inside out: each function gives the bytes of one term (ACPI 6.4, chapter 20).
// Covers what our boards' tables use. Threads: pure functions.
#pragma once

#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace atl::machine::aml {

using Code = std::vector<u8>;
using Codes = std::initializer_list<Code>;

Code concat(std::span<const Code> parts);
inline Code concat(Codes parts) { return concat(std::span(parts.begin(), parts.size())); }

// Data (20.2.3). Names are paths such as "\\_SB.PCI0" or "_CRS"; each segment has at most four characters.
Code integer(u64 value);
Code text(std::string_view value);
Code path(std::string_view name);
Code buffer(std::span<const u8> data);
Code package(std::span<const Code> elements);
inline Code package(Codes elements) { return package(std::span(elements.begin(), elements.size())); }
/// A compressed EISA identifier such as "PNP0A03".
Code eisa_id(std::string_view id);

// Named objects (20.2.5).
Code name(std::string_view object, const Code& value);
Code scope(std::string_view where, Codes body);
Code device(std::string_view object, Codes body);
Code processor_device(std::string_view object, u32 uid);
enum class Serialized : bool { No, Yes };
Code method(std::string_view object, unsigned arguments, Serialized serialized, Codes body);
Code mutex(std::string_view object);
enum class Space : u8 { Memory = 0, Io = 1, PciConfig = 2 };
Code region(std::string_view object, Space space, u64 offset, u64 size);
struct FieldUnit {
  std::string_view name;  // "" skips `bits`
  u32 bits = 0;
};
enum class Access : u8 { Any = 0, Byte = 1, Word = 2, Dword = 3 };
/// Locks never, preserves bits that are not written.
Code field(std::string_view region_name, Access access, std::initializer_list<FieldUnit> units);

// Statements and operators (20.2.5.3, 20.2.5.4).
Code arg(unsigned number);
Code local(unsigned number);
Code call(std::string_view method_name, Codes arguments = {});
Code store(const Code& value, const Code& target);
Code return_value(const Code& value);
Code if_true(const Code& condition, Codes body);
Code otherwise(Codes body);
Code notify(const Code& object, const Code& value);
Code acquire(std::string_view mutex_name);  // waits for ever
Code release(std::string_view mutex_name);
Code equal(const Code& a, const Code& b);
Code bit_and(const Code& a, const Code& b, const Code& target = {});
Code bit_or(const Code& a, const Code& b, const Code& target = {});
/// A 32-bit field at a byte offset of a buffer.
Code create_dword_field(const Code& buffer_object, u64 byte, std::string_view field_name);

// Resource descriptors (6.4). resources() wraps them into a buffer with its end tag.
Code resources(std::span<const Code> descriptors);
inline Code resources(Codes descriptors) { return resources(std::span(descriptors.begin(), descriptors.size())); }
Code io(u16 base, u8 size, u8 alignment = 1);
Code irq(u8 number);  // edge, active high
struct InterruptFlags {
  bool edge = false, active_low = false, shared = false;
};
Code interrupt(std::span<const u32> gsis, InterruptFlags flags = {});
Code memory_fixed(u32 base, u32 size);
Code bus_range(u16 first, u16 last);
Code io_range(u16 first, u16 last);
Code memory_range(u64 first, u64 last);  // 32-bit if it fits, else 64-bit; read-write, not cached

}  // namespace atl::machine::aml
