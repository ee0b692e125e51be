// Names from Realtek's "RTL8139C(L)" and "RTL8139C+" data sheets.
#pragma once

#include "base/types.h"

namespace atl::devices::rtl8139 {

inline constexpr u32 kRegisterBytes = 256;

// Registers, offsets in either BAR.
enum Register : u8 {
  kIdr = 0x00, kMar = 0x08, kTsd = 0x10, kDtccr = 0x10, kTsad = 0x20, kTnpds = 0x20, kThpds = 0x28, kRbstart = 0x30,
  kCr = 0x37, kCapr = 0x38, kCbr = 0x3a, kImr = 0x3c, kIsr = 0x3e, kTcr = 0x40, kRcr = 0x44, kTctr = 0x48, kMpc = 0x4c,
  k9346 = 0x50, kConfig0 = 0x51, kConfig1 = 0x52, kTimerInt = 0x54, kMsr = 0x58, kConfig3 = 0x59, kConfig4 = 0x5a,
  kMulint = 0x5c, kTsadSummary = 0x60, kBmcr = 0x62, kBmsr = 0x64, kAnar = 0x66, kAnlpar = 0x68, kAner = 0x6a,
  kCscr = 0x74, kConfig5 = 0xd8, kTppoll = 0xd9, kCpcr = 0xe0, kRdsar = 0xe4, kEtthr = 0xec,
};

inline constexpr u8 kCrRst = 0x10, kCrRe = 0x08, kCrTe = 0x04, kCrBufe = 0x01;
// ISR and IMR.
inline constexpr u16 kRok = 0x0001, kTok = 0x0004, kRxovw = 0x0010, kLinkChange = 0x0020, kTdu = 0x0080, kSwInt = 0x0100,
                     kTimeOut = 0x4000;
// TSD.
inline constexpr u32 kTsdOwn = 1 << 13, kTsdTok = 1 << 15, kTsdSize = 0x1fff;
// TCR, RCR.
inline constexpr u32 kTcrLoopback = 3 << 17, kTcrVersion = 0x74800000;  // RTL8139C+
inline constexpr u32 kRcrAap = 1, kRcrApm = 2, kRcrAm = 4, kRcrAb = 8, kRcrWrap = 1 << 7;
// 9346CR.
inline constexpr u8 kEedo = 1, kEedi = 2, kEesk = 4, kEecs = 8, kEeMode = 0xc0, kEeLoad = 0x40, kEeProgram = 0x80, kEeUnlock = 0xc0;
// MSR, TPPoll, CPCR, DTCCR.
inline constexpr u8 kMsrLinkDown = 0x04;
inline constexpr u8 kPollHigh = 0x80, kPollNormal = 0x40, kPollSwInt = 0x01;
inline constexpr u16 kCpTx = 1, kCpRx = 2, kCpRxChecksum = 1 << 5, kCpRxVlan = 1 << 6;
inline constexpr u32 kDumpTally = 1 << 3;
// PHY.
inline constexpr u16 kBmcrReset = 0x8000, kBmcrRestart = 0x0200, kBmsrLink = 0x0004, kBmsrDone = 0x0020;

// The packet header of the receive buffer.
inline constexpr u16 kRxRok = 0x0001, kRxBar = 0x2000, kRxPam = 0x4000, kRxMar = 0x8000;
inline constexpr u32 kRxHeaderBytes = 4;

// C+ descriptors: first dword.
inline constexpr u32 kCpDescriptorBytes = 16;
inline constexpr u32 kOwn = 1u << 31, kEor = 1 << 30, kFs = 1 << 29, kLs = 1 << 28;
inline constexpr u32 kTxLgsen = 1 << 27, kTxIpcs = 1 << 18, kTxUdpcs = 1 << 17, kTxTcpcs = 1 << 16;
inline constexpr u32 kTxTagc = 1 << 17;  // second dword
inline constexpr u32 kRxCpMar = 1 << 26, kRxCpPam = 1 << 25, kRxCpBar = 1 << 24, kRxCpIpf = 1 << 15, kRxCpUdpf = 1 << 14,
                     kRxCpTcpf = 1 << 13, kRxCpPidShift = 16, kRxCpSize = 0x1fff;
inline constexpr u32 kRxCpTava = 1 << 16;

}  // namespace atl::devices::rtl8139
