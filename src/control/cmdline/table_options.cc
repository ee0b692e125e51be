// Tables that describe the machine to its guest, and its TPM: -smbios, -acpitable, -tpmdev.
#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "base/strings.h"
#include "control/cmdline/handlers.h"
#include "control/cmdline/translate.h"

namespace atl::control {
namespace {

/// Fields of a structure type, as -smbios spells them.
struct SmbiosFields {
  u8 type;
  std::string_view names;  // separated by commas
};
constexpr SmbiosFields kSmbiosFields[] = {
    {0, "vendor,version,date,release,uefi"},
    {1, "manufacturer,product,version,serial,uuid,sku,family"},
    {2, "manufacturer,product,version,serial,asset,location"},
    {3, "manufacturer,version,serial,asset,sku"},
    {4, "sock_pfx,manufacturer,version,serial,asset,part"},
    {11, "value"},
    {17, "loc_pfx,bank,manufacturer,serial,asset,part"},
};

Status check_field(const SmbiosFields& fields, const std::string& name) {
  const auto names = split(fields.names, ',');
  if (std::ranges::find(names, name) != names.end()) return {};
  return invalid_option(fmt::format("Invalid parameter '{}' of SMBIOS type {}", name, fields.type));
}

constexpr std::string_view kAcpiHeader[] = {"sig", "rev", "oem_id", "oem_table_id", "oem_rev", "asl_compiler_id", "asl_compiler_rev"};

}  // namespace

Status option_smbios(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  machine::SmbiosConfig entry;
  if (auto file = values.take("file")) {
    entry.file = *file;
    TRY(values.expect_empty());
    b.config().smbios.push_back(std::move(entry));
    return {};
  }
  const u64 type = TRY(values.take_u64("type", 0, 0xff));
  const auto fields = std::ranges::find(kSmbiosFields, type, &SmbiosFields::type);
  if (fields == std::end(kSmbiosFields)) return invalid_option(fmt::format("Don't know how to build fields for SMBIOS type {}", type));
  entry.type = fields->type;
  for (const auto& field : values.entries()) {
    TRY(check_field(*fields, field.key));
    if (type == 1 && field.key == "uuid") TRY(option_uuid(b, {use.name, field.value}));
    else entry.fields.emplace_back(field.key, field.value);
  }
  b.config().smbios.push_back(std::move(entry));
  return {};
}

Status option_acpitable(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value));
  machine::AcpiTableConfig table;
  table.has_header = values.has("file");
  if (table.has_header == values.has("data")) return invalid_option("'-acpitable' requires one of 'data' or 'file'");
  const std::string files = *values.take(table.has_header ? "file" : "data");
  for (std::string_view file : split(files, ':')) table.files.emplace_back(file);
  for (std::string_view name : kAcpiHeader) {
    if (auto value = values.take(name)) table.header.emplace_back(name, *value);
  }
  TRY(values.expect_empty());
  b.config().acpi_tables.push_back(std::move(table));
  return {};
}

Status option_tpmdev(Builder& b, const OptionUse& use) {
  KeyValues values = TRY(KeyValues::parse(use.value, "type"));
  const std::string type = TRY(values.take_required("type"));
  if (type != "emulator") return invalid_option(fmt::format("'type': '{}' is not available; 'emulator' is", type));
  const std::string id = TRY(values.take_required("id"));
  TRY(check_id(id));
  if (!b.tpms.emplace(id, TRY(values.take_required("chardev"))).second) return invalid_option(fmt::format("Duplicate ID '{}' for tpmdev", id));
  return values.expect_empty();
}

}  // namespace atl::control
