/* SPDX-License-Identifier: MIT */
#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

long oracle_size(struct oracle_map map)
{
    return map.n * map.c * map.h * map.w;
}

/* Element [n][c][h][w] of a map; of weights OIHW, [o][c][r][s]. */
struct place {
    long n, c, h, w;
};

static struct place place_of(struct oracle_map map, long k)
{
    return (struct place){k / (map.c * map.h * map.w), k / (map.h * map.w) % map.c,
                          k / map.w % map.h, k % map.w};
}

static long at(struct oracle_map map, long n, long c, long h, long w)
{
    return ((n * map.c + c) * map.h + h) * map.w + w;
}

/* x[n][c][h][w], or 0 in the padding. */
static double padded(const double *x, struct oracle_map map, long n, long c, long h, long w)
{
    return h < 0 || h >= map.h || w < 0 || w >= map.w ? 0.0 : x[at(map, n, c, h, w)];
}

long oracle_places(long size, struct oracle_window window, int round_up)
{
    double steps = (double)(size + 2 * window.pad - window.kernel) / (double)window.stride;
    long places = (long)(round_up ? ceil(steps) : floor(steps)) + 1;
    long last = (places - 1) * window.stride - window.pad; /* where the last window starts */

    return round_up && last >= size ? places - 1 : places;
}

/* ---- convolution --------------------------------------------------------------------------- */

static struct oracle_map weight_map(struct oracle_map out, struct oracle_map in,
                                    struct oracle_window k)
{
    return (struct oracle_map){out.c, in.c, k.kernel, k.kernel};
}

/* sum over c, r, s of w[o][c][r][s] x[c][i stride + r - pad][j stride + s - pad] */
static double y_element(const double *x, struct oracle_map in, const double *w,
                        struct oracle_map weights, struct oracle_window k, struct place y)
{
    double sum = 0.0;

    for (long c = 0; c < in.c; c++)
        for (long r = 0; r < k.kernel; r++)
            for (long s = 0; s < k.kernel; s++)
                sum +=
                    w[at(weights, y.c, c, r, s)] *
                    padded(x, in, y.n, c, y.h * k.stride + r - k.pad, y.w * k.stride + s - k.pad);
    return sum;
}

void oracle_conv2d(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                   const double *w, const double *b, struct oracle_window k)
{
    for (long i = 0; i < oracle_size(out); i++) {
        struct place place = place_of(out, i);

        y[i] = y_element(x, in, w, weight_map(out, in, k), k, place);
        if (b != NULL)
            y[i] += b[place.c];
    }
}

/* sum over n, i, j of dy[n][o][i][j] x[n][c][i stride + r - pad][j stride + s - pad] */
static double dw_element(const double *dy, struct oracle_map out, const double *x,
                         struct oracle_map in, struct oracle_window k, struct place w)
{
    double sum = 0.0;

    for (long n = 0; n < out.n; n++)
        for (long i = 0; i < out.h; i++)
            for (long j = 0; j < out.w; j++)
                sum += dy[at(out, n, w.n, i, j)] * padded(x, in, n, w.c, i * k.stride + w.h - k.pad,
                                                          j * k.stride + w.w - k.pad);
    return sum;
}

void oracle_conv2d_dw(double *dw, const double *dy, struct oracle_map out, const double *x,
                      struct oracle_map in, struct oracle_window k)
{
    struct oracle_map weights = weight_map(out, in, k);

    for (long i = 0; i < oracle_size(weights); i++)
        dw[i] = dw_element(dy, out, x, in, k, place_of(weights, i));
}

void oracle_conv2d_db(double *db, const double *dy, struct oracle_map out)
{
    for (long o = 0; o < out.c; o++)
        db[o] = 0.0;
    for (long i = 0; i < oracle_size(out); i++)
        db[place_of(out, i).c] += dy[i];
}

/* Output place (i, j) sees x[c][u][v] through w[o][c][r][s] if i stride + r - pad = u, and so for
 * columns: sum over o, r, s of w[o][c][r][s] dy[o][(u + pad - r) / stride][(v + pad - s) /
 * stride] */
static double dx_element(const double *dy, struct oracle_map out, const double *w,
                         struct oracle_map weights, struct oracle_window k, struct place x)
{
    double sum = 0.0;

    for (long r = 0; r < k.kernel; r++)
        for (long s = 0; s < k.kernel; s++) {
            long i = x.h + k.pad - r, j = x.w + k.pad - s;

            if (i % k.stride != 0 || j % k.stride != 0)
                continue;
            for (long o = 0; o < out.c; o++)
                sum += w[at(weights, o, x.c, r, s)] *
                       padded(dy, out, x.n, o, i / k.stride, j / k.stride);
        }
    return sum;
}

void oracle_conv2d_dx(double *dx, struct oracle_map in, const double *dy, struct oracle_map out,
                      const double *w, struct oracle_window k)
{
    for (long i = 0; i < oracle_size(in); i++)
        dx[i] = dx_element(dy, out, w, weight_map(out, in, k), k, place_of(in, i));
}

/* ---- dense --------------------------------------------------------------------------------- */

void oracle_dense(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                  const double *w, const double *b)
{
    long size = in.c * in.h * in.w;

    for (long n = 0; n < in.n; n++)
        for (long o = 0; o < out.c; o++) {
            double sum = b == NULL ? 0.0 : b[o];

            for (long k = 0; k < size; k++)
                sum += w[o * size + k] * x[n * size + k];
            y[n * out.c + o] = sum;
        }
}

void oracle_dense_dw(double *dw, const double *dy, struct oracle_map out, const double *x,
                     struct oracle_map in)
{
    long size = in.c * in.h * in.w;

    for (long o = 0; o < out.c; o++)
        for (long k = 0; k < size; k++) {
            double sum = 0.0;

            for (long n = 0; n < in.n; n++)
                sum += dy[n * out.c + o] * x[n * size + k];
            dw[o * size + k] = sum;
        }
}

void oracle_dense_dx(double *dx, struct oracle_map in, const double *dy, struct oracle_map out,
                     const double *w)
{
    long size = in.c * in.h * in.w;

    for (long n = 0; n < in.n; n++)
        for (long k = 0; k < size; k++) {
            double sum = 0.0;

            for (long o = 0; o < out.c; o++)
                sum += dy[n * out.c + o] * w[o * size + k];
            dx[n * size + k] = sum;
        }
}

/* ---- pooling ------------------------------------------------------------------------------- */

/* Rows first ... end - 1, or columns, that a window covers. */
struct range {
    long first, end;
};

static struct range covered(long place, struct oracle_window k, long low, long high)
{
    long first = place * k.stride - k.pad, end = first + k.kernel;

    return (struct range){first < low ? low : first, end > high ? high : end};
}

static long first_largest(const double *x, struct oracle_map in, struct oracle_window k,
                          struct place y)
{
    struct range rows = covered(y.h, k, 0, in.h), columns = covered(y.w, k, 0, in.w);
    long best = at(in, y.n, y.c, rows.first, columns.first);

    for (long h = rows.first; h < rows.end; h++)
        for (long w = columns.first; w < columns.end; w++) {
            long here = at(in, y.n, y.c, h, w);

            if (x[here] > x[best] || isnan(x[here]))
                best = here;
        }
    return best;
}

void oracle_max_pool(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                     struct oracle_window k)
{
    for (long i = 0; i < oracle_size(out); i++)
        y[i] = x[first_largest(x, in, k, place_of(out, i))];
}

void oracle_max_pool_dx(double *dx, const double *x, struct oracle_map in, const double *dy,
                        struct oracle_map out, struct oracle_window k)
{
    memset(dx, 0, (size_t)oracle_size(in) * sizeof *dx);
    for (long i = 0; i < oracle_size(out); i++)
        dx[first_largest(x, in, k, place_of(out, i))] += dy[i];
}

static double divisor(struct oracle_map in, struct oracle_window k, int exclude_padding,
                      struct place y)
{
    long pad = exclude_padding ? 0 : k.pad;
    struct range rows = covered(y.h, k, -pad, in.h + pad);
    struct range columns = covered(y.w, k, -pad, in.w + pad);

    return (double)((rows.end - rows.first) * (columns.end - columns.first));
}

void oracle_average_pool(double *y, struct oracle_map out, const double *x, struct oracle_map in,
                         struct oracle_window k, int exclude_padding)
{
    for (long i = 0; i < oracle_size(out); i++) {
        struct place place = place_of(out, i);
        struct range rows = covered(place.h, k, 0, in.h), columns = covered(place.w, k, 0, in.w);

        y[i] = 0.0;
        for (long h = rows.first; h < rows.end; h++)
            for (long w = columns.first; w < columns.end; w++)
                y[i] += x[at(in, place.n, place.c, h, w)];
        y[i] /= divisor(in, k, exclude_padding, place);
    }
}

void oracle_average_pool_dx(double *dx, struct oracle_map in, const double *dy,
                            struct oracle_map out, struct oracle_window k, int exclude_padding)
{
    memset(dx, 0, (size_t)oracle_size(in) * sizeof *dx);
    for (long i = 0; i < oracle_size(out); i++) {
        struct place place = place_of(out, i);
        struct range rows = covered(place.h, k, 0, in.h), columns = covered(place.w, k, 0, in.w);

        for (long h = rows.first; h < rows.end; h++)
            for (long w = columns.first; w < columns.end; w++)
                dx[at(in, place.n, place.c, h, w)] +=
                    dy[i] / divisor(in, k, exclude_padding, place);
    }
}

void oracle_global_average(double *y, const double *x, struct oracle_map in)
{
    long pixels = in.h * in.w;

    for (long k = 0; k < in.n * in.c; k++) {
        double sum = 0.0;

        for (long p = 0; p < pixels; p++)
            sum += x[k * pixels + p];
        y[k] = sum / (double)pixels;
    }
}

void oracle_global_average_dx(double *dx, const double *dy, struct oracle_map in)
{
    long pixels = in.h * in.w;

    for (long k = 0; k < oracle_size(in); k++)
        dx[k] = dy[k / pixels] / (double)pixels;
}

/* ---- element by element -------------------------------------------------------------------- */

void oracle_relu(double *y, const double *x, long count)
{
    for (long k = 0; k < count; k++)
        y[k] = x[k] < 0.0 ? 0.0 : x[k];
}

void oracle_relu_dx(double *dx, const double *x, const double *dy, long count)
{
    for (long k = 0; k < count; k++)
        dx[k] = x[k] > 0.0 ? dy[k] : 0.0;
}

void oracle_dropout(double *y, const double *x, const unsigned char *keep, double drop, long count)
{
    for (long k = 0; k < count; k++)
        y[k] = keep[k] ? x[k] / (1.0 - drop) : 0.0;
}

/* Philox4x32-10 of Salmon, Moraes, Dror and Shaw (SC 2011). */
void oracle_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k[2] = {key[0], key[1]};

    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * UINT64_C(0xD2511F53);
        uint64_t b = (uint64_t)c[2] * UINT64_C(0xCD9E8D57);

        c[0] = (uint32_t)(b >> 32) ^ c[1] ^ k[0];
        c[1] = (uint32_t)b;
        c[2] = (uint32_t)(a >> 32) ^ c[3] ^ k[1];
        c[3] = (uint32_t)a;
        k[0] += UINT32_C(0x9E3779B9);
        k[1] += UINT32_C(0xBB67AE85);
    }
    memcpy(out, c, sizeof c);
}

void oracle_mask(unsigned char *keep, struct oracle_map map, double drop, uint32_t seed, uint32_t k,
                 int64_t step, int64_t position)
{
    const uint32_t key[2] = {seed, 256 + k};

    for (long i = 0; i < oracle_size(map); i++) {
        struct place place = place_of(map, i);
        long element = (place.h * map.w + place.w) * map.c + place.c; /* NHWC */
        const uint32_t counter[4] = {(uint32_t)(element / 4), (uint32_t)(position + place.n),
                                     (uint32_t)(step % (INT64_C(1) << 32)),
                                     (uint32_t)(step / (INT64_C(1) << 32))};
        uint32_t word[4];

        oracle_philox(word, counter, key);
        keep[i] = word[element % 4] >= drop * 4294967296.0;
    }
}

/* ---- loss and update ----------------------------------------------------------------------- */

double oracle_loss(double *dx, const double *x, const int32_t *labels, long n, long classes)
{
    double loss = 0.0;

    for (long i = 0; i < n; i++) {
        const double *scores = x + i * classes;
        double largest = scores[0], sum = 0.0;

        for (long c = 1; c < classes; c++)
            largest = scores[c] > largest ? scores[c] : largest;
        for (long c = 0; c < classes; c++)
            sum += exp(scores[c] - largest);
        loss -= scores[labels[i]] - largest - log(sum);
        for (long c = 0; dx != NULL && c < classes; c++)
            dx[i * classes + c] =
                (exp(scores[c] - largest) / sum - (c == labels[i] ? 1.0 : 0.0)) / (double)n;
    }
    return loss / (double)n;
}

void oracle_update(double *p, double *m, const double *gradient, long count, struct oracle_sgd sgd)
{
    for (long k = 0; k < count; k++) {
        double g = gradient[k] + sgd.decay * sgd.decay_multiplier * p[k];

        m[k] = sgd.momentum * m[k] + g;
        p[k] -= sgd.rate * sgd.rate_multiplier * (sgd.nesterov ? g + sgd.momentum * m[k] : m[k]);
    }
}

/* ---- a stack of layers --------------------------------------------------------------------- */

static void *zeros(long count, size_t size)
{
    void *memory = calloc((size_t)count + 1, size); /* + 1: also for nothing at all */

    if (memory == NULL)
        abort();
    return memory;
}

static struct oracle_map shape(const struct oracle_layer *layer, struct oracle_map in)
{
    struct oracle_map out = in;

    switch (layer->kind) {
    case ORACLE_CONV:
    case ORACLE_MAX_POOL:
    case ORACLE_AVERAGE_POOL:
        out.h = oracle_places(in.h, layer->window, layer->round_up);
        out.w = oracle_places(in.w, layer->window, layer->round_up);
        break;
    case ORACLE_DENSE:
    case ORACLE_GLOBAL_AVERAGE:
        out.h = out.w = 1;
        break;
    case ORACLE_RELU:
    case ORACLE_DROPOUT:
    case ORACLE_LOSS:
        break;
    }
    if (layer->kind == ORACLE_CONV || layer->kind == ORACLE_DENSE)
        out.c = layer->filters;
    return out;
}

static void make_stage(struct oracle_stage *stage, const struct oracle_layer *layer,
                       struct oracle_map in)
{
    stage->layer = *layer;
    stage->in = in;
    stage->out = shape(layer, in);
    if (layer->kind == ORACLE_CONV)
        stage->weights = stage->out.c * in.c * layer->window.kernel * layer->window.kernel;
    if (layer->kind == ORACLE_DENSE)
        stage->weights = stage->out.c * in.c * in.h * in.w;
    stage->biases = stage->weights > 0 && !layer->no_bias ? stage->out.c : 0;
    stage->w = zeros(stage->weights, sizeof(double));
    stage->dw = zeros(stage->weights, sizeof(double));
    stage->b = stage->biases > 0 ? zeros(stage->biases, sizeof(double)) : NULL;
    stage->db = stage->biases > 0 ? zeros(stage->biases, sizeof(double)) : NULL;
    stage->keep = zeros(oracle_size(stage->out), 1);
    stage->y = zeros(oracle_size(stage->out), sizeof(double));
    stage->dy = zeros(oracle_size(stage->out), sizeof(double));
}

struct oracle *oracle_create(const struct oracle_layer *layers, int count, struct oracle_map input)
{
    struct oracle *oracle = zeros(1, sizeof *oracle);

    oracle->count = count;
    oracle->stages = zeros(count, sizeof *oracle->stages);
    oracle->input = oracle->scores = input;
    oracle->x = zeros(oracle_size(input), sizeof(double));
    oracle->dx = zeros(oracle_size(input), sizeof(double));
    for (int i = 0; i < count; i++) {
        make_stage(&oracle->stages[i], &layers[i], oracle->scores);
        oracle->scores = oracle->stages[i].out; /* a loss changes no shape */
    }
    return oracle;
}

void oracle_destroy(struct oracle *oracle)
{
    for (int i = 0; i < oracle->count; i++) {
        struct oracle_stage *stage = &oracle->stages[i];

        free(stage->w);
        free(stage->b);
        free(stage->dw);
        free(stage->db);
        free(stage->keep);
        free(stage->y);
        free(stage->dy);
    }
    free(oracle->stages);
    free(oracle->x);
    free(oracle->dx);
    free(oracle);
}

static void stage_forward(struct oracle_stage *s, const double *x)
{
    const struct oracle_layer *layer = &s->layer;

    switch (layer->kind) {
    case ORACLE_CONV:
        oracle_conv2d(s->y, s->out, x, s->in, s->w, s->b, layer->window);
        break;
    case ORACLE_DENSE:
        oracle_dense(s->y, s->out, x, s->in, s->w, s->b);
        break;
    case ORACLE_RELU:
        oracle_relu(s->y, x, oracle_size(s->in));
        break;
    case ORACLE_MAX_POOL:
        oracle_max_pool(s->y, s->out, x, s->in, layer->window);
        break;
    case ORACLE_AVERAGE_POOL:
        oracle_average_pool(s->y, s->out, x, s->in, layer->window, layer->exclude_padding);
        break;
    case ORACLE_GLOBAL_AVERAGE:
        oracle_global_average(s->y, x, s->in);
        break;
    case ORACLE_DROPOUT:
        oracle_dropout(s->y, x, s->keep, layer->drop, oracle_size(s->in));
        break;
    case ORACLE_LOSS:
        memcpy(s->y, x, (size_t)oracle_size(s->in) * sizeof *x); /* the scores pass through */
        break;
    }
}

static void parameter_gradients(struct oracle_stage *s, const double *x)
{
    if (s->layer.kind == ORACLE_CONV)
        oracle_conv2d_dw(s->dw, s->dy, s->out, x, s->in, s->layer.window);
    if (s->layer.kind == ORACLE_DENSE)
        oracle_dense_dw(s->dw, s->dy, s->out, x, s->in);
    if (s->db != NULL)
        oracle_conv2d_db(s->db, s->dy, s->out);
}

static void stage_backward(struct oracle_stage *s, const double *x, double *dx)
{
    const struct oracle_layer *layer = &s->layer;

    switch (layer->kind) {
    case ORACLE_CONV:
        oracle_conv2d_dx(dx, s->in, s->dy, s->out, s->w, layer->window);
        break;
    case ORACLE_DENSE:
        oracle_dense_dx(dx, s->in, s->dy, s->out, s->w);
        break;
    case ORACLE_RELU:
        oracle_relu_dx(dx, x, s->dy, oracle_size(s->in));
        break;
    case ORACLE_MAX_POOL:
        oracle_max_pool_dx(dx, x, s->in, s->dy, s->out, layer->window);
        break;
    case ORACLE_AVERAGE_POOL:
        oracle_average_pool_dx(dx, s->in, s->dy, s->out, layer->window, layer->exclude_padding);
        break;
    case ORACLE_GLOBAL_AVERAGE:
        oracle_global_average_dx(dx, s->dy, s->in);
        break;
    case ORACLE_DROPOUT:
        oracle_dropout(dx, s->dy, s->keep, layer->drop, oracle_size(s->in));
        break;
    case ORACLE_LOSS:
        memcpy(dx, s->dy, (size_t)oracle_size(s->in) * sizeof *dx);
        break;
    }
}

void oracle_forward(struct oracle *oracle)
{
    for (int i = 0; i < oracle->count; i++)
        stage_forward(&oracle->stages[i], i > 0 ? oracle->stages[i - 1].y : oracle->x);
}

void oracle_backward(struct oracle *oracle, const int32_t *labels, const double *score_gradient)
{
    struct oracle_stage *last = &oracle->stages[oracle->count - 1];
    struct oracle_map scores = oracle->scores;

    if (labels != NULL)
        oracle->loss = oracle_loss(last->dy, last->y, labels, scores.n, scores.c);
    else
        memcpy(last->dy, score_gradient, (size_t)oracle_size(scores) * sizeof *last->dy);
    for (int i = oracle->count - 1; i >= 0; i--) {
        const double *x = i > 0 ? oracle->stages[i - 1].y : oracle->x;

        parameter_gradients(&oracle->stages[i], x);
        stage_backward(&oracle->stages[i], x, i > 0 ? oracle->stages[i - 1].dy : oracle->dx);
    }
}

const double *oracle_scores(const struct oracle *oracle)
{
    return oracle->stages[oracle->count - 1].y;
}

/* ---- how far from a kink ------------------------------------------------------------------- */

static double norm(const double *x, long count)
{
    double sum = 0.0;

    for (long k = 0; k < count; k++)
        sum += x[k] * x[k];
    return sqrt(sum / (double)count);
}

static double relu_clearance(const double *x, long count)
{
    double nearest = INFINITY;

    for (long k = 0; k < count; k++)
        nearest = fmin(nearest, fabs(x[k]));
    return nearest;
}

/* Where maxima of 0 tie behind a ReLU, the gradient ends there whichever gets it: that is no
 * kink. */
static double pool_clearance(const double *x, struct oracle_map in, struct oracle_map out,
                             struct oracle_window k)
{
    double nearest = INFINITY;

    for (long i = 0; i < oracle_size(out); i++) {
        struct place y = place_of(out, i);
        struct range rows = covered(y.h, k, 0, in.h), columns = covered(y.w, k, 0, in.w);
        long best = first_largest(x, in, k, y);

        for (long h = rows.first; h < rows.end; h++)
            for (long w = columns.first; w < columns.end; w++)
                if (at(in, y.n, y.c, h, w) != best && x[best] != 0.0)
                    nearest = fmin(nearest, x[best] - x[at(in, y.n, y.c, h, w)]);
    }
    return nearest;
}

double oracle_clearance(const struct oracle *oracle)
{
    double nearest = INFINITY;

    for (int i = 0; i < oracle->count; i++) {
        const struct oracle_stage *s = &oracle->stages[i];
        const double *x = i > 0 ? s[-1].y : oracle->x;
        double unit = norm(x, oracle_size(s->in));

        if (s->layer.kind == ORACLE_RELU)
            nearest = fmin(nearest, relu_clearance(x, oracle_size(s->in)) / unit);
        if (s->layer.kind == ORACLE_MAX_POOL)
            nearest = fmin(nearest, pool_clearance(x, s->in, s->out, s->layer.window) / unit);
    }
    return nearest;
}

/* ---- data ---------------------------------------------------------------------------------- */

/* splitmix64 */
uint64_t oracle_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void oracle_fill(float *x, long count, double mean, double spread, uint64_t seed)
{
    for (long k = 0; k < count; k++)
        x[k] = (float)(mean + spread * ((double)(oracle_random(&seed) >> 40) / 8388608.0 - 1.0));
}

double oracle_error(const float *got, const double *want, long count)
{
    double error = 0.0, size = 0.0;

    for (long k = 0; k < count; k++) {
        error += ((double)got[k] - want[k]) * ((double)got[k] - want[k]);
        size += want[k] * want[k];
    }
    return size > 0.0 ? sqrt(error / size) : INFINITY;
}
