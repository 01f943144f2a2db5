/* SPDX-License-Identifier: Apache-2.0 */
/* words.glsl.h - the words in which kernels are written, for GLSL: read by cpp -P, behind
 * prelude.glsl. words.cuda.h has the same words for CUDA. */
#define ARGS(fields)           layout(push_constant, scalar) uniform Args{fields} p;
#define AT(b, i)               b.v[i]
#define SHARED(type, name, n)  shared type name[n];
#define FUNC(type, name, ...)  type name(__VA_ARGS__)
#define CALL(name, ...)        name(__VA_ARGS__)
#define PLAIN(type, name, ...) type name(__VA_ARGS__)
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
