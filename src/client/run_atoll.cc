#include "client/run_atoll.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <span>

#include "client/doctor.h"
#include "client/install.h"
#include "client/stat.h"
#include "client/verb.h"

namespace atl::client {

namespace {

constexpr char kUsage[] =
    "Usage: atoll [-c URI] [-r] [-q] COMMAND [ARGUMENT]...\n\n"
    "  -c, --connect URI   daemon: qemu:///system, qemu+unix:///system?socket=PATH, or a socket's path\n"
    "  -r, --readonly      look, do not touch\n"
    "  -q, --quiet         only what was asked for\n"
    "  -V, --version\n"
    "  -h, --help\n\n"
    "    install                        a new domain: atoll install --help\n\n"
    "Without the daemon:\n"
    "    stat                           counters of virtual machines: atoll stat --help\n"
    "    doctor                         what this host can do, and what to do about what it cannot\n\n";

struct Options {
  std::string uri;
  bool read_only = false, quiet = false;
  size_t used = 0;  // words before the command
  const char* mistake = nullptr;
};

Options parse(const std::vector<std::string>& words) {
  Options options;
  if (const char* uri = std::getenv("ATOLL_DEFAULT_URI")) options.uri = uri;
  for (; options.used < words.size() && words[options.used].starts_with("-"); ++options.used) {
    const std::string& word = words[options.used];
    if (word == "-r" || word == "--readonly") {
      options.read_only = true;
    } else if (word == "-q" || word == "--quiet") {
      options.quiet = true;
    } else if (word == "-c" || word == "--connect") {
      if (++options.used == words.size()) {
        options.mistake = "--connect needs a URI";
        break;
      }
      options.uri = words[options.used];
    } else {
      options.mistake = "unknown option";
      break;
    }
  }
  return options;
}

int fail(std::string_view message) {
  fmt::print(stderr, "error: {}\n", message);
  return 1;
}

int run_verb(const Verb& verb, std::span<const std::string> words, const Options& options) {
  auto arguments = Arguments::parse(verb.arguments, words);
  if (!arguments) return fail(arguments.error().message());
  Context context(options.uri, options.read_only, options.quiet);
  auto text = verb.run(context, *arguments);
  if (!text) return fail(text.error().message());
  fmt::print("{}{}", *text, options.quiet ? "" : "\n");
  return 0;
}

}  // namespace

int run_atoll(const std::vector<std::string>& words) {
  if (words.empty() || words[0] == "-h" || words[0] == "--help" || words[0] == "help") {
    fmt::print("{}{}", kUsage, help_text());
    return words.empty();
  }
  if (words[0] == "-V" || words[0] == "--version") {
    fmt::print("atoll (Atoll) 0.1.0\n");
    return 0;
  }
  Options options = parse(words);
  if (options.mistake) return fail(options.mistake);
  std::span<const std::string> rest = std::span(words).subspan(options.used);
  if (rest.empty()) return fail("a command is missing; see --help");
  if (rest[0] == "stat") return run_stat(rest.subspan(1));
  if (rest[0] == "doctor") return run_doctor(rest.subspan(1));
  if (rest[0] == "install") {
    Context context(options.uri, options.read_only, options.quiet);
    return run_install(context, rest.subspan(1));
  }
  const Verb* verb = find_verb(rest[0]);
  if (!verb) return fail(fmt::format("unknown command: '{}'", rest[0]));
  return run_verb(*verb, rest.subspan(1), options);
}

}  // namespace atl::client
