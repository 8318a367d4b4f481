/* SPDX-License-Identifier: MIT */
#include "core/prepared.h"

#include "core/error.h"

#include <stdlib.h>

static struct nin__prepared *find(const nin_network *network, const struct nin__form *form)
{
    struct nin__prepared *prepared = network->prepared;

    while (prepared != NULL &&
           (prepared->form.weight != form->weight || prepared->form.kind != form->kind ||
            prepared->form.bytes != form->bytes))
        prepared = prepared->next;
    return prepared;
}

static nin_status add(struct nin__prepared **out, nin_network *network,
                      const struct nin__form *form)
{
    struct nin__prepared *prepared = calloc(1, sizeof *prepared);
    nin_status status;

    if (prepared == NULL)
        return nin__no_memory("prepared weights");
    status =
        nin__context_allocate(&prepared->memory, network->context, form->bytes, "prepared weights");
    if (status != NIN_OK) {
        free(prepared);
        return status;
    }
    prepared->form = *form;
    prepared->next = network->prepared;
    network->prepared = prepared;
    *out = prepared;
    return NIN_OK;
}

static void leave(struct nin__prepared *prepared, nin_network *network)
{
    struct nin__prepared **link = &network->prepared;

    if (--prepared->plans > 0)
        return;
    while (*link != prepared)
        link = &(*link)->next;
    *link = prepared->next;
    nin__context_release(network->context, prepared->memory);
    free(prepared);
}

static nin_status join(struct nin__prepared_set *set, nin_network *network,
                       const struct nin__form *form)
{
    struct nin__prepared *prepared = find(network, form);

    if (prepared == NULL)
        NIN__TRY(add(&prepared, network, form));
    prepared->plans++;
    set->forms[set->count] = prepared;
    set->memory[set->count++] = prepared->memory;
    return NIN_OK;
}

nin_status nin__prepared_join(struct nin__prepared_set *set, nin_network *network,
                              const struct nin__executable *executable)
{
    int32_t count;
    const struct nin__form *forms = network->context->backend->forms(executable, &count);
    nin_status status = NIN_OK;

    *set = (struct nin__prepared_set){.forms = calloc((size_t)count + 1, sizeof *set->forms),
                                      .memory = calloc((size_t)count + 1, sizeof *set->memory),
                                      .stale = calloc((size_t)count + 1, sizeof *set->stale)};
    if (set->forms == NULL || set->memory == NULL || set->stale == NULL)
        status = nin__no_memory("prepared weights");
    pthread_mutex_lock(&network->prepared_lock);
    for (int32_t i = 0; status == NIN_OK && i < count; i++)
        status = join(set, network, &forms[i]);
    pthread_mutex_unlock(&network->prepared_lock);
    if (status != NIN_OK)
        nin__prepared_leave(set, network);
    return status;
}

/* How many forms are not of this version. */
static int32_t find_stale(struct nin__prepared_set *set, uint64_t version)
{
    int32_t count = 0;

    for (int32_t i = 0; i < set->count; i++) {
        bool stale = set->forms[i]->version != version;

        set->stale[i] = stale ? set->memory[i] : NULL;
        count += stale;
    }
    return count;
}

nin_status nin__prepared_use(struct nin__prepared_set *set, nin_network *network,
                             struct nin__executable *executable)
{
    uint64_t version = atomic_load(&network->version);
    nin_status status = NIN_OK;

    /* Whoever comes first makes them, the others wait for it. The parameters cannot change
     * meanwhile: every caller shares or holds the network. */
    pthread_mutex_lock(&network->prepared_lock);
    if (find_stale(set, version) > 0) {
        status = network->context->backend->prepare(executable, network->parameters, set->stale);
        for (int32_t i = 0; status == NIN_OK && i < set->count; i++)
            set->forms[i]->version = version;
    }
    pthread_mutex_unlock(&network->prepared_lock);
    return status;
}

void nin__prepared_leave(struct nin__prepared_set *set, nin_network *network)
{
    pthread_mutex_lock(&network->prepared_lock);
    for (int32_t i = 0; i < set->count; i++)
        leave(set->forms[i], network);
    pthread_mutex_unlock(&network->prepared_lock);
    free(set->forms);
    free(set->memory);
    free(set->stale);
    *set = (struct nin__prepared_set){0};
}
