#include "client/install.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <ctime>

#include "base/strings.h"
#include "manage/uuid.h"
#include "manage/xml/write.h"

namespace atl::client {
namespace {

using manage::DomainRef;
using manage::PoolRef;
using manage::xml::Element;

/// The pool of a folder; made, and started with the daemon, where there is none, as virt-install does.
Result<PoolRef> pool_of(Context& context, const std::string& folder) {
  if (auto pool = context.get<PoolRef>(Proc::STORAGE_POOL_LOOKUP_BY_TARGET_PATH, folder)) return pool;
  Element tree("pool");
  tree.set("type", "dir");
  tree.add("name", std::string_view(folder).substr(folder.rfind('/') + 1));
  tree.add("target").add("path", std::string_view(folder));
  PoolRef pool = TRY(context.get<PoolRef>(Proc::STORAGE_POOL_DEFINE_XML, manage::xml::write(tree), u32{0}));
  TRY(context.call(Proc::STORAGE_POOL_CREATE, pool, u32{0}));
  TRY(context.call(Proc::STORAGE_POOL_SET_AUTOSTART, pool, true));
  return pool;
}

Status make_volume(Context& context, const NewVolume& wanted) {
  size_t slash = wanted.path.rfind('/');
  PoolRef pool = TRY(pool_of(context, wanted.path.substr(0, std::max<size_t>(slash, 1))));
  Element tree("volume");
  tree.add("name", std::string_view(wanted.path).substr(slash + 1));
  if (wanted.bytes) tree.add("capacity", wanted.bytes).set("unit", "bytes");
  tree.add("allocation", wanted.is_sparse ? u64{0} : wanted.bytes).set("unit", "bytes");
  tree.add("target").add("format").set("type", wanted.format);
  if (!wanted.backing_path.empty()) {
    Element& backing = tree.add("backingStore");
    backing.add("path", std::string_view(wanted.backing_path));
    backing.add("format").set("type", wanted.backing_format.empty() ? "qcow2" : wanted.backing_format);
  }
  TRY(context.call(Proc::STORAGE_VOL_CREATE_XML, pool, manage::xml::write(tree), u32{0}));
  return {};
}

/// Waits until the installer is done; false when the minutes are over.
Result<bool> wait_for_end(Context& context, const std::string& name, i64 minutes) {
  const std::time_t until = std::time(nullptr) + minutes * 60;
  while (minutes < 0 || std::time(nullptr) < until) {
    auto domain = context.domain(name);
    if (!domain || domain->id < 0) return true;
    ::sleep(1);
  }
  return false;
}

Status print_plan(const InstallPlan& plan, const std::string& step) {
  if (!plan.installs || step == "1") {
    fmt::print("{}", manage::xml::write(plan.first));
  } else if (step == "2") {
    fmt::print("{}", manage::xml::write(plan.last));
  } else if (step.empty() || step == "all") {
    fmt::print("{}{}", manage::xml::write(plan.first), manage::xml::write(plan.last));
  } else {
    return manage::invalid_arg(fmt::format("--print-xml takes 1, 2 or all, not '{}'", step));
  }
  return {};
}

Result<DomainRef> begin(Context& context, const InstallOptions& options, const InstallPlan& plan) {
  for (const NewVolume& volume : plan.volumes) TRY(make_volume(context, volume));
  DomainRef domain = TRY(context.get<DomainRef>(Proc::DOMAIN_CREATE_XML, manage::xml::write(plan.first), u32{0}));
  if (options.has("transient")) return domain;
  // What is defined for good is the same machine: the daemon has chosen its identity by now.
  Element last = plan.last;
  if (!last.child("uuid")) {
    Element uuid("uuid");
    uuid.set_text(manage::format_uuid(domain.uuid));
    last.content().insert(std::next(last.content().begin()), std::move(uuid));
  }
  TRY(context.call(Proc::DOMAIN_DEFINE_XML_FLAGS, manage::xml::write(last), u32{0}));
  if (options.has("autostart")) TRY(context.call(Proc::DOMAIN_SET_AUTOSTART, domain, i32{1}));
  return domain;
}

/// What follows a start: a console, or the wait for the installer's end.
Status follow(Context& context, const InstallOptions& options, const InstallPlan& plan) {
  const std::string console = options.has("noautoconsole") ? "none" : options["autoconsole"];
  if (console == "text") {
    std::vector<std::string> words = {plan.name};
    const Verb* verb = find_verb("console");
    auto arguments = TRY(Arguments::parse(verb->arguments, words));
    TRY(verb->run(context, arguments));
  }
  i64 minutes = parse_i64(options["wait"]).value_or(options.has("wait") ? -1 : 0);
  bool ended = minutes != 0 && TRY(wait_for_end(context, plan.name, minutes));
  if (!ended) {
    fmt::print("Domain is still running.{}\n", plan.installs ? " Installation may be in progress." : "");
    return {};
  }
  if (plan.installs && !options.has("noreboot") && !options.has("transient")) {
    DomainRef domain = TRY(context.domain(plan.name));
    TRY(context.call(Proc::DOMAIN_CREATE_WITH_FLAGS, domain, u32{0}));
  }
  fmt::print("Domain creation completed.\n");
  return {};
}

Status install(Context& context, const InstallOptions& options) {
  InstallPlan plan = TRY(plan_install(options));
  if (options.has("print-xml")) return print_plan(plan, options["print-xml"]);
  if (options.has("dry-run")) {
    fmt::print("Dry run completed successfully\n");
    return {};
  }
  if (auto there = context.domain(plan.name))
    return manage::invalid_arg(fmt::format("Guest name '{}' is already in use.", plan.name));
  if (!options.has("quiet")) fmt::print("\nStarting install...\n");
  TRY(begin(context, options, plan));
  return follow(context, options, plan);
}

}  // namespace

int run_install(Context& context, std::span<const std::string> words) {
  auto options = parse_install_options(words);
  if (options && options->has("help")) return fmt::print("{}", install_help()), 0;
  Context named(options ? (*options)["connect"] : "", false, false);
  Context& daemon = options && options->has("connect") ? named : context;
  Status done = options ? install(daemon, *options) : Status(options.error());
  if (done) return 0;
  fmt::print(stderr, "ERROR    {}\n", done.error().message());
  return 1;
}

}  // namespace atl::client
