/* SPDX-License-Identifier: MIT */
#ifndef NIN_TRAINER_H
#define NIN_TRAINER_H

/* A trainer takes a network through epochs of a data set. It borrows a training plan, an optimizer,
 * a scheduler and a data set, and owns what a training run is at: step, epoch, position in the
 * epoch, seed, sums and curve. That, with the parameters and the momentum, is what a checkpoint
 * holds.
 *
 * Each epoch visits all images once in a new order, in ceil(N / batch) batches of even size:
 * randperm(N).chunk(ceil(N / batch)), as the reference program has it; 10,000 images at 128 are 78
 * batches of 127 and one of 94.
 *
 * A trainer serves one call at a time: nin_trainer_step, _epoch, _fit, _save and _restore are
 * NIN_BUSY, and change nothing, while one of them is at work in another thread, or has called the
 * data set's callback that calls them. The other functions are not guarded: no thread may use them
 * during such a call, and no callback may destroy the trainer. */

#include <nin/dataset.h>
#include <nin/scheduler.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nin_trainer nin_trainer;

typedef struct {
    size_t struct_size;
    int32_t batch;      /* images in a batch at most, 1 to the plan's max_batch; 0: max_batch */
    int32_t no_shuffle; /* 1: images in their stored order */
    int32_t own_seed;   /* 1: seed below is used; 0: the context's */
    uint32_t seed;      /* of shuffling and dropout; 0 without own_seed */
} nin_trainer_desc;

/* Why an epoch's result deserves a second look. */
typedef enum {
    NIN_HEALTHY = 0,
    NIN_STALLED = 1,   /* the loss has not left ln(classes) for stall_epochs epochs */
    NIN_DEAD_MAPS = 2, /* all scores of all images of the epoch were equal: no gradient passes any
                          more, another seed or a smaller rate is needed */
    NIN_HEALTH_INT32 = 0x7fffffff
} nin_health;

/* One epoch of the curve. */
typedef struct {
    size_t struct_size;
    int64_t epoch;   /* from 1 */
    int64_t steps;   /* since the start of training */
    double rate;     /* of the epoch's last step */
    double loss;     /* mean over the epoch's images, while training, dropout on */
    int64_t correct; /* of count */
    int64_t count;
    double metric;      /* sum over batches of the batch's accuracy, while training: what the
                              plateau scheduler sees */
    int64_t test_count; /* images of the evaluation; 0: there was none */
    int64_t test_correct;
    double test_loss;
    double seconds; /* for the epoch, with its evaluation; the one field that differs from run
                              to run */
    nin_health health;
} nin_epoch_info;

/* One step, for progress. */
typedef struct {
    size_t struct_size;
    int64_t epoch;    /* that is running, from 1 */
    int64_t batch;    /* that is over, from 1 */
    int64_t batches;  /* of the epoch */
    int64_t images;   /* of the epoch that are done */
    int64_t step;     /* since the start of training, from 1 */
    double loss;      /* of this batch */
    double accuracy;  /* of this batch, 0 to 1 */
    double mean_loss; /* of the epoch so far */
    double mean_accuracy;
    double rate; /* of this step */
} nin_step_info;

/* Callbacks of nin_trainer_fit, on the thread that called it. NIN_OK goes on. NIN_STOP ends fit in
 * good order: it returns NIN_OK, and a later call, or a checkpoint, goes on where it stopped. Any
 * other status ends fit and comes back unchanged; the step or epoch that it was called for is
 * over and counts.
 *
 * Both may call the trainer: save a checkpoint, restore one, step, fit. Should another thread have
 * taken it when they come back, fit ends with NIN_BUSY. In the on_step of an epoch's last batch the
 * epoch is closed, but its evaluation and its on_epoch are still to come: where a checkpoint was
 * saved there, or fit ended with a failure there, the next fit begins with them. nin_trainer_step
 * and nin_trainer_epoch pass over them: that epoch then stays without. */
typedef nin_status (*nin_step_callback)(const nin_step_info *info, void *user);
typedef nin_status (*nin_epoch_callback)(const nin_epoch_info *info, void *user);

typedef struct {
    size_t struct_size;
    /* Train until the curve has so many; 0: no limit. An epoch that has begun is always finished. */
    int64_t epochs;
    /* And while the rate is above this; 0: no limit. The reference program stops at 1 % of its first
     * rate. */
    double stop_rate;
    /* An inference plan of the same network, borrowed for the call: after each epoch it is evaluated
     * on test_set; both or none. The plan that does not run meanwhile lends the pages of its workers'
     * memory to the system. */
    nin_plan *test_plan;
    const nin_dataset *test_set;
    /* After how many epochs with a loss within 0.02 of ln(classes) the curve says NIN_STALLED; 0
     * means 10. */
    int32_t stall_epochs;
    nin_step_callback on_step;   /* after each step, or each step_interval of them; may be NULL */
    nin_epoch_callback on_epoch; /* after each epoch and its evaluation; may be NULL */
    void *user;                  /* handed to both */
    /* After how many steps of an epoch the host hears of them. on_step is called then, and after the
     * last, for which a device that takes steps by itself (nin_trainer_epoch) pauses. Without
     * on_step it does not: losses and hits that are new come down between its steps, the host adds up
     * what has come, and no more steps are started once one has gone wrong. 0: on_step after each
     * step, else as after 64. Results do not depend on it. */
    int64_t step_interval;
} nin_fit_desc;

/* Why nin_trainer_fit came back. */
typedef enum {
    NIN_FIT_EPOCHS = 0,  /* the number of epochs is reached */
    NIN_FIT_RATE = 1,    /* the rate is at stop_rate or below */
    NIN_FIT_STOPPED = 2, /* a callback said NIN_STOP */
    NIN_FIT_INT32 = 0x7fffffff
} nin_fit_end;

/* Makes a trainer at step 0.
 *   out        receives the trainer, owned by the caller
 *   plan       a training plan of a network with a softmax loss
 *   optimizer  of the same network
 *   scheduler  of that optimizer; NULL: the rate stays
 *   dataset    of the plan's image shape
 *   desc       copied; NULL for all defaults
 * Plan, optimizer, scheduler and data set are borrowed as long as the trainer lives.
 * Fails with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_create(nin_trainer **out, nin_plan *plan,
                                          nin_optimizer *optimizer, nin_scheduler *scheduler,
                                          const nin_dataset *dataset, const nin_trainer_desc *desc);

/* One step: the next batch, its gradient, an update, and the scheduler if it advances per step.
 * With the last batch of an epoch the epoch is closed: the curve grows, the scheduler advances.
 *   out  result of the batch; may be NULL
 * Fails as nin_plan_step or the data set's callback, or with NIN_OUT_OF_MEMORY (for the curve),
 * NIN_BUSY; the trainer is then where it was. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_step(nin_result *out, nin_trainer *trainer);

/* Steps until the epoch ends, from wherever it is. On a CUDA device and a data set of arrays the
 * device goes from step to step by itself, and the host waits for it at the end. If its free memory
 * is at least twice the data set, the first call makes a copy of that there, which stays until the
 * trainer is destroyed; else the images stay the host's, who gathers each batch ahead and sends it
 * up while the step before runs. The bits are those of single steps, and so is what a failure
 * leaves behind. Steps are taken one by one, with a wait at each, where half of that memory is too
 * small even for four batches and 17 bytes for each image of the set, where the host cannot pin 9
 * bytes for each (and four batches, if the images are its), where a callback gives the images, and
 * where a plateau scheduler advances per step. Meanwhile other threads' work in the same context
 * waits for the device, and calls that need the network are NIN_BUSY.
 *   out  result of the whole epoch; may be NULL
 * Fails as nin_trainer_step, at the step that failed. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_epoch(nin_result *out, nin_trainer *trainer);

/* Trains until a limit of the descriptor is reached. At least one of epochs, stop_rate and the
 * callbacks must be given.
 *   end   receives why it came back; may be NULL
 * Fails with NIN_INVALID_ARGUMENT, NIN_OUT_OF_MEMORY, NIN_BUSY, as nin_trainer_step, as
 * nin_evaluate, or with a callback's status. Where an evaluation fails, its epoch stands in the
 * curve with a test_count of 0, until a later fit makes up for it. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_fit(nin_fit_end *end, nin_trainer *trainer,
                                       const nin_fit_desc *desc);

/* Runs a plan over a whole data set and compares scores with labels.
 *   plan  an inference plan; its max_batch is the size of the batches
 * Fails as nin_plan_evaluate, as the data set's callback, or with NIN_INVALID_ARGUMENT (images or
 * classes that do not fit the plan), NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_evaluate(nin_result *out, nin_plan *plan, const nin_dataset *dataset);

/* Where the trainer is. nin_trainer_epochs: closed epochs, which is also the length of the curve;
 * nin_trainer_steps: steps since the start; nin_trainer_batch: batches done in the running epoch.
 * Since 0.1. */
NIN_API int64_t nin_trainer_epochs(const nin_trainer *trainer);
NIN_API int64_t nin_trainer_steps(const nin_trainer *trainer);
NIN_API int64_t nin_trainer_batch(const nin_trainer *trainer);

/* The seed of shuffling and dropout: the descriptor's or the context's; after a restore the
 * checkpoint's. Since 0.1. */
NIN_API uint32_t nin_trainer_seed(const nin_trainer *trainer);

/* Entry i of the curve, 0 to nin_trainer_epochs() - 1. Fills out up to its struct_size. Fails with
 * NIN_INVALID_ARGUMENT. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_curve(nin_epoch_info *out, const nin_trainer *trainer,
                                         int64_t i);

/* Frees the trainer, also its memory for the data set on a device, and nothing that it borrowed.
 * NULL is fine. Since 0.1. */
NIN_API void nin_trainer_destroy(nin_trainer *trainer);

#ifdef __cplusplus
}
#endif
#endif
