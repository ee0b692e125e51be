// Names from Serial ATA AHCI 1.3.1: registers (chapter 3), command list and received FIS structures (chapter 4), and frame
// types of Serial ATA 3 (10.5).
#pragma once

#include "base/types.h"

namespace atl::devices::ahci {

// Generic host control.
inline constexpr u32 kCap = 0x00, kGhc = 0x04, kIs = 0x08, kPi = 0x0c, kVs = 0x10;
inline constexpr u32 kCapSlots = 31u << 8, kCapClo = 1u << 24, kCapAhciOnly = 1u << 18, kCapGen1 = 1u << 20, kCapNcq = 1u << 30,
                     kCap64 = 1u << 31;
inline constexpr u32 kGhcReset = 1, kGhcInterrupts = 2, kGhcEnable = 1u << 31;
inline constexpr u32 kVersion = 0x00010300;

// A port's registers.
inline constexpr u32 kPortBase = 0x100, kPortBytes = 0x80;
inline constexpr u32 kPxClb = 0x00, kPxClbu = 0x04, kPxFb = 0x08, kPxFbu = 0x0c, kPxIs = 0x10, kPxIe = 0x14, kPxCmd = 0x18,
                     kPxTfd = 0x20, kPxSig = 0x24, kPxSsts = 0x28, kPxSctl = 0x2c, kPxSerr = 0x30, kPxSact = 0x34, kPxCi = 0x38;
inline constexpr u32 kCmdSt = 1, kCmdSud = 2, kCmdPod = 4, kCmdClo = 8, kCmdFre = 0x10, kCmdFr = 1u << 14, kCmdCr = 1u << 15;
inline constexpr u32 kCmdWritable = kCmdSt | kCmdSud | kCmdPod | kCmdFre | 1u << 24 | 0xf0000000;
inline constexpr u32 kIsD2h = 1 << 0, kIsPioSetup = 1 << 1, kIsSetDeviceBits = 1 << 3, kIsConnect = 1 << 6, kIsTaskFileError = 1u << 30;
inline constexpr u32 kIeMask = 0xfdc000ff;
inline constexpr u32 kLinkUp = 0x113;          // PxSSTS: device present, generation 1, active
inline constexpr u32 kSerrExchanged = 1 << 26;
inline constexpr u32 kSctlDetect = 0xf;

// Command header and table.
inline constexpr u32 kHeaderBytes = 32, kTableHeader = 0x80, kPacketAt = 0x40, kPrdBytes = 16;
inline constexpr u32 kSlots = 32;

// Received FIS area.
inline constexpr u32 kPioSetupAt = 0x20, kD2hAt = 0x40, kSetDeviceBitsAt = 0x58;
inline constexpr u8 kFisH2d = 0x27, kFisD2h = 0x34, kFisPioSetup = 0x5f, kFisToHost = 0x20, kFisSetDeviceBits = 0xa1;
inline constexpr u8 kFisCommand = 0x80, kFisInterrupt = 0x40;

}  // namespace atl::devices::ahci
