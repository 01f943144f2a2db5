/* SPDX-License-Identifier: Apache-2.0 */
/* cli_train_show.c - a training run on the terminal: progress and validations as they come, the
 * plan, the result. */
#include "cli/cli_train.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void train_end_line(train_display *d)
{
    cli_progress_end(&d->other);
    if (d->line_open) fputc('\n', stderr);
    d->line_open = false;
}

static void print_step(train_display *d, const cn_train_progress *p)
{
    const long eta = (long)p->eta_seconds;
    char encoding[48] = "";
    if (p->encode_seconds > 0)
        snprintf(encoding, sizeof encoding, ", %.1f ms encoding", 1e3 * p->encode_seconds);
    fprintf(stderr,
            "%sstep %lld/%lld  loss %.4f (mean %.4f)  lr %.2g  %.2f s/step (%.1f ms for data%s)  "
            "%.1f images/s  %.2f GiB  %ld:%02ld:%02ld left%s",
            d->terminal ? "\r" : "", (long long)p->done, (long long)p->total, p->loss, p->loss_mean,
            p->lr, p->step_seconds, 1e3 * p->data_wait_seconds, encoding, p->images_per_second,
            cli_gib(p->resident_bytes), eta / 3600, eta / 60 % 60, eta % 60,
            d->terminal ? "\x1b[K" : "\n");
    d->line_open = d->terminal;
    fflush(stderr);
}

static void show_progress(void *user, const cn_train_progress *p)
{
    train_display *d = user;
    if (strcmp(p->stage, "train") != 0) {
        if (d->line_open) train_end_line(d);
        cli_progress_show(&d->other, p->stage, (int)p->done, (int)p->total);
        return;
    }
    const double now = cli_now_s();
    const bool due = d->terminal || now - d->shown_s >= 10 || p->done == p->total || p->done == 1;
    if (!due) return;
    cli_progress_end(&d->other);
    d->shown_s = now;
    print_step(d, p);
}

static void show_validation(void *user, const cn_train_validation *v)
{
    train_display *d = user;
    train_end_line(d);
    fprintf(stderr,
            "validation at step %lld: held-out loss %.4f with control, %.4f without (%+.4f)",
            (long long)v->step, v->loss_with, v->loss_without, v->loss_with - v->loss_without);
    if (v->has_agreement)
        fprintf(stderr, "; %s %.3f with, %.3f without", v->agreement_with.measure,
                v->agreement_with.score, v->agreement_without.score);
    if (v->has_agreement && v->agreement_with.unit)
        fprintf(stderr, "; %s: %.1f with, %.1f without", v->agreement_with.unit,
                v->agreement_with.error, v->agreement_without.error);
    if (v->zero_conv_rms > 0) fprintf(stderr, "; zero convolutions %.2e", v->zero_conv_rms);
    fprintf(stderr, "; %s\n", v->sheet);
    if (v->learned && v->learned_at_step == v->step)
        fprintf(stderr, "control learned at step %lld (%s)\n", (long long)v->step, v->rule);
    if (!d->json) return;
    printf("{\"event\": \"validation\", \"step\": %lld, \"loss_with_control\": %.9g, "
           "\"loss_without_control\": %.9g",
           (long long)v->step, v->loss_with, v->loss_without);
    if (v->has_agreement)
        printf(", \"agreement_measure\": \"%s\", \"agreement_with_control\": %.9g, "
               "\"agreement_without_control\": %.9g",
               v->agreement_with.measure, v->agreement_with.score, v->agreement_without.score);
    if (v->has_agreement && v->agreement_with.unit)
        printf(", \"error_unit\": \"%s\", \"error_with_control\": %.9g, "
               "\"error_without_control\": %.9g",
               v->agreement_with.unit, v->agreement_with.error, v->agreement_without.error);
    printf(", \"zero_conv_rms\": %.9g, \"learned_at_step\": %lld}\n", v->zero_conv_rms,
           (long long)v->learned_at_step);
    fflush(stdout);
}

static void print_stage(const char *what, size_t host, size_t device)
{
    fprintf(stderr, "  %-24s %8.3f GiB", what, cli_gib(host));
    if (device) fprintf(stderr, "  and %.3f GiB of the device's", cli_gib(device));
    fputc('\n', stderr);
}

static void print_plan(const cn_train_plan *p)
{
    const struct {
        const char *what, *note;
        size_t bytes;
    } parts[] = {
        {"program and libraries", "", p->process_bytes},
        {"encoded data set", "", p->data_bytes},
        {"base weights", p->base_type, p->base_bytes},
        {"control network", "f32", p->control_bytes},
        {"encoders in the step", "", p->encoder_bytes},
        {"AdamW", "", p->optimizer_bytes},
        {"gradients", "f32", p->gradient_bytes},
        {"activations and scratch", p->compute_type, p->activation_bytes},
    };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].bytes)
            fprintf(stderr, "  %-24s %8.3f GiB  %s\n", parts[i].what, cli_gib(parts[i].bytes),
                    parts[i].note);
    print_stage("while encoding", p->encoding_bytes, p->device_encoding_bytes);
    print_stage("while training", p->training_bytes, p->device_training_bytes);
    if (p->validation_bytes)
        print_stage("while validating", p->validation_bytes, p->device_validation_bytes);
}

static void print_part(const char *what, double seconds)
{
    const long s = (long)(seconds + 0.5);
    fprintf(stderr, "  %-24s %4ld:%02ld:%02ld\n", what, s / 3600, s / 60 % 60, s % 60);
}

static void print_time(const cn_train_plan *p)
{
    const double seconds = p->encoding_seconds + p->run_seconds + p->validation_seconds;
    const time_t end = time(NULL) + (time_t)(seconds + 0.5);
    char when[64] = "";
    struct tm local;
    if (localtime_r(&end, &local)) strftime(when, sizeof when, "%A %H:%M", &local);
    fprintf(stderr, "time: %.2f s per step, %lld steps\n", p->step_seconds, (long long)p->steps);
    print_part("encoding the data", p->encoding_seconds);
    print_part("training", p->run_seconds);
    if (p->validation_seconds > 0) print_part("validations", p->validation_seconds);
    print_part("in all", seconds);
    fprintf(stderr, "  begun now, done %s\n", when);
}

static void show_plan(void *user, const cn_train_plan *p)
{
    train_display *d = user;
    train_end_line(d);
    char device[64] = "";
    if (p->device_bytes)
        snprintf(device, sizeof device, "%.2f GiB of the device's, ", cli_gib(p->device_bytes));
    fprintf(stderr,
            "memory: %s%.2f GiB at most (%lld million trained weights, %d of %d blocks computed "
            "again, %.0f GFLOP per pass)\n",
            device, cli_gib(p->peak_bytes), (long long)(p->trained / 1000000), p->recomputed_blocks,
            p->blocks, p->gflop_per_pass);
    if (d->dry_run) print_plan(p);
    if (d->dry_run) print_time(p);
    if (!d->json) return;
    printf("{\"event\": \"plan\", \"peak_bytes\": %zu, \"encoding_bytes\": %zu, "
           "\"training_bytes\": %zu, \"validation_bytes\": %zu, \"process_bytes\": %zu, "
           "\"data_bytes\": %zu, \"base_bytes\": %zu, \"control_bytes\": %zu, "
           "\"optimizer_bytes\": %zu, \"gradient_bytes\": %zu, \"activation_bytes\": %zu, "
           "\"base_type\": \"%s\", \"compute_type\": \"%s\", \"recomputed_blocks\": %d, "
           "\"blocks\": %d, \"steps\": %lld, \"step_seconds\": %.4f, \"run_seconds\": %.1f, "
           "\"encoding_seconds\": %.1f, \"validation_seconds\": %.1f, \"encoder_bytes\": %zu, "
           "\"device_bytes\": %zu, \"device_encoding_bytes\": %zu, \"device_training_bytes\": %zu, "
           "\"device_validation_bytes\": %zu, \"buckets\": [",
           p->peak_bytes, p->encoding_bytes, p->training_bytes, p->validation_bytes,
           p->process_bytes, p->data_bytes, p->base_bytes, p->control_bytes, p->optimizer_bytes,
           p->gradient_bytes, p->activation_bytes, p->base_type, p->compute_type,
           p->recomputed_blocks, p->blocks, (long long)p->steps, p->step_seconds, p->run_seconds,
           p->encoding_seconds, p->validation_seconds, p->encoder_bytes, p->device_bytes,
           p->device_encoding_bytes, p->device_training_bytes, p->device_validation_bytes);
    for (int k = 0; k < p->n_buckets; k++)
        printf("%s{\"width\": %lld, \"height\": %lld, \"count\": %lld}", k ? ", " : "",
               (long long)p->buckets[k].width, (long long)p->buckets[k].height,
               (long long)p->buckets[k].count);
    printf("]}\n");
    fflush(stdout);
}

static void show_checked(void *user, const cn_dataset_report *r)
{
    train_end_line(user);
    cli_report_print(stderr, r);
}

static void show_saved(void *user, const char *path)
{
    train_display *d = user;
    train_end_line(d);
    fprintf(stderr, "saved %s\n", path);
}

void train_show_result(const train_display *d, const cn_train_result *result)
{
    if (d->json) {
        printf("{\"event\": \"done\", \"steps\": %lld, \"seconds\": %.3f, \"final_loss\": %.9g",
               (long long)result->steps, result->seconds, result->final_loss);
        if (result->has_agreement)
            printf(", \"agreement_with_control\": %.9g, \"agreement_without_control\": %.9g",
                   result->agreement_with_control, result->agreement_without_control);
        printf(", \"learned_at_step\": %lld, \"peak_resident_bytes\": %zu, "
               "\"peak_device_bytes\": %zu}\n",
               (long long)result->learned_at_step, result->peak_resident_bytes,
               result->peak_device_bytes);
        return;
    }
    printf("%lld step%s in %.1f s, %.2f GiB", (long long)result->steps,
           result->steps == 1 ? "" : "s", result->seconds, cli_gib(result->peak_resident_bytes));
    if (result->peak_device_bytes)
        printf(", %.2f GiB of the device's", cli_gib(result->peak_device_bytes));
    printf(", loss %.4f", result->final_loss);
    if (result->has_agreement)
        printf(", agreement %.3f with control, %.3f without", result->agreement_with_control,
               result->agreement_without_control);
    if (result->learned_at_step >= 0)
        printf(", control learned at step %lld", (long long)result->learned_at_step);
    else if (d->validates)
        printf(", control not learned yet");
    putchar('\n');
}

cn_train_callbacks train_callbacks(train_display *d)
{
    return (cn_train_callbacks){.user = d,
                                .progress = show_progress,
                                .validated = show_validation,
                                .saved = show_saved,
                                .checked = show_checked,
                                .planned = show_plan};
}
