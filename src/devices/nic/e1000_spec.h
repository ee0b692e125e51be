// Names from Intel's "PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual" (317453, for the 82540EM)
// and the "82574 GbE Controller Family Datasheet" (335551). Section numbers of the first unless said otherwise.
#pragma once

#include "base/types.h"

namespace atl::devices::e1000 {

// Registers (13.4), offsets in BAR 0.
enum Register : u32 {
  kCtrl = 0x0000, kStatus = 0x0008, kEecd = 0x0010, kEerd = 0x0014, kCtrlExt = 0x0018, kMdic = 0x0020, kVet = 0x0038,
  kIcr = 0x00c0, kItr = 0x00c4, kIcs = 0x00c8, kIms = 0x00d0, kImc = 0x00d8, kEiac = 0x00dc, kIam = 0x00e0, kIvar = 0x00e4,
  kRctl = 0x0100, kTctl = 0x0400, kExtcnfCtrl = 0x0f00, kPba = 0x1000, kEemngctl = 0x1010,
  kPsrctl = 0x2170, kRdbal = 0x2800, kRdbah = 0x2804, kRdlen = 0x2808, kRdh = 0x2810, kRdt = 0x2818,
  kTdbal = 0x3800, kTdbah = 0x3804, kTdlen = 0x3808, kTdh = 0x3810, kTdt = 0x3818,
  kStatistics = 0x4000, kMpc = 0x4010, kGprc = 0x4074, kBprc = 0x4078, kMprc = 0x407c, kGptc = 0x4080, kGorcl = 0x4088,
  kGotcl = 0x4090, kTorl = 0x40c0, kTotl = 0x40c8, kTpr = 0x40d0, kTpt = 0x40d4, kMptc = 0x40f0, kBptc = 0x40f4,
  kStatisticsEnd = 0x4100,
  kRxcsum = 0x5000, kRfctl = 0x5008, kMta = 0x5200, kMtaEnd = 0x5400, kRal = 0x5400, kRah = 0x5404, kRalEnd = 0x5480,
  kVfta = 0x5600, kVftaEnd = 0x5800, kSwsm = 0x5b50, kFwsm = 0x5b54,
};
inline constexpr u32 kRegisterBytes = 0x20000, kIoBytes = 64;
inline constexpr u32 kStoredBytes = 0xc000;      // registers beyond do not exist and read as zero
inline constexpr u32 kQueueStride = 0x100;       // 82574: the second ring of each direction

// CTRL, STATUS.
inline constexpr u32 kCtrlMasterDisable = 1 << 2, kCtrlSlu = 1 << 6, kCtrlRst = 1 << 26, kCtrlVme = 1 << 30, kCtrlPhyRst = 1u << 31;
inline constexpr u32 kStatusFd = 1, kStatusLu = 1 << 1, kStatusSpeed1000 = 2 << 6, kStatusDetected1000 = 2 << 8, kStatusPhyra = 1 << 10,
                     kStatusMasterEnable = 1 << 19;
// CTRL_EXT (82574).
inline constexpr u32 kCtrlExtEiame = 1 << 24, kCtrlExtIame = 1 << 27;
// EECD, EERD.
inline constexpr u32 kEecdSk = 1, kEecdCs = 2, kEecdDi = 4, kEecdDo = 8, kEecdReq = 1 << 6, kEecdGnt = 1 << 7,
                     kEecdPres = 1 << 8, kEecdAutoRd = 1 << 9, kEecdSizeExShift = 11;
inline constexpr u32 kEerdStart = 1, kEerdDone = 1 << 4, kEerdDone82574 = 1 << 1;
inline constexpr u16 kEepromSum = 0xbaba;
// MDIC.
inline constexpr u32 kMdicWrite = 1 << 26, kMdicRead = 2 << 26, kMdicReady = 1 << 28, kMdicInterrupt = 1 << 29, kMdicError = 1 << 30;
// Interrupt causes.
inline constexpr u32 kTxdw = 1, kTxqe = 2, kLsc = 4, kRxdmt0 = 1 << 4, kRxo = 1 << 6, kRxt0 = 1 << 7, kMdac = 1 << 9;
inline constexpr u32 kRxq0 = 1 << 20, kRxq1 = 1 << 21, kTxq0 = 1 << 22, kTxq1 = 1 << 23, kOther = 1 << 24;  // 82574
inline constexpr u32 kIntAsserted = 1u << 31;
inline constexpr u32 kOtherCauses = kLsc | kRxo | kMdac;
// RCTL.
inline constexpr u32 kRctlEn = 1 << 1, kRctlUpe = 1 << 3, kRctlMpe = 1 << 4, kRctlLpe = 1 << 5, kRctlLoopback = 3 << 6,
                     kRctlBam = 1 << 15, kRctlVfe = 1 << 18, kRctlBsex = 1 << 25, kRctlSecrc = 1 << 26;
inline constexpr u32 kRctlDescriptorType = 3 << 10;
// TCTL.
inline constexpr u32 kTctlEn = 1 << 1;
// RXCSUM, RFCTL.
inline constexpr u32 kRxcsumIpofl = 1 << 8, kRxcsumTuofl = 1 << 9;
inline constexpr u32 kRfctlExten = 1 << 15;
inline constexpr u32 kRahAv = 1u << 31;
// SWSM.
inline constexpr u32 kSwsmSmbi = 1;

// Receive descriptors (3.2.3).
inline constexpr u32 kDescriptorBytes = 16;
inline constexpr u32 kRxDd = 1, kRxEop = 2, kRxIxsm = 4, kRxVp = 8, kRxUdpcs = 0x10, kRxTcpcs = 0x20, kRxIpcs = 0x40;
inline constexpr u32 kRxTcpe = 0x20, kRxIpe = 0x40;                   // errors, legacy
inline constexpr u32 kRxExtTcpe = 1u << 29, kRxExtIpe = 1u << 30;     // errors, extended (82574 section 7.1.5)

// Transmit descriptors (3.3): the command byte, popts, types.
inline constexpr u8 kTxEop = 0x01, kTxIc = 0x04, kTxTse = 0x04, kTxRs = 0x08, kTxDext = 0x20, kTxVle = 0x40;
inline constexpr u8 kTucmdTcp = 0x01, kTucmdIp = 0x02;
inline constexpr u8 kPoptsIxsm = 0x01, kPoptsTxsm = 0x02;
inline constexpr u8 kTypeContext = 0, kTypeData = 1;
inline constexpr u32 kTxDd = 1;

// The PHY (13.4.4 MDIC; IEEE 802.3 clause 22).
enum PhyRegister : u8 {
  kPhyControl = 0, kPhyStatus = 1, kPhyId1 = 2, kPhyId2 = 3, kPhyAdvertise = 4, kPhyPartner = 5, kPhyExpansion = 6,
  kPhy1000Control = 9, kPhy1000Status = 10, kPhyExtStatus = 15, kPhySpecControl = 16, kPhySpecStatus = 17,
};
inline constexpr u16 kPhyReset = 0x8000, kPhyRestartAutoneg = 0x0200;
inline constexpr u16 kPhyLinkUp = 0x0004, kPhyAutonegDone = 0x0020;

}  // namespace atl::devices::e1000
