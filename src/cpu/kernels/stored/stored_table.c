/* SPDX-License-Identifier: Apache-2.0 */
/* stored_table.c - this instruction set's and storage type's kernels in one table. */
#include "cpu/kernels/stored/stored.h"

#define CN_TABLE2(isa, store) cn_stored_##isa##_##store
#define CN_TABLE1(isa, store) CN_TABLE2(isa, store)

const cn_stored_kernels CN_TABLE1(CN_ISA, CN_STORE) = {
#define CN_KERNEL_ENTRY(result, name, arguments) .name = CN_S(name),
    CN_STORED_LIST(CN_KERNEL_ENTRY)
#undef CN_KERNEL_ENTRY
};
