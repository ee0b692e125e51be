// Serial ports, consoles and channels.
#include <fmt/format.h>

#include "manage/domain/aliases.h"
#include "manage/domain/vm_parts.h"

namespace atl::manage {
namespace {

void set_server(OptionList& backend, bool server) {
  if (server) backend.set("server", "on").set("wait", "off");
}

Result<OptionList> with_log(OptionList backend, const Element& port) {
  if (!port.child("log")) return backend;
  backend.set("logfile", at(port, "log", "file"));
  return backend.set("logappend", at(port, "log", "append") == "on" ? "on" : "off");
}

}  // namespace

Result<OptionList> char_backend(const Element& port) {
  const std::string type = port.attribute("type"), id = "char" + alias_of(port), path = at(port, "source", "path");
  if (type == "pty" || type == "null" || type == "stdio") return with_log(OptionList("backend", type).set("id", id), port);
  if (type == "file") {
    const bool append = at(port, "source", "append") != "off";
    return with_log(OptionList("backend", "file").set("id", id).set("path", path).set("append", append ? "on" : "off"), port);
  }
  if (type == "dev") return with_log(OptionList("backend", "serial").set("id", id).set("path", path), port);
  if (type == "pipe") return with_log(OptionList("backend", "pipe").set("id", id).set("path", path), port);
  OptionList socket("backend", "socket");
  socket.set("id", id);
  const bool server = at(port, "source", "mode") == "bind";
  if (type == "unix") socket.set("path", path);
  else socket.set("host", at(port, "source", "host")).set("port", at(port, "source", "service"));
  set_server(socket, server);
  if (const std::string seconds = at(port, "source/reconnect", "timeout"); !seconds.empty() && !server) socket.set("reconnect", seconds);
  return with_log(std::move(socket), port);
}

Result<std::optional<OptionList>> char_device(const Element& port) {
  const std::string alias = alias_of(port), chardev = "char" + alias;
  if (port.name() == "serial")
    return OptionList("driver", "isa-serial").set("chardev", chardev).set("id", alias).set("index", at(port, "target", "port"));
  if (at(port, "target", "type") != "virtio") return std::optional<OptionList>();
  OptionList device("driver", port.name() == "console" ? "virtconsole" : "virtserialport");
  const std::string controller = at(port, "address", "controller");
  device.set("bus", fmt::format("virtio-serial{}.0", controller)).set("nr", at(port, "address", "port"));
  device.set("chardev", chardev).set("id", alias).set_if("name", at(port, "target", "name"));
  return std::optional(std::move(device));
}

}  // namespace atl::manage
