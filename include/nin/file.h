/* SPDX-License-Identifier: MIT */
#ifndef NIN_FILE_H
#define NIN_FILE_H

/* Files. Networks and checkpoints are safetensors files: tensors called LAYER.weight (OIHW) and
 * LAYER.bias, float32, which Python's safetensors reads as they are; the architecture as JSON in
 * __metadata__. docs/file-format.md has every key. A save is the whole new file or leaves the old
 * one: it goes to a temporary file beside it, is synced, and is renamed; then the folder is synced.
 * No length, offset, count or name in a file is trusted.
 *
 * JSON is read by jansson, which aborts when it finds no memory in the middle of a text. So libnin
 * first asks for what it will need and gives it back; a program that is short of memory can still
 * lose it to another thread in between. */

#include <nin/trainer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes architecture and parameters. Shares the network.
 *   path  of the file, replaced if it exists; a symbolic link to a file is followed, one that leads
 *         nowhere is itself replaced
 * Fails with NIN_IO (path and the system's reason), NIN_OUT_OF_MEMORY, NIN_BUSY; the old file is
 * then as it was, with one exception: NIN_IO with a sentence "written, but ..." means that the new
 * file is in place, and only its folder could not be synced. Since 0.1. */
NIN_CHECKED nin_status nin_network_save(const nin_network *network, const char *path);

/* Makes a network from a file that libnin wrote, architecture and parameters.
 *   out  receives the network, owned by the caller
 * Fails with NIN_IO, NIN_BAD_FORMAT, NIN_OUT_OF_MEMORY. Since 0.1. */
NIN_CHECKED nin_status nin_network_load(nin_network **out, nin_context *context, const char *path);

/* Reads parameters into a network that exists, from any safetensors file of float32 tensors with
 * the network's names and shapes (PyTorch's save_file of a state dict; a dense layer's weights may
 * be units x inputs, as in its Linear). Tensors of other names are ignored. Holds the network.
 * Fails with NIN_IO, NIN_BAD_FORMAT (also: a tensor is missing or has another shape),
 * NIN_OUT_OF_MEMORY, NIN_BUSY; the parameters are then unchanged. Since 0.1. */
NIN_CHECKED nin_status nin_network_read_weights(nin_network *network, const char *path);

/* Writes everything that a run needs to go on: parameters, momentum, multipliers, the state of the
 * scheduler, step, epoch, position in the epoch, seed, sums, curve, and what the run is: batch,
 * data set, recipe, lanes, algorithm. Shares the network. Fails as nin_network_save, with the same
 * exception: the new checkpoint may be in place after NIN_IO. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_save(const nin_trainer *trainer, const char *path);

typedef struct {
    size_t struct_size;
    int32_t other_algorithm; /* 1: allow a checkpoint that another algorithm wrote or, for one of
                                AVX2 and AVX-512 against one of the baseline, another arithmetic,
                                and one that has added up in another order for that reason, on
                                another device, say (lanes stay compared, also where a device has
                                none); the run goes on, but not to the same bits */
    int32_t reserved;        /* 0 */
} nin_restore_desc;

/* Puts a trainer, its optimizer, scheduler and network where a checkpoint was saved. The seed of
 * the checkpoint replaces the trainer's. Training then goes on to the same bits as if it had not
 * been interrupted, with any number of threads.
 *   desc  copied; NULL for all defaults
 * Fails with NIN_IO, NIN_BAD_FORMAT, NIN_MISMATCH (the sentence names what differs: network, data
 * set, batch, recipe, precision, lanes, algorithm), NIN_OUT_OF_MEMORY, NIN_BUSY; nothing has then
 * changed. Since 0.1. */
NIN_CHECKED nin_status nin_trainer_restore(nin_trainer *trainer, const char *path,
                                           const nin_restore_desc *desc);

#ifdef __cplusplus
}
#endif
#endif
