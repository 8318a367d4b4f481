/* SPDX-License-Identifier: MIT */

/* The MNIST experiment of Network In Network (Lin, Chen, Yan 2013), by libnin's public interface.
 *
 * The parts: options.c reads the command line, progress.c shows how training goes, plot.c draws the
 * curve, output.c puts files in their places. This file is the experiment: what is made, how it is
 * trained, what is written when. Read it from `main` upwards; 01_first_network.c and its neighbours
 * are shorter first programs. */

#include "options.h"
#include "plot.h"
#include "progress.h"

#include <nin/nin.h>

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Leaves a function with the first status that is not NIN_OK: nin_last_error has the sentence. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        nin_status status_ = (call);                                                               \
        if (status_ != NIN_OK)                                                                     \
            return status_;                                                                        \
    } while (0)

enum {
    TEST_BATCH = 250,       /* images that are tested at once */
    PUBLISHED_EPOCHS = 194, /* of the reference program's published run */
};
static const double quick_rate = 0.1; /* at its peak; found with bench/recipe, as is the decay */
static const double quick_decay = 1e-4;
static const double reference_rate = 0.01; /* at the start */

struct run {
    struct options options;
    struct progress progress;
    double started;
    int estimated; /* the user has been told how long it will take */
    int failed;    /* a file could not be written */
    int shown;     /* epochs that this process has finished */
    struct {
        int network, checkpoint, curve, plot; /* the file is as the run left off */
    } written;
    nin_health health;

    nin_context *context;
    nin_dataset *train_set;
    nin_dataset *test_set;
    nin_network *network;
    nin_plan *train_plan;
    nin_plan *test_plan;
    nin_optimizer *optimizer;
    nin_scheduler *scheduler;
    nin_trainer *trainer;
};

/* ---- Ctrl-C -------------------------------------------------------------------------------- */

/* A handler may do no more than this; the callbacks below look at it. */
static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
}

static void catch_signals(void)
{
    /* a second Ctrl-C ends the program at once: the handler serves one time */
    struct sigaction action = {.sa_flags = (int)SA_RESETHAND | SA_RESTART};

    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

/* ---- messages ------------------------------------------------------------------------------ */

static int is_reference(const struct run *run)
{
    return run->options.recipe == RECIPE_REFERENCE;
}

static void complain(const struct run *run, const char *format, ...)
{
    va_list values;

    progress_clear(&run->progress);
    fflush(stdout);
    va_start(values, format);
    fputs("mnist_nin: ", stderr);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
}

static void tell_device(const struct run *run)
{
    nin_device device = nin_context_device(run->context);
    nin_device_info info = {.struct_size = sizeof info};

    printf("libnin     %s, ", nin_version_text());
    if (device == NIN_DEVICE_CPU) {
        printf("CPU with %d threads\n", nin_context_threads(run->context));
        return;
    }
    for (size_t i = 0; i < nin_device_count(); i++) {
        if (nin_device_describe(&info, i) == NIN_OK && info.device == device)
            break; /* the first of its kind is the one that a context takes */
    }
    printf("%s\n", info.name);
}

/* A short run climbs less high, and not as steeply: else the network may die before it has learnt
 * anything. */
static double rate_of(int32_t epochs)
{
    return epochs < 4 ? quick_rate * epochs / 4.0 : quick_rate;
}

static void tell_recipe(const struct run *run)
{
    const struct options *o = &run->options;
    const uint32_t seed = nin_trainer_seed(run->trainer); /* of a resumed run the checkpoint's */

    if (!is_reference(run)) {
        printf(
            "recipe     quick: %d epoch%s, batches of %d, Nesterov momentum 0.9, rate up to %g,\n"
            "           then down to 0 along a cosine; seed %u\n",
            o->epochs, o->epochs == 1 ? "" : "s", o->batch, rate_of(o->epochs), seed);
        return;
    }
    printf("recipe     reference: batches of %d, momentum 0.9, rate %g, cut to a tenth when the\n"
           "           training accuracy stalls, the end at the second cut; seed %u\n"
           "\n"
           "It starts slowly, and that is normal: for the first 4 to 9 epochs the loss stays at\n"
           "2.301 and the test error at 88.65 %%. The published curve is under 1 %% from epoch 35\n"
           "and ends after epoch %d.\n",
           o->batch, reference_rate, seed, PUBLISHED_EPOCHS);
    if (o->checkpoint == NULL)
        printf("Without --checkpoint an interrupted run cannot go on where it was.\n");
}

static void tell_start(const struct run *run)
{
    nin_dataset_info train = {.struct_size = sizeof train}, test = {.struct_size = sizeof test};

    if (run->options.quiet || nin_dataset_describe(&train, run->train_set) != NIN_OK ||
        nin_dataset_describe(&test, run->test_set) != NIN_OK)
        return;
    tell_device(run);
    printf("data       %s: %lld images to train with, %lld to test with\n", run->options.data,
           (long long)train.count, (long long)test.count);
    printf("network    mnist, %zu parameters, precision %s\n",
           nin_network_parameter_count(run->network), options_precision(&run->options));
    tell_recipe(run);
    if (run->options.resume != NULL)
        printf("resumed    %s: epoch %lld is over, and %lld batches of the next one\n",
               run->options.resume, (long long)nin_trainer_epochs(run->trainer),
               (long long)nin_trainer_batch(run->trainer));
}

/* How long it will take, once the first epoch has shown how fast this machine is. */
static void tell_estimate(struct run *run, const nin_epoch_info *epoch)
{
    int limited = run->options.epochs > 0;
    int32_t end = limited ? run->options.epochs : PUBLISHED_EPOCHS;
    struct duration all = duration_text(epoch->seconds * (double)end);
    struct duration left = duration_text(epoch->seconds * (double)(end - epoch->epoch));

    if (run->estimated || run->options.quiet || epoch->epoch >= end)
        return;
    run->estimated = 1;
    printf("%9s %s%d epochs take about %s; about %s left\n", "",
           limited ? "" : "if it ends like the published run: ", end, all.text, left.text);
}

static const char *advice(const struct run *run)
{
    switch (run->health) {
    case NIN_STALLED:
        return is_reference(run)
                   ? "The loss has stayed near that of guessing for 10 epochs, longer than this "
                     "recipe's slow start should take: try another --seed, or --recipe quick."
                   : "The loss has stayed near that of guessing: try another --seed.";
    case NIN_DEAD_MAPS:
        return "All class scores are equal, so that nothing can be learnt any more: start again "
               "with another --seed.";
    default:
        return NULL;
    }
}

static void tell_health(struct run *run, nin_health health)
{
    if (health == run->health)
        return; /* said once, not after each epoch */
    run->health = health;
    if (advice(run) != NULL && !run->options.quiet)
        printf("%9s %s\n", "", advice(run));
}

/* ---- files --------------------------------------------------------------------------------- */

/* Training goes on when a file cannot be written; the exit status will tell. */
static int is_saved(struct run *run, nin_status status)
{
    if (status == NIN_OK)
        return 1;
    complain(run, "%s", nin_last_error());
    run->failed = 1;
    return 0;
}

static void save_network(struct run *run)
{
    const char *path = run->options.save;

    if (path != NULL)
        run->written.network = is_saved(run, nin_network_save(run->network, path));
}

static void save_checkpoint(struct run *run)
{
    const char *path = run->options.checkpoint;

    if (path != NULL)
        run->written.checkpoint = is_saved(run, nin_trainer_save(run->trainer, path));
}

static void save_curve(struct run *run)
{
    const char *path = run->options.curve;

    if (path == NULL)
        return;
    int error = plot_write_csv(run->trainer, path);
    run->written.curve = error == 0;
    if (error != 0) {
        complain(run, "the curve cannot be written to '%s': %s", path, strerror(error));
        run->failed = 1;
    }
}

static void save_plot(struct run *run)
{
    const char *path = run->options.plot;

    if (path == NULL)
        return;
    run->written.plot = 0;
    switch (plot_draw(run->trainer, path, is_reference(run))) {
    case PLOT_DONE:
        run->written.plot = 1;
        return;
    case PLOT_NO_GNUPLOT:
        complain(run, "there is no gnuplot to draw '%s' with%s", path,
                 run->options.curve != NULL ? "; the CSV file has the curve" : "");
        break;
    case PLOT_FAILED:
        complain(run, "the curve cannot be drawn to '%s': %s", path, strerror(errno));
        run->failed = 1;
        break;
    }
    run->options.plot = NULL; /* said once, not after each epoch */
}

static void save_state(struct run *run)
{
    save_checkpoint(run);
    save_curve(run);
    save_plot(run);
}

/* ---- what is made -------------------------------------------------------------------------- */

static nin_status make_inputs(struct run *run)
{
    const struct options *o = &run->options;

    TRY(nin_context_create(&run->context, NIN_DESC(nin_context_desc, .device = o->device,
                                                   .threads = o->threads, .seed = o->seed)));
    TRY(nin_dataset_create_mnist(&run->train_set, o->data, "train"));
    return nin_dataset_create_mnist(&run->test_set, o->data, "t10k");
}

static nin_status make_network(struct run *run)
{
    const struct options *o = &run->options;

    /* the preset's initial weights are those of the reference program */
    TRY(nin_network_create_preset(&run->network, run->context, "mnist"));
    if (!is_reference(run))
        TRY(nin_network_initialise(
            run->network, NIN_DESC(nin_init_desc, .weights = NIN_INIT_HE, .biases = NIN_INIT_ZERO),
            o->seed));

    TRY(nin_plan_create(&run->train_plan, run->network,
                        NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN, .max_batch = o->batch,
                                 .precision = o->precision)));
    return nin_plan_create(&run->test_plan, run->network,
                           NIN_DESC(nin_plan_desc, .mode = NIN_INFER, .max_batch = TEST_BATCH,
                                    .precision = o->precision));
}

/* The reference program: torch.optim.SGD and ReduceLROnPlateau with its defaults, which the trainer
 * feeds with the training accuracy of each epoch. */
static nin_status make_reference(struct run *run)
{
    TRY(nin_optimizer_create_sgd(
        &run->optimizer, run->network,
        NIN_DESC(nin_sgd_desc, .rate = reference_rate, .momentum = 0.9, .weight_decay = 1e-5)));
    return nin_scheduler_create_plateau(&run->scheduler, run->optimizer, NULL);
}

/* 15 % of the steps, but no less than an epoch, or half of it all. */
static int64_t warm_up_of(int64_t steps, int32_t epochs)
{
    int64_t share = llround(0.15 * (double)steps), epoch = steps / epochs;
    int64_t least = epoch < steps / 2 ? epoch : steps / 2;

    return share > least ? share : least;
}

/* A large rate that is warmed up first and then falls to zero: good results in few epochs. */
static nin_status make_quick(struct run *run)
{
    const struct options *o = &run->options;
    nin_dataset_info train = {.struct_size = sizeof train};

    TRY(nin_dataset_describe(&train, run->train_set));
    int64_t steps = o->epochs * ((train.count + o->batch - 1) / o->batch);
    TRY(nin_optimizer_create_sgd(&run->optimizer, run->network,
                                 NIN_DESC(nin_sgd_desc, .rate = rate_of(o->epochs), .momentum = 0.9,
                                          .nesterov = 1, .weight_decay = quick_decay)));
    return nin_scheduler_create_cosine(&run->scheduler, run->optimizer,
                                       NIN_DESC(nin_cosine_desc, .unit = NIN_PER_STEP,
                                                .total = steps,
                                                .warm_up = warm_up_of(steps, o->epochs)));
}

static nin_status make_all(struct run *run)
{
    TRY(make_inputs(run));
    TRY(make_network(run));
    TRY(is_reference(run) ? make_reference(run) : make_quick(run));
    TRY(nin_trainer_create(&run->trainer, run->train_plan, run->optimizer, run->scheduler,
                           run->train_set, NULL));
    if (run->options.resume != NULL)
        TRY(nin_trainer_restore(run->trainer, run->options.resume, NULL));
    return NIN_OK;
}

static void destroy_all(struct run *run)
{
    nin_trainer_destroy(run->trainer);
    nin_scheduler_destroy(run->scheduler);
    nin_optimizer_destroy(run->optimizer);
    nin_plan_destroy(run->test_plan);
    nin_plan_destroy(run->train_plan);
    nin_network_destroy(run->network);
    nin_dataset_destroy(run->test_set);
    nin_dataset_destroy(run->train_set);
    nin_context_destroy(run->context);
}

/* ---- how it is trained --------------------------------------------------------------------- */

static nin_status on_step(const nin_step_info *step, void *user)
{
    struct run *run = user;

    progress_step(&run->progress, step);
    return caught ? NIN_STOP : NIN_OK;
}

static nin_status on_epoch(const nin_epoch_info *epoch, void *user)
{
    struct run *run = user;

    run->shown++;
    progress_epoch(&run->progress, epoch);
    tell_health(run, epoch->health);
    tell_estimate(run, epoch);
    save_state(run);
    return caught ? NIN_STOP : NIN_OK;
}

/* A GPU takes steps faster than anybody looks at them. */
static int64_t step_interval(const struct run *run)
{
    return nin_context_device(run->context) == NIN_DEVICE_CUDA ? 32 : 1;
}

/* The reference program goes on while rate > 0.01 * first rate + 1e-15. */
static double stop_rate(const struct run *run)
{
    return is_reference(run) ? 0.01 * reference_rate + 1e-15 : 0;
}

static nin_status train(nin_fit_end *end, struct run *run)
{
    progress_begin(&run->progress, run->options.quiet, run->options.epochs);
    return nin_trainer_fit(
        end, run->trainer,
        NIN_DESC(nin_fit_desc, .epochs = run->options.epochs, .stop_rate = stop_rate(run),
                 .test_plan = run->test_plan, .test_set = run->test_set,
                 .stall_epochs = is_reference(run) ? 10 : 2, .on_step = on_step,
                 .on_epoch = on_epoch, .user = run, .step_interval = step_interval(run)));
}

/* ---- what came of it ----------------------------------------------------------------------- */

static void print_file(const char *what, const char *path, int written)
{
    if (written)
        printf("%-17s %s\n", what, path);
}

static void print_summary(const struct run *run)
{
    const struct options *o = &run->options;
    nin_epoch_info last, best;
    double seconds = plot_read(&last, &best, run->trainer);

    if (!o->quiet)
        printf("\n");
    if (last.test_count > 0) {
        printf("last test error   %5.2f %% (epoch %lld)\n", plot_test_error(&last),
               (long long)last.epoch);
        printf("best test error   %5.2f %% (epoch %lld)\n", plot_test_error(&best),
               (long long)best.epoch);
    }
    printf("time              %s", duration_text(seconds_now() - run->started).text);
    if (o->resume != NULL)
        printf(", all epochs together %s", duration_text(seconds).text);
    printf("\n");
    print_file("network", o->save, run->written.network);
    print_file("checkpoint", o->checkpoint, run->written.checkpoint);
    print_file("curve", o->curve, run->written.curve);
    print_file("plot", o->plot, run->written.plot);
    if (advice(run) != NULL && o->quiet)
        printf("%s\n", advice(run));
}

/* After Ctrl-C: the state is kept, the network is not finished. */
static int end_interrupted(struct run *run)
{
    progress_clear(&run->progress);
    save_checkpoint(run);
    print_summary(run);
    if (run->options.checkpoint == NULL) {
        printf("\nStopped. There was no --checkpoint, so that the run cannot go on.\n");
    } else if (run->written.checkpoint) {
        printf("\nStopped in epoch %lld. To go on:\n  ",
               (long long)nin_trainer_epochs(run->trainer) + 1);
        options_print_resume(&run->options, stdout);
    }
    return 128 + caught;
}

static int end_trained(struct run *run, nin_fit_end end)
{
    progress_clear(&run->progress);
    save_network(run);
    if (run->shown == 0) /* a run that was over when it was resumed */
        save_state(run);
    if (end == NIN_FIT_RATE && !run->options.quiet)
        printf("\nThe rate has been cut twice: the recipe ends here.\n");
    print_summary(run);
    return run->failed;
}

/* A Ctrl-C that comes when nothing is left to train, but to test, interrupts nothing. */
static nin_fit_end true_end(const struct run *run, nin_fit_end end)
{
    int32_t epochs = run->options.epochs;

    if (end != NIN_FIT_STOPPED || nin_trainer_batch(run->trainer) != 0)
        return end;
    if (epochs > 0 && nin_trainer_epochs(run->trainer) >= epochs)
        return NIN_FIT_EPOCHS;
    return nin_optimizer_rate(run->optimizer) <= stop_rate(run) ? NIN_FIT_RATE : end;
}

static int experiment(struct run *run)
{
    nin_fit_end end = NIN_FIT_EPOCHS;

    if (!options_check_files(&run->options))
        return 1;
    catch_signals();
    nin_status status = make_all(run);
    if (status != NIN_OK) {
        complain(run, "%s", nin_last_error());
        if (status == NIN_MISMATCH)
            complain(run, "a run goes on with the --recipe, --epochs, --batch, --precision and "
                          "--data that it was begun with");
        return 1;
    }
    tell_start(run);
    if (train(&end, run) != NIN_OK) {
        complain(run, "%s", nin_last_error());
        return 1;
    }
    end = true_end(run, end);
    return end == NIN_FIT_STOPPED ? end_interrupted(run) : end_trained(run, end);
}

int main(int argc, char **argv)
{
    struct run run = {.started = seconds_now()};

    options_read(&run.options, argc, argv);
    int status = experiment(&run);
    destroy_all(&run);
    return status;
}
