#include "block/protocol/late_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <span>

#include "base/sync.h"

/// A function of a library: its name, and where the jump of that name leads.
struct LateFunction {
  const char* name;
  void* target;
};

// For each library a table from `late_X` to `late_X_end`, and for each function a hidden symbol of its name, so that the
// library itself never calls our jump. A name that is missing here is an error of the linker.
asm(R"(
  .macro late_table library:req
  .pushsection .data.late_\library, "aw"
  .balign 8
  .globl late_\library
  .hidden late_\library
late_\library:
  .popsection
  .endm

  .macro late_table_end library:req
  .pushsection .data.late_\library, "aw"
  .globl late_\library\()_end
  .hidden late_\library\()_end
late_\library\()_end:
  .popsection
  .endm

  .macro late_one library:req name:req
  .pushsection .rodata.str1.1, "aMS", @progbits, 1
late_name_\name: .asciz "\name"
  .popsection
  .pushsection .data.late_\library, "aw"
late_entry_\name: .quad late_name_\name, 0
  .popsection
  .pushsection .text
  .globl \name
  .hidden \name
  .type \name, @function
\name: jmp *(late_entry_\name + 8)(%rip)
  .size \name, . - \name
  .popsection
  .endm

  .macro late library:req names:vararg
  .irp name, \names
  late_one \library \name
  .endr
  .endm
)"

#ifdef ATOLL_HAVE_CURL
    R"(
  late_table curl
  late curl curl_easy_cleanup, curl_easy_getinfo, curl_easy_init, curl_easy_perform, curl_easy_setopt
  late curl curl_easy_strerror, curl_global_init
  late_table_end curl
)"
#endif

#ifdef ATOLL_HAVE_SSH
    R"(
  late_table ssh
  late ssh sftp_attributes_free, sftp_close, sftp_extension_supported, sftp_free, sftp_fstat, sftp_fsync
  late ssh sftp_get_error, sftp_init, sftp_new, sftp_open, sftp_read, sftp_seek64, sftp_setstat, sftp_write
  late ssh ssh_clean_pubkey_hash, ssh_connect, ssh_disconnect, ssh_free, ssh_get_error, ssh_get_error_code
  late ssh ssh_get_publickey_hash, ssh_get_server_publickey, ssh_key_free, ssh_new, ssh_options_parse_config
  late ssh ssh_options_set, ssh_session_is_known_server, ssh_userauth_none, ssh_userauth_publickey_auto
  late_table_end ssh
)"
#endif

#ifdef ATOLL_HAVE_ISCSI
    R"(
  late_table iscsi
  late iscsi iscsi_create_context, iscsi_destroy_context, iscsi_full_connect_sync, iscsi_get_error, iscsi_is_logged_in
  late iscsi iscsi_logout_sync, iscsi_read16_sync, iscsi_readcapacity16_sync, iscsi_set_header_digest
  late iscsi iscsi_set_initiator_username_pwd, iscsi_set_noautoreconnect, iscsi_set_session_type, iscsi_set_targetname
  late iscsi iscsi_set_timeout, iscsi_synchronizecache10_sync, iscsi_unmap_sync, iscsi_write16_sync
  late iscsi scsi_datain_unmarshall, scsi_free_scsi_task
  late_table_end iscsi
)"
#endif

#ifdef ATOLL_HAVE_NFS
    R"(
  late_table nfs
  late nfs nfs_close, nfs_creat, nfs_destroy_context, nfs_fstat64, nfs_fsync, nfs_ftruncate, nfs_get_error
  late nfs nfs_init_context, nfs_mount, nfs_open, nfs_pread, nfs_pwrite, nfs_set_gid, nfs_set_timeout, nfs_set_uid
  late_table_end nfs
)"
#endif
);

extern "C" LateFunction late_curl[], late_curl_end[], late_ssh[], late_ssh_end[], late_iscsi[], late_iscsi_end[];
extern "C" LateFunction late_nfs[], late_nfs_end[];

namespace atl::block {
namespace {

struct Known {
  LateLibrary library;
  const char* file;
  std::span<LateFunction> functions;
};

const Known kKnown[] = {
#ifdef ATOLL_HAVE_CURL
    {LateLibrary::Curl, ATOLL_CURL_FILE, {late_curl, late_curl_end}},
#endif
#ifdef ATOLL_HAVE_SSH
    {LateLibrary::Ssh, ATOLL_SSH_FILE, {late_ssh, late_ssh_end}},
#endif
#ifdef ATOLL_HAVE_ISCSI
    {LateLibrary::Iscsi, ATOLL_ISCSI_FILE, {late_iscsi, late_iscsi_end}},
#endif
#ifdef ATOLL_HAVE_NFS
    {LateLibrary::Nfs, ATOLL_NFS_FILE, {late_nfs, late_nfs_end}},
#endif
};

Error cannot_load() {
  const char* reason = ::dlerror();
  return Error(ErrorKind::Unsupported, fmt::format("cannot load the protocol's library: {}", reason ? reason : "?"), ENOTSUP);
}

/// The library stays for good: its threads and handlers at exit may run as long as the process does.
Status load(const Known& known) {
  void* handle = ::dlopen(known.file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) return cannot_load();
  for (LateFunction& function : known.functions) {
    function.target = ::dlsym(handle, function.name);
    if (!function.target) return cannot_load();
  }
  return {};
}

}  // namespace

Status load_library(LateLibrary library) {
  static Mutex mutex;
  Lock lock(mutex);
  for (const Known& known : kKnown) {
    if (known.library != library) continue;
    return known.functions.back().target ? Status{} : load(known);
  }
  return Error(ErrorKind::Unsupported, "this build lacks the protocol's library", ENOTSUP);
}

}  // namespace atl::block
