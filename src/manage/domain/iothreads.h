// I/O threads in a domain's tree (<iothreads>, <iothreadids>, <cputune><iothreadpin>), and those that a VM has.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "manage/domain/domain.h"

namespace atl::manage {

/// Those that <iothreadids> names, then as many more as <iothreads> says, with the lowest free numbers.
std::vector<u64> iothread_ids(const Element& domain);
bool has_iothread(const Element& domain, u64 id);
void add_iothread(Element& domain, u64 id);
/// With its pinning.
void remove_iothread(Element& domain, u64 id);
/// "" if it may run anywhere.
std::string iothread_cpuset(const Element& domain, u64 id);
void pin_iothread(Element& domain, u64 id, const std::string& cpus);

/// The threads of a running VM by number.
Result<std::map<u64, int>> running_iothreads(QmpClient& monitor);
Result<std::vector<bool>> thread_cpus(int thread);

}  // namespace atl::manage
