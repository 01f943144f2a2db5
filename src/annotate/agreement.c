/* agreement.c - edge maps compared with a tolerance; edges are sparse, so each looks around itself. */
#include "annotate/agreement.h"

static bool met(const uint8_t *map, int64_t width, int64_t height, int64_t x, int64_t y, int64_t r)
{
    int64_t y1 = CN_MIN(y + r, height - 1), x1 = CN_MIN(x + r, width - 1);
    for (int64_t j = CN_MAX(y - r, 0); j <= y1; j++)
        for (int64_t i = CN_MAX(x - r, 0); i <= x1; i++)
            if (map[j * width + i]) return true;
    return false;
}

/* Edge pixels of a, and how many of them b has nearby. */
static void count_met(const uint8_t *a, const uint8_t *b, int64_t width, int64_t height, int64_t r,
                      int64_t *all, int64_t *hit)
{
    *all = *hit = 0;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            if (!a[y * width + x]) continue;
            ++*all;
            *hit += met(b, width, height, x, y, r);
        }
}

double cn_edge_f1(const uint8_t *found, const uint8_t *wanted, int64_t width, int64_t height,
                  int tolerance_px, double *precision, double *recall)
{
    int64_t n_found, n_wanted, right, covered, r = CN_MAX(tolerance_px, 0);
    count_met(found, wanted, width, height, r, &n_found, &right);
    count_met(wanted, found, width, height, r, &n_wanted, &covered);
    bool empty = n_found == 0 && n_wanted == 0;
    double p = n_found ? (double)right / (double)n_found : empty;
    double c = n_wanted ? (double)covered / (double)n_wanted : empty;
    if (precision) *precision = p;
    if (recall) *recall = c;
    return p + c > 0 ? 2 * p * c / (p + c) : 0.0;
}
