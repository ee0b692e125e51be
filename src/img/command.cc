#include "img/command.h"

#include <csignal>
#include <cstdio>

#include "img/help.h"

namespace atl::img {
namespace {

constexpr const Command* kCommands[] = {&kAmend,   &kBench, &kBitmap, &kCheck,   &kCommit, &kCompare, &kConvert, &kCreate,
                                        &kDd,      &kInfo,  &kMap,    &kMeasure, &kNbd,    &kRebase,  &kResize,  &kSnapshot};

const Command* find_command(std::string_view name) {
  for (const Command* command : kCommands)
    if (name == command->name) return command;
  return nullptr;
}

/// An interrupted program ends by its signal, so that shells and scripts notice.
[[noreturn]] void die_of(int number) {
  std::fflush(nullptr);
  std::signal(number, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, number);
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  std::raise(number);
  ::_exit(128 + number);
}

int run_command(Tool& tool, const Command& command, std::vector<std::string> words) {
  if (command.prepare) {
    auto prepared = command.prepare(std::move(words));
    if (!prepared) return tool.usage_error(prepared.error().text());
    words = *std::move(prepared);
  }
  auto arguments = Arguments::parse(words, command.options);
  if (!arguments) return tool.usage_error(arguments.error().text());
  if (arguments->has("help")) return print_help();
  if (arguments->has("q")) tool.set_quiet(true);
  if (arguments->has("p") && !tool.quiet()) tool.progress().enable();
  return wait_for(tool.loop(), command.run(tool, *std::move(arguments)));
}

}  // namespace

std::span<const Command* const> commands() { return kCommands; }

int run_img(std::string program, std::vector<std::string> words) {
  program.erase(0, program.rfind('/') + 1);
  if (program == "qemu-nbd") words.insert(words.begin(), "nbd");
  auto tool = Tool::create(program);
  if (!tool) {
    fmt::print(stderr, "{}: {}\n", program, tool.error().text());
    return 1;
  }
  Tool& t = **tool;
  if (words.empty()) return t.usage_error("Not enough arguments");
  if (words[0] == "-h" || words[0] == "--help") return print_help();
  if (words[0] == "-V" || words[0] == "--version") return print_version(t.program());
  if (words[0].starts_with('-')) return t.usage_error(fmt::format("unrecognized option '{}'", words[0]));
  const Command* command = find_command(words[0]);
  if (!command) return t.usage_error("Command not found: " + words[0]);
  int status = run_command(t, *command, {words.begin() + 1, words.end()});
  int signal = t.interrupted();
  tool->reset();
  if (signal && status != 0) die_of(signal);
  return status;
}

}  // namespace atl::img
