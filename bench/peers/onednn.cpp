/* SPDX-License-Identifier: MIT */
/* The nets of the presets driven with oneDNN's primitives by hand, as somebody would who knows that
 * library: formats of its own choice, bias and ReLU fused into the convolutions, ReLU's backward
 * from its output, reorders only where two primitives want different formats, memory and scratch
 * made once and on large pages. Two buffers serve all gradients of maps in turn. Left out to its
 * favour: dropout and the conversion of pixels. The line is JSON: medians of a training step and of
 * forward passes, the loss of the first step, which every peer shares, and the norm of the gradient
 * of conv1's weights in it. Builds against oneDNN 2.6 and 3. */
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <getopt.h>
#include <memory>
#include <new>
#include <omp.h>
#include <sys/mman.h>
#include <utility>
#include <vector>

#if DNNL_CPU_RUNTIME != DNNL_RUNTIME_OMP
#error "this needs a oneDNN that runs on OpenMP"
#endif

using dnnl::algorithm;
using dnnl::memory;
using dnnl::prop_kind;

namespace
{

/* ---- nets --------------------------------------------------------------------------------- */

enum {
    CLASSES = 10,
    LAYERS = 9
};

struct preset {
    const char *name;
    int channels, size;
    int widths[LAYERS];
    int kernels[3];    /* of each block's first layer; the others have 1 */
    int pool_pad;      /* on the near side; what the far side needs for size / 2 is added */
    bool relu_at_last; /* on the class maps too */
};

const preset presets[] = {
    {"mnist", 1, 28, {96, 64, 48, 128, 96, 48, 128, 96, CLASSES}, {5, 5, 5}, 1, false},
    {"cifar10", 3, 32, {192, 160, 96, 192, 192, 192, 192, 192, CLASSES}, {5, 5, 3}, 0, true}};

/* Values in [-bound, bound] by hashing: the same bits in every peer. */
std::vector<float> fill(size_t count, unsigned tensor, double bound)
{
    std::vector<float> values(count);

    for (size_t i = 0; i < count; i++) {
        unsigned h = (unsigned)i * 2654435761u + tensor * 40503u + 12345u;

        h = (h ^ (h >> 16)) * 0x7feb352du;
        h = (h ^ (h >> 15)) * 0x846ca68bu;
        values[i] = (float)((2.0 * ((h ^ (h >> 16)) / 4294967296.0) - 1.0) * bound);
    }
    return values;
}

/* ---- two versions of one interface --------------------------------------------------------- */

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl::pooling_forward pooling_forward;
typedef dnnl::pooling_backward pooling_backward;

template <class Primitive, class... Args>
typename Primitive::primitive_desc describe(const dnnl::engine &engine,
                                            const dnnl::primitive_attr &attr, const Args &...args)
{
    return typename Primitive::primitive_desc(engine, args..., attr);
}

template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const dnnl::engine &engine,
                                                     const dnnl::primitive_attr &attr,
                                                     const Hint &hint, const Args &...args)
{
    return typename Primitive::primitive_desc(engine, args..., hint, attr);
}

memory::dims dims_of(const memory &m)
{
    return m.get_desc().get_dims();
}

void append_relu(dnnl::post_ops *ops)
{
    ops->append_eltwise(algorithm::eltwise_relu, 0.0f, 0.0f);
}
#else
typedef dnnl::pooling_v2_forward pooling_forward;
typedef dnnl::pooling_v2_backward pooling_backward;

template <class Primitive, class... Args>
typename Primitive::primitive_desc describe(const dnnl::engine &engine,
                                            const dnnl::primitive_attr &attr, const Args &...args)
{
    return typename Primitive::primitive_desc(typename Primitive::desc(args...), attr, engine);
}

template <class Primitive, class Hint, class... Args>
typename Primitive::primitive_desc describe_backward(const dnnl::engine &engine,
                                                     const dnnl::primitive_attr &attr,
                                                     const Hint &hint, const Args &...args)
{
    return
        typename Primitive::primitive_desc(typename Primitive::desc(args...), attr, engine, hint);
}

memory::dims dims_of(const memory &m)
{
    return m.get_desc().dims();
}

void append_relu(dnnl::post_ops *ops)
{
    ops->append_eltwise(1.0f, algorithm::eltwise_relu, 0.0f, 0.0f);
}
#endif

/* ---- programs ----------------------------------------------------------------------------- */

/* Calls of primitives in their order, with all their memory. */
class program
{
  public:
    typedef std::vector<std::pair<int, memory>> arguments;

    program() : engine(dnnl::engine::kind::cpu, 0), reorders(0), stream(engine), turn(0)
    {
    }

    memory allocate(const memory::desc &desc)
    {
        return memory(desc, engine, new_buffer(desc.get_size()));
    }

    /* Memory that lasts until the next but one is written. */
    memory allocate_gradient(const memory::desc &desc)
    {
        memory made(desc, engine, DNNL_MEMORY_NONE);

        turn = !turn;
        gradients[turn].push_back(made);
        return made;
    }

    template <class Primitive, class Desc> void add(const Desc &desc, const arguments &args)
    {
        calls.push_back(call{Primitive(desc), args, {}});
        if (desc.scratchpad_desc().get_size() > 0) {
            scratch.push_back(memory(desc.scratchpad_desc(), engine, DNNL_MEMORY_NONE));
            calls.back().args.push_back({DNNL_ARG_SCRATCHPAD, scratch.back()});
        }
    }

    /* The memory in another format, by a reorder in the program if it has to be. */
    memory as(const memory &from, const memory::desc &desc)
    {
        if (from.get_desc() == desc)
            return from;
        for (const copy &c : copies)
            if (c.from.get() == from.get() && c.to.get_desc() == desc)
                return c.to;
        copies.push_back(copy{from, allocate(desc)});
        add<dnnl::reorder>(reorder(from, copies.back().to),
                           {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, copies.back().to}});
        reorders++;
        return copies.back().to;
    }

    /* Given values in a format, at once. */
    memory constant(std::vector<float> values, const memory::dims &dims, memory::format_tag tag,
                    const memory::desc &desc)
    {
        memory plain(memory::desc(dims, memory::data_type::f32, tag), engine, values.data());
        memory made = allocate(desc);

        dnnl::reorder(plain, made).execute(stream, plain, made);
        stream.wait();
        return made;
    }

    /* Shares out what the calls do not need at the same time. */
    void finish()
    {
        share(&scratch);
        share(&gradients[0]);
        share(&gradients[1]);
        for (call &c : calls)
            for (const std::pair<int, memory> &arg : c.args)
                c.list.push_back({arg.first, arg.second.get()});
    }

    size_t length() const
    {
        return calls.size();
    }

    void run(size_t first, size_t end)
    {
        for (size_t i = first; i < end; i++)
            dnnl::error::wrap_c_api(dnnl_primitive_execute(calls[i].primitive.get(), stream.get(),
                                                           (int)calls[i].list.size(),
                                                           calls[i].list.data()),
                                    "a primitive failed");
        stream.wait();
    }

    static dnnl::primitive_attr attributes()
    {
        dnnl::primitive_attr attr;

        attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
        return attr;
    }

    dnnl::engine engine;
    int reorders;

  private:
    struct call {
        dnnl::primitive primitive;
        arguments args;
        std::vector<dnnl_exec_arg_t> list; /* the same once more, as the C interface takes it */
    };

    struct copy {
        memory from, to;
    };

    dnnl::reorder::primitive_desc reorder(const memory &from, const memory &to) const
    {
        return dnnl::reorder::primitive_desc(engine, from.get_desc(), engine, to.get_desc(),
                                             attributes());
    }

    void *new_buffer(size_t size)
    {
        const size_t page = size < ((size_t)1 << 21) ? 64 : (size_t)1 << 21;
        const size_t whole = (size + page) / page * page;
        void *made = aligned_alloc(page, whole);

        if (made == nullptr)
            throw std::bad_alloc();
        buffers.emplace_back(made, std::free);
        if (page > 64)
            madvise(made, whole, MADV_HUGEPAGE);
        std::memset(made, 0, whole);
        return made;
    }

    void share(std::vector<memory> *users)
    {
        size_t size = 0;
        void *buffer;

        for (const memory &m : *users)
            size = std::max(size, m.get_desc().get_size());
        buffer = new_buffer(size);
        for (memory &m : *users)
            m.set_data_handle(buffer);
    }

    dnnl::stream stream;
    std::vector<call> calls;
    std::vector<copy> copies;
    std::vector<memory> scratch, gradients[2];
    std::vector<std::unique_ptr<void, void (*)(void *)>> buffers;
    int turn;
};

/* ---- network ------------------------------------------------------------------------------ */

memory::desc any(const memory::dims &dims)
{
    return memory::desc(dims, memory::data_type::f32, memory::format_tag::any);
}

memory::desc plain(const memory::dims &dims)
{
    return memory::desc(dims, memory::data_type::f32, memory::format_tag::nchw);
}

struct convolution {
    dnnl::convolution_forward::primitive_desc desc;
    memory src, dst, weights, bias;
    memory::dims pad;
    bool relu;
};

struct pooling {
    pooling_forward::primitive_desc desc;
    algorithm kind;
    memory src, dst, workspace;
    memory::dims stride, kernel, near, far;
};

struct parameter {
    float *values, *gradient;
    std::vector<float> momentum;
};

class network
{
  public:
    network(const preset &net, int batch, bool training)
        : kind(training ? prop_kind::forward_training : prop_kind::forward_inference), count(batch)
    {
        const memory::dims shape = {batch, net.channels, net.size, net.size};
        const size_t pixels = (size_t)batch * (size_t)(net.channels * net.size * net.size);

        build_forward(net, ops.constant(fill(pixels, 893, 1.0), shape, memory::format_tag::nchw,
                                        plain(shape)));
        forward_end = ops.length();
        if (training)
            build_backward();
        ops.finish();
    }

    void forward()
    {
        ops.run(0, forward_end);
    }

    void step(float rate, float momentum)
    {
        forward();
        compute_loss();
        ops.run(forward_end, ops.length());
        for (parameter &p : parameters)
            update(&p, rate, momentum);
    }

    double last_loss() const
    {
        return loss;
    }

    int reorders() const
    {
        return ops.reorders;
    }

    /* Of conv1's weights, in the last step. */
    double gradient_norm() const
    {
        const parameter &p = parameters[parameters.size() - 2];
        double sum = 0.0;

        for (size_t i = 0; i < p.momentum.size(); i++)
            sum += (double)p.gradient[i] * (double)p.gradient[i];
        return std::sqrt(sum);
    }

  private:
    void build_forward(const preset &net, memory x)
    {
        for (int l = 0; l < LAYERS; l++) {
            x = add_convolution(x, l, net.widths[l], l % 3 == 0 ? net.kernels[l / 3] : 1,
                                l < LAYERS - 1 || net.relu_at_last);
            if (l == 2 || l == 5) {
                const int near = net.pool_pad;

                x = add_pooling(x, algorithm::pooling_max, 3, 2, near, 1 - near);
            }
        }
        x = add_pooling(x, algorithm::pooling_avg_exclude_padding, (int)dims_of(x)[2], 1, 0, 0);
        scores = ops.as(x, plain({count, CLASSES, 1, 1}));
    }

    memory add_convolution(const memory &x, int layer, int filters, int kernel, bool relu)
    {
        const memory::dims in = dims_of(x), shape = {filters, in[1], kernel, kernel};
        const memory::dims out = {in[0], filters, in[2], in[3]}, stride = {1, 1};
        const double bound = std::sqrt(6.0 / (double)(in[1] * kernel * kernel));
        dnnl::primitive_attr attr = program::attributes();
        dnnl::post_ops fused;
        convolution c;

        if (relu) {
            append_relu(&fused);
            attr.set_post_ops(fused);
        }
        /* Formats that all convolutions choose are the best for training; for inference it is
         * better that one takes what the one before it has written. */
        const memory::desc from =
            kind == prop_kind::forward_training || layer == 0 ? any(in) : x.get_desc();
        c.relu = relu;
        c.pad = {kernel / 2, kernel / 2};
        c.desc = describe<dnnl::convolution_forward>(
            ops.engine, attr, kind, algorithm::convolution_direct, from, any(shape), any({filters}),
            any(out), stride, c.pad, c.pad);
        c.src = ops.as(x, c.desc.src_desc());
        c.dst = ops.allocate(c.desc.dst_desc());
        c.weights = ops.constant(
            fill((size_t)(filters * in[1] * kernel * kernel), 2 * (unsigned)layer, bound), shape,
            memory::format_tag::oihw, c.desc.weights_desc());
        c.bias = ops.constant(fill((size_t)filters, 2 * (unsigned)layer + 1, 0.1), {filters},
                              memory::format_tag::x, c.desc.bias_desc());
        ops.add<dnnl::convolution_forward>(c.desc, {{DNNL_ARG_SRC, c.src},
                                                    {DNNL_ARG_WEIGHTS, c.weights},
                                                    {DNNL_ARG_BIAS, c.bias},
                                                    {DNNL_ARG_DST, c.dst}});
        convolutions.push_back(c);
        return c.dst;
    }

    memory add_pooling(const memory &x, algorithm how, int kernel, int stride, int near, int far)
    {
        const memory::dims in = dims_of(x), dilation = {0, 0};
        const memory::dim size = (in[2] + near + far - kernel) / stride + 1;
        pooling p;

        p.kind = how;
        p.src = x;
        p.stride = {stride, stride};
        p.kernel = {kernel, kernel};
        p.near = {near, near};
        p.far = {far, far};
        p.desc = describe<pooling_forward>(ops.engine, program::attributes(), kind, how,
                                           x.get_desc(), any({in[0], in[1], size, size}), p.stride,
                                           p.kernel, dilation, p.near, p.far);
        p.dst = ops.allocate(p.desc.dst_desc());
        program::arguments args = {{DNNL_ARG_SRC, x}, {DNNL_ARG_DST, p.dst}};
        if (how == algorithm::pooling_max && kind == prop_kind::forward_training) {
            p.workspace = ops.allocate(p.desc.workspace_desc());
            args.push_back({DNNL_ARG_WORKSPACE, p.workspace});
        }
        ops.add<pooling_forward>(p.desc, args);
        poolings.push_back(p);
        return p.dst;
    }

    void build_backward()
    {
        memory d;

        dscores = ops.allocate(scores.get_desc());
        d = add_pooling_backward(poolings[2], dscores);
        for (int l = LAYERS - 1; l >= 0; l--) {
            if (l == 2 || l == 5)
                d = add_pooling_backward(poolings[(size_t)l / 3], d);
            d = add_convolution_backward(convolutions[(size_t)l], d, l > 0);
        }
    }

    memory add_pooling_backward(const pooling &p, const memory &from)
    {
        const memory::dims dilation = {0, 0};
        const memory d = ops.as(from, p.dst.get_desc());
        const memory dx = ops.allocate_gradient(p.src.get_desc());
        program::arguments args = {{DNNL_ARG_DIFF_DST, d}, {DNNL_ARG_DIFF_SRC, dx}};

        if (p.workspace)
            args.push_back({DNNL_ARG_WORKSPACE, p.workspace});
        ops.add<pooling_backward>(
            describe_backward<pooling_backward>(ops.engine, program::attributes(), p.desc, p.kind,
                                                dx.get_desc(), d.get_desc(), p.stride, p.kernel,
                                                dilation, p.near, p.far),
            args);
        return dx;
    }

    memory add_convolution_backward(const convolution &c, memory d, bool wants_dx)
    {
        if (c.relu)
            d = add_relu_backward(c.dst, d);
        add_weights_backward(c, d);
        return wants_dx ? add_data_backward(c, d) : memory();
    }

    /* In place, from the output. */
    memory add_relu_backward(const memory &dst, const memory &from)
    {
        const algorithm relu = algorithm::eltwise_relu_use_dst_for_bwd;
        const memory::desc format = dst.get_desc();
        const memory d = ops.as(from, format);
#if DNNL_VERSION_MAJOR >= 3
        const auto hint = describe<dnnl::eltwise_forward>(ops.engine, program::attributes(), kind,
                                                          relu, format, format, 0.0f);
        const auto desc = describe_backward<dnnl::eltwise_backward>(
            ops.engine, program::attributes(), hint, relu, format, format, format, 0.0f);
#else
        const auto hint = describe<dnnl::eltwise_forward>(ops.engine, program::attributes(), kind,
                                                          relu, format, 0.0f);
        const auto desc = describe_backward<dnnl::eltwise_backward>(
            ops.engine, program::attributes(), hint, relu, format, format, 0.0f);
#endif
        ops.add<dnnl::eltwise_backward>(
            desc, {{DNNL_ARG_DST, dst}, {DNNL_ARG_DIFF_DST, d}, {DNNL_ARG_DIFF_SRC, d}});
        return d;
    }

    void add_weights_backward(const convolution &c, const memory &d)
    {
        const memory::dims stride = {1, 1};
        const auto desc = describe_backward<dnnl::convolution_backward_weights>(
            ops.engine, program::attributes(), c.desc, algorithm::convolution_direct,
            any(dims_of(c.src)), any(dims_of(c.weights)), any(dims_of(c.bias)), any(dims_of(c.dst)),
            stride, c.pad, c.pad);
        const memory dw = ops.allocate(desc.diff_weights_desc());
        const memory db = ops.allocate(desc.diff_bias_desc());

        ops.add<dnnl::convolution_backward_weights>(
            desc, {{DNNL_ARG_SRC, ops.as(c.src, desc.src_desc())},
                   {DNNL_ARG_DIFF_DST, ops.as(d, desc.diff_dst_desc())},
                   {DNNL_ARG_DIFF_WEIGHTS, dw},
                   {DNNL_ARG_DIFF_BIAS, db}});
        add_parameter(c.weights, ops.as(dw, c.weights.get_desc()));
        add_parameter(c.bias, ops.as(db, c.bias.get_desc()));
    }

    memory add_data_backward(const convolution &c, const memory &d)
    {
        const memory::dims stride = {1, 1};
        const auto desc = describe_backward<dnnl::convolution_backward_data>(
            ops.engine, program::attributes(), c.desc, algorithm::convolution_direct,
            any(dims_of(c.src)), any(dims_of(c.weights)), any(dims_of(c.dst)), stride, c.pad,
            c.pad);
        const memory from = ops.as(d, desc.diff_dst_desc());
        const memory weights = ops.as(c.weights, desc.weights_desc());
        const memory dx = ops.allocate_gradient(desc.diff_src_desc());

        ops.add<dnnl::convolution_backward_data>(
            desc,
            {{DNNL_ARG_DIFF_DST, from}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DIFF_SRC, dx}});
        return dx;
    }

    /* Of one format with its gradient; what a format pads with is zero in both and stays it. */
    void add_parameter(const memory &values, const memory &gradient)
    {
        const size_t size = values.get_desc().get_size() / sizeof(float);

        parameters.push_back(parameter{(float *)values.get_data_handle(),
                                       (float *)gradient.get_data_handle(),
                                       std::vector<float>(size)});
    }

    /* Image i has label i mod 10. */
    void compute_loss()
    {
        const float *row = (const float *)scores.get_data_handle();
        float *drow = (float *)dscores.get_data_handle();

        loss = 0.0;
        for (int i = 0; i < count; i++, row += CLASSES, drow += CLASSES) {
            const float largest = *std::max_element(row, row + CLASSES);
            float sum = 0.0f;

            for (int k = 0; k < CLASSES; k++)
                sum += drow[k] = std::exp(row[k] - largest);
            for (int k = 0; k < CLASSES; k++)
                drow[k] = (drow[k] / sum - (float)(k == i % CLASSES)) / (float)count;
            loss += (double)(std::log(sum) + largest - row[i % CLASSES]) / count;
        }
    }

    static void update(parameter *p, float rate, float momentum)
    {
        float *values = p->values, *past = p->momentum.data();
        const float *gradient = p->gradient;
        const size_t size = p->momentum.size();

#pragma omp parallel for simd schedule(static) if (size > 10000)
        for (size_t i = 0; i < size; i++) {
            past[i] = momentum * past[i] + gradient[i];
            values[i] -= rate * past[i];
        }
    }

    program ops;
    prop_kind kind;
    int count;
    size_t forward_end;
    std::vector<convolution> convolutions;
    std::vector<pooling> poolings;
    std::vector<parameter> parameters;
    memory scores, dscores;
    double loss = 0.0;
};

/* ---- measuring ---------------------------------------------------------------------------- */

struct options {
    const preset *net;
    int batch, threads, steps;
};

double now_ms()
{
    return std::chrono::duration<double, std::milli>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

template <class Function> double median_ms(int warm_up, int repetitions, Function function)
{
    std::vector<double> times;

    for (int i = -warm_up; i < repetitions; i++) {
        const double start = now_ms();

        function();
        if (i >= 0)
            times.push_back(now_ms() - start);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

double infer_ms(const options &o, int batch, int repetitions)
{
    network net(*o.net, batch, false);

    return median_ms(3, repetitions, [&] { net.forward(); });
}

void measure(const options &o)
{
    const dnnl_version_t *version = dnnl_version();
    network net(*o.net, o.batch, true);

    net.step(1e-3f, 0.9f);
    printf("{\"peer\": \"onednn\", \"version\": \"%d.%d.%d\", \"preset\": \"%s\", \"batch\": %d, "
           "\"threads\": %d, \"precision\": \"fp32\", \"loss\": %.7f, \"gradient_norm\": %.7f",
           version->major, version->minor, version->patch, o.net->name, o.batch,
           omp_get_max_threads(), net.last_loss(), net.gradient_norm());
    printf(", \"reorders\": %d, \"step_ms\": %.2f", net.reorders(),
           median_ms(2, o.steps, [&] { net.step(1e-3f, 0.9f); }));
    printf(", \"infer_ms\": %.2f, \"batch1_ms\": %.3f, \"batch8_ms\": %.3f}\n",
           infer_ms(o, o.batch, o.steps), infer_ms(o, 1, 400), infer_ms(o, 8, 100));
}

const preset *find_preset(const char *name)
{
    for (const preset &p : presets)
        if (std::strcmp(p.name, name) == 0)
            return &p;
    return nullptr;
}

bool parse(options *o, int argc, char **argv)
{
    static const struct option table[] = {{"preset", required_argument, nullptr, 'p'},
                                          {"batch", required_argument, nullptr, 'b'},
                                          {"threads", required_argument, nullptr, 't'},
                                          {"steps", required_argument, nullptr, 's'},
                                          {nullptr, 0, nullptr, 0}};
    int found;

    while ((found = getopt_long(argc, argv, "", table, nullptr)) != -1) {
        if (found == 'p')
            o->net = find_preset(optarg);
        else if (found == 'b')
            o->batch = std::atoi(optarg);
        else if (found == 't')
            o->threads = std::atoi(optarg);
        else if (found == 's')
            o->steps = std::atoi(optarg);
        else
            return false;
    }
    return o->net != nullptr && o->batch > 0 && o->steps > 0 && optind == argc;
}

} // namespace

int main(int argc, char **argv)
{
    options o = {&presets[0], 128, 0, 20};

    if (!parse(&o, argc, argv)) {
        fprintf(stderr,
                "usage: %s [--preset mnist|cifar10] [--batch N] [--threads N] [--steps N]\n",
                argv[0]);
        return 2;
    }
    if (o.threads > 0)
        omp_set_num_threads(o.threads);
    try {
        measure(o);
    } catch (const std::exception &e) {
        fprintf(stderr, "onednn: %s\n", e.what());
        return 1;
    }
    return 0;
}
