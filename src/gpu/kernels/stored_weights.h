/* SPDX-License-Identifier: Apache-2.0 */
/* stored_weights.h - what the arguments of convolutions' kernels hold packed, and elements of a
 * weight as it is stored, which b points to. */
#define KH           (p.kernel & 255)
#define KW           (p.kernel >> 8 & 255)
#define STRIDE       (p.kernel >> 16 & 255)
#define DILATION     (p.kernel >> 24 & 255)
#define TOP          ((p.pad & 65535) - 32768)
#define LEFT         ((p.pad >> 16 & 65535) - 32768)
#define TYPE         (p.flags & 3)
#define ACT          (p.flags >> 2 & 15)
#define HAS_BIAS     ((p.flags & 64) != 0)
#define HAS_SHIFT    ((p.flags & 128) != 0)
#define HAS_RESIDUAL ((p.flags & 256) != 0)
#define HALVES       ((p.flags & 512) != 0)

/* An operand as it is multiplied. */
FUNC(float, operand, float x)
{
    return HALVES ? TO_HALF(x) : x;
}

PLAIN(float, half_of, uint word, int which)
{
    return which == 0 ? HALF_PAIR(word).x : HALF_PAIR(word).y;
}

/* Element i of b as it is stored: 0 F32, 1 F16, 2 BF16, 3 blocks of a F16 scale and 32 bytes. */
FUNC(float, b_element, int i)
{
    if (TYPE == 0) return FLOAT_OF_BITS(AT(p.b, i));
    if (TYPE == 1) return CALL(half_of, AT(p.b, i >> 1), i & 1);
    if (TYPE == 2) {
        const uint word = AT(p.b, i >> 1);
        return FLOAT_OF_BITS((i & 1) == 0 ? word << 16 : word & 0xffff0000u);
    }
    const int block = i >> 5, half_at = 17 * block, byte_at = 34 * block + 2 + (i & 31);
    const float scale = CALL(half_of, AT(p.b, half_at >> 1), half_at & 1);
    const int eight = int(AT(p.b, byte_at >> 2) >> (8 * (byte_at & 3)) & 255u);
    return scale * float(eight > 127 ? eight - 256 : eight);
}
