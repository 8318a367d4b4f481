/* SPDX-License-Identifier: MIT */

#include "plot.h"
#include "output.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static const double paper_error = 0.47;   /* %, of MNIST in the paper */
static const double reference_top = 0.92; /* %, of the axis for the reference experiment */

double plot_test_error(const nin_epoch_info *e)
{
    return 100 * (double)(e->test_count - e->test_correct) / (double)e->test_count;
}

/* ---- as numbers ---------------------------------------------------------------------------- */

static void write_row(FILE *file, const nin_epoch_info *e)
{
    fprintf(file, "%lld,%lld,%.9g,%.9g,%.9g,%.9g,", (long long)e->epoch, (long long)e->steps,
            e->rate, e->loss, (double)e->correct / (double)e->count, e->metric);
    if (e->test_count > 0)
        fprintf(file, "%.9g,%.9g", e->test_loss, plot_test_error(e));
    else
        fputs(",", file); /* no test: two empty fields */
    fprintf(file, ",%.3f\n", e->seconds);
}

int plot_write_csv(const nin_trainer *trainer, const char *path)
{
    struct output output;
    int failed = output_open(&output, path);

    if (failed != 0)
        return failed;
    fputs("epoch,steps,rate,train_loss,train_accuracy,metric,test_loss,test_error_percent,"
          "seconds\n",
          output.file);
    for (int64_t i = 0; i < nin_trainer_epochs(trainer); i++) {
        nin_epoch_info e = {.struct_size = sizeof e};
        if (nin_trainer_curve(&e, trainer, i) == NIN_OK)
            write_row(output.file, &e);
    }
    return output_close(&output);
}

double plot_read(nin_epoch_info *last, nin_epoch_info *best, const nin_trainer *trainer)
{
    double seconds = 0;

    *last = *best = (nin_epoch_info){.struct_size = sizeof *last};
    for (int64_t i = 0; i < nin_trainer_epochs(trainer); i++) {
        nin_epoch_info e = {.struct_size = sizeof e};
        if (nin_trainer_curve(&e, trainer, i) != NIN_OK)
            break;
        seconds += e.seconds;
        if (e.test_count == 0)
            continue;
        *last = e;
        if (best->test_count == 0 || plot_test_error(&e) < plot_test_error(best))
            *best = e;
    }
    return seconds;
}

/* ---- as a picture -------------------------------------------------------------------------- */

static void write_axes(FILE *script, int64_t epochs, int reference)
{
    fputs("if (strstrt(GPVAL_TERMINALS, 'pngcairo') > 0) { set terminal pngcairo size 960,600 }"
          " else { set terminal png size 960,600 }\n"
          "set title 'Network In Network: test error after each epoch'\n"
          "set xlabel 'epoch'\n"
          "set ylabel 'test error in %'\n"
          "set grid\n"
          "set key top right opaque\n",
          script);
    fprintf(script, "set xrange [0:%lld]\n", (long long)(epochs > 2 ? epochs : 2));
    if (epochs <= 20)
        fputs("set xtics 1\n", script); /* there is no half epoch */
    if (reference)
        fprintf(script, "set yrange [0.32:%g]\n", reference_top);
    else
        fputs("set yrange [0:*]\n", script);
}

static void write_curve(FILE *script, const nin_trainer *trainer, int reference)
{
    int visible = 0;

    fputs("$curve << END\n", script);
    for (int64_t i = 0; i < nin_trainer_epochs(trainer); i++) {
        nin_epoch_info e = {.struct_size = sizeof e};
        if (nin_trainer_curve(&e, trainer, i) != NIN_OK || e.test_count == 0)
            continue;
        fprintf(script, "%lld %.9g\n", (long long)e.epoch, plot_test_error(&e));
        visible |= !reference || plot_test_error(&e) <= reference_top;
    }
    fputs("END\n", script);
    if (!visible)
        fprintf(script, "set label 'so far all epochs are above %g %%' at graph 0.5,0.5 center\n",
                reference_top);
}

/* The script holds numbers and fixed text only. No file name goes into it: gnuplot draws to its
 * standard output, so that a name is never read as a command. */
static void write_script(FILE *script, const nin_trainer *trainer, int reference)
{
    write_axes(script, nin_trainer_epochs(trainer), reference);
    write_curve(script, trainer, reference);
    fprintf(script,
            "plot %g with lines linewidth 2 dashtype 2 linecolor rgb '#cc3311'"
            " title 'MNIST in the paper: %g %%',"
            " $curve using 1:2 with linespoints linewidth 2 pointtype 7 pointsize 0.6"
            " linecolor rgb '#0077bb' title 'test error'\n",
            paper_error, paper_error);
}

static int wait_for(pid_t child)
{
    int status = 0;

    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR)
            return 127;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 126;
}

static enum plot_result run_gnuplot(FILE *script, FILE *picture)
{
    char name[] = "gnuplot", own_settings[] = "--default-settings"; /* no .gnuplot of the user's */
    char *arguments[] = {name, own_settings, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    pid_t child = 0;

    /* a process group of its own: Ctrl-C speaks to the training, not to a drawing in progress */
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
    posix_spawn_file_actions_adddup2(&files, fileno(script), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, fileno(picture), STDOUT_FILENO);
    int failed = posix_spawnp(&child, name, &files, &attributes, arguments, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);

    int status = failed ? 127 : wait_for(child); /* 127 is also what an older libc reports */
    errno = failed && failed != ENOENT ? failed : EIO;
    if (status == 127 && (failed == 0 || failed == ENOENT))
        return PLOT_NO_GNUPLOT;
    return status == 0 ? PLOT_DONE : PLOT_FAILED;
}

/* Returns 0 or an errno. */
static int copy_to(const char *path, FILE *from)
{
    char block[4096];
    size_t bytes = fread(block, 1, sizeof block, from);
    struct output to;

    if (bytes == 0)
        return EIO; /* gnuplot drew nothing: an older picture stays */
    int failed = output_open(&to, path);
    if (failed != 0)
        return failed;
    for (; bytes > 0; bytes = fread(block, 1, sizeof block, from))
        fwrite(block, 1, bytes, to.file);
    return output_close(&to);
}

enum plot_result plot_draw(const nin_trainer *trainer, const char *path, int reference)
{
    enum plot_result result = PLOT_FAILED;
    FILE *script = tmpfile();
    FILE *picture = tmpfile();

    if (script != NULL && picture != NULL) {
        write_script(script, trainer, reference);
        rewind(script); /* flushes it, and gnuplot reads from the start */
        result = run_gnuplot(script, picture);
    }
    if (result == PLOT_DONE) {
        rewind(picture);
        errno = copy_to(path, picture);
        result = errno == 0 ? PLOT_DONE : PLOT_FAILED;
    }
    int why = errno;
    if (script != NULL)
        fclose(script);
    if (picture != NULL)
        fclose(picture);
    errno = why;
    return result;
}
