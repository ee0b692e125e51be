#include "block/format/vmdk_descriptor.h"

#include <fmt/format.h>

#include <optional>

#include "base/strings.h"

namespace atl::block::vmdk {
namespace {

Error bad(std::string_view line, std::string_view what) {
  return Error(ErrorKind::Invalid, fmt::format("vmdk descriptor: {} in line '{}'", what, line.substr(0, 200)), EINVAL);
}

/// What stands behind "key=", without quotes.
std::optional<std::string_view> value_of(std::string_view line, std::string_view key) {
  if (!line.starts_with(key)) return std::nullopt;
  line = trim(line.substr(key.size()));
  if (!line.starts_with('=')) return std::nullopt;
  line = trim(line.substr(1));
  if (line.size() >= 2 && line.front() == '"' && line.back() == '"') line = line.substr(1, line.size() - 2);
  return line;
}

/// Takes the next word, or text in quotes, from the front.
std::string_view next_word(std::string_view& rest) {
  rest = trim(rest);
  if (rest.starts_with('"')) {
    size_t end = rest.find('"', 1);
    std::string_view word = rest.substr(1, end == rest.npos ? rest.npos : end - 1);
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    return word;
  }
  size_t end = rest.find_first_of(" \t");
  std::string_view word = rest.substr(0, end);
  rest = end == rest.npos ? std::string_view() : rest.substr(end);
  return word;
}

bool is_extent(std::string_view line) {
  return line.starts_with("RW ") || line.starts_with("RDONLY ") || line.starts_with("NOACCESS ");
}

/// RW 4192256 SPARSE "disk-s001.vmdk"
Result<ExtentLine> parse_extent(std::string_view line) {
  std::string_view rest = line;
  if (std::string_view access = next_word(rest); access != "RW")
    return bad(line, "extents that cannot be written are not supported");
  auto sectors = parse_u64(next_word(rest));
  if (!sectors || *sectors > u64{1} << 53) return bad(line, "the extent's size");
  ExtentLine extent{.sectors = *sectors};
  std::string_view type = next_word(rest);
  extent.filename = next_word(rest);
  std::string_view offset = next_word(rest);
  if (type == "SPARSE") return extent;
  extent.kind = type == "ZERO" ? ExtentLine::Zero : ExtentLine::Flat;
  if (type == "ZERO" || type == "VMFS") return extent;
  if (type != "FLAT") return bad(line, fmt::format("unsupported extent type '{}'", type));
  auto at = parse_u64(offset);
  if (!at || *at > u64{1} << 53) return bad(line, "the extent's offset");
  extent.offset_sector = *at;
  return extent;
}

Result<u32> parse_cid(std::string_view line, std::string_view digits) {
  auto cid = parse_hex(digits);
  if (!cid || *cid > 0xffff'ffff) return bad(line, "a content ID");
  return static_cast<u32>(*cid);
}

Status parse_line(std::string_view line, Descriptor& out) {
  if (auto cid = value_of(line, "CID")) out.cid = TRY(parse_cid(line, *cid));
  if (auto cid = value_of(line, "parentCID")) out.parent_cid = TRY(parse_cid(line, *cid));
  if (auto type = value_of(line, "createType")) out.create_type = *type;
  if (auto hint = value_of(line, "parentFileNameHint")) out.parent_hint = *hint;
  if (is_extent(line)) out.extents.push_back(TRY(parse_extent(line)));
  return {};
}

std::string extent_line(const ExtentLine& extent) {
  if (extent.kind == ExtentLine::Flat)
    return fmt::format("RW {} FLAT \"{}\" {}\n", extent.sectors, extent.filename, extent.offset_sector);
  return fmt::format("RW {} SPARSE \"{}\"\n", extent.sectors, extent.filename);
}

}  // namespace

Result<Descriptor> parse_descriptor(std::string_view text) {
  Descriptor out;
  text = text.substr(0, text.find('\0'));
  while (!text.empty()) {
    size_t end = text.find('\n');
    TRY(parse_line(trim(text.substr(0, end)), out));
    text = end == text.npos ? std::string_view() : text.substr(end + 1);
  }
  if (out.create_type.empty()) return Error(ErrorKind::Invalid, "vmdk descriptor: no createType", EINVAL);
  return out;
}

std::string build_descriptor(const Descriptor& d) {
  const u32 heads = d.adapter_type == "ide" ? 16 : 255;
  std::string text = fmt::format("# Disk DescriptorFile\nversion=1\nCID={:08x}\nparentCID={:08x}\ncreateType=\"{}\"\n",
                                 d.cid, d.parent_cid, d.create_type);
  if (!d.parent_hint.empty()) text += fmt::format("parentFileNameHint=\"{}\"\n", d.parent_hint);
  text += "\n# Extent description\n";
  for (const ExtentLine& extent : d.extents) text += extent_line(extent);
  text += "\n# The Disk Data Base\n#DDB\n\n";
  const std::pair<const char*, std::string> rows[] = {
      {"virtualHWVersion", d.hardware_version},
      {"geometry.cylinders", std::to_string(d.size_bytes / (u64{63} * heads * 512))},
      {"geometry.heads", std::to_string(heads)},
      {"geometry.sectors", "63"},
      {"adapterType", d.adapter_type},
      {"toolsVersion", d.tools_version},
  };
  for (auto& [key, value] : rows) text += fmt::format("ddb.{} = \"{}\"\n", key, value);
  return text;
}

std::string with_cid(std::string text, u32 cid) {
  for (size_t at = 0; at != text.npos;) {
    if (text.compare(at, 4, "CID=") == 0) {
      size_t digits = text.find_first_not_of("0123456789abcdefABCDEF", at + 4);
      if (digits != text.npos && digits - at - 4 == 8) text.replace(at + 4, 8, fmt::format("{:08x}", cid));
      return text;
    }
    at = text.find('\n', at);
    if (at != text.npos) ++at;
  }
  return text;
}

}  // namespace atl::block::vmdk
