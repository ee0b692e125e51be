#include "manage/domain/tpm.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>

#include <fmt/format.h>

#include "base/sockets.h"
#include "manage/store/state_folder.h"
#include "manage/tool/run_tool.h"
#include "manage/uuid.h"

namespace atl::manage {
namespace {

namespace fs = std::filesystem;

std::string folder_of(const Config& config, const Uuid& domain) { return fmt::format("{}/swtpm/{}", config.paths.state, format_uuid(domain)); }

bool is_version_2(const Element& tpm) { return at(tpm, "backend", "version") != "1.2"; }

/// The user of a VM is another one at every start.
Status give_away(const std::string& folder, uid_t user) {
  if (!user) return {};
  std::error_code failed;
  for (const auto& entry : fs::recursive_directory_iterator(folder, failed))
    if (::lchown(entry.path().c_str(), user, user) < 0) return os_error("chown " + entry.path().string());
  if (::chown(folder.c_str(), user, user) < 0) return os_error("chown " + folder);
  return {};
}

Result<std::string> make_state(const Config& config, const Element& tpm, const Uuid& domain, uid_t user) {
  const std::string top = folder_of(config, domain), folder = top + (is_version_2(tpm) ? "/tpm2" : "/tpm1.2");
  TRY(make_folders(config.paths.state + "/swtpm", 0711));
  TRY(make_folders(top, 0711));
  TRY(make_folders(folder, 0700));
  TRY(give_away(folder, user));
  return folder;
}

/// A socket that the VM's user may connect to.
Result<Fd> listen_for_vm(const std::string& path, uid_t user) {
  Fd listener = TRY(listen_unix(path));
  if (user && ::chown(path.c_str(), user, user) < 0) return os_error("chown " + path);
  return listener;
}

}  // namespace

bool has_tpm_emulator() { return !find_tool("swtpm").empty(); }

Status check_tpm(const Element& tpm) {
  const Element* backend = tpm.child("backend");
  if (!backend) return xml_error("missing TPM device backend type");
  if (backend->attribute("type") != "emulator")
    return config_unsupported(fmt::format("<tpm> backend '{}' is not supported by atoll-vmm", backend->attribute("type")));
  if (backend->child("active_pcr_banks")) return config_unsupported("<active_pcr_banks> of a <tpm> is not supported");
  if (const Element* encryption = backend->child("encryption"); encryption && !parse_uuid(encryption->attribute("secret")))
    return xml_error(fmt::format("Unable to parse secret uuid '{}'", encryption->attribute("secret")));
  const std::string model = tpm.attribute("model"), version = backend->attribute("version");
  if (model != "tpm-tis" && model != "tpm-crb") return config_unsupported(fmt::format("<tpm model='{}'> is not supported by atoll-vmm", model));
  if (version != "2.0" && version != "1.2") return xml_error(fmt::format("Unsupported TPM version '{}'", version));
  if (model == "tpm-crb" && version != "2.0") return config_unsupported("TPM 1.2 is not supported with the CRB device model");
  return {};
}

namespace {

/// The passphrase that the state is encrypted with, in a file without a name; nothing if it is not.
Result<Fd> passphrase_file(const Element& tpm, const SecretValues& values) {
  const Element* encryption = tpm.find("backend/encryption");
  if (!encryption) return Fd();
  if (!values) return config_unsupported("secrets are not supported by this daemon");
  Element secret("secret");
  secret.set("uuid", encryption->attribute("secret"));
  const std::string value = TRY(values(secret));
  Fd file(::memfd_create("tpm-passphrase", MFD_CLOEXEC));
  if (!file) return os_error("memfd_create");
  TRY(write_all(file, std::span(reinterpret_cast<const u8*>(value.data()), value.size())));
  if (::lseek(file.get(), 0, SEEK_SET) < 0) return os_error("lseek");
  return file;
}

}  // namespace

Result<std::string> start_tpm(const Config& config, const Element& domain, const RunningVm& vm, const SecretValues& secrets) {
  const Element* tpm = devices_of(domain).child("tpm");
  if (!tpm) return std::string();
  const std::string program = find_tool("swtpm"), name = text_at(domain, "name");
  if (program.empty()) return operation_unsupported("Unable to find 'swtpm' binary in $PATH");
  const Uuid uuid = TRY(xml::uuid_child(domain));
  const std::string state = TRY(make_state(config, *tpm, uuid, vm.user)), path = vm.folder + "/tpm.sock";
  Fd listener = TRY(listen_for_vm(path, vm.user));
  Fd log = TRY(open_file(fmt::format("{}/{}-swtpm.log", config.paths.log, name), O_WRONLY | O_CREAT | O_APPEND, 0600));
  ProcessRequest request;
  request.program = program;
  request.arguments = {"socket", "--ctrl", fmt::format("type=unixio,fd={}", listener.get()), "--tpmstate", fmt::format("dir={},mode=0600", state),
                       "--terminate"};
  if (is_version_2(*tpm)) request.arguments.push_back("--tpm2");
  request.environment = {"LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  request.descriptors = {listener.get()};
  const Fd passphrase = TRY(passphrase_file(*tpm, secrets));
  if (passphrase) {
    request.arguments.insert(request.arguments.end(), {"--key", fmt::format("pwdfd={},mode=aes-256-cbc", passphrase.get())});
    request.descriptors.push_back(passphrase.get());
  }
  request.log = log.get();
  request.user = request.group = vm.user;
  TRY(start_process(request, [&](pid_t pid) { return vm.group.attach(pid); }));
  return path;
}

void forget_tpm(const Config& config, const Uuid& domain) {
  std::error_code ignored;
  fs::remove_all(folder_of(config, domain), ignored);
}

}  // namespace atl::manage
