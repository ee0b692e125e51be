// nbd: exports an image over NBD, or lists what a server offers: qemu-nbd's role and options.
#include "img/nbd_server.h"

#include "base/strings.h"
#include "img/command.h"
#include "img/numbers.h"

namespace atl::img {
namespace {

constexpr u64 kMaxShared = 0x7fffffff;
constexpr size_t kMaxName = 4096;

Error invalid(std::string text) { return Error(ErrorKind::Invalid, std::move(text)); }

Status refuse_missing(const Arguments& arguments) {
  const struct {
    const char* option;
    const char* text;
  } missing[] = {
      {"connect", "--connect needs the kernel's NBD client, which atoll-img does not drive: use nbd-client"},
      {"disconnect", "--disconnect needs the kernel's NBD client, which atoll-img does not drive: use nbd-client"},
      {"tls-authz", "--tls-authz is not supported: verify clients by their certificates or keys"},
      {"selinux-label", "SELinux support not enabled in this binary"},
      {"trace", "--trace is not supported"},
  };
  for (const auto& row : missing)
    if (arguments.has(row.option)) return invalid(row.text);
  return {};
}

Result<block::nbd::Address> read_address(const Arguments& arguments, bool listing) {
  block::nbd::Address address;
  if (!listing && is_socket_handed_over() && (arguments.has("socket") || arguments.has("port") || arguments.has("bind")))
    return invalid("-k, -p and -b cannot be used with a socket that was handed over (LISTEN_FDS)");
  address.path = arguments.value("socket");
  if (!address.path.empty() && address.path[0] != '/') return invalid("socket path must be absolute");
  if (address.is_unix() && (arguments.has("port") || arguments.has("bind")))
    return invalid("-k and -p/-b cannot be used together");
  address.host = arguments.value("bind", listing ? "localhost" : "0.0.0.0");
  address.port = arguments.value("port", address.port);
  return address;
}

Result<OpenRequest> read_image(const Arguments& arguments) {
  OpenRequest image;
  image.name = arguments.words()[0];
  image.format = arguments.value("format");
  image.image_opts = arguments.has("image-opts");
  image.writable = !arguments.has("read-only") && !arguments.has("load-snapshot");
  if (arguments.has("nocache") && arguments.has("cache")) return invalid("-n and --cache can only be specified once");
  auto cache = parse_cache_mode(arguments.has("nocache") ? "none" : arguments.value("cache", "writeback"));
  if (!cache) return invalid(fmt::format("Invalid cache mode `{}'", arguments.value("cache")));
  image.cache = *cache;
  return image;
}

Status read_modes(NbdPlan& plan, const Arguments& arguments) {
  std::string discard = arguments.value("discard", "ignore"), aio = arguments.value("aio", "threads");
  plan.detect_zeroes = arguments.value("detect-zeroes", "off");
  plan.discard = discard == "unmap" || discard == "on";
  if (!plan.discard && discard != "ignore" && discard != "off") return invalid(fmt::format("Invalid discard mode `{}'", discard));
  if (aio != "native" && aio != "threads" && aio != "io_uring") return invalid(fmt::format("invalid aio mode `{}'", aio));
  if (plan.detect_zeroes != "off" && plan.detect_zeroes != "on" && plan.detect_zeroes != "unmap")
    return invalid(fmt::format("Failed to parse detect_zeroes mode: invalid parameter value: {}", plan.detect_zeroes));
  if (plan.detect_zeroes == "unmap" && !plan.discard)
    return invalid("setting detect-zeroes to unmap is not allowed without setting discard operation to unmap");
  return {};
}

Result<NbdPlan> read_plan(const Arguments& arguments) {
  NbdPlan plan;
  plan.listing = arguments.has("list");
  const auto& words = arguments.words();
  if (plan.listing && !words.empty()) return invalid("List mode is incompatible with a file name");
  if (plan.listing && (arguments.has("export-name") || arguments.has("description")))
    return invalid("List mode is incompatible with export settings");
  plan.address = TRY(read_address(arguments, plan.listing));
  plan.tls_id = arguments.value("tls-creds");
  plan.tls_hostname = arguments.value("tls-hostname");
  if (plan.listing) return plan;
  plan.image = TRY(read_image(arguments));
  plan.export_name = arguments.value("export-name");
  if (plan.export_name.size() > kMaxName) return invalid(fmt::format("export name '{}' too long", plan.export_name));
  plan.description = arguments.value("description");
  if (plan.description.size() > kMaxName) return invalid(fmt::format("export description '{}' too long", plan.description));
  plan.offset = TRY(parse_amount("offset", arguments.value("offset", "0")));
  plan.bitmaps = arguments.values("bitmap");
  plan.allocation_depth = arguments.has("allocation-depth");
  plan.load_snapshot = arguments.find("load-snapshot");
  plan.temporary = arguments.has("snapshot");
  plan.readonly = !plan.image.writable;
  plan.persistent = arguments.has("persistent");
  if (auto text = arguments.find("shared"))
    plan.shared = static_cast<u32>(TRY(parse_count(*text, 0, kMaxShared, fmt::format("Invalid shared device number '{}'", *text))));
  plan.pid_file = arguments.value("pid-file");
  plan.verbose = arguments.has("verbose");
  TRY(read_modes(plan, arguments));
  return plan;
}

Task<int> run_nbd(Tool& tool, Arguments arguments) {
  if (arguments.has("version")) {
    fmt::print("{} 7.2.0 (Atoll 0.1.0)\n", tool.program() == "qemu-nbd" ? "qemu-nbd" : tool.program() + " nbd");
    co_return 0;
  }
  if (Status usable = refuse_missing(arguments); !usable) co_return tool.fail("{}", usable.error().text());
  if (!arguments.has("list") && arguments.words().size() != 1) co_return tool.usage_error("Invalid number of arguments");
  if (Status added = tool.add_objects(arguments); !added) co_return tool.fail("{}", added.error().text());
  auto plan = read_plan(arguments);
  if (!plan) co_return tool.fail("{}", plan.error().text());
  if (arguments.has("fork")) co_return fork_server(tool);
  if (auto fd = arguments.find("ready-fd")) plan->ready_fd = static_cast<int>(parse_u64(*fd).value_or(0));
  Status status;
  if (plan->listing) {
    status = co_await list_nbd_exports(tool, *plan);
  } else {
    NbdServing serving(tool, *std::move(plan));
    status = co_await serving.run();
  }
  if (!status) co_return tool.fail("{}", status.error().text());
  co_return 0;
}

}  // namespace

const Command kNbd{
    "nbd",
    "[-p port] [-b address] [-k socket] [-e clients] [-t] [-x name] [-D text] [-o offset] [-A] [-B bitmap] [-r] [-s] [-l snapshot] "
    "[-f fmt] [-n | --cache=mode] [--discard=mode] [--detect-zeroes=mode] [--image-opts] [--object objectdef] [--tls-creds=id] "
    "[--fork] [--pid-file=path] filename | -L [-p port] [-b address] [-k socket] [--tls-creds=id]",
    {kObject, kImageOpts, {'V', "version"}, {'p', "port", true}, {'b', "bind", true}, {'k', "socket", true},
     {'e', "shared", true}, {'t', "persistent"}, {'v', "verbose"}, {'x', "export-name", true}, {'D', "description", true},
     {'o', "offset", true}, {'A', "allocation-depth"}, {'B', "bitmap", true}, {'L', "list"}, {0, "tls-creds", true},
     {0, "tls-hostname", true}, {0, "tls-authz", true}, {0, "fork"}, {0, "ready-fd", true}, {0, "pid-file", true},
     {0, "selinux-label", true}, {'T', "trace", true}, {'c', "connect", true}, {'d', "disconnect"}, {'f', "format", true},
     {'r', "read-only"}, {'s', "snapshot"}, {'l', "load-snapshot", true}, {'n', "nocache"}, {0, "cache", true},
     {0, "aio", true}, {0, "discard", true}, {0, "detect-zeroes", true}},
    run_nbd};

}  // namespace atl::img
