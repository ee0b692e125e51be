// Backups of running domains' disks.
#include "manage/domain/backup.h"
#include "manage/rpc/snapshot_rows.h"
#include "manage/xml/write.h"

namespace atl::manage {
namespace {

Status begin(Call& call) {
  BackupRequest request;
  u32 flags = 0;
  auto domain = TRY(read_domain(call, request.backup, request.checkpoint, flags));
  constexpr u32 kReuse = 1;
  TRY(check_flags(flags, kReuse, "virDomainBackupBegin"));
  request.reuse = flags & kReuse;
  auto job = TRY(domain->begin_job());
  return begin_backup(call.daemon().domains(), *domain, request);
}

Status get_xml(Call& call) {
  u32 flags = 0;
  auto domain = TRY(read_domain(call, flags));
  TRY(check_flags(flags, 0, "virDomainBackupGetXMLDesc"));
  const auto backup = domain->backup();
  if (!backup) return Error(Code::NoDomainBackup, "no domain backup job present");
  call.write(xml::write(shown_backup(*backup)));
  return {};
}

constexpr Procedure kRows[] = {
    {Proc::DOMAIN_BACKUP_BEGIN, Access::Write, begin},
    {Proc::DOMAIN_BACKUP_GET_XML_DESC, Access::Read, get_xml, Where::Quick},
};

}  // namespace

std::span<const Procedure> backup_rows() { return kRows; }

}  // namespace atl::manage
