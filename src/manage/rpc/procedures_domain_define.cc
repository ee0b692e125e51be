// Definitions: define, undefine, rename, metadata, autostart, the XML.
#include <algorithm>

#include <unistd.h>

#include <fmt/format.h>

#include "manage/domain/aliases.h"
#include "manage/domain/command_line.h"
#include "manage/domain/firmware.h"
#include "manage/domain/snapshots.h"
#include "manage/rpc/domain_rows.h"
#include "manage/xml/parse.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

Status define_xml(Call& call) {
  std::string text;
  TRY(call.read(text));
  call.write(TRY(call.daemon().domains().define(text))->ref());
  return {};
}

Status define_xml_flags(Call& call) {
  std::string text;
  u32 flags = 0;
  TRY(call.read(text, flags));
  constexpr u32 kValidate = 1;  // everything is checked anyway
  TRY(check_flags(flags, kValidate, "virDomainDefineXMLFlags"));
  call.write(TRY(call.daemon().domains().define(text))->ref());
  return {};
}

constexpr u32 kUndefineManagedSave = 1, kUndefineSnapshots = 2, kUndefineNvram = 4, kUndefineKeepNvram = 8, kUndefineCheckpoints = 16,
              kUndefineTpm = 32, kUndefineKeepTpm = 64;

Status undefine_with(Call& call, Domain& domain, u32 flags) {
  auto job = TRY(domain.begin_job());
  const SnapshotStore snapshots(call.daemon().config().paths.state, domain.name());
  if (const size_t count = snapshots.all().size(); count && !domain.active() && !(flags & kUndefineSnapshots))
    return operation_invalid(fmt::format("cannot delete inactive domain with {} snapshots", count));
  const auto checkpoints = SnapshotStore::of_checkpoints(call.daemon().config().paths.state, domain.name());
  if (const size_t count = checkpoints.all().size(); count && !domain.active() && !(flags & kUndefineCheckpoints))
    return operation_invalid(fmt::format("cannot delete inactive domain with {} checkpoints", count));
  if (!(flags & (kUndefineNvram | kUndefineKeepNvram))) {
    const std::string nvram = variables_path(TRY(domain.current()), call.daemon().config().paths.state);
    if (!nvram.empty() && ::access(nvram.c_str(), F_OK) == 0) return operation_invalid("cannot undefine domain with nvram");
  }
  return call.daemon().domains().undefine(domain, {.nvram = !(flags & kUndefineNvram), .tpm = (flags & kUndefineKeepTpm) != 0});
}

Status undefine(Call& call) {
  auto domain = TRY(read_domain(call));
  return undefine_with(call, *domain, 0);
}

Status undefine_flags(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, kUndefineManagedSave | kUndefineSnapshots | kUndefineNvram | kUndefineKeepNvram | kUndefineCheckpoints | kUndefineTpm |
                             kUndefineKeepTpm, "virDomainUndefineFlags"));
  return undefine_with(call, *domain, flags);
}

Status rename(Call& call) {
  std::optional<std::string> name;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, name, flags));
  TRY(check_flags(flags, 0, "virDomainRename"));
  if (!name || name->empty()) return invalid_arg("a new name is needed");
  auto job = TRY(domain->begin_job());
  TRY(call.daemon().domains().rename(*domain, *name));
  call.write(i32{0});
  return {};
}

Status get_autostart(Call& call) {
  auto domain = TRY(read_domain(call));
  call.write(static_cast<i32>(domain->facts().autostart));
  return {};
}

Status set_autostart(Call& call) {
  i32 on = 0;
  auto domain = TRY(read_domain(call, on));
  auto job = TRY(domain->begin_job());
  return call.daemon().domains().set_autostart(*domain, on != 0);
}

constexpr u32 kXmlSecure = 1, kXmlInactive = 2, kXmlUpdateCpu = 4, kXmlMigratable = 8;

void hide_secrets(Element& tree) {
  for (Element* graphics : each(devices_of(tree), "graphics")) {
    graphics->remove_attribute("passwd");
    graphics->remove_attribute("passwdValidTo");
  }
}

Status get_xml(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, kXmlSecure | kXmlInactive | kXmlUpdateCpu | kXmlMigratable, "virDomainGetXMLDesc"));
  if ((flags & kXmlSecure) && call.session().read_only()) return Error(Code::OperationDenied, "virDomainGetXMLDesc with secure flag");
  Element tree = TRY((flags & (kXmlInactive | kXmlMigratable)) ? domain->config() : domain->current());
  if (!(flags & kXmlSecure)) hide_secrets(tree);
  call.write(xml::write(tree));
  return {};
}

// --- metadata

enum MetadataType : i32 { kDescription = 0, kTitle = 1, kElement = 2 };

/// The attribute that names the namespace of a metadata element: "xmlns:x" for <x:y>, "xmlns" for <y>.
bool has_namespace(const Element& element, const std::string& uri) {
  return std::ranges::any_of(element.attributes(), [&](const auto& attribute) { return attribute.first.starts_with("xmlns") && attribute.second == uri; });
}

/// As the client gave it: the prefix is stored for its namespace only.
Element without_prefix(Element element) {
  const size_t colon = element.name().find(':');
  if (colon == std::string::npos) return element;
  const std::string prefix = element.name().substr(0, colon), own = element.name().substr(colon + 1);
  element.remove_attribute("xmlns:" + prefix);
  element.set_name(own);
  return element;
}

/// What clients put there has other quotes than libvirt's own elements: it is printed below its parent, and taken out.
std::string as_metadata(Element element) {
  Element parent("metadata");
  const bool lines = std::ranges::none_of(element.content(), [](const Element& part) { return part.is_text(); });
  parent.add(std::move(element));
  std::string text = xml::write(parent);
  text = trim(text.substr(text.find('>') + 1, text.rfind("</") - text.find('>') - 1));
  for (size_t line = text.find("\n  "); lines && line != text.npos; line = text.find("\n  ", line + 1)) text.erase(line + 1, 2);
  return text;
}

Result<std::string> metadata_of(const Element& tree, i32 type, const std::optional<std::string>& uri) {
  if (type == kTitle || type == kDescription) {
    const char* name = type == kTitle ? "title" : "description";
    if (!tree.child(name)) return Error(Code::NoDomainMetadata, fmt::format("Requested metadata element is not present"));
    return tree.child(name)->text();
  }
  if (type != kElement) return invalid_arg("unknown metadata type");
  if (!uri) return invalid_arg("a metadata URI is needed");
  if (const Element* metadata = tree.child("metadata"))
    for (const Element* child : metadata->children())
      if (has_namespace(*child, *uri)) {
        return as_metadata(without_prefix(*child));
      }
  return Error(Code::NoDomainMetadata, "Requested metadata element is not present");
}

Status get_metadata(Call& call) {
  i32 type = 0;
  std::optional<std::string> uri;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, type, uri, flags));
  TRY(check_flags(flags, kAffect, "virDomainGetMetadata"));
  const Element tree = TRY(tree_for(*domain, flags));
  call.write(TRY(metadata_of(tree, type, uri)));
  return {};
}

struct MetadataChange {
  i32 type = 0;
  std::optional<std::string> text, key, uri;
};

/// The element in its namespace: prefixed with the key that the client chose.
Result<Element> namespaced(const MetadataChange& change) {
  Element element = TRY(xml::parse(*change.text, "(metadata_xml)"));
  if (!change.key || !change.uri) return invalid_arg("a metadata key and URI are needed");
  element.set_name(*change.key + ":" + element.name());
  auto attributes = element.attributes();
  attributes.insert(attributes.begin(), {"xmlns:" + *change.key, *change.uri});
  element.set_attributes(std::move(attributes));
  return element;
}

Status put_metadata(Element& tree, const MetadataChange& change) {
  if (change.type == kTitle || change.type == kDescription) {
    const char* name = change.type == kTitle ? "title" : "description";
    tree.remove(name);
    if (change.text && change.type == kTitle && change.text->find('\n') != std::string::npos) return invalid_arg("Domain title can't contain newlines");
    if (change.text && !change.text->empty()) tree.add(name, std::string_view(*change.text));
    put_in_order(tree);
    return {};
  }
  if (change.type != kElement || !change.uri) return invalid_arg("unknown metadata type");
  Element& metadata = ensure(tree, "metadata");
  metadata.content().remove_if([&](const Element& child) { return !child.is_text() && has_namespace(child, *change.uri); });
  if (change.text) metadata.add(TRY(namespaced(change)));
  if (metadata.children().empty()) tree.remove("metadata");
  put_in_order(tree);
  return {};
}

Status set_metadata(Call& call) {
  MetadataChange change;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, change.type, change.text, change.key, change.uri, flags));
  TRY(check_flags(flags, kAffect, "virDomainSetMetadata"));
  auto job = TRY(domain->begin_job());
  const Impact impact = TRY(impact_of(*domain, flags));
  Domains& domains = call.daemon().domains();
  auto edit = [&](Element& tree) { return put_metadata(tree, change); };
  if (impact.live) TRY(edit_live(domains, *domain, edit));
  if (impact.config) TRY(edit_config(domains, *domain, edit));
  call.daemon().events().domain(DomainEvent::MetadataChange, domain->ref(), change.type, change.uri);
  return {};
}

// --- native format

constexpr std::string_view kNativeFormat = "qemu-argv";

Status to_native(Call& call) {
  std::string format, text;
  u32 flags = 0;
  TRY(call.read(format, text, flags));
  TRY(check_flags(flags, 0, "virConnectDomainXMLToNative"));
  if (format != kNativeFormat) return invalid_arg(fmt::format("unsupported config type {}", format));
  Element tree = TRY(read_definition(text, call.daemon().domains().definition_host()));
  TRY(choose_firmware(tree, find_firmware(call.daemon().config().paths.state)));
  assign_aliases(tree);
  number_sources(tree);
  const VmCommand command = TRY(compose_command(tree, {}));
  call.write(command.text() + "\n");
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_DEFINE_XML, Access::Write, define_xml},
    {Proc::DOMAIN_DEFINE_XML_FLAGS, Access::Write, define_xml_flags},
    {Proc::DOMAIN_UNDEFINE, Access::Write, undefine},
    {Proc::DOMAIN_UNDEFINE_FLAGS, Access::Write, undefine_flags},
    {Proc::DOMAIN_RENAME, Access::Write, rename},
    {Proc::DOMAIN_GET_AUTOSTART, Access::Read, get_autostart, Where::Loop},
    {Proc::DOMAIN_SET_AUTOSTART, Access::Write, set_autostart},
    {Proc::DOMAIN_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
    {Proc::DOMAIN_GET_METADATA, Access::Read, get_metadata, Where::Quick},
    {Proc::DOMAIN_SET_METADATA, Access::Write, set_metadata},
    {Proc::CONNECT_DOMAIN_XML_TO_NATIVE, Access::Write, to_native},
};

}  // namespace

std::span<const Procedure> domain_define_rows() { return kRows; }

}  // namespace atl::manage
