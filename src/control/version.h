// What the program calls itself, and which QEMU it stands in for.
#pragma once

namespace atl::control {

inline constexpr char kPackage[] = "Atoll 0.1.0";
inline constexpr int kQemuMajor = 7, kQemuMinor = 2, kQemuMicro = 0;

}  // namespace atl::control
