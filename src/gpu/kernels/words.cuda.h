/* SPDX-License-Identifier: Apache-2.0 */
/* words.cuda.h - the words in which kernels are written, for CUDA: so far the kernels' text is
 * compiled by it (tools/check-cuda.sh) and never run. */
#include <cuda_fp16.h>

struct F32 {
    float *v;
};
struct I32 {
    int *v;
};
struct U32 {
    uint *v;
};
#define ARGS(fields) \
    struct Args {    \
        fields       \
    };
#define AT(b, i)                  b.v[i]
#define CONSTANT(id, name, value) static constexpr int name = value;
#define SHARED(type, name, n)     static __shared__ type name[n];
#define FUNC(type, name, ...) \
    static __device__ __forceinline__ type name(const Args &p, __VA_ARGS__)
#define CALL(name, ...) name(p, __VA_ARGS__)
/* Called by its name, and by CALL as those that see the arguments are. */
#define PLAIN(type, name, ...)                                                              \
    static __device__ __forceinline__ type name(__VA_ARGS__);                               \
    template <class... A> static __device__ __forceinline__ type name(const Args &, A... a) \
    {                                                                                       \
        return name(a...);                                                                  \
    }                                                                                       \
    static __device__ __forceinline__ type name(__VA_ARGS__)
#define KERNEL(name, items)                             \
    extern "C" __global__ void __launch_bounds__(items) \
        kernel_##name(const __grid_constant__ Args p)
#define ITEM             int(threadIdx.x)
#define GROUP_X          int(blockIdx.x)
#define GROUP_Y          int(blockIdx.y)
#define GROUP_Z          int(blockIdx.z)
#define GROUPS_X         int(gridDim.x)
#define BARRIER()        __syncthreads()
#define FMA              fmaf
#define HALF_PAIR(u)     __half22float2(half2_of(u))
#define TO_HALF(x)       __half2float(__float2half_rn(x))
#define FLOAT_OF_BITS(u) __uint_as_float(u)

static __device__ __forceinline__ __half2 half2_of(uint u)
{
    return __halves2half2(__ushort_as_half((unsigned short)(u & 65535u)),
                          __ushort_as_half((unsigned short)(u >> 16)));
}
static __device__ __forceinline__ float clamp(float x, float low, float high)
{
    return fminf(fmaxf(x, low), high);
}
static __device__ __forceinline__ int clamp(int x, int low, int high)
{
    return min(max(x, low), high);
}
