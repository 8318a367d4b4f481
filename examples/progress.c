/* SPDX-License-Identifier: MIT */

#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum {
    LINE = 200,    /* characters of the longest line */
    SPEED = 24,    /* of what describe_speed writes, as a rule */
    BAR_MOST = 40, /* of the bar itself */
    BAR_LEAST = 5, /* a shorter one is left out */
};
static const double bar_every = 0.1; /* seconds between two pictures of the bar ... */
static const double line_every = 30; /* ... and between two lines where there is no terminal */

double seconds_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

struct duration duration_text(double seconds)
{
    struct duration d;
    long s = (long)(seconds + 0.5);

    if (s < 60)
        snprintf(d.text, sizeof d.text, "%ld s", s);
    else if (s < 3600)
        snprintf(d.text, sizeof d.text, "%ld min %02ld s", s / 60, s % 60);
    else
        snprintf(d.text, sizeof d.text, "%ld h %02ld min", s / 3600, s % 3600 / 60);
    return d;
}

/* ---- the running epoch --------------------------------------------------------------------- */

/* What is known once the clock has run for some batches. */
static void describe_speed(char *text, size_t size, const struct progress *p,
                           const nin_step_info *step)
{
    double passed = seconds_now() - p->started;
    int64_t batches = step->batch - p->first_batch;

    if (batches <= 0 || passed <= 0) {
        snprintf(text, size, "%*s", SPEED, "");
        return;
    }
    double left = passed / (double)batches * (double)(step->batches - step->batch);
    int length =
        snprintf(text, size, "%6.0f img/s", (double)(step->images - p->first_images) / passed);
    if (step->batch == step->batches)
        snprintf(text + length, size - (size_t)length, "%12s", "testing");
    else
        snprintf(text + length, size - (size_t)length, "  %2ld:%02ld left", (long)left / 60,
                 (long)left % 60);
}

static int terminal_width(void)
{
    struct winsize window;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0)
        return 80;
    return window.ws_col < LINE ? window.ws_col : LINE;
}

/* "[###...] " on `room` characters at most, or "" where that is too little. */
static void draw_bar(char *bar, size_t size, int room, const nin_step_info *step)
{
    static const char done[] = "########################################"; /* BAR_MOST of them */
    static const char open[] = "........................................";
    int length = room - 3 < BAR_MOST ? room - 3 : BAR_MOST;
    int full = (int)(length * step->batch / step->batches);

    bar[0] = '\0';
    if (length >= BAR_LEAST)
        snprintf(bar, size, "[%.*s%.*s] ", full, done, length - full, open);
}

/* The bar takes what the words leave of the line; in a narrow window the line is cut off. */
static void show_bar(const struct progress *p, const nin_step_info *step)
{
    char speed[64], words[LINE], bar[2 * BAR_MOST + sizeof "[] "];
    int width = terminal_width() - 1;

    describe_speed(speed, sizeof speed, p, step);
    int used =
        snprintf(words, sizeof words, "%*lld/%lld  loss %.4f  acc %5.2f %% %s",
                 step->batches < 1000 ? 3 : 6, (long long)step->batch, (long long)step->batches,
                 step->mean_loss, 100 * step->mean_accuracy, speed);
    draw_bar(bar, sizeof bar, width - used - (int)sizeof "epoch 123 ", step);

    char line[2 * LINE];
    snprintf(line, sizeof line, "epoch %3lld %s%s", (long long)step->epoch, bar, words);
    printf("\r%.*s\033[K", width, line);
    fflush(stdout);
}

static void show_line(const struct progress *p, const nin_step_info *step)
{
    char speed[64];

    describe_speed(speed, sizeof speed, p, step);
    printf("      epoch %lld, batch %lld/%lld: loss %.4f, accuracy %.2f %%,%s\n",
           (long long)step->epoch, (long long)step->batch, (long long)step->batches,
           step->mean_loss, 100 * step->mean_accuracy, speed);
}

void progress_begin(struct progress *progress, int quiet, int32_t epochs)
{
    const char *kind = getenv("TERM");

    *progress = (struct progress){.quiet = quiet, .epochs = epochs};
    progress->terminal = isatty(STDOUT_FILENO) && kind != NULL && strcmp(kind, "dumb") != 0;
    if (!progress->terminal)
        setvbuf(stdout, NULL, _IOLBF, 0); /* a log is read while it is written */
    if (!quiet)
        printf("\n%9s %9s %12s %12s %12s %9s\n", "epoch", "rate", "train loss", "train acc.",
               "test error", "seconds");
}

void progress_step(struct progress *progress, const nin_step_info *step)
{
    double now = seconds_now();
    double every = progress->terminal ? bar_every : line_every;

    if (progress->epoch != step->epoch) {
        progress->epoch = step->epoch;
        progress->first_batch = step->batch;
        progress->first_images = step->images;
        progress->started = now;
        progress->shown = progress->terminal ? 0 : now;
    }
    int last = step->batch == step->batches && progress->terminal;
    if (progress->quiet || (now - progress->shown < every && !last))
        return;
    progress->shown = now;
    if (progress->terminal)
        show_bar(progress, step);
    else
        show_line(progress, step);
}

void progress_clear(const struct progress *progress)
{
    if (progress->terminal && !progress->quiet)
        fputs("\r\033[K", stdout);
}

/* ---- the epoch that is over ---------------------------------------------------------------- */

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100 * (double)part / (double)whole : 0;
}

void progress_epoch(struct progress *progress, const nin_epoch_info *epoch)
{
    char number[32], error[32] = "-";

    if (progress->quiet)
        return;
    progress_clear(progress);
    if (progress->epochs > 0)
        snprintf(number, sizeof number, "%lld/%d", (long long)epoch->epoch, progress->epochs);
    else
        snprintf(number, sizeof number, "%lld", (long long)epoch->epoch);
    if (epoch->test_count > 0)
        snprintf(error, sizeof error, "%.2f %%",
                 percent(epoch->test_count - epoch->test_correct, epoch->test_count));
    printf("%9s %9.3g %12.4f %10.2f %% %12s %9.1f\n", number, epoch->rate, epoch->loss,
           percent(epoch->correct, epoch->count), error, epoch->seconds);
    fflush(stdout);
}
