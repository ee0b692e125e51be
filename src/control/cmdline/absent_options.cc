// Options of qemu-system-x86_64 7.2 that are not served, and what to say of each.
#include <algorithm>
#include <utility>

#include "control/cmdline/handlers.h"

namespace atl::control {
namespace {

constexpr const char* kNoMigration = "there is no migration";
constexpr const char* kNoWindow = "there are no windows; -vnc shows the screen";
constexpr const char* kNoInterpreterOptions = "QEMU's translator is not here; -accel soft has its own settings";
constexpr const char* kNoSharedFolders = "there is no 9p; use a network file system or virtiofs outside";
constexpr const char* kNoXen = "there is no Xen";
constexpr const char* kNoSdCard = "there is no SD or flash card; use -drive if=virtio";

constexpr std::pair<std::string_view, const char*> kAbsent[] = {
    {"sd", kNoSdCard},
    {"mtdblock", kNoSdCard},
    {"incoming", kNoMigration},
    {"only-migratable", kNoMigration},
    {"loadvm", "there are no machine snapshots"},
    {"dump-vmstate", "there is no description of saved state"},
    {"icount", kNoInterpreterOptions},
    {"singlestep", kNoInterpreterOptions},
    {"dfilter", kNoInterpreterOptions},
    {"plugin", kNoInterpreterOptions},
    {"seed", kNoInterpreterOptions},
    {"full-screen", kNoWindow},
    {"portrait", kNoWindow},
    {"rotate", kNoWindow},
    {"g", kNoWindow},
    {"spice", "there is no SPICE; -vnc shows the screen"},
    {"fsdev", kNoSharedFolders},
    {"virtfs", kNoSharedFolders},
    {"iscsi", "give the initiator's settings to the block node (driver=iscsi)"},
    {"dtb", "PCs have no device tree"},
    {"win2k-hack", "the IDE disk has no such mode"},
    {"no-fd-bootchk", "firmware always looks for a boot sector's signature"},
    {"enable-sync-profile", "locks are not counted"},
    {"async-teardown", "memory is given back before the program ends"},
    {"preconfig", "machines are built at once"},
    {"xen-attach", kNoXen},
    {"xen-domid", kNoXen},
    {"xen-domid-restrict", kNoXen},
};

}  // namespace

const char* why_absent(std::string_view option) {
  auto at = std::ranges::find(kAbsent, option, &std::pair<std::string_view, const char*>::first);
  return at == std::end(kAbsent) ? nullptr : at->second;
}

}  // namespace atl::control
