// Creation of images: options checked against the driver's list, the file below created first.
#include <fmt/format.h>
#include <unistd.h>

#include "base/key_values.h"
#include "base/strings.h"
#include "block/create_options.h"

namespace atl::block {
namespace {

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text), EINVAL); }

Result<const Driver*> protocol_of(const std::string& filename) {
  Json tree = TRY(parse_image_name(filename));
  const auto name = tree.find("driver");
  const auto* text = name == tree.end() ? nullptr : name->get_ptr<const std::string*>();
  const Driver* driver = text ? find_driver(*text) : nullptr;
  if (!driver || !driver->protocol) return invalid(fmt::format("Unknown protocol of '{}'", filename));
  if (driver->create) return driver;
  return Error(ErrorKind::Unsupported, fmt::format("Protocol driver '{}' does not support image creation", driver->name), ENOTSUP);
}

}  // namespace

Result<Json> complete_create_options(const Driver& driver, const Json& given) {
  Json options = Json::object();
  for (const CreateOption& option : driver.create_options)
    if (option.fallback) options[option.name] = option.fallback;
  for (const auto& [key, value] : given.items()) {
    const CreateOption* known = nullptr;
    for (const CreateOption& option : driver.create_options)
      if (key == option.name) known = &option;
    if (!known) return invalid(fmt::format("Invalid parameter '{}'", key));
    const auto* string = value.get_ptr<const std::string*>();
    std::string text = string ? *string : value.dump();
    if (known->type == CreateOption::Flag && !parse_bool(text))
      return invalid(fmt::format("Parameter '{}' expects 'on' or 'off'", key));
    if (known->type == CreateOption::Size && !parse_size(text))
      return invalid(fmt::format("Parameter '{}' expects a non-negative number below 2^64", key));
    if (known->type == CreateOption::Number && !parse_u64(text))
      return invalid(fmt::format("Parameter '{}' expects a number", key));
    options[key] = std::move(text);
  }
  return options;
}

Task<Status> Graph::create(const Driver& driver, std::string filename, Json options) {
  if (!driver.create)
    co_return Error(ErrorKind::Unsupported, fmt::format("Format driver '{}' does not support image creation", driver.name), ENOTSUP);
  Json complete_options = CO_TRY(complete_create_options(driver, options));
  if (driver.protocol) co_return co_await driver.create(*this, nullptr, std::move(filename), std::move(complete_options));
  const Driver* protocol = CO_TRY(protocol_of(filename));
  Json file_options = Json::object();
  // What is no file of ours may not grow later.
  auto size = complete_options.find("size");
  if (std::string_view(protocol->name) != "file" && size != complete_options.end()) file_options["size"] = *size;
  Status status = co_await protocol->create(*this, nullptr, filename, std::move(file_options));
  CO_TRY(std::move(status));
  OpenMode mode;
  mode.no_probe = true;
  mode.discard = true;
  Result<NodePtr> opened = co_await open_name(filename, {}, std::move(mode));
  NodePtr file = CO_TRY(std::move(opened));
  status = co_await driver.create(*this, file, filename, std::move(complete_options));
  // What is left of a file that could not be formatted would look like a raw image.
  if (!status && std::string_view(protocol->name) == "file") ::unlink(file->info().filename.c_str());
  CO_TRY(std::move(status));
  co_return co_await file->flush();
}

}  // namespace atl::block
