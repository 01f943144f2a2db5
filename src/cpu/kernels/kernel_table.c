/* SPDX-License-Identifier: Apache-2.0 */
/* kernel_table.c - this instruction set's kernels in one table. */
#include "cpu/kernels/kernels.h"

#define CN_NAME2(isa) cn_kernels_##isa
#define CN_NAME1(isa) CN_NAME2(isa)
#define CN_TEXT2(isa) #isa
#define CN_TEXT1(isa) CN_TEXT2(isa)

#define CN_STORED2(isa, type) cn_stored_##isa##_##type
#define CN_STORED1(isa, type) CN_STORED2(isa, type)

const cn_kernels CN_NAME1(CN_ISA) = {
    .isa = CN_TEXT1(CN_ISA),
    .stored = {&CN_STORED1(CN_ISA, f32), &CN_STORED1(CN_ISA, bf16)},
#define CN_KERNEL_ENTRY(result, name, arguments) .name = CN_K(name),
    CN_KERNEL_LIST(CN_KERNEL_ENTRY)
#undef CN_KERNEL_ENTRY
};
