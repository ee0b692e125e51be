// Architectural constants, with the spelling of the Intel SDM.
#pragma once

#include "base/types.h"

namespace atl::cpu {

enum Rflags : u64 {
  kCF = 1u << 0, kPF = 1u << 2, kAF = 1u << 4, kZF = 1u << 6, kSF = 1u << 7, kTF = 1u << 8, kIF = 1u << 9, kDF = 1u << 10,
  kOF = 1u << 11, kIOPL = 3u << 12, kNT = 1u << 14, kRF = 1u << 16, kVM = 1u << 17, kAC = 1u << 18, kVIF = 1u << 19,
  kVIP = 1u << 20, kID = 1u << 21,
  kArithmeticFlags = kCF | kPF | kAF | kZF | kSF | kOF,
};

enum Cr0 : u64 {
  kCr0PE = 1u << 0, kCr0MP = 1u << 1, kCr0EM = 1u << 2, kCr0TS = 1u << 3, kCr0ET = 1u << 4, kCr0NE = 1u << 5,
  kCr0WP = 1u << 16, kCr0AM = 1u << 18, kCr0NW = 1u << 29, kCr0CD = 1u << 30, kCr0PG = 1u << 31,
};

enum Cr4 : u64 {
  kCr4VME = 1u << 0, kCr4PVI = 1u << 1, kCr4TSD = 1u << 2, kCr4DE = 1u << 3, kCr4PSE = 1u << 4, kCr4PAE = 1u << 5,
  kCr4MCE = 1u << 6, kCr4PGE = 1u << 7, kCr4PCE = 1u << 8, kCr4OSFXSR = 1u << 9, kCr4OSXMMEXCPT = 1u << 10,
  kCr4UMIP = 1u << 11, kCr4FSGSBASE = 1u << 16, kCr4PCIDE = 1u << 17, kCr4OSXSAVE = 1u << 18, kCr4SMEP = 1u << 20,
  kCr4SMAP = 1u << 21, kCr4PKE = 1u << 22,
};

enum Efer : u64 { kEferSCE = 1u << 0, kEferLME = 1u << 8, kEferLMA = 1u << 10, kEferNXE = 1u << 11 };

enum Vector : u8 {
  kDE = 0, kDB = 1, kNMI = 2, kBP = 3, kOFv = 4, kBR = 5, kUD = 6, kNM = 7, kDFault = 8, kTS = 10, kNP = 11, kSSFault = 12,
  kGP = 13, kPFault = 14, kMFault = 16, kACheck = 17, kMC = 18, kXM = 19,
};

/// #PF error code bits.
enum PageFaultCode : u32 { kPfP = 1, kPfW = 2, kPfU = 4, kPfRsvd = 8, kPfI = 16, kPfPk = 32 };

enum Msr : u32 {
  kMsrTsc = 0x10, kMsrPlatformId = 0x17, kMsrApicBase = 0x1b, kMsrFeatureControl = 0x3a, kMsrTscAdjust = 0x3b,
  kMsrSpecCtrl = 0x48, kMsrPredCmd = 0x49, kMsrBiosSignId = 0x8b, kMsrMtrrCap = 0xfe, kMsrArchCapabilities = 0x10a,
  kMsrSysenterCs = 0x174, kMsrSysenterEsp = 0x175, kMsrSysenterEip = 0x176, kMsrMcgCap = 0x179, kMsrMcgStatus = 0x17a,
  kMsrMiscEnable = 0x1a0, kMsrMtrrPhysBase0 = 0x200, kMsrMtrrFix64k = 0x250, kMsrPat = 0x277, kMsrMtrrDefType = 0x2ff,
  kMsrTscDeadline = 0x6e0, kMsrX2apicBase = 0x800, kMsrXss = 0xda0,
  kMsrEfer = 0xc0000080, kMsrStar = 0xc0000081, kMsrLstar = 0xc0000082, kMsrCstar = 0xc0000083, kMsrSfmask = 0xc0000084,
  kMsrFsBase = 0xc0000100, kMsrGsBase = 0xc0000101, kMsrKernelGsBase = 0xc0000102, kMsrTscAux = 0xc0000103,
};

}  // namespace atl::cpu
