/* SPDX-License-Identifier: MIT */
#ifndef NIN_NIN_H
#define NIN_NIN_H

/* libnin: Network In Network (Lin, Chen, Yan 2013) for C programs. This header is the manual's
 * first page; each header below is a chapter, in the order of use.
 *
 * A whole program:
 *
 *     nin_context *context = NULL;
 *     nin_network *network = NULL;
 *     nin_plan *plan = NULL;
 *     nin_optimizer *sgd = NULL;
 *     nin_dataset *digits = NULL;
 *     nin_trainer *trainer = NULL;
 *
 *     if (nin_context_create(&context, NULL) != NIN_OK ||
 *         nin_network_create_preset(&network, context, "mnist") != NIN_OK ||
 *         nin_plan_create(&plan, network, NIN_DESC(nin_plan_desc, .mode = NIN_TRAIN)) != NIN_OK ||
 *         nin_optimizer_create_sgd(&sgd, network, NIN_DESC(nin_sgd_desc, .momentum = 0.9)) != NIN_OK ||
 *         nin_dataset_create_mnist(&digits, "data/mnist", "train") != NIN_OK ||
 *         nin_trainer_create(&trainer, plan, sgd, NULL, digits, NULL) != NIN_OK ||
 *         nin_trainer_fit(NULL, trainer, NIN_DESC(nin_fit_desc, .epochs = 20)) != NIN_OK ||
 *         nin_network_save(network, "mnist.safetensors") != NIN_OK)
 *         fprintf(stderr, "%s\n", nin_last_error());
 *
 *     nin_trainer_destroy(trainer);
 *     nin_dataset_destroy(digits);
 *     nin_optimizer_destroy(sgd);
 *     nin_plan_destroy(plan);
 *     nin_network_destroy(network);
 *     nin_context_destroy(context);
 *
 * The parts: a builder describes layers and makes a network (layers and parameters); a plan runs
 * it; a trainer takes it through a data set with an optimizer and a scheduler.
 *
 * Three words say who owns what: owned (free it), borrowed (from whom, until when), copied. Outputs
 * come first. What cannot fail returns its value; what can returns a nin_status, and nin_last_error
 * has the sentence. A handle must not be NULL where a function has no status to say so by, such as
 * nin_context_threads or nin_network_layer_count; only destroying NULL is fine. An array argument
 * is host memory unless it is a tensor or its name says device.
 *
 * Caveats, in plain words:
 * - The same seed gives the same bits for any number of threads and after a resume, with one
 *   algorithm on every processor that has AVX2 and FMA. Others give other bits; so does the
 *   algorithm gemm on each kind of processor, since OpenBLAS picks its kernels by it. The scores of
 *   an image depend neither on the images beside it nor on the largest batch of the plan; with gemm
 *   on both, and so on a CUDA device in NIN_TF32 and NIN_BF16. Initial weights, shuffles and
 *   dropout masks are the same everywhere.
 * - Networks, contexts and data sets may be used by several threads at once; everything else serves
 *   one thread at a time.
 * - The thread that calls is the first worker of a CPU plan: it needs 128 KiB of stack (half of it
 *   holds thread-local data of OpenBLAS), and is not cancelled while it works. The others are
 *   threads of the plan, which stay awake for some tens of microseconds after each run.
 * - A process that forks while a plan exists must neither use nor destroy that plan in the child:
 *   its threads do not exist there, and destroying it would wait for them. A CPU plan of one worker
 *   has none, and works on in the child if no other thread was inside libnin at the fork.
 * - The bits are promised for calling threads in the default floating-point environment (rounding
 *   to nearest, subnormals kept): initial weights, sums of losses and schedules are computed on
 *   them. Workers round to nearest and, on x86, take subnormals for 0, whatever the caller has set;
 *   the caller's own environment is left as it is.
 * - The functions are not made for signal handlers: set a flag there and return NIN_STOP from a
 *   callback. */

#include <nin/builder.h>
#include <nin/context.h>
#include <nin/dataset.h>
#include <nin/device.h>
#include <nin/export.h>
#include <nin/file.h>
#include <nin/layer.h>
#include <nin/network.h>
#include <nin/optimizer.h>
#include <nin/plan.h>
#include <nin/scheduler.h>
#include <nin/status.h>
#include <nin/tensor.h>
#include <nin/trainer.h>
#include <nin/version.h>

#endif
