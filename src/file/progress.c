/* SPDX-License-Identifier: MIT */
#include "file/progress.h"

#include "core/error.h"
#include "file/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void nin__restored_free(struct nin__restored *restored)
{
    free(restored->curve);
    free(restored->multipliers);
    free(restored->parameters);
    free(restored->momentum);
}

/* ---- describing ---------------------------------------------------------------------------- */

static json_t *describe_sums(const struct nin__epoch_sums *sums)
{
    return json_pack("{s:o, s:o, s:I, s:I, s:I, s:o}", "loss", nin__json_bits(sums->loss), "metric",
                     nin__json_bits(sums->metric), "correct", (json_int_t)sums->correct, "count",
                     (json_int_t)sums->count, "flat", (json_int_t)sums->flat, "seconds",
                     nin__json_bits(sums->seconds));
}

static json_t *describe_scheduler(const nin_scheduler *scheduler)
{
    if (scheduler == NULL)
        return json_object();
    return json_pack("{s:o, s:I, s:o, s:I, s:I}", "base_rate", nin__json_bits(scheduler->base_rate),
                     "units", (json_int_t)scheduler->state.units, "best",
                     nin__json_bits(scheduler->state.best), "bad", (json_int_t)scheduler->state.bad,
                     "cool", (json_int_t)scheduler->state.cool);
}

json_t *nin__progress_describe(const nin_trainer *trainer)
{
    const struct nin__progress *progress = &trainer->progress;

    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:o, s:o, s:o}", "seed", (json_int_t)progress->seed,
        "epoch", (json_int_t)progress->epoch, "batch", (json_int_t)progress->batch, "step",
        (json_int_t)progress->step, "stalled", (json_int_t)progress->stalled, "due",
        (int)progress->due, "last_rate", nin__json_bits(progress->rate), "rate",
        nin__json_bits(trainer->optimizer->rate), "sums", describe_sums(&progress->sums),
        "scheduler", describe_scheduler(trainer->scheduler));
}

/* ---- reading ------------------------------------------------------------------------------- */

static double read_rate(struct nin__fields *fields, const char *key)
{
    double rate = nin__field_bits(fields, key);

    if (fields->status == NIN_OK && !nin__is_rate(rate))
        nin__fields_fail(fields, key, "negative or not finite");
    return rate;
}

static double read_finite(struct nin__fields *fields, const char *key)
{
    double value = nin__field_bits(fields, key);

    if (fields->status == NIN_OK && !isfinite(value))
        nin__fields_fail(fields, key, "not finite");
    return value;
}

/* `images`: how many the running epoch has seen. */
static nin_status read_sums(struct nin__epoch_sums *sums, const json_t *json, int64_t images)
{
    struct nin__fields fields = nin__fields_begin(json, "state: sums");

    sums->loss = read_finite(&fields, "loss");
    sums->metric = read_finite(&fields, "metric");
    sums->correct = nin__field_integer(&fields, "correct", 0, images);
    sums->count = nin__field_integer(&fields, "count", images, images);
    sums->flat = nin__field_integer(&fields, "flat", 0, images);
    sums->seconds = read_finite(&fields, "seconds");
    return nin__fields_end(&fields);
}

static nin_status read_scheduler(struct nin__restored *restored, const nin_scheduler *scheduler,
                                 const json_t *json)
{
    struct nin__fields fields = nin__fields_begin(json, "state: scheduler");
    struct nin__scheduler_state *state = &restored->scheduler;

    if (scheduler == NULL)
        return nin__fields_end(&fields);
    restored->base_rate = read_rate(&fields, "base_rate");
    state->units = nin__field_integer(&fields, "units", 0, INT64_MAX / 2);
    state->best = nin__field_bits(&fields, "best"); /* minus infinity at the start */
    state->bad = nin__field_integer(&fields, "bad", 0, INT32_MAX);
    state->cool = nin__field_integer(&fields, "cool", 0, INT32_MAX);
    if (fields.status == NIN_OK && isnan(state->best))
        nin__fields_fail(&fields, "best", "no number");
    return nin__fields_end(&fields);
}

nin_status nin__progress_read(struct nin__restored *restored, const nin_trainer *trainer,
                              const json_t *json)
{
    struct nin__fields fields = nin__fields_begin(json, "state");
    struct nin__progress *progress = &restored->progress;
    const int64_t pieces = trainer->batches.pieces;
    const json_t *sums, *scheduler;

    progress->seed = (uint32_t)nin__field_integer(&fields, "seed", 0, UINT32_MAX);
    progress->epoch = nin__field_integer(&fields, "epoch", 0, INT64_MAX / 4 / pieces);
    progress->batch = nin__field_integer(&fields, "batch", 0, pieces - 1);
    /* an epoch has as many steps as batches, so the file says it twice */
    progress->step = progress->epoch * pieces + progress->batch;
    nin__field_integer(&fields, "step", progress->step, progress->step);
    progress->stalled = nin__field_integer(&fields, "stalled", 0, progress->epoch);
    progress->due = nin__field_bool(&fields, "due");
    if (progress->due && (progress->epoch == 0 || progress->batch > 0))
        nin__fields_fail(&fields, "due", "true inside an epoch");
    progress->rate = read_rate(&fields, "last_rate");
    restored->rate = read_rate(&fields, "rate");
    sums = nin__field_any(&fields, "sums");
    scheduler = nin__field_any(&fields, "scheduler");
    NIN__TRY(nin__fields_end(&fields));
    /* only an epoch's last batch may be smaller, and that one is not over */
    NIN__TRY(read_sums(&progress->sums, sums, progress->batch * trainer->batches.size));
    return read_scheduler(restored, trainer->scheduler, scheduler);
}

/* ---- curve --------------------------------------------------------------------------------- */

/* The columns; docs/file-format.md has them for readers in other languages. */
enum {
    STEPS,
    RATE,
    LOSS,
    CORRECT,
    COUNT,
    METRIC,
    TEST_COUNT,
    TEST_CORRECT,
    TEST_LOSS,
    SECONDS,
    HEALTH
};

static void write_row(double *row, const nin_epoch_info *info)
{
    row[STEPS] = (double)info->steps;
    row[RATE] = info->rate;
    row[LOSS] = info->loss;
    row[CORRECT] = (double)info->correct;
    row[COUNT] = (double)info->count;
    row[METRIC] = info->metric;
    row[TEST_COUNT] = (double)info->test_count;
    row[TEST_CORRECT] = (double)info->test_correct;
    row[TEST_LOSS] = info->test_loss;
    row[SECONDS] = info->seconds;
    row[HEALTH] = (double)info->health;
}

double *nin__curve_table(const nin_trainer *trainer)
{
    size_t epochs = (size_t)trainer->progress.epoch;
    double *table = calloc(epochs * NIN__CURVE_COLUMNS + 1, sizeof *table);

    for (size_t i = 0; table != NULL && i < epochs; i++)
        write_row(table + i * NIN__CURVE_COLUMNS, &trainer->curve[i]);
    return table;
}

/* A whole number from 0 to high. */
static bool read_whole(int64_t *target, double value, int64_t high)
{
    if (!(value >= 0.0 && value <= (double)high && floor(value) == value))
        return false;
    *target = (int64_t)value;
    return true;
}

/* The loss of an evaluation may be infinite or NaN: nothing stops a run for that. */
static bool read_row(nin_epoch_info *info, const double *row, int64_t steps, int64_t images)
{
    int64_t health = NIN_HEALTHY;

    info->struct_size = sizeof *info;
    info->rate = row[RATE];
    info->loss = row[LOSS];
    info->metric = row[METRIC];
    info->test_loss = row[TEST_LOSS];
    info->seconds = row[SECONDS];
    if (!read_whole(&info->steps, row[STEPS], steps) || info->steps != steps ||
        !read_whole(&info->count, row[COUNT], images) || info->count != images ||
        !read_whole(&info->correct, row[CORRECT], info->count) ||
        !read_whole(&info->test_count, row[TEST_COUNT], INT32_MAX) ||
        !read_whole(&info->test_correct, row[TEST_CORRECT], info->test_count) ||
        !read_whole(&health, row[HEALTH], NIN_DEAD_MAPS))
        return false;
    info->health = (nin_health)health;
    return info->rate >= 0.0 && isfinite(info->rate) && isfinite(info->loss) &&
           isfinite(info->metric) && isfinite(info->seconds);
}

nin_status nin__curve_read(struct nin__restored *restored, const nin_trainer *trainer,
                           const double *table)
{
    const int64_t epochs = restored->progress.epoch, pieces = trainer->batches.pieces;

    restored->curve = calloc((size_t)epochs + 1, sizeof *restored->curve);
    if (restored->curve == NULL)
        return nin__no_memory("the curve");
    for (int64_t i = 0; i < epochs; i++) {
        restored->curve[i].epoch = i + 1;
        if (!read_row(&restored->curve[i], table + i * NIN__CURVE_COLUMNS, (i + 1) * pieces,
                      trainer->dataset->info.count))
            return nin__fail(NIN_BAD_FORMAT, "curve: the row of epoch %lld cannot be",
                             (long long)i + 1);
    }
    return NIN_OK;
}
