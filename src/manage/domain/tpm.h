// A guest's TPM: swtpm(8), one process beside the VM, as the VM's user and in its control group. Its state is in
// STATE/swtpm/UUID/tpm2 (or tpm1.2) and lives as long as the definition. Supported: TPM 2.0 and 1.2, state that is
// encrypted with a secret. Missing: certificates of a manufacturer, choice of PCR banks; they are refused by name.
#pragma once

#include "manage/config.h"
#include "manage/domain/domains.h"

namespace atl::manage {

/// Whether the host has what a TPM takes.
bool has_tpm_emulator();
/// Of a <tpm>: what cannot be had.
Status check_tpm(const Element& tpm);
/// Starts what the domain's <tpm> asks for, and waits on the socket that is returned; "" without a TPM.
Result<std::string> start_tpm(const Config& config, const Element& domain, const RunningVm& vm, const SecretValues& secrets);
/// The TPM forgets everything. Nothing happens if there is none.
void forget_tpm(const Config& config, const Uuid& domain);

}  // namespace atl::manage
