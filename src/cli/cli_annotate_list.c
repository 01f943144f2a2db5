/* SPDX-License-Identifier: Apache-2.0 */
/* cli_annotate_list.c - controlnet annotate --list and --palette: what kinds of condition there
 * are, and what each needs. */
#include "cli/cli.h"
#include "cli/cli_annotate.h"

#include <string.h>

/* Whether an alias, whose text begins with the kind it stands for, is one of `kind`. */
static bool is_of(const char *stands_for, const char *kind)
{
    const size_t n = strlen(kind);
    return strncmp(stands_for, kind, n) == 0 && (stands_for[n] == 0 || stands_for[n] == ' ');
}

/* --- text ------------------------------------------------------------------------------------- */

static void print_options(const char *kind)
{
    cn_annotate_setting s;
    for (int i = 0; cn_annotate_setting_at(kind, i, &s); i++) {
        if (s.is_switch)
            printf("    %-20s %s\n", s.name, s.help);
        else
            printf("    %-20s %s, %g to %g (%g)\n", s.name, s.help, s.min, s.max, s.otherwise);
    }
}

static void print_networks(const char *kind)
{
    cn_annotate_network n;
    for (int i = 0; cn_annotate_network_at(kind, i, &n); i++)
        printf("    weights%s %s: %s\n            %s\n", n.role ? " (may be left out)" : "", n.name,
               n.file, n.url);
}

static void print_aliases(const char *kind)
{
    const char *name, *stands_for;
    int n = 0;
    for (int i = 0; (name = cn_annotate_alias(i, &stands_for)); i++) {
        if (!is_of(stands_for, kind)) continue;
        printf("%s%s", n++ ? ", " : "    also ", name);
        if (strcmp(stands_for, kind) != 0) printf(" (%s)", stands_for);
    }
    if (n) putchar('\n');
}

void cli_describe_kind(const char *kind)
{
    printf("    takes %s\n", cn_annotate_takes(kind));
    print_networks(kind);
    print_aliases(kind);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static void print_key(const char *key, const char *text)
{
    printf("\"%s\": ", key);
    cli_print_quoted(text);
}

static void print_options_json(const char *kind)
{
    cn_annotate_setting s;
    for (int i = 0; cn_annotate_setting_at(kind, i, &s); i++) {
        printf("%s{", i ? ", " : "");
        print_key("name", s.name);
        printf(", ");
        print_key("help", s.help);
        if (s.is_switch)
            printf(", \"type\": \"bool\", \"default\": %s}", s.otherwise != 0 ? "true" : "false");
        else
            printf(", \"type\": \"%s\", \"min\": %g, \"max\": %g, \"default\": %g}",
                   s.whole ? "int" : "number", s.min, s.max, s.otherwise);
    }
}

static void print_networks_json(const char *kind)
{
    cn_annotate_network n;
    for (int i = 0; cn_annotate_network_at(kind, i, &n); i++) {
        printf("%s{", i ? ", " : "");
        print_key("network", n.name);
        printf(", ");
        print_key("file", n.file);
        printf(", ");
        print_key("url", n.url);
        printf(", \"role\": %d}", n.role);
    }
}

static void print_aliases_json(const char *kind)
{
    const char *name, *stands_for;
    int n = 0;
    for (int i = 0; (name = cn_annotate_alias(i, &stands_for)); i++) {
        if (!is_of(stands_for, kind)) continue;
        printf("%s{", n++ ? ", " : "");
        print_key("name", name);
        printf(", ");
        print_key("stands_for", stands_for);
        printf("}");
    }
}

static void print_kind_json(const char *kind, const char *title)
{
    printf("{");
    print_key("kind", kind);
    printf(", ");
    print_key("title", title);
    printf(", ");
    print_key("takes", cn_annotate_takes(kind));
    printf(", \"options\": [");
    print_options_json(kind);
    printf("], \"weights\": [");
    print_networks_json(kind);
    printf("], \"aliases\": [");
    print_aliases_json(kind);
    printf("]}\n");
}

/* --- lists ------------------------------------------------------------------------------------ */

void cli_list_kinds(bool json)
{
    const char *kind, *title;
    for (int i = 0; (kind = cn_annotate_kind(i, &title)); i++) {
        if (json) {
            print_kind_json(kind, title);
            continue;
        }
        printf("%s%s: %s\n", i ? "\n" : "", kind, title);
        print_options(kind);
        cli_describe_kind(kind);
    }
}

bool cli_list_palette(const char *name, bool json)
{
    cn_palette_entry e;
    int n = 0;
    for (; cn_palette_entry_at(name, n, &e); n++) {
        if (!json) {
            printf("%3d  #%02x%02x%02x  %3d %3d %3d  %s\n", e.id, e.rgb[0], e.rgb[1], e.rgb[2],
                   e.rgb[0], e.rgb[1], e.rgb[2], e.name);
            continue;
        }
        printf("{\"id\": %d, \"rgb\": [%d, %d, %d], ", e.id, e.rgb[0], e.rgb[1], e.rgb[2]);
        print_key("name", e.name);
        printf("}\n");
    }
    if (n) return true;
    char list[128] = "";
    for (int i = 0; cn_palette_name(i); i++) {
        const size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", cn_palette_name(i));
    }
    cli_error("annotate", "there is no palette \"%s\": there are %s", name, list);
    return false;
}
