/* SPDX-License-Identifier: MIT */
/* What does each further core bring? Times training steps and inference of a preset on 1, 2, 3 ...
 * threads, up to all cores or --threads, in rounds: each round goes once through all numbers of
 * threads, every other one backwards, so that what changes with time meets all alike. --steps sets
 * the rounds. A line for people for each number of threads; the last line is JSON. Times are
 * medians over the rounds, the gain over one thread the median of the gains in each round; of_peak
 * as in bench/step. */
#include "measure.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WARM_UP = 1,
    BURST = 3 /* timed in a round, of which the median counts */
};

enum what {
    STEP,
    INFER,
    WHATS
};

/* One number of threads. */
struct point {
    int32_t threads;
    double peak;        /* GFLOP/s */
    double *ms[WHATS];  /* of each round */
    double time[WHATS]; /* the median */
    double gain[WHATS]; /* over the first point */
};

struct scaling {
    struct point *points;
    int32_t count, rounds;
};

/* All numbers up to eight, then by a quarter, and the last one. */
static int32_t next_threads(int32_t threads, int32_t last)
{
    int32_t next = threads + (threads < 8 ? 1 : threads / 4);

    return next < last ? next : last;
}

static int make_scaling(struct scaling *s, int32_t cores, int32_t rounds)
{
    *s = (struct scaling){.points = calloc((size_t)cores, sizeof *s->points), .rounds = rounds};
    for (int32_t threads = 1; s->points != NULL; threads = next_threads(threads, cores)) {
        struct point *point = &s->points[s->count++];

        point->threads = threads;
        for (int32_t what = 0; what < WHATS; what++) {
            point->ms[what] = malloc((size_t)rounds * sizeof(double));
            if (point->ms[what] == NULL)
                return 0;
        }
        if (threads == cores)
            return 1;
    }
    return 0;
}

static void free_scaling(struct scaling *s)
{
    for (int32_t i = 0; i < s->count; i++)
        for (int32_t what = 0; what < WHATS; what++)
            free(s->points[i].ms[what]);
    free(s->points);
}

/* ---- timing ------------------------------------------------------------------------------- */

static nin_status time_inference(double *ms, nin_plan *plan, const struct bench_training *t)
{
    double start = bench_now_ms();
    nin_status status = nin_plan_forward(plan, NIN_DESC(nin_batch_desc, .images = t->batch.images,
                                                        .dtype = NIN_U8, .count = t->count));

    *ms = bench_now_ms() - start;
    return status;
}

static nin_status time_burst(double ms[WHATS], struct bench_training *t, nin_plan *infer)
{
    double times[WHATS][WARM_UP + BURST];
    nin_status status = NIN_OK;

    for (int32_t i = 0; status == NIN_OK && i < WARM_UP + BURST; i++)
        status = bench_time_step(&times[STEP][i], t);
    for (int32_t i = 0; status == NIN_OK && i < WARM_UP + BURST; i++)
        status = time_inference(&times[INFER][i], infer, t);
    for (int32_t what = 0; status == NIN_OK && what < WHATS; what++)
        ms[what] = bench_median(times[what] + WARM_UP, BURST);
    return status;
}

/* A point's turn in a round. Everything is made anew: the plans of all points together could be too
 * large. */
static nin_status take_turn(struct point *point, int32_t round, const struct bench_options *given)
{
    struct bench_options options = *given;
    struct bench_training training = {0};
    nin_plan *infer = NULL;
    double ms[WHATS] = {0};
    nin_status status;

    options.threads = point->threads;
    status = bench_make_training(&training, &options);
    if (status == NIN_OK)
        status = nin_plan_create(&infer, training.network,
                                 NIN_DESC(nin_plan_desc, .max_batch = options.batch,
                                          .precision = options.precision,
                                          .algorithm = options.algorithm));
    if (status == NIN_OK)
        status = time_burst(ms, &training, infer);
    for (int32_t what = 0; what < WHATS; what++)
        point->ms[what][round] = ms[what];
    nin_plan_destroy(infer);
    bench_free_training(&training);
    return status;
}

static nin_status run_rounds(struct scaling *s, const struct bench_options *options)
{
    nin_status status = NIN_OK;

    for (int32_t round = 0; round < s->rounds; round++)
        for (int32_t i = 0; status == NIN_OK && i < s->count; i++)
            status = take_turn(&s->points[round % 2 == 0 ? i : s->count - 1 - i], round, options);
    return status;
}

/* ---- results ------------------------------------------------------------------------------ */

/* Gains first: a median sorts the rounds. */
static void summarize(struct scaling *s, double *gains)
{
    for (int32_t what = 0; what < WHATS; what++) {
        for (int32_t i = 0; i < s->count; i++) {
            for (int32_t round = 0; round < s->rounds; round++)
                gains[round] = s->points[0].ms[what][round] / s->points[i].ms[what][round];
            s->points[i].gain[what] = bench_median(gains, s->rounds);
        }
        for (int32_t i = 0; i < s->count; i++)
            s->points[i].time[what] = bench_median(s->points[i].ms[what], s->rounds);
    }
    for (int32_t i = 0; i < s->count; i++)
        s->points[i].peak = bench_peak_gflops(s->points[i].threads);
}

static double of_peak(const struct point *point, const struct bench_options *options)
{
    return point->peak > 0.0 ? 1e3 * bench_step_gflop(options) / point->time[STEP] / point->peak
                             : 0.0;
}

static void print_lines(const struct scaling *s, const struct bench_options *options)
{
    printf("threads    peak GFLOP/s      step ms   gain  of peak     infer ms   gain\n");
    for (int32_t i = 0; i < s->count; i++) {
        const struct point *p = &s->points[i];

        printf("%7d %9.1f, %5.2f %12.2f %6.2f %8.3f %12.2f %6.2f\n", p->threads, p->peak,
               p->peak / s->points[0].peak, p->time[STEP], p->gain[STEP], of_peak(p, options),
               p->time[INFER], p->gain[INFER]);
    }
}

static void print_json(const struct scaling *s, const struct bench_options *options)
{
    const struct point *last = &s->points[s->count - 1];

    bench_print_head("scaling", options, last->threads, last->peak);
    printf(", \"rounds\": %d, \"points\": [", s->rounds);
    for (int32_t i = 0; i < s->count; i++) {
        const struct point *p = &s->points[i];

        printf("%s{\"threads\": %d, \"peak_gflops\": %.1f, \"step_ms\": %.2f, \"step_gain\": %.3f, "
               "\"of_peak\": %.3f, \"infer_ms\": %.2f, \"infer_gain\": %.3f}",
               i == 0 ? "" : ", ", p->threads, p->peak, p->time[STEP], p->gain[STEP],
               of_peak(p, options), p->time[INFER], p->gain[INFER]);
    }
    printf("]}\n");
}

/* --threads, or what a context takes by itself: 0 if there is none. */
static int32_t count_cores(const struct bench_options *options)
{
    nin_context *context = NULL;
    int32_t threads = 0;

    if (nin_context_create(&context, NIN_DESC(nin_context_desc, .device = NIN_DEVICE_CPU,
                                              .threads = options->threads)) == NIN_OK)
        threads = nin_context_threads(context);
    nin_context_destroy(context);
    return threads;
}

int main(int argc, char **argv)
{
    struct bench_options options = {.preset = "mnist", .batch = 128, .repetitions = 7};
    struct scaling scaling = {0};
    double *gains;
    nin_status status = NIN_OUT_OF_MEMORY;
    int32_t cores;

    if (!bench_parse(&options, argc, argv))
        return 2;
    cores = count_cores(&options);
    gains = malloc((size_t)options.repetitions * sizeof *gains);
    if (cores > 0 && gains != NULL && make_scaling(&scaling, cores, options.repetitions))
        status = run_rounds(&scaling, &options);
    if (status == NIN_OK) {
        summarize(&scaling, gains);
        print_lines(&scaling, &options);
        print_json(&scaling, &options);
    } else {
        bench_complain(status);
    }
    free(gains);
    free_scaling(&scaling);
    return status == NIN_OK ? 0 : 1;
}
