#include "img/help.h"

#include <fmt/format.h>

#include <string>

#include "img/command.h"

namespace atl::img {
namespace {

constexpr const char* kIntroduction =
    "usage: atoll-img [standard options] command [command options]\n"
    "Creates, converts, checks and exports disk images, with the command line of qemu-img\n"
    "\n"
    "    -h, --help       show this text\n"
    "    -V, --version    show the version\n"
    "\n"
    "Commands:\n";

constexpr const char* kParameters =
    "\n"
    "Parameters:\n"
    "  fmt         a format of the list below; guessed from the content if not given\n"
    "  cache       none, writeback, writethrough, directsync or unsafe (the default of convert)\n"
    "  size        bytes, or with a suffix k, M, G, T, P or E (powers of 1024)\n"
    "  options     name=value,...; -o help lists them\n"
    "  snapshot    an ID or a name, or snapshot.id=ID,snapshot.name=NAME\n"
    "  objectdef   secret,id=ID,data=TEXT|file=PATH[,format=base64], tls-creds-x509,id=ID,dir=PATH,endpoint=client|server\n"
    "              or tls-creds-psk,id=ID,dir=PATH,username=NAME,endpoint=client|server\n"
    "  -p          show progress; SIGUSR1 tells it at any time\n"
    "  -q          print nothing but errors\n"
    "  -U          open images that others have open for writing\n"
    "  -c          compress (formats that can)\n"
    "  -S          how many zero bytes in a row become a hole (4k); 0 writes all\n"
    "  -n          the target exists already\n"
    "  -m, -W      how many requests at once (8); write them in any order\n"
    "  -u          do not look at the backing file's content\n"
    "  -r          check: repair leaks or all; others: at most so many bytes a second\n"
    "\n";

}  // namespace

int print_help() {
  std::string text = kIntroduction;
  for (const Command* command : commands()) text += fmt::format("  {} {}\n", command->name, command->usage);
  text += kParameters;
  text += "Supported formats:";
  for (const block::Driver* driver : block::drivers()) text += fmt::format(" {}", driver->name);
  fmt::print("{}\n", text);
  return 0;
}

int print_version(const std::string& program) {
  fmt::print("{} version {} (Atoll {})\n", program, "7.2.0", "0.1.0");
  return 0;
}

}  // namespace atl::img
