/* SPDX-License-Identifier: MIT */

#include "options.h"
#include "output.h"

#include <argp.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum key {
    KEY_DATA = 256, /* above every character: no option has a short form but -q */
    KEY_RECIPE,
    KEY_EPOCHS,
    KEY_BATCH,
    KEY_THREADS,
    KEY_SEED,
    KEY_DEVICE,
    KEY_PRECISION,
    KEY_SAVE,
    KEY_CHECKPOINT,
    KEY_RESUME,
    KEY_CURVE,
    KEY_PLOT,
    KEY_QUIET = 'q',
};

enum {
    MAX_THREADS = 128, /* of a context */
};

static const struct argp_option known[] = {
    {NULL, 0, NULL, 0, "What is trained:", 1},
    {"data", KEY_DATA, "DIR", 0,
     "Folder with the four files of MNIST, or of a set in the same format, plain or .gz (default: "
     "the environment's NIN_DATA_DIR, else examples/data/mnist here or beside the program)",
     0},
    {"recipe", KEY_RECIPE, "quick|reference", 0,
     "quick is done in minutes; reference repeats the experiment of the paper and takes hours "
     "(default: quick)",
     0},
    {"epochs", KEY_EPOCHS, "N", 0,
     "quick: the schedule spans N epochs (default: 13). reference: stop after epoch N at the latest "
     "(default: when the rate has been reduced twice)",
     0},
    {"batch", KEY_BATCH, "N", 0, "Images in a batch (default: 64; reference: 128)", 0},
    {"seed", KEY_SEED, "N", 0,
     "Of initial weights, order of the images and dropout (default: 1). The same seed gives the "
     "same run",
     0},
    {NULL, 0, NULL, 0, "Where it runs:", 2},
    {"device", KEY_DEVICE, "auto|cpu|cuda", 0, "auto takes a GPU if one can be used (default)", 0},
    {"threads", KEY_THREADS, "N", 0, "Threads of the CPU (default: 0, all that there are)", 0},
    {"precision", KEY_PRECISION, "fp32|bf16|bf16x3|tf32", 0,
     "Of the operands of products (default: fp32): bf16 and bf16x3 on a CPU, in 1x1 convolutions; "
     "tf32 and bf16 on a GPU, in all",
     0},
    {NULL, 0, NULL, 0, "Files:", 3},
    {"save", KEY_SAVE, "FILE", 0,
     "Write the trained network, in the safetensors format (default: not written)", 0},
    {"checkpoint", KEY_CHECKPOINT, "FILE", 0,
     "Write the state of the run after each epoch and at Ctrl-C (default: the file of --resume, "
     "else not written)",
     0},
    {"resume", KEY_RESUME, "FILE", 0,
     "Go on from this checkpoint, with the same recipe (default: start anew)", 0},
    {"curve", KEY_CURVE, "FILE.csv", 0, "Write one line for each epoch (default: not written)", 0},
    {"plot", KEY_PLOT, "FILE.png", 0,
     "Draw the test error with gnuplot, after each epoch (default: not drawn)", 0},
    {NULL, 0, NULL, 0, "Others:", 4},
    {"quiet", KEY_QUIET, NULL, 0, "Print only the summary and errors (default: progress too)", 0},
    {0},
};

static const char about[] =
    "Trains a Network In Network (Lin, Chen, Yan 2013) on MNIST and tests it after each epoch."
    "\v"
    "Ctrl-C ends a run in good order: the batch is finished (on a GPU some batches more), the "
    "checkpoint is written, and the command that goes on is printed; while only the last test is "
    "left, it changes nothing. A second Ctrl-C ends it at once. Exit status: 0 success, 1 failure, "
    "2 wrong usage, 130 after Ctrl-C.";

/* By nin_precision. */
static const char *const precisions[] = {"fp32", "bf16", "bf16x3", "tf32", NULL};

/* ---- values -------------------------------------------------------------------------------- */

static int64_t number(struct argp_state *state, const char *name, const char *text, int64_t least,
                      int64_t most)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);

    if (end == text || *end != '\0' || errno != 0 || value < least || value > most)
        argp_error(state, "--%s takes a whole number from %lld to %lld, not '%s'", name,
                   (long long)least, (long long)most, text);
    return value;
}

/* The position of text in a list that ends with NULL. */
static int choice(struct argp_state *state, const char *name, const char *text,
                  const char *const *list)
{
    int i = 0;

    while (list[i] != NULL && strcmp(list[i], text) != 0)
        i++;
    if (list[i] == NULL)
        argp_error(state, "--%s does not know '%s'; see --help", name, text);
    return i;
}

static const char *file_name(struct argp_state *state, const char *name, const char *text)
{
    if (*text == '\0')
        argp_error(state, "--%s has an empty name", name);
    return text;
}

/* ---- the command line ---------------------------------------------------------------------- */

static error_t parse_file(int key, char *arg, struct argp_state *state)
{
    struct options *o = state->input;

    switch (key) {
    case KEY_DATA:
        o->data = file_name(state, "data", arg);
        return 0;
    case KEY_SAVE:
        o->save = file_name(state, "save", arg);
        return 0;
    case KEY_CHECKPOINT:
        o->checkpoint = file_name(state, "checkpoint", arg);
        return 0;
    case KEY_RESUME:
        o->resume = file_name(state, "resume", arg);
        return 0;
    case KEY_CURVE:
        o->curve = file_name(state, "curve", arg);
        return 0;
    case KEY_PLOT:
        o->plot = file_name(state, "plot", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    /* in the order of their numbers */
    static const char *const recipes[] = {"quick", "reference", NULL};
    static const char *const devices[] = {"auto", "cpu", "cuda", NULL};
    struct options *o = state->input;

    switch (key) {
    case KEY_RECIPE:
        o->recipe = (enum recipe)choice(state, "recipe", arg, recipes);
        return 0;
    case KEY_EPOCHS:
        o->epochs = (int32_t)number(state, "epochs", arg, 1, 1000000);
        return 0;
    case KEY_BATCH:
        o->batch = (int32_t)number(state, "batch", arg, 1, 65536);
        return 0;
    case KEY_THREADS:
        o->threads = (int32_t)number(state, "threads", arg, 0, MAX_THREADS);
        return 0;
    case KEY_SEED:
        o->seed = (uint32_t)number(state, "seed", arg, 0, UINT32_MAX);
        return 0;
    case KEY_DEVICE:
        o->device = (nin_device)choice(state, "device", arg, devices);
        return 0;
    case KEY_PRECISION:
        o->precision = (nin_precision)choice(state, "precision", arg, precisions);
        return 0;
    case KEY_QUIET:
        o->quiet = 1;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' belongs to no option", arg);
        return EINVAL;
    default:
        return parse_file(key, arg, state);
    }
}

/* MNIST's folder when the command line has none: where the source tree or a copy of it has it. */
static const char *default_folder(void)
{
    static const char *const beside[] = {"data/mnist", "../examples/data/mnist"};
    static char folder[PATH_MAX];
    char program[PATH_MAX];
    const char *set = getenv("NIN_DATA_DIR");
    const char *here = "examples/data/mnist";

    if (set != NULL && *set != '\0')
        return set;
    if (access(here, F_OK) == 0)
        return here;

    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(program, '/');
    for (size_t i = 0; slash != NULL && i < sizeof beside / sizeof beside[0]; i++) {
        slash[1] = '\0';
        int needed = snprintf(folder, sizeof folder, "%s%s", program, beside[i]);
        if (needed < (int)sizeof folder && access(folder, F_OK) == 0)
            return folder;
    }
    return here; /* the library will say that it is not there */
}

/* Two outputs in one file would leave one of them. */
static const char *named_twice(const struct options *options)
{
    const char *names[] = {options->save, options->checkpoint, options->curve, options->plot};
    size_t count = sizeof names / sizeof names[0];

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (names[i] != NULL && names[j] != NULL && strcmp(names[i], names[j]) == 0)
                return names[i];
        }
    }
    return NULL;
}

/* The checkpoint that a run goes on from may be written anew, but by nothing else. */
static int lost_checkpoint(const struct options *options)
{
    const char *names[] = {options->save, options->curve, options->plot};

    for (size_t i = 0; options->resume != NULL && i < sizeof names / sizeof names[0]; i++)
        if (names[i] != NULL && strcmp(names[i], options->resume) == 0)
            return 1;
    return 0;
}

static void print_version(FILE *file, struct argp_state *state)
{
    (void)state;
    fprintf(file, "mnist_nin, with libnin %s\n", nin_version_text());
}

void options_read(struct options *options, int argc, char **argv)
{
    const struct argp parser = {known, parse, NULL, about, NULL, NULL, NULL};

    *options = (struct options){.seed = 1, .argc = argc, .argv = argv};
    argp_err_exit_status = 2;
    argp_program_version_hook = print_version;
    argp_parse(&parser, argc, argv, 0, NULL, options);

    if (options->data == NULL)
        options->data = default_folder();
    if (options->recipe == RECIPE_QUICK && options->epochs == 0)
        options->epochs = 13;
    if (options->batch == 0)
        options->batch = options->recipe == RECIPE_QUICK ? 64 : 128;
    if (options->checkpoint == NULL)
        options->checkpoint = options->resume;

    if (lost_checkpoint(options)) {
        fprintf(stderr, "%s: '%s' is resumed, and named for another output\n", argv[0],
                options->resume);
        exit(2);
    }
    const char *twice = named_twice(options);
    if (twice != NULL) {
        fprintf(stderr, "%s: '%s' is named for two outputs\n", argv[0], twice);
        exit(2);
    }
}

const char *options_precision(const struct options *options)
{
    return precisions[options->precision];
}

/* ---- output files -------------------------------------------------------------------------- */

/* NULL is no file, which is fine. */
static int is_writable(const char *program, const char *path)
{
    const char *reason = path != NULL ? output_check(path) : NULL;

    if (reason != NULL)
        fprintf(stderr, "%s: '%s' cannot be written: %s\n", program, path, reason);
    return reason == NULL;
}

int options_check_files(const struct options *o)
{
    const char *program = o->argv[0];

    return is_writable(program, o->save) && is_writable(program, o->checkpoint) &&
           is_writable(program, o->curve) && is_writable(program, o->plot);
}

/* ---- the command to go on ------------------------------------------------------------------ */

static void print_word(FILE *file, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=+,./:@%";

    if (*word != '\0' && word[strspn(word, plain)] == '\0') {
        fputs(word, file);
        return;
    }
    fputc('\'', file);
    for (const char *c = word; *c != '\0'; c++) {
        if (*c == '\'')
            fputs("'\\''", file); /* ends the quotes, a quote by itself, begins them again */
        else
            fputc(*c, file);
    }
    fputc('\'', file);
}

void options_print_resume(const struct options *options, FILE *file)
{
    for (int i = 0; i < options->argc; i++) {
        fputs(i == 0 ? "" : " ", file);
        print_word(file, options->argv[i]);
    }
    /* of two --resume the last one counts, so that it can be added to any command */
    if (options->resume == NULL || strcmp(options->resume, options->checkpoint) != 0) {
        fputs(" --resume ", file);
        print_word(file, options->checkpoint);
    }
    fputc('\n', file);
}
