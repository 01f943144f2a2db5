/* SPDX-License-Identifier: Apache-2.0 */
/* pickle_call.c - the few functions that torch.save's pickles call, imitated.
 *
 * A call gives a tensor, a container, or an inert object; nothing runs. Everything else is refused
 * by name.
 */
#include "io/pickle_internal.h"

#include <string.h>

bool cn_pickle_is_str(const cn_pickle_obj *o, const char *text)
{
    return o->kind == CN_PK_STR && o->n == strlen(text) && !memcmp(o->u.s, text, o->n);
}

static bool is_global(const cn_pickle_obj *f, const char *module, const char *name)
{
    return f->kind == CN_PK_GLOBAL && cn_pickle_is_str(f->u.items[0], module) &&
           cn_pickle_is_str(f->u.items[1], name);
}

static void printable(const cn_pickle_obj *s, char *out, size_t cap)
{
    size_t n = CN_MIN(s->n, cap - 1);
    for (size_t i = 0; i < n; i++) out[i] = s->u.s[i] > ' ' && s->u.s[i] < 127 ? s->u.s[i] : '?';
    out[n] = 0;
}

cn_status cn_pickle_refuse(cn_pickle *v, const cn_pickle_obj *f)
{
    char module[100] = "", name[100] = "";
    if (f->kind != CN_PK_GLOBAL)
        return cn_pickle_bad(v, "it calls something that isn't a function");
    printable(f->u.items[0], module, sizeof module);
    printable(f->u.items[1], name, sizeof name);
    return cn_fail(
        v->ctx, CN_EFORMAT,
        "refused: its pickle calls %s.%s; only tensors and plain containers are loaded, so "
        "save the weights alone, best as safetensors",
        module, name);
}

/* Harmless values that occur in training checkpoints and have no use here. */
static const struct {
    const char *module, *name;
} inert[] = {
    {"numpy.core.multiarray", "scalar"},
    {"numpy._core.multiarray", "scalar"},
    {"numpy", "dtype"},
    {"_codecs", "encode"},
    {"torch", "device"},
    {"builtins", "set"},
    {"__builtin__", "set"},
    {"builtins", "frozenset"},
    {"builtins", "bytearray"},
    {"builtins", "complex"},
};

static const struct {
    const char *name;
    cn_dtype dtype;
} storages[] = {
    {"FloatStorage", CN_F32},  {"HalfStorage", CN_F16}, {"BFloat16Storage", CN_BF16},
    {"DoubleStorage", CN_F64}, {"LongStorage", CN_I64}, {"IntStorage", CN_I32},
    {"ShortStorage", CN_I16},  {"CharStorage", CN_I8},  {"ByteStorage", CN_U8},
    {"BoolStorage", CN_BOOL},
};

cn_status cn_pickle_storage_of(cn_pickle *v, const cn_pickle_obj *id, cn_pickle_obj **out)
{
    if (id->kind != CN_PK_TUPLE || id->n < 5 || !cn_pickle_is_str(id->u.items[0], "storage") ||
        id->u.items[1]->kind != CN_PK_GLOBAL || id->u.items[2]->kind != CN_PK_STR ||
        id->u.items[4]->kind != CN_PK_INT || id->u.items[4]->u.i < 0)
        return cn_pickle_bad(v, "a persistent id isn't a storage");
    const cn_pickle_obj *view = id->n > 5 ? id->u.items[5] : NULL;
    if (view && view->kind == CN_PK_TUPLE &&
        (view->n != 3 || view->u.items[1]->kind != CN_PK_INT || view->u.items[1]->u.i != 0))
        return cn_pickle_bad(v, "a storage is a part of another, which is not read");
    cn_pickle_obj *o = cn_pickle_new(v, CN_PK_STORAGE);
    cn_pickle_storage *s = o ? cn_pickle_alloc(v, sizeof *s) : NULL;
    if (!s) return CN_ENOMEM;
    *s = (cn_pickle_storage){CN_DTYPE_COUNT, id->u.items[2]->u.s, id->u.items[2]->n,
                             id->u.items[4]->u.i, v->storages};
    v->storages = s;
    for (size_t i = 0; i < CN_COUNT(storages); i++)
        if (is_global(id->u.items[1], "torch", storages[i].name) ||
            is_global(id->u.items[1], "torch.cuda", storages[i].name))
            s->dtype = storages[i].dtype;
    o->u.storage = s;
    *out = o;
    return CN_OK;
}

/* Longer tuples than torch's 64 dimensions are refused, so that the work stays linear. */
static bool take_dims(const cn_pickle_obj *tuple, int64_t *dims)
{
    if (tuple->n > 64) return false;
    for (size_t i = 0; i < tuple->n; i++) {
        if (tuple->u.items[i]->kind != CN_PK_INT || tuple->u.items[i]->u.i < 0) return false;
        if (i < CN_MAX_DIMS) dims[i] = tuple->u.items[i]->u.i;
    }
    return true;
}

/* torch._utils._rebuild_tensor_v2(storage, storage_offset, size, stride, requires_grad, hooks) */
static cn_status rebuild_tensor(cn_pickle *v, const cn_pickle_obj *args, cn_pickle_obj **out)
{
    cn_pickle_obj **a = args->u.items;
    int64_t shape[CN_MAX_DIMS] = {0}, stride[CN_MAX_DIMS] = {0};
    if (args->n < 4 || a[0]->kind != CN_PK_STORAGE || a[1]->kind != CN_PK_INT || a[1]->u.i < 0 ||
        a[2]->kind != CN_PK_TUPLE || a[3]->kind != CN_PK_TUPLE || a[2]->n != a[3]->n ||
        !take_dims(a[2], shape) || !take_dims(a[3], stride))
        return cn_pickle_bad(v, "a tensor's storage, offset, size or stride is wrong");
    cn_pickle_obj *o = cn_pickle_new(v, CN_PK_TENSOR);
    cn_pickle_tensor *t = o ? cn_pickle_alloc(v, sizeof *t) : NULL;
    if (!t) return CN_ENOMEM;
    t->supported = a[2]->n <= CN_MAX_DIMS && a[0]->u.storage->dtype != CN_DTYPE_COUNT;
    if (t->supported) {
        t->storage = a[0]->u.storage;
        t->offset = a[1]->u.i;
        t->ndim = (int)a[2]->n;
        memcpy(t->shape, shape, sizeof shape);
        memcpy(t->stride, stride, sizeof stride);
    }
    o->u.tensor = t;
    *out = o;
    return CN_OK;
}

static cn_status new_dict(cn_pickle *v, const cn_pickle_obj *args, bool pairs, cn_pickle_obj **out)
{
    cn_pickle_obj *dict = cn_pickle_new(v, CN_PK_DICT);
    if (!dict) return CN_ENOMEM;
    *out = dict;
    if (!pairs || args->n == 0) return CN_OK;
    const cn_pickle_obj *list = args->u.items[0];
    if (list->kind != CN_PK_LIST && list->kind != CN_PK_TUPLE)
        return cn_pickle_bad(v, "an OrderedDict isn't made from a list of pairs");
    for (size_t i = 0; i < list->n; i++) {
        const cn_pickle_obj *pair = list->u.items[i];
        if ((pair->kind != CN_PK_LIST && pair->kind != CN_PK_TUPLE) || pair->n != 2)
            return cn_pickle_bad(v, "an OrderedDict isn't made from a list of pairs");
        CN_TRY(cn_pickle_append(v, dict, pair->u.items[0]));
        CN_TRY(cn_pickle_append(v, dict, pair->u.items[1]));
    }
    return CN_OK;
}

static cn_status new_plain(cn_pickle *v, cn_pickle_kind kind, cn_pickle_obj **out)
{
    cn_pickle_obj *o = cn_pickle_new(v, kind);
    if (!o) return CN_ENOMEM;
    *out = o;
    return CN_OK;
}

static bool is_inert(const cn_pickle_obj *f)
{
    for (size_t i = 0; i < CN_COUNT(inert); i++)
        if (is_global(f, inert[i].module, inert[i].name)) return true;
    return false;
}

static cn_status call_torch(cn_pickle *v, cn_pickle_obj *f, cn_pickle_obj *args,
                            cn_pickle_obj **out)
{
    if (is_global(f, "torch._utils", "_rebuild_tensor_v2") ||
        is_global(f, "torch._utils", "_rebuild_tensor"))
        return rebuild_tensor(v, args, out);
    /* Types newer than the storage classes (v3): listed as left out. */
    if (is_global(f, "torch._utils", "_rebuild_tensor_v3")) {
        CN_TRY(new_plain(v, CN_PK_TENSOR, out));
        (*out)->u.tensor = cn_pickle_alloc(v, sizeof *(*out)->u.tensor);
        return (*out)->u.tensor ? CN_OK : CN_ENOMEM;
    }
    bool parameter = is_global(f, "torch._utils", "_rebuild_parameter") ||
                     is_global(f, "torch._utils", "_rebuild_parameter_with_state");
    bool size = is_global(f, "torch", "Size");
    if (!parameter && !size) return cn_pickle_refuse(v, f);
    cn_pickle_kind kind = parameter ? CN_PK_TENSOR : CN_PK_TUPLE;
    if (args->n < 1 || args->u.items[0]->kind != kind)
        return cn_pickle_bad(v, parameter ? "a parameter isn't made from a tensor"
                                          : "a torch.Size isn't made from a tuple");
    *out = args->u.items[0];
    return CN_OK;
}

cn_status cn_pickle_call(cn_pickle *v, cn_pickle_obj *f, cn_pickle_obj *args, cn_pickle_obj **out)
{
    if (f->kind != CN_PK_GLOBAL) return cn_pickle_refuse(v, f);
    if (args->kind != CN_PK_TUPLE) return cn_pickle_bad(v, "a call's arguments aren't a tuple");
    if (is_global(f, "collections", "OrderedDict")) return new_dict(v, args, true, out);
    if (is_global(f, "collections", "defaultdict")) return new_dict(v, args, false, out);
    if (is_global(f, "torch.nn.modules.container", "ParameterDict"))
        return new_dict(v, args, false, out);
    if (is_inert(f)) return new_plain(v, CN_PK_INERT, out);
    /* A parameter with attributes: (function, type, arguments, state). One level, never itself. */
    if (is_global(f, "torch._tensor", "_rebuild_from_type_v2")) {
        if (args->n < 3 || args->u.items[0]->kind != CN_PK_GLOBAL ||
            args->u.items[2]->kind != CN_PK_TUPLE)
            return cn_pickle_bad(v, "a tensor with a type of its own is damaged");
        return call_torch(v, args->u.items[0], args->u.items[2], out);
    }
    return call_torch(v, f, args, out);
}
