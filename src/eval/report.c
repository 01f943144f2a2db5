/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - a self-contained HTML page of text, numbers, pictures and curves.
 *
 * The page is put together in memory and written in one piece. Pictures are PNG in base64. Left
 * out: scripts, and with them anything that moves; curves carry their values as tooltips.
 */
#include "eval/report.h"

#include "image/image.h"

#include <string.h>

enum { MAX_PICTURES = 12 };

/* --- style ------------------------------------------------------------------------------------ */

/* Colours are told by role: ink, paper, line, and the two that curves have. */
static const char style_base[] =
    ":root{color-scheme:light dark;--paper:#fcfcfa;--card:#fff;--ink:#1b1c1e;--soft:#62666c;"
    "--line:#e3e2dc;--with:#1f6fd6;--without:#9a938a;--mark:#b4540a;"
    "--text:Charter,'Bitstream Charter','Sitka Text',Cambria,Georgia,serif;"
    "--small:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}\n"
    "@media(prefers-color-scheme:dark){:root{--paper:#141517;--card:#1b1d20;--ink:#e9e8e4;"
    "--soft:#9a9ea6;--line:#303338;--with:#6aa9ff;--without:#8d8880;--mark:#f0a35e}}\n"
    "*{box-sizing:border-box}"
    "body{margin:0;background:var(--paper);color:var(--ink);font:17px/1.6 var(--text);"
    "-webkit-text-size-adjust:100%}"
    "main{max-width:1040px;margin:0 auto;padding:56px 24px 40px}"
    "h1{font-size:clamp(30px,5vw,44px);line-height:1.12;letter-spacing:-.015em;font-weight:600;"
    "margin:0 0 14px}"
    "h2{font-size:24px;line-height:1.25;font-weight:600;letter-spacing:-.005em;margin:0 0 8px}"
    "p{max-width:46em;margin:0 0 14px}header p{font-size:19px;color:var(--soft)}"
    "section{margin-top:48px;padding-top:28px;border-top:1px solid var(--line)}"
    "figure{margin:0}.damaged{color:var(--mark)}"
    "code{font:.82em ui-monospace,Menlo,Consolas,monospace;white-space:nowrap}"
    "footer{margin-top:56px;padding-top:16px;border-top:1px solid var(--line);color:var(--soft);"
    "font:13px/1.5 var(--small)}\n";

static const char style_numbers[] =
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px;"
    "margin:28px 0 0}"
    ".tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;"
    "padding:14px 18px;display:flex;flex-direction:column-reverse;justify-content:flex-end}"
    ".tiles dt{font:13px/1.4 var(--small);color:var(--soft)}"
    ".tiles dd{margin:0 0 2px;font-size:32px;line-height:1.2;letter-spacing:-.02em;"
    "font-variant-numeric:lining-nums tabular-nums}"
    "table{border-collapse:collapse;font:15px/1.45 var(--small);margin:16px 0 0;width:100%;"
    "max-width:720px}"
    "th,td{text-align:left;padding:9px 0;border-bottom:1px solid var(--line);vertical-align:top;"
    "overflow-wrap:anywhere}"
    "th{font-weight:400;color:var(--soft);padding-right:24px;width:55%}"
    "td{font-variant-numeric:tabular-nums}\n";

static const char style_pictures[] =
    ".row{margin:22px 0 0}"
    ".row>figcaption{font-style:italic;margin:0 0 8px}"
    ".pictures{display:grid;grid-template-columns:repeat(var(--n),minmax(0,1fr));gap:14px}"
    ".pictures figcaption{font:13px/1.4 var(--small);color:var(--soft);margin:6px 0 0;"
    "font-variant-numeric:tabular-nums}"
    ".pictures img{display:block;width:100%;height:auto;border-radius:8px;background:#000;"
    "box-shadow:0 0 0 1px var(--line)}"
    "@media(max-width:620px){main{padding-top:32px}.tiles dd{font-size:24px}"
    ".pictures{grid-template-columns:repeat(2,minmax(0,1fr));gap:10px}}\n";

static const char style_curves[] =
    ".curves{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,430px),1fr));"
    "gap:18px;margin-top:20px}"
    ".curve{background:var(--card);border:1px solid var(--line);border-radius:12px;"
    "padding:14px 14px 8px}"
    ".curve figcaption{font:600 14px/1.4 var(--small);display:flex;flex-wrap:wrap;gap:2px 16px;"
    "margin:0 4px 8px}"
    ".key{font-weight:400;font-size:13px;color:var(--soft)}"
    ".key::before{content:'';display:inline-block;width:16px;height:3px;border-radius:2px;"
    "margin-right:6px;vertical-align:middle;background:currentColor}"
    ".key.with::before{background:var(--with)}"
    ".key.without::before{background:repeating-linear-gradient(90deg,var(--without) 0 6px,"
    "transparent 6px 10px)}"
    ".key.faint::before{background:var(--with);opacity:.35}"
    "svg{display:block;width:100%;height:auto}"
    "svg text{font:11px var(--small);fill:var(--soft);font-variant-numeric:tabular-nums}"
    ".grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}"
    ".c{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}"
    ".c.with{stroke:var(--with)}.c.without{stroke:var(--without);stroke-dasharray:6 4}"
    ".c.faint{stroke:var(--with);stroke-width:1;opacity:.35}"
    ".d{stroke:var(--card);stroke-width:1.5}.d.with{fill:var(--with)}"
    ".d.without{fill:var(--without)}"
    ".mark{stroke:var(--mark);stroke-width:1.5;stroke-dasharray:2 3}"
    "svg .marked{fill:var(--mark);font-weight:600}"
    "@media(max-width:620px){svg text{font-size:14px}}"
    "@media print{body{background:#fff}section,.row,.curve{break-inside:avoid}}\n";

/* --- text ------------------------------------------------------------------------------------- */

void cn_report_escape(cn_str *out, const char *text)
{
    for (const char *p = text ? text : ""; *p; p++) {
        switch (*p) {
        case '&': cn_str_adds(out, "&amp;"); break;
        case '<': cn_str_adds(out, "&lt;"); break;
        case '>': cn_str_adds(out, "&gt;"); break;
        case '"': cn_str_adds(out, "&quot;"); break;
        case '\'': cn_str_adds(out, "&#39;"); break;
        default: cn_str_add(out, (unsigned char)*p < 0x20 || *p == 0x7f ? " " : p, 1);
        }
    }
}

static void add_element(cn_str *out, const char *name, const char *text)
{
    if (!text || !*text) return;
    cn_str_addf(out, "<%s>", name);
    cn_report_escape(out, text);
    cn_str_addf(out, "</%s>\n", name);
}

/* Options, which begin with --, stand apart and stay in one piece. */
static void add_paragraph(cn_str *out, char *text)
{
    cn_str_adds(out, "<p>");
    for (char *option; (option = strstr(text, "--"));) {
        char *end = option + 2 + strspn(option + 2, "abcdefghijklmnopqrstuvwxyz0123456789-");
        const char behind = *end;
        *option = 0;
        cn_report_escape(out, text);
        *option = '-';
        *end = 0;
        cn_str_adds(out, "<code>");
        cn_report_escape(out, option);
        cn_str_adds(out, "</code>");
        *end = behind;
        text = end;
    }
    cn_report_escape(out, text);
    cn_str_adds(out, "</p>\n");
}

static cn_status add_paragraphs(cn_ctx *ctx, cn_str *out, const char *text)
{
    while (text && *text) {
        const char *gap = strstr(text, "\n\n");
        const size_t n = gap ? (size_t)(gap - text) : strlen(text);
        char *one = cn_alloc(ctx, n + 1);
        if (!one) return CN_ENOMEM;
        memcpy(one, text, n);
        one[n] = 0;
        add_paragraph(out, one);
        cn_free(one);
        text += n + strspn(text + n, "\n");
    }
    return CN_OK;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void add_tiles(cn_str *out, const cn_report_number *numbers, int n)
{
    if (n <= 0) return;
    cn_str_adds(out, "<dl class=\"tiles\">\n");
    for (int i = 0; i < n; i++) {
        cn_str_adds(out, "<div><dt>");
        cn_report_escape(out, numbers[i].label);
        cn_str_adds(out, "</dt><dd>");
        cn_report_escape(out, numbers[i].value);
        cn_str_adds(out, "</dd></div>\n");
    }
    cn_str_adds(out, "</dl>\n");
}

static void add_table(cn_str *out, const cn_report_number *numbers, int n)
{
    if (n <= 0) return;
    cn_str_adds(out, "<table><tbody>\n");
    for (int i = 0; i < n; i++) {
        cn_str_adds(out, "<tr><th scope=\"row\">");
        cn_report_escape(out, numbers[i].label);
        cn_str_adds(out, "</th><td>");
        cn_report_escape(out, numbers[i].value);
        cn_str_adds(out, "</td></tr>\n");
    }
    cn_str_adds(out, "</tbody></table>\n");
}

/* --- pictures --------------------------------------------------------------------------------- */

static void add_base64(cn_str *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        const size_t left = n - i;
        const unsigned v = (unsigned)bytes[i] << 16 | (left > 1 ? (unsigned)bytes[i + 1] << 8 : 0) |
                           (left > 2 ? bytes[i + 2] : 0);
        const char four[4] = {digits[v >> 18], digits[v >> 12 & 63],
                              left > 1 ? digits[v >> 6 & 63] : '=',
                              left > 2 ? digits[v & 63] : '='};
        cn_str_add(out, four, sizeof four);
    }
}

static cn_status add_picture(cn_ctx *ctx, cn_str *out, const cn_report_picture *p)
{
    uint8_t *png = NULL;
    size_t n = 0;
    CN_TRY(cn_png_encode(ctx, p->image, NULL, &png, &n));
    cn_str_addf(out, "<figure><img width=\"%lld\" height=\"%lld\" alt=\"",
                (long long)p->image->width, (long long)p->image->height);
    cn_report_escape(out, p->caption);
    cn_str_adds(out, "\" src=\"data:image/png;base64,");
    add_base64(out, png, n);
    cn_str_adds(out, "\" />");
    cn_free(png);
    add_element(out, "figcaption", p->caption);
    cn_str_adds(out, "</figure>\n");
    return CN_OK;
}

/* One row of pictures in `columns` columns. */
static cn_status add_row(cn_ctx *ctx, cn_str *out, const cn_report_row *row, int columns)
{
    if (row->n_pictures < 1 || row->n_pictures > MAX_PICTURES)
        return cn_fail(ctx, CN_EINVAL, "report: a row of %d pictures; 1 to %d are expected",
                       row->n_pictures, MAX_PICTURES);
    cn_str_adds(out, "<figure class=\"row\">");
    add_element(out, "figcaption", row->caption);
    cn_str_addf(out, "<div class=\"pictures\" style=\"--n:%d\">\n", columns);
    for (int i = 0; i < row->n_pictures; i++) CN_TRY(add_picture(ctx, out, &row->pictures[i]));
    cn_str_adds(out, "</div></figure>\n");
    return CN_OK;
}

/* --- page ------------------------------------------------------------------------------------- */

static void add_head(cn_str *out, const char *title)
{
    cn_str_adds(out,
                "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\" />\n"
                "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\" />\n");
    add_element(out, "title", title && *title ? title : "Report");
    cn_str_adds(out, "<style>\n");
    cn_str_adds(out, style_base);
    cn_str_adds(out, style_numbers);
    cn_str_adds(out, style_pictures);
    cn_str_adds(out, style_curves);
    cn_str_adds(out, "</style></head>\n<body><main>\n");
}

static cn_status add_curves(cn_ctx *ctx, cn_str *out, const char *metrics)
{
    cn_curves *c = NULL;
    CN_TRY(cn_curves_open(ctx, metrics, &c));
    const cn_status s = cn_curves_draw(c, out);
    cn_curves_close(c);
    return s;
}

static cn_status add_section(cn_ctx *ctx, cn_str *out, const cn_report_section *s,
                             cn_curves *curves)
{
    cn_str_adds(out, "<section>\n");
    add_element(out, "h2", s->title);
    CN_TRY(add_paragraphs(ctx, out, s->text));
    int columns = 1;
    for (int i = 0; i < s->n_rows; i++) columns = CN_MAX(columns, s->rows[i].n_pictures);
    for (int i = 0; i < s->n_rows; i++) CN_TRY(add_row(ctx, out, &s->rows[i], columns));
    if (s->metrics) CN_TRY(curves ? cn_curves_draw(curves, out) : add_curves(ctx, out, s->metrics));
    add_table(out, s->numbers, s->n_numbers);
    cn_str_adds(out, "</section>\n");
    return CN_OK;
}

static cn_status build_page(cn_ctx *ctx, cn_str *out, const cn_report_options *o, cn_curves *curves)
{
    add_head(out, o->title);
    cn_str_adds(out, "<header>\n");
    add_element(out, "h1", o->title);
    CN_TRY(add_paragraphs(ctx, out, o->text));
    add_tiles(out, o->numbers, o->n_numbers);
    cn_str_adds(out, "</header>\n");
    for (int i = 0; i < o->n_sections; i++) CN_TRY(add_section(ctx, out, &o->sections[i], curves));
    cn_str_adds(out, "<footer>Made by controlnet.c " CN_VERSION ".</footer>\n"
                     "</main></body></html>\n");
    return out->failed ? cn_fail(ctx, CN_ENOMEM, "out of memory for the report") : CN_OK;
}

cn_status cn_report_write(cn_ctx *ctx, const cn_report_options *options)
{
    return cn_report_write_curves(ctx, options, NULL);
}

cn_status cn_report_write_curves(cn_ctx *ctx, const cn_report_options *options, cn_curves *curves)
{
    cn_str out = {0};
    cn_status s = build_page(ctx, &out, options, curves);
    if (s == CN_OK) s = cn_file_write(ctx, options->path, out.data, out.len);
    cn_str_free(&out);
    return s;
}
