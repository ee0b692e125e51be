#include "machine/acpi/aml.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/endian.h"

namespace atl::machine::aml {
namespace {

enum Op : u8 {
  kZero = 0x00, kOne = 0x01, kName = 0x08, kByte = 0x0a, kWord = 0x0b, kDword = 0x0c, kString = 0x0d, kQword = 0x0e,
  kScope = 0x10, kBuffer = 0x11, kPackage = 0x12, kMethod = 0x14, kDualName = 0x2e, kMultiName = 0x2f, kExtended = 0x5b,
  kLocal0 = 0x60, kArg0 = 0x68, kStore = 0x70, kAnd = 0x7b, kOr = 0x7d, kNotify = 0x86, kCreateDword = 0x8a,
  kLogicalEqual = 0x93, kIf = 0xa0, kElse = 0xa1, kReturn = 0xa4,
};
enum ExtendedOp : u8 { kMutex = 0x01, kAcquire = 0x23, kRelease = 0x27, kRegion = 0x80, kField = 0x81, kDevice = 0x82 };

void append(Code& out, const Code& more) { out.insert(out.end(), more.begin(), more.end()); }

template <class T>
void append_le(Code& out, T value) {
  const size_t at = out.size();
  out.resize(at + sizeof value);
  store_le(&out[at], value);
}

/// PkgLength (20.2.4): counts itself; one to four bytes.
Code package_length(size_t body_bytes) {
  if (body_bytes + 1 < 0x40) return {static_cast<u8>(body_bytes + 1)};
  size_t extra = 1;
  while (body_bytes + 1 + extra >= size_t{1} << (4 + 8 * extra)) ++extra;
  const size_t length = body_bytes + 1 + extra;
  Code out = {static_cast<u8>(extra << 6 | (length & 0xf))};
  for (size_t i = 0; i < extra; ++i) out.push_back(static_cast<u8>(length >> (4 + 8 * i)));
  return out;
}

/// An opcode whose operands are counted by a PkgLength.
Code block(Codes opcode_parts, const Code& body) {
  Code out = concat(opcode_parts);
  append(out, package_length(body.size()));
  append(out, body);
  return out;
}

Code segment(std::string_view name) {
  CHECK(!name.empty() && name.size() <= 4);
  Code out(name.begin(), name.end());
  out.resize(4, '_');
  return out;
}

Code large_descriptor(u8 type, const Code& body) {
  Code out = {static_cast<u8>(0x80 | type)};
  append_le(out, static_cast<u16>(body.size()));
  append(out, body);
  return out;
}

/// Word, DWord and QWord address space descriptors share their layout (6.4.3.5).
template <class T>
Code address_range(u8 type, u8 resource_type, u8 type_flags, T first, T last) {
  Code body = {resource_type, 0x0c, type_flags};  // minimum and maximum fixed, positive decode, producer
  append_le(body, T{0});                          // granularity
  append_le(body, first);
  append_le(body, last);
  append_le(body, T{0});                          // translation
  append_le(body, static_cast<T>(last - first + 1));
  return large_descriptor(type, body);
}

}  // namespace

Code concat(std::span<const Code> parts) {
  Code out;
  for (const Code& part : parts) append(out, part);
  return out;
}

Code integer(u64 value) {
  if (value == 0) return {kZero};
  if (value == 1) return {kOne};
  Code out;
  if (value <= 0xff) {
    out = {kByte, static_cast<u8>(value)};
  } else if (value <= 0xffff) {
    out = {kWord};
    append_le(out, static_cast<u16>(value));
  } else if (value <= 0xffffffff) {
    out = {kDword};
    append_le(out, static_cast<u32>(value));
  } else {
    out = {kQword};
    append_le(out, value);
  }
  return out;
}

Code text(std::string_view value) {
  Code out(value.size() + 2);  // ends with a zero
  out[0] = kString;
  std::copy(value.begin(), value.end(), out.begin() + 1);
  return out;
}

Code path(std::string_view name) {
  Code out;
  while (!name.empty() && (name[0] == '\\' || name[0] == '^')) {
    out.push_back(static_cast<u8>(name[0]));
    name.remove_prefix(1);
  }
  std::vector<Code> segments;
  while (!name.empty()) {
    const size_t dot = name.find('.');
    segments.push_back(segment(name.substr(0, dot)));
    name = dot == std::string_view::npos ? std::string_view{} : name.substr(dot + 1);
  }
  if (segments.empty()) out.push_back(kZero);
  if (segments.size() == 2) out.push_back(kDualName);
  if (segments.size() > 2) append(out, {kMultiName, static_cast<u8>(segments.size())});
  for (const Code& s : segments) append(out, s);
  return out;
}

Code buffer(std::span<const u8> data) {
  Code body = integer(data.size());
  body.insert(body.end(), data.begin(), data.end());
  return block({{kBuffer}}, body);
}

Code package(std::span<const Code> elements) {
  CHECK(elements.size() <= 255);
  Code body = {static_cast<u8>(elements.size())};
  append(body, concat(elements));
  return block({{kPackage}}, body);
}

/// Three letters in 5 bits each, four hexadecimal digits, big-endian (19.3.4, EISAID).
Code eisa_id(std::string_view id) {
  CHECK(id.size() == 7);
  u32 value = 0;
  for (char c : id.substr(0, 3)) value = value << 5 | (static_cast<u32>(c) - 0x40);
  for (char c : id.substr(3)) value = value << 4 | static_cast<u32>(c <= '9' ? c - '0' : c - 'A' + 10);
  return integer(std::byteswap(value));
}

Code name(std::string_view object, const Code& value) { return concat({{kName}, path(object), value}); }

Code scope(std::string_view where, Codes body) { return block({{kScope}}, concat({path(where), concat(body)})); }

Code device(std::string_view object, Codes body) {
  return block({{kExtended, kDevice}}, concat({path(object), concat(body)}));
}

Code processor_device(std::string_view object, u32 uid) {
  return device(object, {name("_HID", text("ACPI0007")), name("_UID", integer(uid))});
}

Code method(std::string_view object, unsigned arguments, Serialized serialized, Codes body) {
  const u8 flags = static_cast<u8>(arguments | (serialized == Serialized::Yes ? 8 : 0));
  return block({{kMethod}}, concat({path(object), {flags}, concat(body)}));
}

Code mutex(std::string_view object) { return concat({{kExtended, kMutex}, path(object), {0}}); }

Code region(std::string_view object, Space space, u64 offset, u64 size) {
  return concat({{kExtended, kRegion}, path(object), {static_cast<u8>(space)}, integer(offset), integer(size)});
}

Code field(std::string_view region_name, Access access, std::initializer_list<FieldUnit> units) {
  Code body = concat({path(region_name), {static_cast<u8>(access)}});
  for (const FieldUnit& unit : units) {
    append(body, unit.name.empty() ? Code{0} : segment(unit.name));
    // A field's width is coded like a PkgLength that does not count itself.
    if (unit.bits < 0x40) append(body, {static_cast<u8>(unit.bits)});
    else append(body, {static_cast<u8>(1 << 6 | (unit.bits & 0xf)), static_cast<u8>(unit.bits >> 4)});
  }
  return block({{kExtended, kField}}, body);
}

Code arg(unsigned number) { return {static_cast<u8>(kArg0 + number)}; }
Code local(unsigned number) { return {static_cast<u8>(kLocal0 + number)}; }
Code call(std::string_view method_name, Codes arguments) { return concat({path(method_name), concat(arguments)}); }
Code store(const Code& value, const Code& target) { return concat({{kStore}, value, target}); }
Code return_value(const Code& value) { return concat({{kReturn}, value}); }
Code if_true(const Code& condition, Codes body) { return block({{kIf}}, concat({condition, concat(body)})); }
Code otherwise(Codes body) { return block({{kElse}}, concat(body)); }
Code notify(const Code& object, const Code& value) { return concat({{kNotify}, object, value}); }
Code acquire(std::string_view mutex_name) { return concat({{kExtended, kAcquire}, path(mutex_name), {0xff, 0xff}}); }
Code release(std::string_view mutex_name) { return concat({{kExtended, kRelease}, path(mutex_name)}); }
Code equal(const Code& a, const Code& b) { return concat({{kLogicalEqual}, a, b}); }
Code bit_and(const Code& a, const Code& b, const Code& target) {
  return concat({{kAnd}, a, b, target.empty() ? Code{kZero} : target});
}
Code bit_or(const Code& a, const Code& b, const Code& target) {
  return concat({{kOr}, a, b, target.empty() ? Code{kZero} : target});
}
Code create_dword_field(const Code& buffer_object, u64 byte, std::string_view field_name) {
  return concat({{kCreateDword}, buffer_object, integer(byte), path(field_name)});
}

Code resources(std::span<const Code> descriptors) {
  Code data = concat(descriptors);
  append(data, {0x79, 0});  // end tag; checksum 0 is always taken as right
  return buffer(data);
}

Code io(u16 base, u8 size, u8 alignment) {
  Code out = {0x47, 1};  // decodes 16 bits
  append_le(out, base);
  append_le(out, base);
  append(out, {alignment, size});
  return out;
}

Code irq(u8 number) {
  Code out = {0x22};
  append_le(out, static_cast<u16>(1u << number));
  return out;
}

Code interrupt(std::span<const u32> gsis, InterruptFlags flags) {
  Code body = {static_cast<u8>(1 | (flags.edge ? 2 : 0) | (flags.active_low ? 4 : 0) | (flags.shared ? 8 : 0)),
               static_cast<u8>(gsis.size())};
  for (u32 gsi : gsis) append_le(body, gsi);
  return large_descriptor(0x09, body);
}

Code memory_fixed(u32 base, u32 size) {
  Code body = {1};  // read and write
  append_le(body, base);
  append_le(body, size);
  return large_descriptor(0x06, body);
}

Code bus_range(u16 first, u16 last) { return address_range<u16>(0x08, 2, 0, first, last); }
Code io_range(u16 first, u16 last) { return address_range<u16>(0x08, 1, 3, first, last); }

Code memory_range(u64 first, u64 last) {
  if (last > 0xffffffff) return address_range<u64>(0x0a, 0, 1, first, last);
  return address_range<u32>(0x07, 0, 1, static_cast<u32>(first), static_cast<u32>(last));
}

}  // namespace atl::machine::aml
