/* SPDX-License-Identifier: Apache-2.0 */
/* models.h - what the server's folders hold: base models, ControlNets, LoRAs, textual inversions.
 * Requests name what is in them, and never a path. */
#ifndef CN_SERVER_MODELS_H
#define CN_SERVER_MODELS_H

#include "controlnet.h"

#include <jansson.h>

typedef struct models models;

/* bases: base models, and folders of them. dirs: ControlNets, and folders of them. Each with NULL
 * at the end; or NULL. NULL without memory. */
models *models_open(const char *const *bases, const char *const *dirs);
void models_close(models *m);

/* The base models as they are now, in the order in which they were given, those of a folder by
 * name: [{"name", "title", "hash", "path"}]. title: the name with the short hash; hash "" where the
 * model has none. */
json_t *models_bases(models *m);
/* A path that was given and holds none; NULL. */
const char *models_stray_base(models *m);
/* The entry of the model that is called so, with or without its hash, whatever its case; NULL or
 * "": of the one that is chosen. NULL: there is none. */
json_t *models_base(models *m, const char *name);
/* Chooses it for requests that name none; false: there is no such model. */
bool models_choose_base(models *m, const char *name);
/* Their titles, "a, b, c", for messages. */
void models_base_names(models *m, char *out, size_t cap);

/* The ControlNets in the folders as they are now: [{"name", "title", "path"}], by name. title: the
 * name with a short hash, "canny [d14c016b]", as stable-diffusion-webui's extension has it. */
json_t *models_list(models *m);
/* The path of the ControlNet that is called so, with or without its hash, whatever its case; in new
 * memory (free). NULL: there is none. */
char *models_find(models *m, const char *name);
/* Their titles, "a, b, c", for messages. */
void models_names(models *m, char *out, size_t cap);

/* Names of the weight files (and folders) in a folder, by name: ["style", ...]. dir NULL: none. */
json_t *models_files(const char *dir);
/* Names of the folders in a folder. dir NULL: none. */
json_t *models_folders(const char *dir);
/* The first eight digits of a part's SHA-256, as stable-diffusion-webui shortens models' names. */
bool models_short_hash(const char *path, char out[9]);
/* A path's last part, without the ending of a weight file. */
void models_name_of(const char *path, char *out, size_t cap);

#endif
