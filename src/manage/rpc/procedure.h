// The procedures that we serve: one row each, in the table of its family. docs/daemon.md says how to add one.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/types.h"
#include "manage/error.h"

namespace atl::manage {

class Call;

/// Numbers of the remote program, in the protocol's own spelling.
enum class Proc : u32 {
#define X(number, name) name = number,
#include "manage/rpc/procedure_list.inc"
#undef X
};

/// Numbers of the QEMU program (0x20008087).
enum class QemuProc : u32 {
  DOMAIN_MONITOR_COMMAND = 1,
  DOMAIN_ATTACH = 2,
  DOMAIN_AGENT_COMMAND = 3,
  CONNECT_DOMAIN_MONITOR_EVENT_REGISTER = 4,
  CONNECT_DOMAIN_MONITOR_EVENT_DEREGISTER = 5,
  DOMAIN_MONITOR_EVENT = 6,
  DOMAIN_MONITOR_COMMAND_WITH_FILES = 7,
};

/// When a call may be made.
enum class Access : u8 {
  Anyone,     // before authentication
  Handshake,  // authenticated, but the hypervisor need not be open
  Read,       // also by read-only clients
  Write,      // refused to them with OperationDenied
};

/// Where the handler runs.
enum class Where : u8 {
  Worker,  // a worker thread: may wait for files, tools and VMs
  Quick,   // one of a few threads kept for calls that never wait for a VM or a tool: always answered
  Loop,    // the server's loop itself: for what only looks at memory, under locks that are held for moments
};

struct Procedure {
  Proc number;
  Access access;
  Status (*handler)(Call&);
  Where where = Where::Worker;
};

struct QemuProcedure {
  QemuProc number;
  Access access;
  Status (*handler)(Call&);
  Where where = Where::Worker;
};

// The families. Each file procedures_*.cc defines one.
std::span<const Procedure> auth_procedures();
std::span<const Procedure> connect_procedures();
std::span<const Procedure> host_procedures();
std::span<const Procedure> event_procedures();
std::span<const Procedure> domain_procedures();
std::span<const Procedure> snapshot_procedures();
std::span<const Procedure> network_procedures();
std::span<const Procedure> storage_procedures();
std::span<const Procedure> secret_procedures();
std::span<const Procedure> node_device_procedures();
std::span<const Procedure> interface_procedures();
std::span<const Procedure> nwfilter_procedures();
std::span<const QemuProcedure> qemu_procedures();

/// All of the above.
std::span<const std::span<const Procedure>> procedure_families();
/// The row of a number; null if we do not serve it.
const Procedure* find_procedure(u32 number);
const QemuProcedure* find_qemu_procedure(u32 number);
/// "CONNECT_OPEN"; "" for a number that libvirt 9.0 does not know.
std::string_view procedure_name(u32 number);
/// "virConnectOpen".
std::string function_name(u32 number);
/// docs/procedures.md: what is served and what is not.
std::string procedure_page();

}  // namespace atl::manage
