/* SPDX-License-Identifier: Apache-2.0 */
/* samplers.h - every sampling method and every schedule of noise levels, a row each: to add one,
 * write its file, which defines `const cn_sampler_kind cn_sampler_NAME` or `const cn_sigma_schedule
 * cn_sigmas_NAME`, and list it here. Nothing else lists them. */
#ifndef CN_DIFFUSE_SAMPLERS_SAMPLERS_H
#define CN_DIFFUSE_SAMPLERS_SAMPLERS_H

#include "diffuse/samplers/sampler.h"

/* In the order in which they are shown; the first is what drawing takes where none is asked for. */
#define CN_SAMPLER_LIST(X) \
    X(ddim)                \
    X(pndm)                \
    X(ddpm)                \
    X(euler)               \
    X(euler_a)             \
    X(heun)                \
    X(heunpp)              \
    X(lms)                 \
    X(dpmpp_sde)           \
    X(dpmpp_2m)            \
    X(dpmpp_2m_sde)        \
    X(dpmpp_3m_sde)        \
    X(unipc)               \
    X(lcm)                 \
    X(tcd)

#define CN_SIGMA_SCHEDULE_LIST(X) \
    X(discrete)                   \
    X(normal)                     \
    X(karras)                     \
    X(exponential)                \
    X(sgm_uniform)                \
    X(simple)                     \
    X(beta)                       \
    X(kl_optimal)                 \
    X(ays)

#define CN_SAMPLER_DECLARE(name) extern const cn_sampler_kind cn_sampler_##name;
#define CN_SIGMAS_DECLARE(name)  extern const cn_sigma_schedule cn_sigmas_##name;
CN_SAMPLER_LIST(CN_SAMPLER_DECLARE)
CN_SIGMA_SCHEDULE_LIST(CN_SIGMAS_DECLARE)
#undef CN_SAMPLER_DECLARE
#undef CN_SIGMAS_DECLARE

#endif
