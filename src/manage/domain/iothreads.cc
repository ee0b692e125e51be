#include "manage/domain/iothreads.h"

#include <sched.h>

#include <algorithm>

#include <nlohmann/json.hpp>

#include "manage/domain/definition.h"

namespace atl::manage {
namespace {

using Json = nlohmann::json;

constexpr u64 kAnswer_ns = 30'000'000'000;

/// Every thread by its number: adding and removing one then disturbs no other.
void write_ids(Element& domain, const std::vector<u64>& ids) {
  ensure(domain, "iothreads").set_text(std::to_string(ids.size()));
  domain.remove("iothreadids");
  if (ids.empty()) domain.remove("iothreads");
  else
    for (Element& list = domain.add("iothreadids"); u64 id : ids) list.add("iothread").set("id", id);
  put_in_order(domain);
}

const Element* find_pin(const Element& domain, u64 id) {
  const Element* tune = domain.child("cputune");
  for (const Element* pin : tune ? tune->children("iothreadpin") : std::vector<const Element*>())
    if (pin->attribute("iothread") == std::to_string(id)) return pin;
  return nullptr;
}

}  // namespace

std::vector<u64> iothread_ids(const Element& domain) {
  std::vector<u64> ids;
  if (const Element* list = domain.child("iothreadids"))
    for (const Element* thread : list->children("iothread"))
      if (auto id = parse_u64(thread->attribute("id")); id && *id) ids.push_back(*id);
  const u64 count = parse_u64(text_at(domain, "iothreads")).value_or(0);
  for (u64 id = 1; ids.size() < count; ++id)
    if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  return ids;
}

bool has_iothread(const Element& domain, u64 id) {
  const auto ids = iothread_ids(domain);
  return std::ranges::find(ids, id) != ids.end();
}

void add_iothread(Element& domain, u64 id) {
  auto ids = iothread_ids(domain);
  ids.push_back(id);
  write_ids(domain, ids);
}

void remove_iothread(Element& domain, u64 id) {
  auto ids = iothread_ids(domain);
  std::erase(ids, id);
  write_ids(domain, ids);
  Element* tune = domain.child("cputune");
  if (const Element* pin = find_pin(domain, id); tune && pin) tune->content().remove_if([&](const Element& child) { return &child == pin; });
  if (tune && tune->children().empty()) domain.remove("cputune");
}

std::string iothread_cpuset(const Element& domain, u64 id) {
  const Element* pin = find_pin(domain, id);
  return pin ? pin->attribute("cpuset") : at(domain, "vcpu", "cpuset");
}

void pin_iothread(Element& domain, u64 id, const std::string& cpus) {
  Element& tune = ensure(domain, "cputune");
  Element* pin = const_cast<Element*>(find_pin(domain, id));
  if (!pin) pin = &tune.add("iothreadpin").set("iothread", id);
  pin->set("cpuset", cpus);
  put_in_order(domain);
}

Result<std::map<u64, int>> running_iothreads(QmpClient& monitor) {
  constexpr std::string_view kPrefix = "iothread";
  std::map<u64, int> threads;
  const Json answer = TRY(monitor.execute("query-iothreads", Json::object(), kAnswer_ns));
  for (const Json& thread : answer) {
    const std::string name = thread.value("id", "");
    if (!name.starts_with(kPrefix)) continue;
    if (auto id = parse_u64(std::string_view(name).substr(kPrefix.size()))) threads[*id] = thread.value("thread-id", 0);
  }
  return threads;
}

Result<std::vector<bool>> thread_cpus(int thread) {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(thread, sizeof set, &set) < 0) return os_error("sched_getaffinity");
  std::vector<bool> cpus;
  for (size_t cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    cpus.resize(cpu + 1);
    cpus[cpu] = true;
  }
  return cpus;
}

}  // namespace atl::manage
