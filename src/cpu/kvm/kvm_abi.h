// <linux/kvm.h> with the layouts that C gives its structures. Linux 6.1's headers declare flexible arrays behind an empty
// structure, which takes a byte in C++ and with that changes sizes and the ioctl numbers made of them.
#pragma once

#include <linux/stddef.h>
#undef __DECLARE_FLEX_ARRAY
#define __DECLARE_FLEX_ARRAY(TYPE, NAME) TYPE NAME[0]

#include <linux/kvm.h>

static_assert(sizeof(kvm_msr_list) == 4 && sizeof(kvm_cpuid2) == 8 && sizeof(kvm_xsave) == 4096);
