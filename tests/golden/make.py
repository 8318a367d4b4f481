#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the golden files: what PyTorch computes, in float64, for the C tests to compare with.

    python tests/golden/make.py             rewrites every *.gold beside this script
    python tests/golden/make.py --report    only measures how far off float32 and mistakes are

Needs torch and numpy; the C tests need neither, they read the files through tests/golden.h.
Inputs are the same bits everywhere. Results are float64 sums, so another processor or another
version of PyTorch may change their last bits, far below what any test can see.

A file is little-endian: "NINGOLD1", u32 records, then for each record u32 bytes of the name, the
name, u32 dtype (1 float32, 2 int32, 3 float64), u32 rank, u64 dims[rank], the data in C order.
Maps are NCHW, convolution weights OIHW, dense weights (outputs, C*H*W).

layers.gold: one layer alone. <kind>.count cases of each kind, records <kind>.<case>.<what>.
x, weight, bias and dy are given (float32); y, dx, dweight and dbias are results (float64).
    kind        desc (int32), in this order                                     records
    conv        n c h w filters kernel stride pad oh ow                         all
    maxpool     n c h w kernel stride pad ceil oh ow                            x y dy dx
    avgpool     n c h w kernel stride pad ceil count_include_pad oh ow          x y dy dx
    globalavg   n c h w                                                         x y dy dx
    relu        n c h w                                                         x y dy dx
    dense       n c h w outputs                                                 all
    nanpool     as maxpool, with NaN and infinities in x                        x y dy dx
    nll         n classes                               x labels logp loss dx
nll is log-softmax (logp) and the mean negative log-likelihood (loss); dx is the loss's gradient.

plateau.gold: learning rates (float64), each one as it is after a step of the scheduler.
    plateau.metric                      what both plateau schedulers are stepped with
    plateau.{default,cooldown}.config   rate factor patience threshold cooldown min_rate eps
    plateau.{default,cooldown}.rates
    steps.config, steps.milestones      rate gamma; steps (int32) from which the rate is lower
    steps.rates
    cosine.config, cosine.rates         rate min_rate period
    warmup.config, warmup.rates         rate min_rate period warm_up: step t has rate times
                                        (t + 1) / warm_up for t < warm_up, then the cosine

chunks.gold: chunks (int32), a row for each case: images batch pieces piece last.

network.gold: the MNIST net without dropout, once forward and backward; loss is the batch mean.
Parameters and images come from fill(): weights of layer l with tensor 2*l and bound
sqrt(6 / fan_in), biases with 2*l + 1 and 0.1, images with 893 and 1. The layers are, from l = 0,
conv1 cccp1 cccp2 conv2 cccp3 cccp4 conv3 cccp5 cccp6; scores are the averaged maps of the last.
    images labels scores loss
    grad.<layer>.{weight,bias}

curve.gold: ten training steps of the same net with dropout, always on the same batch, from the
same parameters, on images of 12x12: few enough activations for a batch without near ties.
    images labels losses rate
    config (float64)    momentum decay bias_rate bias_decay cccp6_weight_rate dropout seed
                        (the three in the middle are multipliers of rate, decay, rate)
    param.<layer>.{weight,bias}, momentum.<layer>.{weight,bias}         after the last step
"""
import itertools
import math
import pathlib
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim import lr_scheduler as schedules

HERE = pathlib.Path(__file__).resolve().parent
DTYPES = {np.dtype("<f4"): 1, np.dtype("<i4"): 2, np.dtype("<f8"): 3}


# ---- the file ------------------------------------------------------------------------------------

def encode(name, array):
    """One record as bytes."""
    array = np.ascontiguousarray(array)
    text = name.encode()
    head = struct.pack("<I", len(text)) + text
    head += struct.pack("<II", DTYPES[array.dtype], array.ndim)
    return head + struct.pack(f"<{array.ndim}Q", *array.shape) + array.tobytes()


def write(name, records):
    """Writes the file NAME.gold from a dictionary of arrays."""
    path = HERE / f"{name}.gold"
    body = b"".join(encode(key, value) for key, value in records.items())
    path.write_bytes(b"NINGOLD1" + struct.pack("<I", len(records)) + body)
    print(f"{path.name}: {len(records)} records, {path.stat().st_size} bytes")


def f32(tensor):
    """A tensor as a float32 array."""
    return tensor.detach().numpy().astype("<f4")


def f64(values):
    """A tensor or a list as a float64 array."""
    return torch.as_tensor(values, dtype=torch.float64).detach().numpy().astype("<f8")


def i32(values):
    """Integers as an int32 array."""
    return np.array(values, dtype="<i4")


# ---- numbers without a state ---------------------------------------------------------------------

def fill(shape, tensor, bound):
    """Values in [-bound, bound] by integer hashing: golden_fill() in C gives the same bits."""
    h = np.arange(math.prod(shape), dtype=np.uint32) * np.uint32(2654435761)
    h += np.uint32((tensor * 40503 + 12345) % 2**32)
    h = (h ^ (h >> 16)) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> 15)) * np.uint32(0x846CA68B)
    u = (h ^ (h >> 16)).astype(np.float64) / 2.0**32
    return ((2.0 * u - 1.0) * bound).astype("<f4").reshape(shape)


def philox(counter, key):
    """Philox4x32-10: four words for each row of four counter words."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = (np.uint64(word) for word in key)
    low, half = np.uint64(2**32 - 1), np.uint64(32)
    for _ in range(10):
        a, b = c0 * np.uint64(0xD2511F53), c2 * np.uint64(0xCD9E8D57)
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ k0, b & low, (a >> half) ^ c3 ^ k1, a & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def check_philox():
    """Compares with the vectors published with Random123."""
    ones = 2**32 - 1
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]
    vectors = [
        ([0, 0, 0, 0], [0, 0], "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([ones] * 4, [ones] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (pi, [0xA4093822, 0x299F31D0], "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ]
    for counter, key, want in vectors:
        got = philox(np.array(counter, dtype=np.uint32), key)
        assert " ".join(f"{word:08x}" for word in got) == want, "Philox4x32-10 is wrong"


def dropout_mask(shape, p, seed, stream, step):
    """0 or 1/(1-p) for each element of a map of NCHW shape.

    Element e of an image, counted in NHWC order, has word e % 4 of the block with counter
    (e / 4, position of the image in the batch, step, step >> 32) and key (seed, stream); it is
    kept if that word is at least floor(p * 2^32).
    """
    n, c, h, w = shape
    counter = np.zeros((n, c * h * w // 4, 4), dtype=np.uint32)
    counter[:, :, 0] = np.arange(c * h * w // 4)
    counter[:, :, 1] = np.arange(n)[:, None]
    counter[:, :, 2] = step % 2**32
    counter[:, :, 3] = step >> 32
    kept = philox(counter, (seed, stream)).reshape(n, h, w, c) >= math.floor(p * 2**32)
    return torch.from_numpy(kept / (1.0 - p)).permute(0, 3, 1, 2)


# ---- layers.gold ---------------------------------------------------------------------------------

CONVS = [
    # n   c   h   w  filters kernel stride pad
    (1,  1,  7,  9,  4,  3, 1, 1),
    (2,  3,  9,  7,  5,  5, 1, 2),
    (5, 17,  3,  5,  7,  1, 1, 0),
    (2, 17,  7,  5,  3,  3, 2, 1),
    (1,  3, 15, 19,  2, 11, 4, 0),
    (1,  3, 11, 13,  2, 11, 4, 2),
    (2,  1, 11, 13,  6,  5, 2, 0),
    (1, 17,  9,  7,  5,  5, 1, 2),
    (5,  3,  6,  5,  7,  3, 1, 0),
    (2,  3,  7,  7,  5,  1, 2, 0),
    (5,  1,  6,  9,  3,  5, 4, 1),
    (1,  1,  5,  5,  3,  5, 1, 0),
]
MAXPOOLS = [
    # n  c   h   w  kernel stride pad ceil
    (2, 3,  9,  7, 3, 2, 1, 0),
    (1, 2, 14, 14, 3, 2, 1, 0),
    (5, 1,  8,  6, 2, 2, 0, 0),
    (2, 5,  7,  5, 2, 2, 0, 0),
    (2, 3,  8,  6, 3, 2, 0, 1),     # the last windows are clipped
    (1, 5,  9,  7, 3, 2, 0, 1),     # they fit
    (1, 3,  6,  7, 2, 3, 0, 1),     # the last one would start outside: it is dropped
]
NANPOOL = (1, 2, 7, 8, 3, 2, 1, 0)
AVGPOOLS = [
    # n  c   h   w  kernel stride pad ceil count_include_pad
    (2, 3,  8,  6, 3, 2, 0, 1, 1),
    (1, 5,  9,  7, 3, 2, 0, 1, 1),
    (2, 3,  9,  7, 3, 2, 1, 0, 1),
    (2, 3,  9,  7, 3, 2, 1, 0, 0),
    (2, 3,  8,  6, 3, 2, 1, 1, 1),
    (2, 3,  8,  6, 3, 2, 1, 1, 0),
    (2, 10, 7,  7, 7, 1, 0, 0, 1),
]
GLOBALAVGS = [(1, 1, 1, 1), (2, 10, 7, 7), (5, 3, 5, 3)]
RELUS = [(1, 1, 3, 5), (2, 5, 5, 3)]
DENSES = [(2, 3, 5, 4, 7), (5, 17, 1, 1, 10), (1, 1, 3, 3, 1)]
NLLS = [(1, 2, 1.0), (5, 10, 3.0), (7, 17, 200.0)]      # n, classes, bound of the scores

TENSORS = itertools.count(1000)


def fresh(shape, bound=1.0):
    """The next array of given values."""
    return fill(shape, next(TENSORS), bound)


def stepped(shape):
    """Multiples of 0.5 in [-1, 1], the first channel rectified: full of ties and zeros."""
    values = np.round(fresh(shape) * 2.0) / 2.0 + 0.0       # no -0
    values[:, 0] = np.maximum(values[:, 0], 0.0)
    return values.astype("<f4")


def differentiate(function, given):
    """The output of a function and, for an output gradient, the gradients of what it was given."""
    leaves = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in given.items()}
    y = function(*leaves.values())
    dy = fresh(tuple(y.shape))
    y.backward(torch.tensor(dy, dtype=torch.float64))
    results = {"d" + k: f64(leaf.grad) for k, leaf in leaves.items()}
    return {**given, "dy": dy, "y": f64(y), **results}


def add_case(records, kind, desc, case):
    """Appends a case, numbered by what is there of its kind."""
    count = int(records.get(f"{kind}.count", [0])[0])
    records[f"{kind}.{count}.desc"] = i32(desc)
    records.update({f"{kind}.{count}.{what}": array for what, array in case.items()})
    records[f"{kind}.count"] = i32([count + 1])


def add_convs(records):
    """Convolutions."""
    for desc in CONVS:
        n, c, h, w, filters, kernel, stride, pad = desc
        given = {"x": fresh((n, c, h, w)), "weight": fresh((filters, c, kernel, kernel)),
                 "bias": fresh((filters,))}
        case = differentiate(lambda *args: F.conv2d(*args, stride=stride, padding=pad), given)
        add_case(records, "conv", (*desc, *case["y"].shape[2:]), case)


def add_maxpool(records, kind, desc, x):
    """One max pooling."""
    kernel, stride, pad, ceil = desc[4:]
    case = differentiate(lambda x: F.max_pool2d(x, kernel, stride, pad, ceil_mode=bool(ceil)),
                         {"x": x})
    add_case(records, kind, (*desc, *case["y"].shape[2:]), case)


def add_maxpools(records):
    """Max pooling, also of what is not a number."""
    for desc in MAXPOOLS:
        add_maxpool(records, "maxpool", desc, stepped(desc[:4]))
    x = stepped(NANPOOL[:4])
    x[0, 0, 2, 3] = x[0, 0, 3, 3] = x[0, 0, 6, 7] = float("nan")
    x[0, 1, :4] = -float("inf")
    x[0, 1, 5, 5] = float("inf")
    add_maxpool(records, "nanpool", NANPOOL, x)


def add_avgpools(records):
    """Average pooling."""
    for desc in AVGPOOLS:
        window, (ceil, count) = desc[4:7], map(bool, desc[7:])
        case = differentiate(lambda x: F.avg_pool2d(x, *window, ceil, count),
                             {"x": fresh(desc[:4])})
        add_case(records, "avgpool", (*desc, *case["y"].shape[2:]), case)


def add_simple(records):
    """Global average, ReLU and dense layers."""
    for desc in GLOBALAVGS:
        case = differentiate(lambda x: x.mean((2, 3)), {"x": fresh(desc)})
        add_case(records, "globalavg", desc, case)
    for desc in RELUS:
        add_case(records, "relu", desc, differentiate(F.relu, {"x": stepped(desc)}))
    for desc in DENSES:
        outputs, inputs = desc[4], math.prod(desc[1:4])
        given = {"x": fresh(desc[:4]), "weight": fresh((outputs, inputs)),
                 "bias": fresh((outputs,))}
        case = differentiate(lambda x, *rest: F.linear(x.flatten(1), *rest), given)
        add_case(records, "dense", desc, case)


def add_nlls(records):
    """Log-softmax and the mean negative log-likelihood."""
    for n, classes, bound in NLLS:
        given = fresh((n, classes), bound)
        x = torch.tensor(given, dtype=torch.float64, requires_grad=True)
        labels = np.arange(n) * 3 % classes
        logp = F.log_softmax(x, dim=1)
        loss = F.nll_loss(logp, torch.from_numpy(labels))
        loss.backward()
        add_case(records, "nll", (n, classes),
                 {"x": given, "labels": i32(labels), "logp": f64(logp),
                  "loss": f64([loss.item()]), "dx": f64(x.grad)})


def make_layers():
    """Each layer alone, forward and backward."""
    records = {}
    for add in (add_convs, add_maxpools, add_avgpools, add_simple, add_nlls):
        add(records)
    write("layers", records)


# ---- plateau.gold --------------------------------------------------------------------------------

PLATEAU = {
    # name: rate factor patience threshold cooldown min_rate eps
    "default": (1e-2, 0.1, 10, 1e-4, 0, 0.0, 1e-8),
    "cooldown": (1e-2, 0.5, 3, 1e-4, 2, 1e-3, 1e-8),
}


def metric_trace():
    """Below 0 the relative threshold accepts what is slightly worse; it is there on purpose."""
    below_zero = [-1.0, -1.00005, -1.0002]
    rising = [52.7, 52.7, 310.25, 410.5, 410.52, 410.54, 410.56, 455.0]     # small steps add up
    flat = [455.0, 455.02, 454.0, float("nan"), 455.04, 300.0]
    better = [455.1, 460.0, 459.0, 460.01, 460.02, 460.03, 460.047]         # the last is better
    worse = [460.0 - 0.5 * (k % 4) for k in range(13)]
    late = [465.0, float("nan"), 466.0]
    end = [466.0 + 0.002 * (k % 3) for k in range(24)]
    return below_zero + rising + flat + better + worse + late + end


def optimizer(rate):
    """An optimizer that is there for its rate only."""
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)


def trace(scheduler, steps):
    """The rate after each step; steps holds the arguments of each."""
    rates = []
    for args in steps:
        scheduler.optimizer.step()
        scheduler.step(*args)
        rates.append(scheduler.optimizer.param_groups[0]["lr"])
    return f64(rates)


def add_plateaus(records):
    """ReduceLROnPlateau, twice with the same metric."""
    metric = metric_trace()
    records["plateau.metric"] = f64(metric)
    for name, config in PLATEAU.items():
        rate, factor, patience, threshold, cooldown, min_rate, eps = config
        scheduler = schedules.ReduceLROnPlateau(
            optimizer(rate), mode="max", factor=factor, patience=patience, threshold=threshold,
            cooldown=cooldown, min_lr=min_rate, eps=eps)
        records[f"plateau.{name}.config"] = f64(config)
        records[f"plateau.{name}.rates"] = trace(scheduler, [(value,) for value in metric])


def add_steps(records):
    """MultiStepLR."""
    rate, gamma, milestones = 1e-2, 0.1, [3, 8, 9, 20]
    scheduler = schedules.MultiStepLR(optimizer(rate), milestones, gamma=gamma)
    records["steps.config"], records["steps.milestones"] = f64([rate, gamma]), i32(milestones)
    records["steps.rates"] = trace(scheduler, [()] * 24)


def add_cosines(records):
    """CosineAnnealingLR, alone and behind a warm-up."""
    rate, least, period, warm_up = 1e-2, 1e-4, 20, 5
    alone = schedules.CosineAnnealingLR(optimizer(rate), T_max=period, eta_min=least)
    records["cosine.config"] = f64([rate, least, period])
    records["cosine.rates"] = trace(alone, [()] * period)
    shared = optimizer(rate)
    warm = schedules.LinearLR(shared, start_factor=1.0 / warm_up, total_iters=warm_up - 1)
    cosine = schedules.CosineAnnealingLR(shared, T_max=period, eta_min=least)
    both = schedules.SequentialLR(shared, [warm, cosine], milestones=[warm_up])
    records["warmup.config"] = f64([rate, least, period, warm_up])
    records["warmup.rates"] = trace(both, [()] * (warm_up + period))


def make_plateau():
    """Learning rates of every kind of scheduler."""
    records = {}
    for add in (add_plateaus, add_steps, add_cosines):
        add(records)
    write("plateau", records)


# ---- chunks.gold ---------------------------------------------------------------------------------

CHUNKS = [
    # images, batch
    (60000, 128), (50000, 128), (60000, 512), (10000, 128), (2000, 128), (1000, 128), (129, 128),
    (9, 4), (1, 1), (1, 128), (2, 1), (3, 2), (7, 3), (10, 4), (10, 10), (10, 9), (11, 10),
    (100, 7), (127, 128), (128, 128), (255, 128), (256, 128), (257, 128), (385, 128), (999, 32),
    (1001, 100), (4096, 64), (5000, 96), (59999, 1000), (60000, 60000), (73257, 128),
]


def chunk(images, batch):
    """The row of one case, from torch.chunk itself."""
    pieces = torch.arange(images).chunk(math.ceil(images / batch))
    assert all(len(piece) == len(pieces[0]) for piece in pieces[:-1])
    return images, batch, len(pieces), len(pieces[0]), len(pieces[-1])


def make_chunks():
    """How an epoch is cut into batches."""
    write("chunks", {"chunks": i32([chunk(*pair) for pair in CHUNKS])})


# ---- network.gold --------------------------------------------------------------------------------

NETWORK = [
    # name, inputs, outputs, kernel
    ("conv1", 1, 96, 5), ("cccp1", 96, 64, 1), ("cccp2", 64, 48, 1),
    ("conv2", 48, 128, 5), ("cccp3", 128, 96, 1), ("cccp4", 96, 48, 1),
    ("conv3", 48, 128, 5), ("cccp5", 128, 96, 1), ("cccp6", 96, 10, 1),
]
POOLED = ["cccp2", "cccp4"]

# The tensor number of the images. With these no ReLU and no max pool comes nearer to a tie than
# 2e-6 (conv1 to cccp2) and 1e-5 (conv2 to cccp6) of its map's rms. With others, 100 for one, a
# single near tie that float32 decides the other way moves a gradient by a relative 6e-3.
IMAGES = 893


def parameters(dtype=torch.float64):
    """Weights (tensor 2*l of layer l) and biases (2*l + 1) by formula, in the order of layers."""
    found = {}
    for layer, (name, inputs, outputs, kernel) in enumerate(NETWORK):
        bound = math.sqrt(6.0 / (inputs * kernel * kernel))
        weight = fill((outputs, inputs, kernel, kernel), 2 * layer, bound)
        bias = fill((outputs,), 2 * layer + 1, 0.1)
        found[f"{name}.weight"] = torch.tensor(weight, dtype=dtype, requires_grad=True)
        found[f"{name}.bias"] = torch.tensor(bias, dtype=dtype, requires_grad=True)
    return found


def tie_of_relu(x):
    """How near the nearest input of a ReLU comes to 0, in parts of the map's rms."""
    return (x.abs().min() / x.square().mean().sqrt()).item()


def tie_of_max_pool(x):
    """How near the two largest elements of a window come, in parts of the map's rms; zeros of a ReLU
    may be equal, since no gradient passes there."""
    windows = F.unfold(F.pad(x, (1, 1, 1, 1), value=-1.0), 3, stride=2)
    largest = windows.view(len(x), x.shape[1], 9, -1).topk(2, dim=2).values
    apart = (largest[:, :, 0] - largest[:, :, 1])[largest[:, :, 0] > 0]
    return (apart.min() / x.square().mean().sqrt()).item()


def class_scores(params, x, masks=(), ties=None):
    """The net up to the averaged class maps; masks follow the max pools, one each. The list ties
    gets each layer's nearest tie."""
    masks = iter(masks)
    ties = [] if ties is None else ties
    for name, _, _, kernel in NETWORK:
        x = F.conv2d(x, params[f"{name}.weight"], params[f"{name}.bias"], padding=kernel // 2)
        if name != "cccp6":
            ties.append(tie_of_relu(x.detach()))
            x = F.relu(x)
        if name in POOLED:
            ties.append(tie_of_max_pool(x.detach()))
            x = F.max_pool2d(x, 3, stride=2, padding=1) * next(masks, 1.0)
    return x.mean((2, 3))


def one_pass(dtype=torch.float64, ties=None):
    """Forward and backward. Returns images, labels, scores, loss and gradients."""
    params, images, labels = parameters(dtype), fill((8, 1, 28, 28), IMAGES, 1.0), np.arange(8)
    scores = class_scores(params, torch.tensor(images, dtype=dtype), ties=ties)
    loss = F.cross_entropy(scores, torch.from_numpy(labels))
    loss.backward()
    return images, labels, scores, loss, {name: p.grad for name, p in params.items()}


def make_network():
    """The net once."""
    images, labels, scores, loss, gradients = one_pass()
    records = {"images": images, "labels": i32(labels), "scores": f64(scores),
               "loss": f64([loss.item()])}
    records.update({f"grad.{name}": f32(gradient) for name, gradient in gradients.items()})
    write("network", records)


# ---- curve.gold ----------------------------------------------------------------------------------

STEPS, BATCH, SIZE, RATE, MOMENTUM, DECAY = 10, 8, 12, 3e-3, 0.9, 0.05
BIAS_RATE, BIAS_DECAY, LAST_RATE = 2.0, 0.0, 0.5        # multipliers
DROPOUT, SEED, STREAM = 0.5, 7, 256
MASKED = [(BATCH, 48, 6, 6), (BATCH, 48, 3, 3)]         # maps behind the two max pools

# The tensor number of the images' noise. With it, in all ten steps, no ReLU and no max pool comes
# nearer to a tie than 3e-6 of its map's rms (--report), which no rounding of float32 decides the
# other way. One such tie in ten steps moves momentum by up to 1e-3.
NOISE = 2747


def curve_images():
    """Four classes of stripes, told apart by direction, width and brightness, with noise."""
    row, column = np.mgrid[0:SIZE, 0:SIZE]
    images = fill((BATCH, 1, SIZE, SIZE), NOISE, 0.25)
    classes = np.arange(BATCH) % 4
    for image, kind in zip(images, classes):
        stripes = (row, column)[kind % 2] % (2 + kind) < 1 + kind // 2
        image += (0.5 * stripes - 0.25 + 0.3 * (kind - 1.5)).astype("<f4")
    return images, 3 * classes


def groups(params, rate, decay):
    """Torch's parameter groups: the multipliers written out."""
    def group(name):
        bias, last = name.endswith(".bias"), name == "cccp6.weight"
        return {"lr": rate * (BIAS_RATE if bias else LAST_RATE if last else 1.0),
                "weight_decay": decay * (BIAS_DECAY if bias else 1.0)}
    return [{"params": [p], **group(name)} for name, p in params.items()]


def train(dtype=torch.float64, momentum=MOMENTUM, decay=DECAY, bias_gradient=1.0, ties=None):
    """Ten steps. Returns losses, parameters, momentum buffers; numbers in the arguments make the
    mutants."""
    images, labels = (torch.from_numpy(array) for array in curve_images())
    params = parameters(dtype)
    sgd = torch.optim.SGD(groups(params, RATE, decay), lr=RATE, momentum=momentum)
    losses = []
    for step in range(STEPS):
        masks = [dropout_mask(shape, DROPOUT, SEED, STREAM + k, step).to(dtype)
                 for k, shape in enumerate(MASKED)]
        loss = F.cross_entropy(class_scores(params, images.to(dtype), masks, ties), labels)
        sgd.zero_grad()
        loss.backward()
        for name, p in params.items():
            if name.endswith(".bias"):
                p.grad *= bias_gradient
        sgd.step()
        losses.append(loss.item())
    buffers = {name: sgd.state[p]["momentum_buffer"] for name, p in params.items() if momentum}
    return losses, params, buffers


def make_curve():
    """Ten steps of training."""
    images, labels = curve_images()
    losses, params, buffers = train()
    records = {"images": images, "labels": i32(labels), "losses": f64(losses), "rate": f64([RATE]),
               "config": f64([MOMENTUM, DECAY, BIAS_RATE, BIAS_DECAY, LAST_RATE, DROPOUT, SEED])}
    records.update({f"param.{name}": f32(p) for name, p in params.items()})
    records.update({f"momentum.{name}": f32(b) for name, b in buffers.items()})
    write("curve", records)


def distance(got, want):
    """Relative rms difference of two tensors."""
    return ((got.double() - want).norm() / want.norm()).item()


def spread(got, want, ending):
    """The least and the largest distance among the tensors of one ending."""
    found = [distance(got[name], want[name]) for name in got if name.endswith(ending)]
    return f"{min(found):.1e} to {max(found):.1e}" if found else "none"


def report_network():
    """How far float32 is from network.gold, and the nearest tie."""
    ties = []
    right, single = one_pass(ties=ties)[-1], one_pass(torch.float32)[-1]
    print(f"network: the nearest tie is {min(ties):.1e} of its map's rms away")
    print(f"network in float32: weight {spread(single, right, 'weight')},",
          f"bias {spread(single, right, 'bias')}")


def report_curve():
    """How far float32 and three mistakes are from curve.gold, and the nearest tie."""
    ties = []
    losses, params, buffers = train(ties=ties)
    print(f"curve: the nearest tie is {min(ties):.1e} of its map's rms away")
    print("curve", " ".join(f"{loss:.6f}" for loss in losses))
    variants = {"float32": {"dtype": torch.float32}, "no momentum": {"momentum": 0.0},
                "no decay": {"decay": 0.0}, "half bias gradient": {"bias_gradient": 0.5}}
    for name, change in variants.items():
        other = train(**change)
        loss = max(abs(a / b - 1.0) for a, b in zip(other[0], losses))
        print(f"curve, {name}: losses up to {loss:.1e}")
        for ending in ("weight", "bias"):
            print(f"    {ending}: param {spread(other[1], params, ending)},",
                  f"momentum {spread(other[2], buffers, ending)}")


def main():
    """Everything, or the report."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    check_philox()
    if sys.argv[1:] == ["--report"]:
        jobs = report_network, report_curve
    else:
        jobs = make_layers, make_plateau, make_chunks, make_network, make_curve
    for job in jobs:
        job()


if __name__ == "__main__":
    main()
