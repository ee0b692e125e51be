#include "control/qmp/schema.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/strings.h"
#include "control/qmp/command.h"
#include "control/qmp/events.h"

namespace atl::control {
namespace {

using Json = nlohmann::json;

/// Those of JSON, and what stands for them.
constexpr std::pair<std::string_view, std::string_view> kBuiltins[] = {
    {"str", "string"}, {"int", "int"}, {"number", "number"}, {"bool", "boolean"}, {"null", "null"}, {"any", "value"}};
constexpr std::string_view kEmpty = "q_empty";

/// Collects entries, each once, with those that they name.
class SchemaWriter {
 public:
  void add_commands();
  void add_events();
  Json take() { return std::move(entries_); }

 private:
  bool is_new(const std::string& name) { return names_.insert(name).second; }
  void put(Json entry) { entries_.push_back(std::move(entry)); }
  std::string use(std::string_view type);
  void use_array(const std::string& type);
  void put_type(const SchemaType& type);
  void put_enum(const SchemaType& type);
  void put_alternate(const SchemaType& type);
  void put_object(const std::string& name, std::string_view members, std::string_view tag, std::string_view variants);
  Json variants_of(const SchemaType* tag_type, std::string_view variants);
  std::string arguments_of(std::string_view name, std::string_view members);

  Json entries_ = Json::array();
  std::set<std::string> names_;
};

/// "name?:type" in its parts.
struct Member {
  std::string name, type;
  bool optional;
};
Member member_of(std::string_view text) {
  const size_t colon = text.rfind(':');
  std::string_view name = text.substr(0, colon);
  const bool optional = name.ends_with('?');
  if (optional) name.remove_suffix(1);
  return {std::string(name), std::string(text.substr(colon + 1)), optional};
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  for (auto word : split(text, ' '))
    if (!word.empty()) words.push_back(word);
  return words;
}

std::string_view builtin_of_letter(char letter) {
  switch (letter) {
    case 's': return "str";
    case 'i': return "int";
    case 'b': return "bool";
    default: return "any";
  }
}

/// The name under which a type is referred to; its entry is there afterwards.
std::string SchemaWriter::use(std::string_view type) {
  std::string name(type);
  if (type.starts_with('[')) {
    use_array(name);
    return name;
  }
  if (!is_new(name)) return name;
  auto builtin = std::ranges::find(kBuiltins, type, &std::pair<std::string_view, std::string_view>::first);
  if (builtin != std::end(kBuiltins)) {
    put({{"name", name}, {"meta-type", "builtin"}, {"json-type", builtin->second}});
    return name;
  }
  if (type == kEmpty) put({{"name", name}, {"meta-type", "object"}, {"members", Json::array()}});
  else if (const SchemaType* known = find_schema_type(type)) put_type(*known);
  return name;
}

void SchemaWriter::use_array(const std::string& type) {
  if (is_new(type)) put({{"name", type}, {"meta-type", "array"}, {"element-type", use(std::string_view(type).substr(1, type.size() - 2))}});
}

void SchemaWriter::put_type(const SchemaType& type) {
  if (type.kind == SchemaType::Kind::Enum) put_enum(type);
  else if (type.kind == SchemaType::Kind::Alternate) put_alternate(type);
  else put_object(std::string(type.name), type.members, type.tag, type.variants);
}

void SchemaWriter::put_enum(const SchemaType& type) {
  Json members = Json::array(), values = Json::array();
  for (auto value : words_of(type.members)) {
    members.push_back({{"name", value}});
    values.push_back(value);
  }
  put({{"name", type.name}, {"meta-type", "enum"}, {"members", std::move(members)}, {"values", std::move(values)}});
}

void SchemaWriter::put_alternate(const SchemaType& type) {
  Json members = Json::array();
  for (auto one : words_of(type.members)) members.push_back({{"type", use(one)}});
  put({{"name", type.name}, {"meta-type", "alternate"}, {"members", std::move(members)}});
}

void SchemaWriter::put_object(const std::string& name, std::string_view members, std::string_view tag, std::string_view variants) {
  Json list = Json::array();
  const SchemaType* tag_type = nullptr;
  for (auto text : words_of(members)) {
    const Member member = member_of(text);
    Json entry = {{"name", member.name}, {"type", use(member.type)}};
    if (member.optional) entry["default"] = nullptr;
    if (member.name == tag) tag_type = find_schema_type(member.type);
    list.push_back(std::move(entry));
  }
  Json entry = {{"name", name}, {"meta-type", "object"}, {"members", std::move(list)}};
  if (tag_type) {
    entry["tag"] = tag;
    entry["variants"] = variants_of(tag_type, variants);
  }
  put(std::move(entry));
}

/// One of every value of the tag; those that add nothing are empty.
Json SchemaWriter::variants_of(const SchemaType* tag_type, std::string_view variants) {
  Json list = Json::array();
  for (auto value : words_of(tag_type->members)) {
    std::string_view type = kEmpty;
    for (auto variant : words_of(variants))
      if (variant.starts_with(value) && variant.substr(value.size()).starts_with('=')) type = variant.substr(value.size() + 1);
    list.push_back({{"case", value}, {"type", use(type)}});
  }
  return list;
}

std::string SchemaWriter::arguments_of(std::string_view name, std::string_view members) {
  if (members.empty()) return use(kEmpty);
  if (members.starts_with('=')) return use(members.substr(1));
  std::string type = fmt::format("q_obj_{}-arg", name);
  put_object(type, members, {}, {});
  return type;
}

/// The command's own list, with the types that its signature gives to some of them.
std::string members_of(const QmpCommand& command, const SchemaSignature* signature) {
  const std::string_view told = signature ? signature->members : std::string_view();
  if (command.arguments == "*" || told.starts_with('=')) return std::string(told);
  std::string members;
  for (const QmpParameter& p : parameters_of(command)) {
    std::string type(builtin_of_letter(p.type));
    for (auto text : words_of(told))
      if (const Member member = member_of(text); member.name == p.name) type = member.type;
    members += fmt::format("{}{}{}:{}", members.empty() ? "" : " ", p.name, p.optional ? "?" : "", type);
  }
  return members;
}

const SchemaSignature* find_signature(std::span<const SchemaSignature> list, std::string_view name) {
  auto at = std::ranges::find(list, name, &SchemaSignature::name);
  return at == list.end() ? nullptr : &*at;
}

// --- arguments ---

struct JsonKind {
  std::string_view type, name;
  bool (Json::*is)() const noexcept;
};
constexpr JsonKind kJsonKinds[] = {{"str", "string", &Json::is_string}, {"int", "integer", &Json::is_number_integer},
                                   {"number", "number", &Json::is_number}, {"bool", "boolean", &Json::is_boolean}};

Error wrong_type(std::string_view where, std::string_view expected) {
  return Error(ErrorKind::Invalid, fmt::format("Invalid parameter type for '{}', expected: {}", where, expected));
}

Status check_value(std::string_view type, const Json& value, const std::string& where);

Status check_members(std::string_view members, const Json& value, const std::string& where) {
  for (auto text : words_of(members)) {
    const Member member = member_of(text);
    auto at = value.find(member.name);
    if (at != value.end()) TRY(check_value(member.type, *at, where.empty() ? member.name : where + "." + member.name));
  }
  return {};
}

std::string_view chosen_variant(const SchemaType& type, const Json& value) {
  auto tag = value.find(type.tag);
  if (tag == value.end() || !tag->is_string()) return {};
  for (auto variant : words_of(type.variants)) {
    const size_t equals = variant.find('=');
    if (variant.substr(0, equals) == tag->get_ref<const std::string&>()) return variant.substr(equals + 1);
  }
  return {};
}

Status check_object(const SchemaType& type, const Json& value, const std::string& where) {
  if (!value.is_object()) return wrong_type(where, "object");
  TRY(check_members(type.members, value, where));
  if (auto variant = chosen_variant(type, value); !variant.empty()) return check_value(variant, value, where);
  return {};
}

/// Depth is bounded by that of the JSON text.
Status check_value(std::string_view type, const Json& value, const std::string& where) {
  if (type.starts_with('[')) {
    if (!value.is_array()) return wrong_type(where, "array");
    for (size_t i = 0; i < value.size(); ++i) TRY(check_value(type.substr(1, type.size() - 2), value[i], fmt::format("{}[{}]", where, i)));
    return {};
  }
  for (const JsonKind& kind : kJsonKinds)
    if (kind.type == type) return (value.*kind.is)() ? Status() : wrong_type(where, kind.name);
  const SchemaType* known = find_schema_type(type);
  if (!known || known->kind == SchemaType::Kind::Alternate) return {};
  if (known->kind == SchemaType::Kind::Enum) return value.is_string() ? Status() : wrong_type(where, "string");
  return check_object(*known, value, where);
}

void SchemaWriter::add_commands() {
  constexpr QmpCommand kNegotiation = {"qmp_capabilities", "enable?:a", nullptr};
  std::vector<const QmpCommand*> commands = qmp_commands();
  commands.push_back(&kNegotiation);
  for (const QmpCommand* command : commands) {
    const SchemaSignature* signature = find_signature(command_signatures(), command->name);
    const std::string_view result = signature && !signature->result.empty() ? signature->result : command->name.contains("query-") ? "any" : kEmpty;
    Json entry = {{"name", command->name}, {"meta-type", "command"}, {"arg-type", arguments_of(command->name, members_of(*command, signature))},
                  {"ret-type", use(result)}};
    if (is_out_of_band(command->name)) entry["allow-oob"] = true;
    put(std::move(entry));
  }
}

void SchemaWriter::add_events() {
  for (auto name : event_names()) {
    const SchemaSignature* signature = find_signature(event_signatures(), name);
    put({{"name", name}, {"meta-type", "event"}, {"arg-type", arguments_of(name, signature ? signature->members : std::string_view())}});
  }
}

}  // namespace

bool is_out_of_band(std::string_view command) { return command == "yank"; }

const SchemaType* find_schema_type(std::string_view name) {
  for (auto table : {block_schema_types(), machine_schema_types()}) {
    auto at = std::ranges::find(table, name, &SchemaType::name);
    if (at != table.end()) return &*at;
  }
  return nullptr;
}

Status check_types(std::string_view command, const Json& arguments) {
  const SchemaSignature* signature = find_signature(command_signatures(), command);
  if (!signature) return {};
  if (signature->members.starts_with('=')) return check_value(signature->members.substr(1), arguments, "");
  return check_members(signature->members, arguments, "");
}

Json qmp_schema() {
  SchemaWriter writer;
  writer.add_commands();
  writer.add_events();
  return writer.take();
}

}  // namespace atl::control
