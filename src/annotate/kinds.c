/* SPDX-License-Identifier: Apache-2.0 */
/* kinds.c - the table of kinds, and what is found in it by name. */
#include "annotate/kinds.h"

#include <string.h>

#define ROW(name) &cn_kind_##name,
static const cn_kind *const kinds[] = {CN_KIND_LIST(ROW)};
#undef ROW

int cn_kind_count(void)
{
    return (int)CN_COUNT(kinds);
}

const cn_kind *cn_kind_at(int i)
{
    return i >= 0 && i < cn_kind_count() ? kinds[i] : NULL;
}

bool cn_kind_alias_at(int i, const char **name, const char **stands_for)
{
    for (int k = 0; i >= 0 && k < cn_kind_count(); k++) {
        const cn_kind_alias *a = kinds[k]->aliases;
        for (; a->name && i > 0; a++) i--;
        if (!a->name) continue;
        *name = a->name;
        *stands_for = a->stands_for;
        return true;
    }
    return false;
}

bool cn_same_name(const char *name, const char *given, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = given[i] == '_' ? '-' : given[i];
        if (!name[i] || (name[i] == '_' ? '-' : name[i]) != c) return false;
    }
    return name[n] == 0;
}

/* A kind's own name of n characters. */
static const cn_kind *find_own(const char *name, size_t n)
{
    for (int i = 0; i < cn_kind_count(); i++)
        if (cn_same_name(kinds[i]->name, name, n)) return kinds[i];
    return NULL;
}

const char *cn_kind_alias_meaning(const char *name)
{
    const char *alias, *stands_for;
    for (int i = 0; cn_kind_alias_at(i, &alias, &stands_for); i++)
        if (cn_same_name(alias, name, strlen(name))) return stands_for;
    return NULL;
}

const cn_kind *cn_kind_find(const char *name)
{
    const char *text = cn_kind_alias_meaning(name);
    return text ? find_own(text, strcspn(text, " ")) : find_own(name, strlen(name));
}

cn_status cn_kind_need(cn_ctx *ctx, const char *name, const cn_kind **out)
{
    const cn_kind *kind = cn_kind_find(name);
    if (kind) {
        *out = kind;
        return CN_OK;
    }
    cn_str names = {0};
    for (int i = 0; i < cn_kind_count(); i++)
        cn_str_addf(&names, "%s%s", i ? ", " : "", kinds[i]->name);
    cn_status s = cn_fail(ctx, CN_EINVAL, "no annotator is called '%.64s': there are %s", name,
                          names.data ? names.data : "others");
    cn_str_free(&names);
    return s;
}
