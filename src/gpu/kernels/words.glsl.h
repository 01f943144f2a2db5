/* SPDX-License-Identifier: Apache-2.0 */
/* words.glsl.h - the words in which kernels are written, for GLSL: read by cpp -P, behind
 * prelude.glsl. words.cuda.h has the same words for CUDA. */
#define ARGS(fields) layout(push_constant, scalar) uniform Args{fields} p;
#define AT(b, i)     b.v[i]
/* What a pipeline is made with, `value` where nothing is said. */
#define CONSTANT(id, name, value) layout(constant_id = id) const int name = value;
#define SHARED(type, name, n)     shared type name[n];
#define FUNC(type, name, ...)     type name(__VA_ARGS__)
#define CALL(name, ...)           name(__VA_ARGS__)
#define PLAIN(type, name, ...)    type name(__VA_ARGS__)
#define KERNEL(name, items)          \
    layout(local_size_x = items) in; \
    void main()
#define ITEM             int(gl_LocalInvocationID.x)
#define GROUP_X          int(gl_WorkGroupID.x)
#define GROUP_Y          int(gl_WorkGroupID.y)
#define GROUP_Z          int(gl_WorkGroupID.z)
#define GROUPS_X         int(gl_NumWorkGroups.x)
#define BARRIER()        barrier()
#define FMA              fma
#define HALF_PAIR(u)     unpackHalf2x16(u)
#define TO_HALF(x)       unpackHalf2x16(packHalf2x16(vec2(x, 0.0f))).x
#define FLOAT_OF_BITS(u) uintBitsToFloat(u)

/* Matrices of F16 and sums of them, TM x TN x TK: behind matrix/prelude_matrix.glsl. */
#define SUBGROUP_NUMBER int(gl_SubgroupID)
#define HALF            float16_t
#define MATRIX_SUM      coopmat<float, gl_ScopeSubgroup, TM, TN, gl_MatrixUseAccumulator>
#define MATRIX_LEFT     coopmat<float16_t, gl_ScopeSubgroup, TM, TK, gl_MatrixUseA>
#define MATRIX_RIGHT    coopmat<float16_t, gl_ScopeSubgroup, TK, TN, gl_MatrixUseB>
#define MATRIX_ZERO(m)  m = MATRIX_SUM(0.0)
#define MATRIX_LOAD_ROWS(m, s, at, row) \
    coopMatLoad(m, s, at, row, gl_CooperativeMatrixLayoutRowMajor)
#define MATRIX_LOAD_COLUMNS(m, s, at, row) \
    coopMatLoad(m, s, at, row, gl_CooperativeMatrixLayoutColumnMajor)
#define MATRIX_ADD_PRODUCT(c, a, b) c = coopMatMulAdd(a, b, c)
#define MATRIX_STORE(m, s, at, row) coopMatStore(m, s, at, row, gl_CooperativeMatrixLayoutRowMajor)
#define KERNEL_MATRIX(name)         \
    layout(local_size_x_id = 4) in; \
    void main()
