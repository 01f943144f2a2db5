/* SPDX-License-Identifier: Apache-2.0 */
/* geometry.c - sine, cosine and the angle of a vector as polynomials. */
#include "scene/geometry.h"

static const double PI = 3.14159265358979323846;

/* Taylor's series to the 15th power: 6e-12 at pi/2. */
static double sine(double x)
{
    x -= 2 * PI * rint(x / (2 * PI));
    if (x > PI / 2) x = PI - x;
    if (x < -PI / 2) x = -PI - x;
    const double y = x * x;
    double s = 1;
    for (int k = 14; k >= 2; k -= 2) s = 1 - s * y / (k * (k + 1));
    return x * s;
}

float cn_sine(float x)
{
    return (float)sine(x);
}

float cn_cosine(float x)
{
    return (float)sine(x + PI / 2);
}

/* Abramowitz and Stegun, 4.4.49, for the angle below 45 degrees. */
float cn_angle(float y, float x)
{
    const float ax = fabsf(x), ay = fabsf(y), hi = most(ax, ay), lo = least(ax, ay);
    if (hi == 0) return 0;
    const float t = lo / hi, q = t * t;
    float a = t * (1 + q * (-0.3333314528f +
                            q * (0.1999355085f +
                                 q * (-0.1420889944f +
                                      q * (0.1065626393f +
                                           q * (-0.0752896400f +
                                                q * (0.0429096138f + q * (-0.0161657367f +
                                                                          q * 0.0028662257f))))))));
    if (ay > ax) a = (float)(PI / 2) - a;
    if (x < 0) a = (float)PI - a;
    return y < 0 ? -a : a;
}
